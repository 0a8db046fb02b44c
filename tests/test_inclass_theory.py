"""Identifiability of bivariate mixtures: theorems, the family of equivalent instances, exact bounds."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from neumix.models.inclass import theory

seeds = st.integers(0, 1_000_000)


def instance(seed: int, components: int = 2, zeros: float = 0.2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a random discrete instance: weights (C,), densities of x (C, 4) and y (C, 5), some exactly 0."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(components, 3.0))
    densities = []
    for levels in (4, 5):
        table = rng.gamma(1.0, size=(components, levels)) * (rng.uniform(size=(components, levels)) > zeros)
        table[:, 0] += 0.05
        densities.append(table / table.sum(-1, keepdims=True))
    return weights, densities[0], densities[1]


def separated(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an instance in which each component has a level to itself."""
    components = len(weights)
    table = np.concatenate([np.eye(components), np.full((components, 2), 0.5)], 1)
    table /= table.sum(-1, keepdims=True)
    return weights, table, table[:, ::-1].copy()


@settings(max_examples=80, deadline=None)
@given(seeds, st.floats(0.01, 20), st.floats(0.01, 0.99))
def test_family_reproduces_the_joint_and_normalisation_exactly(seed, gamma, w1):
    weights, fx, fy = instance(seed)
    member = theory.equivalent_family(weights, fx, fy, gamma, w1)
    scale = np.abs(member.densities_x).max() * np.abs(member.densities_y).max()
    original = theory.Mixture(weights, fx, fy).joint()
    np.testing.assert_allclose(member.joint(), original, rtol=0, atol=1e-13 * max(scale, 1))
    for densities in (member.densities_x, member.densities_y):
        np.testing.assert_allclose(densities.sum(-1), 1, rtol=0, atol=1e-11 * max(scale, 1))


@settings(max_examples=40, deadline=None)
@given(seeds)
def test_family_contains_the_original_and_its_mirror(seed):
    weights, fx, fy = instance(seed)
    same = theory.equivalent_family(weights, fx, fy, 1.0, float(weights[0]))
    np.testing.assert_allclose(same.densities_x, fx, atol=1e-14)
    np.testing.assert_allclose(same.densities_y, fy, atol=1e-14)
    assert same.allowed


@settings(max_examples=80, deadline=None)
@given(seeds, st.floats(0.001, 0.999))
def test_gamma_bounds_are_where_densities_turn_negative(seed, w1):
    weights, fx, fy = instance(seed)
    mu_x, mu_y = theory.mu(weights, fx), theory.mu(weights, fy)
    lower, upper = theory.gamma_bounds(weights, mu_x, mu_y, w1)
    assert 0 < lower < math.inf
    assert 0 < upper < math.inf
    for factor in (0.5, 0.999, 1.001, 2.0):
        for bound in (lower, upper):
            gamma = bound * factor
            member = theory.equivalent_family(weights, fx, fy, gamma, w1)
            assert member.allowed == (lower <= gamma <= upper)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_weight_ratio_bounds_are_exactly_the_ratios_with_some_gamma(seed):
    weights, fx, fy = instance(seed)
    mu_x, mu_y = theory.mu(weights, fx), theory.mu(weights, fy)
    lower, upper = theory.weight_ratio_bounds(mu_x, mu_y, weights)
    ratio = weights[0] / weights[1]
    assert lower <= ratio * (1 + 1e-12)
    assert ratio <= upper * (1 + 1e-12)
    assume(upper - lower > 1e-6 * ratio)
    for candidate in (lower * 0.99, lower * 1.0001, math.sqrt(lower * upper), upper * 0.9999, upper * 1.01):
        w1 = candidate / (1 + candidate)
        inside = lower <= candidate <= upper
        first, last = theory.gamma_bounds(weights, mu_x, mu_y, w1)
        assert (first <= last * (1 + 1e-12)) == inside  # one gamma is left if mu_x^1 = mu_y^2 = 1
        # An independent search by the signs of the densities, without Eq. (A.4) and (A.6).
        gammas = [*np.geomspace(1e-3, 1e3, 241), math.sqrt(first * last)]
        found = any(theory.equivalent_family(weights, fx, fy, float(gamma), w1).allowed for gamma in gammas)
        assert found == inside


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(0, 1))
def test_bounds_meet_only_if_all_suprema_are_one(seed, variate):
    weights = instance(seed)[0]
    ones = np.ones(2)
    ratio = weights[0] / weights[1]
    assert theory.weight_ratio_bounds(ones, ones, weights) == pytest.approx((ratio, ratio))
    assert theory.gamma_bounds(weights, ones, ones, float(weights[0])) == pytest.approx((1, 1))
    for component in (0, 1):
        less = ones.copy()
        less[component] -= 0.1 * (1 - weights[component])
        suprema = (less, ones) if variate == 0 else (ones, less)
        lower, upper = theory.weight_ratio_bounds(*suprema, weights)
        assert upper > lower * (1 + 1e-6)


