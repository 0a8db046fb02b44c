"""Speed and memory of GenMM's training, against the plain way of doing the same."""

import copy
import json
import math
import sys
import time
from collections.abc import Callable, Sequence

import torch
from processes import in_child, peak_megabytes
from torch import Tensor, nn
from torch.nn import functional

from neumix.glow import Shape
from neumix.models.genmm import Config, Em, Model
from neumix.training import generators

__all__ = ["IMAGE_WAYS", "LETTER_WAYS", "measured"]

GENERATORS, UPDATE_EVERY = 4, 5
IMAGE: Shape = (32, 32, 1)
IMAGE_BATCH, IMAGE_HIDDEN = 64, 512
LETTER: Shape = (4, 4, 1)
CLASSES, CLASS_POINTS, LETTER_BATCH = 26, 615, 240

IMAGE_WAYS = {
    "image-plain": "a Python loop over generators, responsibilities in every step",
    "image-float32": "neumix",
    "image-bfloat16": "the same, couplings in bfloat16",
}
"""Ways to take a training step with four generators of 32 x 32 images (512 channels, batch 64), by name."""

LETTER_WAYS = {
    "letter-plain": "a Python loop over classes and generators",
    "letter-float32": "neumix, all classes at once",
}
"""Ways to train an epoch of Letter with four generators for each class, by name."""

Step = Callable[[int], None]


def measured(way: str) -> tuple[float, float]:
    """Return seconds for a step (images) or an epoch (Letter) on two threads, and the peak memory in MB."""
    return in_child(__file__, way)


class PlainStep(nn.Module):
    """Actnorm, 1x1 convolution, affine coupling, as one would first write them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norms = nn.ParameterList(nn.Parameter(torch.zeros(2, c, 1, 1)) for c in (channels, hidden, hidden))
        self.mixing = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])
        self.first = nn.Conv2d(channels // 2, hidden, 3, padding=1, bias=False)
        self.second = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.last = nn.Conv2d(hidden, channels, 3, padding=1)
        self.last_scale = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        (norm, first, second), positions = self.norms, x.shape[2] * x.shape[3]
        x = functional.conv2d((x + norm[0]) * norm[1].exp(), self.mixing[:, :, None, None])
        log_det = positions * (norm[1].sum() + torch.linalg.slogdet(self.mixing)[1])
        given, moved = x.chunk(2, 1)
        h = functional.relu((self.first(given) + first[0]) * first[1].exp())
        h = functional.relu((self.second(h) + second[0]) * second[1].exp())
        shift, scale = (self.last(h) * (3 * self.last_scale).exp()).chunk(2, 1)
        scale = torch.sigmoid(scale + 2)
        return torch.cat([given, (moved + shift) * scale], 1), log_det + scale.log().sum((1, 2, 3))


class PlainGlow(nn.Module):
    """One flow of images (B, C, H, W)."""

    def __init__(self, shape: Shape, blocks: int, steps: int, hidden: int) -> None:
        super().__init__()
        channels = shape[2]
        self.blocks, self.splits = nn.ModuleList(), nn.ModuleList()
        for block in range(blocks):
            channels *= 4
            self.blocks.append(nn.ModuleList(PlainStep(channels, hidden) for _ in range(steps)))
            if block < blocks - 1:
                self.splits.append(nn.Conv2d(channels // 2, channels, 3, padding=1))
                channels //= 2

    def forward(self, x: Tensor) -> Tensor:
        """Return log-densities (B,)."""
        log_prob = x.new_zeros(len(x))
        for block, steps in enumerate(self.blocks):
            x = functional.pixel_unshuffle(x, 2)
            for step in steps:  # type: ignore[attr-defined]
                x, log_det = step(x)
                log_prob = log_prob + log_det
            if block < len(self.splits):
                x, gone = x.chunk(2, 1)
                mean, log_scale = self.splits[block](x).chunk(2, 1)
                log_prob = log_prob + normal((gone - mean) * (-log_scale).exp()) - log_scale.sum((1, 2, 3))
        return log_prob + normal(x)


def normal(z: Tensor) -> Tensor:
    """Return the standard normal log-density of (B, C, H, W), (B,)."""
    return (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum((1, 2, 3))


def plain_step(shape: Shape, blocks: int, steps: int, hidden: int, batch: int) -> Step:
    """Return a function that trains one mixture on one batch, generator by generator."""
    flows = nn.ModuleList(PlainGlow(shape, blocks, steps, hidden) for _ in range(GENERATORS))
    frozen = copy.deepcopy(flows).requires_grad_(False)
    optimizer = torch.optim.Adam(flows.parameters(), fused=True)
    x = torch.rand(batch, shape[2], *shape[:2]) - 0.5

    def step(_: int) -> None:
        noisy = x + torch.randn_like(x) / 256
        with torch.no_grad():
            gamma = (torch.stack([flow(noisy) for flow in frozen], 1) / x[0].numel()).softmax(1)
        optimizer.zero_grad()
        log_densities = torch.stack([flow(noisy) for flow in flows], 1)
        (-(gamma * log_densities).sum(1).mean()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def neumix_step(model: Model, batch: dict[str, Tensor], precision: str) -> Step:
    """Return a function that trains all mixtures on one batch, as at a given epoch."""
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    noise = generators(range(1), "noise")
    model.responsibilities = torch.full((1, model.classes, len(batch["index"][0]), GENERATORS), 1 / GENERATORS)

    def step(epoch: int) -> None:
        model.epoch.fill_(epoch)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model.loss(batch, Em(name="em"), noise)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def image_step(way: str) -> Step:
    """Return a step with images of 32 x 32."""
    if way == "plain":
        return plain_step(IMAGE, 3, 4, IMAGE_HIDDEN, IMAGE_BATCH)
    config = Config(generators=GENERATORS, hidden=IMAGE_HIDDEN, update_every=UPDATE_EVERY)
    model = Model(config, {"x": IMAGE}, generators(range(1), "init"))
    batch = {"x": torch.rand(1, IMAGE_BATCH, *IMAGE) - 0.5, "index": torch.arange(IMAGE_BATCH)[None]}
    return neumix_step(model, batch, way)


def letter_step(way: str) -> Step:
    """Return a step of one class (plain), or of all classes."""
    if way == "plain":
        return plain_step(LETTER, 1, 12, 8, LETTER_BATCH)
    config = Config(generators=GENERATORS, blocks=1, steps=12, hidden=8, update_every=UPDATE_EVERY)
    model = Model(config, {"by_class": (CLASSES, *LETTER)}, generators(range(1), "init"))
    points = torch.rand(1, LETTER_BATCH, CLASSES, *LETTER) - 0.5
    index, present = torch.arange(LETTER_BATCH)[None], torch.ones(1, LETTER_BATCH, CLASSES)
    batch = {"by_class": points, "index": index, "present": present}
    return neumix_step(model, batch, way)


def main(arguments: Sequence[str]) -> None:
    """Measure one way and print the result as JSON."""
    data, _, way = arguments[0].partition("-")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    step = image_step(way) if data == "image" else letter_step(way)
    step(0)
    started = time.perf_counter()
    for epoch in range(UPDATE_EVERY):  # one of which computes responsibilities, where they are kept
        step(epoch)
    seconds = (time.perf_counter() - started) / UPDATE_EVERY
    if data == "letter":
        seconds *= CLASS_POINTS / LETTER_BATCH * (CLASSES if way == "plain" else 1)
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main(sys.argv[1:])
