"""Distance of Gaussian mixtures up to an affine map: closed forms, exact images, brute force, degenerate input."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from neumix.gaussian_mixture import GaussianMixture
from neumix.metrics import mixture_alignment
from neumix.metrics.linear_recovery import recover_linear_map
from neumix.seeding import numpy_rng


def mixture(components: int, dimension: int, seed: int, spread: float = 3.0) -> GaussianMixture:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(components, dimension, dimension))
    return GaussianMixture(
        rng.dirichlet(np.full(components, 5.0)),
        spread * rng.normal(size=(components, dimension)),
        factors @ factors.swapaxes(1, 2) + 0.3 * np.eye(dimension),
    )


def permuted(p: GaussianMixture, order: np.ndarray) -> GaussianMixture:
    return GaussianMixture(p.weights[order], p.means[order], p.covariances[order])


def affine_map(dimension: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a map whose stretches are between 0.3 and 3, and which may mirror."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.normal(size=(dimension, dimension)))[0] for _ in range(2))
    return left * rng.uniform(0.3, 3, dimension) @ right, rng.normal(size=dimension)


def univariate(weights: list[float], means: list[float], variances: list[float]) -> GaussianMixture:
    return GaussianMixture(np.array(weights), np.array(means)[:, None], np.array(variances)[:, None, None])


def grid(low: float, high: float, points: int, dimension: int) -> tuple[np.ndarray, float]:
    axis = np.linspace(low, high, points)
    mesh = np.stack(np.meshgrid(*[axis] * dimension, indexing="ij"), -1)
    return mesh, float((axis[1] - axis[0]) ** dimension)


@pytest.mark.parametrize(("dimension", "points"), [(1, 4001), (2, 401)])
def test_inner_products_and_discrepancy_agree_with_quadrature(dimension, points):
    p, q = mixture(3, dimension, 0, 1.0), mixture(2, dimension, 1, 1.0)
    mesh, cell = grid(-20, 20, points, dimension)
    at_p, at_q = np.exp(p.log_prob(mesh)), np.exp(q.log_prob(mesh))
    assert at_p.sum() * cell == pytest.approx(1, abs=1e-6)
    assert p.inner(q) == pytest.approx((at_p * at_q).sum() * cell, rel=1e-6)
    assert p.inner(q) == q.inner(p)
    norm_p, norm_q, gap = (np.sqrt((values**2).sum() * cell) for values in (at_p, at_q, at_p - at_q))
    assert mixture_alignment.l2_discrepancy(p, q) == pytest.approx(gap / np.sqrt(norm_p * norm_q), rel=1e-5)


def test_inner_products_agree_with_monte_carlo():
    p, q = mixture(3, 3, 0, 1.0), mixture(2, 3, 1, 1.0)
    points, _ = p.sample(100_000, numpy_rng(0, "inner"))
    values = np.exp(q.log_prob(points))
    assert p.inner(q) == pytest.approx(values.mean(), abs=5 * values.std() / np.sqrt(len(values)))


def test_densities_and_samples_are_those_of_the_components():
    p = mixture(3, 2, 4)
    points, labels = p.sample(30_000, numpy_rng(0, "sample"))
    np.testing.assert_allclose(np.bincount(labels) / 30_000, p.weights, atol=0.015)
    for j in range(3):
        np.testing.assert_allclose(points[labels == j].mean(0), p.means[j], atol=0.15)
        np.testing.assert_allclose(np.cov(points[labels == j].T), p.covariances[j], rtol=0.1, atol=0.1)
    components = zip(p.weights, p.means, p.covariances, strict=True)
    expected = sum(weight * multivariate_normal(*moments).pdf(points[:50]) for weight, *moments in components)
    np.testing.assert_allclose(p.log_prob(points[:50]), np.log(expected))
    assert p.log_prob(points[0]).shape == ()
    assert p.log_prob(points[:6].reshape(2, 3, 2)).shape == (2, 3)


def test_a_pushforward_has_the_density_of_the_change_of_variables():
    p = mixture(3, 2, 4)
    matrix, offset = affine_map(2, 0)
    points = np.random.default_rng(0).normal(size=(20, 2))
    image = p.pushforward(matrix, offset).log_prob(points @ matrix.T + offset)
    np.testing.assert_allclose(image, p.log_prob(points) - np.log(abs(np.linalg.det(matrix))))


def test_moments_are_those_of_the_whole_mixture():
    mean, covariance = mixture_alignment.moments(univariate([0.25, 0.75], [0, 4], [1, 2]))
    assert (mean.tolist(), covariance.tolist()) == ([3], [[1.75 + 0.1875 * 16]])
    p = mixture(3, 2, 6)
    points, _ = p.sample(200_000, np.random.default_rng(0))
    mean, covariance = mixture_alignment.moments(p)
    np.testing.assert_allclose(points.mean(0), mean, atol=5 * np.sqrt(np.diag(covariance).max() / len(points)))
    np.testing.assert_allclose(np.cov(points.T), covariance, atol=0.03 * np.diag(covariance).max())


def test_a_component_of_weight_zero_counts_for_nothing():
    p, q = univariate([1, 0], [0, 50], [1, 2]), univariate([1], [0], [1])
    assert p.log_prob([0.3]) == pytest.approx(q.log_prob([0.3]))
    assert p.inner(p) == pytest.approx(q.inner(q))
    assert mixture_alignment.l2_discrepancy(p, q) == pytest.approx(0, abs=1e-7)
    three = mixture(3, 2, 5)
    p = GaussianMixture(np.array([0.5, 0.5, 0]), three.means, three.covariances)
    image = p.pushforward(*affine_map(2, 0))
    assert mixture_alignment.dist_aff_l2(p, image, refine=True) == pytest.approx(0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 6), st.floats(0.2, 5))
def test_the_discrepancy_of_two_gaussians_has_its_closed_form(distance, ratio):
    p, q = univariate([1], [0], [1]), univariate([1], [distance], [1])
    expected = np.sqrt(-2 * np.expm1(-(distance**2) / 4))
    assert mixture_alignment.l2_discrepancy(p, q) == pytest.approx(expected, abs=1e-7)
    scaled = univariate([1], [0], [ratio**2])  # norms as 1 : ratio^(-1/2), cosine sqrt(2 ratio / (1 + ratio^2))
    cosine = np.sqrt(2 * ratio / (1 + ratio**2))
    squared = np.sqrt(ratio) + 1 / np.sqrt(ratio) - 2 * cosine
    assert mixture_alignment.l2_discrepancy(p, scaled) == pytest.approx(np.sqrt(max(squared, 0)), abs=1e-6)


def test_mixtures_without_overlap_are_apart_by_what_their_norms_say():
    p = mixture(3, 2, 0)
    far = p.pushforward(np.eye(2), [1e4, 0])
    assert mixture_alignment.l2_discrepancy(p, far) == pytest.approx(np.sqrt(2))
    wide = p.pushforward(4 * np.eye(2), [1e6, 0])  # density a 16th, norm a 4th
    assert mixture_alignment.l2_discrepancy(p, wide) == pytest.approx(np.sqrt(4 + 1 / 4))


def test_equal_mixtures_are_not_apart():
    p = mixture(4, 3, 2)
    order = np.array([2, 0, 3, 1])
    assert mixture_alignment.l2_discrepancy(p, p) == 0
    assert mixture_alignment.l2_discrepancy(p, permuted(p, order)) == pytest.approx(0, abs=1e-7)
    for refine in (False, True):
        assert mixture_alignment.dist_aff_l2(p, p, refine) == pytest.approx(0, abs=1e-6)
        assert mixture_alignment.dist_aff_l2(p, permuted(p, order), refine) == pytest.approx(0, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 3))
def test_one_affine_map_of_both_mixtures_changes_nothing(seed, dimension):
    p, q = mixture(3, dimension, seed), mixture(3, dimension, seed + 1)
    a, b = affine_map(dimension, seed)
    before = mixture_alignment.l2_discrepancy(p, q)
    assert mixture_alignment.l2_discrepancy(p.pushforward(a, b), q.pushforward(a, b)) == pytest.approx(before, abs=1e-6)
    matched = mixture_alignment.dist_aff_l2(p, q)
    assert mixture_alignment.dist_aff_l2(p.pushforward(a, b), q) == pytest.approx(matched, rel=1e-6, abs=1e-6)
    if dimension < 3:  # otherwise the map of three means is completed, which no longer is least squares
        assert mixture_alignment.dist_aff_l2(p, q.pushforward(a, b)) == pytest.approx(matched, rel=1e-6, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 3), st.integers(0, 2))
def test_the_map_to_a_permuted_affine_image_is_found(seed, dimension, more):
    # M components leave one direction open, whose sign the covariances decide; more leave none.
    components = dimension + more
    p = mixture(components, dimension, seed)
    order = np.random.default_rng(seed).permutation(components)
    matrix, offset = affine_map(dimension, seed)
    found = mixture_alignment.align_means(p, permuted(p, order).pushforward(matrix, offset))
    assert found.distance == pytest.approx(0, abs=1e-5)
    np.testing.assert_array_equal(order[found.permutation], np.arange(components))
    if more:
        np.testing.assert_allclose(found.matrix, matrix, atol=1e-6)
        np.testing.assert_allclose(found.offset, offset, atol=1e-5)


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_any_two_gaussians_are_affine_images(dimension):
    p, q = mixture(1, dimension, 0), mixture(1, dimension, 1)
    for found in mixture_alignment.align(p, q):
        image = p.pushforward(found.matrix, found.offset)
        np.testing.assert_allclose(image.means, q.means, atol=1e-6)
        np.testing.assert_allclose(image.covariances, q.covariances, atol=1e-6)
        assert found.distance == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("which", ["both", "source", "target"])
def test_collinear_means_leave_an_invertible_map(which):
    p, q = mixture(3, 2, 0), mixture(3, 2, 1)
    line = np.array([[0.0, 0.0], [1.0, 2.0], [-3.0, -6.0]])
    flat_p, flat_q = (GaussianMixture(m.weights, line, m.covariances) for m in (p, q))
    p, q = (flat_p if which != "target" else p), (flat_q if which != "source" else q)
    for found in mixture_alignment.align(p, q):
        assert np.linalg.cond(found.matrix) < 1e4
        image = p.pushforward(found.matrix, found.offset)
        assert mixture_alignment.l2_discrepancy(image, q) == pytest.approx(found.distance, abs=1e-6)
    image = flat_p.pushforward(*affine_map(2, 3))
    assert mixture_alignment.dist_aff_l2(flat_p, image) == pytest.approx(0, abs=1e-6)


def test_equal_means_are_aligned_by_covariances():
    p = univariate([0.3, 0.7], [1, 1], [1, 4])
    q = univariate([0.3, 0.7], [-2, -2], [9, 36])
    assert mixture_alignment.dist_aff_l2(p, q) == pytest.approx(0, abs=1e-6)


def test_matched_means_are_the_best_least_squares_map_of_all_permutations():
    p, q = mixture(4, 2, 10), mixture(4, 2, 11)
    found = mixture_alignment.align_means(p, q)
    design = np.column_stack([p.means, np.ones(4)])
    expected = {}
    for order in itertools.permutations(range(4)):
        solution = np.linalg.lstsq(design, q.means[list(order)], rcond=None)[0]
        image = p.pushforward(solution[:2].T, solution[2])
        expected[order] = mixture_alignment.l2_discrepancy(image, q), solution
    best = min(expected, key=lambda order: expected[order][0])
    assert tuple(found.permutation) == best
    assert found.distance == pytest.approx(expected[best][0])
    np.testing.assert_allclose(found.matrix, expected[best][1][:2].T, atol=1e-8)
    np.testing.assert_allclose(found.offset, expected[best][1][2], atol=1e-8)
    assert mixture_alignment.dist_aff_l2(p, q) == found.distance


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 100_000), st.integers(2, 3), st.integers(1, 2))
def test_refining_never_loses_and_reports_the_map_it_found(seed, components, dimension):
    p, q = mixture(components, dimension, seed), mixture(components, dimension, seed + 1)
    matched, refined = mixture_alignment.align(p, q)
    assert matched.distance == mixture_alignment.dist_aff_l2(p, q)
    assert refined.distance == mixture_alignment.dist_aff_l2(p, q, refine=True)
    assert refined.distance <= matched.distance
    assert refined.distance < np.sqrt(2)  # scaling alone equates norms
    for found in (matched, refined):
        image = p.pushforward(found.matrix, found.offset)
        assert mixture_alignment.l2_discrepancy(image, q) == pytest.approx(found.distance, rel=1e-6, abs=1e-6)
        assert sorted(found.permutation) == list(range(components))


def test_refining_finds_the_optimum_of_a_dense_search():
    p, q = univariate([0.3, 0.7], [-1, 2], [0.5, 1]), univariate([0.5, 0.5], [0, 3], [1, 0.3])
    points, cell = grid(-15, 15, 301, 1)
    target = np.exp(q.log_prob(points))
    least = np.inf
    for slope in np.concatenate([np.linspace(-2.5, -0.2, 40), np.linspace(0.2, 2.5, 40)]):
        source = (points - np.linspace(-4, 6, 60)[:, None, None]) / slope  # (offsets, points, 1)
        image = np.exp(p.log_prob(source)) / abs(slope)
        norms = np.sqrt((image**2).sum(-1) * (target**2).sum()) * cell
        least = min(least, np.sqrt((((image - target) ** 2).sum(-1) * cell / norms).min()))
    refined = mixture_alignment.dist_aff_l2(p, q, refine=True)
    assert least - 0.02 < refined <= least + 1e-6
    assert mixture_alignment.dist_aff_l2(q, p, refine=True) == pytest.approx(refined, abs=1e-6)
    assert mixture_alignment.dist_aff_l2(p, q) > refined + 0.01


def test_the_refined_distance_has_no_direction_but_matched_means_do():
    p, q = mixture(3, 2, 20), mixture(3, 2, 21)
    (there, there_refined), (back, back_refined) = mixture_alignment.align(p, q), mixture_alignment.align(q, p)
    assert there_refined.distance == pytest.approx(back_refined.distance, abs=1e-5)
    np.testing.assert_allclose(there_refined.matrix @ back_refined.matrix, np.eye(2), atol=1e-3)
    four, other = mixture(4, 2, 20), mixture(4, 2, 21)
    assert mixture_alignment.dist_aff_l2(four, other) != pytest.approx(mixture_alignment.dist_aff_l2(other, four))
    assert there.distance == pytest.approx(back.distance)  # three means in the plane determine the map both ways


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 4), st.integers(1, 3))
def test_the_gradient_agrees_with_finite_differences(seed, components, dimension):
    p, q = mixture(components, dimension, seed, 1.0), mixture(components, dimension, seed + 1, 1.0)
    matrix, offset = affine_map(dimension, seed)
    parameters = np.append(matrix, offset)
    norms = np.log(p.inner(p)), np.log(q.inner(q))
    value, gradient = mixture_alignment._squared_distance(parameters, p, q, norms)
    image = p.pushforward(matrix, offset)
    assert value == pytest.approx(mixture_alignment.l2_discrepancy(image, q) ** 2)
    numeric = approx_fprime(parameters, lambda x: mixture_alignment._squared_distance(x, p, q, norms)[0], 1e-6)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("components", "dimension"), [(4, 2), (5, 3), (6, 2), (6, 5)])
def test_searched_permutations_hold_the_best_of_all(components, dimension):
    for seed in range(3):
        p = mixture(components, dimension, seed)
        rng = np.random.default_rng(seed)
        order = rng.permutation(components)
        moved = GaussianMixture(p.weights, p.means + 0.2 * rng.normal(size=p.means.shape), p.covariances * 1.2)
        pair = mixture_alignment._Pair.of(p, permuted(moved, order).pushforward(*affine_map(dimension, seed)))
        found = mixture_alignment._searched_permutations(pair.p, pair.q)
        everything = mixture_alignment._candidate_permutations(pair.p, pair.q)
        assert len({tuple(row) for row in found.tolist()}) == len(found)
        assert np.all(np.sort(found, axis=1) == np.arange(components))
        assert pair.matched(found).distance == pytest.approx(pair.matched(everything).distance)


@pytest.mark.parametrize("components", [9, 25])
def test_many_components_are_aligned(components):
    p = mixture(components, 3, components)
    order = np.random.default_rng(0).permutation(components)
    found = mixture_alignment.align_means(p, permuted(p, order).pushforward(*affine_map(3, 0)))
    np.testing.assert_array_equal(order[found.permutation], np.arange(components))
    assert found.distance == pytest.approx(0, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 5))
def test_a_linear_map_is_recovered_up_to_order_scale_and_sign(seed, dimension):
    rng = np.random.default_rng(seed)
    first = rng.uniform(0.3, 3, dimension)
    ratios = rng.permutation(1.5 ** np.arange(dimension)) * rng.uniform(0.5, 0.6)
    matrix, _ = affine_map(dimension, seed)
    found, roots = recover_linear_map(matrix * first @ matrix.T, matrix * (first * ratios) @ matrix.T)
    np.testing.assert_allclose(roots, np.sqrt(np.sort(ratios)[::-1]))
    monomial = np.linalg.solve(found, matrix)
    large = np.abs(monomial) > 1e-6
    assert np.all(large.sum(0) == 1) and np.all(large.sum(1) == 1)


def test_equal_ratios_identify_no_linear_map():
    matrix, _ = affine_map(3, 0)
    first, second = (matrix * np.array(variances) @ matrix.T for variances in ([1, 2, 3], [2, 4, 1.0]))
    with pytest.raises(ValueError, match="must be distinct"):
        recover_linear_map(first, second)
    nearly = matrix * np.array([2, 4.01, 1]) @ matrix.T
    recover_linear_map(first, nearly)
    with pytest.raises(ValueError, match=re.escape("within a tolerance of 0.01")):
        recover_linear_map(first, nearly, tolerance=0.01)
    with pytest.raises(ValueError, match="square and of one shape"):
        recover_linear_map(first, second[:2, :2])
    with pytest.raises(ValueError, match="covariance_2 is singular or not positive definite"):
        recover_linear_map(first, np.diag([1.0, 2.0, 0.0]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [0.5, 0.6]}, "weights must be non-negative and sum to 1"),
        ({"weights": [1.5, -0.5]}, "weights must be non-negative and sum to 1"),
        ({"weights": [1.0]}, "weights must be (2,), one for each mean"),
        ({"means": [0.0, 1.0]}, "means must be (components, dimension)"),
        ({"means": [[0.0, np.nan], [1.0, 1.0]]}, "means must be finite"),
        ({"covariances": [np.eye(2)]}, "covariances must be (2, 2, 2)"),
        ({"covariances": [np.eye(2), [[1, 1], [1, 1]]]}, "covariance of component 1 (counted from 0) is singular"),
        ({"covariances": [[[1, 2], [2, 1]], np.eye(2)]}, "covariance of component 0 (counted from 0) is singular"),
        ({"covariances": [np.zeros((2, 2)), np.eye(2)]}, "covariance of component 0 (counted from 0) is singular"),
        ({"covariances": [[[1, 0.5], [0, 1]], np.eye(2)]}, "covariance of component 0 (counted from 0) must be symm"),
    ],
)
def test_values_that_make_no_mixture_are_refused(change, message):
    fields = {"weights": [0.5, 0.5], "means": [[0.0, 0.0], [1.0, 1.0]], "covariances": [np.eye(2), np.eye(2)]}
    GaussianMixture(**fields)
    with pytest.raises(ValueError, match=re.escape(message)):
        GaussianMixture(**fields | change)


def test_mixtures_that_do_not_fit_are_refused():
    p = mixture(2, 2, 0)
    for other in (mixture(2, 3, 0), mixture(2, 1, 0)):
        for compare in (mixture_alignment.l2_discrepancy, mixture_alignment.align, GaussianMixture.inner):
            with pytest.raises(ValueError, match="same dimension"):
                compare(p, other)
    with pytest.raises(ValueError, match="found 2 and 3"):
        mixture_alignment.align_means(p, mixture(3, 2, 0))
    with pytest.raises(ValueError, match="matrix and offset must have shapes"):
        p.pushforward(np.eye(3), np.zeros(2))
    with pytest.raises(ValueError, match="singular"):
        p.pushforward(np.ones((2, 2)), np.zeros(2))
