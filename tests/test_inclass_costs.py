"""Costs of InClass nets against literal loops, exact values, bounds and finite differences."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neumix.models.inclass import costs

SHAPES = [(1, 50, 2, 2), (3, 7, 2, 5), (2, 11, 3, 4), (2, 5, 4, 3), (1, 1, 2, 3), (2, 9, 1, 3), (2, 6, 3, 1)]
COSTS = [costs.neg_ctc, costs.unnorm_neg_ctc]


def draw(shape: tuple[int, ...], seed: int = 0, spread: float = 1.5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return spread * torch.randn(shape, generator=generator, dtype=torch.float64)


def random_beta(shape: tuple[int, ...], seed: int = 0, spread: float = 1.5) -> Tensor:
    return torch.log_softmax(draw(shape, seed, spread), -1)


def literal(log_beta: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return Eq. (25) and (C.1) by loops over seeds, points, components and variates."""
    beta = log_beta.detach().exp().numpy()
    seeds, batch, variates, components = beta.shape
    normalised, plain = np.zeros(seeds), np.zeros(seeds)
    for s in range(seeds):
        phi = [
            [sum(beta[s, b, v, i] for b in range(batch)) / batch for i in range(components)] for v in range(variates)
        ]
        denominator = sum(math.prod(phi[v][i] for v in range(variates)) ** (1 / variates) for i in range(components))
        for b in range(batch):
            numerator = sum(
                math.prod(beta[s, b, v, i] * phi[v][i] ** ((1 - variates) / variates) for v in range(variates))
                for i in range(components)
            )
            normalised[s] -= math.log(numerator / denominator) / batch
            plain[s] -= math.log(numerator) / batch
    return normalised, plain


def finite_difference(cost, logits: Tensor, step: float = 1e-5) -> Tensor:
    gradient = torch.zeros_like(logits)
    for index in itertools.product(*map(range, logits.shape)):
        shift = torch.zeros_like(logits)
        shift[index] = step
        up, down = (cost(torch.log_softmax(logits + sign * shift, -1)).sum() for sign in (1, -1))
        gradient[index] = (up - down) / (2 * step)
    return gradient


