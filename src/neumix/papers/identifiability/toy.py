"""Whether the models of greatest likelihood on a grid are the true one up to what cannot be told apart."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass
from scipy.signal import find_peaks

from neumix.data.dataset import Split
from neumix.data.toy_models import LARGEST, PARAMETERS, Grid
from neumix.models import toy_grid
from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.trained import TrainedRun

__all__ = ["CASES", "Relation", "ToyLikelihood", "ToyModel", "profile", "relation"]

Floats = NDArray[np.float64]
Relation = Literal["same", "affine", "constant", "different"]

CASES = ("fewer components", "idle neuron", "constant decoder", "even decoder")
"""What can be special about a true model; the flags of `ToyModel.cases` in this order."""

_CANDIDATE = 1e-10  # nats above the entropy up to which a model may have the true density
_SAME_DENSITY = 1e-12  # L1 distance up to which it has; rounding leaves 1e-15
_EQUAL = 1e-9  # difference up to which numbers are the same combination of grid values
_NEGLIGIBLE = 1e-20  # density below which points add nothing to the likelihood, whatever the model
_VISIBLE = 1e-4  # nats that a local minimum has to lie below the lower of its barriers


@dataclasses.dataclass(frozen=True)
class ToyModel:
    """A mixture of components with equal variance, and a decoder of two neurons.

    Arguments:
        weights, means: of the components, (J,).
        decoder: alpha, beta and pi of both neurons, (3, 2).
    """

    weights: Floats
    means: Floats
    decoder: Floats

    def __call__(self, z: Floats) -> Floats:
        """Return the decoder's values at points (Z,)."""
        alpha, beta, pi = self.decoder
        values: Floats = alpha @ np.maximum(beta[:, None] * z + pi[:, None], 0)
        return values

    @property
    def kinks(self) -> Floats:
        """Points where a neuron can switch; one is made up where none can, so that there always is one."""
        _, beta, pi = self.decoder
        return -pi[beta != 0] / beta[beta != 0] if beta.any() else np.zeros(1)

    @property
    def measure(self) -> Floats:
        """Different means with positive weight, increasing, and their weights, (2, M)."""
        means = np.unique(self.means[self.weights > 0])
        return np.stack([means, [self.weights[self.means == mean].sum() for mean in means]])

    @property
    def is_constant(self) -> bool:
        """Whether the decoder does not depend on z."""
        return bool(np.ptp(self(_probes(self.kinks))) <= _EQUAL)

    @property
    def is_even(self) -> bool:
        """Whether the decoder is its own mirror image about a point and not constant: |z| is."""
        kinks = self.kinks
        axes = {float(first + second) / 2 for first, second in itertools.product(kinks, kinks)}
        return not self.is_constant and any(_same_function(self, self, -1, 2 * axis) for axis in axes)

    @property
    def cases(self) -> tuple[bool, bool, bool, bool]:
        """Whether each of `CASES` applies."""
        idle = bool((self.decoder[:2] == 0).any())
        return self.measure.shape[1] < len(self.weights), idle, self.is_constant, self.is_even


def relation(true: ToyModel, other: ToyModel) -> Relation:
    r"""Return how a model relates to the true one, by comparing laws and functions, not parameters.

    Components have the same known variance, so that an affine map that takes the prior P of the one to the prior P'
    of the other is $A(z) = \pm z + b$, and P and P' have the same density exactly if weights and means are the same.

    - `same`: P = P', f = f';
    - `affine`: A takes P to P', and f' = f after the inverse of A;
    - `constant`: f and f' are the same constant, whose prior cannot be told;
    - `different`: none of these.

    References:
        Identifiability, Sec 2 (affine equivalence) and Appendix J.3.1 (vanishing parameters).

    Arguments:
        true: P and f.
        other: P' and f'.
    """
    if true.is_constant:
        return "constant" if _same_function(true, other, 1, 0) else "different"
    for sign in (1, -1):
        shift = float(other.measure.prod(0).sum() - sign * true.measure.prod(0).sum())
        if _same_prior(true, other, sign, shift) and _same_function(true, other, sign, shift):
            return "same" if sign == 1 and abs(shift) <= _EQUAL else "affine"
    return "different"


