"""Time-dependent vector fields of points and images, with their derivatives along directions, several at once."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from neumix.settings import STRICT

__all__ = [
    "Conditioning",
    "Convolutional",
    "ConvolutionalField",
    "FieldConfig",
    "Perceptron",
    "PerceptronField",
    "Smooth",
    "VectorField",
    "make_field",
]

Count = Annotated[int, Field(gt=0)]
Smooth = Literal["softplus", "tanh", "sin"]
Conditioning = Literal["concat", "concatsquash"]

_VALUES: dict[Smooth, Callable[[Tensor], Tensor]] = {
    "softplus": functional.softplus,
    "tanh": torch.tanh,
    "sin": torch.sin,
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Network:
    """Settings of the network that a field is.

    References:
        Grathwohl et al. (2019), FFJORD, whose public code has both kinds of conditioning; CPMM, Sec 5.2 (sin).

    Arguments:
        hidden: widths of the hidden layers.
        activation: of the hidden layers.
        conditioning: how every layer sees the time: `concat`: as one more input; `concatsquash`: by a factor between
            0 and 1 and an offset of each output.
    """

    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (64, 64, 64)
    activation: Smooth = "softplus"
    conditioning: Conditioning = "concat"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Perceptron(_Network):
    """A multilayer perceptron, for vectors."""

    name: Literal["mlp"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Convolutional(_Network):
    """3x3 convolutions, for images.

    Arguments:
        squeeze: squares of a side of 2^squeeze pixels are moved into channels first, and back last; each one more
            leaves a quarter of the positions, and of the time.
        scales: 2 gives all hidden layers but the first a double at half of the height and width.
    """

    name: Literal["cnn"]
    squeeze: Annotated[int, Field(ge=0, le=3)] = 0
    scales: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        if self.scales == 2 and len(self.hidden) < 2:
            raise ValueError("scales 2 doubles all hidden layers but the first, so 'hidden' needs at least two widths")


FieldConfig = Annotated[Perceptron | Convolutional, Field(discriminator="name")]


def make_field(
    config: Perceptron | Convolutional, shape: Sequence[int], generators: Sequence[torch.Generator]
) -> "VectorField":
    """Return fields of points of a shape, one for each generator, which draws its initial weights.

    Raises:
        ValueError: the network is not one for points of this shape.
    """
    if isinstance(config, Convolutional):
        return ConvolutionalField(config, shape, generators)
    return PerceptronField(config, shape, generators)


class VectorField(nn.Module, ABC):
    """Fields g(u, s) of several seeds; every parameter has the seed as its first axis. They start at zero.

    Arguments:
        shape: of a point.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    @property
    @abstractmethod
    def hidden_values(self) -> int:
        """Number of values of hidden layers for each point."""

    def forward(self, u: Tensor, s: Tensor, directions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        r"""Return g(u, s) (S, B, ...) and its derivatives $(\partial g / \partial u) \, e$ (S, P, B, ...).

        Derivatives go forward through the layers beside the values, so that their own gradients need one pass backwards
        like those of the values, and all P share the values. Both keep the dtype of u under autocast.

        Arguments:
            u: points, (S, B, ...).
            s: time, (), or one for each point, (S, B), where there are no directions.
            directions: e, (S, P, B, ...); none stands for P = 0.

        Raises:
            ValueError: derivatives are asked for at several times.
        """
        if directions is not None and s.dim():
            raise ValueError(f"derivatives are taken at one time for all points, found times of shape {tuple(s.shape)}")
        value, tangents = self._propagate(_Dual(u, None if directions is None else directions.flatten(1, 2)), s)
        if directions is None or tangents is None:
            return value.to(u), u.new_zeros(len(u), 0, *u.shape[1:])
        return value.to(u), torch.unflatten(tangents.to(u), 1, directions.shape[1:3])

    @abstractmethod
    def _propagate(self, u: "_Dual", s: Tensor) -> "_Dual":
        """Return the network's outputs and their derivatives, in the layout of u and in any dtype."""


class PerceptronField(VectorField):
    """Fields of vectors (D,).

    Raises:
        ValueError: points are not vectors.
    """

    def __init__(self, config: Perceptron, shape: Sequence[int], generators: Sequence[torch.Generator]) -> None:
        super().__init__(shape)
        if len(shape) != 1:
            raise ValueError(f"field 'mlp' is one of vectors (D,), found points of shape {self.shape}; use 'cnn'")
        self.config = config
        widths = (*shape, *config.hidden, *shape)
        self.layers = _layers(_Linear, widths, config.conditioning, generators, last_at_zero=True)

    @property
    def hidden_values(self) -> int:
        """Number of values of hidden layers for each point."""
        return sum(self.config.hidden)

    def _propagate(self, u: "_Dual", s: Tensor) -> "_Dual":
        *hidden, last = self.layers
        for layer in hidden:
            u = layer(u, s).activated(self.config.activation, 1)
        outputs: _Dual = last(u, s)
        return outputs


class ConvolutionalField(VectorField):
    """Fields of images (H, W, C).

    Raises:
        ValueError: points are not images, or cannot be halved so often.
    """

    def __init__(self, config: Convolutional, shape: Sequence[int], generators: Sequence[torch.Generator]) -> None:
        super().__init__(shape)
        if len(shape) != 3:
            raise ValueError(f"field 'cnn' is one of images (H, W, C), found points of shape {self.shape}; use 'mlp'")
        divisor = 2 ** (config.squeeze + config.scales - 1)
        if shape[0] % divisor or shape[1] % divisor:
            raise ValueError(
                f"squeeze {config.squeeze} and scales {config.scales} need images whose height and width {divisor} "
                f"divides, found {shape[0]} x {shape[1]}"
            )
        self.config, self.factor = config, 2**config.squeeze
        channels = shape[2] * self.factor**2
        widths = (channels, *config.hidden, channels)
        self.layers = _layers(_Convolution, widths, config.conditioning, generators, last_at_zero=True)
        coarse = config.hidden if config.scales == 2 else ()
        self.coarse = _layers(_Convolution, coarse, config.conditioning, generators, last_at_zero=False)

    @property
    def hidden_values(self) -> int:
        """Number of values of hidden layers for each point."""
        positions: int = math.prod(self.shape[:2]) // self.factor**2
        coarse = sum(self.config.hidden[1:]) if self.config.scales == 2 else 0
        return positions * sum(self.config.hidden) + positions // 4 * coarse

    def _propagate(self, u: "_Dual", s: Tensor) -> "_Dual":
        seeds, activation = len(u.value), self.config.activation
        first, *hidden, last = self.layers
        h = first(u.mapped(self._to_channels), s).activated(activation, 0)
        coarse = h.mapped(lambda x: functional.avg_pool2d(x, 2)) if len(self.coarse) else None
        for layer in hidden:
            h = layer(h, s).activated(activation, 0)
        if coarse is not None:
            for layer in self.coarse:
                coarse = layer(coarse, s).activated(activation, 0)
            h = h.plus(coarse.mapped(lambda x: functional.interpolate(x, scale_factor=2)))
        outputs: _Dual = last(h, s).mapped(lambda x: self._to_images(x, seeds))
        return outputs

    def _to_channels(self, x: Tensor) -> Tensor:
        """Return images (S, N, H, W, C) as (N, S c, h, w), squeezed, channels last in memory."""
        x = x.permute(1, 0, 4, 2, 3).flatten(1, 2)
        return functional.pixel_unshuffle(x, self.factor).contiguous(memory_format=torch.channels_last)

    def _to_images(self, x: Tensor, seeds: int) -> Tensor:
        """Undo `_to_channels`."""
        x = functional.pixel_shuffle(x, self.factor)
        return torch.unflatten(x, 1, (seeds, -1)).permute(1, 0, 3, 4, 2)


class _Dual(NamedTuple):
    """Values of a layer and their derivatives along P directions, which are rows as well, P times as many, if any."""

    value: Tensor
    tangents: Tensor | None

    def mapped(self, linear: Callable[[Tensor], Tensor]) -> "_Dual":
        """Return both after a linear map of each row."""
        return _Dual(linear(self.value), None if self.tangents is None else linear(self.tangents))

    def plus(self, other: "_Dual") -> "_Dual":
        """Return the sum."""
        value = self.value + other.value
        if self.tangents is None or other.tangents is None:
            return _Dual(value, None)
        return _Dual(value, self.tangents + other.tangents)

    def activated(self, kind: Smooth, axis: int) -> "_Dual":
        """Return both after an activation, the rows being an axis."""
        if self.tangents is None:
            return _Dual(_VALUES[kind](self.value), None)
        value, slope = _value_and_slope(self.value, kind)
        tangents = torch.unflatten(self.tangents, axis, (-1, slope.shape[axis])) * slope.unsqueeze(axis)
        return _Dual(value, tangents.flatten(axis, axis + 1))


def _value_and_slope(x: Tensor, kind: Smooth) -> tuple[Tensor, Tensor]:
    """Return an activation and its derivative."""
    value = _VALUES[kind](x)
    if kind == "softplus":
        return value, torch.sigmoid(x)
    return value, 1 - value.square() if kind == "tanh" else torch.cos(x)


class _Layer(nn.Module, ABC):
    """A linear map of rows, and what time does to its outputs.

    Arguments:
        inputs: width I.
        outputs: width O.
        conditioning: how time is seen.
        generators: one for each seed; they draw the initial weights, within 1 / sqrt(fan-in).
        zero: whether the outputs start at zero instead.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        conditioning: Conditioning,
        generators: Sequence[torch.Generator],
        *,
        zero: bool,
    ) -> None:
        super().__init__()

        def within(bound: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.stack([bound * (2 * torch.rand(shape, generator=g) - 1) for g in generators]))

        shape = self.weight_shape(inputs, outputs)
        bound = 0.0 if zero else math.sqrt(outputs / math.prod(shape))
        self.weight = within(bound, *shape)
        self.bias = within(bound, 1, outputs)
        self.drift = within(bound, 1, outputs)
        self.gated = conditioning == "concatsquash"
        if self.gated:
            self.gate = within(1.0, 1, outputs)
            self.gate_bias = within(1.0, 1, outputs)

    @staticmethod
    @abstractmethod
    def weight_shape(inputs: int, outputs: int) -> tuple[int, ...]:
        """Return the shape of one seed's weights."""

    @abstractmethod
    def forward(self, u: _Dual, s: Tensor) -> _Dual:
        """Return the outputs at times () or, for values alone, (S, B)."""

    def at(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors and offsets of the outputs at times () or (S, B), (S, 1 or B, O)."""
        s = s[..., None]
        if not self.gated:
            return torch.ones_like(self.bias), self.bias + s * self.drift
        factor = torch.sigmoid(torch.addcmul(self.gate_bias, s, self.gate))
        return factor, torch.addcmul(s * self.drift, self.bias, factor)


class _Linear(_Layer):
    """Rows (S, N, I) to (S, N, O)."""

    @staticmethod
    def weight_shape(inputs: int, outputs: int) -> tuple[int, ...]:
        """Return the shape of one seed's weights."""
        return inputs, outputs

    def forward(self, u: _Dual, s: Tensor) -> _Dual:
        """Return the outputs at times () or, for values alone, (S, B)."""
        factor, offset = self.at(s)
        if s.dim():
            return _Dual(torch.bmm(u.value, self.weight) * factor + offset, None)
        weight = self.weight * factor
        tangents = None if u.tangents is None else torch.bmm(u.tangents, weight)
        return _Dual(torch.baddbmm(offset, u.value, weight), tangents)


class _Convolution(_Layer):
    """3x3 convolution of rows (N, S I, H, W) to (N, S O, H, W)."""

    @staticmethod
    def weight_shape(inputs: int, outputs: int) -> tuple[int, ...]:
        """Return the shape of one seed's weights."""
        return outputs, inputs, 3, 3

    def forward(self, u: _Dual, s: Tensor) -> _Dual:
        """Return the outputs at times () or, for values alone, (S, B)."""
        factor, offset = self.at(s)
        if s.dim():
            y = _convolve(u.value, self.weight, None)
            factor, offset = (x.transpose(0, 1).flatten(1)[:, :, None, None] for x in (factor, offset))
            return _Dual(y * factor.to(y) + offset.to(y), None)
        weight = self.weight * factor[:, 0, :, None, None, None]
        tangents = None if u.tangents is None else _convolve(u.tangents, weight, None)
        return _Dual(_convolve(u.value, weight, offset.flatten()), tangents)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # Channels last in memory, in which convolutions and what follows are about a third faster.
    kernel = weight.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return functional.conv2d(x, kernel, bias, padding=1, groups=len(weight))


def _layers(
    kind: type[_Linear] | type[_Convolution],
    widths: Sequence[int],
    conditioning: Conditioning,
    generators: Sequence[torch.Generator],
    *,
    last_at_zero: bool,
) -> Any:
    """Return a list of layers between layers of given widths."""
    pairs = list(itertools.pairwise(widths))
    return nn.ModuleList(
        kind(inputs, outputs, conditioning, generators, zero=last_at_zero and place == len(pairs) - 1)
        for place, (inputs, outputs) in enumerate(pairs)
    )
