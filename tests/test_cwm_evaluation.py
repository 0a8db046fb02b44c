"""What is measured on models of densities, with models whose scores are known exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neumix.data import image_density, plane_targets
from neumix.data.dataset import Dataset, Field, Split
from neumix.papers.cwm.density import ImageDensity
from neumix.papers.cwm.variational import VariationalFit
from neumix.run import Run
from neumix.settings import parse
from neumix.targets import Mixture, target
from neumix.trained import TrainedRun, build_model

SEEDS, ALPHA = 3, 0.05
LOGISTIC = {
    "name": "cwm",
    "components": 1,
    "hidden": None,
    "maps": {"name": "diagonal"},
    "base": "logistic",
    "spread": 0,
}
NSF = {"name": "coupling_flow", "univariate": "spline", "transforms": 3, "hidden": [4]}
STAGES = {"main": {"loss": {"name": "nll"}, "epochs": 4, "batch_size": 50, "snapshots": [1, 2]}}


def make_run(model: dict[str, Any], data: dict[str, Any], measure: str, **stages: Any) -> Run:
    content = {
        "paper": "cwm",
        "experiment": "toy",
        "name": "main",
        "data": data,
        "model": model,
        "stages": stages or STAGES,
        "seeds": SEEDS,
        "budget": "full",
        "dataset": "simulated",
        "measure": {"name": measure},
    }
    return parse(Run, content, "test")


def uniform_image() -> Dataset:
    """Return samples of an image that is equally grey everywhere, which is the uniform density."""
    config = image_density.Config(source="sample_image", alpha=ALPHA)
    rng = np.random.default_rng(0)
    x, log_jacobian = image_density.to_logit(rng.random((SEEDS, 500, 2)), config.alpha)
    fields = {"x": x, "log_jacobian": log_jacobian, "log_density": np.zeros((SEEDS, 500))}
    test = Split({name: Field(values.astype(np.float32), per_seed=True) for name, values in fields.items()})
    image = Split({"image": Field(np.full((1, 4, 6), 0.5, np.float32))})
    return Dataset({"train": Split({"x": test["x"]}), "test": test, "image": image}, "grey")


def trained(run: Run, dataset: Dataset, places: tuple[str, ...]) -> TrainedRun:
    state = build_model(run, dataset).state_dict()
    return TrainedRun(run, dataset, {f"{place}/{key}": value for place in places for key, value in state.items()})


@torch.no_grad()
def test_the_score_of_a_logistic_model_on_a_uniform_image_is_exact() -> None:
    data = {"name": "image_density", "source": "sample_image", "alpha": ALPHA}
    run = make_run(LOGISTIC, data, "image_density")
    fitted = trained(run, uniform_image(), ("main@1", "main@2", "main"))
    found = ImageDensity(curve_points=100, model_samples=4000)(fitted)
    exact = 2 * np.log(1 - 2 * ALPHA)  # the logistic law in logit coordinates is uniform on the wider square
    np.testing.assert_allclose(found.metrics["mean_log_likelihood"], exact, atol=1e-5)
    np.testing.assert_allclose(found.metrics["gap_to_image"], -exact, atol=1e-5)
    np.testing.assert_allclose(found.metrics["standard_error"], 0, atol=1e-6)
    np.testing.assert_allclose(found.metrics["curve_main@1"], exact, atol=1e-5)
    np.testing.assert_allclose(found.metrics["share_outside"], 1 - np.exp(exact), atol=0.03)
    assert found.metrics["image_log_density"] == [0.0]
    np.testing.assert_allclose(found.arrays["density"], np.exp(exact), rtol=1e-4)
    assert found.arrays["samples"].shape == (4, 6)
    assert abs(found.arrays["samples"].sum() - 500) <= 1  # rounding may put a point on the very edge outside


@torch.no_grad()
def test_pictures_are_the_right_way_up() -> None:
    """A component in the upper left corner of the unit square is bright in the first rows and columns."""
    run = make_run(LOGISTIC, {"name": "image_density", "source": "sample_image", "alpha": ALPHA}, "image_density")
    fitted = trained(run, uniform_image(), ("main@1", "main@2", "main"))
    means = fitted.weights["main/maps.means"]
    means[:] = torch.tensor([-2.0, 2.0])
    density = ImageDensity(curve_points=10, model_samples=10)(fitted).arrays["density"]
    assert np.unravel_index(density.argmax(), density.shape) == (0, 0)


@torch.no_grad()
@pytest.mark.parametrize(("count", "extra"), [(False, 0), (True, 6)])
def test_masks_are_counted_on_request(count: bool, extra: int) -> None:
    run = make_run(NSF, {"name": "image_density", "source": "sample_image", "alpha": ALPHA}, "image_density")
    fitted = trained(run, uniform_image(), ("main@1", "main@2", "main"))
    metrics = ImageDensity(curve_points=10, model_samples=10, count_masks=count)(fitted).metrics
    values = 3 * ((1 + 1) * 4 + (4 + 1) * 23)
    assert metrics["n_trained_values"] == [values] and metrics["n_parameters"] == [values + extra]


@torch.no_grad()
def test_a_model_that_is_the_target_has_no_divergence() -> None:
    model = {"name": "cwm", "components": 5, "hidden": None, "maps": {"name": "full"}}
    run = make_run(model, {"name": "plane_targets", "target": "mixture", "train": 10, "test": 300}, "variational_fit")
    dataset = plane_targets.load(Path(), parse(plane_targets.Config, dict(run.data.settings), "test"), range(SEEDS))
    exact = target("mixture")
    assert isinstance(exact, Mixture)
    fitted = build_model(run, dataset)
    for seed in range(SEEDS):
        sds = [np.array(part.sd) for part in exact.components]
        correlations = [np.array([[1, part.correlation], [part.correlation, 1]]) for part in exact.components]
        covariances = np.stack([np.outer(sd, sd) * rho for sd, rho in zip(sds, correlations, strict=True)])
        means = torch.tensor([part.mean for part in exact.components])
        fitted.maps.start_from(seed, means, torch.from_numpy(covariances))
    fitted.classifier.make_constant(torch.tensor(exact.weights).log().expand(SEEDS, -1))
    weights = {f"main/{key}": value for key, value in fitted.state_dict().items()}
    found = VariationalFit(model_samples=400, grid=40)(TrainedRun(run, dataset, weights))
    for name in ("reverse_kl", "forward_kl"):
        np.testing.assert_allclose(found.metrics[name], 0, atol=1e-5)
    np.testing.assert_allclose(found.metrics["effective_share"], 1, atol=1e-5)
    np.testing.assert_allclose(found.arrays["density"], found.arrays["target_density"], rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_a_missed_mode_shows_in_the_forward_divergence() -> None:
    model = {"name": "cwm", "components": 1, "hidden": None, "maps": {"name": "diagonal"}, "spread": 0}
    run = make_run(model, {"name": "plane_targets", "target": "mixture", "train": 10, "test": 300}, "variational_fit")
    dataset = plane_targets.load(Path(), parse(plane_targets.Config, dict(run.data.settings), "test"), range(SEEDS))
    fitted = trained(run, dataset, ("main",))
    fitted.weights["main/maps.means"][:] = torch.tensor([-3.0, 2.0])  # the smallest of the five modes
    fitted.weights["main/maps.log_variances"][:] = 2 * np.log(0.4)
    metrics = VariationalFit(model_samples=2000, grid=5)(fitted).metrics
    assert min(metrics["forward_kl"]) > 2 * max(metrics["reverse_kl"]) > 0
    assert max(metrics["effective_share"]) < 0.9
