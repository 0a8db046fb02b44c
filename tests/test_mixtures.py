"""Known mixtures: densities against scipy and quadrature, samples against densities, boundaries, bad settings."""

import numpy as np
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import logsumexp

from neumix.mixtures import Linear, Normal, ProductMixture, Uniform

WAVE = Uniform(family="uniform", intervals=((0, 1), (2, 3)))
OTHER = Uniform(family="uniform", intervals=((1, 2), (3, 4)))
UNEVEN = Uniform(family="uniform", intervals=((-1, -0.5), (0, 2)))
SLOPES = (-1, -0.8, 0, 0.3, 1)


def normal(mean: float, sd: float = 1.5) -> Normal:
    return Normal(family="normal", mean=mean, sd=sd)


def linear(slope: float) -> Linear:
    return Linear(family="linear", slope=slope)


def uneven_cdf(t: np.ndarray) -> np.ndarray:
    return np.interp(t, [-1, -0.5, 0, 2], [0, 0.2, 0.2, 1])


def wave_cdf(t: np.ndarray) -> np.ndarray:
    return np.interp(t, [0, 1, 2, 3], [0, 0.5, 0.5, 1])


DISTRIBUTIONS = [
    (normal(-1, 0.3), stats.norm(-1, 0.3).cdf),
    (normal(2, 2.5), stats.norm(2, 2.5).cdf),
    (WAVE, wave_cdf),
    (UNEVEN, uneven_cdf),
    *[(linear(slope), lambda t, s=slope: np.clip(t, 0, 1) * (1 + s * (1 - np.clip(t, 0, 1)))) for slope in SLOPES],
]
TRIVARIATE = ProductMixture(
    (0.22, 0.28, 0.5),
    (
        (normal(-1), normal(-1), linear(0.5)),
        (normal(1), normal(1), linear(-1)),
        (normal(-1.5), normal(1.5, 2.5), linear(0)),
    ),
)
CHECKERBOARD = ProductMixture((0.5, 0.5), ((WAVE, WAVE), (OTHER, OTHER)))


@pytest.mark.parametrize(("distribution", "cdf"), DISTRIBUTIONS)
def test_density_is_the_derivative_of_the_distribution_function(distribution, cdf):
    low, high = distribution.support
    edges = np.linspace(low, high, 30_001)  # intervals end on edges
    middles = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(distribution.pdf(middles), np.diff(cdf(edges)) / np.diff(edges), atol=1e-6)
    assert (distribution.pdf(middles) * np.diff(edges)).sum() == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize(("distribution", "cdf"), DISTRIBUTIONS)
def test_samples_follow_the_distribution(distribution, cdf):
    drawn = distribution.sample(20_000, np.random.default_rng(5))
    assert drawn.shape == (20_000,)
    assert stats.kstest(drawn, cdf).pvalue > 0.001
    shifted = drawn + 0.05 * drawn.std()  # the test has the power to notice a small error
    assert stats.kstest(shifted, cdf).pvalue < 0.001


@pytest.mark.parametrize(("distribution", "cdf"), DISTRIBUTIONS)
def test_support_holds_the_samples(distribution, cdf):
    low, high = distribution.support
    drawn = distribution.sample(5_000, np.random.default_rng(1))
    assert low <= drawn.min()
    assert drawn.max() <= high
    assert np.all(distribution.pdf(drawn) > 0)


@given(st.floats(-5, 5), st.floats(0.1, 3), st.floats(-10, 10))
def test_normal_equals_scipy(mean, sd, t):
    assert normal(mean, sd).pdf(np.array(t)) == pytest.approx(stats.norm(mean, sd).pdf(t), rel=1e-10, abs=1e-300)


def test_a_boundary_belongs_to_the_interval_on_its_right():
    edges = np.array([0.0, 1, 2, 3, 4])
    np.testing.assert_array_equal(WAVE.pdf(edges), [0.5, 0, 0.5, 0, 0])
    np.testing.assert_array_equal(OTHER.pdf(edges), [0, 0.5, 0, 0.5, 0])
    just_below = np.nextafter(edges, -np.inf)
    np.testing.assert_array_equal(WAVE.pdf(just_below), [0, 0.5, 0, 0.5, 0])


@given(st.floats(0, 4, exclude_max=True), st.floats(0, 4, exclude_max=True))
def test_every_point_of_the_checkerboard_belongs_to_one_square(x, y):
    joint = CHECKERBOARD.joint(np.array([x, y]))
    same_colour = (np.floor(x) + np.floor(y)) % 2 == 0
    assert np.count_nonzero(joint) == (1 if same_colour else 0)
    assert joint.sum() == pytest.approx(0.125 if same_colour else 0)
    if same_colour:
        assert joint[int(np.floor(x)) % 2] > 0


def test_checkerboard_marginals_are_flat_although_components_are_not():
    t = np.linspace(0, 3.999, 101)
    for variate in range(2):
        np.testing.assert_allclose(CHECKERBOARD.marginal(variate, t), 0.25)


@pytest.mark.parametrize(("slope", "ends"), [(1, (2, 0)), (-1, (0, 2)), (0, (1, 1)), (0.8, (1.8, 0.2))])
def test_linear_densities_reach_their_limits_at_the_ends(slope, ends):
    t = np.array([0, np.nextafter(1, 0), -1e-9, 1])
    np.testing.assert_allclose(linear(slope).pdf(t), [*ends, 0, 0], atol=1e-12)


