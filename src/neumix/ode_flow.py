"""Continuous normalising flows: points that follow a vector field, and the densities that come of it."""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchdiffeq import odeint, odeint_adjoint

from neumix.bases import BASES
from neumix.settings import STRICT
from neumix.vector_field import VectorField

__all__ = [
    "Dopri5",
    "Exact",
    "Hutchinson",
    "OdeFlow",
    "RungeKutta",
    "Solution",
    "Solver",
    "Trace",
    "directions",
]

Count = Annotated[int, Field(gt=0)]

Rates = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps a time () and states (S, B, ...) to velocities (S, B, ...) and to integrands (S, B, Q)."""

Pair = tuple[Tensor, Tensor]

_NORMAL = BASES["normal"]
_KEPT = 2**23  # hidden values of all evaluations of a field up to which they are kept for the gradient
_ROUNDING = 1e-6  # of places, in steps


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RungeKutta:
    """Fixed steps of order 4, by the 3/8 rule; the gradient is that of the steps taken.

    References:
        Hairer, Nørsett and Wanner (1993), Solving ordinary differential equations I, Sec II.1, Table 1.2; Finlay et
        al. (2020), How to train your neural ODE (few fixed steps in training).

    Arguments:
        steps: between times 0 and 1.
    """

    name: Literal["rk4"]
    steps: Count = 8


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dopri5:
    """Steps of order 5, chosen for all points of a seed together; the gradient by the adjoint equation.

    The network keeps its precision under autocast, since no step is small enough for errors of rounding.

    References:
        Dormand and Prince (1980); Grathwohl et al. (2019), FFJORD; the solver and its adjoint are torchdiffeq's.

    Arguments:
        tolerance: of the error of a step, absolute and relative.
    """

    name: Literal["dopri5"]
    tolerance: Annotated[float, Field(gt=0)] = 1e-5


Solver = Annotated[RungeKutta | Dopri5, Field(discriminator="name")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Exact:
    """The trace of the Jacobian as it is, by D directions."""

    name: Literal["exact"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Hutchinson:
    """An unbiased estimate of the trace by random directions, the same at all times.

    References:
        Hutchinson (1990); Grathwohl et al. (2019), FFJORD, Eq. (7), (8).

    Arguments:
        noise: independent entries of a direction, of mean 0 and variance 1.
        probes: number of directions for each point.
    """

    name: Literal["hutchinson"]
    noise: Literal["rademacher", "gaussian"] = "rademacher"
    probes: Count = 1


Trace = Annotated[Exact | Hutchinson, Field(discriminator="name")]


def directions(trace: Exact | Hutchinson, x: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
    r"""Return directions e of points x (S, B, ...) in which derivatives give the trace of a Jacobian, (S, P, B, ...).

    The mean of $e e^T$ is the identity, exactly or in expectation: the trace is the mean of $e^T J e$, and the squared
    Frobenius norm that of $|J e|^2$. Random ones are drawn point by point, so that parts of points draw what all would.

    Arguments:
        trace: which directions.
        x: points.
        noise: one generator for each seed; not used by the exact trace.
    """
    seeds, points, shape = len(x), x.shape[1], x.shape[2:]
    if isinstance(trace, Exact):
        dimension = math.prod(shape)
        basis = math.sqrt(dimension) * torch.eye(dimension, dtype=x.dtype, device=x.device)
        return basis.view(1, dimension, 1, *shape).expand(seeds, dimension, points, *shape)
    size = (points, trace.probes, *shape)
    if trace.noise == "gaussian":
        draws = [torch.randn(size, generator=generator) for generator in noise]
    else:
        draws = [2.0 * torch.randint(2, size, generator=generator) - 1 for generator in noise]
    return torch.stack(draws).to(x).transpose(1, 2)


@dataclasses.dataclass(frozen=True)
class Solution:
    """What points pass through.

    Arguments:
        states: at each time, (S, B, T, ...).
        integrals: from the first time to each, (S, B, T, Q).
        evaluations: of the field, for each seed.
    """

    states: Tensor
    integrals: Tensor
    evaluations: tuple[int, ...]


class OdeFlow(nn.Module):
    r"""Flows $u_v(x) = x + \int_0^v g(u_s, s) \, ds$ from the data at v = 0 to a standard Gaussian at v = 1.

    References:
        CPMM, Sec 3.3, Eq. (8), whose printed form lacks the leading x and has ds for du in the trace; Chen et al.
        (2018), Neural ordinary differential equations, Theorem 1.

    Arguments:
        field: g of each seed.
    """

    def __init__(self, field: VectorField) -> None:
        super().__init__()
        self.field = field

    def latent(self, x: Tensor, solver: RungeKutta | Dopri5) -> Tensor:
        """Return where points (S, B, ...) arrive at v = 1."""
        return self.follow(x, (0.0, 1.0), solver).states[:, :, -1]

    def inverse(self, z: Tensor, solver: RungeKutta | Dopri5) -> Tensor:
        """Return the points that arrive at z (S, B, ...)."""
        return self.follow(z, (1.0, 0.0), solver).states[:, :, -1]

    def spaces(self, x: Tensor, times: Sequence[float], solver: RungeKutta | Dopri5) -> Tensor:
        """Return where points (S, B, ...) are at times v, in any order, (S, B, T, ...); one solution serves all times.

        Raises:
            ValueError: a time is outside [0, 1].
        """
        outside = [time for time in times if not 0 <= time <= 1]
        if outside:
            raise ValueError(f"spaces lie between time 0, the data, and time 1, the latent; found time {outside[0]}")
        passed = sorted({0.0, *times})
        if len(passed) == 1:
            return torch.stack([x] * len(times), 2)
        places = torch.tensor([passed.index(time) for time in times], device=x.device)
        return self.follow(x, passed, solver).states.index_select(2, places)

    def density(
        self, u: Tensor, e: Tensor, solver: RungeKutta | Dopri5, *, start: float = 0.0, energies: bool = False
    ) -> tuple[Tensor, Tensor]:
        r"""Return log-densities in nats (S, B) at points of a space, and energies of their paths to the latent.

        $$ \log p(u_v) = \log N(u_1; 0, I) + \int_v^1 \mathrm{tr} \frac{\partial g}{\partial u} \, ds $$

        References:
            CPMM, Eq. (8); Finlay et al. (2020), How to train your neural ODE (energies).

        Arguments:
            u: points, (S, B, ...).
            e: directions, see `directions`, (S, P, B, ...).
            solver: of the equation.
            start: time v of their space, below 1.
            energies: whether the integrals of $|g|^2$ and of the Jacobian's squared Frobenius norm are wanted,
                (S, B, 2); otherwise there are none, (S, B, 0).
        """
        solution = self.follow(u, (start, 1.0), solver, e, energies=energies)
        latent, integrals = solution.states[:, :, -1], solution.integrals[:, :, -1]
        return _NORMAL.log_prob(latent.flatten(2)) + integrals[..., 0], integrals[..., 1:]

    def follow(
        self,
        u: Tensor,
        times: Sequence[float],
        solver: RungeKutta | Dopri5,
        e: Tensor | None = None,
        *,
        energies: bool = False,
    ) -> Solution:
        """Follow points.

        Arguments:
            u: points at the first time, (S, B, ...).
            times: at least two, all increasing or all decreasing.
            solver: of the equation.
            e: directions; with them the first integral is that of the trace.
            energies: whether the next two integrals are those of `density`; only with directions.
        """
        if isinstance(solver, Dopri5):
            return _together([self._adaptive(seed, u, times, solver.tolerance, e, energies) for seed in range(len(u))])
        rates = functools.partial(_rates, self.field, e, energies)
        evaluations = 4 * solver.steps * (1 if e is None else 1 + e.shape[1])
        kept = u.shape[0] * u.shape[1] * self.field.hidden_values * evaluations <= _KEPT
        return _fixed_steps(rates if kept else _recomputed(rates), u, times, solver.steps)

    def _adaptive(
        self, seed: int, u: Tensor, times: Sequence[float], tolerance: float, e: Tensor | None, energies: bool
    ) -> Solution:
        """Follow the points of one seed alone, whose steps are its own."""
        one = slice(seed, seed + 1)
        parameters = {name: parameter[one] for name, parameter in self.field.named_parameters()}

        def field(*arguments: Any) -> tuple[Tensor, Tensor]:
            found: tuple[Tensor, Tensor] = torch.func.functional_call(self.field, parameters, arguments)
            return found

        rates = functools.partial(_rates, field, None if e is None else e[one], energies)
        integrands = 0 if e is None else 3 if energies else 1
        return _adaptive_steps(rates, u[one], times, tolerance, integrands, tuple(parameters.values()))


def _together(alone: Sequence[Solution]) -> Solution:
    """Return the solutions of all seeds as one."""
    states, integrals = torch.cat([one.states for one in alone]), torch.cat([one.integrals for one in alone])
    return Solution(states, integrals, tuple(count for one in alone for count in one.evaluations))


def _rates(
    field: Callable[..., tuple[Tensor, Tensor]], e: Tensor | None, energies: bool, s: Tensor, u: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the velocity (S, B, ...) and what is integrated along the path (S, B, Q): trace, then energies."""
    velocity, derivatives = field(u, s, e)
    if e is None:
        return velocity, u.new_zeros(*u.shape[:2], 0)
    found = [(e * derivatives).flatten(3).sum(3).mean(1)]
    if energies:
        found += [velocity.square().flatten(2).sum(2), derivatives.square().flatten(3).sum(3).mean(1)]
    return velocity, torch.stack(found, 2)


