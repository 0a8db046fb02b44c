"""Datasets, one module each; a module is found by the name that the catalogue uses."""
