"""Checks before anything is submitted: this machine, the data, the cluster that a profile names."""
