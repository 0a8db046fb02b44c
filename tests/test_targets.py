"""Posteriors in the plane: mass one, samples that fit the density, slopes everywhere; and the data drawn from them."""

import math
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import integrate, stats

from neumix.data import plane_targets
from neumix.data.dataset import Dataset
from neumix.settings import CatalogueError, parse
from neumix.targets import Banana, CorrelatedNormal, Mixture, Ring, Target, TargetName, target

NAMES: tuple[TargetName, ...] = get_args(TargetName)
EVERY = pytest.mark.parametrize("name", NAMES)
WINDOWS = {"banana": (-9, 9, -5, 42), "ring": (-4, 4, -4, 4), "mixture": (-7, 6, -8, 6)}


def density(distribution: Target, points: NDArray[np.float64]) -> NDArray[np.float64]:
    return distribution.log_prob(torch.from_numpy(points)).exp().numpy()


def cells(distribution: Target, window: tuple[float, ...], bins: int, within: int) -> NDArray[np.float64]:
    """Return the mass of every cell of a grid, (bins, bins), by midpoints within each."""
    x, y = (low + (np.arange(bins * within) + 0.5) * (high - low) / (bins * within) for low, high in pairs(window))
    values = density(distribution, np.stack(np.meshgrid(x, y, indexing="ij"), -1))
    area = (x[1] - x[0]) * (y[1] - y[0])
    return values.reshape(bins, within, bins, within).sum((1, 3)) * area


def pairs(window: tuple[float, ...]) -> list[tuple[float, float]]:
    return [(window[0], window[1]), (window[2], window[3])]


def fit_pvalue(distribution: Target, points: NDArray[np.float64], window: tuple[float, ...]) -> float:
    """Return the p-value of a chi-square test; cells that expect few points, and the outside, count as one."""
    mass = cells(distribution, window, 60, 12)
    counts = np.histogram2d(*points.T, bins=60, range=pairs(window))[0]
    expected = len(points) * mass
    many = expected >= 10
    assert many.sum() > 50
    observed = np.append(counts[many], len(points) - counts[many].sum())
    return float(stats.chisquare(observed, np.append(expected[many], len(points) - expected[many].sum())).pvalue)


@EVERY
class TestEvery:
    def test_it_has_mass_one(self, name):
        assert cells(target(name), WINDOWS[name], 1, 1200).item() == pytest.approx(1, abs=2e-6)

    def test_its_samples_fit_its_density(self, name):
        points = target(name).sample(60_000, np.random.default_rng(5))
        assert points.shape == (60_000, 2)
        assert fit_pvalue(target(name), points, WINDOWS[name]) > 0.001

    def test_the_check_of_samples_finds_a_small_error(self, name):
        points = 1.03 * target(name).sample(60_000, np.random.default_rng(5))
        assert fit_pvalue(target(name), points, WINDOWS[name]) < 1e-6

    def test_its_samples_come_in_random_order(self, name):
        points = target(name).sample(4000, np.random.default_rng(0))
        for column in points.T:
            assert stats.ks_2samp(column[:2000], column[2000:]).pvalue > 0.001
            assert abs(np.corrcoef(column[1:], column[:-1])[0, 1]) < 4 / math.sqrt(4000)

    def test_its_generator_decides_its_samples(self, name):
        first, again, other = (target(name).sample(7, np.random.default_rng(seed)) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.any(first == other)

    @pytest.mark.parametrize("size", [0, 1, 2])
    def test_few_samples(self, name, size):
        assert target(name).sample(size, np.random.default_rng(0)).shape == (size, 2)

    def test_slopes_against_finite_differences(self, name):
        points = target(name).sample(50, np.random.default_rng(3)) + np.random.default_rng(4).normal(size=(50, 2))
        x = torch.from_numpy(points).requires_grad_()
        assert torch.autograd.gradcheck(target(name).log_prob, x)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("distance", [0.0, 1e-30, 1e-8, 1e-3, 30.0, 1e4])
    def test_value_and_slope_are_finite_at_the_origin_and_far_away(self, name, distance, dtype):
        directions = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [0.6, -0.8]]
        x = (distance * torch.tensor(directions, dtype=dtype)).requires_grad_()
        values = target(name).log_prob(x)
        (slope,) = torch.autograd.grad(values.sum(), x)
        assert torch.isfinite(values).all()
        assert torch.isfinite(slope).all()
        if distance > 10 and name != "banana":
            assert ((slope * x).sum(-1) < 0).all(), "less dense further out"

    def test_leading_axes_and_precision_stay(self, name):
        points = target(name).sample(60, np.random.default_rng(1)).reshape(3, 4, 5, 2)
        exact = target(name).log_prob(torch.from_numpy(points))
        values = target(name).log_prob(torch.from_numpy(points.astype(np.float32)))
        assert (exact.dtype, values.dtype, values.shape) == (torch.float64, torch.float32, (3, 4, 5))
        torch.testing.assert_close(values.double(), exact, rtol=1e-4, atol=1e-4)


