"""Batched networks against ordinary ones: outputs, gradients, initialisation."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from neumix.nn import BatchedMLP


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def ordinary(batched: BatchedMLP, copy: int) -> nn.Sequential:
    """Return one of the networks as a plain one with the same weights."""
    layers: list[nn.Module] = []
    for weight, bias in zip(batched.weights, batched.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[2])
        layer.weight.data = weight.data[copy].T.clone()
        layer.bias.data = bias.data[copy, 0].clone()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_biases(batched: BatchedMLP) -> BatchedMLP:
    """Give the biases values, so that a mistake in them shows."""
    for index, bias in enumerate(batched.biases):
        bias.data = draw(index, *bias.shape)
    return batched


widths = st.lists(st.integers(1, 6), min_size=2, max_size=5)


@settings(max_examples=40, deadline=None)
@given(widths, st.integers(1, 4), st.integers(1, 5), st.integers(0, 1000))
def test_outputs_equal_those_of_ordinary_networks(sizes, copies, batch, seed):
    batched = with_biases(BatchedMLP(sizes, generators(*range(seed, seed + copies))))
    x = draw(seed, copies, batch, sizes[0])
    found = batched(x)
    assert found.shape == (copies, batch, sizes[-1])
    for copy in range(copies):
        torch.testing.assert_close(found[copy], ordinary(batched, copy)(x[copy]), rtol=1e-4, atol=1e-5)


def test_gradients_equal_those_of_ordinary_networks_and_do_not_mix():
    batched = with_biases(BatchedMLP((3, 8, 8, 2), generators(0, 1, 2)))
    x, target = draw(0, 3, 16, 3), draw(1, 3, 16, 2)
    (batched(x) - target).square().mean((1, 2)).sum().backward()
    for copy in range(3):
        plain = ordinary(batched, copy)
        (plain(x[copy]) - target[copy]).square().mean().backward()
        layers = [layer for layer in plain if isinstance(layer, nn.Linear)]
        for layer, weight, bias in zip(layers, batched.weights, batched.biases, strict=True):
            torch.testing.assert_close(weight.grad[copy].T, layer.weight.grad, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(bias.grad[copy, 0], layer.bias.grad, rtol=1e-4, atol=1e-6)


def test_the_loss_of_one_copy_leaves_the_others_alone():
    batched = BatchedMLP((3, 8, 2), generators(0, 1))
    batched(draw(0, 2, 5, 3))[1].square().sum().backward()
    for parameter in batched.parameters():
        assert not parameter.grad[0].any()
    assert all(weight.grad[1].any() for weight in batched.weights)


@pytest.mark.parametrize("sizes", [(1, 32, 32, 2), (64, 32, 10), (200, 100)])
def test_weights_start_glorot_uniform_and_biases_at_zero(sizes):
    batched = BatchedMLP(sizes, generators(0, 1, 2))
    for (inputs, outputs), weight in zip(itertools.pairwise(sizes), batched.weights, strict=True):
        bound = math.sqrt(6 / (inputs + outputs))
        values = weight.detach().numpy().ravel()
        assert weight.shape == (3, inputs, outputs)
        assert np.abs(values).max() <= bound
        assert stats.kstest(values, stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.001
    assert all(not bias.any() for bias in batched.biases)


def test_a_copy_starts_from_its_own_generator_whatever_others_there_are():
    together = BatchedMLP((2, 7, 3), generators(4, 5, 6))
    alone = BatchedMLP((2, 7, 3), generators(5))
    for several, one in zip(together.weights, alone.weights, strict=True):
        assert torch.equal(several[1], one[0])
        assert not torch.equal(several[0], several[2])


def test_copies_of_one_generator_differ():
    (generator,) = generators(0)
    weight = BatchedMLP((2, 7, 3), [generator, generator]).weights[0]
    assert not torch.equal(weight[0], weight[1])


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    BatchedMLP((2, 7, 3), generators(0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_input_is_not_changed():
    x = draw(0, 1, 4, 2)
    kept = x.clone()
    BatchedMLP((2, 3, 2), generators(0))(x)
    assert torch.equal(x, kept)
