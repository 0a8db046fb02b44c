"""What models of a density share: maximum likelihood in chunks, and variational inference by reverse KL."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from neumix.accumulation import chunked, mean_in_chunks
from neumix.models.base import BatchedModel
from neumix.settings import STRICT
from neumix.targets import TargetName, target

__all__ = ["DensityModel", "Likelihood", "ReverseKL"]

Integrand = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Likelihood:
    """Mean negative log-likelihood in nats, on the field `x`.

    Arguments:
        name: `nll`.
        tolerance: a component is left out at a point where even a weight of 1 would give it no more than this share of
            the sum over all components; 0 keeps every one. Models without components ignore it.
    """

    name: Literal["nll"]
    tolerance: Annotated[float, Field(ge=0, lt=1e-2)] = 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReverseKL:
    """Divergence KL(model || target) in nats, on as many draws of the model as a batch has points.

    Arguments:
        name: `reverse_kl`.
        target: what is approximated, see `neumix.targets`.
    """

    name: Literal["reverse_kl"]
    target: TargetName


class DensityModel(BatchedModel):
    """Densities of several seeds that can be evaluated, sampled from, and integrated against."""

    @property
    @abstractmethod
    def chunk(self) -> int:
        """Points of each seed that are evaluated at once."""

    @property
    def n_parameters(self) -> int:
        """Number of trained values of one seed."""
        return sum(parameter.numel() for parameter in self.parameters()) // self.n_seeds

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in nats at points (S, B, D), (S, B)."""

    @abstractmethod
    def sample(self, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return samples (S, size, D)."""

    @abstractmethod
    def expectation(self, h: Integrand, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return an unbiased estimate of E[h(X)] of each seed with unbiased gradients, (S,).

        Arguments:
            h: maps points (S, N, D) to values (S, N); may depend on the model's parameters.
            size: draws.
            noise: one generator for each seed.
        """

    def log_prob_of(self, x: Tensor) -> Tensor:
        """Return `log_prob` at any number of points, some at a time."""
        return chunked(self.log_prob, x, self.chunk)

    def negative_log_likelihood(self, x: Tensor, log_prob: Callable[[Tensor], Tensor]) -> Tensor:
        """Return minus the mean of log-densities (S,), with gradients summed chunk by chunk."""
        return -mean_in_chunks(log_prob, x, self.chunk, list(self.parameters()))

    def reverse_kl(self, loss: ReverseKL, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return an estimate of KL(model || target), (S,)."""
        log_target = target(loss.target).log_prob
        return self.expectation(lambda x: self.log_prob(x) - log_target(x), size, noise)
