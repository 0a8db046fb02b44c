"""Whether the models of greatest likelihood on a grid are the true one up to what nobody can tell apart."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Split
from neumix.data.toy_models import LARGEST
from neumix.models import toy_grid
from neumix.papers.identifiability.toy_equivalence import Relation, ToyModel, relation
from neumix.papers.identifiability.toy_profiles import Profile, arrays, most_minima, profile
from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.trained import TrainedRun

__all__ = ["ToyLikelihood"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Count = Annotated[int, Setting(gt=0)]

_CANDIDATE = 1e-10  # nats above the entropy up to which a model may have the true density
_SAME_DENSITY = 1e-12  # L1 distance up to which it has; rounding leaves 1e-15


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
            first, and among these those with the highest barrier between two minima.
        profile_points: points of a profile for each step of the grid.
    """

    panels: Count = 3
    profile_points: Count = 25

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a `toy_grid` model searched for `toy_models`."""
        model, split = trained.model(), trained.dataset["train"]
        truths = [_truths(split, seed) for seed in range(trained.run.seeds)]
        verdicts = [[_verdict(model, s, n, true) for n, true in enumerate(row)] for s, row in enumerate(truths)]
        profiles = _profiles(model, truths[0], self.profile_points)
        found = {**_found(verdicts), "cases": np.array([[true.cases for true in row] for row in truths], np.int64)}
        drawn = {name: np.stack([split[name].of_seed(s) for s in range(len(truths))]) for name in split.fields}
        metrics = {**_metrics(model, verdicts, found), **_profile_metrics(model, profiles)}
        return Measurement(metrics, {**found, **drawn, **arrays(most_minima(profiles, self.panels))})


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
    distances = _distances(model, true, decoders, priors)
    same = distances <= _SAME_DENSITY
    lists = model.decoders.lists[decoders] * model.priors.lists[len(true.weights)][priors]
    pairs = zip(decoders[same], priors[same], strict=True)
    return _Verdict(
        [relation(true, _model(model, decoder, prior)) for decoder, prior in pairs],
        int(lists[same].sum()),
        float(distances[same].max(initial=0)),
        float(distances[~same].min()),
        float(np.delete(gaps, np.flatnonzero(same)).min()),
    )


def _model(model: toy_grid.Model, decoder: int, prior: int) -> ToyModel:
    """Return a model of the grid by the numbers of its decoder and its prior."""
    weights, means = model.priors.weights[prior], np.array(model.config.grid.means)
    return ToyModel(weights, means, model.decoders.parameters[decoder])


def _distances(model: toy_grid.Model, true: ToyModel, decoders: Integers, priors: Integers) -> Floats:
    """Return the L1 distances of densities from the true one, (M,), for models given by their numbers (M,)."""
    grid = model.config.grid
    wanted = toy_grid.densities(grid, model.x, *(torch.from_numpy(part) for part in true.parameters))
    distances = np.empty(len(decoders))
    for decoder in np.unique(decoders):
        members = decoders == decoder
        parameters = torch.from_numpy(model.decoders.parameters[decoder])
        means = torch.tensor(grid.means, dtype=torch.float64)
        components = toy_grid.component_densities(model.x, parameters, means, grid.component_sd, grid.noise_sd)
        density = torch.from_numpy(model.priors.weights[priors[members]]) @ components
        distances[members] = model.step * (density - wanted).abs().sum(-1)
    return distances


def _found(verdicts: Sequence[Sequence[_Verdict]]) -> dict[str, Integers]:
    """Return what was found for each seed and simulation, (S, N)."""
    counts = {
        "minimisers": [[len(verdict.relations) for verdict in row] for row in verdicts],
        "different": [[verdict.relations.count("different") for verdict in row] for row in verdicts],
        "lists": [[verdict.lists for verdict in row] for row in verdicts],
        "success": [[int(verdict.success) for verdict in row] for row in verdicts],
    }
    return {name: np.array(rows, np.int64) for name, rows in counts.items()}


def _metrics(
    model: toy_grid.Model, verdicts: Sequence[Sequence[_Verdict]], found: Mapping[str, Integers]
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


def _profiles(model: toy_grid.Model, truths: Sequence[ToyModel], points: int) -> list[Profile]:
    """Return the profiles along every parameter of one seed's true models."""
    found = []
    for simulation, true in enumerate(truths):
        for parameter, truth in enumerate([*true.decoder.ravel(), *true.means]):
            curve = profile(model.config.grid, model.x, true, parameter, points)
            found.append(Profile(simulation, parameter, float(truth), *curve))
    return found


def _profile_metrics(model: toy_grid.Model, profiles: Sequence[Profile]) -> dict[str, Any]:
    gaps = [float(one.likelihood.min() - model.entropy[0, one.simulation]) for one in profiles]
    return {
        "n_profiles": [len(profiles)],
        "n_profiles_with_local_minima": [sum(one.minima > 1 for one in profiles)],
        "lowest_profile_gap": [min(gaps)],
    }
