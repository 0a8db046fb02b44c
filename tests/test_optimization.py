"""What a stage asks of the optimiser, against torch's own tools applied to the model of each seed alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neumix.optimization import clip_gradients, make_optimizer, set_learning_rate
from neumix.schedule import Stage

SHAPES = [(1, 4, 3), (2, 5), (1,), (3, 1, 2)]
"""Shapes of one seed's part of some parameters; the first axis may hold several rows of a seed."""


def make_stage(**changes: Any) -> Stage:
    return Stage(**{"loss": {"name": "any"}, "epochs": 9, "batch_size": 10, **changes})


def draw(seed: int, n_seeds: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return numbers for all seeds, in the shapes of the parameters."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(n_seeds * rows, *rest, generator=generator, dtype=torch.float64).to(dtype) for rows, *rest in SHAPES
    ]


def of_seed(tensors: Sequence[Tensor], seed: int, n_seeds: int) -> list[Tensor]:
    """Return copies of one seed's parts."""
    return [tensor.detach().chunk(n_seeds)[seed].clone() for tensor in tensors]


def with_gradients(values: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(value.clone()) for value in values]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    return parameters


def clipped(gradients: Sequence[Tensor], n_seeds: int, value: float | None, norm: float | None) -> list[Tensor]:
    parameters = with_gradients(gradients, gradients)
    clip_gradients(parameters, n_seeds, value, norm)
    return [parameter.grad for parameter in parameters]


def lengths(gradients: Sequence[Tensor], n_seeds: int) -> list[float]:
    return [
        float(torch.cat([part.flatten() for part in of_seed(gradients, s, n_seeds)]).double().norm())
        for s in range(n_seeds)
    ]


limits = st.none() | st.floats(0.05, 20)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), limits, limits)
def test_clipping_equals_torchs_for_the_model_of_each_seed(seed, n_seeds, value, norm):
    gradients = draw(seed, n_seeds)
    found = clipped(gradients, n_seeds, value, norm)
    for s in range(n_seeds):
        mine = of_seed(gradients, s, n_seeds)
        alone = with_gradients(mine, mine)
        if value is not None:
            nn.utils.clip_grad_value_(alone, value)
        if norm is not None:
            nn.utils.clip_grad_norm_(alone, norm)
        for part, parameter in zip(of_seed(found, s, n_seeds), alone, strict=True):
            # torch adds 1e-6 to the length that it divides by
            torch.testing.assert_close(part, parameter.grad, rtol=5e-5, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.floats(0.01, 50))
def test_a_shortened_gradient_has_the_limits_length_and_its_old_direction(seed, n_seeds, norm):
    gradients = draw(seed, n_seeds)
    found = clipped(gradients, n_seeds, None, norm)
    for s, (before, after) in enumerate(zip(lengths(gradients, n_seeds), lengths(found, n_seeds), strict=True)):
        assert after == pytest.approx(min(before, norm), rel=1e-12)
        for old, new in zip(of_seed(gradients, s, n_seeds), of_seed(found, s, n_seeds), strict=True):
            torch.testing.assert_close(new, old * (after / before), rtol=1e-10, atol=0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 3))
def test_no_entry_is_larger_than_the_limit_and_the_others_stay(seed, value):
    gradients = draw(seed, 2)
    for old, new in zip(gradients, clipped(gradients, 2, value, None), strict=True):
        assert torch.equal(new, old.sign() * old.abs().clamp(max=value))


def test_entries_are_cut_before_the_gradient_is_shortened():
    (found,) = clipped([torch.tensor([[30.0, 0.4]])], 1, 0.3, 0.1)
    torch.testing.assert_close(found, torch.tensor([[1.0, 1.0]]) * 0.1 / 2**0.5)


