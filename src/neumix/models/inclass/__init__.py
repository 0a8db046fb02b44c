"""Independent classifier networks: mixture estimation by classifiers that see one variate each."""

from neumix.models.inclass.network import Config, Loss, Model

__all__ = ["Config", "Loss", "Model"]
