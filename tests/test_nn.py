"""Batched networks against ordinary ones: outputs, gradients, initialisation, precision."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from neumix.nn import LEAKY_SLOPE, BatchedMLP

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def ordinary(batched: BatchedMLP, copy: int) -> nn.Sequential:
    """Return one of the networks as a plain one with the same weights."""
    layers: list[nn.Module] = []
    for weight, bias in zip(batched.weights, batched.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[2])
        layer.weight.data = weight.data[copy].T.clone()
        layer.bias.data = bias.data[copy, 0].clone()
        layers += [layer, ACTIVATIONS[batched.activation]()]
    return nn.Sequential(*layers[:-1])


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_biases(batched: BatchedMLP) -> BatchedMLP:
    """Give the biases values, so that a mistake in them shows."""
    for index, bias in enumerate(batched.biases):
        bias.data = draw(index, *bias.shape)
    return batched


widths = st.lists(st.integers(1, 6), min_size=2, max_size=5)


@settings(max_examples=60, deadline=None)
@given(
    widths,
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.sampled_from([*ACTIVATIONS]),
    st.sampled_from(["glorot", "fan_in", "small_normal"]),
)
def test_outputs_equal_those_of_ordinary_networks(sizes, copies, batch, seed, activation, initialisation):
    seeds = range(seed, seed + copies)
    batched = with_biases(BatchedMLP(sizes, generators(*seeds), activation, initialisation))
    x = draw(seed, copies, batch, sizes[0])
    found = batched(x)
    assert found.shape == (copies, batch, sizes[-1])
    for copy in range(copies):
        torch.testing.assert_close(found[copy], ordinary(batched, copy)(x[copy]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_equal_those_of_ordinary_networks_and_do_not_mix(activation):
    batched = with_biases(BatchedMLP((3, 8, 8, 2), generators(0, 1, 2), activation))
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


def test_the_draw_of_a_generator_is_the_one_that_trained_results_began_with():
    weights = BatchedMLP((2, 3, 2), generators(0, 1)).weights
    first = [[-0.008201401, 0.587644517, -0.901600778], [-0.806180835, -0.421915472, 0.293751687]]
    second = [[-0.225360796, 0.557301044], [0.152285486, -0.13413085], [0.303833663, 0.054040264]]
    torch.testing.assert_close(weights[0][0], torch.tensor(first), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(weights[1][1], torch.tensor(second), rtol=1e-6, atol=1e-8)


def test_glorot_weights_take_one_number_each_from_the_generator_and_biases_none():
    sizes = (4, 6, 5, 3)
    (generator,) = generators(9)
    for (inputs, outputs), weight in zip(
        itertools.pairwise(sizes), BatchedMLP(sizes, generators(8, 9)).weights, strict=True
    ):
        uniform = torch.rand(inputs, outputs, generator=generator)
        assert torch.equal(weight[1], (2 * uniform - 1) * math.sqrt(6 / (inputs + outputs)))


@pytest.mark.parametrize("sizes", [(4, 40, 30, 2), (100, 50)])
def test_fan_in_starts_like_torchs_linear_layers(sizes):
    batched = BatchedMLP(sizes, generators(*range(20)), "relu", "fan_in")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = [[nn.Linear(*pair) for _ in range(20)] for pair in itertools.pairwise(sizes)]
    for layers, weight, bias in zip(linear, batched.weights, batched.biases, strict=True):
        theirs = {"weight": torch.stack([layer.weight.T for layer in layers])}
        theirs["bias"] = torch.stack([layer.bias for layer in layers])[:, None]
        for mine, other in ((weight, theirs["weight"]), (bias, theirs["bias"])):
            assert mine.shape == other.shape
            assert mine.abs().max() <= 1 / math.sqrt(weight.shape[1])
            found, expected = (values.detach().numpy().ravel() for values in (mine, other))
            assert stats.ks_2samp(found, expected).pvalue > 0.001
            bound = 1 / math.sqrt(weight.shape[1])
            assert stats.kstest(found, stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.001


def test_small_normal_weights_have_a_standard_deviation_of_two_hundredths_and_no_biases():
    batched = BatchedMLP((50, 60, 40), generators(0, 1, 2), "relu", "small_normal")
    for weight in batched.weights:
        values = weight.detach().numpy().ravel()
        assert stats.kstest(values, stats.norm(0, 0.02).cdf).pvalue > 0.001
        assert values.std() == pytest.approx(0.02, rel=0.015)
    assert all(bias.shape == (3, 1, bias.shape[2]) and not bias.any() for bias in batched.biases)


def test_the_leaky_slope_is_that_of_torch():
    assert nn.LeakyReLU().negative_slope == LEAKY_SLOPE
    batched = BatchedMLP((1, 1, 1), generators(0), "leaky_relu")
    with torch.no_grad():
        for weight in batched.weights:
            weight.fill_(1)
    assert batched(torch.tensor([[[-3.0], [0.0], [2.0]]])).flatten().tolist() == pytest.approx([-0.03, 0, 2])


def test_the_last_layer_has_no_activation():
    batched = BatchedMLP((1, 1), generators(0), "leaky_relu")
    with torch.no_grad():
        batched.weights[0].fill_(1)
    assert batched(torch.tensor([[[-3.0]]])).item() == -3


@pytest.mark.parametrize("initialisation", ["glorot", "fan_in", "small_normal"])
def test_a_copy_starts_from_its_own_generator_whatever_others_there_are(initialisation):
    together = BatchedMLP((2, 7, 3), generators(4, 5, 6), "relu", initialisation)
    alone = BatchedMLP((2, 7, 3), generators(5), "relu", initialisation)
    for several, one in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(several[1], one[0])
    for weight in together.weights:
        assert not torch.equal(weight[0], weight[2])


def test_copies_of_one_generator_differ():
    (generator,) = generators(0)
    weight = BatchedMLP((2, 7, 3), [generator, generator]).weights[0]
    assert not torch.equal(weight[0], weight[1])


@pytest.mark.parametrize("initialisation", ["glorot", "fan_in", "small_normal"])
def test_the_global_generator_is_left_alone(initialisation):
    before = torch.random.get_rng_state()
    BatchedMLP((2, 7, 3), generators(0), "relu", initialisation)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_input_is_not_changed(activation):
    x = draw(0, 1, 4, 2)
    kept = x.clone()
    BatchedMLP((2, 3, 2), generators(0), activation)(x)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_coarser_products_leave_outputs_and_gradients_in_the_parameters_precision(activation):
    batched = with_biases(BatchedMLP((6, 16, 16, 3), generators(0, 1), activation))
    x = draw(5, 2, 32, 6)
    exact = batched(x)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = batched(x)
    assert coarse.dtype == torch.float32
    assert not torch.equal(coarse, exact)
    torch.testing.assert_close(coarse, exact, rtol=0.05, atol=0.05)
    coarse.square().sum().backward()
    assert {parameter.grad.dtype for parameter in batched.parameters()} == {torch.float32}
    batched.double()
    assert batched(x.double()).dtype == torch.float64
