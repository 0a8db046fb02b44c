"""3x3 convolutions of several independent networks at once, as batched matrix products."""

import functools
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "TAPS",
    "dense_narrow_to_wide",
    "dense_wide_to_narrow",
    "fold",
    "narrow_to_wide",
    "unfold",
    "wide_to_narrow",
]

TAPS = 9
"""Weights of a 3x3 kernel."""

_OFFSETS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


def narrow_to_wide(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve few channels into many.

    Arguments:
        x: images (M, B, H, W, I).
        weight: (M, 9, I, O), taps by row, then column.
        bias: (M, 1, O).

    Returns:
        (M, B, H, W, O).
    """
    networks, batch, height, width, inputs = x.shape
    outputs = weight.shape[-1]
    patches = unfold(x.flatten(0, 1)).view(networks, batch * height * width, TAPS * inputs)
    y = torch.baddbmm(bias, patches, weight.flatten(1, 2))
    return y.view(networks, batch, height, width, outputs)


def wide_to_narrow(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve many channels into few.

    Arguments:
        x: images (M, B, H, W, I).
        weight: (M, I, 9, O), taps by row, then column, of the kernel turned by 180 degrees.
        bias: (M, 1, O).

    Returns:
        (M, B, H, W, O), of the bias' dtype under autocast too.
    """
    networks, batch, height, width, inputs = x.shape
    outputs = weight.shape[-1]
    parts = torch.bmm(x.reshape(networks, batch * height * width, inputs), weight.flatten(2)).to(bias.dtype)
    y = fold(parts.view(networks * batch, height, width, TAPS, outputs))
    return y.view(networks, batch, height, width, outputs) + bias[:, :, None, None]


def dense_narrow_to_wide(weight: Tensor, height: int, width: int) -> Tensor:
    """Return the matrix of a convolution (M, 9, I, O) of whole images: from (I, P) to (P, O), (M, I P, P O)."""
    matrix = torch.einsum("mtio,tpq->mipqo", weight, _neighbours(height, width).to(weight))
    return matrix.flatten(3, 4).flatten(1, 2)


def dense_wide_to_narrow(weight: Tensor, height: int, width: int) -> Tensor:
    """Return the matrix of a convolution (M, I, 9, O) of whole images: from (P, I) to (O, P), (M, P I, O P)."""
    matrix = torch.einsum("mito,tqp->mpioq", weight, _neighbours(height, width).to(weight))
    return matrix.flatten(3, 4).flatten(1, 2)


def unfold(x: Tensor) -> Tensor:
    """Return the 3x3 neighbours of every position, zeros beyond the edges: (N, H, W, C) to (N, H, W, 9, C)."""
    neighbours: Tensor = _Unfold.apply(x)  # type: ignore[no-untyped-call]
    return neighbours


def fold(x: Tensor) -> Tensor:
    """Add up what positions send to their neighbours, the adjoint of `unfold`: (N, H, W, 9, C) to (N, H, W, C)."""
    total: Tensor = _Fold.apply(x)  # type: ignore[no-untyped-call]
    return total


class _Unfold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _spread(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _gather(gradients[0])


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _gather(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _spread(gradients[0])


def _spread(x: Tensor) -> Tensor:
    count, height, width, channels = x.shape
    y = x.new_zeros(count, height, width, TAPS, channels)
    for tap, (row, column) in enumerate(_OFFSETS):
        (to_rows, from_rows), (to_columns, from_columns) = _overlap(row, height), _overlap(column, width)
        y[:, to_rows, to_columns, tap] = x[:, from_rows, from_columns]
    return y


def _gather(y: Tensor) -> Tensor:
    count, height, width, _, channels = y.shape
    x = y.new_zeros(count, height, width, channels)
    for tap, (row, column) in enumerate(_OFFSETS):
        (from_rows, to_rows), (from_columns, to_columns) = _overlap(row, height), _overlap(column, width)
        x[:, to_rows, to_columns] += y[:, from_rows, from_columns, tap]
    return x


def _overlap(offset: int, length: int) -> tuple[slice, slice]:
    """Return the positions that have a neighbour at an offset, and those neighbours."""
    start, end = max(0, -offset), length - max(0, offset)
    return slice(start, end), slice(start + offset, end + offset)


@functools.cache
def _neighbours(height: int, width: int) -> Tensor:
    """Return 1 where position p is the neighbour of position q by a tap, else 0, (9, P, P)."""
    positions = height * width
    identity = torch.eye(positions).view(positions, height, width, 1)
    return _spread(identity)[..., 0].permute(3, 0, 1, 2).reshape(TAPS, positions, positions)
