"""Exhaustive search over toy models, and whether what it finds is the true model."""

import dataclasses
import itertools
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from neumix.batching import DeviceSplit
from neumix.data.dataset import Dataset, Field, Split
from neumix.data.toy_models import PARAMETERS, Config, Grid, load, priors
from neumix.models import toy_grid
from neumix.papers.identifiability.toy import ToyLikelihood
from neumix.papers.identifiability.toy_equivalence import ToyModel, relation
from neumix.papers.identifiability.toy_figures import fig1, table_toy
from neumix.papers.identifiability.toy_profiles import Profile, arrays, most_minima, profile
from neumix.rendering import style
from neumix.results import RunResult, write_measurement

NOWHERE = Path("nowhere")
GRID = Grid(
    weight_steps=2, means=(-1, 0, 1), alpha=(-1, 0, 1), beta=(-1, 0, 1), pi=(-1, 0, 1), component_sd=0.6, noise_sd=0.4
)
FINE = dataclasses.replace(GRID, weight_steps=10, means=(-3, -2, -1, 0, 1, 2, 3), pi=(-1, -0.5, 0, 0.5, 1))
SIMULATIONS = 24


def model_of(weights: Any, means: Any, decoder: Any) -> ToyModel:
    return ToyModel(*(np.array(part, dtype=float) for part in (weights, means, decoder)))


def normal(x: float, mean: float, sd: float) -> float:
    return math.exp(-0.5 * ((x - mean) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))


def exact_density(x: float, model: ToyModel, grid: Grid) -> float:
    """Return the density of X by adaptive quadrature over z."""
    components = list(zip(model.weights.tolist(), model.means.tolist(), strict=True))
    neurons = model.decoder.T.tolist()

    def integrand(z: float) -> float:
        prior = sum(weight * normal(z, mean, grid.component_sd) for weight, mean in components)
        return prior * normal(x, sum(a * max(b * z + p, 0) for a, b, p in neurons), grid.noise_sd)

    edges = np.unique([*model.kinks, *np.linspace(-12, 12, 13)])
    return sum(quad(integrand, a, b, epsabs=0, epsrel=1e-9)[0] for a, b in itertools.pairwise(edges))


def density_of(model: ToyModel, grid: Grid, x: torch.Tensor) -> torch.Tensor:
    return toy_grid.densities(grid, x, *(torch.from_numpy(part) for part in model.parameters))


MODELS = {
    "smooth": model_of([0.3, 0.7], [-1, 2], [[1, -0.5], [1, -1], [0.5, 1]]),
    "plateau": model_of([0.5, 0.3, 0.2], [-2, 0, 1], [[1, -1], [1, 1], [0, -1]]),
    "even": model_of([0.6, 0.4], [-1, 1], [[1, 1], [1, -1], [0, 0]]),
    "constant": model_of([1, 0], [0, 1], [[1, 1], [0, 0], [0.5, -1]]),
    "one neuron": model_of([0.2, 0.8], [3, -3], [[0, -1], [1, -1], [0, 1]]),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_density_is_the_integral_over_the_latent_variable(name):
    points = np.array([-5.0, -1.1, -0.3, 0.0, 0.5, 1.7, 8.0])
    found = density_of(MODELS[name], FINE, torch.from_numpy(points))
    expected = [exact_density(x, MODELS[name], FINE) for x in points]
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_a_density_is_accurate_far_in_a_tail():
    """Where f is z, X is normal; a difference of two probabilities near one would lose all digits here."""
    identity = model_of([1], [0], [[1, -1], [1, -1], [0, 0]])
    sd = math.hypot(GRID.component_sd, GRID.noise_sd)
    x = torch.tensor([-12 * sd, -5.0, 5.0, 12 * sd], dtype=torch.float64)
    np.testing.assert_allclose(density_of(identity, GRID, x), norm.pdf(x, 0, sd), rtol=1e-9)


def test_a_bend_far_away_leaves_a_line():
    nearly = model_of([0.5, 0.5], [-1, 1], [[1, -1], [1e-18, 1], [1, 0]])
    limit = model_of([0.5, 0.5], [-1, 1], [[1, -1], [0, 1], [1, 0]])
    x = toy_grid.observations(FINE, 2)
    np.testing.assert_allclose(density_of(nearly, FINE, x), density_of(limit, FINE, x), rtol=1e-12)


def test_every_density_of_a_grid_integrates_to_one():
    model = search_model()
    total = torch.cat([densities.sum(-1) for _, densities in model._models(model.x)]) * model.step
    assert len(total) == model.n_models(3)
    np.testing.assert_allclose(total, 1, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000))
