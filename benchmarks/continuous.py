"""Speed and memory of CPMM: a training step, and the density of images under what is extracted from it."""

import json
import sys
import time
from collections.abc import Callable, Sequence

import torch
from processes import in_child, peak_megabytes

from neumix.hierarchical_mixture import Likelihood
from neumix.models import cnf, cpmm
from neumix.ode_flow import Hutchinson, RungeKutta
from neumix.training import generators
from neumix.vector_field import Convolutional

__all__ = ["WAYS", "measured"]

SHAPE = (28, 28, 1)
BATCH, IMAGES, FLOW_IMAGES = 1000, 10_000, 10

WAYS = {
    "step-float32": f"training step, {BATCH} images, 96 evaluations of the equation",
    "step-bfloat16": "the same, convolutions in bfloat16",
    "density-mixture": f"log-density of {IMAGES} images under the 250 extracted components",
    "density-flow": f"log-density of {FLOW_IMAGES} images under the teacher, 16 steps, one probe",
}
"""What is measured at the size of MNIST, rank 6, 10 trajectories of 25 components, by name."""

Work = Callable[[], object]


def measured(way: str) -> tuple[float, float]:
    """Return seconds on two threads, and the peak memory in MB."""
    return in_child(__file__, way)


def training_step(precision: str) -> Work:
    """Return a step of CPMM."""
    model = cpmm.Model(cpmm.Config(clusters=10, components=25), {"x": SHAPE}, generators([0], "init"))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    batch, noise = {"x": torch.randn(1, BATCH, *SHAPE)}, generators([0], "noise")

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model.loss(batch, Likelihood(name="nll"), noise)
        loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def density(of: str) -> Work:
    """Return the evaluation of a density without gradients."""
    if of == "mixture":
        model = cpmm.Model(cpmm.Config(clusters=10, components=25), {"x": SHAPE}, generators([0], "init"))
        with torch.no_grad():
            mixture = model.mixtures()
        x = torch.randn(1, IMAGES, 28 * 28)
        return torch.no_grad()(lambda: [mixture.log_prob(part) for part in torch.split(x, model.chunk, 1)])
    field = Convolutional(name="cnn", hidden=(64, 64, 64))
    settings = cnf.Config(field=field, solver=RungeKutta(name="rk4", steps=16), trace=Hutchinson(name="hutchinson"))
    flow = cnf.Model(settings, {"x": SHAPE}, generators([0], "init"))
    images = torch.randn(1, FLOW_IMAGES, *SHAPE)
    return torch.no_grad()(lambda: flow.log_prob_of(images))


def main(arguments: Sequence[str]) -> None:
    """Measure one way and print the result as JSON."""
    kind, _, way = arguments[0].partition("-")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    work = training_step(way) if kind == "step" else density(way)
    work()
    started = time.perf_counter()
    work()
    print(json.dumps({"seconds": time.perf_counter() - started, "megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main(sys.argv[1:])