def _same_prior(true: ToyModel, other: ToyModel, sign: int, shift: float) -> bool:
    """Return whether z -> sign z + shift takes the one prior to the other."""
    image, wanted = true.measure[:, ::sign], other.measure
    mapped = np.stack([sign * image[0] + shift, image[1]])
    return mapped.shape == wanted.shape and bool(np.abs(mapped - wanted).max() <= _EQUAL)


def _same_function(true: ToyModel, other: ToyModel, sign: int, shift: float) -> bool:
    """Return whether f'(sign z + shift) = f(z) everywhere: both sides are affine between the points compared."""
    z = _probes(np.concatenate([true.kinks, sign * (other.kinks - shift)]))
    return bool(np.abs(other(sign * z + shift) - true(z)).max() <= _EQUAL)


def _probes(kinks: Floats) -> Floats:
    """Return points whose values determine a function that is affine between the kinks."""
    return np.concatenate([kinks, [kinks.min() - 1, kinks.max() + 1]])


@dataclasses.dataclass(frozen=True)
class _Verdict:
    """What the search has found for one true model.

    Arguments:
        relations: of each global minimiser.
        lists: parameter lists that all global minimisers together stand for.
        distance: largest L1 distance of a minimiser's density from the true one.
        other_distance: smallest such distance among the other models looked at.
        other_gap: smallest excess of another model's negative log-likelihood over the entropy.
    """

    relations: Sequence[Relation]
    lists: int
    distance: float
    other_distance: float
    other_gap: float

    @property
    def success(self) -> bool:
        """Whether the true model is found, and nothing that is not equivalent to it."""
        return bool(self.relations) and "different" not in self.relations


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ToyLikelihood:
    """How many true models are the unique minimisers of the negative log-likelihood, up to equivalence.

    A global minimiser is a model with the density of the true one. Candidates have a negative log-likelihood within
    1e-10 of the entropy, and of these those count whose density has an L1 distance below 1e-12. The first seed's models
    also give profiles of the likelihood along one parameter, whose local minima are counted.

    References:
        Identifiability, Sec 4 (Maximum likelihood), Appendix J.3.1, Fig 1.

    Arguments:
        panels: profiles that are kept: of different parameters in different models, those with most local minima
            first, and among these those whose second minimum lies deepest below its barrier.
        profile_points: points of a profile for each step of the grid.
    """

    panels: Annotated[int, Setting(gt=0)] = 3
    profile_points: Annotated[int, Setting(gt=0)] = 40

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a `toy_grid` model searched for `toy_models`."""
        model, split = trained.model(), trained.dataset["train"]
        truths = [_truths(split, seed) for seed in range(trained.run.seeds)]
        verdicts = [[_verdict(model, s, n, true) for n, true in enumerate(row)] for s, row in enumerate(truths)]
        profiles = _profiles(model, truths[0], self.profile_points)
        found = _found(truths, verdicts)
        arrays = {**found, **_chosen(profiles, self.panels)}
        arrays |= {name: np.stack([split[name].of_seed(s) for s in range(len(truths))]) for name in split.fields}
        return Measurement({**_metrics(model, verdicts, found), **_profile_metrics(model, profiles)}, arrays)


def _truths(split: Split, seed: int) -> list[ToyModel]:
    """Return the true models of a seed, each with the number of components that it was drawn with."""
    names = ("components", "weights", "means", "decoder")
    rows = zip(*(split[name].of_seed(seed) for name in names), strict=True)
    return [ToyModel(weights[:number], means[:number], decoder) for number, weights, means, decoder in rows]


def _verdict(model: toy_grid.Model, seed: int, simulation: int, true: ToyModel) -> _Verdict:
    """Judge the models that the search has kept for one true model."""
    gaps = (model.likelihood[seed, simulation] - model.entropy[seed, simulation]).numpy()
    close = int((gaps <= _CANDIDATE).sum())
    if close == len(gaps):
        raise ValueError(
            f"seed {seed}, simulation {simulation}: all {close} models kept are within {_CANDIDATE} nats of the best; "
            "raise the model's setting 'kept'"
        )
    looked = slice(close + 1)  # the first that is no candidate shows how clear the cut is
    decoders, priors = (part[seed, simulation, looked].numpy() for part in (model.decoder, model.prior))
    models = [_model(model, decoder, prior) for decoder, prior in zip(decoders, priors, strict=True)]
    distances = _distances(model, true, models)
    same = distances <= _SAME_DENSITY
    lists = model.decoders.lists[decoders] * model.priors.lists[len(true.weights)][priors]
    return _Verdict(
        [relation(true, other) for other, is_same in zip(models, same, strict=True) if is_same],
        int(lists[same].sum()),
        float(distances[same].max(initial=0)),
        float(distances[~same].min()),
        float(np.delete(gaps, np.flatnonzero(same)).min()),
    )


def _model(model: toy_grid.Model, decoder: int, prior: int) -> ToyModel:
    """Return a model of the grid by the numbers of its decoder and its prior."""
    weights, means = model.priors.weights[prior], np.array(model.config.grid.means)
    return ToyModel(weights, means, model.decoders.parameters[decoder])


def _distances(model: toy_grid.Model, true: ToyModel, others: Sequence[ToyModel]) -> Floats:
    """Return the L1 distances of the models' densities from the true one, (M,)."""
    difference = _densities(model, others) - _densities(model, [true])
    return np.asarray(model.step * difference.abs().sum(-1))