def test_densities_of_random_models_integrate_to_one(seed):
    rng = np.random.default_rng(seed)
    decoder = [rng.choice(values, 2) for values in (FINE.alpha, FINE.beta, FINE.pi)]
    model = model_of(rng.dirichlet([1, 1, 1]), rng.choice(FINE.means, 3), decoder)
    x = toy_grid.observations(FINE, 3)
    assert float(density_of(model, FINE, x).sum() * (x[1] - x[0])) == pytest.approx(1, abs=1e-10)


def test_the_cross_entropy_is_the_integral_over_x():
    true, other = MODELS["smooth"], MODELS["plateau"]

    def integrand(t: float) -> float:
        at = torch.tensor([t], dtype=torch.float64)
        return float(-density_of(true, FINE, at) * density_of(other, FINE, at).log())

    expected = sum(quad(integrand, a, a + 4, epsabs=1e-8)[0] for a in range(-8, 12, 4))
    for resolution in (2, 3):
        x = toy_grid.observations(FINE, resolution)
        densities = (density_of(model, FINE, x)[None] for model in (true, other))
        found = toy_grid.cross_entropy(*densities, float(x[1] - x[0]))
        assert found.shape == (1, 1)
        assert float(found) == pytest.approx(expected, abs=1e-8)


def test_a_model_without_density_where_the_data_are_is_bad_but_finite():
    true, other = torch.tensor([[0.5, 0.5]]).double(), torch.tensor([[1.0, 0.0], [0.5, 0.5]]).double()
    bad, good = toy_grid.cross_entropy(true, other, 1.0)[0].tolist()
    assert good == pytest.approx(math.log(2))
    assert 300 < bad < math.inf


def search_model(kept: int = 60, seeds: int = 2, grid: Grid = GRID, simulations: int = SIMULATIONS) -> toy_grid.Model:
    config = toy_grid.Config(grid=grid, simulations=simulations, kept=kept)
    return toy_grid.Model(config, {}, [torch.Generator()] * seeds)


def searched(dataset: Dataset, **changes: Any) -> toy_grid.Model:
    split = dataset["train"]
    model = search_model(simulations=len(split), **changes)
    with torch.no_grad():
        loss = toy_grid.Loss(name="exhaustive")
        model.begin_stage(loss, DeviceSplit(split, model.n_seeds, torch.device("cpu")), [])
    return model


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load(NOWHERE, Config(grid=GRID, simulations=SIMULATIONS), [0, 1])


@pytest.fixture(scope="module")
def model(dataset: Dataset) -> toy_grid.Model:
    return searched(dataset)


@pytest.fixture(scope="module")
def measurement(dataset: Dataset, model: toy_grid.Model) -> Any:
    return ToyLikelihood(profile_points=10)(run_of(dataset, model))


def run_of(dataset: Dataset, model: toy_grid.Model) -> Any:
    return SimpleNamespace(model=lambda: model, dataset=dataset, run=SimpleNamespace(seeds=model.n_seeds))