class TestBanana:
    @settings(max_examples=20, deadline=None)
    @given(st.floats(0.1, 5), st.floats(0.1, 5), st.floats(-2, 2), st.floats(-3, 3))
    def test_agrees_with_normal_densities(self, spread, noise_sd, curvature, offset):
        banana = Banana(spread=spread, noise_sd=noise_sd, curvature=curvature, offset=offset)
        x = np.random.default_rng(0).normal(size=(20, 2))
        expected = stats.norm.logpdf(x[:, 0], 0, spread)
        expected += stats.norm.logpdf(x[:, 1], curvature * x[:, 0] ** 2 + offset, noise_sd)
        np.testing.assert_allclose(banana.log_prob(torch.from_numpy(x)), expected, rtol=1e-9)

    def test_without_curvature_it_is_normal(self):
        flat = Banana(spread=2, noise_sd=0.5, curvature=0, offset=1)
        normal = CorrelatedNormal(mean=(0, 1), sd=(2, 0.5), correlation=0)
        x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(flat.log_prob(x), normal.log_prob(x))


class TestRing:
    @settings(max_examples=30, deadline=None)
    @given(st.floats(0.05, 5), st.floats(0.05, 3))
    def test_constant_agrees_with_quadrature(self, radius, sd):
        ring = Ring(radius=radius, sd=sd)

        def mass(distance: float) -> float:
            point = torch.tensor([0.6 * distance, 0.8 * distance], dtype=torch.float64)
            return 2 * math.pi * distance * math.exp(ring.log_prob(point).item())

        total = integrate.quad(mass, max(0, radius - 10 * sd), radius + 10 * sd)[0]
        assert total == pytest.approx(1, rel=1e-6)

    @pytest.mark.parametrize(("radius", "sd"), [(2, 0.2), (1, 1), (0.1, 1)])
    def test_distances_fit_their_density(self, radius, sd):
        ring = Ring(radius=radius, sd=sd)
        distances = np.linalg.norm(ring.sample(20_000, np.random.default_rng(0)), axis=-1)
        grid = np.linspace(0, radius + 9 * sd, 4001)
        x = np.stack([grid, 0 * grid], -1)
        cdf = integrate.cumulative_simpson(2 * np.pi * grid * density(ring, x), x=grid, initial=0)
        assert stats.kstest(distances, lambda r: np.interp(r, grid, cdf)).pvalue > 0.001

    def test_it_is_highest_at_its_radius_all_around(self):
        angle = torch.linspace(0, 6, 13, dtype=torch.float64)
        around = 2 * torch.stack([angle.cos(), angle.sin()], -1)
        values = target("ring").log_prob(around)
        torch.testing.assert_close(values, values[:1].expand(13))
        assert (values > target("ring").log_prob(1.01 * around)).all()
        assert (values > target("ring").log_prob(0.99 * around)).all()


class TestMixture:
    def test_it_agrees_with_scipy(self):
        mixture = target("mixture")
        x = np.random.default_rng(0).uniform(-4, 4, size=(200, 2))
        expected = np.zeros(200)
        for weight, part in zip(mixture.weights, mixture.components, strict=True):
            covariance = np.outer(part.sd, part.sd) * np.array([[1, part.correlation], [part.correlation, 1]])
            expected += weight * stats.multivariate_normal.pdf(x, part.mean, covariance)
        np.testing.assert_allclose(density(mixture, x), expected, rtol=1e-9)

    def test_moments_of_a_component(self):
        part = CorrelatedNormal(mean=(1, -2), sd=(0.5, 3), correlation=-0.7)
        points = part.sample(100_000, np.random.default_rng(0))
        np.testing.assert_allclose(points.mean(0), [1, -2], atol=0.04)
        np.testing.assert_allclose(points.std(0), [0.5, 3], rtol=0.01)
        assert np.corrcoef(points.T)[0, 1] == pytest.approx(-0.7, abs=0.01)

    def test_components_are_all_different(self):
        mixture = target("mixture")
        means = np.array([part.mean for part in mixture.components])
        distances = np.linalg.norm(means[:, None] - means, axis=-1)[np.triu_indices(5, 1)]
        assert len(set(mixture.weights)) == 5
        assert len({(part.sd, part.correlation) for part in mixture.components}) == 5
        assert all(part.correlation for part in mixture.components)
        assert distances.max() > 2 * distances.min()