def _densities(model: toy_grid.Model, models: Sequence[ToyModel]) -> torch.Tensor:
    parts = [torch.from_numpy(np.stack([getattr(one, name) for one in models])) for name in ("weights", "means")]
    decoder = torch.from_numpy(np.stack([one.decoder for one in models]))
    return toy_grid.densities(model.x, decoder, *parts, model.config.grid)


def _found(truths: Sequence[Sequence[ToyModel]], verdicts: Sequence[Sequence[_Verdict]]) -> dict[str, NDArray[Any]]:
    """Return what was found for each seed and simulation, (S, N), and which cases apply, (S, N, 4)."""
    counts = {
        "minimisers": lambda verdict: len(verdict.relations),
        "different": lambda verdict: verdict.relations.count("different"),
        "lists": lambda verdict: verdict.lists,
        "success": lambda verdict: verdict.success,
    }
    found = {name: np.array([[count(v) for v in row] for row in verdicts], int) for name, count in counts.items()}
    return {**found, "cases": np.array([[true.cases for true in row] for row in truths], int)}


def _metrics(
    model: toy_grid.Model, verdicts: Sequence[Sequence[_Verdict]], found: dict[str, NDArray[Any]]
) -> dict[str, Any]:
    flat = [verdict for row in verdicts for verdict in row]
    metrics: dict[str, Any] = {
        "n_simulations": [found["success"].shape[1]],
        "n_success": found["success"].sum(1),
        "n_minimisers": found["minimisers"].mean(1),
        "n_minimisers_max": [found["minimisers"].max()],
        "n_minimising_lists": found["lists"].mean(1),
        "n_not_equivalent": found["different"].sum(1),
        "largest_minimiser_distance": [max(verdict.distance for verdict in flat)],
        "smallest_other_distance": [min(verdict.other_distance for verdict in flat)],
        "smallest_other_gap": [min(verdict.other_gap for verdict in flat)],
        "lowest_gap": (model.likelihood[..., 0] - model.entropy).numpy().min(1),
    }
    for components in range(2, LARGEST + 1):
        metrics[f"n_models_{components}"] = [model.n_models(components)]
        metrics[f"n_parameter_lists_{components}"] = [model.n_parameter_lists(components)]
    return metrics


@dataclasses.dataclass(frozen=True)
class _Profile:
    """Negative log-likelihood along one parameter of a true model.

    Arguments:
        simulation: number of the true model.
        parameter: number of the parameter in `PARAMETERS`.
        truth: its true value.
        values: of the parameter, (P,).
        likelihood: negative log-likelihood, (P,).
        entropy: its value at the truth.
    """

    simulation: int
    parameter: int
    truth: float
    values: Floats
    likelihood: Floats
    entropy: float

    @property
    def minima(self) -> int:
        """Number of visible local minima away from the ends."""
        return len(self._depths)

    @property
    def depth(self) -> float:
        """Depth in nats of the second deepest minimum below the lower of its barriers."""
        return float(np.sort(self._depths)[-2]) if self.minima > 1 else 0.0

    @property
    def lowest(self) -> Floats:
        """All values of the parameter with the lowest negative log-likelihood, (M,)."""
        return self.values[self.likelihood <= self.likelihood.min() + _CANDIDATE]

    @property
    def _depths(self) -> Floats:
        return np.asarray(find_peaks(-self.likelihood, prominence=_VISIBLE)[1]["prominences"])