def test_a_gradient_at_the_limit_is_left_to_the_last_bit():
    gradients = [torch.tensor([[3.0], [6.0]]), torch.tensor([[4.0], [8.0]])]  # lengths 5 and 10
    for old, new in zip(gradients, clipped(gradients, 2, 8.0, 10.0), strict=True):
        assert torch.equal(old, new)
    first, second = clipped(gradients, 2, None, 5.0)
    assert first.tolist() == [[3.0], [3.0]]
    assert second.tolist() == [[4.0], [4.0]]
    first, second = clipped(gradients, 2, 6.0, None)
    assert first.tolist() == [[3.0], [6.0]]
    assert second.tolist() == [[4.0], [6.0]]


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_without_limits_nothing_changes(n_seeds):
    gradients = draw(0, n_seeds, torch.float32)
    for old, new in zip(gradients, clipped(gradients, n_seeds, None, None), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("size", [1e3, 1e18, 1e30, float("inf"), float("nan")])
@pytest.mark.parametrize("limit", [{"value": 100.0, "norm": None}, {"value": None, "norm": 100.0}])
def test_a_huge_gradient_of_one_seed_leaves_the_others_alone(size, limit):
    gradients = draw(0, 3, torch.float32)
    huge = [gradient.clone() for gradient in gradients]
    for gradient in huge:
        gradient.chunk(3)[1].mul_(size)
    found = clipped(huge, 3, **limit)
    for s in (0, 2):
        for old, new in zip(of_seed(gradients, s, 3), of_seed(found, s, 3), strict=True):
            assert torch.equal(old, new)
    if limit["norm"] is not None and size <= 1e18:  # beyond that the squared length has no float32
        assert lengths(found, 3)[1] == pytest.approx(100, rel=1e-5)
    if size <= 1e30:
        assert all(torch.isfinite(gradient).all() for gradient in found)


def test_a_gradient_of_zero_stays_zero():
    for gradient in clipped([torch.zeros(2, 3), torch.zeros(4)], 2, 1.0, 1.0):
        assert not gradient.any()


def test_parameters_without_a_gradient_are_passed_over():
    with_one, without = nn.Parameter(torch.zeros(2, 1)), nn.Parameter(torch.zeros(2, 7))
    with_one.grad = torch.tensor([[10.0], [0.5]])
    clip_gradients([with_one, without], 2, None, 1.0)
    assert with_one.grad.tolist() == [[1.0], [0.5]]
    assert without.grad is None
    clip_gradients([without], 2, 1.0, 1.0)
    clip_gradients([], 2, 1.0, 1.0)


def test_the_optimiser_has_the_stages_settings_and_no_moments():
    stage = make_stage(learning_rate=0.02, betas=(0.5, 0.7), epsilon=1e-3, weight_decay=0.1)
    optimizer = make_optimizer([nn.Parameter(torch.zeros(2))], stage)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (0.02, (0.5, 0.7), 1e-3, 0.1)
    assert not group["amsgrad"]
    assert not optimizer.state


def test_the_next_step_has_the_given_rate():
    parameter = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    optimizer = make_optimizer([parameter], make_stage(learning_rate=0.5, epsilon=1e-12))
    moved = []
    for rate in (0.5, 0.25, 1e-3):
        before = parameter.detach().clone()
        parameter.grad = torch.tensor([2.0, -3.0], dtype=torch.float64)  # the same each time: a step is the rate
        set_learning_rate(optimizer, rate)
        optimizer.step()
        moved.append((before - parameter.detach()).tolist())
    np.testing.assert_allclose(moved, [[0.5, -0.5], [0.25, -0.25], [1e-3, -1e-3]], rtol=1e-9)


def loss_of(parameters: Sequence[nn.Parameter], targets: Sequence[Tensor]) -> Tensor:
    """Return a loss with gradients of very different sizes."""
    pairs = zip(parameters, targets, strict=True)
    total: Tensor = sum((((p - t) ** 2).sum() + ((p - t) ** 4).sum() for p, t in pairs), torch.zeros(()))
    return total


def test_training_equals_that_of_each_seed_alone_by_torchs_own_tools():
    """Adam with weight decay, step decay and both limits; several steps an epoch."""
    n_seeds, steps = 3, 4
    stage = make_stage(
        learning_rate=0.1,
        betas=(0.8, 0.95),
        epsilon=1e-4,
        weight_decay=0.05,
        schedule={"name": "step", "every": 2, "factor": 0.3},
        clip_value=3.0,
        clip_norm=5.0,
    )
    start, targets = draw(1, n_seeds), draw(2, n_seeds)
    together = [nn.Parameter(value.clone()) for value in start]
    optimizer = make_optimizer(together, stage)
    for step in range(stage.epochs * steps):
        optimizer.zero_grad()
        loss_of(together, targets).backward()
        clip_gradients(together, n_seeds, stage.clip_value, stage.clip_norm)
        set_learning_rate(optimizer, stage.rate(step // steps, step))
        optimizer.step()
    for s in range(n_seeds):
        alone = [nn.Parameter(value) for value in of_seed(start, s, n_seeds)]
        plain = torch.optim.Adam(alone, lr=0.1, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.05, foreach=False)
        scheduler = torch.optim.lr_scheduler.StepLR(plain, 2, 0.3)
        for step in range(stage.epochs * steps):
            plain.zero_grad()
            loss_of(alone, of_seed(targets, s, n_seeds)).backward()
            nn.utils.clip_grad_value_(alone, 3.0)
            nn.utils.clip_grad_norm_(alone, 5.0)
            plain.step()
            if (step + 1) % steps == 0:
                scheduler.step()
        for mine, single in zip(of_seed(together, s, n_seeds), alone, strict=True):
            torch.testing.assert_close(mine, single.detach(), rtol=1e-5, atol=1e-6)


def test_steps_are_those_of_the_printed_recursion():
    """Kingma and Ba (2015), Algorithm 1, with the L2 term in the gradient, in double precision by hand."""
    stage = make_stage(
        learning_rate=0.1,
        betas=(0.8, 0.95),
        epsilon=1e-4,
        weight_decay=0.05,
        schedule={"name": "noam", "steps": 5, "floor": 0.06},
    )
    theta, target = np.array([[1.0, -2.0], [0.3, 4.0]]), np.array([[0.0, 1.0], [0.3, -4.0]])
    parameter = nn.Parameter(torch.from_numpy(theta.copy()))
    optimizer = make_optimizer([parameter], stage)
    first, second = np.zeros_like(theta), np.zeros_like(theta)
    for step in range(20):
        optimizer.zero_grad()
        ((parameter - torch.from_numpy(target)) ** 2).sum().backward()
        set_learning_rate(optimizer, stage.rate(0, step))
        optimizer.step()
        gradient = 2 * (theta - target) + 0.05 * theta
        first, second = 0.8 * first + 0.2 * gradient, 0.95 * second + 0.05 * gradient**2
        ahead, spread = first / (1 - 0.8 ** (step + 1)), second / (1 - 0.95 ** (step + 1))
        grown = (step + 1) / 5
        rate = 0.1 * grown if grown < 1 else max(0.06, 0.1 / grown**0.5)
        theta = theta - rate * ahead / (np.sqrt(spread) + 1e-4)
        np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=1e-9)
