"""A classifier that tells data from data with independent variates: its odds are the density ratio."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional

from neumix.models.base import BatchedModel
from neumix.nn import BatchedMLP
from neumix.settings import STRICT

__all__ = ["Config", "Loss", "Model", "resample"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the classifier.

    Arguments:
        hidden: widths of the hidden layers.
    """

    hidden: tuple[int, ...] = (64, 64, 64)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """Binary cross-entropy between the data and its resampled copy, both equally likely."""

    name: Literal["binary_cross_entropy"]


def resample(x: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
    """Return points whose variates are permuted independently within the batch, hence independent.

    Arguments:
        x: points (S, B, V, ...).
        noise: one generator for each seed.
    """
    points, variates = x.shape[1:3]
    orders = [
        torch.stack([torch.randperm(points, generator=generator) for _ in range(variates)], -1) for generator in noise
    ]
    index = torch.stack(orders).to(x.device)
    return torch.take_along_dim(x, index.reshape(*index.shape, *[1] * (x.ndim - 3)), 1)


class Model(BatchedModel):
    r"""Logit of P*(X) against $\prod_v P^*_v(x_v)$; its mean over the data estimates the total correlation C*.

    References:
        InClass nets, Eq. (41), (42).

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x` is (V, ...).
        generators: one for each seed; they draw the initial weights.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        self.network = BatchedMLP((math.prod(shapes["x"]), *config.hidden, 1), generators)

    def log_ratio(self, x: Tensor) -> Tensor:
        """Return the log density ratio at points (S, B, V, ...), (S, B)."""
        logits: Tensor = self.network(x.flatten(2))
        return logits.squeeze(-1)

    def loss(self, batch: Mapping[str, Tensor], loss: Loss, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the cross-entropy of each seed, (S,)."""
        joint, product = self.log_ratio(batch["x"]), self.log_ratio(resample(batch["x"], noise))
        return 0.5 * (functional.softplus(-joint).mean(1) + functional.softplus(product).mean(1))
