"""Decided injectivity against brute force, conditions on networks against counterexamples, laws of images."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import kstest, norm

from neumix.gaussian_mixture import GaussianMixture
from neumix.injectivity import (
    Injectivity,
    affine_maps_between,
    continued_density,
    has_full_image_dimension,
    injectivity,
    leaky_relu_network_injectivity,
    preimage_count,
    pushforward_cdf,
    relu_network_injectivity,
)
from neumix.intervals import exact
from neumix.piecewise_affine import affine_function, fully_connected, piecewise_affine

NONE = Injectivity(False, False, False)
WEAK = Injectivity(True, False, False)
OBSERVABLE = Injectivity(True, True, False)
INJECTIVE = Injectivity(True, True, True)

RELU = piecewise_affine([0], [0, 1], [0, 0])
ABSOLUTE = piecewise_affine([0], [-1, 1], [0, 0])
# Example 4, Eq. (15)
F = piecewise_affine([-4, -2, 2], [Fraction(1, 5), 1, -1, 1], [Fraction(4, 5), 4, 0, -4])
G = piecewise_affine([-4, -2, 2, 4], [Fraction(1, 5), -1, 1, -1, 1], [Fraction(4, 5), -4, 0, 4, -4])
# Widths 1, 2, 2, 2, and no rank is missing, yet it is x -> (|x|, 0).
FOLDING = (np.array([[1], [-1]]), np.array([[1, 1], [-1, -2]]), np.eye(2))
ZEROS = (np.zeros(2), np.zeros(2), np.zeros(2))

fractions = st.fractions(-4, 4, max_denominator=4)
nonzero = fractions.filter(lambda number: number != 0)
seeds = st.integers(0, 10**6)


@st.composite
def functions(draw, dimension=1):
    """Draw functions with few different slopes and offsets, so that images overlap, touch and miss each other."""
    knots = sorted(draw(st.sets(st.integers(-3, 3), max_size=4)))
    pieces = len(knots) + 1
    vector = st.lists(st.integers(-2, 2), min_size=dimension, max_size=dimension)
    maps = st.lists(vector, min_size=pieces, max_size=pieces)
    return piecewise_affine(knots, draw(maps), draw(maps)).reparametrised(draw(st.sampled_from([1, -1])), 0)


@st.composite
def continuous_functions(draw, slopes):
    knots = sorted(draw(st.sets(fractions, max_size=4)))
    slopes = draw(st.lists(slopes, min_size=len(knots) + 1, max_size=len(knots) + 1))
    offsets = [draw(fractions)]
    for knot, before, after in zip(knots, slopes[:-1], slopes[1:], strict=True):
        offsets.append(offsets[-1] + (before - after) * knot)
    return piecewise_affine(knots, slopes, offsets)


def mixture(weights, means, sds):
    return GaussianMixture(np.array(weights), np.array(means)[:, None], np.square(sds).astype(float)[:, None, None])


@st.composite
def mixtures(draw):
    count = draw(st.integers(1, 3))
    weights = np.array(draw(st.lists(st.integers(1, 5), min_size=count, max_size=count)), dtype=float)
    means = draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count))
    sds = draw(st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=count, max_size=count))
    return mixture(weights / weights.sum(), np.array(means, dtype=float), sds)


PRIOR = mixture([0.5, 0.5], [-2.0, 2.0], [1.0, 1.0])  # Eq. (14)
SKEWED = mixture([0.3, 0.7], [-1.0, 2.0], [0.7, 1.5])
WIDE = mixture([0.3, 0.7], [-3.0, 2.0], [2.0, 3.0])


def brute_force(function):
    """Decide a function with scalar values by counting preimages at its critical values and between them."""
    if all(piece.is_constant for piece in function.pieces):
        return NONE
    critical = sorted({value for (value,) in function.knot_values} | {function.at(0)[0]})
    ends = [critical[0] - 2, *critical, critical[-1] + 2]
    sizes = [function.preimage_size((low + high) / 2) for low, high in itertools.pairwise(ends)]
    between = [size for size in sizes if size > 0]
    observable = all(size == 1 for size in between)
    injective = observable and all(function.preimage_size(value) <= 1 for value in critical)
    return Injectivity(1 in between, observable, injective)


KNOWN = {
    "identity": (affine_function(1, 0), INJECTIVE),
    "ReLU": (RELU, OBSERVABLE),
    "absolute value": (ABSOLUTE, NONE),
    "zero": (affine_function(0, 0), NONE),
    "ReLU of minus ReLU": (RELU.transformed([[-1]], [0]).rectified(), NONE),
    "step": (piecewise_affine([0], [0, 0], [0, 1]), NONE),
    "Example 4, f": (F, WEAK),
    "Example 4, g": (G, WEAK),
    "jump back": (piecewise_affine([0], [1, 1], [0, -1]), WEAK),
    "jump ahead": (piecewise_affine([0], [1, 1], [0, 1]), INJECTIVE),
    "jump ahead from a plateau": (piecewise_affine([0], [0, 1], [0, 1]), OBSERVABLE),
    "one value twice": (piecewise_affine([0, 1], [1, -1, 1], [0, 2, 1]), OBSERVABLE),
    "the same value once": (piecewise_affine([0, 1], [1, -1, 1], [0, 2, Fraction(5, 4)]), INJECTIVE),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_functions(name):
    function, expected = KNOWN[name]
    assert injectivity(function) == brute_force(function) == expected


def test_curves_may_cross_overlap_or_touch():
    loop = [[1, 0], [0, 1], [-1, 0], [0, -1]]  # right, up, left, then down through the first stretch
    offsets = [[0, 0], [1, -1], [3, 1], [0, 4]]
    assert injectivity(piecewise_affine([1, 2, 3], loop, offsets)) == OBSERVABLE
    back = piecewise_affine([0, 1, 2], [[1, 1], [-1, -1], [1, 1], [1, 2]], [[0, 0], [0, 0], [-2, -2], [-2, -4]])
    assert injectivity(back) == WEAK
    assert injectivity(ABSOLUTE.transformed([[1], [2]], [0, 1])) == NONE
    assert injectivity(piecewise_affine([0], [[1, 0], [1, 0]], [[0, 0], [-5, 1]])) == INJECTIVE
    assert injectivity(piecewise_affine([0], [[0, 0], [1, 2]], [[1, 2], [0, 0]])) == OBSERVABLE


@settings(max_examples=200, deadline=None)
@given(functions())
def test_decisions_agree_with_brute_force(function):
    decided = injectivity(function)
    assert decided == brute_force(function)
    assert decided.injective <= decided.observably_injective <= decided.weakly_injective


@settings(max_examples=100, deadline=None)
@given(functions(dimension=2), st.integers(0, 10**6))
def test_decisions_on_curves_agree_with_preimages(function, seed):
    decided = injectivity(function)
    assert decided.injective <= decided.observably_injective <= decided.weakly_injective
    # Curves meet in finitely many points apart from common stretches, and none of these points is drawn.
    draws = [exact(z) for z in np.random.default_rng(seed).uniform(-4, 4, 30)]
    sizes = [function.preimage_size(function.at(z)) for z in draws]
    if decided.observably_injective:
        plateaus = [piece.domain for piece in function.pieces if piece.is_constant]
        moving = [not any(z in domain for domain in plateaus) for z in draws]
        assert all(size == 1 for size, moves in zip(sizes, moving, strict=True) if moves)
    if decided.injective:
        assert {function.preimage_size(function.at(knot)) for knot in function.knots} <= {1}
    if not decided.weakly_injective:
        assert all(size > 1 for size in sizes)


@settings(max_examples=60, deadline=None)
@given(functions(), nonzero, fractions, nonzero, fractions)
def test_affine_maps_on_either_side_change_nothing(function, a, b, c, d):
    decided = injectivity(function)
    assert injectivity(function.reparametrised(a, b)) == decided
    assert injectivity(function.transformed([[c]], [d])) == decided
    assert injectivity(function.transformed([[c], [0], [a]], [d, 1, b])) == decided


@settings(max_examples=50, deadline=None)
@given(continuous_functions(st.fractions(Fraction(1, 4), 4)), st.booleans())
def test_strictly_monotone_functions_are_injective(function, mirrored):
    function = function.reparametrised(-1 if mirrored else 1, 0)
    assert function.is_continuous
    assert injectivity(function) == INJECTIVE


@settings(max_examples=50, deadline=None)
@given(continuous_functions(st.fractions(0, 4)))
def test_monotone_functions_lose_injectivity_on_plateaus_only(function):
    plateaus = [piece for piece in function.pieces if piece.is_constant]
    expected = NONE if len(plateaus) == len(function.pieces) else OBSERVABLE if plateaus else INJECTIVE
    assert injectivity(function) == expected


def test_example_5_loses_injectivity_where_its_width_shrinks():
    weights = [np.array([[1], [-1]]), np.array([[1, -1], [1, 1]]), np.array([[0, 1]])]
    biases = [np.zeros(len(weight)) for weight in weights]
    half = Fraction(1, 2)
    network = fully_connected(weights, biases, half)
    assert network == ABSOLUTE.transformed([[half]], [0])
    assert injectivity(network) == NONE
    first, second = (fully_connected(weights[:layers], biases[:layers], half) for layers in (1, 2))
    assert [first.rectified(half).at(x) for x in (2, -2)] == [(2, -1), (-1, 2)]
    assert [second.at(x) for x in (2, -2)] == [(3, 1), (-3, 1)]
    assert injectivity(first) == injectivity(second) == INJECTIVE
    assert leaky_relu_network_injectivity(weights[:2]) == "injective"
    assert leaky_relu_network_injectivity(weights) == "unknown"


def draw_network(rng, widths):
    """Return small integers, which are often enough of lower rank or zero."""
    shapes = zip(widths[1:], widths[:-1], strict=True)
    return [rng.integers(-2, 3, shape) for shape in shapes], [rng.integers(-2, 3, width) for width in widths[1:]]


@settings(max_examples=100, deadline=None)
@given(seeds, st.sampled_from([(1, 1), (1, 1, 1), (1, 2, 2), (1, 2, 3, 3), (1, 3, 1, 2)]))
def test_a_leaky_network_called_injective_is(seed, widths):
    weights, biases = draw_network(np.random.default_rng(seed), widths)
    conclusion = leaky_relu_network_injectivity(weights)
    if conclusion == "injective":
        assert list(widths) == sorted(widths)
        assert injectivity(fully_connected(weights, biases, Fraction(1, 3))) == INJECTIVE
    elif list(widths) == sorted(widths):
        assert any(np.linalg.matrix_rank(weight) < weight.shape[1] for weight in weights)


@settings(max_examples=150, deadline=None)
@given(seeds, st.sampled_from([(1, 2), (1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 1, 3, 3), (1, 1, 1, 2, 2)]))
def test_a_relu_network_called_injective_is(seed, widths):
    rng = np.random.default_rng(seed)
    weights, biases = draw_network(rng, widths)
    conclusion = relu_network_injectivity(weights, biases, rng, draws=100)
    decided = injectivity(fully_connected(weights, biases))
    if conclusion == "injective":
        assert decided == INJECTIVE
    if conclusion == "observably injective":
        assert decided.observably_injective


def preimages(weights, biases, value):
    """Return all preimages of a generic value of a ReLU network by solving for every pattern of active units."""
    found = []
    for pattern in itertools.product(*[list(itertools.product([0, 1], repeat=len(w))) for w in weights[:-1]]):
        matrix, shift, steps = np.eye(weights[0].shape[1]), np.zeros(weights[0].shape[1]), []
        for weight, bias, active in zip(weights, biases, [*pattern, np.ones(len(value))], strict=True):
            matrix, shift = weight @ matrix, weight @ shift + bias
            steps.append((matrix, shift, np.array(active)))
            matrix, shift = matrix * np.array(active)[:, None], shift * np.array(active)
        if np.linalg.matrix_rank(matrix) < matrix.shape[1]:
            continue
        z = np.linalg.lstsq(matrix, value - shift, rcond=None)[0]
        consistent = all(np.array_equal(a @ z + b > 0, active > 0) for a, b, active in steps[:-1])
        if consistent and np.allclose(matrix @ z + shift, value, rtol=0, atol=1e-9):
            found.append(z)
    return found


@pytest.mark.parametrize("widths", [(2, 3), (2, 4, 4), (2, 2, 3, 3), (2, 2, 2, 2)])
def test_planar_relu_networks_have_one_preimage_almost_everywhere(widths):
    rng = np.random.default_rng(5)
    weights = [np.eye(n, m) + 0.7 * rng.normal(size=(n, m)) for m, n in itertools.pairwise(widths)]
    biases = [rng.normal(size=width) + 1 for width in widths[1:]]
    expected = "injective" if len(widths) == 2 else "observably injective"
    assert relu_network_injectivity(weights, biases, rng) == expected
    inside = 0
    for z in rng.normal(size=(200, 2)) * 3:
        value, jacobian = z, np.eye(2)
        for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            active = value > 0 if index else np.ones(2)
            value, jacobian = weight @ (value * active) + bias, weight @ (jacobian * np.reshape(active, (-1, 1)))
        if np.linalg.matrix_rank(jacobian) == 2:
            inside += 1
            (found,) = preimages(weights, biases, value)
            np.testing.assert_allclose(found, z, atol=1e-7)
    assert inside > 5


def test_widths_that_do_not_shrink_are_not_enough_for_relu_networks():
    """Corollary H.2 as printed claims almost everywhere one preimage for this network and those near it."""
    rng = np.random.default_rng(0)
    assert all(np.linalg.matrix_rank(weight) == weight.shape[1] for weight in FOLDING)
    assert has_full_image_dimension(FOLDING, ZEROS, rng)
    network = fully_connected(FOLDING, ZEROS)
    assert network == ABSOLUTE.transformed([[1], [0]], [0, 0])
    assert injectivity(network) == NONE
    assert relu_network_injectivity(FOLDING, ZEROS, rng) == "unknown"
    for _ in range(20):
        weights = [weight + rng.uniform(-0.1, 0.1, weight.shape) for weight in FOLDING]
        biases = [rng.uniform(-0.1, 0.1, 2) for _ in FOLDING]
        assert not injectivity(fully_connected(weights, biases)).observably_injective
        biases[1] = biases[1] - [0, 1]
        assert injectivity(fully_connected(weights, biases)) == NONE


def test_the_plane_is_folded_twice_by_two_folding_networks_side_by_side():
    weights = [np.kron(np.eye(2), weight) for weight in FOLDING]
    found = preimages(weights, [np.zeros(4)] * 3, np.array([1.0, 0.0, 3.0, 0.0]))
    assert {tuple(np.round(z, 9)) for z in found} == {(1, 3), (1, -3), (-1, 3), (-1, -3)}


def test_a_flat_last_layer_is_not_enough_for_relu_networks():
    rng = np.random.default_rng(0)
    weights, biases = [[[1], [-1]], [[1, 1], [0, 0]]], [[0, 0], [0, 0]]
    assert has_full_image_dimension(weights, biases, rng)
    assert injectivity(fully_connected(weights, biases)) == NONE
    assert relu_network_injectivity(weights, biases, rng) == "unknown"


def test_nothing_is_concluded_without_width_rank_or_dimension():
    rng = np.random.default_rng(0)
    assert relu_network_injectivity([[[1, 0]]], [[0]], rng) == "unknown"
    assert leaky_relu_network_injectivity([np.ones((3, 2)), np.eye(3)]) == "unknown"
    assert leaky_relu_network_injectivity([np.eye(3)[:, :2], np.eye(3)]) == "injective"
    wide = ([[[1.0], [-1.0]], np.eye(2)], [np.zeros(2), np.zeros(2)])
    assert relu_network_injectivity(*wide, rng) == "observably injective"
    negative = ([np.eye(2), np.zeros((2, 2)), np.eye(2)], [np.zeros(2), -np.ones(2), np.zeros(2)])
    assert not has_full_image_dimension(*negative, rng, draws=20)
    assert relu_network_injectivity(*negative, rng, draws=20) == "unknown"


def test_the_search_for_a_point_depends_on_the_generator_only():
    corner = ([[[1.0]]] * 2, [[-100.0], [0.0]])  # active beyond 100 only
    answers = [has_full_image_dimension(*corner, np.random.default_rng(3), draws) for draws in (1, 300)]
    assert answers == [False, True]
    assert answers == [has_full_image_dimension(*corner, np.random.default_rng(3), draws) for draws in (1, 300)]


def test_networks_that_do_not_fit_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="a matrix for each layer"):
        leaky_relu_network_injectivity([])
    with pytest.raises(ValueError, match=r"has 2 units, the weight of the next has shape \(1, 3\)"):
        leaky_relu_network_injectivity([np.ones((2, 1)), np.ones((1, 3))])
    with pytest.raises(ValueError, match="bias for each unit"):
        has_full_image_dimension([np.eye(2)], [np.zeros(3)], rng)


@settings(max_examples=25, deadline=None)
@given(functions(), mixtures(), st.integers(-400, 400))
def test_the_continued_density_counts_preimages(function, prior, numerator):
    x0 = Fraction(numerator, 97)
    assume(function.preimage_size(x0) > 0 and (x0,) not in function.knot_values)
    assume(not any(piece.is_constant and piece.offset == (x0,) for piece in function.pieces))
    assert preimage_count(function, prior, x0) == pytest.approx(function.preimage_size(x0), abs=1e-7)


@pytest.mark.parametrize(
    ("function", "x0", "count"), [(RELU, 1, 1), (ABSOLUTE, 1, 2), (F, -1, 3), (G, 1, 3), (F, 3, 1)]
)
def test_preimages_of_the_papers_examples(function, x0, count):
    for prior in (PRIOR, SKEWED):
        assert function.preimage_size(x0) == count
        assert preimage_count(function, prior, x0) == pytest.approx(count, abs=1e-8)


def test_the_continued_density_is_the_density_near_the_value_only():
    step = 1e-4

    def density(x):
        ends = pushforward_cdf(F, WIDE, [x - step, x + step])
        return (ends[1] - ends[0]) / (2 * step)

    def continued(x):
        return sum(np.exp(term.log_prob([x])) for term in continued_density(F, WIDE, 1))

    for x in (0.1, 0.5, 1.0, 1.5, 1.9):
        assert density(x) == pytest.approx(continued(x), rel=1e-5)
    for x in (-1.0, 2.5, 4.0):
        assert abs(density(x) - continued(x)) > 0.01


def test_values_that_are_not_generic_are_refused():
    for function, x0 in ((RELU, 0), (F, 2), (F, -2), (F, 0), (affine_function(0, 3), 3)):
        with pytest.raises(ValueError, match=f"x0 = {x0} is not generic"):
            preimage_count(function, PRIOR, x0)
    # A limit that is not reached: one preimage, but the density jumps there.
    jump = piecewise_affine([0], [1, 1], [5, 0])
    assert jump.preimage_size(5) == 1
    with pytest.raises(ValueError, match="not generic"):
        preimage_count(jump, PRIOR, 5)
    with pytest.raises(ValueError, match="x0 = -1 is not a value"):
        preimage_count(ABSOLUTE, PRIOR, -1)
    plane = GaussianMixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    for function, prior in ((F, plane), (F.transformed([[1], [1]], [0, 0]), PRIOR)):
        with pytest.raises(ValueError, match="of dimension 1"):
            preimage_count(function, prior, 1)
        with pytest.raises(ValueError, match="of dimension 1"):
            pushforward_cdf(function, prior, 1)
    with pytest.raises(ValueError, match="mixtures of dimension 1"):
        affine_maps_between(PRIOR, plane)


def cdf(prior, x):
    parts = zip(prior.weights, prior.means[:, 0], prior.covariances[:, 0, 0], strict=True)
    return sum(weight * norm.cdf(x, mean, variance**0.5) for weight, mean, variance in parts)


def test_cdfs_of_known_images():
    x = np.linspace(-6, 6, 61)
    np.testing.assert_allclose(pushforward_cdf(affine_function(1, 0), SKEWED, x), cdf(SKEWED, x), atol=1e-15)
    np.testing.assert_allclose(
        pushforward_cdf(affine_function(-2, 1), SKEWED, x), 1 - cdf(SKEWED, (1 - x) / 2), atol=1e-15
    )
    folded = np.where(x < 0, 0, cdf(SKEWED, x) - cdf(SKEWED, -x))
    np.testing.assert_allclose(pushforward_cdf(ABSOLUTE, SKEWED, x), folded, atol=1e-15)
    np.testing.assert_allclose(pushforward_cdf(RELU, SKEWED, x), np.where(x < 0, 0, cdf(SKEWED, x)), atol=1e-15)
    jump = piecewise_affine([0], [0, 0], [1, -1])
    np.testing.assert_allclose(pushforward_cdf(jump, PRIOR, [-2, -1, 0.5, 1]), [0, 0.5, 0.5, 1], atol=1e-15)


@settings(max_examples=15, deadline=None)
@given(functions(), mixtures(), seeds)
def test_cdfs_agree_with_draws(function, prior, seed):
    assume(not any(piece.is_constant for piece in function.pieces))
    draws = prior.sample(2000, np.random.default_rng(seed))[0][:, 0]
    test = kstest(function(draws)[:, 0], lambda x: pushforward_cdf(function, prior, x))
    assert test.statistic < 0.07  # exceeded once in 10^8 draws


def test_any_two_mixtures_are_joined_by_a_monotone_map():
    """Example 2: g, the quantile function of P after the distribution function of P', turns P' into P."""
    other = mixture([0.2, 0.5, 0.3], [-3.0, 0.0, 4.0], [1.0, 0.5, 2.0])

    def g(z):
        return brentq(lambda x: cdf(SKEWED, x) - cdf(other, z), -30, 30, xtol=1e-13)

    for x in (-2.0, -0.5, 1.0, 3.0):
        z = brentq(lambda z, x=x: g(z) - x, -10, 10, xtol=1e-12)  # g(Z') <= x exactly if Z' <= z
        assert cdf(other, z) == pytest.approx(cdf(SKEWED, x), abs=1e-10)
    slopes = np.diff([g(z) for z in (-4.0, -3.5, -3.0, 1.0, 1.5, 2.0)])
    assert np.all(slopes > 0)
    assert affine_maps_between(other, SKEWED) == ()


@pytest.mark.parametrize("sd", [0.3, 1.0, 2.5])
def test_remark_3_6_folds_two_priors_that_no_affine_map_joins_into_one_law(sd):
    p = mixture([1 / 3] * 3, [-2.0, -1.0, 3.0], [sd] * 3)
    q = mixture([1 / 3] * 3, [-2.0, 1.0, 3.0], [sd] * 3)
    x = np.linspace(-1, 12, 500)
    np.testing.assert_allclose(pushforward_cdf(ABSOLUTE, p, x), pushforward_cdf(ABSOLUTE, q, x), rtol=0, atol=1e-14)
    assert np.abs(cdf(p, x) - cdf(q, x)).max() > 0.05
    assert affine_maps_between(p, q) == ()
    # Equal standard deviations leave z -> +-z + b, which keep or mirror the gaps of 1 and 4; q has 3 and 2.
    gaps = np.diff(np.sort(p.means[:, 0])), np.diff(np.sort(q.means[:, 0]))
    assert sorted(gaps[0]) != sorted(gaps[1])


def test_example_4_gives_one_law_to_functions_that_no_affine_map_joins():
    assert F.is_continuous
    assert G.is_continuous
    x = np.linspace(-12, 12, 1000)
    np.testing.assert_allclose(pushforward_cdf(F, PRIOR, x), pushforward_cdf(G, PRIOR, x), rtol=0, atol=1e-14)
    assert np.abs(pushforward_cdf(F, SKEWED, x) - pushforward_cdf(G, SKEWED, x)).max() > 0.05
    assert affine_maps_between(PRIOR, PRIOR) == ((1, 0), (-1, 0))
    assert G not in (F, F.reparametrised(-1, 0))
    # No other prior could help: an affine change of variable keeps the number of knots.
    assert (len(F.knots), len(G.knots)) == (3, 4)


@settings(max_examples=40, deadline=None)
@given(mixtures(), st.sampled_from([0.25, 0.5, 1.0, 3.0]), st.booleans(), st.floats(-5, 5))
def test_affine_maps_between_mixtures_are_found(prior, scale, mirrored, shift):
    slope = -scale if mirrored else scale
    found = affine_maps_between(prior, prior.pushforward([[slope]], [shift]))
    assert min(abs(a - slope) + abs(b - shift) for a, b in found) < 1e-7
    assert len(found) in (1, 2)


def test_equal_moments_are_not_enough_for_an_affine_map():
    flat = mixture([1.0], [0.0], [5**0.5])
    assert affine_maps_between(PRIOR, flat) == ()
    assert affine_maps_between(mixture([0.5, 0.5], [0.0, 0.0], [1.0, 1.0]), mixture([1.0], [3.0], [2.0])) == (
        (2, 3),
        (-2, 3),
    )