def gradient(cost, logits: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(cost(costs.log_softmax(logits)).sum(), logits)[0]


def discrete_mixture(seed: int, variates: int, components: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = rng.dirichlet(np.full(components, 2.0))
    return weights, rng.dirichlet(np.ones(levels), size=(components, variates))  # (C,), (C, V, levels)


def sample_exactly(weights: np.ndarray, densities: np.ndarray, copies: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return every outcome repeated in proportion to its rounded probability, the probabilities, and C*."""
    components, variates, levels = densities.shape
    outcomes = np.array(list(itertools.product(range(levels), repeat=variates)))
    joint = np.array(
        [
            sum(weights[i] * math.prod(densities[i, v, x[v]] for v in range(variates)) for i in range(components))
            for x in outcomes
        ]
    )
    counts = np.round(joint * copies).astype(int)
    points = np.repeat(outcomes, counts, axis=0)
    p = counts / counts.sum()
    marginals = [np.bincount(outcomes[:, v], weights=p, minlength=levels) for v in range(variates)]
    products = np.prod([marginals[v][outcomes[:, v]] for v in range(variates)], axis=0)
    used = p > 0
    return points, p, float((p[used] * np.log(p[used] / products[used])).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_costs_equal_the_literal_loops(shape):
    log_beta = random_beta(shape)
    normalised, plain = literal(log_beta)
    np.testing.assert_allclose(costs.neg_ctc(log_beta), normalised, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(costs.unnorm_neg_ctc(log_beta), plain, rtol=1e-12, atol=1e-13)
    if shape[2] == 2:
        np.testing.assert_allclose(costs.neg_cmi(log_beta), normalised, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(costs.unnorm_neg_cmi(log_beta), plain, rtol=1e-12, atol=1e-13)


def test_neg_cmi_is_equation_29():
    log_beta = random_beta((2, 13, 2, 3))
    bx, by = log_beta.exp().unbind(2)
    root = (bx.mean(1) * by.mean(1)).sqrt()
    ratio = (bx * by / root[:, None]).sum(-1) / root.sum(-1, keepdim=True)
    torch.testing.assert_close(costs.neg_cmi(log_beta), -ratio.log().mean(1), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cost", COSTS)
def test_closed_form_gradient_passes_gradcheck(cost, shape):
    if math.prod(shape) > 100:
        shape = (1, 6, *shape[2:])
    log_beta = random_beta(shape).requires_grad_()
    assert torch.autograd.gradcheck(cost, (log_beta,))
    logits = draw(shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: cost(costs.log_softmax(z)), (logits,))


@pytest.mark.parametrize("cost", COSTS)
def test_closed_form_gradient_equals_autograd_of_the_formula(cost):
    log_beta = random_beta((3, 17, 3, 4)).requires_grad_()
    upstream = torch.tensor([0.5, -2.0, 3.0], dtype=torch.float64)
    phi = log_beta.exp().mean(1, keepdim=True)
    numerator = (log_beta.exp() * phi ** (-2 / 3)).prod(2).sum(-1)
    plain = -numerator.log().mean(1)
    formula = plain if cost is costs.unnorm_neg_ctc else plain + (phi[:, 0] ** (1 / 3)).prod(1).sum(-1).log()
    expected = torch.autograd.grad(formula @ upstream, log_beta)[0]
    found = torch.autograd.grad(cost(log_beta) @ upstream, log_beta)[0]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)


def test_second_derivatives_are_refused_rather_than_wrong():
    log_beta = random_beta((1, 5, 2, 2)).requires_grad_()
    (first,) = torch.autograd.grad(costs.neg_ctc(log_beta).square().sum(), log_beta, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_log_softmax_has_the_ordinary_values_and_gradient():
    logits = draw((2, 5, 3, 4)).requires_grad_()
    upstream = draw((2, 5, 3, 4), seed=1)
    found, expected = costs.log_softmax(logits), torch.log_softmax(logits, -1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, logits, upstream), torch.autograd.grad(expected, logits, upstream)
    )
    assert found.permute(0, 2, 3, 1).is_contiguous()


def test_memory_layout_changes_nothing():
    logits = draw((2, 8, 3, 4))
    layouts = [
        costs.log_softmax,
        lambda z: torch.log_softmax(z, -1),
        lambda z: torch.log_softmax(z.transpose(0, 2).contiguous(), -1).transpose(0, 2),
    ]
    results = []
    for layout in layouts:
        leaf = logits.clone().requires_grad_()
        value = costs.neg_ctc(layout(leaf))
        results.append((value.detach(), torch.autograd.grad(value.sum(), leaf)[0]))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-13, atol=1e-15)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.floats(0.1, 20.0), st.integers(0, 10_000))
def test_surrogate_is_never_below_the_cost(variates, components, batch, spread, seed):
    log_beta = random_beta((2, batch, variates, components), seed, spread)
    gap = costs.unnorm_neg_ctc(log_beta) - costs.neg_ctc(log_beta)
    assert (gap >= -1e-12).all()
    phi = log_beta.exp().mean(1)
    log_d = (phi.log().mean(1)).exp().sum(-1).log()
    torch.testing.assert_close(gap, -log_d, rtol=1e-9, atol=1e-12)


def test_surrogate_equals_the_cost_when_pseudo_weights_agree():
    one = random_beta((2, 12, 1, 4))
    shuffled = one[:, torch.randperm(12, generator=torch.Generator().manual_seed(3))]
    log_beta = torch.cat([one, shuffled, one.flip(1)], 2)
    torch.testing.assert_close(costs.unnorm_neg_ctc(log_beta), costs.neg_ctc(log_beta), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("variates", "components", "levels"), [(2, 2, 4), (2, 3, 5), (3, 2, 3), (3, 4, 4)])
def test_cost_is_bounded_by_the_total_correlation_and_the_truth_attains_it(variates, components, levels):
    weights, densities = discrete_mixture(5, variates, components, levels)
    points, _, bound = sample_exactly(weights, densities, 40_000)
    marginals = np.einsum("i,ivx->vx", weights, densities)
    alpha = weights[:, None, None] * densities / marginals  # (C, V, levels)
    table = torch.log(torch.tensor(alpha).permute(1, 2, 0))  # (V, levels, C)
    truth = torch.stack([table[v, points[:, v]] for v in range(variates)], 1)[None]
    assert costs.neg_ctc(truth).item() == pytest.approx(-bound, abs=2e-4)
    for seed in range(20):
        classifier = random_beta((variates, levels, components), seed, spread=2.0)
        other = torch.stack([classifier[v, points[:, v]] for v in range(variates)], 1)[None]
        assert costs.neg_ctc(other).item() >= -bound - 1e-12


def test_perfect_classifiers_of_the_checkerboard_give_minus_log_2():
    labels = torch.tensor([0, 1] * 8)
    sure = torch.nn.functional.one_hot(labels, 2).double()
    log_beta = torch.log(sure).clamp_min(-1e4)[None, :, None].expand(1, -1, 2, -1)
    assert costs.neg_cmi(log_beta).item() == pytest.approx(-math.log(2), abs=1e-15)


@pytest.mark.parametrize("cost", COSTS)
def test_cost_does_not_depend_on_the_order_of_components_variates_or_points(cost):
    log_beta = random_beta((2, 10, 3, 4))
    expected = cost(log_beta)
    torch.testing.assert_close(cost(log_beta[..., [2, 0, 3, 1]]), expected)
    torch.testing.assert_close(cost(log_beta[:, :, [1, 2, 0]]), expected)
    torch.testing.assert_close(cost(log_beta.flip(1)), expected)


@pytest.mark.parametrize("cost", COSTS)
def test_seeds_do_not_see_each_other(cost):
    log_beta = random_beta((3, 10, 2, 3)).requires_grad_()
    gradient_of_one = torch.autograd.grad(cost(log_beta)[1], log_beta)[0]
    assert gradient_of_one[1].abs().sum() > 0
    assert (gradient_of_one[[0, 2]] == 0).all()
    torch.testing.assert_close(cost(log_beta)[1:2], cost(log_beta[1:2]), rtol=0, atol=0)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.integers(2, 5), st.floats(1.0, 3000.0), st.integers(0, 10_000))
def test_saturated_classifiers_keep_costs_and_gradients_finite(variates, components, spread, seed):
    logits = draw((2, 6, variates, components), seed, spread).float().requires_grad_()
    log_beta = costs.log_softmax(logits)
    averages = costs.update_averages(costs.MovingAverages.start(2, variates, components), log_beta, 0.9)
    for value in (costs.neg_ctc(log_beta), costs.unnorm_neg_ctc(log_beta), costs.moving_estimate(log_beta, averages)):
        (slope,) = torch.autograd.grad(value.sum(), logits, retain_graph=True)
        assert value.isfinite().all()
        assert slope.isfinite().all()


def test_a_dead_component_costs_nothing():
    alive = random_beta((1, 20, 2, 2))
    dead = torch.cat([alive, torch.full((1, 20, 2, 1), -1e4, dtype=torch.float64)], -1)
    torch.testing.assert_close(costs.neg_ctc(dead), costs.neg_ctc(alive))


def test_single_precision_agrees_with_double():
    log_beta = random_beta((4, 500, 3, 4), spread=3.0)
    torch.testing.assert_close(costs.neg_ctc(log_beta.float()).double(), costs.neg_ctc(log_beta), rtol=0, atol=3e-6)


@pytest.mark.parametrize("shape", [(2, 8, 3, 4), (2, 8, 2, 3)])
def test_moving_estimate_with_exact_expectations_has_the_gradient_of_the_cost(shape):
    logits = draw(shape)

    def moving(log_beta: Tensor) -> Tensor:
        start = costs.MovingAverages.start(shape[0], shape[2], shape[3])
        return costs.moving_estimate(log_beta, costs.update_averages(start, log_beta, 0.99))

    expected = finite_difference(costs.neg_ctc, logits)
    torch.testing.assert_close(gradient(moving, logits), expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(moving(random_beta(shape)), costs.neg_ctc(random_beta(shape)))


def test_moving_estimate_is_equation_b8():
    log_beta = random_beta((1, 6, 3, 4)).requires_grad_()
    phi = random_beta((1, 3, 4), seed=7).exp()
    aux = random_beta((1, 4), seed=8).exp()
    averages = costs.MovingAverages(phi, aux, torch.ones(()))
    found = torch.autograd.grad(costs.moving_estimate(log_beta, averages).sum(), log_beta)[0]
    n = (log_beta.exp() * phi[:, None] ** (-2 / 3)).prod(2).detach()
    r = n / n.sum(-1, keepdim=True)
    d = (phi ** (1 / 3)).prod(1)
    d = d / d.sum(-1, keepdim=True)
    mean_slope = log_beta.detach().exp() / 6  # derivative of E[beta] with respect to log beta
    expected = -r[:, :, None] / 6 + (2 / 3) * mean_slope / phi[:, None] * aux + mean_slope / phi[:, None] * d / 3
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_moving_estimate_removes_the_bias_of_small_batches():
    """Averaged over batches of two, the estimate is the gradient of the whole; the plain cost's is not."""
    classifier = draw((1, 4, 2, 3), seed=2)  # a table: four kinds of points
    points = torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3], [0, 1], [2, 3]])
    chosen = torch.stack([classifier[:, points[:, v], v] for v in range(2)], 2)
    start = costs.MovingAverages.start(1, 2, 3)
    averages = costs.update_averages(start, torch.log_softmax(chosen, -1), 0.0)

    def total(cost) -> Tensor:
        leaf = classifier.clone().requires_grad_()
        batches = [points[list(pair)] for pair in itertools.combinations(range(6), 2)]
        values = [
            cost(torch.log_softmax(torch.stack([leaf[:, batch[:, v], v] for v in range(2)], 2), -1))
            for batch in batches
        ]
        return torch.autograd.grad(torch.stack(values).mean(), leaf)[0]

    leaf = classifier.clone().requires_grad_()
    whole = torch.log_softmax(torch.stack([leaf[:, points[:, v], v] for v in range(2)], 2), -1)
    exact = torch.autograd.grad(costs.neg_ctc(whole).sum(), leaf)[0]
    torch.testing.assert_close(total(lambda x: costs.moving_estimate(x, averages)), exact, rtol=0, atol=1e-12)
    assert (total(costs.neg_ctc) - exact).abs().max() > 1e-3


