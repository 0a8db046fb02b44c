"""Mean correlation coefficients and statistics over pairs: known answers, brute force, scikit-learn, coverage."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t
from sklearn.cross_decomposition import CCA

from neumix.metrics import correlation
from neumix.seeding import numpy_rng


def gaussian(points: int, dimension: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(points, dimension))


def related(points: int, dimension: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return codes that are noisy mixtures of the same sources."""
    rng = np.random.default_rng(seed)
    sources = rng.normal(size=(points, dimension))
    first, second = (sources @ rng.normal(size=(dimension, dimension)) for _ in range(2))
    return first, second + noise * rng.normal(size=second.shape)


def symmetric(fits: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(fits, fits))
    matrix = values + values.T
    np.fill_diagonal(matrix, np.nan)
    return matrix


def test_identical_codes_score_one():
    codes = gaussian(200, 4)
    assert correlation.strong_mcc(codes, codes) == pytest.approx(1, abs=1e-12)
    assert correlation.weak_mcc(codes, codes) == pytest.approx(1, abs=1e-12)


def test_independent_codes_score_what_chance_gives():
    # A single coordinate leaves nothing to choose: E|r| = sqrt(2 / (pi n)) for n scored points.
    scores = [
        (correlation.strong_mcc(x, y), correlation.weak_mcc(x, y))
        for x, y in ((gaussian(400, 1, 2 * seed), gaussian(400, 1, 2 * seed + 1)) for seed in range(300))
    ]
    np.testing.assert_allclose(np.mean(scores, axis=0), np.sqrt(2 / (np.pi * 200)), rtol=0.12)
    x, y = gaussian(4000, 5, 1), gaussian(4000, 5, 2)
    assert correlation.strong_mcc(x, y) < 0.05  # matched on the other half: no gain from choosing the best
    assert correlation.weak_mcc(x, y) < 0.07


@settings(max_examples=30, deadline=None)
@given(
    st.permutations(range(4)),
    st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
    st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4),
    st.floats(-50, 50),
)
def test_order_scale_sign_and_shift_of_coordinates_change_nothing(order, scale, sign, shift):
    codes = gaussian(60, 4)
    changed = codes[:, list(order)] * np.array(scale) * np.array(sign) + shift
    assert correlation.strong_mcc(codes, changed) == pytest.approx(1, abs=1e-9)


def test_a_rotation_by_45_degrees_scores_weak_one_and_strong_one_over_root_two():
    codes = gaussian(40_000, 2)
    rotated = codes @ (np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2))
    assert correlation.strong_mcc(codes, rotated) == pytest.approx(1 / np.sqrt(2), abs=0.01)
    assert correlation.weak_mcc(codes, rotated) == pytest.approx(1, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 4))
def test_invertible_affine_maps_leave_weak_mcc_unchanged(seed, dimension):
    rng = np.random.default_rng(seed)
    x, y = related(80, 4, 1.0, seed)
    basis, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    mapped = y @ (basis * rng.uniform(0.05, 20, 4)) @ rng.permutation(basis) + rng.normal(size=4)
    before = correlation.weak_mcc(x, y, dimension)
    assert correlation.weak_mcc(x, mapped, dimension) == pytest.approx(before, abs=1e-8)
    assert correlation.weak_mcc(mapped, x, dimension) == pytest.approx(before, abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 100_000))
def test_the_matching_is_the_best_of_all(first, second, seed):
    rng = np.random.default_rng(seed)
    sources = rng.normal(size=(31, 5))
    x = sources[:, :first] + 0.5 * rng.normal(size=(31, first))
    y = rng.permutation(sources, axis=1)[:, :second] + 0.5 * rng.normal(size=(31, second))
    decide, score = (
        np.abs(np.corrcoef(x[half], y[half], rowvar=False)[:first, first:])
        for half in (slice(None, 15), slice(15, None))
    )
    few, many = min(first, second), max(first, second)
    if first > second:
        decide, score = decide.T, score.T
    best = max(itertools.permutations(range(many), few), key=lambda match: decide[np.arange(few), list(match)].sum())
    assert correlation.strong_mcc(x, y) == pytest.approx(score[np.arange(few), list(best)].mean())


