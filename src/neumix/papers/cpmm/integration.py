"""Why the continuous mixture is not integrated inside the differential equation, and an integral of logs that works."""

import dataclasses
import math
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torchdiffeq import odeint

from neumix.measured import MeasuredRun
from neumix.models.cpmm import Model
from neumix.papers.cpmm.scores import points
from neumix.settings import STRICT
from neumix.trajectories import Equation

__all__ = ["Integration", "log_integral"]

Count = Annotated[int, Setting(gt=0)]
Floats = NDArray[np.float64]
LogDensity = Callable[[Tensor], Tensor]

_MOST_POINTS = 2**12 + 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Integration:
    r"""The limit of infinitely many components, $\log p(x) = \log \sum_c \eta_c \int_0^1 p_c(x | t) dt$, in three ways.

    `direct`: p(x) is a further coordinate of the differential equation; `scaled`: the same, with every density divided
    by the point's largest one, which nobody knows beforehand; `logs`: Simpson's rule on logs, over the solution of the
    equation without p. The sum over G components is compared with it as well (`sum`).

    References:
        CPMM, Sec 3.1, Appendix A.

    Arguments:
        images: so many first test images.
        tolerance: of the solver, relative and absolute.
        settled: change of the integral of logs, in nats, below which it counts as found.
    """

    images: Count = 20
    tolerance: Annotated[float, Setting(gt=0)] = 1e-4
    settled: Annotated[float, Setting(gt=0)] = 0.01

    def __call__(self, trained: MeasuredRun) -> dict[str, Floats]:
        """Return what the first seed of a run of CPMM on images takes, by metric."""
        model: Model = trained.model()
        x = points(trained.dataset["test"], self.images, model.n_seeds).flatten(2)
        equation = dataclasses.replace(model.config, solver="dopri5", tolerance=self.tolerance)

        def densities(times: Tensor) -> Tensor:
            return _densities(model, times, x, equation)

        logs, grid, change = log_integral(densities, self.settled)
        peaks = densities(torch.linspace(0, 1, grid)).amax(1)  # (S, N)
        alone = _Joint(model, None, None)
        self._solve(alone, 0)
        found = {"logs": logs[0], "sum": model.log_prob(x)[0]}
        evaluations = {"alone": alone.evaluations}
        for way, shift in (("direct", torch.zeros_like(peaks)), ("scaled", peaks)):
            joint = _Joint(model, x, shift)
            found[way] = self._solve(joint, x.shape[1]).log() + shift[0]
            evaluations[way] = joint.evaluations
        metrics = {f"integration_evaluations_{way}": float(count) for way, count in evaluations.items()}
        metrics |= {"integration_grid": float(grid), "integration_change": change}
        for way, values in found.items():
            there = values.isfinite()
            metrics[f"integration_missing_{way}"] = float((~there).double().mean())
            if there.any():
                metrics[f"integration_error_{way}"] = float((values - logs[0])[there].abs().max())
        return {name: np.array([value]) for name, value in metrics.items()}

    def _solve(self, joint: "_Joint", images: int) -> Tensor:
        """Return p(x) of the first seed at pseudotime 1, (N,)."""
        initial = (joint.model.initial, torch.zeros(images))
        times = torch.tensor([0.0, 1.0])
        found: tuple[Tensor, Tensor] = odeint(
            joint, initial, times, rtol=self.tolerance, atol=self.tolerance, method="dopri5"
        )
        return found[1][-1]


class _Joint(nn.Module):
    """The equation of states and p(x) together, which counts its evaluations."""

    def __init__(self, model: Model, x: Tensor | None, shift: Tensor | None) -> None:
        super().__init__()
        self.model, self.x, self.shift, self.evaluations = model, x, shift, 0

    def forward(self, t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        self.evaluations += 1
        states, p = state
        networks = self.model.field.networks
        change = self.model.field(t, states.reshape(networks, -1, *states.shape[2:])).reshape(states.shape)
        if self.x is None or self.shift is None:
            return change, torch.zeros_like(p)
        density = self.model.components(states[:, :, None]).log_prob(self.x) - self.shift
        return change, density[0].exp()


def log_integral(log_density: LogDensity, tolerance: float) -> tuple[Tensor, int, float]:
    """Return the log of the integral over [0, 1] of a density given by its log, and how far it has settled.

    Simpson's rule with halved steps until nothing changes by more than the tolerance or 4097 points are used; only logs
    are added, so that nothing underflows.

    Arguments:
        log_density: maps pseudotimes (G,) to log-densities (S, G, N).
        tolerance: in nats.

    Returns:
        Integrals, (S, N); number of points; largest change by the last halving, in nats.
    """
    count, change, value = 17, math.inf, _simpson(log_density, 17)
    while change > tolerance and count < _MOST_POINTS:
        count, before = 2 * count - 1, value
        value = _simpson(log_density, count)
        change = float((value - before).abs().max())
    return value, count, change


def _simpson(log_density: LogDensity, count: int) -> Tensor:
    weights = torch.ones(count)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    log_weights = (weights / (3 * (count - 1))).log()
    return (log_density(torch.linspace(0, 1, count)) + log_weights[:, None]).logsumexp(1)


def _densities(model: Model, times: Tensor, x: Tensor, equation: Equation) -> Tensor:
    """Return log-densities of the mixture over clusters at single pseudotimes, (S, G, N)."""
    found = model.components(model.states(times, equation))
    joint = found.log_joint(x) + math.log(len(times))  # (S, N, C G)
    return torch.unflatten(joint, 2, (model.structure.clusters, -1)).logsumexp(2).transpose(1, 2)
