"""What the training loop needs of a model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["BatchedModel"]


class BatchedModel(nn.Module, ABC):
    """Several independently initialised copies of a model, one for each seed, trained together.

    Every parameter and buffer that belongs to a seed has the seed as (part of) its first axis, so that the sum of the
    seeds' losses has gradients that do not mix seeds.

    Arguments:
        n_seeds: number of copies S.
    """

    def __init__(self, n_seeds: int) -> None:
        super().__init__()
        self.n_seeds = n_seeds

    @abstractmethod
    def loss(self, batch: Mapping[str, Tensor], loss: Any, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the loss of each seed, (S,).

        Arguments:
            batch: fields of the points, each (S, B, ...).
            loss: the model module's `Loss`, as parsed from the stage.
            noise: one generator for each seed; anything random is drawn from these.
        """

    def begin_stage(self) -> None:
        """Prepare for a new stage of training; called once before its first step, not on resuming."""