def test_the_halves_have_their_roles():
    x = gaussian(400, 2)
    y = x.copy()
    y[200:] = y[200:, ::-1]  # the order of coordinates changes half-way
    assert correlation.strong_mcc(x, y) < 0.2
    assert correlation.strong_mcc(x[200:], y[200:]) == pytest.approx(1)
    assert correlation.weak_mcc(x, y) > 0.2  # matched anew on the scored half
    later = np.concatenate([gaussian(200, 2, 1), x[200:]])
    assert correlation.strong_mcc(x, later) == pytest.approx(1)


@pytest.mark.parametrize("dimension", [1, 3, 5])
def test_cca_agrees_with_scikit_learn(dimension):
    rng = np.random.default_rng(3)
    sources = rng.normal(size=(500, 5))
    x = sources @ rng.normal(size=(5, 6)) + 0.3 * rng.normal(size=(500, 6))
    y = (sources * [1, 0.7, 0.4, 0.25, 0.1] + 0.3 * rng.normal(size=(500, 5))) @ rng.normal(size=(5, 5))
    reference = CCA(dimension, max_iter=50_000, tol=1e-14).fit(x, y)
    ours = correlation.fit_cca(x, y, dimension)
    fresh = rng.normal(size=(50, 6)), rng.normal(size=(50, 5))
    for points in ((x, y), fresh):
        for mine, theirs in zip(ours.transform(*points), reference.transform(*points), strict=True):
            assert mine.shape == (len(points[0]), dimension)
            for k in range(dimension):
                assert abs(np.corrcoef(mine[:, k], theirs[:, k])[0, 1]) == pytest.approx(1, abs=1e-6)
    expected = [np.corrcoef(*pair)[0, 1] for pair in zip(*(v.T for v in reference.transform(x, y)), strict=True)]
    np.testing.assert_allclose(ours.correlations, expected, atol=1e-6)
    np.testing.assert_allclose(correlation.canonical_correlations(x, y)[:dimension], ours.correlations)


def test_variates_are_uncorrelated_of_unit_variance_and_paired():
    x, y = related(300, 4, 1.0, 5)
    fitted = correlation.fit_cca(x + 100, y[:, :3])
    first, second = fitted.transform(x + 100, y[:, :3])
    np.testing.assert_allclose(np.cov(first, rowvar=False), np.eye(3), atol=1e-10)
    np.testing.assert_allclose(np.cov(second, rowvar=False), np.eye(3), atol=1e-10)
    np.testing.assert_allclose(first.T @ second / 299, np.diag(fitted.correlations), atol=1e-10)
    assert np.all(np.diff(fitted.correlations) <= 0)


