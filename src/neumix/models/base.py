"""What the training loop needs of a model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neumix.batching import DeviceSplit

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

    def begin_stage(self, loss: Any, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Prepare for a new stage of training; called once before its first step, without gradients, not on resuming.

        A model that needs no gradient steps fits itself here, in a stage of 0 epochs.

        Arguments:
            loss: the model module's `Loss`, as parsed from the stage.
            split: the points to train on.
            noise: one generator for each seed; anything random is drawn from these.
        """

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for an epoch of the stage, counted from 0; called once before its first step, not on resuming."""
