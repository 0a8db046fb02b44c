"""Continuously parameterised mixture models: what is measured, its tables and its figures."""
