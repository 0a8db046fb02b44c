"""Convolutions of several networks at once: against torch's own, adjoints, gradients, matrices, dtypes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from neumix.convolution import (
    TAPS,
    dense_narrow_to_wide,
    dense_wide_to_narrow,
    fold,
    narrow_to_wide,
    unfold,
    wide_to_narrow,
)

SIZES = [(1, 1), (1, 2), (2, 1), (1, 5), (4, 1), (2, 2), (3, 3), (3, 5), (7, 4)]
SHAPES = {
    "networks": st.integers(1, 3),
    "batch": st.integers(1, 4),
    "height": st.integers(1, 6),
    "width": st.integers(1, 6),
    "inputs": st.integers(1, 4),
    "outputs": st.integers(1, 5),
    "draw": st.integers(0, 1000),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def narrow(networks: int, inputs: int, outputs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return weights and biases of `narrow_to_wide`."""
    return normal(networks, TAPS, inputs, outputs, seed=seed + 1), normal(networks, 1, outputs, seed=seed + 2)


def wide(networks: int, inputs: int, outputs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return weights and biases of `wide_to_narrow`."""
    return normal(networks, inputs, TAPS, outputs, seed=seed + 1), normal(networks, 1, outputs, seed=seed + 2)


def torchs(x: Tensor, kernels: Tensor, bias: Tensor) -> Tensor:
    """Convolve the images (M, B, H, W, I) of each network alone with kernels (M, O, I, 3, 3)."""
    every = zip(x.permute(0, 1, 4, 2, 3), kernels, bias[:, 0], strict=True)
    return torch.stack([functional.conv2d(*each, padding=1) for each in every]).permute(0, 1, 3, 4, 2)


def narrow_kernels(weight: Tensor) -> Tensor:
    return weight.unflatten(1, (3, 3)).permute(0, 4, 3, 1, 2)


def wide_kernels(weight: Tensor) -> Tensor:
    return weight.unflatten(2, (3, 3)).permute(0, 4, 1, 2, 3).flip(3, 4)


@settings(max_examples=50, deadline=None)
@given(**SHAPES)
def test_both_are_torchs_convolution_of_each_network(networks, batch, height, width, inputs, outputs, draw):
    x = normal(networks, batch, height, width, inputs, seed=draw)
    weight, bias = narrow(networks, inputs, outputs, draw)
    torch.testing.assert_close(narrow_to_wide(x, weight, bias), torchs(x, narrow_kernels(weight), bias))
    weight, bias = wide(networks, inputs, outputs, draw)
    torch.testing.assert_close(wide_to_narrow(x, weight, bias), torchs(x, wide_kernels(weight), bias))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_both_are_torchs_convolution_of_images_of_any_size(height, width):
    x = normal(2, 3, height, width, 2)
    weight, bias = narrow(2, 2, 4)
    torch.testing.assert_close(narrow_to_wide(x, weight, bias), torchs(x, narrow_kernels(weight), bias))
    weight, bias = wide(2, 2, 3)
    torch.testing.assert_close(wide_to_narrow(x, weight, bias), torchs(x, wide_kernels(weight), bias))


def test_images_need_not_be_contiguous():
    x = normal(2, 3, 5, 4, 7).transpose(1, 3)[..., 1:4]
    weight, bias = narrow(2, 3, 4)
    torch.testing.assert_close(narrow_to_wide(x, weight, bias), torchs(x, narrow_kernels(weight), bias))
    weight, bias = wide(2, 3, 2)
    torch.testing.assert_close(wide_to_narrow(x, weight, bias), torchs(x, wide_kernels(weight), bias))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (3, 2)])
@pytest.mark.parametrize(("convolve", "parameters"), [(narrow_to_wide, narrow), (wide_to_narrow, wide)])
def test_gradients_of_the_convolutions(convolve, parameters, height, width):
    values = [normal(2, 2, height, width, 2), *parameters(2, 2, 3)]
    assert torch.autograd.gradcheck(convolve, [value.requires_grad_() for value in values])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 3), (4, 1), (3, 2)])
def test_gradients_of_unfold_and_fold(height, width):
    x, y = normal(2, height, width, 2).requires_grad_(), normal(2, height, width, TAPS, 2).requires_grad_()
    for function, value in ((unfold, x), (fold, y)):
        assert torch.autograd.gradcheck(function, (value,))
        assert torch.autograd.gradgradcheck(function, (value,))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(0, 1000))
def test_fold_is_the_adjoint_of_unfold(count, height, width, channels, draw):
    x, y = (
        normal(count, height, width, channels, seed=draw),
        normal(count, height, width, TAPS, channels, seed=draw + 1),
    )
    assert unfold(x).shape == y.shape
    assert fold(y).shape == x.shape
    torch.testing.assert_close((unfold(x) * y).sum(), (x * fold(y)).sum(), rtol=1e-12, atol=1e-12)


def test_the_neighbours_of_a_position():
    x = torch.arange(1.0, 13.0).view(1, 3, 4, 1)
    neighbours = unfold(x)[0, ..., 0]
    assert neighbours[1, 1].tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]
    assert neighbours[0, 0].tolist() == [0, 0, 0, 0, 1, 2, 0, 5, 6]
    assert neighbours[2, 3].tolist() == [7, 8, 0, 11, 12, 0, 0, 0, 0]


def test_a_position_alone_has_only_itself():
    x = normal(2, 1, 1, 3)
    neighbours = unfold(x)[:, 0, 0]
    assert torch.equal(neighbours[:, 4], x[:, 0, 0])
    assert not neighbours[:, [0, 1, 2, 3, 5, 6, 7, 8]].any()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_matrices_of_whole_images_convolve(height, width):
    x = normal(2, 3, height, width, 2)
    by_channel, by_position = x.permute(0, 1, 4, 2, 3).flatten(2), x.flatten(2)
    weight, bias = narrow(2, 2, 4)
    y = by_channel @ dense_narrow_to_wide(weight, height, width)
    expected = narrow_to_wide(x, weight, torch.zeros_like(bias))
    torch.testing.assert_close(y, expected.flatten(2))
    weight, bias = wide(2, 2, 3)
    y = by_position @ dense_wide_to_narrow(weight, height, width)
    expected = wide_to_narrow(x, weight, torch.zeros_like(bias))
    torch.testing.assert_close(y, expected.permute(0, 1, 4, 2, 3).flatten(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_of_whole_images_have_the_weights_dtype_and_gradients(dtype):
    for make, (values, _) in ((dense_narrow_to_wide, narrow(2, 2, 3)), (dense_wide_to_narrow, wide(2, 2, 3))):
        weight = values.to(dtype).requires_grad_()
        matrix = make(weight, 2, 3)
        assert matrix.dtype == dtype
        assert matrix.shape == (2, 12, 18)
        matrix.sum().backward()
        # A kernel's middle applies at all 6 positions of 2 x 3, its sides at 3 or 4 of them, its corners at 2.
        uses = torch.tensor([2, 3, 2, 4, 6, 4, 2, 3, 2], dtype=dtype)
        taps = 1 if make is dense_narrow_to_wide else 2
        expected = uses.view([9 if axis == taps else 1 for axis in range(4)]).expand_as(weight)
        torch.testing.assert_close(weight.grad, expected)


def test_copies_do_not_mix():
    x = normal(3, 2, 3, 3, 2)
    for convolve, (weight, bias) in ((narrow_to_wide, narrow(3, 2, 4)), (wide_to_narrow, wide(3, 2, 4))):
        together = convolve(x, weight, bias)
        for copy in range(3):
            one = slice(copy, copy + 1)
            torch.testing.assert_close(together[one], convolve(x[one], weight[one], bias[one]))


def test_dtypes_under_autocast():
    x = normal(2, 3, 4, 4, 2).float()
    for convolve, (weight, bias), dtype in (
        (narrow_to_wide, narrow(2, 2, 4), torch.bfloat16),
        (wide_to_narrow, wide(2, 2, 4), torch.float32),
    ):
        values = [x.clone().requires_grad_(), weight.float().requires_grad_(), bias.float().requires_grad_()]
        exact = convolve(*values)
        assert exact.dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            rounded = convolve(*values)
        assert rounded.dtype == dtype
        torch.testing.assert_close(rounded.float(), exact, rtol=0.02, atol=0.1)
        rounded.float().square().sum().backward()
        assert all(value.grad.dtype == torch.float32 and value.grad.any() for value in values)