def _recomputed(rates: Rates) -> Rates:
    """Return rates that keep no intermediate results for the gradient, but compute them once more."""

    def light(s: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = checkpoint(rates, s, u, use_reentrant=False, preserve_rng_state=False)
        return found

    return light


def _fixed_steps(rates: Rates, u: Tensor, times: Sequence[float], steps: int) -> Solution:
    """Follow points by equal steps, within which cubics interpolate, whose error is of the order of the steps' own."""
    start, span = times[0], times[-1] - times[0]
    count = max(1, math.ceil(abs(span) * steps - _ROUNDING))
    size = span / count
    places = [(time - start) / size for time in times]  # in steps
    slopes = rates(u.new_tensor(start), u)
    state = (u, torch.zeros_like(slopes[1]))
    found, evaluations = [state], 1
    for step in range(count):
        before = (state, slopes)
        state = _step(rates, start + step * size, size, *before)
        evaluations += 3
        passed = [place - step for place in places[len(found) :] if place <= step + 1 + _ROUNDING]
        if step < count - 1 or any(share < 1 - _ROUNDING for share in passed):
            slopes = rates(u.new_tensor(start + (step + 1) * size), state[0])
            evaluations += 1
        for share in passed:
            at_end = share >= 1 - _ROUNDING
            found.append(state if at_end else _between(share, size, before, (state, slopes)))
    states, integrals = zip(*found, strict=True)
    return Solution(torch.stack(states, 2), torch.stack(integrals, 2), (evaluations,) * len(u))


def _step(rates: Rates, time: float, size: float, state: Pair, first: Pair) -> Pair:
    """Return state and integrals after a step, given the slopes at its beginning."""
    u = state[0]
    second = rates(u.new_tensor(time + size / 3), u + size / 3 * first[0])
    third = rates(u.new_tensor(time + size * 2 / 3), u + size * (second[0] - first[0] / 3))
    fourth = rates(u.new_tensor(time + size), u + size * (first[0] - second[0] + third[0]))
    slopes = zip(state, first, second, third, fourth, strict=True)
    moved, summed = (old + size / 8 * (a + 3 * (b + c) + d) for old, a, b, c, d in slopes)
    return moved, summed


def _between(share: float, size: float, before: tuple[Pair, Pair], after: tuple[Pair, Pair]) -> Pair:
    """Return state and integrals at a share of a step by the cubic that has their values and slopes at both ends."""
    rest = 1 - share
    old, new = (1 + 2 * share) * rest**2, (3 - 2 * share) * share**2
    old_slope, new_slope = size * share * rest**2, -size * rest * share**2
    values = zip(*before, *after, strict=True)
    state, integrals = (old * a + old_slope * b + new * c + new_slope * d for a, b, c, d in values)
    return state, integrals


def _adaptive_steps(
    rates: Rates, u: Tensor, times: Sequence[float], tolerance: float, integrands: int, parameters: tuple[Tensor, ...]
) -> Solution:
    """Follow points by steps that torchdiffeq chooses, the same for all of them."""
    evaluations = 0

    def function(s: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        nonlocal evaluations
        evaluations += 1
        with torch.autocast(u.device.type, enabled=False):  # rounding would look like an error of the steps
            return rates(s, state[0])[: len(state)]

    nothing = u.new_zeros(*u.shape[:2], integrands)
    start = (u, nothing) if integrands else (u,)
    method = functools.partial(odeint_adjoint, adjoint_params=parameters) if torch.is_grad_enabled() else odeint
    grid = torch.tensor(times, dtype=torch.float64, device=u.device)
    states, *rest = method(function, start, grid, rtol=tolerance, atol=tolerance, method="dopri5")
    integrals = rest[0] if rest else nothing.expand(len(times), *nothing.shape)
    return Solution(states.movedim(0, 2), integrals.movedim(0, 2), (evaluations,) * len(u))
