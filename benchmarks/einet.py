"""Speed and memory of an einsum network's training, against the plain way of doing the same."""

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from processes import in_child, peak_megabytes
from torch import Tensor

from neumix.density_model import Likelihood
from neumix.leaf_distributions import Binomial
from neumix.models.einet import Config, Em, Model, PoonDomingos
from neumix.region_graph import Layer, RegionGraph, poon_domingos
from neumix.training import generators

__all__ = ["LARGE_WAYS", "SMALL_WAYS", "measured"]

SIDE, BATCH, SIZE, LEVELS = 28, 100, 10, 256
PIECES = {"small": 4, "large": 7}
STEP = 0.05
REPEATS = {"small": 50, "large": 15}

SMALL_WAYS = {
    "small-plain": "an einsum for each layer in autograd",
    "small-em": "neumix",
    "small-nll": "neumix, a step of Adam in place of EM",
}
"""Ways to take a step of EM with 204146 parameters on 100 images of 28 x 28, by name."""

LARGE_WAYS = {way.replace("small", "large"): title for way, title in SMALL_WAYS.items()}
"""Ways to do so with 3163452 parameters, by name."""


def measured(way: str) -> tuple[float, float]:
    """Return seconds for a step on two threads, and the peak memory in MB."""
    return in_child(__file__, way)


def normalised(values: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return shares of a sum over some axes."""
    return values / values.sum(axes, keepdim=True)


class PlainSums:
    """Weights of a layer, as one would first write them."""

    def __init__(self, layer: Layer, outputs: int) -> None:
        self.left, self.right = torch.from_numpy(layer.left), torch.from_numpy(layer.right)
        pairs = torch.rand(*layer.left.shape, SIZE, SIZE, outputs)
        self.pairs = normalised(pairs, (2, 3)).requires_grad_()  # (R, P, K, K, O)
        self.mixing = normalised(torch.rand(*layer.left.shape, outputs), (1,)).requires_grad_()  # (R, P, O)

    def __call__(self, log_prob: Tensor) -> Tensor:
        """Return log-densities (B, R, O) from those of the regions so far, (B, regions, K)."""
        left, right = log_prob[:, self.left], log_prob[:, self.right]
        left_peak, right_peak = left.amax(3, keepdim=True), right.amax(3, keepdim=True)
        found = torch.einsum("brpi,brpj,rpijo->brpo", (left - left_peak).exp(), (right - right_peak).exp(), self.pairs)
        found = found.log() + left_peak + right_peak
        peak = found.amax(2, keepdim=True)
        return torch.einsum("brpo,rpo->bro", (found - peak).exp(), self.mixing).log() + peak[:, :, 0]

    def update(self) -> None:
        """Take a step of EM."""
        for weights, axes in ((self.pairs, (2, 3)), (self.mixing, (1,))):
            counts = (weights.grad * weights.detach()).clamp(min=1e-16)  # type: ignore[operator]
            weights.data = (1 - STEP) * weights.detach() + STEP * normalised(counts, axes)
            weights.grad = None


class PlainCircuit:
    """A circuit with binomial leaves, as one would first write it."""

    def __init__(self, graph: RegionGraph) -> None:
        root = len(graph.scopes) - 1
        self.sums = [PlainSums(layer, 1 if layer.start == root else SIZE) for layer in graph.layers]
        self.probabilities = 0.01 + 0.98 * torch.rand(graph.variables, SIZE)
        self.scopes = torch.zeros(graph.variables, len(graph.leaves))
        for leaf, scope in enumerate(graph.leaves):
            self.scopes[list(scope), leaf] = 1

    def step(self, x: Tensor) -> None:
        """Take a step of EM with points (B, D)."""
        family = torch.distributions.Binomial(LEVELS - 1, self.probabilities, validate_args=False)
        single = family.log_prob(x[:, :, None]).requires_grad_()  # type: ignore[no-untyped-call]  # (B, D, K)
        log_prob = torch.einsum("bdk,dl->blk", single, self.scopes)
        for layer in self.sums[:-1]:
            log_prob = torch.cat([log_prob, layer(log_prob)], 1)
        self.sums[-1](log_prob).sum().backward()  # type: ignore[no-untyped-call]
        posterior = single.grad  # (B, D, K)
        mean = torch.einsum("bdk,bd->dk", posterior, x) / (posterior.sum(0) + 1e-12)
        moved = (1 - STEP) * self.probabilities + STEP * mean / (LEVELS - 1)
        self.probabilities = moved.clamp(1e-6, 1 - 1e-6)
        for layer in self.sums:
            layer.update()


def plain_step(pieces: int) -> Callable[[], None]:
    """Return a function that takes a step of EM the plain way."""
    circuit = PlainCircuit(poon_domingos((SIDE, SIDE), (pieces, pieces)))
    x = torch.randint(0, LEVELS, (BATCH, SIDE * SIDE)).float()
    return lambda: circuit.step(x)


def neumix_step(pieces: int, loss: Em | Likelihood) -> Callable[[], None]:
    """Return a function that takes a step as the project's loop does."""
    structure = PoonDomingos(name="poon_domingos", pieces=pieces)
    config = Config(structure=structure, leaves=Binomial(name="binomial", levels=LEVELS), size=SIZE)
    model = Model(config, {"x": (SIDE, SIDE, 1)}, generators(range(1), "init"))
    batch = {"x": torch.randint(0, LEVELS, (1, BATCH, SIDE, SIDE, 1)).float()}
    optimizer = torch.optim.Adam(model.parameters(), fused=True)

    def step() -> None:
        losses = model.loss(batch, loss, [])
        optimizer.zero_grad()
        losses.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def main(arguments: Sequence[str]) -> None:
    """Measure one way and print the result as JSON."""
    kind, _, way = arguments[0].partition("-")
    torch.set_num_threads(2)
    torch.manual_seed(0)
    losses: dict[str, Em | Likelihood] = {"em": Em(name="em", step=STEP), "nll": Likelihood(name="nll")}
    step = plain_step(PIECES[kind]) if way == "plain" else neumix_step(PIECES[kind], losses[way])
    times = []
    for _ in range(REPEATS[kind] + 2):
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    print(json.dumps({"seconds": statistics.median(times[2:]), "megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main(sys.argv[1:])
