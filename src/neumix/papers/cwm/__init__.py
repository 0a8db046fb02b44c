"""Classifier weighted mixtures: what the paper measures, its tables and its figures."""