def test_linear_mirrors_with_its_slope():
    t = np.linspace(0.01, 0.99, 25)
    np.testing.assert_allclose(linear(0.7).pdf(t), linear(-0.7).pdf(1 - t))


@pytest.mark.parametrize("slope", [1.0001, -1.0001, 5])
def test_linear_refuses_slopes_that_make_a_density_negative(slope):
    with pytest.raises(pydantic.ValidationError, match="slope"):
        linear(slope)


@pytest.mark.parametrize("sd", [0, -1])
def test_normal_refuses_a_spread_that_is_not_positive(sd):
    with pytest.raises(pydantic.ValidationError, match="sd"):
        normal(0, sd)


@pytest.mark.parametrize("intervals", [(), ((1, 0),), ((1, 1),), ((0, 2), (1, 3))])
def test_uniform_refuses_intervals_that_are_empty_reversed_or_overlapping(intervals):
    with pytest.raises(pydantic.ValidationError, match="interval"):
        Uniform(family="uniform", intervals=intervals)


def test_densities_have_the_components_first():
    t = np.linspace(-3, 3, 12).reshape(3, 4)
    densities = TRIVARIATE.densities(1, t)
    assert densities.shape == (3, 3, 4)
    for component, (mean, sd) in enumerate([(-1, 1.5), (1, 1.5), (1.5, 2.5)]):
        np.testing.assert_allclose(densities[component], stats.norm(mean, sd).pdf(t))


@settings(max_examples=25)
@given(st.integers(0, 2), st.integers(0, 10_000))
def test_marginal_is_the_weighted_sum_of_densities(variate, seed):
    t = np.random.default_rng(seed).uniform(-2, 2, 7)
    expected = sum(w * c[variate].pdf(t) for w, c in zip(TRIVARIATE.weights, TRIVARIATE.components, strict=True))
    np.testing.assert_allclose(TRIVARIATE.marginal(variate, t), expected)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_joint_is_the_product_and_log_density_its_total(seed):
    points = np.random.default_rng(seed).uniform((-3, -3, 0), (3, 3, 1), (2, 4, 3))
    joint = TRIVARIATE.joint(points)
    assert joint.shape == (3, 2, 4)
    logs = [
        np.log(weight) + sum(np.log(part.pdf(points[..., v])) for v, part in enumerate(component))
        for weight, component in zip(TRIVARIATE.weights, TRIVARIATE.components, strict=True)
    ]
    np.testing.assert_allclose(joint, np.exp(logs), rtol=1e-9)
    np.testing.assert_allclose(TRIVARIATE.log_density(points), logsumexp(logs, axis=0), rtol=1e-9)


def test_joint_integrates_to_its_marginal():
    mixture = ProductMixture((0.4, 0.6), ((normal(-1), linear(0.8)), (normal(1), linear(-0.8))))
    for x in (-1.3, 0.2, 2):
        total = integrate.quad(lambda y, x=x: mixture.joint(np.array([x, y])).sum(), 0, 1)[0]
        assert total == pytest.approx(float(mixture.marginal(0, np.array(x))), rel=1e-8)


def test_log_density_is_minus_infinity_outside_the_support():
    with np.errstate(all="raise"):
        found = CHECKERBOARD.log_density(np.array([[0.5, 0.5], [0.5, 1.5], [9, 9]]))
    np.testing.assert_array_equal(found, [np.log(0.125), -np.inf, -np.inf])


def test_samples_come_from_the_component_that_their_label_names():
    points, labels = TRIVARIATE.sample(20_000, np.random.default_rng(2))
    assert points.shape == (20_000, 3)
    counts = np.bincount(labels, minlength=3)
    assert stats.chisquare(counts, np.array(TRIVARIATE.weights) * len(labels)).pvalue > 0.001
    for component, mean in enumerate((-1, 1, -1.5)):
        members = points[labels == component]
        assert stats.kstest(members[:, 0], stats.norm(mean, 1.5).cdf).pvalue > 0.001
        # Variates are independent within a component, although they are not in the mixture.
        assert stats.spearmanr(members[:, 0], members[:, 2]).pvalue > 0.001
    assert stats.spearmanr(points[:, 0], points[:, 2]).pvalue < 1e-6


def test_samples_depend_on_the_generator_only():
    first, again, other = (TRIVARIATE.sample(50, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_a_component_without_weight_is_never_drawn():
    mixture = ProductMixture((0.0, 1.0), ((normal(0),), (normal(5),)))
    assert set(mixture.sample(200, np.random.default_rng(0))[1]) == {1}


def test_grid_has_even_midpoints_that_cover_every_component():
    grid = CHECKERBOARD.grid(0, 8)
    np.testing.assert_allclose(grid, np.arange(8) * 0.5 + 0.25)
    wide = TRIVARIATE.grid(1, 2000)
    width = wide[1] - wide[0]
    for densities in TRIVARIATE.densities(1, wide):
        assert (densities * width).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("weights", "components", "message"),
    [
        ((0.5, 0.5), ((normal(0),),), "2 weights for 1 components"),
        ((0.5, 0.6), ((normal(0),), (normal(1),)), "sum to 1"),
        ((-0.5, 1.5), ((normal(0),), (normal(1),)), "non-negative"),
        ((0.5, 0.5), ((normal(0),), (normal(1), normal(1))), "same number of variates"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(weights, components, message):
    with pytest.raises(ValueError, match=message):
        ProductMixture(weights, components)


def test_a_weight_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="weights"):
        ProductMixture((float("nan"), 0.5), ((normal(0),), (normal(1),)))
