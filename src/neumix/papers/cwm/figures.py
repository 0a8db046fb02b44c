"""Figures of the CWM paper and of the experiments beyond it."""

__all__: list[str] = []
