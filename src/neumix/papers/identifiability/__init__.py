"""Identifiability of deep generative models: what the paper measures, its tables and its figures."""
