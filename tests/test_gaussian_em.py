"""EM of Gaussian mixtures: step for step as scikit-learn's, in chunks, from random points, degenerate components."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from neumix import gaussian_em
from neumix.gaussian_em import GaussianParameters, em_step, fit, random_start
from neumix.seeding import numpy_rng

COVARIANCES = pytest.mark.parametrize("covariance", ["diag", "full"])


def clusters(size=120, dimension=2, groups=3, seed=0, shift=0.0):
    """Return points of a few stretched clusters, (N, D), in single precision."""
    rng = numpy_rng(seed, "clusters")
    centres, shapes = 3 * rng.normal(size=(groups, dimension)), rng.normal(size=(groups, dimension, dimension))
    labels = rng.integers(groups, size=size)
    points = centres[labels] + (shapes[labels] @ rng.normal(size=(size, dimension, 1)))[..., 0]
    return torch.from_numpy((points + shift).astype(np.float32))


def start(points, components, seed=0):
    return random_start(points, components, 1.0, torch.Generator().manual_seed(seed))


def in_library(points, parameters, covariance, iterations, floor):
    """Run scikit-learn's EM from the same parameters."""
    precisions = np.linalg.inv(parameters.covariances.numpy())
    if covariance == "diag":
        precisions = np.diagonal(precisions, axis1=1, axis2=2)
    mixture = GaussianMixture(
        len(parameters.weights),
        covariance_type=covariance,
        tol=0,
        reg_covar=floor,
        max_iter=iterations,
        weights_init=parameters.weights.numpy(),
        means_init=parameters.means.numpy(),
        precisions_init=precisions,
    )
    return mixture.fit(points.double().numpy())


def mean_log_likelihood(points, parameters):
    """Return the mean log-likelihood in nats by scipy."""
    parts = zip(*(part.numpy() for part in (parameters.weights, parameters.means, parameters.covariances)), strict=True)
    joint = [math.log(weight) + multivariate_normal(*moments).logpdf(points.double()) for weight, *moments in parts]
    return logsumexp(joint, axis=0).mean()


def assert_near(found, expected, **tolerance):
    for name in ("weights", "means", "covariances"):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name), **tolerance, msg=lambda m, n=name: n + m
        )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@COVARIANCES
@pytest.mark.parametrize("dimension", [1, 2, 4])
@pytest.mark.parametrize("floor", [1e-6, 0.05])
def test_each_step_is_that_of_scikit_learn(covariance, dimension, floor):
    points, parameters = clusters(dimension=dimension), start(clusters(dimension=dimension), 4)
    for iterations in (1, 2, 7):
        found, curve = fit(points, parameters, covariance=covariance, iterations=iterations, floor=floor)
        expected = in_library(points, parameters, covariance, iterations, floor)
        assert len(curve) == expected.n_iter_ == iterations
        assert curve[-1] == pytest.approx(expected.lower_bound_, rel=1e-10)
        np.testing.assert_allclose(found.weights, expected.weights_, rtol=1e-8)
        np.testing.assert_allclose(found.means, expected.means_, rtol=1e-8, atol=1e-10)
        covariances = found.covariances.numpy()
        if covariance == "diag":
            np.testing.assert_array_equal(covariances, covariances * np.eye(dimension))
            covariances = np.diagonal(covariances, axis1=1, axis2=2)
        np.testing.assert_allclose(covariances, expected.covariances_, rtol=1e-8, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(5, 60), st.sampled_from(["diag", "full"]), st.integers(0, 1000)
)
def test_the_likelihood_never_falls_and_is_that_before_the_step(dimension, components, size, covariance, draw):
    points = clusters(size, dimension, seed=draw)
    parameters, before = start(points, components, draw), -math.inf
    floor = 0.0 if size > 30 else 1e-6
    for _ in range(6):
        expected = mean_log_likelihood(points, parameters)
        parameters, found = em_step(points, parameters, covariance, floor=floor)
        assume(floor or size * parameters.weights.min() > 3 * (dimension + 1))  # without a floor, fewer points collapse
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-8)
        assert found >= before - 1e-4  # the floor takes a little
        before = found
        assert parameters.weights.sum() == pytest.approx(1, abs=1e-12)
        assert parameters.weights.min() > 0
        torch.testing.assert_close(parameters.covariances, parameters.covariances.mT, rtol=1e-10, atol=1e-12)
        assert torch.linalg.eigvalsh(parameters.covariances).min() > 0


@COVARIANCES
def test_chunks_do_not_change_the_result(covariance, monkeypatch):
    points, parameters = clusters(103), start(clusters(103), 4)
    whole, curve = fit(points, parameters, covariance=covariance, iterations=5)
    for size in (1, 8 * 4 * 10, 8 * 4 * 50):
        monkeypatch.setattr(gaussian_em, "_CHUNK_BYTES", size)
        parts, chunked = fit(points, parameters, covariance=covariance, iterations=5)
        assert chunked == pytest.approx(curve, rel=1e-12)
        assert_near(parts, whole, rtol=1e-9, atol=1e-11)


