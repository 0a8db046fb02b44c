"""Conditional independence mixtures whose components are known: densities, posteriors and samples."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from neumix.settings import STRICT

__all__ = ["Linear", "Normal", "ProductMixture", "Uniform", "Univariate"]

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Normal:
    """Normal distribution with a mean and a standard deviation."""

    family: Literal["normal"]
    mean: pydantic.FiniteFloat
    sd: Annotated[pydantic.FiniteFloat, Field(gt=0)]

    def pdf(self, t: Array) -> Array:
        """Return the density at `t`."""
        z = (t - self.mean) / self.sd
        density: Array = np.exp(-0.5 * z**2) / (self.sd * np.sqrt(2 * np.pi))
        return density

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Draw `size` numbers."""
        return rng.normal(self.mean, self.sd, size)

    @property
    def support(self) -> tuple[float, float]:
        """Interval that holds all but about 2e-9 of the mass."""
        return self.mean - 6 * self.sd, self.mean + 6 * self.sd


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Uniform:
    """Uniform distribution on a union of disjoint half-open intervals [a, b)."""

    family: Literal["uniform"]
    intervals: Annotated[tuple[tuple[pydantic.FiniteFloat, pydantic.FiniteFloat], ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        ends = [end for interval in sorted(self.intervals) for end in interval]
        if sorted(ends) != ends or any(start >= end for start, end in self.intervals):
            raise ValueError(f"intervals need start < end and no overlap, found {list(self.intervals)}")

    @property
    def _lengths(self) -> Array:
        return np.array([end - start for start, end in self.intervals])

    def pdf(self, t: Array) -> Array:
        """Return the density at `t`; a boundary belongs to the interval on its right."""
        inside = np.zeros(np.shape(t), dtype=bool)
        for start, end in self.intervals:
            inside |= (t >= start) & (t < end)
        density: Array = inside / self._lengths.sum()
        return density

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Draw `size` numbers."""
        lengths = self._lengths
        chosen = rng.choice(len(lengths), size, p=lengths / lengths.sum())
        starts = np.array([start for start, _ in self.intervals])
        drawn: Array = starts[chosen] + lengths[chosen] * rng.random(size)
        return drawn

    @property
    def support(self) -> tuple[float, float]:
        """Smallest interval that holds all mass."""
        return min(start for start, _ in self.intervals), max(end for _, end in self.intervals)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Linear:
    """Density 1 + slope (1 - 2t) on [0, 1), with |slope| <= 1; two of them overlap everywhere if |slope| < 1."""

    family: Literal["linear"]
    slope: Annotated[float, Field(ge=-1, le=1)]

    def pdf(self, t: Array) -> Array:
        """Return the density at `t`."""
        density: Array = np.where((t >= 0) & (t < 1), 1 + self.slope * (1 - 2 * t), 0.0)
        return density

    def sample(self, size: int, rng: np.random.Generator) -> Array:
        """Draw `size` numbers, by acceptance of uniform ones or their mirror images."""
        t = rng.random(size)
        keep = rng.random(size) < 0.5 * (1 + self.slope * (1 - 2 * t))
        drawn: Array = np.where(keep, t, 1 - t)
        return drawn

    @property
    def support(self) -> tuple[float, float]:
        """The unit interval."""
        return 0.0, 1.0


Univariate = Annotated[Normal | Uniform | Linear, Field(discriminator="family")]


@dataclasses.dataclass(frozen=True)
class ProductMixture:
    r"""Mixture whose variates are independent within each component.

    $$ P(x_1, \ldots, x_V) = \sum_i w_i \prod_v f_v^{(i)}(x_v) $$

    References:
        InClass nets, Eq. (3).

    Arguments:
        weights: (C,), positive, summing to one.
        components: C sequences of V univariate distributions.
    """

    weights: Sequence[float]
    components: Sequence[Sequence[Normal | Uniform | Linear]]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.components):
            raise ValueError(f"{len(self.weights)} weights for {len(self.components)} components; give one for each")
        if not self.weights or not self.components[0]:
            raise ValueError("a mixture needs at least one component and one variate")
        if not (min(self.weights) >= 0 and abs(sum(self.weights) - 1) <= 1e-9):
            raise ValueError(f"weights need to be non-negative and sum to 1, found {list(self.weights)}")
        if len({len(component) for component in self.components}) != 1:
            raise ValueError("every component needs the same number of variates")

    @property
    def n_variates(self) -> int:
        """Number of variates V."""
        return len(self.components[0])

    def densities(self, variate: int, t: Array) -> Array:
        """Return f_v^(i) at `t` (...), for every component: (C, ...)."""
        return np.stack([component[variate].pdf(t) for component in self.components])

    def marginal(self, variate: int, t: Array) -> Array:
        """Return P_v at `t`, of the same shape."""
        density: Array = np.tensordot(np.asarray(self.weights), self.densities(variate, t), 1)
        return density

    def joint(self, points: Array) -> Array:
        """Return w_i prod_v f_v^(i) at points (..., V), for every component: (C, ...)."""
        factors = np.stack([self.densities(v, points[..., v]) for v in range(self.n_variates)])
        weights = np.asarray(self.weights).reshape(-1, *[1] * (points.ndim - 1))
        joint: Array = weights * factors.prod(0)
        return joint

    def log_density(self, points: Array) -> Array:
        """Return log P at points (..., V), minus infinity outside the support."""
        with np.errstate(divide="ignore"):
            log_density: Array = np.log(self.joint(points).sum(0))
        return log_density

    def sample(self, size: int, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        """Draw points (size, V) and the components (size,) that they come from."""
        labels = rng.choice(len(self.weights), size, p=np.asarray(self.weights))
        points = np.empty((size, self.n_variates))
        for index, component in enumerate(self.components):
            members = np.flatnonzero(labels == index)
            for variate, distribution in enumerate(component):
                points[members, variate] = distribution.sample(len(members), rng)
        return points, labels

    def grid(self, variate: int, points: int) -> Array:
        """Return evenly spaced midpoints that cover a variate's support."""
        supports = [component[variate].support for component in self.components]
        low, high = min(low for low, _ in supports), max(high for _, high in supports)
        midpoints: Array = low + (np.arange(points) + 0.5) * (high - low) / points
        return midpoints