def test_equal_components_leave_every_ratio_open():
    weights, density = np.array([0.3, 0.7]), np.array([[0.2, 0.8], [0.2, 0.8]])
    suprema = theory.mu(weights, density)
    np.testing.assert_allclose(suprema, weights)
    lower, upper = theory.weight_ratio_bounds(suprema, suprema, weights)
    assert lower == pytest.approx(0, abs=1e-15)
    assert upper > 1e15
    first, last = theory.gamma_bounds(weights, suprema, suprema, 0.5)
    assert first < 1e-12
    assert last > 1e12


@settings(max_examples=60, deadline=None)
@given(seeds)
def test_conditions_coincide_for_two_components(seed):
    weights, fx, fy = instance(seed, zeros=0.5)
    necessary = theory.necessary_condition(weights, fx, fy)
    sufficient = theory.sufficient_condition(weights, fx, fy)
    np.testing.assert_allclose(necessary[:, 0, 1], sufficient[:, 0])
    np.testing.assert_allclose(necessary[:, 1, 0], sufficient[:, 1])
    assert np.isnan(necessary[:, [0, 1], [0, 1]]).all()


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(3, 5))
def test_sufficient_implies_necessary(seed, components):
    weights, fx, fy = instance(seed, components, zeros=0.6)
    necessary = theory.necessary_condition(weights, fx, fy)
    sufficient = theory.sufficient_condition(weights, fx, fy)
    for other in range(components):
        apart = [i for i in range(components) if i != other]
        assert (necessary[:, apart, other] >= sufficient[:, apart] - 1e-12).all()
    assert (sufficient >= weights - 1e-12).all()
    assert (sufficient <= 1 + 1e-12).all()


def test_necessary_without_sufficient():
    """Each pair is told apart somewhere, yet no component ever stands alone."""
    weights = np.full(3, 1 / 3)
    table = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]]) / 2
    necessary = theory.necessary_condition(weights, table, table)
    assert np.nanmin(necessary) == 1
    np.testing.assert_allclose(theory.sufficient_condition(weights, table, table), 0.5)


@pytest.mark.parametrize("weights", [[0.4, 0.6], [0.2, 0.3, 0.5]])
def test_separated_components_satisfy_both(weights):
    arguments = separated(np.array(weights))
    assert np.nanmin(theory.necessary_condition(*arguments)) == 1
    assert theory.sufficient_condition(*arguments).min() == 1


def test_suprema_of_gaussians_approach_one_with_the_grid():
    weights, means = np.array([0.4, 0.6]), np.array([[-1.0], [1.0]])
    reached = []
    for reach in (3, 6, 12, 24):
        densities = norm.pdf(np.linspace(-reach, reach, 201), means, 1.5)
        reached.append(theory.mu(weights, densities).min())
    assert all(np.diff(reached) > 0)
    assert reached[-1] == pytest.approx(1, abs=1e-8)
    wide = theory.mu(weights, norm.pdf(np.linspace(-200, 200, 401), means, 1.5))  # densities underflow to 0
    assert wide.min() == pytest.approx(1, abs=1e-12)


def test_wide_and_narrow_gaussian_is_not_identifiable():
    """At the centre the narrow component dominates by a finite factor only, whatever the grid."""
    weights, grid = np.array([0.5, 0.5]), np.linspace(-30, 30, 6001)
    densities = norm.pdf(grid, 0, np.array([[1.0], [2.0]]))
    narrow, wide = theory.mu(weights, densities)
    assert narrow == pytest.approx(2 / 3)
    assert wide == pytest.approx(1)
    lower, upper = theory.weight_ratio_bounds(np.array([narrow, wide]), np.array([narrow, wide]), weights)
    assert (lower, upper) == pytest.approx((1, 9))