def true_model(dataset: Dataset, seed: int, simulation: int) -> ToyModel:
    split = dataset["train"]
    number = split["components"].of_seed(seed)[simulation]
    weights, means, decoder = (split[name].of_seed(seed)[simulation] for name in ("weights", "means", "decoder"))
    return ToyModel(weights[:number], means[:number], decoder)


def test_the_likelihood_is_lowest_at_the_truth_where_it_is_the_entropy(dataset, model):
    assert model.likelihood.shape == (2, SIMULATIONS, 60)
    assert (model.likelihood.diff() >= 0).all()
    np.testing.assert_allclose(model.likelihood[..., 0], model.entropy, atol=1e-12)
    density = density_of(true_model(dataset, 1, 5), GRID, model.x)
    expected = -float((density * density.log()).nansum() * model.step)
    assert float(model.entropy[1, 5]) == pytest.approx(expected, abs=1e-12)


SMALL = dataclasses.replace(GRID, means=(-1, 1), alpha=(0, 1), beta=(-1, 1), pi=(0, 1))


def brute_force(true: ToyModel, x: torch.Tensor, step: float) -> tuple[float, int]:
    """Return the lowest negative log-likelihood over all parameter lists, and how many have the true density."""
    p, lowest, reached = density_of(true, SMALL, x), math.inf, 0
    number = len(true.weights)
    simplex = [row for row in itertools.product((0, 0.5, 1), repeat=number) if sum(row) == 1]
    mixtures = list(itertools.product(simplex, itertools.product(SMALL.means, repeat=number)))
    weights, means = (torch.tensor(part, dtype=torch.float64) for part in zip(*mixtures, strict=True))
    for a1, a2, b1, b2, p1, p2 in itertools.product((0, 1), (0, 1), (-1, 1), (-1, 1), (0, 1), (0, 1)):
        decoder = torch.tensor([[a1, a2], [b1, b2], [p1, p2]], dtype=torch.float64)
        for q in toy_grid.densities(SMALL, x, decoder, weights, means):
            lowest = min(lowest, -float((p * q.log()).sum()) * step)
            reached += float((q - p).abs().sum()) * step < 1e-12
    return lowest, reached


def test_the_search_finds_what_a_loop_over_all_parameter_lists_finds():
    data = load(NOWHERE, Config(grid=SMALL, simulations=4), [0])
    model = searched(data, grid=SMALL, kept=8, seeds=1)
    found = ToyLikelihood(profile_points=1)(run_of(data, model))
    for simulation in (0, 2):
        lowest, reached = brute_force(true_model(data, 0, simulation), model.x, model.step)
        assert float(model.likelihood[0, simulation, 0]) == pytest.approx(lowest, abs=1e-12)
        assert found.arrays["lists"][0, simulation] == reached


def test_models_and_parameter_lists_are_all_counted(model):
    assert model.n_parameter_lists(2) == 3 * 3**2 * 3**6
    assert model.n_parameter_lists(3) == 6 * 3**3 * 3**6
    assert model.n_models(2) == model.n_models(3) == (3 + 3) * len(model.decoders.lists)


def test_a_truth_with_two_components_is_searched_among_models_with_two():
    grid = dataclasses.replace(GRID, weight_steps=3)
    data = load(NOWHERE, Config(grid=grid, simulations=4), [0])
    model = searched(data, grid=grid, seeds=1)
    lists = priors(grid).lists
    assert (lists[2][model.prior[0, :2]] > 0).all()
    assert (lists[2][model.prior[0, 2:]] == 0).any()
    assert model.n_models(2) < model.n_models(3)


def test_a_seed_is_searched_as_if_alone(dataset, model):
    split = dataset["train"]
    alone = Split({name: Field(field.values[1:], None, True) for name, field in split.fields.items()})
    one = searched(Dataset({"train": alone}, "simulated"), seeds=1)
    np.testing.assert_allclose(one.likelihood[0], model.likelihood[1], atol=1e-13)
    np.testing.assert_array_equal(one.entropy[0], model.entropy[1])


