"""Early stopping for seeds that are trained together and stop one by one."""

import math
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from neumix.models.base import BatchedModel
from neumix.schedule import Stage

__all__ = ["EarlyStopping"]


class EarlyStopping:
    """The best weights of each seed by validation score, and how long each has been waiting for better ones."""

    def __init__(self, patience: int, model: BatchedModel) -> None:
        self.patience = patience
        n_seeds = model.n_seeds
        self.weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
        device = next(model.parameters()).device
        self.score = torch.full((n_seeds,), math.inf, dtype=torch.float64, device=device)
        self.waited = torch.zeros(n_seeds, dtype=torch.int64, device=device)

    @classmethod
    def of(cls, stage: Stage, model: BatchedModel) -> Self | None:
        """Return what a stage asks for, or none."""
        return cls(stage.patience, model) if stage.patience else None

    @property
    def exhausted(self) -> bool:
        """Whether every seed has waited in vain."""
        return bool((self.waited >= self.patience).all())

    def update(self, score: Tensor, model: BatchedModel) -> None:
        """Keep the weights of the seeds that improved; a seed out of patience stays as it is."""
        waiting = self.waited < self.patience
        better = waiting & (score < self.score)
        self.score = torch.where(better, score, self.score)
        self.waited = torch.where(better, 0, self.waited + waiting)
        for key, value in model.state_dict().items():
            if value.ndim == 0:  # belongs to no seed
                self.weights[key].copy_(value)
                continue
            copies = better.repeat_interleave(value.shape[0] // len(better))
            self.weights[key][copies] = value[copies]

    def restore(self, model: BatchedModel) -> None:
        """Give the model the best weights."""
        model.load_state_dict(self.weights)

    def tensors(self) -> dict[str, Tensor]:
        """Return the state for a checkpoint."""
        weights = {f"weights/{key}": value for key, value in self.weights.items()}
        return {**weights, "score": self.score, "waited": self.waited}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the state from a checkpoint."""
        self.score.copy_(tensors["score"])
        self.waited.copy_(tensors["waited"])
        for key, weight in self.weights.items():
            weight.copy_(tensors[f"weights/{key}"])
