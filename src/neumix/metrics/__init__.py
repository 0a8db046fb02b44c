"""Metrics: pure functions of arrays, one module each."""