def test_chunks_do_not_change_what_is_found(dataset, model, monkeypatch):
    monkeypatch.setattr(toy_grid, "_CHUNK", 1)
    again = searched(dataset)
    np.testing.assert_allclose(again.likelihood, model.likelihood, atol=1e-13)


def test_a_searched_model_is_rebuilt_from_its_state(dataset, model):
    again = search_model()
    assert torch.isnan(again.entropy).all()
    again.load_state_dict(model.state_dict())
    found = ToyLikelihood(profile_points=4)(run_of(dataset, again))
    np.testing.assert_array_equal(found.metrics["n_success"], expected_success(dataset))


def test_wrong_input_is_refused(dataset):
    with pytest.raises(ValueError, match="epochs: 0"):
        search_model().loss({}, toy_grid.Loss(name="exhaustive"), [])
    with pytest.raises(ValueError, match="kept is 100000, but the grid has only"):
        search_model(kept=100_000)
    with pytest.raises(ValueError, match="a kink at -1 is 20 component_sd away from a mean of 1"):
        search_model(grid=dataclasses.replace(GRID, component_sd=0.1))
    split = DeviceSplit(dataset["train"], 2, torch.device("cpu"))
    with pytest.raises(ValueError, match="simulations is 7, but the data has 24"):
        search_model(simulations=7).begin_stage(toy_grid.Loss(name="exhaustive"), split, [])
    with pytest.raises(ValueError, match="is not on the grid"):
        other = dataclasses.replace(GRID, means=(-1, 0, 0.5))
        search_model(grid=other).begin_stage(toy_grid.Loss(name="exhaustive"), split, [])


SLOPE = [[1, -0.5], [1, -1], [0.5, 1]]
"""Decoder with slopes 0.5, 1.5 and 1."""

EQUIVALENT = {
    "components in another order": ([0.7, 0.3], [2, -1], SLOPE, "same"),
    "neurons in another order": ([0.3, 0.7], [-1, 2], [[-0.5, 1], [-1, 1], [1, 0.5]], "same"),
    "scale moved from beta and pi to alpha": ([0.3, 0.7], [-1, 2], [[2, -0.25], [0.5, -2], [0.25, 2]], "same"),
    "component of weight zero": ([0.3, 0, 0.7], [-1, 9, 2], SLOPE, "same"),
    "weight shared by two components": ([0.3, 0.2, 0.5], [-1, 2, 2], SLOPE, "same"),
    "reflection": ([0.3, 0.7], [1, -2], [[1, -0.5], [-1, 1], [0.5, 1]], "affine"),
    "shift": ([0.3, 0.7], [0, 3], [[1, -0.5], [1, -1], [-0.5, 2]], "affine"),
    "reflection and shift": ([0.7, 0.3], [-3, 0], [[1, -0.5], [-1, 1], [-0.5, 2]], "affine"),
    "reflected prior alone": ([0.3, 0.7], [1, -2], SLOPE, "different"),
    "reflected decoder alone": ([0.3, 0.7], [-1, 2], [[1, -0.5], [-1, 1], [0.5, 1]], "different"),
    "other weights": ([0.4, 0.6], [-1, 2], SLOPE, "different"),
    "scaled prior and decoder": ([0.3, 0.7], [-2, 4], [[1, -0.5], [0.5, -0.5], [0.5, 1]], "different"),
    "a constant added": ([0.3, 0.7], [-1, 2], [[1, -0.5], [1, -1], [0.6, 1]], "different"),
}


@pytest.mark.parametrize("name", EQUIVALENT)
def test_equivalent_models_are_told_from_others(name):
    true = model_of([0.3, 0.7], [-1, 2], SLOPE)
    *parts, expected = EQUIVALENT[name]
    assert relation(true, model_of(*parts)) == expected
    assert relation(model_of(*parts), true) == expected