def profile(grid: Grid, true: ToyModel, parameter: int, x: torch.Tensor, points: int) -> tuple[Floats, Floats]:
    """Return values of one parameter (P,) and the negative log-likelihood there (P,), all else as in the true model.

    The values go one step of the grid beyond its ends, so that a truth at an end is inside, and include the grid's.

    Arguments:
        grid: values of the parameter, and what is known.
        true: the model.
        parameter: its number in `PARAMETERS`.
        x: evenly spaced points of the quadrature, (X,).
        points: for each step of the grid.
    """
    name, position = PARAMETERS[parameter].split("_")
    values = _refined(grid.means if name == "mu" else getattr(grid, name), points)
    parts = [np.repeat(part[None], len(values), 0) for part in (true.decoder, true.weights, true.means)]
    changed = parts[2] if name == "mu" else parts[0][:, ("alpha", "beta", "pi").index(name)]
    changed[:, int(position) - 1] = values
    fixed = [torch.from_numpy(part[None]) for part in (true.decoder, true.weights, true.means)]
    density = toy_grid.densities(x, *fixed, grid)
    seen = density[0] > _NEGLIGIBLE
    along = toy_grid.densities(x[seen], *map(torch.from_numpy, parts), grid)
    return values, toy_grid.cross_entropy(density[:, seen], along, float(x[1] - x[0]))[0].numpy()


def _refined(values: Sequence[float], points: int) -> Floats:
    """Return evenly spaced points between neighbouring values and one step beyond either end."""
    steps = np.diff(values) if len(values) > 1 else np.ones(1)
    nodes = np.array([values[0] - steps[0], *values, values[-1] + steps[-1]])
    return np.interp(np.arange((len(nodes) - 1) * points + 1) / points, np.arange(len(nodes)), nodes)


def _profiles(model: toy_grid.Model, truths: Sequence[ToyModel], points: int) -> list[_Profile]:
    """Return the profiles along every parameter of one seed's true models."""
    found = []
    for simulation, true in enumerate(truths):
        entropy = float(model.entropy[0, simulation])
        scalars = [*true.decoder.ravel(), *true.means]
        for parameter, truth in enumerate(scalars):
            curve = profile(model.config.grid, true, parameter, model.x, points)
            found.append(_Profile(simulation, parameter, float(truth), *curve, entropy))
    return found


def _chosen(profiles: Sequence[_Profile], panels: int) -> dict[str, NDArray[Any]]:
    """Return the profiles that are drawn, by the rule that `ToyLikelihood` gives."""
    chosen: list[_Profile] = []
    for candidate in sorted(profiles, key=lambda one: (-one.minima, -one.depth)):
        seen = {one.simulation for one in chosen}, {one.parameter for one in chosen}
        if len(chosen) < panels and candidate.simulation not in seen[0] and candidate.parameter not in seen[1]:
            chosen.append(candidate)
    arrays: dict[str, NDArray[Any]] = {
        "profile_simulation": np.array([one.simulation for one in chosen]),
        "profile_parameter": np.array([one.parameter for one in chosen]),
        "profile_truth": np.array([one.truth for one in chosen]),
        "profile_minima": np.array([one.minima for one in chosen]),
    }
    for panel, one in enumerate(chosen):
        arrays[f"profile_{panel}"] = np.stack([one.values, one.likelihood])
        arrays[f"profile_lowest_{panel}"] = one.lowest
    return arrays


def _profile_metrics(model: toy_grid.Model, profiles: Sequence[_Profile]) -> dict[str, Any]:
    return {
        "n_profiles": [len(profiles)],
        "n_profiles_with_local_minima": [sum(one.minima > 1 for one in profiles)],
        "lowest_profile_gap": [min(float(one.likelihood.min()) - one.entropy for one in profiles)],
    }
