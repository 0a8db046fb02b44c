"""Estimators of expectations under a classifier weighted mixture against exact answers; their measure and items."""

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from figure_checks import assert_texts_apart, assert_texts_in_cells
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neumix import rendering
from neumix.closure import sources
from neumix.models.cwm import Config, Model
from neumix.papers.cwm import gradient_items
from neumix.papers.cwm.estimators import (
    Estimator,
    crude,
    gumbel_softmax,
    quadrature,
    rao_blackwell,
    reinforce,
    reinforce_leave_one_out,
)
from neumix.papers.cwm.gradients import GradientEstimators
from neumix.results import Measurement, RunResult, write_measurement
from neumix.run import Run
from neumix.settings import CatalogueError, parse
from neumix.targets import target
from neumix.trained import TrainedRun, build_model, load_dataset
from neumix.training import generators

COPIES, DRAWS = 120, 150
SOFT = functools.partial(gumbel_softmax, temperature=1.0)
HARD = functools.partial(gumbel_softmax, temperature=0.1)
EVERY: dict[str, Estimator] = {
    "rao_blackwell": rao_blackwell,
    "crude": crude,
    "reinforce": reinforce,
    "reinforce_leave_one_out": reinforce_leave_one_out,
    "soft": SOFT,
    "hard": HARD,
}
UNBIASED = ("rao_blackwell", "reinforce", "reinforce_leave_one_out")
EACH = pytest.mark.parametrize("name", EVERY)
NAMES = (
    "rao_blackwell",
    "rao_blackwell_equal",
    "reinforce",
    "reinforce_leave_one_out",
    "crude",
    "gumbel_softmax_0.5",
    "gumbel_softmax_0.1",
)
STATISTICS = (
    "gradient_bias",
    "gradient_bias_noise",
    "value_bias",
    "value_bias_noise",
    "gradient_variance",
    "gradient_mse",
    "value_variance",
    "evaluations",
)


def mixture(noise: Sequence[torch.Generator], dimension: int = 2, **changes: Any) -> Model:
    """Return a mixture whose classifier is far from constant."""
    defaults: dict[str, Any] = {"components": 3, "hidden": [4], "maps": {"name": "diagonal"}, "spread": 1.5}
    model = Model(parse(Config, {**defaults, **changes}, "test"), {"x": (dimension,)}, noise)
    with torch.no_grad():
        for parameter in model.classifier.parameters():
            parameter.mul_(2)
    return model


def copies(count: int) -> Model:
    """Return the same mixture several times, so that one call makes as many independent replicates."""
    return mixture([torch.Generator().manual_seed(5) for _ in range(count)])


def divergence(model: Model):
    log_target = target("banana").log_prob
    return lambda x: model.log_prob(x) - log_target(x)


def first_coordinate(x: Tensor) -> Tensor:
    return x[..., 0]