def test_averages_are_the_bias_corrected_means():
    decay, batches = 0.8, [random_beta((2, 5, 3, 4), seed) for seed in range(4)]
    averages = costs.MovingAverages.start(2, 3, 4)
    first = costs.update_averages(averages, batches[0], decay)
    torch.testing.assert_close(first.phi, batches[0].exp().mean(1))
    averages = costs.MovingAverages(averages.phi.double(), averages.aux.double(), averages.weight.double())
    for batch in batches:
        averages = costs.update_averages(averages, batch, decay)
    factors = torch.tensor([decay ** (3 - t) for t in range(4)], dtype=torch.float64)
    means = torch.stack([batch.exp().mean(1) for batch in batches])
    expected = torch.einsum("t,tsvc->svc", factors, means) / factors.sum()
    torch.testing.assert_close(averages.phi, expected)
    torch.testing.assert_close(averages.aux.sum(-1), torch.ones(2, dtype=torch.float64))
    assert averages.weight.item() == pytest.approx(1 - decay**4)


def test_averages_carry_no_gradient_and_refuse_a_bad_decay():
    log_beta = random_beta((1, 5, 2, 2)).requires_grad_()
    averages = costs.update_averages(costs.MovingAverages.start(1, 2, 2), log_beta, 0.9)
    assert not averages.phi.requires_grad
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="decay"):
            costs.update_averages(averages, log_beta, decay)


