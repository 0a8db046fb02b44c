"""What is measured on fits of autoencoders, with models whose agreement is known."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neumix.data import pinwheel
from neumix.data.dataset import Dataset, Field, Split
from neumix.metrics.mixture_alignment import dist_aff_l2
from neumix.models import vade
from neumix.papers.identifiability.panels import component_panels
from neumix.papers.identifiability.stability import DrawSensitivity, LatentStability, prior_mixtures
from neumix.run import Run
from neumix.settings import parse
from neumix.trained import TrainedRun, build_model

NETWORK = {"encoder": [8], "decoder": [8], "activation": "leaky_relu", "likelihood": "gaussian", "noise_sd": 0.1}
FITS = 4


def make_run(**changes: Any) -> Run:
    content: dict[str, Any] = {
        "paper": "identifiability",
        "experiment": "toy",
        "name": "main",
        "data": {"name": "pinwheel", "size": 400},
        "model": {"name": "vade", "latent": 2, "components": 3, "network": NETWORK},
        "stages": {"main": {"loss": {"name": "elbo"}, "epochs": 4, "batch_size": 50, "snapshots": [1]}},
        "seeds": FITS,
        "budget": "full",
        "dataset": "simulated",
        "measure": {"name": "latent_stability"},
    }
    return parse(Run, {**content, **changes}, "test")


def trained(run: Run, copies: bool = False) -> TrainedRun:
    """Return a run whose fits differ, or are copies of the first up to the order of components."""
    dataset = pinwheel.load(Path(), parse(pinwheel.Config, dict(run.data.settings), "test"), range(run.seeds))
    model = build_model(run, dataset)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    for key, value in state.items():
        if key.startswith("prior."):
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(len(key))))
        if copies:
            value[:] = value[:1].clone()
            if key.startswith("prior."):
                for fit in range(run.seeds):
                    value[fit] = value[fit].roll(fit, 1).clone()  # the second axis is the component, after the facet
    weights = {f"{name}/{key}": value for name in ("main", "main@1") for key, value in state.items()}
    return TrainedRun(run, dataset, weights)


@torch.no_grad()
def measure(measured: TrainedRun, **settings: Any) -> Any:
    return LatentStability(**settings)(measured)


def test_copies_of_one_fit_agree_fully() -> None:
    found = measure(trained(make_run(), copies=True), dist=True).metrics
    for name in ("mcc_strong", "mcc_weak", "epoch_1_mcc_weak"):
        np.testing.assert_allclose(found[f"{name}_pairs"], 1, atol=1e-6)
        np.testing.assert_allclose(found[name], 1, atol=1e-6)
    for name in ("dist_aff_l2", "dist_aff_l2_refined"):
        np.testing.assert_allclose(found[f"{name}_pairs"], 0, atol=1e-5)
    assert found["n_pairs"] == [6] and found["n_ordered_pairs"] == [12]
    assert len(set(found["clustering_accuracy"])) == 1


def test_different_fits_agree_less_and_every_number_has_one_value_for_each_pair_or_fit() -> None:
    found = measure(trained(make_run()), dist=True).metrics
    assert len(found["mcc_strong_pairs"]) == 6 and len(found["dist_aff_l2_pairs"]) == 12
    assert len(found["mcc_strong"]) == len(found["dist_aff_l2"]) == len(found["clustering_accuracy"]) == FITS
    assert np.mean(found["mcc_strong"]) == pytest.approx(np.mean(found["mcc_strong_pairs"]))
    assert np.mean(found["dist_aff_l2"]) == pytest.approx(np.mean(found["dist_aff_l2_pairs"]))
    assert (np.array(found["dist_aff_l2_refined_pairs"]) <= np.array(found["dist_aff_l2_pairs"]) + 1e-9).all()
    low, high = found["mcc_weak_bootstrap"]
    assert low <= np.mean(found["mcc_weak_pairs"]) <= high


def test_correlation_between_coordinates_is_that_of_one_fit() -> None:
    fits = trained(make_run())
    found = measure(fits).metrics["mcc_within"]
    with torch.no_grad():
        codes = fits.model().codes(torch.from_numpy(fits.dataset["train"]["x"].values).expand(FITS, -1, -1)).numpy()
    np.testing.assert_allclose(found, [abs(np.corrcoef(*fit.T)[0, 1]) for fit in codes], rtol=1e-4)


def test_the_untrained_control_uses_the_initial_weights() -> None:
    run = make_run()
    fits = trained(run)
    fresh = TrainedRun(run, fits.dataset, {k: v + 1 for k, v in fits.weights.items()})
    first, second = measure(fits).metrics, measure(fresh).metrics
    np.testing.assert_array_equal(first["untrained_mcc_strong_pairs"], second["untrained_mcc_strong_pairs"])
    assert not np.array_equal(first["mcc_strong_pairs"], second["mcc_strong_pairs"])


@torch.no_grad()
def test_priors_are_those_of_the_model() -> None:
    model = trained(make_run()).model()
    mixtures = prior_mixtures(model)
    z = torch.randn(FITS, 50, 2, generator=torch.Generator().manual_seed(0))
    expected = model.prior.log_prob(z).numpy()
    for fit, mixture in enumerate(mixtures):
        np.testing.assert_allclose(mixture.log_prob(z[fit].numpy()), expected[fit], rtol=1e-4)


@torch.no_grad()
def test_draws_are_measured_one_by_one() -> None:
    run = make_run(data={"name": "pinwheel", "size": 200, "fits_per_draw": 3}, seeds=6)
    fits = trained(run)
    found = DrawSensitivity()(fits).metrics
    assert {len(found[name]) for name in ("mcc_strong", "mcc_weak", "dist_aff_l2")} == {2}
    mixtures = prior_mixtures(fits.model())
    expected = np.mean([dist_aff_l2(p, q) for p, q in itertools.permutations(mixtures[3:], 2)])
    assert found["dist_aff_l2"][1] == pytest.approx(expected)
    with pytest.raises(ValueError, match="fits_per_draw must be 3 or more"):
        DrawSensitivity()(trained(make_run()))


@torch.no_grad()
def test_panels_sort_components_by_confidence_and_show_their_own_points() -> None:
    images = np.random.default_rng(0).random((60, 5, 5), np.float32)
    dataset = Dataset({"test": Split({"x": Field(images), "y": Field(np.zeros(60, np.int64))})}, "images")
    run = make_run(model={"name": "vade", "latent": 2, "components": 30, "network": {"encoder": [8], "decoder": [8]}})
    model = build_model(run, dataset)
    assert isinstance(model, vade.Model)
    model.prior.means.copy_(torch.randn(model.prior.means.shape, generator=torch.Generator().manual_seed(1)))
    x = torch.from_numpy(images).expand(FITS, -1, -1, -1)
    found = component_panels(model, x, 6)
    assert found["samples"].shape == (30, 6, 5, 5) and found["inputs"].shape == (30, 4, 5, 5)
    assert (np.diff(found["confidence"]) <= 0).all() and found["members"].sum() == 60
    assigned = model.responsibilities(x)[0, :, 0].argmax(-1).numpy()
    assert sorted(found["members"]) == sorted(np.bincount(assigned, minlength=30))
    shown = ~np.isnan(found["inputs"][:, :, 0, 0])
    np.testing.assert_array_equal(shown.sum(1), np.minimum(found["members"], 4))
    decoded = model.autoencoder.decode(model.codes(x))[0].numpy()
    first = np.flatnonzero((images == found["inputs"][0, 0]).all((1, 2)))[0]
    np.testing.assert_allclose(found["reconstructions"][0, 0], decoded[first], rtol=1e-5)
