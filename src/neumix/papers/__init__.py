"""Papers, one package each: what it measures, its tables and its figures."""