def gradient(model: Model, value: Tensor) -> Tensor:
    """Return the gradient of each seed by all of its own parameters, (S, P)."""
    parts = torch.autograd.grad(
        value.sum(), list(model.parameters()), retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return torch.cat([part.reshape(model.n_seeds, -1) for part in parts], 1).double()


@pytest.fixture(scope="module")
def exact() -> tuple[Tensor, Tensor]:
    """Return the value () and the gradient (P,) for the mixture of `copies`."""
    model = copies(1).double()
    value = quadrature(model, divergence(model), 96)
    return value.detach()[0], gradient(model, value)[0]


@pytest.fixture(scope="module")
def replicates() -> dict[str, tuple[Tensor, Tensor]]:
    """Return values (R,) and gradients (R, P) of every estimator."""
    model, found = copies(COPIES), {}
    for name, estimator in EVERY.items():
        value = estimator(model, divergence(model), DRAWS, generators(range(COPIES), name))
        found[name] = (value.detach().double(), gradient(model, value))
    return found


def scores(samples: Tensor, expected: Tensor) -> Tensor:
    """Return how many standard errors the mean over replicates (R, ...) is away from what is expected, (...)."""
    return (samples.mean(0) - expected) / (samples.std(0) / math.sqrt(len(samples)))


def distance(samples: Tensor, expected: Tensor) -> float:
    return float((samples.mean(0) - expected).norm() / expected.norm())


def noise_level(samples: Tensor, expected: Tensor) -> float:
    return float((samples.var(0).sum() / len(samples)).sqrt() / expected.norm())


@pytest.mark.parametrize("name", ["diagonal", "full"])
def test_quadrature_of_an_ordinary_mixture_is_known_in_closed_form(name):
    model = mixture(generators(range(2), "closed"), hidden=None, maps={"name": name}).double()
    with torch.no_grad():
        model.classifier.logits.copy_(torch.tensor([[0.5, -1.0, 0.3], [0.0, 2.0, 0.1]]))
    weights, means = model.classifier.logits.softmax(-1).detach(), model.maps.means.detach()[..., 0]
    value = quadrature(model, first_coordinate, 40)
    expected = (weights * means).sum(1)
    torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-7)
    of_logits, of_means = torch.autograd.grad(value.sum(), [model.classifier.logits, model.maps.means])
    torch.testing.assert_close(of_logits, weights * (means - expected[:, None]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(of_means[..., 0], weights, rtol=1e-9, atol=1e-9)


def test_quadrature_has_the_value_and_gradient_of_an_integral_of_the_density():
    model = mixture(generators(range(2), "line"), dimension=1).double()
    x = torch.linspace(-14, 14, 1501, dtype=torch.float64)[:, None].expand(2, -1, -1)

    def h(points: Tensor) -> Tensor:
        return (2 * points[..., 0]).sin() + 0.3 * model.log_prob(points)

    over_x = (model.log_prob(x).exp() * h(x)).sum(1) * 28 / 1500
    over_z = quadrature(model, h, 300)
    torch.testing.assert_close(over_z.double(), over_x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient(model, over_z), gradient(model, over_x), rtol=1e-6, atol=1e-7)


def test_quadrature_of_another_base_is_refused():
    model = mixture(generators(range(1), "base"), base="laplace")
    with pytest.raises(ValueError, match="made for the base 'normal'"):
        quadrature(model, first_coordinate, 8)


@pytest.mark.parametrize("name", UNBIASED)
def test_rao_blackwell_and_reinforce_have_the_exact_gradient_on_average(name, replicates, exact):
    values, gradients = replicates[name]
    assert abs(scores(values, exact[0])) < 4
    assert scores(gradients, exact[1]).abs().max() < 4.2
    assert distance(gradients, exact[1]) < 2.5 * noise_level(gradients, exact[1])


def test_taking_labels_for_constants_leaves_the_value_unbiased_and_the_gradient_biased(replicates, exact):
    values, gradients = replicates["crude"]
    assert abs(scores(values, exact[0])) < 4
    assert scores(gradients, exact[1]).abs().max() > 10
    assert distance(gradients, exact[1]) > 25 * noise_level(gradients, exact[1])


def test_bias_of_gumbel_softmax_is_clear_and_falls_with_the_temperature(replicates, exact):
    values, gradients = replicates["soft"]
    assert abs(scores(values, exact[0])) > 10
    assert scores(gradients, exact[1]).abs().max() > 10
    assert distance(replicates["hard"][1], exact[1]) < 0.5 * distance(gradients, exact[1])
    assert abs(replicates["hard"][0].mean() - exact[0]) < 0.5 * abs(values.mean() - exact[0])


def test_variances_of_the_value_are_those_of_the_law_of_total_variance(replicates, exact):
    model = copies(1).double()
    h = divergence(model)
    with torch.no_grad():
        total = quadrature(model, lambda x: (h(x) - exact[0]).square(), 96).item()
        within = quadrature(model, _conditional_variance(model, h), 96).item()
    assert within > 0.05 * total
    # The sample variance of R normal values has a relative standard deviation of sqrt(2 / R), 0.13 here.
    assert replicates["rao_blackwell"][0].var().item() * DRAWS == pytest.approx(total - within, rel=0.5)
    for name in ("crude", "reinforce", "reinforce_leave_one_out"):
        assert replicates[name][0].var().item() * DRAWS == pytest.approx(total, rel=0.5)


def _conditional_variance(model: Model, h):
    """Return an integrand whose mean is E Var(h | Z): all its values at a base point are the variance there."""

    def integrand(points: Tensor) -> Tensor:
        by_component = points.view(1, -1, model.components, 2)
        z = (by_component[:, :, 0] - model.maps.means[:, None, 0]) * (-0.5 * model.maps.log_variances[:, None, 0]).exp()
        weights = model.classifier.log_weights(z).exp()
        values = h(points).view(weights.shape)
        mean = (weights * values).sum(-1, keepdim=True)
        variance = (weights * (values - mean).square()).sum(-1, keepdim=True)
        return variance.expand(weights.shape).flatten(1)

    return integrand


def test_rao_blackwell_varies_less_than_estimators_that_draw_labels(replicates):
    variance = {name: gradients.var(0).sum() for name, (_, gradients) in replicates.items()}
    assert all(variance["rao_blackwell"] < variance[name] for name in UNBIASED[1:])
    assert replicates["rao_blackwell"][0].var() < replicates["crude"][0].var()


def test_rao_blackwell_is_a_sum_over_draws_and_components_in_loops():
    model = mixture(generators(range(2), "loops")).double()
    z = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    model.base_points = lambda size, noise: z  # type: ignore[method-assign]
    h = divergence(model)
    expected = []
    for seed in range(2):
        total = torch.zeros((), dtype=torch.float64)
        for point in z[seed]:
            weights = model.classifier.log_weights(point.expand(2, 1, 2))[seed, 0].softmax(0)
            for k in range(3):
                mean, log_variance = model.maps.means[seed, k], model.maps.log_variances[seed, k]
                x = point * torch.exp(log_variance / 2) + mean
                total = total + weights[k] * h(x.expand(2, 1, 2))[seed, 0] / 4
        expected.append(total)
    found = rao_blackwell(model, h, 4, generators(range(2), "unused"))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient(model, found), gradient(model, torch.stack(expected)), rtol=1e-8, atol=1e-10)


@EACH
def test_with_one_component_all_estimators_are_the_same(name):
    model = mixture(generators(range(2), "single"), components=1)
    h = divergence(model)
    expected, found = (one(model, h, 30, generators(range(2), "z")) for one in (rao_blackwell, EVERY[name]))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient(model, found), gradient(model, expected), rtol=1e-4, atol=1e-6)


