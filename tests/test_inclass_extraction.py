"""Extraction of mixtures from pseudo classifiers: exact round trips on discrete mixtures, bivariate formulas."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neumix.models.inclass import extraction

MIXTURES = [(2, 2, 3), (2, 4, 6), (3, 4, 5), (4, 3, 3), (1, 2, 4)]


def discrete(seed: int, variates: int, components: int, levels: int) -> tuple[np.ndarray, ...]:
    """Return weights (C,), densities (C, V, K), marginals (V, K) and true classifiers (V, K, C)."""
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(components, 3.0))
    densities = rng.dirichlet(np.ones(levels), size=(components, variates))
    marginals = np.einsum("i,ivk->vk", weights, densities)
    alpha = np.einsum("i,ivk->vki", weights, densities) / marginals[..., None]
    return weights, densities, marginals, alpha


def pseudo(seed: int, variates: int, components: int, levels: int) -> tuple[np.ndarray, ...]:
    """Return marginals Q (V, K), arbitrary pseudo classifiers (V, K, C) and their exact pseudo weights (V, C)."""
    rng = np.random.default_rng(seed)
    q = rng.dirichlet(np.ones(levels), size=variates)
    beta = rng.dirichlet(np.ones(components), size=(variates, levels))
    return q, beta, np.einsum("vk,vki->vi", q, beta)


def on_grid(table: np.ndarray) -> np.ndarray:
    """Return the classifiers (V, K, C) at all points of the product grid, (K^V, V, C)."""
    variates, levels, _ = table.shape
    index = np.stack(np.meshgrid(*[np.arange(levels)] * variates, indexing="ij"), -1).reshape(-1, variates)
    return np.stack([table[v, index[:, v]] for v in range(variates)], 1)


def product(marginals: np.ndarray) -> np.ndarray:
    """Return the product of the marginals (V, K) on the product grid, (K^V,)."""
    result = np.ones(1)
    for marginal in marginals:
        result = np.outer(result, marginal).ravel()
    return result


def mixture_joint(weights: np.ndarray, densities: np.ndarray) -> np.ndarray:
    """Return sum_i w_i prod_v f_v^i on the product grid, (K^V,)."""
    return sum(w * product(f) for w, f in zip(weights, densities, strict=True))


def test_pseudo_weights_are_means_over_points():
    beta = np.random.default_rng(0).dirichlet(np.ones(3), size=(2, 7, 4))
    np.testing.assert_allclose(extraction.pseudo_weights(beta), beta.sum(1) / 7)
    np.testing.assert_allclose(extraction.pseudo_weights(beta).sum(-1), 1)
    assert extraction.pseudo_weights(beta.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize("mixture", MIXTURES)
def test_true_classifiers_give_the_true_mixture(mixture):
    weights, densities, marginals, alpha = discrete(0, *mixture)
    phi = np.einsum("vk,vki->vi", marginals, alpha)
    np.testing.assert_allclose(extraction.mixture_weights(phi), weights, rtol=1e-12)
    for v in range(mixture[0]):
        np.testing.assert_allclose(extraction.classifiers(alpha[v], phi, v), alpha[v], rtol=1e-12)
        np.testing.assert_allclose(extraction.marginal_ratio(alpha[v], phi, v), 1, rtol=1e-12)
        found = extraction.component_densities(alpha[v], phi[v], marginals[v])
        np.testing.assert_allclose(found, densities[:, v], rtol=1e-12)
    found = extraction.joint_ratio(on_grid(alpha), phi) * product(marginals)
    np.testing.assert_allclose(found, mixture_joint(weights, densities), rtol=1e-11)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(0, 100_000))
def test_any_pseudo_classifiers_describe_one_consistent_mixture(variates, components, levels, seed):
    q, beta, phi = pseudo(seed, variates, components, levels)
    weights = extraction.mixture_weights(phi)
    assert weights.sum() == pytest.approx(1)
    densities = np.stack([extraction.component_densities(beta[v], phi[v], q[v]) for v in range(variates)], 1)
    np.testing.assert_allclose(densities.sum(-1), 1)
    for v in range(variates):
        marginal = extraction.marginal_ratio(beta[v], phi, v) * q[v]
        np.testing.assert_allclose(marginal, weights @ densities[:, v])
        alpha = extraction.classifiers(beta[v], phi, v)
        np.testing.assert_allclose(alpha, (weights[:, None] * densities[:, v] / marginal).T)
        np.testing.assert_allclose(marginal @ alpha, weights)  # the constraint that pseudo classifiers lack
    joint = extraction.joint_ratio(on_grid(beta), phi) * product(q)
    assert joint.sum() == pytest.approx(1)
    np.testing.assert_allclose(joint, mixture_joint(weights, densities))
    parts = np.stack([w * product(f) for w, f in zip(weights, densities, strict=True)], -1)
    aggregate = extraction.aggregate_classifier(on_grid(beta), phi)
    np.testing.assert_allclose(aggregate, parts / parts.sum(-1, keepdims=True))


@pytest.mark.parametrize("seed", range(5))
def test_extracted_classifiers_are_a_fixed_point(seed):
    q, beta, phi = pseudo(seed, 3, 4, 5)
    marginals = np.stack([extraction.marginal_ratio(beta[v], phi, v) * q[v] for v in range(3)])
    alpha = np.stack([extraction.classifiers(beta[v], phi, v) for v in range(3)])
    again = np.einsum("vk,vki->vi", marginals, alpha)
    np.testing.assert_allclose(again, np.broadcast_to(extraction.mixture_weights(phi), again.shape))
    for v in range(3):
        np.testing.assert_allclose(extraction.classifiers(alpha[v], again, v), alpha[v])


@pytest.mark.parametrize("mixture", [(2, 3, 4), (3, 2, 5)])
def test_rescaled_pseudo_classifiers_are_the_same_mixture(mixture):
    """Factors per component that leave the classifiers normalised once Q absorbs the sum change nothing."""
    variates, components, _ = mixture
    weights, densities, marginals, alpha = discrete(3, *mixture)
    factors = np.random.default_rng(1).uniform(0.5, 2.0, size=(variates, components))
    sums = np.einsum("vki,vi->vk", alpha, factors)
    q = marginals * sums
    scale = q.sum(-1, keepdims=True)
    q, beta = q / scale, alpha * factors[:, None] / sums[..., None]
    phi = np.einsum("vk,vki->vi", q, beta)
    assert not np.allclose(phi, weights)
    geometric = np.exp(np.log(weights * factors).mean(0))
    np.testing.assert_allclose(extraction.mixture_weights(phi), geometric / geometric.sum())
    for v in range(variates):
        np.testing.assert_allclose(extraction.component_densities(beta[v], phi[v], q[v]), densities[:, v])


def test_factors_that_cancel_over_the_variates_leave_the_weights():
    weights, densities, marginals, alpha = discrete(4, 2, 3, 4)
    factor = np.array([[2.0, 0.7, 1.1], [1 / 2.0, 1 / 0.7, 1 / 1.1]])
    sums = np.einsum("vki,vi->vk", alpha, factor)
    q = marginals * sums
    q, beta = q / q.sum(-1, keepdims=True), alpha * factor[:, None] / sums[..., None]
    phi = np.einsum("vk,vki->vi", q, beta)
    np.testing.assert_allclose(extraction.mixture_weights(phi), weights)
    joint = extraction.joint_ratio(on_grid(beta), phi) * product(q)
    np.testing.assert_allclose(joint, mixture_joint(weights, densities))


@pytest.mark.parametrize("components", [2, 3, 5])
def test_bivariate_formulas(components):
    q, beta, phi = pseudo(7, 2, components, 6)
    root = np.sqrt(phi[0] * phi[1])
    np.testing.assert_allclose(extraction.mixture_weights(phi), root / root.sum())  # Eq. (32)
    for v, ratio in ((0, np.sqrt(phi[1] / phi[0])), (1, np.sqrt(phi[0] / phi[1]))):
        terms = beta[v] * ratio
        expected = terms / terms.sum(-1, keepdims=True)
        np.testing.assert_allclose(extraction.classifiers(beta[v], phi, v), expected)  # Eq. (31)
        np.testing.assert_allclose(extraction.marginal_ratio(beta[v], phi, v), terms.sum(-1) / root.sum())
        expected = (q[v][:, None] * beta[v] / phi[v]).T
        np.testing.assert_allclose(extraction.component_densities(beta[v], phi[v], q[v]), expected)  # Eq. (33)
    grid = on_grid(beta)
    terms = grid.prod(1) / root
    np.testing.assert_allclose(extraction.joint_ratio(grid, phi), terms.sum(-1) / root.sum())  # Eq. (34)
    expected = terms / terms.sum(-1, keepdims=True)
    np.testing.assert_allclose(extraction.aggregate_classifier(grid, phi), expected)  # Eq. (35)


def test_mean_log_joint_ratio_is_the_negative_cost():
    torch = pytest.importorskip("torch")
    from neumix.models.inclass import costs

    beta = np.random.default_rng(2).dirichlet(np.ones(4), size=(2, 50, 3))
    ratio = extraction.joint_ratio(beta, extraction.pseudo_weights(beta))
    np.testing.assert_allclose(-np.log(ratio).mean(-1), costs.neg_ctc(torch.tensor(np.log(beta))), rtol=1e-12)
    weights = extraction.mixture_weights(extraction.pseudo_weights(beta))
    np.testing.assert_allclose(weights, costs.mixture_weights(torch.tensor(np.log(beta))), rtol=1e-12)


def test_seed_axes_are_independent():
    beta = np.random.default_rng(3).dirichlet(np.ones(3), size=(2, 4, 9, 2))  # (2, 4, N, V, C)
    phi = extraction.pseudo_weights(beta)
    marginal = np.random.default_rng(4).uniform(size=9)
    stacked = (
        extraction.mixture_weights(phi),
        extraction.classifiers(beta[..., 1, :], phi, 1),
        extraction.marginal_ratio(beta[..., 1, :], phi, 1),
        extraction.component_densities(beta[..., 1, :], phi[..., 1, :], marginal),
        extraction.joint_ratio(beta, phi),
        extraction.aggregate_classifier(beta, phi),
    )
    b, p = beta[1, 2], phi[1, 2]
    single = (
        extraction.mixture_weights(p),
        extraction.classifiers(b[:, 1], p, 1),
        extraction.marginal_ratio(b[:, 1], p, 1),
        extraction.component_densities(b[:, 1], p[1], marginal),
        extraction.joint_ratio(b, p),
        extraction.aggregate_classifier(b, p),
    )
    for all_seeds, one in zip(stacked, single, strict=True):
        np.testing.assert_allclose(all_seeds[1, 2], one)


def test_a_component_without_points_has_weight_and_density_zero():
    beta = np.random.default_rng(5).dirichlet(np.ones(2), size=(8, 2))
    beta = np.concatenate([beta, np.zeros((8, 2, 1))], -1)
    phi = extraction.pseudo_weights(beta)
    expected = extraction.pseudo_weights(beta[..., :2])
    weights = extraction.mixture_weights(phi)
    np.testing.assert_allclose(weights, [*extraction.mixture_weights(expected), 0])
    assert np.all(extraction.component_densities(beta[:, 0], phi[0], np.ones(8))[2] == 0)
    np.testing.assert_allclose(extraction.joint_ratio(beta, phi), extraction.joint_ratio(beta[..., :2], expected))
    assert np.all(extraction.aggregate_classifier(beta, phi)[:, 2] == 0)
    assert np.all(extraction.classifiers(beta[:, 0], phi, 0)[:, 2] == 0)


def test_checkerboard_has_density_where_its_components_are():
    sure = np.eye(2)[[0, 1, 0, 1]]  # unit intervals of [0, 4)
    phi = np.full((2, 2), 0.5)
    grid = on_grid(np.stack([sure, sure]))
    ratio = extraction.joint_ratio(grid, phi).reshape(4, 4)
    np.testing.assert_allclose(ratio, 2 * (np.add.outer(np.arange(4), np.arange(4)) % 2 == 0), atol=1e-15)
    aggregate = extraction.aggregate_classifier(grid, phi)
    np.testing.assert_array_equal(np.isnan(aggregate[:, 0]), ratio.ravel() == 0)
    assert np.log(ratio[ratio > 0]).mean() == pytest.approx(math.log(2))


def test_many_variates_do_not_underflow():
    variates = 400
    beta = np.broadcast_to(np.array([0.1, 0.9]), (3, variates, 2))
    phi = extraction.pseudo_weights(beta)
    np.testing.assert_allclose(extraction.mixture_weights(phi), [0.1, 0.9])
    np.testing.assert_allclose(extraction.joint_ratio(beta, phi), 1)
    np.testing.assert_allclose(extraction.aggregate_classifier(beta, phi), beta[:, 0])


def test_wrong_input_is_refused():
    phi = np.full((2, 2), 0.5)
    with pytest.raises(ValueError, match="points, variates, components"):
        extraction.pseudo_weights(np.ones((3, 2)))
    with pytest.raises(ValueError, match="probabilities, found -"):
        extraction.pseudo_weights(np.log(np.full((4, 2, 2), 0.5)))
    with pytest.raises(ValueError, match="probabilities, found nan"):
        extraction.mixture_weights(np.full((2, 2), np.nan))
    with pytest.raises(ValueError, match="variate 2 is not one of 0 to 1"):
        extraction.classifiers(np.full((4, 2), 0.5), phi, 2)
    with pytest.raises(ValueError, match="must agree"):
        extraction.joint_ratio(np.full((4, 3, 2), 0.5), phi)
    with pytest.raises(ValueError, match="4 points"):
        extraction.component_densities(np.full((4, 2), 0.5), phi[0], np.ones(5))
    with pytest.raises(ValueError, match="undefined"):
        extraction.mixture_weights(np.array([[1.0, 0.0], [0.0, 1.0]]))
