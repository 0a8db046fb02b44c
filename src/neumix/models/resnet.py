"""A small residual classifier of images, whose features and class probabilities judge generated samples."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from neumix.accumulation import chunked
from neumix.models.base import BatchedModel
from neumix.nn import BatchedMLP
from neumix.settings import STRICT

__all__ = ["Config", "Loss", "Model"]

Positive = Annotated[int, Field(gt=0)]
Channels = Annotated[int, Field(gt=0, multiple_of=4)]  # so that a group never has a single value to normalise

_CHUNK = 500  # images of each seed at once
_GROUP = 8  # channels that are normalised together, where their number allows it
_SMALLEST = 8  # pixels of the shorter side


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the classifier.

    Arguments:
        width: channels of the first stage, a multiple of 4; every later stage has twice as many as the one before.
        stages: number of stages; every one but the first halves the height and the width.
        blocks: residual blocks of each stage.
        features: number F of features of an image, a multiple of 4.
        classes: number of labels, 0, 1, ...
    """

    width: Channels = 16
    stages: Positive = 3
    blocks: Positive = 1
    features: Channels = 64
    classes: Positive = 10


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """Loss of a stage: minus the log-probability of the label."""

    name: Literal["cross_entropy"]


class Model(BatchedModel):
    """Residual network with group normalisation: what it says of an image depends on no other image.

    Convolutional weights start normal with variance 2 / fan-in, the last linear layer's by Glorot.

    References:
        He et al. (2016), Deep residual learning; He et al. (2015), Delving deep into rectifiers, Eq. (10) (start);
        Wu and He (2018), Group normalization; GenMM, Sec IV.B (a ResNet trained on the dataset at hand; its size is
        our choice).

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x` is (H, W, C) with values in [-0.5, 0.5], `y` the label.
        generators: one for each seed; they draw the initial weights.

    Raises:
        ValueError: `x` is not an image of at least 8x8 pixels.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        shape = tuple(shapes["x"])
        if len(shape) != 3 or min(shape[:2]) < _SMALLEST or shape[2] < 1:
            raise ValueError(
                f"x must be images (height, width, channels) of at least {_SMALLEST}x{_SMALLEST} pixels, found {shape}"
            )
        widths = [config.width * 2**stage for stage in range(config.stages)]
        self.stem = _Convolution(shape[2], widths[0], 3, 1, generators)
        self.blocks = nn.ModuleList()
        inputs = widths[0]
        for stage, outputs in enumerate(widths):
            for block in range(config.blocks):
                self.blocks.append(_Block(inputs, outputs, 2 if stage and not block else 1, generators))
                inputs = outputs
        self.head = _Convolution(inputs, config.features, 1, 1, generators)
        self.classifier = BatchedMLP((config.features, config.classes), generators)

    def features(self, x: Tensor) -> Tensor:
        """Return the features of images (S, N, H, W, C), (S, N, F), without gradients."""
        with torch.no_grad():
            return chunked(self._features, x, _CHUNK)

    def log_probabilities(self, x: Tensor) -> Tensor:
        """Return the log-probabilities of the classes of images (S, N, H, W, C), (S, N, classes), without gradients."""
        with torch.no_grad():
            return chunked(self._log_probabilities, x, _CHUNK)

    def loss(self, batch: Mapping[str, Tensor], loss: Loss, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the mean of minus the label's log-probability of each seed, in nats for an image, (S,)."""
        log_probabilities = chunked(self._log_probabilities, batch["x"], _CHUNK)
        return -log_probabilities.gather(-1, batch["y"].unsqueeze(-1)).mean((1, 2))

    def _features(self, x: Tensor) -> Tensor:
        # Channels stay last in memory, so that one seed's images are not copied.
        h = x.permute(1, 2, 3, 0, 4).flatten(3).permute(0, 3, 1, 2)  # (B, S C, H, W)
        h = self.stem(h).relu_()
        for block in self.blocks:
            h = block(h)
        h = self.head(h).relu_().to(self.head.scale.dtype)  # so that the means keep it under autocast too
        pooled: Tensor = h.mean((2, 3))  # (B, S F)
        return pooled.reshape(len(pooled), self.n_seeds, -1).transpose(0, 1)

    def _log_probabilities(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self._features(x))
        return logits.log_softmax(-1)


class _Block(nn.Module):
    """Two normalised 3x3 convolutions around which a shortcut leads: the identity where it can be, else 1x1."""

    def __init__(self, inputs: int, outputs: int, stride: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.first = _Convolution(inputs, outputs, 3, stride, generators)
        self.second = _Convolution(outputs, outputs, 3, 1, generators)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _Convolution(inputs, outputs, 1, stride, generators)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.second(self.first(x).relu_()) + self.shortcut(x)
        return h.relu_()


class _Convolution(nn.Module):
    """Convolution and group normalisation of each seed's channels, (B, S inputs, ...) to (B, S outputs, ...)."""

    def __init__(
        self, inputs: int, outputs: int, size: int, stride: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.n_seeds, self.stride, self.padding = len(generators), stride, size // 2
        self.groups = self.n_seeds * (outputs // math.gcd(outputs, _GROUP))
        sd = math.sqrt(2 / (inputs * size**2))
        draws = [sd * torch.randn(outputs, inputs, size, size, generator=generator) for generator in generators]
        self.weight = nn.Parameter(torch.stack(draws))
        self.scale = nn.Parameter(torch.ones(self.n_seeds, outputs))
        self.shift = nn.Parameter(torch.zeros(self.n_seeds, outputs))

    def forward(self, x: Tensor) -> Tensor:
        h = functional.conv2d(
            x, self.weight.flatten(0, 1), stride=self.stride, padding=self.padding, groups=self.n_seeds
        )
        return functional.group_norm(h, self.groups, self.scale.flatten(), self.shift.flatten())