@EACH
def test_seeds_depend_neither_on_the_others_parameters_nor_on_their_draws(name):
    model = mixture(generators(range(3), "apart"))
    value = EVERY[name](model, divergence(model), 20, generators([0, 1, 2], "z"))
    parts = torch.autograd.grad(value[1], list(model.parameters()), retain_graph=True)
    assert all((part[[0, 2]] == 0).all() for part in parts)
    assert all((part[1] != 0).any() for part in parts)
    other = EVERY[name](model, divergence(model), 20, generators([7, 1, 8], "z"))
    torch.testing.assert_close(other[1], value[1], rtol=0, atol=0)
    assert (other[[0, 2]] != value[[0, 2]]).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 20))
def test_scores_change_the_gradient_and_not_the_value(seed, size):
    model = mixture(generators([seed], "value"))
    h = divergence(model)
    values = {name: EVERY[name](model, h, size, generators([seed], "z")) for name in ("crude", *UNBIASED[1:])}
    for name in UNBIASED[1:]:
        assert values[name].item() == values["crude"].item()
        parts = list(model.maps.parameters())
        pathwise, found = (torch.autograd.grad(values[key], parts, retain_graph=True) for key in ("crude", name))
        assert all(map(torch.equal, pathwise, found))  # the maps have no part in how labels are drawn
    assert not torch.equal(*(gradient(model, values[name]) for name in ("crude", "reinforce")))