def test_single_precision_codes_score_as_their_values_do():
    x, y = (codes.astype(np.float32) for codes in related(400, 5, 0.5, 2))
    for score in (correlation.weak_mcc, correlation.strong_mcc):
        assert score(x, y) == pytest.approx(score(x.astype(np.float64), y.astype(np.float64)), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_scales_do_no_harm(scale):
    x, y = related(100, 3, 0.5, 2)
    assert correlation.strong_mcc(x * scale, y) == pytest.approx(correlation.strong_mcc(x, y))
    assert correlation.weak_mcc(x * [scale, 1, 1], y) == pytest.approx(correlation.weak_mcc(x, y))


@pytest.mark.parametrize("score", [correlation.strong_mcc, correlation.weak_mcc])
def test_codes_that_cannot_be_scored_are_refused(score):
    codes = gaussian(40, 3)
    broken = codes.copy()
    broken[7, 2] = np.nan
    with pytest.raises(ValueError, match=r"second codes must be finite, found nan at point 7, coordinate 2"):
        score(codes, broken)
    with pytest.raises(ValueError, match="same points, found 40 and 39"):
        score(codes, codes[1:])
    for wrong in (codes[:, 0], codes[None], codes[:, :0]):
        with pytest.raises(ValueError, match=re.escape("first codes must be (points, coordinates)")):
            score(wrong, codes)
    with pytest.raises(ValueError, match="second codes need more points in each half than coordinates, found 3 for 3"):
        score(codes[:7, :2], codes[:7])
    for half, name in ((slice(None, 20), "the first half"), (slice(20, None), "the second half")):
        constant = codes.copy()
        constant[half, 1] = 0.1
        with pytest.raises(ValueError, match=rf"first codes are constant in coordinate 1 .* on {name}"):
            score(constant, codes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dependent_coordinates_have_no_canonical_correlations(dtype):
    codes = gaussian(200, 4)
    dependent = codes @ np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0.0]]) + 3
    with pytest.raises(ValueError, match="second codes are linearly dependent: rank 3 in 4 coordinates"):
        correlation.weak_mcc(codes, dependent.astype(dtype))
    assert correlation.strong_mcc(codes, dependent.astype(dtype)) > 0.5
    nearly = dependent + 1e-3 * gaussian(200, 4, 1)
    assert correlation.weak_mcc(codes.astype(dtype), nearly.astype(dtype)) > 0.5


@pytest.mark.parametrize("dimension", [0, -1, 3])
def test_the_dimension_must_be_in_range(dimension):
    with pytest.raises(ValueError, match=f"dimension must be between 1 and 2, .* found {dimension}"):
        correlation.weak_mcc(gaussian(40, 3), gaussian(40, 2, 1), dimension)


def test_pairwise_scores_every_pair_and_names_the_one_that_fails():
    fits = [gaussian(60, 2, seed) for seed in range(4)]
    matrix = correlation.pairwise(correlation.strong_mcc, fits)
    assert np.all(np.isnan(np.diag(matrix)))
    for i, j in itertools.combinations(range(4), 2):
        assert matrix[i, j] == matrix[j, i] == correlation.strong_mcc(fits[i], fits[j])
    np.testing.assert_array_equal(correlation.pairwise(correlation.strong_mcc, np.stack(fits)), matrix)
    ordered = correlation.pairwise(lambda a, b: a - 2 * b, [1.0, 10.0, 100.0], symmetric=False)
    np.testing.assert_array_equal(ordered, [[np.nan, -19, -199], [8, np.nan, -190], [98, 80, np.nan]])
    fits[2] = fits[2] * [1, 0]
    with pytest.raises(ValueError, match=r"fits 0 and 2 .*second codes are constant in coordinate 1"):
        correlation.pairwise(correlation.strong_mcc, fits)
    with pytest.raises(ValueError, match="at least 2 fits"):
        correlation.pairwise(correlation.strong_mcc, fits[:1])


def test_values_of_pairs_come_row_by_row():
    matrix = np.array([[np.nan, 1, 2], [1, np.nan, 3], [2, 3, np.nan]])
    np.testing.assert_array_equal(correlation.pair_values(matrix), [1, 2, 3])
    np.testing.assert_array_equal(correlation.ordered_pair_values(matrix), [1, 2, 1, 3, 2, 3])
    matrix[0, 1] = 5
    np.testing.assert_array_equal(correlation.ordered_pair_values(matrix), [5, 2, 1, 3, 2, 3])
    with pytest.raises(ValueError, match="not symmetric"):
        correlation.pair_values(matrix)


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 9), st.integers(0, 100_000))
def test_pseudo_values_are_those_of_leaving_one_fit_out(fits, seed):
    matrix = np.random.default_rng(seed).normal(size=(fits, fits))  # not symmetric
    values = correlation.jackknife(matrix)
    mean = correlation.ordered_pair_values(matrix).mean()
    assert values.mean() == pytest.approx(mean)
    for left_out in range(fits):
        kept = np.delete(np.delete(matrix, left_out, 0), left_out, 1)
        without = correlation.ordered_pair_values(kept).mean()
        assert values[left_out] == pytest.approx(fits * mean - (fits - 1) * without)


