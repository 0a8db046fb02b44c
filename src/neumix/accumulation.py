"""Means over many points in chunks, so that memory holds one chunk's intermediate results instead of all of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["chunked", "mean_in_chunks"]


def chunked(function: Callable[[Tensor], Tensor], x: Tensor, size: int) -> Tensor:
    """Return a function of points (S, N, ...), one value or row for each, computed for `size` points at once."""
    return torch.cat([function(part) for part in torch.split(x, size, 1)], 1)


def mean_in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, size: int, parameters: Sequence[Tensor]) -> Tensor:
    """Return the mean over points of a function's values, with gradients that are already summed over the chunks.

    Each chunk is differentiated as soon as it is computed: autograd never keeps more than one chunk, and nothing is
    computed twice.

    Arguments:
        function: maps points (S, B, ...) to values (S, B); differentiable in `parameters` and in nothing else, and the
            values of a seed depend on no other seed's parameters.
        x: points, (S, N, ...).
        size: points of each seed at once.
        parameters: every one has the seed as (part of) its first axis.

    Returns:
        Means (S,).
    """
    learned = [parameter for parameter in parameters if parameter.requires_grad]
    if not (learned and torch.is_grad_enabled()):
        return chunked(function, x, size).mean(1)
    points = x.shape[1]
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    gradients: list[Tensor | None] = [None] * len(learned)
    for part in torch.split(x, size, 1):
        share = function(part).sum(1) / points  # (S,)
        found = torch.autograd.grad(share.sum(), learned, allow_unused=True)
        for index, gradient in enumerate(found):
            if gradient is not None:
                old = gradients[index]
                gradients[index] = gradient if old is None else old + gradient  # the first may be another's too
        total += share.detach()
    mean: Tensor = _WithGradients.apply(total, gradients, *learned)  # type: ignore[no-untyped-call]
    return mean


class _WithGradients(torch.autograd.Function):
    """A value of each seed with gradients that are known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor | None], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = outer  # (S,)
        scaled = [None if part is None else _by_seed(part, scale) for part in ctx.gradients]
        return (None, None, *scaled)


def _by_seed(gradient: Tensor, scale: Tensor) -> Tensor:
    """Multiply each seed's part of a gradient (S ..., ...) by its number."""
    return (gradient.reshape(len(scale), -1) * scale[:, None]).reshape(gradient.shape)
