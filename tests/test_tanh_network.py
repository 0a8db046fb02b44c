"""One log-softmax output of a tanh network: values and hand-written gradients against plain autograd, precisions."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from neumix.models.cwm.tanh_network import log_softmax_at, logits

DEPTHS = pytest.mark.parametrize("hidden", [(), (5,), (5, 4), (4, 5, 3), (3, 4, 3, 4)], ids=len)
Layers = tuple[list[Tensor], list[Tensor]]


def network(*sizes: int, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Layers:
    """Return weights and biases of a network."""
    generator = torch.Generator().manual_seed(len(sizes))
    weights = [scale * torch.randn(pair, generator=generator).to(dtype) for pair in itertools.pairwise(sizes)]
    biases = [torch.randn(1, size, generator=generator).to(dtype) for size in sizes[1:]]
    for parameter in (*weights, *biases):
        parameter.requires_grad_()
    return weights, biases


def inputs(points: int, dimension: int, labels: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(points)
    z = torch.randn(points, dimension, generator=generator).to(dtype)
    return z.requires_grad_(), torch.randint(labels, (points,), generator=generator)


def plain(z: Tensor, label: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """Return the same by torch's own functions."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        z = functional.linear(z, weight.T, bias[0]).tanh()
    return -functional.cross_entropy(functional.linear(z, weights[-1].T, biases[-1][0]), label, reduction="none")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 6), max_size=4), st.integers(1, 4), st.integers(1, 6), st.integers(1, 9), st.floats(0.1, 20)
)
def test_it_is_the_log_softmax_of_the_outputs_at_the_label(hidden, dimension, labels, points, scale):
    layers, (z, label) = network(dimension, *hidden, labels, scale=scale), inputs(points, dimension, labels)
    found = log_softmax_at(z, label, *layers)
    assert found.shape == (points,)
    torch.testing.assert_close(found, plain(z, label, *layers), rtol=1e-9, atol=1e-10)
    every = logits(z, *layers).log_softmax(-1)
    torch.testing.assert_close(found, every.gather(1, label[:, None])[:, 0], rtol=1e-9, atol=1e-10)


@DEPTHS
def test_its_gradients_are_finite_differences(hidden):
    (weights, biases), (z, label) = network(2, *hidden, 4), inputs(5, 2, 4)

    def function(z, *parameters):
        return log_softmax_at(z, label, parameters[: len(weights)], parameters[len(weights) :])

    assert torch.autograd.gradcheck(function, (z, *weights, *biases))


@DEPTHS
def test_single_precision_gives_the_gradients_of_plain_autograd(hidden):
    layers, (z, label) = network(2, *hidden, 7, dtype=torch.float32), inputs(300, 2, 7, torch.float32)
    wanted = [z, *layers[0], *layers[1]]
    outer = torch.linspace(-1, 1, 300)
    found = torch.autograd.grad((outer * log_softmax_at(z, label, *layers)).sum(), wanted)
    expected = torch.autograd.grad((outer * plain(z, label, *layers)).sum(), wanted)
    for gradient, other in zip(found, expected, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-4)


def test_only_what_asks_for_a_gradient_gets_one():
    (weights, biases), (z, label) = network(2, 4, 3), inputs(6, 2, 3)
    expected = torch.autograd.grad(log_softmax_at(z, label, weights, biases).sum(), weights[0])[0]
    fixed = [parameter.detach() for parameter in (*biases, weights[1], z)]
    log_softmax_at(fixed[3], label, [weights[0], fixed[2]], fixed[:2]).sum().backward()
    torch.testing.assert_close(weights[0].grad, expected)
    assert z.grad is None
    assert weights[1].grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("precision", ["given", "bfloat16"])
@DEPTHS
def test_inputs_are_not_modified(hidden, precision, dtype):
    layers, (z, label) = network(2, *hidden, 4, dtype=dtype), inputs(5, 2, 4, dtype)
    everything = [z, label, *layers[0], *layers[1]]
    before = [tensor.detach().clone() for tensor in everything]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        outer = log_softmax_at(z, label, *layers)
    outer.square().sum().backward()
    assert all(torch.equal(tensor, old) for tensor, old in zip(everything, before, strict=True))


@pytest.mark.parametrize("scale", [1e3, 1e8])
def test_extreme_outputs_have_finite_logarithms_and_gradients(scale):
    (weights, biases), (z, label) = network(2, 5, 4, dtype=torch.float32), inputs(20, 2, 4, torch.float32)
    layers = [weights[0], (scale * weights[1]).detach().requires_grad_()], biases
    found = log_softmax_at(z, label, *layers)
    torch.testing.assert_close(found, plain(z, label, *layers), rtol=1e-3, atol=1e-3 * scale)
    assert found.min() < -scale / 10
    for gradient in torch.autograd.grad(found.sum(), [z, *layers[0], *layers[1]]):
        assert torch.isfinite(gradient).all()


class TestAutocast:
    @DEPTHS
    def test_values_and_gradients_are_near_those_of_single_precision(self, hidden):
        layers, (z, label) = network(2, *hidden, 7, dtype=torch.float32), inputs(2000, 2, 7, torch.float32)
        wanted = [z, *layers[0], *layers[1]]
        with torch.autocast("cpu", torch.bfloat16):
            rounded = log_softmax_at(z, label, *layers)
        exact = log_softmax_at(z, label, *layers)
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.02 * exact.norm()
        pairs = zip(*(torch.autograd.grad(value.sum(), wanted) for value in (rounded, exact)), strict=True)
        for gradient, expected in pairs:
            assert gradient.dtype == torch.float32
            assert (gradient - expected).norm() < 0.02 * expected.norm()
        assert torch.equal(rounded, exact) == (not hidden), "the products of hidden layers alone are rounded"

    def test_coordinates_keep_their_digits(self):
        """The first layer sees differences that bfloat16 would drop: 1000.5 is 1000 to it."""
        (weights, biases), (z, label) = network(2, 5, 4, dtype=torch.float32), inputs(50, 2, 4, torch.float32)
        far = (z + 1000).detach().requires_grad_()
        moved = (biases[0] - 1000 * weights[0].sum(0, keepdim=True)).detach().requires_grad_()
        shifted = weights, [moved, biases[1]]
        with torch.autocast("cpu", torch.bfloat16):
            near, rounded = log_softmax_at(z, label, weights, biases), log_softmax_at(far, label, *shifted)
        torch.testing.assert_close(rounded, near, rtol=0.02, atol=0.02)
        found = torch.autograd.grad(rounded.sum(), weights[0])[0]
        expected = torch.autograd.grad(log_softmax_at(far, label, *shifted).sum(), weights[0])[0]
        assert (found - expected).norm() < 0.02 * expected.norm()

    def test_it_stays_on_for_what_follows(self):
        layers, (z, label) = network(2, 5, 4, dtype=torch.float32), inputs(5, 2, 4, torch.float32)
        with torch.autocast("cpu", torch.bfloat16):
            log_softmax_at(z, label, *layers)
            assert (z @ layers[0][0]).dtype == torch.bfloat16


def test_networks_of_several_seeds_are_evaluated_side_by_side():
    networks = [network(2, 5, 3), network(2, 5, 3, scale=2.0)]
    stacked = [[torch.stack(parts) for parts in zip(*groups, strict=True)] for groups in zip(*networks, strict=True)]
    z = torch.stack([inputs(6, 2, 3)[0], inputs(6, 2, 3)[0] + 1])
    together = logits(z, *stacked)
    for seed, layers in enumerate(networks):
        torch.testing.assert_close(together[seed], logits(z[seed], *layers))
    assert not torch.allclose(*together)