def literal_tc(log_alpha: list[Tensor]) -> float:
    alpha = [item[0].exp().numpy() for item in log_alpha]
    total = 0.0
    for index in itertools.product(*(range(item.shape[1]) for item in alpha)):
        joint = np.prod([a[:, i] for a, i in zip(alpha, index, strict=True)], axis=0).mean()
        product = math.prod(a[:, i].mean() for a, i in zip(alpha, index, strict=True))
        total -= joint * math.log(joint / product)
    return total


@pytest.mark.parametrize("classes", [(2, 3), (4, 4), (2, 3, 4), (3, 2, 2, 2)])
def test_neg_tc_equals_the_literal_sum_and_its_gradient(classes):
    log_alpha = [random_beta((1, 9, count), seed) for seed, count in enumerate(classes)]
    assert costs.neg_tc(log_alpha).item() == pytest.approx(literal_tc(log_alpha), rel=1e-12)
    logits = tuple(draw((2, 4, count), seed).requires_grad_() for seed, count in enumerate(classes))
    assert torch.autograd.gradcheck(lambda *z: costs.neg_tc([torch.log_softmax(x, -1) for x in z]), logits)


@pytest.mark.parametrize("variates", [2, 3])
def test_neg_tc_of_certain_matched_labels(variates):
    labels = torch.arange(12) % 4
    logits = (200.0 * torch.nn.functional.one_hot(labels, 4))[None].requires_grad_()
    log_alpha = torch.log_softmax(logits, -1)
    cost = costs.neg_tc([log_alpha] * variates)
    assert cost.item() == pytest.approx(-(variates - 1) * math.log(4), abs=1e-6)
    assert torch.autograd.grad(cost.sum(), logits)[0].isfinite().all()


