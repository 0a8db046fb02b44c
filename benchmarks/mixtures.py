"""Speed and memory of an epoch of the classifier weighted mixture, against the plain way of doing the same."""

import itertools
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from processes import in_child, peak_megabytes
from torch import nn

from neumix.batching import DeviceSplit
from neumix.data import image_density
from neumix.data.dataset import Dataset, Field, Split
from neumix.density_model import Likelihood
from neumix.models.cwm import Config, Model
from neumix.models.cwm.gaussian_start import EM
from neumix.models.cwm.maps import Affine
from neumix.training import generators

__all__ = ["WAYS", "measured"]

POINTS, BATCH, COMPONENTS = 200_000, 20_000, 50
HIDDEN = (128, 128, 128)

WAYS = {
    "plain": "all 50 outputs at all 50 points of every sample in plain autograd",
    "float32": "neumix",
    "bfloat16": "the same, products in bfloat16",
    "tolerance": "the same, components left out that cannot hold 1e-5",
}
"""What is measured, by name."""


def measured(way: str, batches: int = 2) -> tuple[float, float]:
    """Return seconds for an epoch (200000 samples, batch 20000, K = 50) on two threads, and the peak memory in MB.

    Runs in a process of its own, since the peak is the process's; `batches` of the epoch's ten are timed after one that
    does not count.
    """
    return in_child(__file__, way, str(batches))


def plain_step(x: torch.Tensor) -> Any:
    """Return a function that takes one step's gradients the plain way."""
    widths = (2, *HIDDEN)
    layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
    classifier = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], COMPONENTS), nn.LogSoftmax(-1))
    means = nn.Parameter(torch.randn(COMPONENTS, 2))
    log_variances = nn.Parameter(torch.zeros(COMPONENTS, 2))

    def step() -> None:
        z = (x[:, None] - means) * torch.exp(-0.5 * log_variances)
        log_weights = torch.diagonal(classifier(z), 0, -2, -1)
        log_normal = -0.5 * (z.square() + log_variances).sum(-1) - math.log(2 * math.pi)
        loss = -(log_weights + log_normal).logsumexp(-1).mean()
        loss.backward()  # type: ignore[no-untyped-call]

    return step


def neumix_step(x: torch.Tensor, way: str) -> Any:
    """Return a function that takes one step's gradients as the project's training does."""
    dataset = Dataset({"train": Split({"x": Field(x.numpy())})}, "sample image")
    config = Config(components=COMPONENTS, hidden=HIDDEN, maps=Affine(name="diagonal"))
    model = Model(config, dataset.shapes, generators(range(1), "init"))
    with torch.no_grad():
        split = DeviceSplit(dataset["train"], 1, x.device)
        model.begin_stage(EM(name="em", points=None), split, generators(range(1), "begin"))
    loss = Likelihood(name="nll", tolerance=1e-5 if way == "tolerance" else 0.0)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=way != "float32"):
            value = model.loss({"x": x[None]}, loss, [])
        value.sum().backward()  # type: ignore[no-untyped-call]

    return step


def main(arguments: Sequence[str]) -> None:
    """Measure one way and print the result as JSON."""
    way, batches = arguments[0], int(arguments[1])
    torch.set_num_threads(2)
    torch.manual_seed(0)
    data = image_density.Config(source="sample_image", train=BATCH, test=1)
    x = torch.from_numpy(image_density.load(Path(), data, range(1))["train"]["x"].values[0])
    step = plain_step(x) if way == "plain" else neumix_step(x, way)
    step()
    started = time.perf_counter()
    for _ in range(batches):
        step()
    seconds = (time.perf_counter() - started) / batches * POINTS / BATCH
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main(sys.argv[1:])
