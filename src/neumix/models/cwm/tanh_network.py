"""The inner loop of classifier weighted mixtures: one log-softmax output of a tanh network at each of many points."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

__all__ = ["log_softmax_at", "logits"]

_BLOCK = 1024  # points are padded to a multiple: matrix libraries keep a program and memory for each shape they meet


def logits(z: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Return the outputs of tanh networks in plain autograd.

    Arguments:
        z: points, (..., P, D).
        weights, biases: of the layers, (..., inputs, outputs) and (..., 1, outputs).
    """
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        z = torch.tanh(z @ weight + bias)
    return z @ weights[-1] + biases[-1]


def log_softmax_at(z: Tensor, label: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor]) -> Tensor:
    """Return the log-probability that a tanh network gives to one label at each point, (P,).

    The same as `logits(...).log_softmax(-1)` at the labels, with hand-written gradients: activations overwrite their
    inputs, tanh is computed from the logistic function, which vectorises several times better, and under autocast the
    products of the hidden layers are taken in its precision. The first layer stays in float32, since its inputs are
    coordinates, and so do the softmax and all sums.

    Arguments:
        z: points, (P, D).
        label: (P,).
        weights, biases: of one network's layers, (inputs, outputs) and (1, outputs).
    """
    kind = z.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else z.dtype
    missing = -len(z) % _BLOCK
    padded, labels = functional.pad(z, (0, 0, 0, missing)), functional.pad(label, (0, missing))
    with torch.autocast(kind, enabled=False):
        found: Tensor = _LogSoftmaxAt.apply(padded, labels, dtype, *weights, *biases)  # type: ignore[no-untyped-call]
    return found[: len(z)]


class _LogSoftmaxAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, label: Tensor, dtype: torch.dtype, *parameters: Tensor) -> Tensor:
        layers = len(parameters) // 2
        weights, biases = parameters[:layers], parameters[layers:]
        hidden: list[Tensor] = []  # of each layer but the last, in `dtype`
        below = z
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            kind = dtype if layer else z.dtype
            below = torch.addmm(bias.to(kind), below, weight.to(kind))
            if layer < layers - 1:
                below = _tanh_(below).to(dtype)
                hidden.append(below)
        scores = below.to(z.dtype)
        scores.sub_(scores.amax(1, keepdim=True))
        chosen = scores.gather(1, label[:, None])
        scores.exp_()
        total = scores.sum(1, keepdim=True)
        ctx.save_for_backward(z, label, scores.div_(total), *hidden, *weights)
        ctx.dtype, ctx.layers = dtype, layers
        return (chosen - total.log())[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        z, label, probabilities, *rest = ctx.saved_tensors
        hidden, weights = rest[: ctx.layers - 1], rest[ctx.layers - 1 :]
        (gradient,) = outer
        above = probabilities * -gradient[:, None]
        above.scatter_add_(1, label[:, None], gradient[:, None])
        of_weights: list[Tensor] = []
        of_biases: list[Tensor] = []
        for layer in range(ctx.layers - 1, -1, -1):
            kind = ctx.dtype if layer else z.dtype
            above = above.to(kind)
            below = hidden[layer - 1] if layer else z
            of_weights.insert(0, (below.T @ above).to(z.dtype))
            of_biases.insert(0, above.sum(0, keepdim=True, dtype=z.dtype))
            above = above @ weights[layer].to(kind).T
            if layer:
                torch.ops.aten.tanh_backward.grad_input(above, below, grad_input=above)
        return (above, None, None, *of_weights, *of_biases)


def _tanh_(x: Tensor) -> Tensor:
    """Replace x by tanh(x) = 2 sigmoid(2x) - 1."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)