def test_checkerboard_has_total_correlation_log_2_and_is_identifiable():
    weights, table = np.array([0.5, 0.5]), np.array([[0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5]])
    assert theory.total_correlation(weights, [table, table], [1.0, 1.0]) == pytest.approx(math.log(2), abs=1e-15)
    assert theory.sufficient_condition(weights, table, table).min() == 1


@pytest.mark.parametrize("variates", [2, 3])
def test_total_correlation_equals_the_literal_sum(variates):
    weights, fx, fy = instance(11, 3)
    tables = [fx, fy, fx[:, ::-1].copy()][:variates]
    letters = "abc"[:variates]
    joint = np.einsum(f"i,{','.join('i' + x for x in letters)}->{letters}", weights, *tables)
    product = np.einsum(f"{','.join(letters)}->{letters}", *(weights @ table for table in tables))
    used = joint > 0
    expected = (joint[used] * np.log(joint[used] / product[used])).sum()
    assert theory.total_correlation(weights, tables, [1.0] * variates) == pytest.approx(expected)
    assert expected > 0


def test_total_correlation_of_independent_variates_is_zero():
    weights, fx, fy = instance(2, 3)
    same = np.broadcast_to(fx[0], fx.shape)
    assert theory.total_correlation(weights, [same, fy], [1.0, 1.0]) == pytest.approx(0, abs=1e-14)
    assert theory.total_correlation(np.ones(1), [fx[:1], fy[:1]], [1.0, 1.0]) == pytest.approx(0, abs=1e-14)


def test_total_correlation_of_gaussians_converges_and_takes_quadrature_weights():
    weights, means = np.array([0.4, 0.6]), np.array([[-1.0], [1.0]])
    values = []
    for points in (60, 400):
        grid = np.linspace(-12, 12, points)
        densities = norm.pdf(grid, means, 1.5)
        values.append(theory.total_correlation(weights, [densities] * 2, [grid[1] - grid[0]] * 2))
    nodes, factors = np.polynomial.legendre.leggauss(120)
    densities = norm.pdf(12 * nodes, means, 1.5)
    values.append(theory.total_correlation(weights, [densities] * 2, [12 * factors] * 2))
    np.testing.assert_allclose(values, values[-1], atol=1e-9)
    sample = np.random.default_rng(0)
    label = sample.uniform(size=400_000) > 0.4
    x, y = np.where(label, 1.0, -1.0) + 1.5 * sample.standard_normal((2, len(label)))
    fx, fy = norm.pdf(x, means, 1.5), norm.pdf(y, means, 1.5)
    ratio = (weights @ (fx * fy)) / ((weights @ fx) * (weights @ fy))
    assert values[-1] == pytest.approx(np.log(ratio).mean(), abs=5 * np.log(ratio).std() / len(label) ** 0.5)


def test_wrong_input_is_refused():
    weights, fx, fy = instance(0)
    with pytest.raises(ValueError, match="add up to 1"):
        theory.mu(np.array([0.5, 0.6]), fx)
    with pytest.raises(ValueError, match="positive"):
        theory.mu(np.array([0.0, 1.0]), fx)
    with pytest.raises(ValueError, match="2 components"):
        theory.mu(weights, fx[:1])
    with pytest.raises(ValueError, match="not negative"):
        theory.mu(weights, -fx)
    with pytest.raises(ValueError, match="component 1 has density 0"):
        theory.mu(weights, fx * np.array([[1.0], [0.0]]))
    for gamma, w1 in ((0.0, 0.5), (1.0, 0.0), (1.0, 1.0), (-1.0, 0.5), (math.inf, 0.5)):
        with pytest.raises(ValueError, match="gamma > 0"):
            theory.equivalent_family(weights, fx, fy, gamma, w1)
    with pytest.raises(ValueError, match="2 components, found 3"):
        theory.equivalent_family(np.full(3, 1 / 3), fx, fy, 1.0, 0.5)
    with pytest.raises(ValueError, match="essential suprema"):
        theory.weight_ratio_bounds(np.zeros(2), np.ones(2), weights)
    with pytest.raises(ValueError, match="0 < w1 < 1"):
        theory.gamma_bounds(weights, np.ones(2), np.ones(2), 1.5)
    with pytest.raises(ValueError, match="two or more variates"):
        theory.total_correlation(weights, [fx], [1.0])