PART = CorrelatedNormal(mean=(0, 0), sd=(1, 1), correlation=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ring(radius=0, sd=1), "radius\n.*greater than 0"),
        (lambda: Ring(radius=1, sd=math.nan), "sd\n.*finite"),
        (lambda: Banana(spread=-1, noise_sd=1, curvature=0, offset=0), "spread\n.*greater than 0"),
        (lambda: CorrelatedNormal(mean=(0, 0), sd=(1, 1), correlation=1), "correlation\n.*less than 1"),
        (lambda: Mixture(weights=(0.5, 0.5), components=(PART,)), "2 weights for 1 components"),
        (lambda: Mixture(weights=(0.5, 0.4), components=(PART, PART)), r"sum to 1, found \[0\.5, 0\.4\]"),
        (lambda: Mixture(weights=(), components=()), "at least 1 item"),
    ],
)
def test_what_is_no_distribution_is_refused(make, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        make()


def test_an_unknown_target_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="no target 'rings'; did you mean 'ring'"):
        target("rings")


def load(seeds: tuple[int, ...] = (0,), **content: Any) -> Dataset:
    content = {"target": "ring", "train": 40, "test": 30, **content}
    return plane_targets.load(Path("nowhere"), parse(plane_targets.Config, content, "paper.yaml: data"), seeds)


class TestData:
    def test_splits_fields_and_types(self):
        dataset = load((1, 4, 9))
        fields = {name: set(split.fields) for name, split in dataset.splits.items()}
        assert fields == {"train": {"x"}, "test": {"x", "log_density"}}
        assert dataset.shapes == {"x": (2,), "log_density": ()}
        assert dataset["train"]["x"].values.shape == (3, 40, 2)
        assert dataset["test"]["log_density"].values.shape == (3, 30)
        assert {f.values.dtype for s in dataset.splits.values() for f in s.fields.values()} == {np.dtype(np.float32)}

    @EVERY
    def test_points_are_the_target_s(self, name):
        test = load(target=name, test=60_000)["test"]
        points = test["x"].of_seed(0).astype(np.float64)
        assert fit_pvalue(target(name), points, WINDOWS[name]) > 0.001
        np.testing.assert_allclose(np.exp(test["log_density"].of_seed(0)), density(target(name), points), rtol=1e-4)

    def test_mean_log_density_of_a_banana_is_minus_its_entropy(self):
        values = load(target="banana", test=50_000)["test"]["log_density"].of_seed(0).astype(np.float64)
        entropy = stats.norm.entropy(0, 1.5) + stats.norm.entropy(0, 0.5)
        assert abs(values.mean() + entropy) < 4 * values.std() / math.sqrt(len(values))

    def test_a_seed_decides_its_draw_whatever_other_seeds_are_drawn(self):
        several, alone = load((0, 1, 2)), load((2,))
        for split, name in (("train", "x"), ("test", "x"), ("test", "log_density")):
            draws = several[split][name]
            np.testing.assert_array_equal(draws.of_seed(2), alone[split][name].of_seed(0))
            assert not np.array_equal(draws.of_seed(0), draws.of_seed(1))
        assert not np.isin(several["train"]["x"].values, several["test"]["x"].values).any()

    def test_it_needs_no_other_dataset(self):
        config = plane_targets.Config(target="ring", train=5)
        assert plane_targets.sources(config) == ()
        assert config.test == 20_000

    @pytest.mark.parametrize(("key", "value"), [("target", "rings"), ("train", 0), ("test", 0)])
    def test_bad_settings_are_named(self, key, value):
        with pytest.raises(CatalogueError, match=rf"paper\.yaml: data: key '{key}'"):
            load(**{key: value})
