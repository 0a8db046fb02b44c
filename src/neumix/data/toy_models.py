"""Random models on a grid: a univariate Gaussian mixture seen through two ReLU neurons and noise."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.seeding import numpy_rng
from neumix.settings import STRICT

__all__ = [
    "LARGEST",
    "PARAMETERS",
    "Config",
    "Decoders",
    "Grid",
    "Priors",
    "check_on_grid",
    "decoders",
    "kinks",
    "load",
    "priors",
    "simplex",
    "sources",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Values = tuple[float, ...]
Positive = Annotated[float, Setting(gt=0)]

LARGEST = 3
"""Largest number of components; simulations have two or this many."""
PARAMETERS = ("alpha_1", "alpha_2", "beta_1", "beta_2", "pi_1", "pi_2", "mu_1", "mu_2", "mu_3")
"""Names of a model's scalar parameters, but for the weights, which are not free one by one."""

_DECIMALS = 9  # numbers that agree this far are the same combination of grid values, apart from rounding


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Grid:
    r"""Values that the parameters of a toy model can take, and what is known of it.

    $Z \sim \sum_j \lambda_j N(\mu_j, s^2)$, $X = f(Z) + N(0, \sigma^2)$,
    $f(z) = \alpha_1 \mathrm{ReLU}(\beta_1 z + \pi_1) + \alpha_2 \mathrm{ReLU}(\beta_2 z + \pi_2)$.

    References:
        Identifiability, Appendix J.3.1.

    Arguments:
        weight_steps: weights are multiples of one over this number; zero is one of them.
        means: of the components, increasing, like the following three.
        alpha: weights of the second layer.
        beta: weights of the first layer.
        pi: biases of the first layer.
        component_sd: standard deviation s of every component.
        noise_sd: standard deviation sigma of the noise.
    """

    weight_steps: Annotated[int, Setting(gt=0)]
    means: Values
    alpha: Values
    beta: Values
    pi: Values
    component_sd: Positive
    noise_sd: Positive

    def __post_init__(self) -> None:
        for name in ("means", "alpha", "beta", "pi"):
            values = getattr(self, name)
            if not values or any(not low < high for low, high in itertools.pairwise(values)):
                raise ValueError(f"{name} needs increasing values, found {list(values)}")
        if len(self.means) < 2:
            raise ValueError(f"means needs two values or more, found {list(self.means)}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the draw.

    Arguments:
        grid: values of the parameters, all equally likely.
        simulations: models for each seed; the first half has two components, the rest three.
    """

    grid: Grid
    simulations: Annotated[int, Setting(gt=0)]


@dataclasses.dataclass(frozen=True)
class Decoders:
    """The different functions f that a grid's parameters give.

    Arguments:
        parameters: alpha, beta and pi of both neurons for one of the lists that give each function, (D, 3, 2).
        lists: number of parameter lists that give it, (D,).
    """

    parameters: Floats
    lists: Integers


@dataclasses.dataclass(frozen=True)
class Priors:
    """The different mixtures that a grid's weights and means give.

    Arguments:
        weights: of every mean of the grid, (R, A).
        lists: number of parameter lists that give each mixture, by number of components J; (R,).
    """

    weights: Floats
    lists: dict[int, Integers]


def sources(config: Config) -> tuple[str, ...]:
    """Return no dataset: the models are drawn here."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Draw the models, which are the points of the split `train`.

    Fields: `components` (N,), `weights` and `means` (N, 3), where two components are followed by one of weight 0, and
    `decoder` (N, 3, 2) with alpha, beta and pi of both neurons.
    """
    draws = [_draw(config, seed) for seed in seeds]
    fields = {name: Field(np.stack([draw[name] for draw in draws]), None, True) for name in draws[0]}
    return Dataset({"train": Split(fields)}, "simulated")


def _draw(config: Config, seed: int) -> dict[str, NDArray[np.generic]]:
    grid, simulations = config.grid, config.simulations
    rng = numpy_rng(seed, "toy models")
    components = np.where(np.arange(simulations) < simulations // 2, 2, LARGEST)
    weights = np.zeros((simulations, LARGEST))
    for row, number in enumerate(components):
        weights[row, :number] = rng.choice(simplex(grid.weight_steps, int(number))) / grid.weight_steps
    decoder = [rng.choice(values, (simulations, 2)) for values in (grid.alpha, grid.beta, grid.pi)]
    means = rng.choice(grid.means, (simulations, LARGEST))
    return {"components": components, "weights": weights, "means": means, "decoder": np.stack(decoder, 1)}


def simplex(steps: int, components: int) -> Integers:
    """Return all ways to write `steps` as an ordered sum of `components` whole numbers, zeros included, (L, J)."""
    bars = itertools.combinations(range(steps + components - 1), components - 1)
    edges = np.array([(-1, *bar, steps + components - 1) for bar in bars])
    return np.asarray(np.diff(edges, axis=1) - 1, dtype=np.int64)


def priors(grid: Grid) -> Priors:
    """Return the different mixtures of at most three components, those of at most two first.

    Two lists give the same mixture if they differ in the order of components, in the means of components of weight
    0, or in how several components share the weight of one mean.
    """
    units = {number: _counted(_measures(grid, number)) for number in (2, LARGEST)}
    rows, lists = units[LARGEST]
    order = np.argsort((rows > 0).sum(1), kind="stable")
    rows, lists = rows[order], lists[order]
    of_two = {row.tobytes(): count for row, count in zip(*units[2], strict=True)}
    two = np.array([of_two.get(row.tobytes(), 0) for row in rows], dtype=np.int64)
    return Priors(rows / grid.weight_steps, {2: two, LARGEST: lists})


def _measures(grid: Grid, components: int) -> Integers:
    """Return the units of weight on each mean of the grid for every list of weights and means, (L, A)."""
    weights = simplex(grid.weight_steps, components)
    atoms = np.array(list(itertools.product(range(len(grid.means)), repeat=components)))
    members = np.eye(len(grid.means), dtype=np.int64)[atoms]  # (M, J, A)
    return np.asarray(np.einsum("lj,mja->lma", weights, members).reshape(-1, len(grid.means)))


def _counted(rows: Integers) -> tuple[Integers, Integers]:
    unique, counts = np.unique(rows, axis=0, return_counts=True)
    return np.ascontiguousarray(unique), counts


def kinks(grid: Grid) -> Floats:
    """Return all points at which a neuron of the grid can switch, increasing."""
    points = {round(-pi / beta, _DECIMALS) + 0.0 for beta in grid.beta if beta for pi in grid.pi}
    return np.array(sorted(points))


def decoders(grid: Grid) -> Decoders:
    """Return the different functions that two neurons give.

    Two lists give the same function if they differ in the order of the neurons, in the split of a slope between
    alpha, beta and pi, in the parameters of a neuron without effect, or in how the neurons share a kink. All functions
    are affine between neighbouring kinks of the grid and beyond them, so that their values at the kinks and at one
    point on either side tell them apart.
    """
    axes = [np.array(values) for values in (grid.alpha, grid.beta, grid.pi) for _ in range(2)]
    lists = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3, 2)
    points = kinks(grid)
    points = np.concatenate([points[:1] - 1, points, points[-1:] + 1]) if len(points) else np.zeros(1)
    alpha, beta, pi = (lists[:, row, :, None] for row in range(3))
    values = (alpha * np.maximum(beta * points + pi, 0)).sum(1)  # (L, P)
    _, first, counts = np.unique(np.round(values, _DECIMALS) + 0.0, axis=0, return_index=True, return_counts=True)
    return Decoders(lists[first], counts)


def check_on_grid(grid: Grid, truths: Mapping[str, NDArray[Any]]) -> None:
    """Check that models are among those of a grid.

    Arguments:
        grid: the values of the parameters.
        truths: the fields that `load` gives, each (..., its shape).

    Raises:
        ValueError: names the first parameter that is not on the grid.
    """
    decoder, weights, components = truths["decoder"], truths["weights"], truths["components"]
    named = {name: decoder[..., row, :] for row, name in enumerate(("alpha", "beta", "pi"))}
    for name, values in {**named, "means": truths["means"]}.items():
        allowed = np.array(getattr(grid, name))
        off = np.abs(values[..., None] - allowed).min(-1) > 10.0**-_DECIMALS
        if off.any():
            raise ValueError(f"{name}: {values[off][0]} is not on the grid {allowed.tolist()}")
    units = weights * grid.weight_steps
    off = (np.abs(units - np.round(units)) > 10.0**-_DECIMALS) | (weights < 0)
    if off.any():
        raise ValueError(f"weights: {weights[off][0]} is not a non-negative multiple of 1/{grid.weight_steps}")
    totals = weights.sum(-1)
    if not np.allclose(totals, 1):
        raise ValueError(f"weights sum to {totals[~np.isclose(totals, 1)][0]}, expected 1")
    wrong = ~np.isin(components, (2, LARGEST)) | ((weights > 0).sum(-1) > components)
    if wrong.any():
        raise ValueError(
            f"components is {components[wrong][0]} for weights {weights[wrong][0]}; expected 2 or {LARGEST}"
        )