def test_neg_tc_of_independent_labels_is_zero():
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(5))
    log_alpha = [
        torch.log(torch.nn.functional.one_hot(pairs[:, v], n).double()).clamp_min(-1e4)[None]
        for v, n in ((0, 3), (1, 5))
    ]
    assert costs.neg_mi(log_alpha).item() == pytest.approx(0, abs=1e-14)


def test_weights_and_regularisers_have_their_formulas_and_gradients():
    log_beta = random_beta((2, 6, 3, 4))
    geometric = log_beta.exp().mean(1).prod(1) ** (1 / 3)
    weights = costs.mixture_weights(log_beta)
    torch.testing.assert_close(weights, geometric / geometric.sum(-1, keepdim=True))
    torch.testing.assert_close(costs.tikhonov(weights, 0.5), 0.5 * (weights**2).sum(-1))
    torch.testing.assert_close(costs.neg_shannon(weights, -2.0), -2 * (weights * weights.log()).sum(-1))
    true = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    torch.testing.assert_close(costs.known_weights(weights, true, 3.0), -3 * (true * weights.log()).sum(-1))
    for term in (
        lambda w: costs.tikhonov(w, 0.5),
        lambda w: costs.neg_shannon(w, 1.0),
        lambda w: costs.known_weights(w, true, 2.0),
    ):
        logits = draw((2, 3, 2, 4)).requires_grad_()
        assert torch.autograd.gradcheck(lambda z, t=term: t(costs.mixture_weights(costs.log_softmax(z))), (logits,))


def test_regularisers_have_their_optimum_where_they_should():
    even, true = torch.full((1, 4), 0.25), torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    other = torch.softmax(draw((50, 4)), -1).float()
    assert (costs.tikhonov(other, 1.0) >= costs.tikhonov(even, 1.0)).all()
    assert (costs.neg_shannon(other, 1.0) >= costs.neg_shannon(even, 1.0)).all()
    assert (costs.known_weights(other, true, 1.0) >= costs.known_weights(true, true, 1.0)).all()
    sure = torch.tensor([[1.0, 0.0]], requires_grad=True)
    costs.neg_shannon(sure, 1.0).sum().backward()
    assert sure.grad is not None
    assert sure.grad.isfinite().all()


def test_cross_entropy_equals_the_library():
    logits, labels = draw((3, 20, 5)), torch.arange(60).reshape(3, 20) % 5
    expected = [torch.nn.functional.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)]
    torch.testing.assert_close(costs.cross_entropy(torch.log_softmax(logits, -1), labels), torch.stack(expected))


def test_known_densities_with_the_true_factors_give_the_true_classifier():
    weights, densities = discrete_mixture(1, 1, 3, 6)
    marginal = weights @ densities[:, 0]
    ratio = torch.tensor(np.log(densities[:, 0] / marginal).T)[None]
    found = costs.known_density_log_beta(ratio, torch.tensor(np.log(weights))[None])
    np.testing.assert_allclose(found[0].exp(), (weights[:, None] * densities[:, 0] / marginal).T, rtol=1e-12)
    shifted = costs.known_density_log_beta(ratio + 7.0, torch.tensor(np.log(weights))[None] - 3.0)
    torch.testing.assert_close(shifted, found)


def test_known_densities_may_vanish():
    ratio = torch.tensor([[[0.0, -math.inf], [-math.inf, 0.0]]], dtype=torch.float64)
    factor = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    log_beta = costs.known_density_log_beta(ratio, factor)
    cost = costs.neg_ctc(torch.stack([log_beta, log_beta], 2))
    assert cost.item() == pytest.approx(-math.log(2))
    assert torch.autograd.grad(cost.sum(), factor)[0].isfinite().all()


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="seeds, batch, variates, components"):
        costs.neg_ctc(torch.zeros(5, 2, 2))
    with pytest.raises(ValueError, match="seeds, batch, variates, components"):
        costs.neg_ctc(torch.zeros(1, 0, 2, 2))
    for cost in (costs.neg_cmi, costs.unnorm_neg_cmi):
        with pytest.raises(ValueError, match="2 variates, found 3"):
            cost(torch.zeros(1, 5, 3, 2))
    with pytest.raises(ValueError, match="two variates, found 3"):
        costs.neg_mi([torch.zeros(1, 5, 2)] * 3)
    with pytest.raises(ValueError, match="two or more"):
        costs.neg_tc([torch.zeros(1, 5, 2)])
    with pytest.raises(ValueError, match="equal S, B"):
        costs.neg_tc([torch.zeros(1, 5, 2), torch.zeros(1, 6, 2)])
