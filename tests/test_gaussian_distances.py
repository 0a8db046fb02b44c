"""Distances between the components of a mixture, against one pair at a time and dense eigen-decompositions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from neumix.metrics.gaussian_distances import leading_directions, pairwise_frechet, spectral_groups
from neumix.metrics.sample_quality import gaussian_frechet_distance
from neumix.seeding import numpy_rng

Floats = NDArray[np.float64]


def gaussians(count: int, dimension: int, rank: int, seed: int) -> tuple[Floats, Floats]:
    """Return means and covariances, singular ones where the rank is below the dimension."""
    rng = numpy_rng(seed, "gaussians")
    roots = rng.normal(size=(count, dimension, rank)) * rng.uniform(0.1, 3, (count, 1, 1))
    return 2 * rng.normal(size=(count, dimension)), roots @ roots.swapaxes(1, 2)


def analyzers(count: int, dimension: int, rank: int, seed: int = 0) -> tuple[Floats, Floats, Floats, Floats]:
    rng = numpy_rng(seed, "analyzers")
    weights = rng.dirichlet(np.ones(count))
    factors = rng.normal(size=(count, dimension, rank))
    return weights, 3 * rng.normal(size=(count, dimension)), factors, rng.uniform(0.1, 2, (count, dimension))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_every_pair_has_the_distance_of_two_gaussians(count: int, dimension: int, rank: int, seed: int) -> None:
    means, covariances = gaussians(count, dimension, rank, seed)
    found = pairwise_frechet(means, covariances)
    expected = [
        [gaussian_frechet_distance(*one, *other) for other in zip(means, covariances, strict=True)]
        for one in zip(means, covariances, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-6)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 0)


def test_points_without_spread_are_as_far_as_their_means() -> None:
    means = np.array([[0.0, 0], [3, 4], [0, 4]])
    np.testing.assert_allclose(pairwise_frechet(means, np.zeros((3, 2, 2))), [[0, 25, 16], [25, 0, 9], [16, 9, 0]])


def test_commuting_covariances_differ_by_their_deviations() -> None:
    deviations = np.array([[1.0, 2, 0], [3, 2, 1]])
    covariances = np.stack([np.diag(row**2) for row in deviations])
    assert pairwise_frechet(np.zeros((2, 3)), covariances)[0, 1] == pytest.approx(4 + 0 + 1)


def test_rounding_below_zero_counts_as_zero() -> None:
    covariances = np.stack([np.diag([1.0, -1e-17]), np.diag([1.0, 0])])
    found = pairwise_frechet(np.zeros((2, 2)), covariances)
    assert np.isfinite(found).all() and (found >= 0).all()
    np.testing.assert_allclose(found, 0, atol=1e-12)


@pytest.mark.parametrize(("count", "dimension", "rank", "wanted"), [(4, 6, 2, 6), (3, 5, 1, 2), (1, 3, 2, 1)])
def test_directions_are_leading_eigenvectors_of_the_mixtures_covariance(
    count: int, dimension: int, rank: int, wanted: int
) -> None:
    weights, means, factors, variances = analyzers(count, dimension, rank)
    centre = np.einsum("k,km->m", weights, means)
    covariance = np.zeros((dimension, dimension))
    for weight, mean, factor, variance in zip(weights, means, factors, variances, strict=True):
        covariance += weight * (np.outer(mean - centre, mean - centre) + factor @ factor.T + np.diag(variance))
    found = leading_directions(weights, means, factors, variances, wanted)
    assert found.shape == (dimension, wanted)
    np.testing.assert_allclose(found.T @ found, np.eye(wanted), atol=1e-10)
    values = np.linalg.eigvalsh(covariance)[::-1][:wanted]
    np.testing.assert_allclose(covariance @ found, found * values, atol=1e-9)


def test_in_all_directions_distances_are_those_of_the_components() -> None:
    weights, means, factors, variances = analyzers(4, 5, 2)
    covariances = factors @ factors.swapaxes(1, 2) + np.stack([np.diag(row) for row in variances])
    turned = leading_directions(weights, means, factors, variances, 5)
    found = pairwise_frechet(means @ turned, turned.T @ covariances @ turned)
    np.testing.assert_allclose(found, pairwise_frechet(means, covariances), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sizes", [(4, 4), (3, 5, 4)])
def test_components_far_apart_are_grouped(sizes: tuple[int, ...]) -> None:
    rng = numpy_rng(0, "groups")
    own = np.repeat(np.arange(len(sizes)), sizes)
    order = rng.permutation(len(own))
    means = 20 * np.eye(len(sizes))[own][order] + rng.normal(size=(len(own), len(sizes)))
    distances = pairwise_frechet(means, np.tile(np.eye(len(sizes)), (len(own), 1, 1)))
    found = spectral_groups(distances, len(sizes), 0)
    assert adjusted_rand_score(own[order], found) == 1
    assert found.dtype == np.int64 and set(found) == set(range(len(sizes)))
    np.testing.assert_array_equal(found, spectral_groups(distances, len(sizes), 0))
    assert adjusted_rand_score(found, spectral_groups(100 * distances, len(sizes), 0)) == 1, "units play no role"


def test_components_with_equal_means_are_grouped_by_their_spread() -> None:
    covariances = np.stack([scale * np.eye(3) for scale in (1.0, 1.1, 0.9, 60, 64, 68)])
    found = spectral_groups(pairwise_frechet(np.zeros((6, 3)), covariances), 2, 0)
    assert adjusted_rand_score([0, 0, 0, 1, 1, 1], found) == 1


@pytest.mark.parametrize("items", [1, 4])
def test_equal_components_or_a_single_one_can_be_grouped(items: int) -> None:
    assert list(spectral_groups(np.zeros((items, items)), 1, 0)) == [0] * items


def test_more_groups_than_components() -> None:
    with pytest.raises(ValueError, match="5 groups are asked for, but there are 4 components"):
        spectral_groups(np.zeros((4, 4)), 5, 0)