def test_a_baseline_makes_a_constant_added_to_h_harmless():
    model = mixture(generators(range(2), "constant"))
    h = divergence(model)

    def slope(estimator: Estimator, shift: float) -> Tensor:
        return gradient(model, estimator(model, lambda x: h(x) + shift, 25, generators(range(2), "z")))

    def change(estimator: Estimator) -> Tensor:
        return (slope(estimator, 1000) - slope(estimator, 0)).norm(dim=1)

    assert (change(reinforce_leave_one_out) < 0.01).all()
    assert (change(reinforce) > 10).all()


@pytest.mark.parametrize("name", UNBIASED[1:])
@pytest.mark.parametrize("size", [2, 5])
def test_each_draws_score_is_weighed_by_its_value_less_the_mean_of_the_others(name, size):
    model, seen = mixture(generators([2], "loops")), []

    def h(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.square().sum(-1)

    found = EVERY[name](model, h, size, generators([0], "z"))
    z = model.base_points(size, generators([0], "z"))
    label = (model.maps.inverse(z) - seen[0][:, :, None]).norm(dim=-1).argmin(2)[0]
    values = [point.square().sum().item() for point in seen[0][0]]
    total = torch.zeros(())
    for i in range(size):
        baseline = np.mean(values[:i] + values[i + 1 :]) if name == "reinforce_leave_one_out" else 0.0
        total = total + (values[i] - baseline) * model.classifier.log_weights(z)[0, i, label[i]] / size
    of_classifier = list(model.classifier.parameters())
    for a, b in zip(*(torch.autograd.grad(value, of_classifier) for value in (found.sum(), total)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_relaxed_samples_become_samples_of_the_mixture_as_the_temperature_falls():
    model, size = mixture(generators([3], "cold")), 20_000
    seen: list[Tensor] = []

    def h(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return first_coordinate(x)

    with torch.no_grad():
        gumbel_softmax(model, h, size, generators([4], "z"), temperature=1e-4)
        z = model.base_points(size, generators([4], "z"))
        points, weights = model.maps.inverse(z)[0], model.classifier.log_weights(z)[0].exp()
    labels = (points - seen[0][0][:, None]).norm(dim=-1).argmin(1)
    away = (points[torch.arange(size), labels] - seen[0][0]).norm(dim=1)
    assert (away > 1e-3).float().mean() < 2e-3  # near ties
    surprise = torch.nn.functional.one_hot(labels, 3) - weights
    assert scores(surprise, torch.zeros(3)).abs().max() < 4
    assert weights.std(0).min() > 0.02
    assert scores(surprise * z[0, :, :1], torch.zeros(3)).abs().max() < 4  # the right weights at each base point


def test_a_single_draw_has_no_others_to_leave_out():
    model = mixture(generators(range(1), "one"))
    with pytest.raises(ValueError, match="size of at least 2, found 1"):
        reinforce_leave_one_out(model, first_coordinate, 1, generators(range(1), "z"))


SMALL = {"draws": 7, "replicates": 6, "bias_evaluations": 30, "bias_replicates": 5, "nodes": 24}


def trained_run(name: str = "banana", **changes: Any) -> TrainedRun:
    model = {"name": "cwm", "components": 3, "hidden": [4], "maps": {"name": "diagonal"}, "spread": 2, **changes}
    stage = {"loss": {"name": "reverse_kl", "target": name}, "epochs": 1, "batch_size": 10, "learning_rate": 0.01}
    data = {"name": "plane_targets", "target": name, "train": 10, "test": 10}
    content = {
        "paper": "cwm",
        "experiment": "gradients",
        "name": name,
        "data": data,
        "model": model,
        "stages": {"main": stage},
        "seeds": 2,
        "budget": "full",
        "dataset": "simulated",
        "measure": {"name": "gradient_estimators", **SMALL},
    }
    run = parse(Run, content, "test")
    dataset = load_dataset(run, Path("unused"))
    weights = build_model(run, dataset).state_dict()
    return TrainedRun(run, dataset, {f"main/{key}": value for key, value in weights.items()})


@pytest.fixture(scope="module")
def measured() -> dict[str, Measurement]:
    with torch.no_grad():  # as measures are run
        return {name: GradientEstimators(**SMALL)(trained_run(name)) for name in ("banana", "ring", "mixture")}


def test_every_statistic_of_every_estimator_is_measured_for_each_seed(measured, tmp_path):
    for measurement in measured.values():
        expected = {f"{name}_{statistic}" for name in NAMES for statistic in STATISTICS}
        assert set(measurement.metrics) == expected | {"value", "gradient_norm", "quadrature_error"}
        for metric, values in measurement.metrics.items():
            assert len(values) == (1 if metric.endswith("evaluations") else 2)
        assert set(measurement.arrays) == {f"{name}_seconds" for name in NAMES}
        assert all(seconds.shape == (6,) and (seconds > 0).all() for seconds in measurement.arrays.values())
        write_measurement(measurement, tmp_path / "metrics.json", tmp_path / "arrays")  # refuses what is not finite


def test_evaluations_are_counted_and_equal_ones_are_no_more_than_the_others(measured):
    metrics = measured["banana"].metrics
    found = {name: metrics[f"{name}_evaluations"][0] for name in NAMES}
    assert (found.pop("rao_blackwell"), found.pop("rao_blackwell_equal")) == (21, 6)
    assert set(found.values()) == {7}


def test_metrics_are_the_same_in_every_evaluation_and_seconds_are_not_among_them(measured):
    again = GradientEstimators(**SMALL)(trained_run("ring"))
    for metric, values in measured["ring"].metrics.items():
        np.testing.assert_array_equal(again.metrics[metric], values)
    assert not [metric for metric in again.metrics if "second" in metric]


def test_metrics_are_those_of_the_replicates_in_the_run():
    """The crude estimator, replicated by hand, has the bias and variance that the measure states."""
    trained = trained_run("mixture")
    metrics = GradientEstimators(**SMALL)(trained).metrics
    model, double = trained.model(), trained.model().double()
    log_target = target("mixture").log_prob
    exact = quadrature(double, lambda x: double.log_prob(x) - log_target(x), 24)
    slope, norm = gradient(double, exact), gradient(double, exact).norm(dim=1)

    def sample(draws: int, replicate: int, purpose: str) -> Tensor:
        noise = generators(range(2), purpose, "crude", replicate)
        return gradient(model, crude(model, lambda x: model.log_prob(x) - log_target(x), draws, noise))

    few = torch.stack([sample(7, replicate, "gradient") for replicate in range(6)])
    many = torch.stack([sample(30, replicate, "gradient bias") for replicate in range(5)])
    squared = (few.mean(0) - slope).square().sum(1) / norm**2
    variance = few.var(0).sum(1) / norm**2
    expected = {
        "gradient_norm": norm,
        "crude_gradient_bias": (many.mean(0) - slope).norm(dim=1) / norm,
        "crude_gradient_bias_noise": (many.var(0).sum(1) / 5).sqrt() / norm,
        "crude_gradient_variance": variance,
        "crude_gradient_mse": squared + variance * 5 / 6,
    }
    for metric, numbers in expected.items():
        np.testing.assert_allclose(metrics[metric], numbers, rtol=1e-5)


@pytest.mark.parametrize("name", ["draws", "bias_evaluations"])
def test_fewer_draws_than_components_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must not be below the number of components, 3; found 2"):
        GradientEstimators(**{**SMALL, name: 2})(trained_run())


@pytest.mark.parametrize("settings", [{"temperatures": [0.0]}, {"replicates": 1}, {"node": 3}])
def test_settings_without_meaning_are_refused(settings):
    with pytest.raises(CatalogueError, match=next(iter(settings))):
        parse(GradientEstimators, settings, "test")


@pytest.fixture
def results(measured) -> dict[str, RunResult]:
    return {
        f"gradients/{name}": RunResult({k: list(v) for k, v in one.metrics.items()}, one.arrays, {})
        for name, one in measured.items()
    }


@pytest.fixture
def _style() -> Iterator[None]:
    with rendering.style():
        yield


def test_table_has_a_row_for_every_target_and_estimator(results):
    table = gradient_items.table_gradients(results)
    assert_texts_in_cells(table)
    assert len(table) == 3 * len(NAMES)
    assert list(table["Target"].unique()) == ["banana", "ring", "mixture"]
    unbiased = table.set_index("Estimator")["Unbiased gradient"].to_dict()
    assert [name for name, answer in unbiased.items() if answer == "yes"] == [
        "Rao-Blackwell (19)",
        "Rao-Blackwell (19), M/K draws",
        "REINFORCE",
        "REINFORCE, baseline",
    ]
    run = results["gradients/ring"]
    row = table[(table["Target"] == "ring") & (table["Estimator"] == "Gumbel-softmax, τ = 0.1")].iloc[0]
    variance = np.median(run.values("gumbel_softmax_0.1_gradient_variance"))
    assert float(row["Relative variance"]) == pytest.approx(variance, rel=1e-3)
    seconds = np.median(run.arrays["gumbel_softmax_0.1_seconds"])
    assert float(row["Milliseconds per gradient of 2 seeds"]) == pytest.approx(1000 * seconds, rel=1e-3)


@pytest.mark.usefixtures("_style")
@pytest.mark.parametrize("shown", [1, 2])
def test_figure_is_legible_and_shows_medians_and_ranges(results, shown):
    chosen = dict(list(results.items())[:shown])
    figure = gradient_items.fig_gradients(chosen)
    figure.supxlabel("Scale smoke: reduced budget (simulated).", fontsize=7)  # where the budget's note is written
    figure.canvas.draw()
    assert_texts_apart(figure)
    assert len(figure.axes) == 3 * shown
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(set(labels)) == len(NAMES)
    for row, run in enumerate(chosen.values()):
        bias, variance, cost = figure.axes[3 * row : 3 * row + 3]
        for index, name in enumerate(NAMES):
            span, marker, noise = bias.lines[3 * index : 3 * index + 3]
            values = run.values(f"{name}_gradient_bias")
            np.testing.assert_allclose(span.get_xdata(), [values.min(), values.max()])
            np.testing.assert_allclose(marker.get_xdata(), np.median(values))
            np.testing.assert_allclose(noise.get_xdata(), np.median(run.values(f"{name}_gradient_bias_noise")))
            assert all((line.get_ydata() == index).all() for line in (span, marker, noise))
            error = run.values(f"{name}_gradient_mse")
            np.testing.assert_allclose(cost.lines[2 * index].get_ydata(), [error.min(), error.max()])
        assert {axes.get_xscale() for axes in (bias, variance)} == {"log"}
        assert (cost.get_xscale(), cost.get_yscale()) == ("linear", "log")
    assert all(axes.get_xlabel() for axes in figure.axes[-3:])


def test_items_need_no_torch():
    texts = {path.name: path.read_text() for path in sources(gradient_items.__name__)}
    assert {"gradient_items.py", "rendering.py"} <= set(texts)
    assert not [name for name, text in texts.items() if "\nimport torch" in text or "\nfrom torch" in text]