def test_a_neuron_without_effect_does_not_matter():
    single = model_of([0.5, 0.5], [0, 1], [[1, 0], [1, 1], [0, 0]])
    for decoder in ([[0, 1], [-1, 1], [1, 0]], [[1, 1], [1, 0], [0, -1]], [[1, 2], [1, 0], [0, 0]]):
        assert relation(single, model_of([0.5, 0.5], [0, 1], decoder)) == "same"
    split = model_of([0.5, 0.5], [0, 1], [[0.25, 0.75], [1, 1], [0, 0]])
    assert relation(single, split) == "same"
    assert relation(single, model_of([0.5, 0.5], [0, 1], [[1, 1], [1, 0], [0, 1]])) == "different"


def test_behind_a_constant_decoder_all_priors_are_alike():
    constant = model_of([0.5, 0.5], [0, 1], [[1, 0], [0, 1], [0.5, 1]])
    assert constant.is_constant
    assert not constant.is_even
    cancelled = [[1, 1], [0, 0], [0.25, 0.25]]
    assert relation(constant, model_of([1], [-3], cancelled)) == "constant"
    assert relation(constant, model_of([0.5, 0.5], [0, 1], [[1, 0], [0, 1], [1, 1]])) == "different"
    assert relation(constant, model_of([0.5, 0.5], [0, 1], SLOPE)) == "different"
    assert relation(model_of([0.5, 0.5], [0, 1], SLOPE), constant) == "different"
    assert model_of([1], [0], [[1, -1], [1, 1], [2, 2]]).is_constant


ABSOLUTE = [[1, 1], [1, -1], [0, 0]]


def test_one_reflected_component_behind_an_even_decoder_is_another_model():
    """The example of Remark 3.6: |Z| has the same law, yet no affine map takes one prior to the other."""
    third = [1 / 3] * 3
    one, other = (model_of(third, means, ABSOLUTE) for means in ([-2, -1, 3], [-2, 1, 3]))
    x = toy_grid.observations(FINE, 3)
    np.testing.assert_allclose(density_of(one, FINE, x), density_of(other, FINE, x), atol=1e-15)
    assert relation(one, other) == "different"
    assert relation(one, model_of(third, [2, 1, -3], ABSOLUTE)) == "affine"


@pytest.mark.parametrize(
    ("decoder", "even"),
    [
        (ABSOLUTE, True),
        ([[0.5, 1], [2, -1], [0, 0]], True),
        ([[-1, -1], [1, -1], [-1, 3]], True),
        ([[1, 1], [1, -0.5], [0, 0]], False),
        ([[1, -1], [1, -1], [0, 0]], False),
        ([[1, -1], [1, 1], [0, -1]], False),
        ([[1, 0], [1, 1], [0, 0]], False),
        (SLOPE, False),
    ],
)
def test_even_decoders_are_recognised(decoder, even):
    assert model_of([1], [0], decoder).is_even == even


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([1, -1]), st.integers(-3, 3), st.sampled_from([0.5, 1.0, 3.0]))
def test_a_model_seen_through_an_affine_map_is_equivalent_and_has_the_same_density(seed, sign, shift, scale):
    rng = np.random.default_rng(seed)
    alpha, beta, pi = (rng.choice([-1, -0.5, 0, 0.5, 1], 2) for _ in range(3))
    true = model_of(rng.dirichlet([1, 1, 1]), rng.choice(FINE.means, 3), [alpha, beta, pi])
    image = [alpha / scale, sign * scale * beta, scale * (pi - sign * shift * beta)]
    other = model_of(true.weights, sign * true.means + shift, image)
    assert relation(true, other) in ("same", "affine", "constant")
    x = toy_grid.observations(FINE, 3)
    np.testing.assert_allclose(density_of(true, FINE, x), density_of(other, FINE, x), atol=1e-13)