def test_the_jackknife_interval_covers_where_the_one_over_pairs_does_not():
    rng = numpy_rng(0, "coverage")
    expectation, replicates, fits = 2 / np.sqrt(np.pi), 600, 10  # E|x - y| of standard normals
    covered = np.zeros(2)
    for _ in range(replicates):
        x = rng.normal(size=fits)
        # one fit is bad or good with all others, beside its distance from each
        matrix = np.abs(x[:, None] - x) + 0.5 * (x[:, None] + x)
        for index, values in enumerate((correlation.jackknife(matrix), correlation.pair_values(matrix))):
            half_width = t.ppf(0.95, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
            covered[index] += abs(values.mean() - expectation) <= half_width
    by_jackknife, by_pairs = covered / replicates
    assert 0.84 < by_jackknife < 0.95
    assert by_pairs < 0.7


def test_the_bootstrap_resamples_fits_and_leaves_copies_out():
    matrix = symmetric(4, 0)
    draws = list(itertools.product(range(4), repeat=4))
    means = []
    for draw in draws:
        pairs = [matrix[i, j] for i, j in itertools.combinations(draw, 2) if i != j]
        if pairs:
            means.append(np.mean(pairs))
    low, high = correlation.bootstrap_interval(matrix, numpy_rng(0, "bootstrap"), draws=40_000, level=0.8)
    exact = np.sort(means)
    share = [np.searchsorted(exact, bound) / len(exact) for bound in (low - 1e-9, low + 1e-9, high - 1e-9, high + 1e-9)]
    assert share[0] - 0.01 <= 0.1 <= share[1] + 0.01
    assert share[2] - 0.01 <= 0.9 <= share[3] + 0.01


def test_the_bootstrap_interval_is_reproducible_and_holds_the_mean():
    matrix = symmetric(10, 1)
    first = correlation.bootstrap_interval(matrix, numpy_rng(0, "bootstrap"))
    assert first == correlation.bootstrap_interval(matrix, numpy_rng(0, "bootstrap"))
    assert first[0] < correlation.pair_values(matrix).mean() < first[1]
    wide = correlation.bootstrap_interval(matrix, numpy_rng(0, "bootstrap"), level=0.99)
    assert wide[0] < first[0] < first[1] < wide[1]
    equal = np.full((5, 5), 0.7)
    assert correlation.bootstrap_interval(equal, numpy_rng(0, "bootstrap")) == pytest.approx((0.7, 0.7))


def test_matrices_that_hold_no_pairs_are_refused():
    rng = numpy_rng(0, "bootstrap")
    for statistic in (correlation.jackknife, lambda matrix: correlation.bootstrap_interval(matrix, rng)):
        with pytest.raises(ValueError, match="at least 3 fits, found 2"):
            statistic(np.ones((2, 2)))
        with pytest.raises(ValueError, match=r"found nan at \[0, 1\]"):
            statistic([[0, np.nan, 1], [0, 0, 1], [0, 0, 0]])
        with pytest.raises(ValueError, match="a row and a column for each fit"):
            statistic(np.ones((3, 2)))
    with pytest.raises(ValueError, match="at least 2 fits, found 1"):
        correlation.pair_values([[1.0]])
    for options in ({"draws": 0}, {"level": 1.0}, {"level": 0.0}):
        with pytest.raises(ValueError, match="draws must be at least 1 and level between 0 and 1"):
            correlation.bootstrap_interval(np.ones((3, 3)), rng, **options)
