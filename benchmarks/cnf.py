"""Speed and memory of continuous normalising flows of images, against the plain way of doing the same."""

import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Sequence

import torch
from processes import in_child, peak_megabytes
from torch import Tensor, nn
from torch.nn import functional
from torchdiffeq import odeint, odeint_adjoint

from neumix.models.cnf import Config, FlowMatching, Likelihood, Model
from neumix.ode_flow import RungeKutta
from neumix.training import generators
from neumix.vector_field import Convolutional

__all__ = ["LIKELIHOOD_WAYS", "MATCHING_WAYS", "SPACES_WAYS", "measured"]

IMAGE, HIDDEN = (28, 28, 1), (64, 64, 64)
BATCH, MAPPED, STEPS, TOLERANCE = 64, 100, 8, 1e-5
SPACES = [place / 50 for place in range(51)]

LIKELIHOOD_WAYS = {
    "likelihood-plain": "adaptive steps, adjoint equation, trace by reverse mode",
    "likelihood-float32": "neumix, 8 steps of order 4",
    "likelihood-bfloat16": "the same, network in bfloat16",
    "likelihood-squeezed-float32": "neumix, the same on 14 x 14 positions",
    "likelihood-squeezed-bfloat16": "the same, network in bfloat16",
}
"""Ways to take a step of maximum likelihood with images of 28 x 28 (64-64-64 channels, batch 64), by name."""

MATCHING_WAYS = {
    "matching-plain": "plain autograd",
    "matching-float32": "neumix",
    "matching-bfloat16": "the same, network in bfloat16",
    "matching-squeezed-float32": "neumix, on 14 x 14 positions",
    "matching-squeezed-bfloat16": "the same, network in bfloat16",
}
"""Ways to take a step of flow matching with the same network and batch, by name."""

SPACES_WAYS = {
    "spaces-plain": "a step of order 4 from each space to the next",
    "spaces-float32": "neumix, 8 steps and cubics",
    "spaces-bfloat16": "the same, network in bfloat16",
    "spaces-squeezed-float32": "neumix, on 14 x 14 positions",
    "spaces-squeezed-bfloat16": "the same, network in bfloat16",
}
"""Ways to map 100 images through 51 spaces, by name."""

Task = Callable[[], object]


def measured(way: str) -> tuple[float, float]:
    """Return seconds for a step, or for mapping, on two threads, and the peak memory in MB."""
    return in_child(__file__, way)


class PlainField(nn.Module):
    """3x3 convolutions that see the time as one more channel, as one would first write them."""

    def __init__(self) -> None:
        super().__init__()
        widths = (IMAGE[2], *HIDDEN, IMAGE[2])
        self.layers = nn.ModuleList(nn.Conv2d(a + 1, b, 3, padding=1) for a, b in itertools.pairwise(widths))

    def forward(self, s: Tensor, u: Tensor) -> Tensor:
        """Return the velocity of images (B, C, H, W) at a time (), or at times (B, 1, 1, 1)."""
        for place, layer in enumerate(self.layers):
            u = layer(torch.cat([u, s.expand(len(u), 1, *u.shape[2:])], 1))
            u = functional.softplus(u) if place < len(HIDDEN) else u
        return u


class PlainRates(nn.Module):
    """Velocity and trace of the Jacobian along random signs."""

    def __init__(self, field: PlainField, e: Tensor) -> None:
        super().__init__()
        self.field, self.e = field, e

    def forward(self, s: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Return the slopes of images and of the integral."""
        with torch.enable_grad():
            u = state[0].requires_grad_()
            velocity = self.field(s, u)
            (product,) = torch.autograd.grad(velocity, u, self.e, create_graph=True)
        return velocity, (product * self.e).sum((1, 2, 3))


def plain_loss(kind: str, field: PlainField, x: Tensor) -> Tensor:
    """Return the loss of a batch."""
    if kind == "matching":
        z, s = torch.randn_like(x), torch.rand(len(x), 1, 1, 1)
        velocity: Tensor = field(s, torch.lerp(x, z, s))
        return (velocity - (z - x)).square().mean()
    rates, times = PlainRates(field, torch.randn_like(x).sign()), torch.tensor([0.0, 1.0])
    z, trace = odeint_adjoint(rates, (x, torch.zeros(len(x))), times, rtol=TOLERANCE, atol=TOLERANCE, method="dopri5")
    log_prob: Tensor = -0.5 * z[-1].square().sum((1, 2, 3)) - 0.5 * x[0].numel() * math.log(2 * math.pi) + trace[-1]
    return -log_prob.mean()


def plain_task(kind: str) -> Task:
    """Return a step, or the mapping, as one would first write it."""
    field = PlainField()
    optimizer = torch.optim.Adam(field.parameters(), fused=True)
    x = 3 * torch.randn(MAPPED if kind == "spaces" else BATCH, IMAGE[2], *IMAGE[:2])

    def step() -> None:
        optimizer.zero_grad()
        plain_loss(kind, field, x).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def mapping() -> Tensor:
        with torch.no_grad():
            states: Tensor = odeint(field, x, torch.tensor(SPACES), method="rk4")
            return states

    return mapping if kind == "spaces" else step


def neumix_task(kind: str, squeeze: int, precision: str) -> Task:
    """Return the same by the project's model, whose last layer starts at zero, which changes no time of fixed steps."""
    field = Convolutional(name="cnn", hidden=HIDDEN, squeeze=squeeze)
    solver = RungeKutta(name="rk4", steps=STEPS)
    model = Model(Config(field=field, solver=solver), {"x": IMAGE}, generators(range(1), "init"))
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loss = FlowMatching(name="flow_matching") if kind == "matching" else Likelihood(name="nll")
    noise = generators(range(1), "noise")
    x = 3 * torch.randn(1, MAPPED if kind == "spaces" else BATCH, *IMAGE)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            value = model.loss({"x": x}, loss, noise)
        value.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def mapping() -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            return model.spaces(x, SPACES)

    return mapping if kind == "spaces" else step


def main(arguments: Sequence[str]) -> None:
    """Measure one way and print the result as JSON."""
    kind, *form, way = arguments[0].split("-")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    task = plain_task(kind) if way == "plain" else neumix_task(kind, len(form), way)
    task()
    started = time.perf_counter()
    repeats = 10 if kind == "matching" else 1
    for _ in range(repeats):
        task()
    seconds = (time.perf_counter() - started) / repeats
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main(sys.argv[1:])
