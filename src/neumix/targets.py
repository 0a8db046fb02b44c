"""Posteriors in the plane with a known normalising constant and exact samples, to judge variational inference by."""

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, get_args

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from neumix.settings import STRICT, nearest

if TYPE_CHECKING:  # densities call methods of tensors only: settings that name a target are read without torch
    from torch import Tensor

__all__ = ["Banana", "CorrelatedNormal", "Mixture", "Ring", "Target", "TargetName", "target"]

TargetName = Literal["banana", "ring", "mixture"]

Positive = Annotated[pydantic.FiniteFloat, Field(gt=0)]
Array = NDArray[np.float64]

_LOG_2PI = math.log(2 * math.pi)
_SMALLEST_SQUARE = 1e-12  # of a distance; the root has no slope at 0


class Target(Protocol):
    """A distribution in the plane."""

    def log_prob(self, x: "Tensor") -> "Tensor":
        """Return the normalised log density at points (..., 2), (...), differentiable in `x`."""

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Draw independent points, (size, 2)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Banana:
    r"""Parabola with noise, $x_1 \sim N(0, \sigma_1^2)$ and $x_2 | x_1 \sim N(c x_1^2 + b, \sigma_2^2)$.

    Arguments:
        spread: sigma_1, along the curve.
        noise_sd: sigma_2, across it.
        curvature: c.
        offset: b.
    """

    spread: Positive
    noise_sd: Positive
    curvature: pydantic.FiniteFloat
    offset: pydantic.FiniteFloat

    def log_prob(self, x: "Tensor") -> "Tensor":
        """Return the log density at points (..., 2), (...)."""
        first, second = x.unbind(-1)
        across = (second - self.curvature * first.square() - self.offset) / self.noise_sd
        log_constant = _LOG_2PI + math.log(self.spread * self.noise_sd)
        return -0.5 * ((first / self.spread).square() + across.square()) - log_constant

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Draw points, (size, 2)."""
        first = rng.normal(0, self.spread, size)
        return np.stack([first, rng.normal(self.curvature * first**2 + self.offset, self.noise_sd)], -1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Ring:
    r"""Ring around the origin, $p(x) \propto \exp(-(|x| - R)^2 / (2 \sigma^2))$.

    Its integral over the plane is
    $2 \pi \sigma^2 \left(e^{-q^2 / 2} + q \sqrt{\pi / 2} (1 + \mathrm{erf}(q / \sqrt 2))\right)$ with $q = R / \sigma$.

    Arguments:
        radius: R, where the density is highest.
        sd: sigma, of the density's profile.
    """

    radius: Positive
    sd: Positive

    def log_prob(self, x: "Tensor") -> "Tensor":
        """Return the log density at points (..., 2), (...)."""
        distance = x.square().sum(-1).clamp(min=_SMALLEST_SQUARE).sqrt()
        return -0.5 * ((distance - self.radius) / self.sd).square() - self._log_constant

    @property
    def _log_constant(self) -> float:
        ratio = self.radius / self.sd
        half = math.exp(-0.5 * ratio**2) + ratio * math.sqrt(math.pi / 2) * (1 + math.erf(ratio / math.sqrt(2)))
        return _LOG_2PI + 2 * math.log(self.sd) + math.log(half)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        r"""Draw points, (size, 2), by acceptance.

        The distance has a density proportional to r times a normal one around R, with its mode at
        $m = (R + \sqrt{R^2 + 4 \sigma^2}) / 2$. As $r / m \le e^{r / m - 1}$, a normal one around m lies above it.
        """
        mode = (self.radius + math.hypot(self.radius, 2 * self.sd)) / 2
        distances = np.empty(0)
        while len(distances) < size:
            ratio = rng.normal(mode, self.sd, size) / mode
            accepted = rng.random(size) < ratio * np.exp(1 - ratio)
            distances = np.concatenate([distances, mode * ratio[accepted]])
        angle = rng.uniform(0, 2 * np.pi, size)
        points: Array = distances[:size, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
        return points


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CorrelatedNormal:
    """Normal distribution in the plane.

    Arguments:
        mean: of both coordinates.
        sd: standard deviations of both.
        correlation: of the two.
    """

    mean: tuple[pydantic.FiniteFloat, pydantic.FiniteFloat]
    sd: tuple[Positive, Positive]
    correlation: Annotated[float, Field(gt=-1, lt=1)]

    def log_prob(self, x: "Tensor") -> "Tensor":
        """Return the log density at points (..., 2), (...)."""
        first, second = ((x[..., d] - self.mean[d]) / self.sd[d] for d in range(2))
        rest = (second - self.correlation * first) / self._rest_sd
        log_constant = _LOG_2PI + math.log(self.sd[0] * self.sd[1] * self._rest_sd)
        return -0.5 * (first.square() + rest.square()) - log_constant

    @property
    def _rest_sd(self) -> float:
        """Standard deviation of the second coordinate given the first one, where both have sd 1."""
        return math.sqrt(1 - self.correlation**2)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Draw points, (size, 2)."""
        first, rest = rng.normal(size=(2, size))
        second = self.correlation * first + self._rest_sd * rest
        points: Array = np.asarray(self.mean) + np.asarray(self.sd) * np.stack([first, second], -1)
        return points


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mixture:
    """Mixture of normal distributions in the plane.

    Arguments:
        weights: (C,), positive, summing to one.
        components: one for each weight.
    """

    weights: Annotated[tuple[Positive, ...], Field(min_length=1)]
    components: tuple[CorrelatedNormal, ...]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.components):
            raise ValueError(f"{len(self.weights)} weights for {len(self.components)} components; give one for each")
        if abs(sum(self.weights) - 1) > 1e-9:
            raise ValueError(f"weights need to sum to 1, found {list(self.weights)}")

    def log_prob(self, x: "Tensor") -> "Tensor":
        """Return the log density at points (..., 2), (...)."""
        pairs = zip(self.weights, self.components, strict=True)
        joint = [component.log_prob(x) + math.log(weight) for weight, component in pairs]
        return functools.reduce(lambda total, part: total.logaddexp(part), joint)

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Draw points, (size, 2), in random order."""
        counts = rng.multinomial(size, self.weights)
        drawn = [part.sample(int(count), rng) for part, count in zip(self.components, counts, strict=True)]
        points: Array = rng.permutation(np.concatenate(drawn))
        return points


_TARGETS: Mapping[TargetName, Target] = {
    "banana": Banana(spread=1.5, noise_sd=0.5, curvature=0.5, offset=-1.5),
    "ring": Ring(radius=2.0, sd=0.2),
    "mixture": Mixture(
        weights=(0.3, 0.25, 0.2, 0.15, 0.1),
        components=(
            CorrelatedNormal(mean=(-2.5, -1.5), sd=(0.7, 0.4), correlation=0.6),
            CorrelatedNormal(mean=(2.0, -2.0), sd=(0.5, 0.8), correlation=-0.5),
            CorrelatedNormal(mean=(0.0, 2.5), sd=(0.9, 0.35), correlation=0.3),
            CorrelatedNormal(mean=(1.2, 0.4), sd=(0.3, 0.5), correlation=-0.7),
            CorrelatedNormal(mean=(-3.0, 2.0), sd=(0.4, 0.4), correlation=0.8),
        ),
    ),
}


def target(name: TargetName) -> Target:
    """Return the distribution of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in _TARGETS:
        raise ValueError(f"there is no target '{name}'{nearest(name, get_args(TargetName))}")
    return _TARGETS[name]
