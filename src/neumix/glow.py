"""Glow: multi-scale normalising flows of images and vectors, several independent ones at once."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from neumix.convolution import (
    TAPS,
    dense_narrow_to_wide,
    dense_wide_to_narrow,
    narrow_to_wide,
    wide_to_narrow,
)

__all__ = ["Glow", "Mixing", "Shape"]

Shape = tuple[int, int, int]
"""Height, width, channels."""

Mixing = Literal["plain", "lu"]

_WEIGHT_SPREAD = 0.05
_LOG_SCALE_FACTOR = 3.0  # Glow's last layers grow by exp(3 s), so that their scale learns faster than their weights
_SCALE_SHIFT = 2.0  # couplings start with scales near 1: sigmoid(2) = 0.88
_LEAST_SPREAD = 1e-6
_LEAST_WIDTH = 32  # narrower matrix products are slower than wider ones with zeros
_DENSE = 9  # images of so few positions are multiplied by matrices as wholes: about half of the products are with zeros


class Glow(nn.Module):
    r"""Flows z = f(x) of equal shape; each block squeezes, takes flow steps, and splits off half of its channels.

    What a block splits off is a latent whose mean and scale are learned functions of what goes on: an affine coupling,
    after which it is standard Gaussian like the rest of z.

    References:
        Kingma and Dhariwal (2018), Glow; GenMM, Sec II-B.1 and Sec IV.A.

    Arguments:
        shape: of one image; a vector is an image of one position.
        blocks: number of blocks; each halves height and width (not those of a vector).
        steps: flow steps of a block.
        hidden: channels of the couplings' hidden layers.
        mixing: the 1x1 convolutions' matrices as such, or as products of triangular ones.
        generators: one for each flow; they draw the initial weights.

    Raises:
        ValueError: the image cannot be halved so often, or a step has fewer than two channels.
    """

    def __init__(
        self,
        shape: Shape,
        blocks: int,
        steps: int,
        hidden: int,
        generators: Sequence[torch.Generator],
        mixing: Mixing = "plain",
    ) -> None:
        super().__init__()
        self.shape = shape
        layers: list[_Block] = []
        current = shape
        for block in range(blocks):
            layer = _Block(current, steps, hidden, mixing, generators, last=block == blocks - 1)
            layers.append(layer)
            current = layer.rest
        self.blocks: Any = nn.ModuleList(layers)
        self.top_shape = current
        self.dimension = math.prod(shape)
        self.hidden_values = sum(2 * hidden * steps * math.prod(layer.rest[:2]) for layer in layers)

    @property
    def top_dimension(self) -> int:
        """Number of latent coordinates that pass through every block; they are the last ones of z."""
        return math.prod(self.top_shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (M, B, D) and log|det dz/dx| (M, B) at images x (M, B, H, W, C) of M flows."""
        return self._through(x, lambda block, x: block(x))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Make the actnorm layers' outputs of images (M, B, H, W, C) have mean 0 and variance 1."""
        self._through(x, lambda block, x: block.initialise(x))

    def _through(
        self, x: Tensor, apply: Callable[[Any, Tensor], tuple[Tensor, Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        latents: list[Tensor] = []
        log_det = x.new_zeros(x.shape[:2])
        for block in self.blocks:
            x, latent, change = apply(block, x)
            latents.append(latent)
            log_det = log_det + change
        return torch.cat([*latents, x.flatten(2)], 2), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Return the images (M, B, H, W, C) of latents z (M, B, D)."""
        sizes = [block.n_latents for block in self.blocks]
        *latents, x = torch.split(z, [*sizes, self.top_dimension], 2)
        x = torch.unflatten(x, 2, self.top_shape)
        for block, latent in zip(reversed(self.blocks), reversed(latents), strict=True):
            x = block.inverse(x, latent)
        return x


class _Block(nn.Module):
    """Squeeze, flow steps, and a split unless it is the last block."""

    def __init__(
        self,
        shape: Shape,
        steps: int,
        hidden: int,
        mixing: Mixing,
        generators: Sequence[torch.Generator],
        *,
        last: bool,
    ) -> None:
        super().__init__()
        height, width, channels = shape
        self.squeezes = (height, width) != (1, 1)
        if self.squeezes:
            if height % 2 or width % 2:
                raise ValueError(f"a Glow block halves height and width, but one of them is odd: {height} x {width}")
            height, width, channels = height // 2, width // 2, 4 * channels
        if channels < 2:
            raise ValueError(f"a coupling needs at least 2 channels, found images of {height} x {width} x {channels}")
        self.steps: Any = nn.ModuleList(_Step(channels, hidden, mixing, generators) for _ in range(steps))
        self.split = None if last else _Split(channels, len(generators))
        kept = channels if last else channels - channels // 2
        self.rest = (height, width, kept)
        self.n_latents = height * width * (channels - kept)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what goes on, what is split off (M, B, D'), and the log-determinant (M, B)."""
        height, width = self.rest[:2]
        if height * width > _DENSE:
            return self._through(x, lambda step, x: step(x))
        x = _squeeze(x) if self.squeezes else x
        y = x.permute(0, 1, 4, 2, 3).flatten(2)
        log_det = y.new_zeros(y.shape[:2])
        for step in self.steps:
            y, change = step.as_vectors(y, height, width)
            log_det = log_det + change
        return self._split_off(torch.unflatten(y, 2, (-1, height, width)).permute(0, 1, 3, 4, 2), log_det)

    def initialise(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._through(x, lambda step, x: step.initialise(x))

    def _through(
        self, x: Tensor, apply: Callable[[Any, Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = _squeeze(x) if self.squeezes else x
        log_det = x.new_zeros(x.shape[:2])
        for step in self.steps:
            x, change = apply(step, x)
            log_det = log_det + change
        return self._split_off(x, log_det)

    def _split_off(self, x: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.split is None:
            return x, x.new_zeros(*x.shape[:2], 0), log_det
        x, latent, change = self.split(x)
        return x, latent.flatten(2), log_det + change

    def inverse(self, x: Tensor, latent: Tensor) -> Tensor:
        if self.split is not None:
            x = self.split.inverse(x, torch.unflatten(latent, 2, (*x.shape[2:4], -1)))
        for step in reversed(self.steps):
            x = step.inverse(x)
        return _unsqueeze(x) if self.squeezes else x


class _Step(nn.Module):
    """Actnorm, 1x1 convolution and affine coupling."""

    def __init__(self, channels: int, hidden: int, mixing: Mixing, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.mixing = _Mixing(channels, mixing, generators)
        self.given = channels // 2
        self.network = _Network(self.given, hidden, 2 * (channels - self.given), generators)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = self.mixing(x)
        given, moved = y[..., : self.given], y[..., self.given :]
        shift, scale = self.network(given).chunk(2, -1)
        moved, change = _couple(moved, shift, scale)
        return torch.cat([given, moved], -1), log_det[:, None] + change.sum((2, 3))

    def as_vectors(self, x: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Do the same to images that are laid out as vectors (M, B, C H W)."""
        positions = height * width
        weight, offset, log_det = self.mixing.affine()
        with torch.autocast(x.device.type, enabled=False):
            eye = torch.eye(positions, dtype=x.dtype, device=x.device)
            mixing = torch.einsum("mcd,pq->mcpdq", weight, eye).flatten(3, 4).flatten(1, 2)
            y = torch.baddbmm(offset.repeat_interleave(positions, 2), x, mixing)
        given, moved = torch.split(y, [self.given * positions, y.shape[2] - self.given * positions], 2)
        shift, scale = self.network.of_vectors(given, height, width).chunk(2, 2)
        moved, change = _couple(moved, shift, scale)
        return torch.cat([given, moved], 2), positions * log_det[:, None] + change

    def initialise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.mixing.initialise(x)
        y, _ = self.mixing(x)
        self.network.initialise(y[..., : self.given])
        return self.forward(x)

    def inverse(self, z: Tensor) -> Tensor:
        given, moved = z[..., : self.given], z[..., self.given :]
        shift, scale = self.network(given).chunk(2, -1)
        return self.mixing.inverse(torch.cat([given, moved / torch.sigmoid(scale + _SCALE_SHIFT) - shift], -1))


class _Split(nn.Module):
    """Splits off half of the channels, standardised by an affine function of the other half."""

    def __init__(self, channels: int, flows: int) -> None:
        super().__init__()
        self.kept = channels - channels // 2
        self.prior = _ZeroConvolution(self.kept, 2 * (channels - self.kept), flows)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept, gone = x[..., : self.kept], x[..., self.kept :]
        mean, log_scale = wide_to_narrow(kept, *self.prior()).chunk(2, -1)
        return kept, (gone - mean) * (-log_scale).exp(), -log_scale.sum((2, 3, 4))

    def inverse(self, kept: Tensor, latent: Tensor) -> Tensor:
        mean, log_scale = wide_to_narrow(kept, *self.prior()).chunk(2, -1)
        return torch.cat([kept, mean + latent * log_scale.exp()], -1)


class _Mixing(nn.Module):
    r"""Actnorm and 1x1 convolution as one affine map of the channels, $y = (x + b) \, \mathrm{diag}(e^s) \, W$."""

    def __init__(self, channels: int, mixing: Mixing, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        flows = len(generators)
        self.shift = nn.Parameter(torch.zeros(flows, 1, channels))
        self.log_scale = nn.Parameter(torch.zeros(flows, 1, channels))
        noise = torch.stack([torch.randn(channels, channels, generator=generator) for generator in generators])
        rotation = torch.linalg.qr(noise)[0].contiguous()
        self.weight: Any = _PlainMatrix(rotation) if mixing == "plain" else _TriangularMatrix(rotation)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return y (M, B, H, W, C) and the log-determinant (M,), in float32 under autocast too."""
        weight, offset, log_det = self.affine()
        with torch.autocast(x.device.type, enabled=False):
            y = torch.baddbmm(offset, x.flatten(1, 3), weight).view_as(x)
        return y, x.shape[2] * x.shape[3] * log_det

    def affine(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return matrix (M, C, C), offset (M, 1, C) and, for one position, the log-determinant (M,)."""
        with torch.autocast(self.shift.device.type, enabled=False):
            weight, log_det = self.weight()
            scale = self.log_scale.exp()
            offset = (self.shift * scale) @ weight
            return scale.transpose(1, 2) * weight, offset, log_det + self.log_scale.sum((1, 2))

    def initialise(self, x: Tensor) -> None:
        _normalise(x.flatten(1, 3), self.shift, self.log_scale)

    def inverse(self, y: Tensor) -> Tensor:
        weight, _ = self.weight()
        mixed = torch.linalg.solve(weight, y.flatten(1, 3), left=False)
        x: Tensor = mixed * (-self.log_scale).exp() - self.shift
        return x.view_as(y)


class _PlainMatrix(nn.Module):
    def __init__(self, rotation: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(rotation)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the matrix (M, C, C) and the logarithm of its absolute determinant (M,)."""
        return self.matrix, torch.linalg.slogdet(self.matrix)[1]


class _TriangularMatrix(nn.Module):
    """P L (U + diag(s)) with a fixed permutation P and fixed signs of s."""

    def __init__(self, rotation: Tensor) -> None:
        super().__init__()
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal(dim1=1, dim2=2)
        self.permutation = nn.Buffer(permutation.contiguous())
        self.sign = nn.Buffer(diagonal.sign())
        self.log_diagonal = nn.Parameter(diagonal.abs().log())
        self.lower = nn.Parameter(lower.tril(-1).contiguous())
        self.upper = nn.Parameter(upper.triu(1).contiguous())

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the matrix (M, C, C) and the logarithm of its absolute determinant (M,)."""
        eye = torch.eye(self.lower.shape[1], dtype=self.lower.dtype, device=self.lower.device)
        diagonal = torch.diag_embed(self.sign * self.log_diagonal.exp())
        matrix = self.permutation @ (self.lower.tril(-1) + eye) @ (self.upper.triu(1) + diagonal)
        return matrix, self.log_diagonal.sum(1)


class _Network(nn.Module):
    """Two hidden layers with actnorm and ReLU, the second one a 1x1 convolution, and a 3x3 convolution from zero."""

    def __init__(self, inputs: int, hidden: int, outputs: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.first = _HiddenLayer((TAPS, inputs, hidden), generators)
        self.second = _HiddenLayer((hidden, hidden), generators)
        self.last = _ZeroConvolution(hidden, outputs, len(generators))

    def forward(self, x: Tensor) -> Tensor:
        h = narrow_to_wide(x, *self.first()).relu_()
        weight, bias = self.second()
        h = torch.baddbmm(bias, h.flatten(1, 3), weight).relu_().view_as(h)
        return wide_to_narrow(h, *self.last())

    def of_vectors(self, x: Tensor, height: int, width: int) -> Tensor:
        """Do the same to images that are laid out as vectors (M, B, C H W)."""
        positions, batch = height * width, x.shape[1]
        weight, bias = self.first()
        h = torch.baddbmm(bias.repeat(1, 1, positions), x, dense_narrow_to_wide(weight, height, width)).relu_()
        weight, bias = self.second()
        divisors = (n for n in range(1, positions + 1) if positions % n == 0 and n * bias.shape[2] <= _LEAST_WIDTH)
        together = max(divisors, default=1)
        h = torch.unflatten(h, 2, (positions // together, -1)).flatten(1, 2)
        h = torch.baddbmm(bias.repeat(1, 1, together), h, _repeated(weight, together)).relu_()
        weight, bias = self.last()
        h = torch.unflatten(h, 1, (batch, -1)).flatten(2)
        y = torch.baddbmm(bias.repeat_interleave(positions, 2), h, dense_wide_to_narrow(weight, height, width))
        return y.to(bias.dtype)

    def initialise(self, x: Tensor) -> None:
        h = narrow_to_wide(x, *self.first())
        self.first.initialise(h.flatten(1, 3))
        h = narrow_to_wide(x, *self.first()).relu_().flatten(1, 3)
        weight, bias = self.second()
        self.second.initialise(torch.baddbmm(bias, h, weight))


class _HiddenLayer(nn.Module):
    """Weights whose outputs an actnorm layer shifts and scales."""

    def __init__(self, shape: Sequence[int], generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        noise = [torch.randn(*shape, generator=generator) for generator in generators]
        self.weight = nn.Parameter(_WEIGHT_SPREAD * torch.stack(noise))
        self.shift = nn.Parameter(torch.zeros(len(generators), 1, shape[-1]))
        self.log_scale = nn.Parameter(torch.zeros(len(generators), 1, shape[-1]))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return weights (M, ..., O) and biases (M, 1, O) that the scales are part of."""
        scale = self.log_scale.exp()
        return self.weight * scale.view(len(scale), *[1] * (self.weight.dim() - 2), -1), self.shift * scale

    def initialise(self, y: Tensor) -> None:
        _normalise(y, self.shift, self.log_scale)


class _ZeroConvolution(nn.Module):
    """A 3x3 convolution that starts at zero."""

    def __init__(self, inputs: int, outputs: int, flows: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(flows, inputs, TAPS, outputs))
        self.bias = nn.Parameter(torch.zeros(flows, 1, outputs))
        self.log_scale = nn.Parameter(torch.zeros(flows, 1, outputs))

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return weights (M, I, 9, O) and biases (M, 1, O) that the scales are part of."""
        scale = (_LOG_SCALE_FACTOR * self.log_scale).exp()
        return self.weight * scale[:, None], self.bias * scale


def _repeated(weight: Tensor, count: int) -> Tensor:
    """Return block-diagonal matrices of `count` copies of each matrix (M, I, O), (M, count I, count O)."""
    eye = torch.eye(count, dtype=weight.dtype, device=weight.device)
    return torch.einsum("mio,pq->mpiqo", weight, eye).flatten(3, 4).flatten(1, 2)


def _couple(moved: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return `moved` after shift and scale, and the sum of log-scales over the last axis."""
    result: tuple[Tensor, Tensor] = _Couple.apply(moved, shift, scale)  # type: ignore[no-untyped-call]
    return result


class _Couple(torch.autograd.Function):
    """y = (x + b) sigmoid(s + 2), which keeps y and the sigmoid alone for its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        log_slope = functional.logsigmoid(scale + _SCALE_SHIFT)
        slope = log_slope.exp()
        y = (x + shift).mul_(slope)
        ctx.save_for_backward(y, slope)
        return y, log_slope.sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, slope = ctx.saved_tensors
        by_y, by_log_det = gradients
        by_x = by_y * slope
        by_scale = (by_y * y).add_(by_log_det[..., None]).mul_(1 - slope)
        return by_x, by_x, by_scale


def _normalise(y: Tensor, shift: Tensor, log_scale: Tensor) -> None:
    """Set shift and log-scale so that y (M, N, C), which they had no part in, comes out with mean 0 and variance 1."""
    shift.copy_(-y.mean(1, keepdim=True))
    log_scale.copy_(-(y.std(1, correction=0, keepdim=True) + _LEAST_SPREAD).log())


def _squeeze(x: Tensor) -> Tensor:
    """Move each 2x2 neighbourhood into channels: (M, B, H, W, C) to (M, B, H/2, W/2, 4 C)."""
    networks, batch, height, width, channels = x.shape
    cells = x.reshape(networks, batch, height // 2, 2, width // 2, 2, channels)
    return cells.permute(0, 1, 2, 4, 6, 3, 5).reshape(networks, batch, height // 2, width // 2, 4 * channels)


def _unsqueeze(x: Tensor) -> Tensor:
    """Undo `_squeeze`."""
    networks, batch, height, width, channels = x.shape
    cells = x.reshape(networks, batch, height, width, channels // 4, 2, 2)
    return cells.permute(0, 1, 2, 5, 3, 6, 4).reshape(networks, batch, 2 * height, 2 * width, channels // 4)
