"""Gaussian mixtures that a classifier weighted one starts from: densities after the start, seeds, settings, errors."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn import mixture as library

from neumix.batching import DeviceSplit
from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.density_model import Likelihood
from neumix.gaussian_em import GaussianParameters, fit, random_start
from neumix.gaussian_mixture import GaussianMixture
from neumix.models.cwm import Config, Model
from neumix.models.cwm.gaussian_start import EM, Library
from neumix.models.cwm.maps import Affine, Spline
from neumix.schedule import Stage
from neumix.seeding import numpy_rng
from neumix.training import Phase, generators
from neumix.training import fit as train

DIAGONAL, FULL, SPLINE = Affine(name="diagonal"), Affine(name="full"), Spline(name="spline", hidden=(6,), bins=4)
MAPS = pytest.mark.parametrize("maps", [DIAGONAL, FULL, SPLINE], ids=lambda maps: maps.name)
NLL = Likelihood(name="nll")


def build(maps=DIAGONAL, components=3, hidden=(6,), seeds=(0, 1)) -> Model:
    config = Config(components=components, hidden=hidden, maps=maps)
    return Model(config, {"x": (2,)}, generators(seeds, "init"))


POINTS = np.stack(
    [
        np.concatenate(
            [
                numpy_rng(seed, "points").normal([-2, 0], [1, 0.4], (150, 2)),
                numpy_rng(seed, "others").normal([2, 1], [0.5, 1], (100, 2)),
            ]
        )
        for seed in range(2)
    ]
).astype(np.float32)
SPLIT = Split({"x": Field(POINTS, per_seed=True)})


def started(loss, maps=DIAGONAL, hidden=(6,), components=3, seeds=(0, 1)) -> Model:
    """Return a model after the beginning of a stage."""
    model = build(maps, components, hidden, seeds).requires_grad_(False)
    split = DeviceSplit(Split({"x": Field(POINTS[list(seeds)], per_seed=True)}), len(seeds), torch.device("cpu"))
    model.begin_stage(loss, split, generators(seeds, "begin"))
    return model


def log_prob_of(found: GaussianParameters, points: np.ndarray) -> np.ndarray:
    return GaussianMixture(found.weights.numpy(), found.means.numpy(), found.covariances.numpy()).log_prob(points)


LOSSES = {"em": EM(name="em", iterations=7), "library": Library(name="scikit_learn", iterations=7)}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
class TestStart:
    @MAPS
    @pytest.mark.parametrize("hidden", [None, (6,)], ids=["constant", "network"])
    def test_the_density_is_that_of_the_fitted_mixture(self, loss, maps, hidden):
        model = started(loss, maps, hidden)
        x = torch.from_numpy(POINTS)
        for seed, generator in enumerate(generators(range(2), "begin")):
            found = loss.fit(x[seed], 3, model.maps.covariance, generator)
            expected = log_prob_of(found, POINTS[seed].astype(np.float64))
            np.testing.assert_allclose(model.log_prob(x)[seed], expected, rtol=1e-4, atol=1e-4)
        assert (model.log_prob(x).mean(1) > build(maps, hidden=hidden).log_prob(x).mean(1) + 0.1).all()

    def test_it_is_deterministic_and_of_each_seed(self, loss):
        first, again, alone = started(loss), started(loss), started(loss, seeds=(1,))
        for one, other, own in zip(first.parameters(), again.parameters(), alone.parameters(), strict=True):
            assert torch.equal(one, other)
            torch.testing.assert_close(one[1:], own)
        assert not torch.allclose(*first.maps.means)

    def test_having_epochs_is_an_error(self, loss, tmp_path):
        with pytest.raises(ValueError, match=f"loss '{loss.name}' fits itself; give it epochs: 0"):
            started(loss).loss({"x": torch.from_numpy(POINTS)}, loss, generators(range(2), "noise"))
        dataset = Dataset({"train": SPLIT}, "points")
        stage = Stage(loss=dataclasses.asdict(loss), epochs=1, batch_size=50)
        model = build()
        checkpointer = Checkpointer(tmp_path, "start")
        with pytest.raises(ValueError, match="epochs: 0"):
            train(
                model, dataset, [Phase("em", stage, loss)], (0, 1), checkpointer, name="a", device=torch.device("cpu")
            )

    def test_more_components_than_points_are_an_error(self, loss):
        with pytest.raises(ValueError, match=r"n_samples|components cannot be fitted to 250 points"):
            started(loss, components=251)


def test_other_stages_start_from_what_is_there():
    model = build()
    before = [parameter.clone() for parameter in model.parameters()]
    model.begin_stage(NLL, DeviceSplit(SPLIT, 2, torch.device("cpu")), generators(range(2), "begin"))
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))


class TestEM:
    def test_it_uses_the_first_points(self):
        points, settings_ = torch.from_numpy(POINTS[0]), {"name": "em", "iterations": 5}
        found = EM(**settings_, points=100).fit(points, 3, "full", torch.Generator().manual_seed(0))
        start = random_start(points[:100], 3, 1.0, torch.Generator().manual_seed(0))
        expected, _ = fit(points[:100], start, covariance="full", iterations=5)
        torch.testing.assert_close(found.means, expected.means)
        torch.testing.assert_close(found.covariances, expected.covariances)
        torch.testing.assert_close(found.weights, expected.weights)
        every = EM(**settings_, points=None).fit(points, 3, "full", torch.Generator().manual_seed(0))
        assert not torch.allclose(every.means, found.means)

    def test_its_settings_are_used(self):
        points = torch.from_numpy(POINTS[0])

        def means(**changes):
            loss = EM(name="em", **{"iterations": 30, **changes})
            return loss.fit(points, 3, "diag", torch.Generator().manual_seed(0)).means

        assert torch.equal(means(), means())
        assert torch.equal(means(tolerance=1e9), means(iterations=2))
        assert not torch.allclose(means(iterations=1), means(iterations=1, spread=0.01))


class TestLibrary:
    @pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
    @pytest.mark.parametrize("covariance", ["diag", "full"])
    @pytest.mark.parametrize("iterations", [2, 100])
    def test_it_is_scikit_learn_s(self, covariance, iterations):
        loss, points = Library(name="scikit_learn", iterations=iterations), torch.from_numpy(POINTS[0])
        found = loss.fit(points, 4, covariance, torch.Generator().manual_seed(5))
        seed = int(torch.randint(2**31, (1,), generator=torch.Generator().manual_seed(5)))
        other = library.GaussianMixture(4, covariance_type=covariance, max_iter=iterations, random_state=seed)
        other.fit(POINTS[0].astype(np.float64))
        np.testing.assert_array_equal(found.weights, other.weights_)
        np.testing.assert_array_equal(found.means, other.means_)
        covariances = other.covariances_ if covariance == "full" else [np.diag(part) for part in other.covariances_]
        np.testing.assert_array_equal(found.covariances, covariances)
        expected = other.score_samples(POINTS[0].astype(np.float64))
        np.testing.assert_allclose(log_prob_of(found, POINTS[0].astype(np.float64)), expected, rtol=1e-9)

    @pytest.mark.filterwarnings("error")
    def test_its_warning_of_too_few_steps_is_not_shown(self):
        Library(name="scikit_learn", iterations=1).fit(torch.from_numpy(POINTS[0]), 4, "full", torch.Generator())
