"""Classifier weighted mixtures, ordinary mixtures among them."""

from neumix.models.cwm.mixture import Config, Loss, Model

__all__ = ["Config", "Loss", "Model"]