@COVARIANCES
@pytest.mark.parametrize("shift", [100.0, 4000.0])
def test_the_place_of_the_points_does_not_matter(covariance, shift):
    at_origin = (clusters() * 64).round() / 64  # so that the moved points are the same ones in single precision
    moved = at_origin + shift
    near, _ = fit(at_origin, start(at_origin, 3), covariance=covariance, iterations=10)
    far, _ = fit(moved, start(moved, 3), covariance=covariance, iterations=10)
    back = GaussianParameters(far.weights, far.means - shift, far.covariances)
    assert_near(back, near, rtol=1e-6, atol=1e-7)


@COVARIANCES
def test_it_finds_the_mixture_that_the_points_come_from(covariance):
    rng = numpy_rng(0, "two Gaussians")
    first, second = rng.normal([-3, 0], [1, 0.5], (3000, 2)), rng.normal([3, 1], [0.5, 1], (1000, 2))
    points = torch.from_numpy(np.concatenate([first, second]))
    middle = GaussianParameters(
        torch.tensor([0.5, 0.5]).double(),
        torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).double(),
        torch.eye(2).double().expand(2, -1, -1),
    )
    found, _ = fit(points, middle, covariance=covariance, iterations=20)
    expected = GaussianParameters(
        torch.tensor([0.75, 0.25]).double(),
        torch.tensor([[-3.0, 0.0], [3.0, 1.0]]).double(),
        torch.tensor([[1.0, 0.25], [0.25, 1.0]]).double().diag_embed(),
    )
    assert_near(found, expected, rtol=0, atol=0.1)


def test_one_component_is_fitted_in_one_step():
    points = clusters().double()
    found, _ = fit(points, start(points, 1), covariance="full", iterations=1, floor=0.0)
    torch.testing.assert_close(found.means[0], points.mean(0))
    torch.testing.assert_close(found.covariances[0], points.T.cov(correction=0))
    assert found.weights.tolist() == [1.0]


@COVARIANCES
def test_a_component_without_points_stays_finite(covariance):
    points = clusters()
    far = start(points, 3)
    far.means[0] = 1e3
    parameters, curve = fit(points, far, covariance=covariance, iterations=10)
    assert np.isfinite(curve).all()
    for part in (parameters.weights, parameters.means, parameters.covariances):
        assert torch.isfinite(part).all()
    assert parameters.weights.sum() == pytest.approx(1, abs=1e-12)
    assert 0 < parameters.weights[0] < 1e-12
    others = GaussianParameters(torch.full((2,), 0.5).double(), far.means[1:], far.covariances[1:])
    expected, _ = fit(points, others, covariance=covariance, iterations=10)
    torch.testing.assert_close(parameters.means[1:], expected.means, rtol=1e-8, atol=1e-8)


@COVARIANCES
def test_equal_points_leave_the_floor(covariance):
    points = torch.full((10, 2), 3.0)
    points[0] = 3.5
    found, curve = fit(points[1:], start(points, 1), covariance=covariance, iterations=3, floor=1e-3)
    torch.testing.assert_close(found.covariances[0], 1e-3 * torch.eye(2).double())
    assert np.isfinite(curve).all()


def test_the_tolerance_stops_it():
    points = clusters()
    everything, curve = fit(points, start(points, 4), covariance="full", iterations=40)
    gains = np.diff(curve)
    assert len(curve) == 40
    tolerance = 1e-2
    first = int(np.argmax(gains < tolerance))
    assert 0 < first < 30
    stopped, short = fit(points, start(points, 4), covariance="full", iterations=40, tolerance=tolerance)
    assert short == curve[: first + 2]
    again, _ = fit(points, start(points, 4), covariance="full", iterations=first + 2)
    assert_near(stopped, again, rtol=0, atol=0)
    assert not torch.equal(stopped.means, everything.means)


class TestRandomStart:
    @settings(max_examples=25, deadline=None)
    @given(st.integers(1, 20), st.floats(0.1, 3), st.integers(0, 1000))
    def test_it_is_different_points_and_one_diagonal_covariance(self, components, spread, draw):
        points = clusters(20, 3, seed=draw)
        found = random_start(points, components, spread, torch.Generator().manual_seed(draw))
        rows = {tuple(row) for row in points.double().tolist()}
        means = [tuple(row) for row in found.means.tolist()]
        assert len(set(means)) == components
        assert set(means) <= rows
        torch.testing.assert_close(found.weights, torch.full((components,), 1 / components).double())
        expected = spread * np.diag(np.var(points.double().numpy(), axis=0))
        assert found.covariances.shape == (components, 3, 3)
        for covariance in found.covariances:
            np.testing.assert_allclose(covariance, expected, rtol=1e-10)

    def test_the_generator_decides(self):
        points = clusters()
        assert torch.equal(start(points, 5).means, start(points, 5).means)
        assert not torch.equal(start(points, 5).means, start(points, 5, seed=1).means)

    def test_a_constant_coordinate_still_has_a_density(self):
        points = torch.stack([torch.linspace(0, 1, 9), torch.full((9,), 2.0)], 1)
        found = random_start(points, 3, 1.0, torch.Generator())
        _, log_likelihood = em_step(points, found, "full")
        assert math.isfinite(log_likelihood)

    def test_fewer_points_than_components_are_an_error(self):
        with pytest.raises(ValueError, match="5 components cannot be fitted to 4 points; lower `components`"):
            start(clusters(4), 5)
