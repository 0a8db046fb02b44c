"""What both tables and figures read from the results of runs."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Self

import numpy as np
from numpy.typing import NDArray

from neumix.data import product_mixture
from neumix.mixtures import ProductMixture
from neumix.results import Results, RunResult
from neumix.settings import parse

__all__ = [
    "Band",
    "LabelTable",
    "batch_size",
    "component_costs",
    "gradient",
    "mixture_of",
    "standard_deviation",
    "weight_range",
]

Floats = NDArray[np.float64]


def mixture_of(run: RunResult) -> ProductMixture:
    """Return the mixture that a run's points were drawn from.

    Raises:
        ValueError: the run's data is no `product_mixture`.
    """
    data = run.parameters["data"]
    if data["name"] != "product_mixture":
        raise ValueError(f"expected a run on a product_mixture, found one on {data['name']}")
    return product_mixture.mixture(parse(product_mixture.Config, dict(data["settings"]), "run record: data"))


def component_costs(results: Results) -> dict[int, Floats]:
    """Return the held-out costs (S,) by number of components, smallest number first."""
    runs = [run for run in results.values() if "held_out_cost" in run.metrics]
    costs = {int(run.values("components")[0]): run.values("held_out_cost") for run in runs}
    return dict(sorted(costs.items()))


def batch_size(run: RunResult) -> int:
    """Return the batch size of a run with a single stage."""
    return int(run.parameters["stages"]["main"]["batch_size"])


def gradient(run: RunResult) -> str:
    """Return what a reader should call the gradient of a run: `plain`, or `moving estimate` with its decay."""
    loss: Mapping[str, object] = run.parameters["stages"]["main"]["loss"]
    return f"moving estimate, decay {loss['decay']}" if loss["name"] == "moving_estimate" else "plain"


def standard_deviation(values: Floats) -> Floats:
    """Return the sample standard deviation over the first axis; NaN for a single value."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(axis=0, ddof=1))


def weight_range(weights: Floats, mu_x: Floats, mu_y: Floats) -> tuple[float, float]:
    """Return the smallest and largest weight of the first of two components among equivalent mixtures.

    Arguments:
        weights: mixture weights, (2,).
        mu_x, mu_y: essential suprema of the classifiers, (2,).

    References:
        InClass nets, Eq. (A.6).
    """
    from neumix.models.inclass import theory

    low, high = theory.weight_ratio_bounds(mu_x, mu_y, weights)
    return 1 - 1 / (1 + low), 1 - 1 / (1 + high)


@dataclasses.dataclass(frozen=True)
class Band:
    """Mean and standard deviation over the seeds of the first component's classifier of x, at the grid points.

    Arguments:
        grid: values of x, (G,).
        mean, sd: over the seeds, (G,).
        exact: the exact classifier, (G,).
        mass: share of the data at each point, (G,).
    """

    grid: Floats
    mean: Floats
    sd: Floats
    exact: Floats
    mass: Floats

    @classmethod
    def of(cls, run: RunResult) -> Self:
        """Read the band from a run's arrays."""
        curves = run.arrays["classifiers"][:, 0, 0]  # (S, G)
        marginal = run.arrays["marginal"][0]
        exact = run.arrays["true_classifiers"][0, 0]
        spread = standard_deviation(curves)
        return cls(run.arrays["grid"][0], curves.mean(0), spread, exact, marginal / marginal.sum())

    @property
    def mean_sd(self) -> float:
        """Pointwise standard deviation, averaged over the data."""
        return float(self.sd @ self.mass)

    @property
    def coverage(self) -> float:
        """Share of the data at which the exact classifier lies within the mean and two standard deviations."""
        covered = np.abs(self.exact - self.mean) <= 2 * self.sd
        return float(np.where(np.isnan(self.sd), np.nan, covered) @ self.mass)


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """Joint table of the classes of two variates, found and true.

    Found classes have no names of their own; they are given those that bring the found table closest to the true one.

    Arguments:
        true: joint probabilities, (C_x, C_y).
        found: shares of the points, (C_x, C_y).
        classes: of every point, (N, 2).
    """

    true: Floats
    found: Floats
    classes: NDArray[np.int64]

    @classmethod
    def of(cls, run: RunResult) -> Self:
        """Count the classes of the seed that the measure shows."""
        true, classes = run.arrays["table"], run.arrays["classes"]
        found = np.zeros(true.shape)
        np.add.at(found, (classes[:, 0], classes[:, 1]), 1 / len(classes))
        orders = itertools.product(*(map(list, itertools.permutations(range(size))) for size in true.shape))
        rows, columns = min(orders, key=lambda order: float(np.abs(found[np.ix_(*order)] - true).sum()))
        names = np.stack([np.argsort(rows)[classes[:, 0]], np.argsort(columns)[classes[:, 1]]], -1)
        return cls(true, found[np.ix_(rows, columns)], names)
