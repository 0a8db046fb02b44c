"""Means in chunks: values and gradients against the mean over all points at once, outer factors, nothing in excess."""

import contextlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neumix.accumulation import chunked, mean_in_chunks

SIZES = {"seeds": st.integers(1, 3), "points": st.integers(1, 9), "size": st.integers(1, 11)}


@contextlib.contextmanager
def doubles():
    """Make float64 what new tensors have."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parameters(seeds: int) -> list[Tensor]:
    """A layer of each seed, and four vectors of each seed along one axis."""
    shapes = [(seeds, 2, 4), (seeds, 1, 4), (4 * seeds, 3)]
    return [normal(*shape, seed=index).requires_grad_() for index, shape in enumerate(shapes)]


def values(x: Tensor, weight: Tensor, bias: Tensor, vectors: Tensor) -> Tensor:
    """Return a number of each point (S, B, 2) that depends on parameters of its own seed, (S, B)."""
    hidden = torch.tanh(x @ weight + bias)
    return (hidden @ vectors.view(len(x), 4, 3)).logsumexp(-1)


@settings(max_examples=25, deadline=None)
@given(**SIZES)
def test_values_and_gradients_are_those_of_the_mean_over_all_points(seeds, points, size):
    with doubles():
        x, given_ = normal(seeds, points, 2, seed=9), parameters(seeds)
        expected = values(x, *given_).mean(1)
        found = mean_in_chunks(lambda part: values(part, *given_), x, size, given_)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
        pairs = zip(*(torch.autograd.grad(mean.sum(), given_) for mean in (found, expected)), strict=True)
        for gradient, wanted in pairs:
            torch.testing.assert_close(gradient, wanted, rtol=1e-11, atol=1e-13)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3), st.integers(1, 6))
def test_a_factor_of_a_seed_scales_the_gradient_of_that_seed_alone(factors, size):
    with doubles():
        x, given_, scale = normal(3, 5, 2, seed=9), parameters(3), torch.tensor(factors)
        plain, scaled = (
            torch.autograd.grad(
                (factor * mean_in_chunks(lambda part: values(part, *given_), x, size, given_)).sum(), given_
            )
            for factor in (torch.ones(3), scale)
        )
        for gradient, wanted in zip(scaled, plain, strict=True):
            by_seed = scale.repeat_interleave(len(wanted) // 3).view(-1, *[1] * (wanted.dim() - 1))
            torch.testing.assert_close(gradient, by_seed * wanted, rtol=1e-12, atol=1e-14)


def test_the_mean_of_many_chunks_keeps_single_precision():
    x, given_ = normal(2, 5000, 2, seed=9), parameters(2)
    exact = values(x.double(), *(parameter.double() for parameter in given_)).mean(1)
    found = mean_in_chunks(lambda part: values(part, *given_), x, 7, given_)
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(**SIZES)
def test_every_point_is_computed_once_and_never_more_than_a_chunk_at_a_time(seeds, points, size):
    x, given_, seen = normal(seeds, points, 2), parameters(seeds), []

    def observed(part):
        seen.append(part)
        return values(part, *given_)

    mean_in_chunks(observed, x, size, given_).sum().backward()
    assert [part.shape[1] for part in seen[:-1]] == [size] * (math.ceil(points / size) - 1)
    assert torch.equal(torch.cat(seen, 1), x)


@settings(max_examples=20, deadline=None)
@given(**SIZES)
def test_a_function_in_chunks_is_the_function(seeds, points, size):
    x, given_ = normal(seeds, points, 2), parameters(seeds)
    torch.testing.assert_close(chunked(lambda part: values(part, *given_), x, size), values(x, *given_))
    rows = chunked(lambda part: part.square(), x, size)
    assert torch.equal(rows, x.square())


def test_without_gradients_nothing_is_differentiated(monkeypatch):
    x, given_ = normal(2, 5, 2), parameters(2)
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("differentiated"))
    with torch.no_grad():
        found = mean_in_chunks(lambda part: values(part, *given_), x, 2, given_)
    assert not found.requires_grad
    torch.testing.assert_close(found, values(x, *given_).mean(1).detach())


def test_no_graph_of_a_chunk_outlives_it():
    x, given_, alive = normal(1, 6, 2), parameters(1), []

    class Saved:
        """What autograd keeps of a tensor."""

        def __init__(self, tensor):
            self.tensor = tensor
            alive.append(1)

        def __del__(self):
            alive.pop()

    def observed(part):
        counts.append(len(alive))
        return values(part, *given_)

    counts: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        found = mean_in_chunks(observed, x, 2, given_)
    assert counts == [0, 0, 0]
    assert not alive
    assert found.requires_grad


def test_a_parameter_that_is_not_used_gets_no_gradient():
    x, given_, unused = normal(2, 5, 2), parameters(2), torch.ones(2, 3, requires_grad=True)
    mean_in_chunks(lambda part: values(part, *given_), x, 2, [unused, *given_]).sum().backward()
    assert unused.grad is None
    assert all(parameter.grad is not None for parameter in given_)


@pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
def test_a_parameter_may_be_used_in_some_chunks_only(order):
    weight = torch.tensor([2.0, 3.0], requires_grad=True)
    ascending = torch.arange(6.0)
    x = (ascending if order == 1 else ascending.flip(0)).expand(2, -1)

    def function(part):
        return weight[:, None] * part if part.max() >= 4 else part.clone().requires_grad_()

    mean_in_chunks(function, x, 2, [weight]).sum().backward()
    torch.testing.assert_close(weight.grad, torch.full((2,), 9 / 6))


def test_backward_twice_gives_twice_the_gradient():
    x, given_ = normal(2, 5, 2), parameters(2)
    mean = mean_in_chunks(lambda part: values(part, *given_), x, 2, given_)
    mean.sum().backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in given_]
    mean.sum().backward()
    for parameter, gradient in zip(given_, once, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def test_frozen_parameters_get_no_gradient_and_stop_nothing():
    x, first, second = normal(2, 5, 3), normal(2, 3, seed=1).requires_grad_(), normal(2, 3, seed=2)

    def function(part):
        return (part * (first + second)[:, None]).sum(-1)

    mean_in_chunks(function, x, 2, [first, second]).sum().backward()
    torch.testing.assert_close(first.grad, x.mean(1))
    assert second.grad is None
    first.requires_grad_(False)
    torch.testing.assert_close(mean_in_chunks(function, x, 2, [first, second]), function(x).mean(1))


UNUSUAL = {
    "the same tensor for two": lambda part, first, second: ((first + second)[:, :1] * part).sum(-1),
    "transposed": lambda part, first, second: (part @ (first * second).transpose(1, 2)).square().sum(-1),
    "one number for all entries": lambda part, first, second: (first + 2 * second).sum((1, 2))[:, None] * part[..., 0],
}


@pytest.mark.parametrize("function", UNUSUAL.values(), ids=UNUSUAL)
def test_gradients_may_have_any_layout(function):
    x, given_ = normal(2, 5, 4), [normal(2, 4, 4, seed=seed).requires_grad_() for seed in (1, 2)]
    found = mean_in_chunks(lambda part: function(part, *given_), x, 2, given_)
    expected = torch.autograd.grad(function(x, *given_).mean(1).sum(), given_)
    for gradient, wanted in zip(torch.autograd.grad(found.sum(), given_), expected, strict=True):
        torch.testing.assert_close(gradient, wanted)