def expected_success(dataset: Dataset) -> list[int]:
    """Return the successes of each seed: only an even decoder lets a single component be reflected."""
    successes = []
    for seed in range(2):
        truths = [true_model(dataset, seed, simulation) for simulation in range(SIMULATIONS)]
        successes.append(sum(not fails(true) for true in truths))
    return successes


def fails(true: ToyModel) -> bool:
    """Return whether reflecting a part of the prior about the decoder's axis gives another prior on the grid."""
    if not true.is_even:
        return False
    means, weights = true.measure
    for axis in {float(a + b) / 2 for a, b in itertools.product(true.kinks, true.kinks)}:
        reflected = true.decoder.copy()
        reflected[1], reflected[2] = -reflected[1], reflected[2] + 2 * axis * reflected[1]
        if relation(model_of([1], [0], true.decoder), model_of([1], [0], reflected)) != "same":
            continue
        for moved in itertools.product(range(3), repeat=len(means)):  # in halves of each weight
            atoms = np.concatenate([means, 2 * axis - means])
            shares = np.concatenate([weights * (2 - np.array(moved)), weights * moved]) / 2
            held = shares > 0
            on_grid = np.isin(atoms[held], GRID.means).all() and np.allclose(2 * shares % 1, 0)
            few = len(np.unique(atoms[held])) <= len(true.weights)
            if on_grid and few and relation(true, model_of(shares, atoms, true.decoder)) == "different":
                return True
    return False


def test_every_failure_is_a_reflected_component_behind_an_even_decoder(dataset, measurement):
    np.testing.assert_array_equal(measurement.metrics["n_success"], expected_success(dataset))
    assert sum(measurement.metrics["n_success"]) < 2 * SIMULATIONS, "the grid is coarse enough for failures"
    failed = measurement.arrays["success"] == 0
    assert (measurement.arrays["different"] > 0).tolist() == failed.tolist()
    assert measurement.arrays["cases"][failed][:, 3].all()


def test_what_is_measured_is_clear_cut_and_complete(measurement, model):
    metrics = measurement.metrics
    assert metrics["n_simulations"] == [SIMULATIONS]
    assert metrics["largest_minimiser_distance"][0] < 1e-14
    assert metrics["smallest_other_distance"][0] > 1e-6
    assert metrics["smallest_other_gap"][0] > 1e-12
    assert np.abs(metrics["lowest_gap"]).max() < 1e-12
    assert metrics["lowest_profile_gap"][0] > -1e-12
    assert (measurement.arrays["minimisers"] >= 1).all()
    assert metrics["n_parameter_lists_3"] == [model.n_parameter_lists(3)]
    constant = measurement.arrays["cases"][..., 2] == 1
    assert (measurement.arrays["minimisers"][constant] == len(model.priors.weights)).all()


def test_a_list_that_is_too_short_is_an_error(dataset):
    short = searched(dataset, kept=2)
    with pytest.raises(ValueError, match="raise the model's setting 'kept'"):
        ToyLikelihood()(run_of(dataset, short))


@pytest.mark.parametrize("parameter", range(len(PARAMETERS)))
def test_a_profile_is_the_likelihood_with_one_parameter_changed(parameter):
    true = MODELS["plateau"]
    x = toy_grid.observations(FINE, 3)
    values, likelihood = profile(FINE, x, true, parameter, 4)
    name, position = PARAMETERS[parameter].split("_")
    grid = FINE.means if name == "mu" else getattr(FINE, name)
    assert set(grid) <= set(values.tolist())
    assert values[0] == grid[0] - (grid[1] - grid[0])
    assert values[-1] == grid[-1] + (grid[-1] - grid[-2])
    p = density_of(true, FINE, x)
    for index in (0, 5, len(values) - 1):
        parts = [part.copy() for part in true.parameters]
        changed = parts[2] if name == "mu" else parts[0][("alpha", "beta", "pi").index(name)]
        changed[int(position) - 1] = values[index]
        q = toy_grid.densities(FINE, x, *(torch.from_numpy(part) for part in parts))
        expected = -float((p * q.clamp_min(1e-300).log()).sum() * (x[1] - x[0]))
        assert likelihood[index] == pytest.approx(expected, abs=1e-10)
    truth = (true.means if name == "mu" else true.decoder[("alpha", "beta", "pi").index(name)])[int(position) - 1]
    assert truth in values[likelihood <= likelihood.min() + 1e-10]


