"""Matching of components and clusters: known permutations, brute force, degenerate input."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from neumix.metrics import matching

GRID = np.linspace(-8, 8, 401)
WIDTH = GRID[1] - GRID[0]


def gaussians(means: list[list[float]]) -> np.ndarray:
    """Return densities (C, V, G) of unit normals."""
    return norm.pdf(GRID, np.array(means)[..., None], 1.0)


def test_total_variation_has_its_known_values():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5])
    assert matching.total_variation(p, p, 1.0) == 0
    assert matching.total_variation(p, q, 1.0) == 0.5
    assert matching.total_variation([1, 0], [0, 1], 1.0) == 1
    assert matching.total_variation([1, 0], [0, 1], [0.5, 0.25]) == 0.375
    near = matching.total_variation(norm.pdf(GRID), norm.pdf(GRID, 0.5), WIDTH)
    assert near == pytest.approx(2 * norm.cdf(0.25) - 1, abs=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 1000))
def test_permuted_components_are_found(order, seed):
    true = gaussians([[-2, 1], [0, -1], [1, 2], [3, 0]])
    noise = 0.02 * np.random.default_rng(seed).uniform(size=true.shape)
    found = matching.match_components((true + noise)[list(order)], true, WIDTH)
    assert [order[j] for j in found] == [0, 1, 2, 3]


def test_identical_components_match_themselves_and_equal_ones_still_give_a_permutation():
    true = gaussians([[-2, 1], [0, -1], [1, 2]])
    np.testing.assert_array_equal(matching.match_components(true, true, WIDTH), [0, 1, 2])
    same = np.broadcast_to(true[:1], true.shape)
    assert sorted(matching.match_components(same, true, WIDTH)) == [0, 1, 2]
    assert sorted(matching.match_components(np.zeros_like(true), true, WIDTH)) == [0, 1, 2]


def test_the_match_is_joint_over_variates_and_one_to_one():
    true = gaussians([[0, 0], [3, 0]])
    both_near_the_first = gaussians([[0.1, 0], [0.5, 0]])
    np.testing.assert_array_equal(matching.match_components(both_near_the_first, true, WIDTH), [0, 1])
    second_variate_decides = gaussians([[0, 3], [0, -3]])
    np.testing.assert_array_equal(
        matching.match_components(second_variate_decides, gaussians([[0, -3], [0, 3]]), WIDTH), [1, 0]
    )


def test_seeds_are_matched_separately():
    true = gaussians([[-2, 1], [0, -1], [1, 2]])
    orders = np.array([[[0, 1, 2], [2, 1, 0]], [[1, 2, 0], [0, 2, 1]]])
    found = matching.match_components(true[orders], true, WIDTH)
    assert found.shape == (2, 2, 3)
    np.testing.assert_array_equal(np.take_along_axis(orders, found, -1), np.broadcast_to([0, 1, 2], (2, 2, 3)))


def test_distances_are_those_of_the_pairs():
    true, estimated = gaussians([[-2, 1], [0, -1]]), gaussians([[0, 0], [1, 1]])
    found = matching.component_distances(estimated, true, WIDTH)
    for i, j in itertools.product(range(2), range(2)):
        assert found[i, j] == pytest.approx(np.abs(true[i] - estimated[j]).sum() * WIDTH / 2)
    scaled = matching.component_distances(estimated, true, np.array([[WIDTH], [0.0]]))
    assert scaled[0, 1] == pytest.approx(np.abs(true[0, 0] - estimated[1, 0]).sum() * WIDTH / 2)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(0, 2), st.integers(0, 100_000))
def test_assignment_is_the_best_of_all(rows, extra, seed):
    distances = np.random.default_rng(seed).uniform(size=(rows, rows + extra))
    chosen = matching.assign(distances)
    best = min(
        sum(distances[i, j] for i, j in enumerate(columns))
        for columns in itertools.permutations(range(rows + extra), rows)
    )
    assert distances[np.arange(rows), chosen].sum() == pytest.approx(best)
    assert len(set(chosen.tolist())) == rows


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 30), st.integers(0, 100_000))
def test_clustering_accuracy_is_the_best_of_all_namings(clusters, classes, points, seed):
    rng = np.random.default_rng(seed)
    predicted, labels = rng.integers(clusters, size=points), rng.integers(classes, size=points)
    size = max(clusters, classes)
    best = max(np.mean(np.array(naming)[predicted] == labels) for naming in itertools.permutations(range(size)))
    assert matching.clustering_accuracy(predicted, labels) == pytest.approx(best)


def test_accuracies_of_perfect_useless_and_degenerate_predictions():
    labels = np.arange(40) % 4
    assert matching.classification_accuracy(labels, labels) == 1
    assert matching.classification_accuracy((labels + 1) % 4, labels) == 0
    assert matching.clustering_accuracy((labels + 1) % 4, labels) == 1
    assert matching.clustering_accuracy(7 - 3 * labels, labels) == 1
    assert matching.clustering_accuracy(np.zeros(40, int), labels) == 0.25
    assert matching.clustering_accuracy(np.arange(40), labels) == 4 / 40
    assert matching.clustering_accuracy([5], [0]) == 1


def test_accuracies_keep_seed_axes():
    labels = np.array([0, 1, 2, 2])
    predicted = np.array([[0, 1, 2, 2], [2, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(matching.classification_accuracy(predicted, labels), [1, 0.25, 0.25])
    np.testing.assert_allclose(matching.clustering_accuracy(predicted, labels), [1, 1, 0.5])
    np.testing.assert_allclose(matching.clustering_accuracy(predicted, predicted[::-1]), [0.5, 1, 0.5])


def test_wrong_input_is_refused():
    true = gaussians([[-2, 1], [0, -1]])
    with pytest.raises(ValueError, match="components, variates, grid"):
        matching.match_components(true[:1], true, WIDTH)
    with pytest.raises(ValueError, match="estimated densities are not all finite"):
        matching.match_components(true * np.nan, true, WIDTH)
    with pytest.raises(ValueError, match="as many columns"):
        matching.assign(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="not all finite"):
        matching.assign(np.full((2, 2), np.nan))
    for accuracy in (matching.classification_accuracy, matching.clustering_accuracy):
        with pytest.raises(ValueError, match="same points"):
            accuracy([0, 1], [0, 1, 2])
        with pytest.raises(ValueError, match="same points"):
            accuracy([], [])
        with pytest.raises(ValueError, match="integers"):
            accuracy([0.5, 1.0], [0, 1])
