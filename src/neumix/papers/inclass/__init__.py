"""InClass nets: what the paper measures, its tables and its figures."""
