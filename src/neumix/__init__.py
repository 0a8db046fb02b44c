"""neumix: five papers on neural mixture models, reproduced and auditable."""

__version__ = "0.1.0"
