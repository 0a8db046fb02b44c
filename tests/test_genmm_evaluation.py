"""What is measured on GenMM and LatMM, with models and scores whose results are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neumix.data import class_tuples, flow_images
from neumix.data.dataset import Dataset
from neumix.measured import MeasuredRun, read_curves
from neumix.papers.genmm.classification import (
    Classification,
    accuracies_of_first_classes,
    reliability,
    unseen_class_auroc,
)
from neumix.papers.genmm.generation import Classifier, Generation, interpolate
from neumix.papers.genmm.likelihood import LikelihoodCurve
from neumix.run import Run
from neumix.settings import parse
from neumix.trained import TrainedRun, build_model

FLOW = {"name": "genmm", "generators": 3, "steps": 2, "hidden": 4}
STAGES = {"main": {"loss": {"name": "em"}, "epochs": 3, "batch_size": 50}}
DIGITS = {"name": "flow_images", "source": "digits", "train": 80, "test": 60}


def make_run(model: dict[str, Any], data: dict[str, Any], measure: dict[str, Any], **changes: Any) -> Run:
    content = {
        "paper": "genmm",
        "experiment": "toy",
        "name": "main",
        "data": data,
        "model": model,
        "stages": STAGES,
        "seeds": 1,
        "budget": "full",
        "dataset": "digits",
        "measure": measure,
    }
    return parse(Run, {**content, **changes}, "test")


def images(**changes: Any) -> Dataset:
    settings = {key: value for key, value in {**DIGITS, **changes}.items() if key != "name"}
    return flow_images.load(Path(), parse(flow_images.Config, settings, "test"), range(1))


def weights_of(run: Run, dataset: Dataset, places: tuple[str, ...] = ("main",)) -> dict[str, torch.Tensor]:
    """Return weights away from their start, so that generators differ."""
    generator = torch.Generator().manual_seed(3)
    state = build_model(run, dataset).state_dict()
    noisy = {
        key: value + 0.02 * torch.randn(value.shape, generator=generator)
        if value.is_floating_point() and "log_weights" not in key and value.numel()
        else value
        for key, value in state.items()
    }
    return {f"{place}/{key}": value for place in places for key, value in noisy.items()}


def classifier_run() -> TrainedRun:
    run = make_run(
        {"name": "resnet", "width": 4, "stages": 2, "features": 8},
        DIGITS,
        {"name": "classifier"},
        experiment="features",
        stages={"main": {**STAGES["main"], "loss": {"name": "cross_entropy"}}},
    )
    dataset = images()
    return TrainedRun(run, dataset, {f"main/{k}": v for k, v in build_model(run, dataset).state_dict().items()})


def generation_run(images_: int = 30) -> MeasuredRun:
    run = make_run(
        FLOW, DIGITS, {"name": "generation", "needs": ["features/main"], "images": images_, "evaluations": 2}
    )
    dataset = images()
    return MeasuredRun(run, dataset, weights_of(run, dataset), None, {"features/main": classifier_run()})


def test_accuracy_as_classes_are_added() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    scores = np.array([[5, 1, 9], [1, 5, 0], [0, 3, 1], [4, 3, 0], [0, 9, 1], [0, 0, 1]], dtype=float)
    # Alone class 0 is right; with class 1 the second and fourth point are wrong; with class 2 the first one as well.
    np.testing.assert_allclose(accuracies_of_first_classes(scores, labels), [1, 2 / 4, 2 / 6])


def test_reliability_of_posteriors_that_mean_what_they_say() -> None:
    rng = np.random.default_rng(0)
    posterior = rng.dirichlet([1, 1, 1], 40_000)
    labels = (posterior.cumsum(1) > rng.random((len(posterior), 1))).argmax(1)
    bins = reliability(np.log(posterior) + rng.normal(size=(len(posterior), 1)), labels, 10)
    assert bins["share"].sum() == pytest.approx(1)
    assert bins["share"][:3].sum() == 0  # the highest of three posteriors is at least a third
    filled = bins["share"] > 0.01
    np.testing.assert_allclose(bins["accuracy"][filled], bins["confidence"][filled], atol=0.03)


def test_an_unseen_class_is_told_by_the_likelihood_under_the_others() -> None:
    labels = np.repeat([0, 1, 2], 4)
    scores = np.full((12, 3), -10.0)
    scores[np.arange(12), labels] = 0
    np.testing.assert_allclose(unseen_class_auroc(scores, labels), 100)
    np.testing.assert_allclose(unseen_class_auroc(np.zeros((12, 3)), labels), 50)


def test_curves_are_read_for_every_seed(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("stage,epoch,loss_mean,loss_0,loss_1\nmain,1,2,1,3\nmain,2,1,0.5,1.5\n")
    np.testing.assert_array_equal(read_curves(path, "loss"), [[1, 3], [0.5, 1.5]])
    with pytest.raises(ValueError, match="no column 'held_out_0'"):
        read_curves(path, "held_out")
    with pytest.raises(ValueError, match="reads_history"):
        read_curves(None, "loss")


@torch.no_grad()
def test_likelihood_of_training_held_out_and_other_images(tmp_path: Path) -> None:
    run = make_run(FLOW, {**DIGITS, "other": "digits"}, {"name": "likelihood"})
    dataset = images(other="digits")
    history = tmp_path / "history.csv"
    history.write_text("epoch,loss_0,held_out_0\n1,3.0,3.5\n2,2.0,2.5\n3,2.25,2.75\n")
    trained = MeasuredRun(run, dataset, weights_of(run, dataset), history)
    found = LikelihoodCurve(images=40)(trained)
    assert found.metrics["lowest_nll"] == [2.0]
    assert found.metrics["lowest_epoch"] == [2.0]
    assert found.metrics["last_held_out_nll"] == [2.75]
    np.testing.assert_allclose(found.metrics["effective_components"], 3, rtol=1e-6)
    np.testing.assert_allclose(found.metrics["other_auroc"], 50, atol=1e-9)  # the same images
    assert found.metrics["latent_share"] == [0.25]
    model = trained.model()
    x = torch.from_numpy(dataset["train"]["x"].values[:40])
    plain = model.nats_per_dimension(x)[0, 0].item()
    assert found.metrics["train_nll"][0] == pytest.approx(plain, abs=0.5)  # noise of a level changes little
    assert found.metrics["train_nll"][0] != plain


@torch.no_grad()
def test_interpolation_begins_and_ends_with_the_images() -> None:
    trained = generation_run()
    model = trained.model()
    first, last = (torch.from_numpy(trained.dataset["test"]["x"].values[part]) for part in (slice(5), slice(5, 10)))
    torch.testing.assert_close(interpolate(model, first, last, 1.0), first, atol=1e-4, rtol=0)
    torch.testing.assert_close(interpolate(model, first, last, 0.0), last, atol=1e-4, rtol=0)
    nearer = model.responsibilities_of(first)[0, 0].argmax(1)
    given = interpolate(model, first, last, 0.6, nearer)
    torch.testing.assert_close(given, interpolate(model, first, last, 0.6))
    other = interpolate(model, first, last, 0.6, (nearer + 1) % 3)
    assert not torch.allclose(given, other, atol=1e-3)


@torch.no_grad()
def test_generation_scores_samples_beside_real_images() -> None:
    found = Generation(needs=("features/main",), images=30, evaluations=2)(generation_run())
    for name in ("inception_score", "fid", "mmd", "one_nn", "real_fid"):
        assert len(found.metrics[name]) == 2
        assert found.metrics[name][0] != found.metrics[name][1], "evaluations have samples and images of their own"
    assert found.metrics["not_finite_share"] == [0.0]
    assert found.arrays["samples"].shape == (30, 8, 8)
    for rule in ("responsible", "random", "within"):
        assert found.arrays[f"interpolation_{rule}"].shape == (12, 10, 8, 8)
    np.testing.assert_array_equal(
        found.arrays["interpolation_responsible"][[0, -1]], found.arrays["interpolation_random"][[0, -1]]
    )
    first = found.arrays["interpolation_responsible"][0]
    np.testing.assert_array_equal(np.roll(first, -1, 0), found.arrays["interpolation_responsible"][-1])
    again = Generation(needs=("features/main",), images=30, evaluations=2)(generation_run())
    assert found.metrics["fid"] == again.metrics["fid"]


@torch.no_grad()
def test_the_classifier_s_accuracy_is_that_of_its_labels() -> None:
    trained = classifier_run()
    found = Classifier()(trained)
    x = torch.from_numpy(trained.dataset["test"]["x"].values)[None]
    labels = trained.dataset["test"]["y"].values
    expected = (trained.model().log_probabilities(x)[0].argmax(1).numpy() == labels).mean()
    assert found.metrics["test_accuracy"] == pytest.approx([expected])


@torch.no_grad()
def test_classification_is_by_the_highest_density() -> None:
    data = {"name": "class_tuples", "source": "digits", "limit": 10, "test": 50}
    settings = parse(class_tuples.Config, {k: v for k, v in data.items() if k != "name"}, "test")
    dataset = class_tuples.load(Path(), settings, range(2))
    stages = {"main": {**STAGES["main"], "snapshots": [1]}}
    run = make_run(FLOW, data, {"name": "classification"}, seeds=2, stages=stages)
    trained = TrainedRun(run, dataset, weights_of(run, dataset, ("main", "main@1")))
    found = Classification(train_points=20, bins=5)(trained)
    x, y = (torch.from_numpy(dataset["test"][name].values) for name in ("x", "y"))
    density = trained.model().log_prob(x)  # (S, C, N)
    expected = (density.argmax(1) == y).double().mean(1).numpy()
    np.testing.assert_allclose(found.metrics["accuracy"], expected)
    np.testing.assert_allclose(found.metrics["accuracy@1"], expected)
    assert found.arrays["accuracy_by_classes"].shape == (2, 10)
    np.testing.assert_allclose(found.arrays["accuracy_by_classes"][:, -1], expected)
    own = density.gather(1, y.expand(2, 1, -1))[:, 0].mean(1).double().numpy()
    np.testing.assert_allclose(found.metrics["test_nll"], -own / 64 + np.log(256), rtol=1e-5)
