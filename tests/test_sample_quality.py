"""Metrics of samples: exact values, closed forms, brute force; equal, shifted, collapsed, memorised samples."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.linalg import sqrtm
from scipy.stats import ortho_group
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from neumix.metrics import sample_quality
from neumix.metrics.sample_quality import (
    frechet_distance,
    gaussian_frechet_distance,
    inception_score,
    mmd,
    mmd2,
    one_nearest_neighbour_accuracy,
)

SEEDS = st.integers(0, 100_000)
PAIRED = (frechet_distance, mmd2, mmd, one_nearest_neighbour_accuracy)


def normals(seed: int, size: int, dimension: int = 3, shift: float = 0.0) -> np.ndarray:
    return shift + np.random.default_rng(seed).normal(size=(size, dimension))


def covariance(seed: int, dimension: int, rank: int | None = None) -> np.ndarray:
    factor = np.random.default_rng(seed).normal(size=(dimension, rank or dimension))
    return factor @ factor.T


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


class TestInceptionScore:
    @pytest.mark.parametrize("classes", [1, 2, 10])
    def test_it_is_1_without_confidence_and_the_number_of_classes_with_all_of_them(self, classes):
        assert inception_score(np.full((20, classes), 1 / classes)) == pytest.approx(1, abs=1e-12)
        assert inception_score(np.eye(classes)[np.arange(5 * classes) % classes]) == pytest.approx(classes, rel=1e-12)

    def test_it_is_the_number_of_modes_that_are_left(self):
        assert inception_score(np.eye(10)[np.arange(30) % 3]) == pytest.approx(3, rel=1e-12)
        assert inception_score(np.eye(10)[np.zeros(30, int)]) == pytest.approx(1, abs=1e-12)
        assert inception_score(np.eye(10)[:1]) == pytest.approx(1, abs=1e-12)
        assert inception_score(np.eye(2)[[0, 0, 0, 1]]) == pytest.approx(
            math.exp(-0.75 * math.log(0.75) + math.log(4) / 4)
        )

    @settings(max_examples=50, deadline=None)
    @given(SEEDS, st.integers(1, 20), st.integers(1, 6))
    def test_it_is_its_definition_between_1_and_the_number_of_classes(self, seed, images, classes):
        p = softmax(3 * normals(seed, images, classes))
        divergences = [sum(row[c] * math.log(row[c] / p[:, c].mean()) for c in range(classes)) for row in p]
        found = inception_score(p)
        assert found == pytest.approx(math.exp(np.mean(divergences)), rel=1e-9)
        assert 1 <= found <= classes * (1 + 1e-12)
        order = np.random.default_rng(seed).permutation(images)
        assert inception_score(p[order]) == pytest.approx(found, rel=1e-12)

    def test_numbers_next_to_zero_do_no_harm(self):
        tiny = np.array([[1.0, 5e-324], [1.0, 0.0], [1.0, 0.0]])
        assert inception_score(tiny) == pytest.approx(1, abs=1e-12)
        exact = softmax(30 * normals(0, 200, 10))
        assert inception_score(exact.astype(np.float32)) == pytest.approx(inception_score(exact), rel=1e-5)

    @pytest.mark.parametrize(
        ("probabilities", "said"),
        [
            ([0.5, 0.5], r"must be \(images, classes\), found shape \(2,\)"),
            (np.zeros((3, 0)), r"found shape \(3, 0\)"),
            (np.zeros((0, 3)), "at least 1 row, found 0"),
            ([[1, 0], [np.nan, 1]], r"must be finite, found nan at \[1, 0\]"),
            ([[1, 0], [1.5, -0.5]], "found -0.5 or more with a sum of 1 at image 1"),
            ([[1, 0], [0.5, 0.5], [2, 3]], "sum of 5 at image 2 .* softmax"),
        ],
    )
    def test_what_is_no_distribution_is_refused(self, probabilities, said):
        with pytest.raises(ValueError, match=said):
            inception_score(probabilities)


class TestGaussianFrechetDistance:
    def test_diagonal_covariances_have_a_simple_form(self):
        variances_1, variances_2 = np.array([1.0, 4.0, 0.0]), np.array([9.0, 4.0, 2.0])
        found = gaussian_frechet_distance([0, 1, 2], np.diag(variances_1), [3, 1, 0], np.diag(variances_2))
        assert found == pytest.approx(9 + 4 + (1 - 3) ** 2 + 0 + 2, rel=1e-12)

    def test_one_dimension_is_means_and_standard_deviations(self):
        assert gaussian_frechet_distance([1], [[4]], [4], [[25]]) == pytest.approx(9 + 9, rel=1e-12)

    @settings(max_examples=40, deadline=None)
    @given(SEEDS, st.integers(1, 5))
    def test_it_is_the_formula_with_a_general_matrix_root(self, seed, dimension):
        c1, c2 = covariance(seed, dimension), covariance(seed + 1, dimension)
        m1, m2 = normals(seed, 2, dimension)
        expected = np.square(m1 - m2).sum() + np.trace(c1 + c2 - 2 * sqrtm(c1 @ c2).real)
        assert gaussian_frechet_distance(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-5, abs=1e-5)

    @settings(max_examples=40, deadline=None)
    @given(SEEDS, st.integers(2, 6), st.integers(1, 6), st.integers(1, 6))
    def test_it_is_symmetric_rotates_scales_and_vanishes_for_equals_of_any_rank(self, seed, dimension, rank_1, rank_2):
        c1, c2 = covariance(seed, dimension, rank_1), covariance(seed + 1, dimension, rank_2)
        m1, m2 = normals(seed, 2, dimension)
        found = gaussian_frechet_distance(m1, c1, m2, c2)
        near = {"rel": 1e-7, "abs": 1e-7}
        assert found >= np.square(m1 - m2).sum()
        assert gaussian_frechet_distance(m2, c2, m1, c1) == pytest.approx(found, **near)
        assert gaussian_frechet_distance(3 * m1, 9 * c1, 3 * m2, 9 * c2) == pytest.approx(9 * found, **near)
        assert gaussian_frechet_distance(m1, c1, m1, c1) == pytest.approx(0, abs=1e-12 * (1 + np.trace(c1)))
        q = ortho_group.rvs(dimension, random_state=seed)
        assert gaussian_frechet_distance(q @ m1, q @ c1 @ q.T, q @ m2, q @ c2 @ q.T) == pytest.approx(found, **near)

    def test_rank_one_covariances_have_the_angle_between_them(self):
        u, v = np.array([3.0, 0, 0, 0]), np.array([1.0, 1, 1, 1])
        expected = 9 + 4 - 2 * abs(u @ v)
        found = gaussian_frechet_distance(np.zeros(4), np.outer(u, u), np.zeros(4), np.outer(v, v))
        assert found == pytest.approx(expected, rel=1e-7)
        assert gaussian_frechet_distance(u, np.zeros((4, 4)), v, np.zeros((4, 4))) == pytest.approx(4 + 3)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (([0, 0], np.eye(2), [0], np.eye(1)), "means must be .* of the same length"),
            (([[0]], np.eye(1), [[0]], np.eye(1)), r"means must be \(coordinates,\)"),
            (([], np.zeros((0, 0)), [], np.zeros((0, 0))), "means must be"),
            (([np.inf], np.eye(1), [0], np.eye(1)), "mean_1 and mean_2 must be finite"),
            (([0, 0], np.eye(2), [0, 0], np.eye(3)), r"covariance_2 must be \(2, 2\)"),
            (([0], [[np.nan]], [0], [[1]]), "covariance_1 must be finite"),
            (([0, 0], [[1, 0.5], [0, 1]], [0, 0], np.eye(2)), "covariance_1 must be symmetric"),
            (([0, 0], np.eye(2), [0, 0], np.diag([1, -1])), "covariance_2 must be positive semi-definite.* -1"),
        ],
    )
    def test_wrong_arguments_are_refused_by_name(self, arguments, said):
        with pytest.raises(ValueError, match=said):
            gaussian_frechet_distance(*arguments)


class TestFrechetDistance:
    def test_samples_of_gaussians_have_the_gaussians_distance(self):
        c1, c2 = covariance(0, 3), covariance(1, 3)
        rng = np.random.default_rng(0)
        a = rng.multivariate_normal([0, 1, 2], c1, 100_000)
        b = rng.multivariate_normal([1, 1, 0], c2, 100_000)
        expected = gaussian_frechet_distance([0, 1, 2], c1, [1, 1, 0], c2)
        assert frechet_distance(a, b) == pytest.approx(expected, rel=0.02)

    def test_a_shift_alone_counts_with_its_square(self):
        a = normals(0, 50)
        assert frechet_distance(a, a + np.array([1, 2, 0])) == pytest.approx(5, rel=1e-9)
        assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
        assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-12)

    def test_a_collapse_costs_the_lost_variance(self):
        a = normals(0, 50)
        expected = np.var(a, axis=0, ddof=1).sum()
        assert frechet_distance(np.tile(a.mean(axis=0), (20, 1)), a) == pytest.approx(expected, rel=1e-9)

    def test_fewer_samples_than_coordinates_are_enough(self):
        a, b = normals(0, 5, 40), normals(1, 6, 40)
        assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
        assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)
        assert frechet_distance(a, b) > 1

    def test_one_coordinate_is_a_covariance_too(self):
        assert frechet_distance([[0], [2]], [[10], [10]]) == pytest.approx(81 + 2, rel=1e-12)


class TestDiscrepancy:
    @settings(max_examples=30, deadline=None)
    @given(SEEDS, st.integers(2, 8), st.integers(2, 8), st.floats(0.1, 10))
    def test_it_is_the_double_sum(self, seed, n, m, bandwidth):
        a, b = normals(seed, n), normals(seed + 1, m)

        def mean(x, y):
            return np.mean([math.exp(-np.sum((p - q) ** 2) / (2 * bandwidth**2)) for p in x for q in y])

        expected = mean(a, a) - 2 * mean(a, b) + mean(b, b)
        assert mmd2(a, b, bandwidth) == pytest.approx(expected, abs=1e-12)
        assert mmd(a, b, bandwidth) == pytest.approx(math.sqrt(max(expected, 0)), abs=1e-7)
        assert mmd2(a, b, bandwidth) == pytest.approx(mmd2(b, a, bandwidth), abs=1e-12)

    def test_its_bandwidth_is_the_median_distance_of_real_samples_alone(self):
        real = np.array([[0.0], [1.0], [3.0]])  # distances 1, 2 and 3
        for generated in (normals(0, 4, 1), normals(1, 7, 1, 100)):
            assert mmd2(generated, real) == mmd2(generated, real, 2.0)
        assert mmd2(real, normals(0, 4, 1)) != mmd2(real, normals(0, 4, 1), 2.0)

    def test_it_orders_equal_shifted_and_distant_samples(self):
        real = normals(0, 500)
        equal, near, far = (mmd2(normals(1, 500, shift=shift), real) for shift in (0, 0.5, 1))
        assert equal < 3 / 500 < near < far
        within = np.exp(-0.5 * np.square(np.linalg.norm(real[:, None] - real, axis=-1) / 2)).mean()
        assert mmd2(np.full((9, 3), 1e6), real, 2.0) == pytest.approx(1 + within, rel=1e-12)  # nothing in common
        assert mmd2(real[[0, 0]], real[[0, 0, 0]], 1.0) == 0

    def test_the_same_samples_have_none_and_a_collapse_has_much(self):
        real = normals(0, 300)
        assert mmd2(real, real[::-1]) == pytest.approx(0, abs=1e-12)
        assert mmd2(np.zeros((300, 3)), real) > 10 * mmd2(normals(1, 300), real)
        assert mmd2(real[np.arange(300) % 150], real) < 3 / 150  # half of them twice

    def test_units_do_not_matter_with_the_default(self):
        a, b = normals(0, 20), normals(1, 30, shift=0.3)
        assert mmd2(1000 * a, 1000 * b) == pytest.approx(mmd2(a, b), rel=1e-9)

    @pytest.mark.parametrize("bandwidth", [0, -1, math.inf, math.nan])
    def test_bad_bandwidths_are_refused(self, bandwidth):
        with pytest.raises(ValueError, match="bandwidth must be positive and finite, found"):
            mmd2(normals(0, 4), normals(1, 4), bandwidth)

    def test_real_samples_that_repeat_have_no_bandwidth(self):
        with pytest.raises(ValueError, match=r"median distance of 0.*give a bandwidth"):
            mmd2(normals(0, 4), np.ones((4, 3)))
        assert mmd2(np.ones((3, 3)), np.ones((4, 3)), 1.0) == 0


def by_sklearn(real: np.ndarray, generated: np.ndarray) -> tuple[float, float, float]:
    points = np.concatenate([real, generated])
    kinds = np.arange(len(points)) < len(real)
    rule = KNeighborsClassifier(1, algorithm="brute", metric="sqeuclidean")
    right = cross_val_predict(rule, points, kinds, cv=LeaveOneOut()) == kinds
    return right.mean(), right[kinds].mean(), right[~kinds].mean()


class TestNearestNeighbour:
    @pytest.mark.parametrize(("seed", "shift"), [(0, 0.0), (1, 0.5), (2, 1.5)])
    def test_it_is_the_rule_left_one_out(self, seed, shift):
        real, generated = normals(seed, 40, 2), normals(seed + 10, 40, 2, shift)
        found = one_nearest_neighbour_accuracy(real, generated)
        assert tuple(found) == pytest.approx(by_sklearn(real, generated), rel=1e-12)

    def test_it_is_half_for_equal_distributions_and_one_for_distant_ones(self):
        found = one_nearest_neighbour_accuracy(normals(0, 1000), normals(1, 1000))
        assert found.overall == pytest.approx(0.5, abs=0.04)
        assert one_nearest_neighbour_accuracy(normals(0, 50), normals(1, 50, shift=100)) == (1, 1, 1)

    def test_copies_of_real_samples_are_all_wrong(self):
        real = normals(0, 200).astype(np.float32)
        order = np.random.default_rng(0).permutation(200)
        assert one_nearest_neighbour_accuracy(real, real[order]) == (0, 0, 0)
        nearly = real + 1e-4 * normals(1, 200)
        assert one_nearest_neighbour_accuracy(real, nearly).overall < 0.02

    def test_a_collapse_is_seen_among_the_generated_even_onto_a_real_sample(self):
        real = normals(0, 100)
        beside, onto = np.full((100, 3), 0.01), np.tile(real[:1], (100, 1))
        assert one_nearest_neighbour_accuracy(real, beside).generated == 1
        found = one_nearest_neighbour_accuracy(real, onto)
        assert found.generated == pytest.approx(99 / 100)
        assert found.real > 0.8
        half = one_nearest_neighbour_accuracy(real, normals(1, 100) * np.array([1, 1, 0]))
        assert half.generated > half.real

    def test_ties_count_with_the_share_of_their_own(self):
        found = one_nearest_neighbour_accuracy([[0.0], [2.0]], [[1.0], [3.0]])
        assert found == (0, 0, 0)
        found = one_nearest_neighbour_accuracy([[0.0], [2.0]], [[-2.0], [4.0]])  # real: one of each
        assert found == (0.25, 0.5, 0)
        same = one_nearest_neighbour_accuracy(np.ones((5, 2)), np.ones((5, 2)))
        assert same == pytest.approx((4 / 9, 4 / 9, 4 / 9))

    @settings(max_examples=50, deadline=None)
    @given(SEEDS, st.integers(2, 12))
    def test_order_kinds_and_units_do_not_matter_even_with_ties(self, seed, size):
        rng = np.random.default_rng(seed)
        real, generated = rng.integers(0, 4, (2, size, 2)).astype(float)
        found = one_nearest_neighbour_accuracy(real, generated)
        assert one_nearest_neighbour_accuracy(rng.permutation(real), rng.permutation(generated)) == pytest.approx(found)
        overall, of_real, of_generated = one_nearest_neighbour_accuracy(2 * generated + 1, 2 * real + 1)
        assert (overall, of_generated, of_real) == pytest.approx(found)
        assert found.overall == pytest.approx((found.real + found.generated) / 2)

    def test_unequal_numbers_are_refused(self):
        with pytest.raises(ValueError, match=r"as many generated samples as real ones.* 3 generated and 4 real"):
            one_nearest_neighbour_accuracy(normals(0, 4), normals(1, 3))


@settings(max_examples=60, deadline=None)
@given(
    arrays(float, (6, 2), elements=st.floats(-1e6, 1e6)),
    arrays(float, (6, 2), elements=st.floats(-1e6, 1e6)),
    SEEDS,
)
def test_no_metric_is_negative_or_depends_on_the_order(a, b, seed):
    order = np.random.default_rng(seed).permutation(6)
    scale = 1 + np.square(a).sum() + np.square(b).sum()
    assert 0 <= frechet_distance(a, b) == pytest.approx(frechet_distance(a[order], b), abs=1e-9 * scale)
    assert 0 <= mmd2(a, b, 10.0) <= 2 + 1e-12
    assert mmd2(a[order], b, 10.0) == pytest.approx(mmd2(a, b, 10.0), abs=1e-12)
    found = one_nearest_neighbour_accuracy(a, b)
    assert all(0 <= value <= 1 for value in found)
    assert one_nearest_neighbour_accuracy(a[order], b) == pytest.approx(found)


@pytest.mark.parametrize("metric", PAIRED)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:, 0], r"must be \(samples, coordinates\), found shape \(4,\)"),
        (lambda x: x[:, :0], r"found shape \(4, 0\)"),
        (lambda x: x[:1], "must have at least 2 rows, found 1"),
        (lambda x: np.where(x == x[1, 2], np.inf, x), r"must be finite, found inf at \[1, 2\]"),
    ],
)
def test_features_that_cannot_be_compared_are_refused(metric, change, said):
    first, second = ("real", "generated") if metric is one_nearest_neighbour_accuracy else ("a", "b")
    x = normals(0, 4)
    with pytest.raises(ValueError, match=f"{first} .*{said}"):
        metric(change(x), x)
    with pytest.raises(ValueError, match=f"{second} .*{said}"):
        metric(x, change(x))
    with pytest.raises(ValueError, match=f"{first} and {second} must have the same coordinates, found 3 and 2"):
        metric(x, x[:, :2])


def test_every_metric_is_offered():
    assert {metric.__name__ for metric in PAIRED} <= set(sample_quality.__all__)
