"""Distributions of single variables at the leaves of a circuit: their densities, EM and samples."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from neumix.settings import STRICT

__all__ = ["Binomial", "BinomialLeaves", "Leaves", "Normal", "NormalLeaves", "make_leaves"]

_LEAST_MASS = 1e-12  # of points: what has less keeps its parameters in EM
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Normal:
    """Leaves with normal distributions of the values.

    Arguments:
        name: `normal`.
        least_variance: that every variance stays above.
    """

    name: Literal["normal"]
    least_variance: Annotated[float, Field(gt=0)] = 1e-4


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Binomial:
    """Leaves with binomial distributions of integers from 0 to one less than the number of levels.

    Arguments:
        name: `binomial`.
        levels: number of levels.
    """

    name: Literal["binomial"]
    levels: Annotated[int, Field(ge=2)] = 256


class Leaves(nn.Module, ABC):
    r"""Exponential families $p_k(x_d) = h(x_d) \exp \sum_f \eta_{dkf} T_f(x_d)$, K for each variable of each leaf.

    Everything is in float64: it is a small part of the work, and squares may then be multiplied out.
    """

    @abstractmethod
    def log_base(self, x: Tensor) -> Tensor:
        """Return log h at values of any shape."""

    @abstractmethod
    def statistics(self, x: Tensor) -> Tensor:
        """Return T of values (S, D, B), (S, D, F, B)."""

    @abstractmethod
    def natural(self) -> Tensor:
        """Return eta of all seeds' variables of leaves, (S, E, F, K)."""

    @abstractmethod
    def maximise(self, expected: Tensor, step: float) -> None:
        """Move the families' mean parameters a step towards what maximises the likelihood.

        Arguments:
            expected: sums over points of T times the posterior probability of each distribution, (S, E, F, K).
            step: 1 goes all the way.
        """

    @abstractmethod
    def draw(self, seed: int, entries: slice, component: Tensor, generator: torch.Generator) -> Tensor:
        """Return values of the variables of a leaf by components (N,), (N, variables)."""


class NormalLeaves(Leaves):
    """Normal distributions; means start standard normal, variances at 1.

    Arguments:
        settings: bound of the variances.
        entries: number of variables of all leaves, E.
        size: distributions of each, K.
        generators: one for each seed.
    """

    def __init__(self, settings: Normal, entries: int, size: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.least_variance = settings.least_variance
        self.means = nn.Parameter(torch.stack([torch.randn(entries, size, generator=g) for g in generators]))
        self.log_excess = nn.Parameter(torch.zeros_like(self.means))

    @property
    def variances(self) -> Tensor:
        """Variances, (S, E, K)."""
        return self.least_variance + self.log_excess.double().exp()

    def log_base(self, x: Tensor) -> Tensor:
        """Return minus half the logarithm of 2 pi."""
        return x.new_full((), -0.5 * math.log(2 * math.pi)).expand_as(x)

    def statistics(self, x: Tensor) -> Tensor:
        """Return 1, x and its square."""
        return torch.stack([torch.ones_like(x), x, x.square()], 2)

    def natural(self) -> Tensor:
        """Return the natural parameters, the first being minus the logarithm of the normalising constant."""
        means, variances = self.means.double(), self.variances
        constant = -0.5 * (means.square() / variances + variances.log())
        return torch.stack([constant, means / variances, -0.5 / variances], 2)

    def maximise(self, expected: Tensor, step: float) -> None:
        """Move means and mean squares."""
        mass, first, second = expected.unbind(2)
        present, least = mass > _LEAST_MASS, mass.clamp(min=_LEAST_MASS)
        old = self.means.double()
        mean = torch.lerp(old, first / least, step)
        square = torch.lerp(self.variances + old.square(), second / least, step)
        excess = (square - mean.square() - self.least_variance).clamp(min=1e-6 * self.least_variance)
        self.means.copy_(torch.where(present, mean, old))
        self.log_excess.copy_(torch.where(present, excess.log(), self.log_excess.double()))

    def draw(self, seed: int, entries: slice, component: Tensor, generator: torch.Generator) -> Tensor:
        """Return normal values."""
        mean = self.means[seed, entries].T[component]
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return mean + self.variances[seed, entries].T[component].sqrt().to(mean) * noise


class BinomialLeaves(Leaves):
    """Binomial distributions; probabilities start uniform between 0.01 and 0.99.

    Arguments:
        settings: number of levels.
        entries: number of variables of all leaves, E.
        size: distributions of each, K.
        generators: one for each seed.
    """

    def __init__(self, settings: Binomial, entries: int, size: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.trials = settings.levels - 1
        start = torch.stack([torch.rand(entries, size, generator=g) for g in generators])
        self.logits = nn.Parameter(torch.logit(0.01 + 0.98 * start))

    def log_base(self, x: Tensor) -> Tensor:
        """Return the logarithm of the binomial coefficient."""
        level = torch.arange(self.trials + 1, dtype=x.dtype, device=x.device)  # a table, for lgamma is slow
        choices = math.lgamma(self.trials + 1) - torch.lgamma(level + 1) - torch.lgamma(self.trials + 1 - level)
        return choices[x.long()]

    def statistics(self, x: Tensor) -> Tensor:
        """Return successes and failures."""
        return torch.stack([x, self.trials - x], 2)

    def natural(self) -> Tensor:
        """Return the logarithms of the probabilities of success and failure."""
        logits = self.logits.double()
        return torch.stack([nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)], 2)

    def maximise(self, expected: Tensor, step: float) -> None:
        """Move the probabilities of success, which stay a millionth away from 0 and 1."""
        mass, old = expected.sum(2), self.logits.double()
        found = expected[:, :, 0] / mass.clamp(min=_LEAST_MASS)
        probability = torch.lerp(old.sigmoid(), found, step).clamp(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        self.logits.copy_(torch.where(mass > _LEAST_MASS * self.trials, torch.logit(probability), old))

    def draw(self, seed: int, entries: slice, component: Tensor, generator: torch.Generator) -> Tensor:
        """Return levels."""
        probability = self.logits[seed, entries].sigmoid().T[component]
        trials = torch.full(probability.shape, float(self.trials))
        return torch.binomial(trials, probability.float().cpu(), generator=generator).to(probability)


def make_leaves(settings: Normal | Binomial, entries: int, size: int, generators: Sequence[torch.Generator]) -> Leaves:
    """Return the leaves of a family.

    Arguments:
        settings: of the family.
        entries: number of variables of all leaves, E.
        size: distributions of each, K.
        generators: one for each seed.
    """
    if isinstance(settings, Normal):
        return NormalLeaves(settings, entries, size, generators)
    return BinomialLeaves(settings, entries, size, generators)
