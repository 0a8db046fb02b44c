"""The negative log-likelihood of a univariate model along one of its parameters."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import find_peaks

from neumix.data.toy_models import PARAMETERS, Grid
from neumix.models import toy_grid
from neumix.papers.identifiability.toy_equivalence import ToyModel

__all__ = ["Profile", "arrays", "most_minima", "profile"]

Floats = NDArray[np.float64]

_LOWEST = 1e-10  # nats above the lowest value up to which a value counts as lowest too
_NEGLIGIBLE = 1e-20  # density below which points add nothing to the likelihood, whatever the model
_VISIBLE = 1e-3  # nats that a local minimum has to lie below the lower of its barriers


@dataclasses.dataclass(frozen=True)
class Profile:
    """Negative log-likelihood along one parameter, all else as in the true model.

    Arguments:
        simulation: number of the true model.
        parameter: number of the parameter in `PARAMETERS`.
        truth: its true value.
        values: of the parameter, (P,).
        likelihood: negative log-likelihood, (P,).
    """

    simulation: int
    parameter: int
    truth: float
    values: Floats
    likelihood: Floats

    @property
    def minima(self) -> int:
        """Number of local minima, at least a thousandth of a nat deep, away from the ends."""
        return len(self._minima)

    @property
    def barrier(self) -> float:
        """Height in nats of the highest barrier between two neighbouring minima, above the higher of the two."""
        rises = [
            self.likelihood[first:second].max() - self.likelihood[[first, second]].max()
            for first, second in itertools.pairwise(self._minima)
        ]
        return float(max(rises, default=0))

    @property
    def lowest(self) -> Floats:
        """All values of the parameter with the lowest negative log-likelihood, (M,)."""
        lowest: Floats = self.values[self.likelihood <= self.likelihood.min() + _LOWEST]
        return lowest

    @property
    def _minima(self) -> list[int]:
        positions: list[int] = find_peaks(-self.likelihood, prominence=_VISIBLE)[0].tolist()
        return positions


def profile(grid: Grid, x: torch.Tensor, true: ToyModel, parameter: int, points: int) -> tuple[Floats, Floats]:
    """Return values of one parameter (P,) and the negative log-likelihood there (P,).

    The values go one step of the grid beyond its ends, so that a truth at an end is inside, and include the grid's.

    Arguments:
        grid: values of the parameter, and what is known.
        x: evenly spaced points of the quadrature, (X,).
        true: the model.
        parameter: its number in `PARAMETERS`.
        points: for each step of the grid.
    """
    name, position = PARAMETERS[parameter].split("_")
    values = _refined(grid.means if name == "mu" else getattr(grid, name), points)
    decoder, weights, means = (np.repeat(part[None], len(values), 0) for part in true.parameters)
    changed = means if name == "mu" else decoder[:, ("alpha", "beta", "pi").index(name)]
    changed[:, int(position) - 1] = values
    density = toy_grid.densities(grid, x, *(torch.from_numpy(part[None]) for part in true.parameters))
    seen = density[0] > _NEGLIGIBLE
    along = toy_grid.densities(grid, x[seen], *(torch.from_numpy(part) for part in (decoder, weights, means)))
    likelihood: Floats = toy_grid.cross_entropy(density[:, seen], along, float(x[1] - x[0]))[0].numpy()
    return values, likelihood


def _refined(values: Sequence[float], points: int) -> Floats:
    """Return evenly spaced points between neighbouring values and one step beyond either end."""
    steps = np.diff(values) if len(values) > 1 else np.ones(1)
    nodes = np.array([values[0] - steps[0], *values, values[-1] + steps[-1]])
    refined: Floats = np.interp(np.arange((len(nodes) - 1) * points + 1) / points, np.arange(len(nodes)), nodes)
    return refined


def most_minima(profiles: Sequence[Profile], number: int) -> list[Profile]:
    """Return profiles of different parameters in different models.

    Those with most local minima come first, and among these those with the highest barrier.
    """
    chosen: list[Profile] = []
    for candidate in sorted(profiles, key=lambda one: (-one.minima, -one.barrier)):
        new = all(candidate.simulation != one.simulation and candidate.parameter != one.parameter for one in chosen)
        if new and len(chosen) < number:
            chosen.append(candidate)
    return chosen


def arrays(profiles: Sequence[Profile]) -> dict[str, NDArray[Any]]:
    """Return what a figure draws of profiles: numbers of each (K,), and the curves one by one."""
    found: dict[str, NDArray[Any]] = {
        "profile_simulation": np.array([one.simulation for one in profiles]),
        "profile_parameter": np.array([one.parameter for one in profiles]),
        "profile_truth": np.array([one.truth for one in profiles]),
        "profile_minima": np.array([one.minima for one in profiles]),
    }
    for number, one in enumerate(profiles):
        found[f"profile_{number}"] = np.stack([one.values, one.likelihood])  # (2, P)
        found[f"profile_lowest_{number}"] = one.lowest  # (M,)
    return found