def curve(simulation: int, parameter: int, likelihood: Any) -> Profile:
    values = np.linspace(-2, 2, len(likelihood))
    return Profile(simulation, parameter, 0.0, values, np.array(likelihood, dtype=float))


def test_local_minima_are_counted_away_from_the_ends_and_profiles_chosen_by_them():
    z = np.linspace(-2, 2, 401)
    wells = (z**2 - 1) ** 2
    assert (curve(0, 0, wells).minima, curve(0, 0, wells).barrier) == (2, pytest.approx(1))
    np.testing.assert_allclose(curve(0, 0, wells).lowest, [-1, 1])
    assert (curve(0, 0, z).minima, curve(0, 0, z**2).minima, curve(0, 0, 0 * z).minima) == (0, 1, 0)
    assert curve(0, 0, z**2).barrier == 0
    tilted = wells + 0.1 * z
    assert 0.8 < curve(0, 0, tilted).barrier < 1
    assert curve(0, 0, wells * 1e-4).minima == 0
    waves = np.cos(4 * np.pi * z / 2)
    profiles = [curve(0, 0, wells), curve(1, 1, waves), curve(1, 2, 2 * wells), curve(2, 0, tilted), curve(3, 3, z**2)]
    chosen = most_minima(profiles, 3)
    assert [(one.simulation, one.parameter) for one in chosen] == [(1, 1), (0, 0), (3, 3)]
    found = arrays(chosen)
    np.testing.assert_array_equal(found["profile_minima"], [4, 2, 1])
    np.testing.assert_array_equal(found["profile_0"][1], waves)


def result_of(measurement: Any) -> RunResult:
    metrics = {name: [float(value) for value in values] for name, values in measurement.metrics.items()}
    return RunResult(metrics, measurement.arrays, {})


def test_the_measurement_can_be_written(measurement, tmp_path):
    write_measurement(measurement, tmp_path / "metrics.json", tmp_path / "arrays.safetensors")


def test_the_table_counts_what_was_measured(measurement):
    table = table_toy({"mle_toy/main": result_of(measurement)})  # type: ignore[arg-type]
    every = table[table["True model"] == "all"]
    assert every["J"].tolist() == ["2", "3"]
    assert every["Simulations (2 seeds)"].astype(int).sum() == 2 * SIMULATIONS
    successes = every["Every global minimiser equivalent to the truth"].astype(int).sum()
    assert successes == sum(measurement.metrics["n_success"])
    cases = measurement.arrays["cases"][:, : SIMULATIONS // 2]
    even = table[(table["J"] == "2") & table["True model"].str.contains("even")]
    assert even["Simulations (2 seeds)"].tolist() == [str(cases[..., 3].sum())]


def test_the_figure_has_a_panel_for_each_profile(measurement):
    with style():
        figure = fig1({"mle_toy/main": result_of(measurement)})  # type: ignore[arg-type]
        names = [f"$\\{PARAMETERS[parameter]}$" for parameter in measurement.arrays["profile_parameter"]]
        assert [panel.get_xlabel() for panel in figure.axes] == names
        assert len(names) == 3
        for index, panel in enumerate(figure.axes):
            truth, *lowest = (float(line.get_xdata()[0]) for line in panel.lines[1:])
            assert truth == measurement.arrays["profile_truth"][index]
            assert lowest == measurement.arrays[f"profile_lowest_{index}"].tolist()


def test_table_and_figure_do_without_torch():
    code = "import sys, neumix.papers.identifiability.toy_figures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
