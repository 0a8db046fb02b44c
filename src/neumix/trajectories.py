"""Trajectories of a state through pseudotime, solutions of one learned ordinary differential equation or of several."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional
from torchdiffeq import odeint

from neumix.settings import STRICT

__all__ = ["Equation", "StateField", "solve"]

Count = Annotated[int, Field(gt=0)]
Solver = Literal["euler", "midpoint", "rk4", "dopri5"]

_START = 0.1  # of the last layer's usual weights: trajectories begin as nearly constant ones


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Equation:
    """The network behind the equation, and how it is solved.

    References:
        CPMM, Sec 2.2, Sec 3.1, Sec 5.2.

    Arguments:
        depth: layers of the network: 3x3 convolutions if points are images, else dense ones.
        width: channels between two layers.
        activation: between two layers.
        augment: values of the state that the mixture does not use, as a multiple of those that it does.
        separate: whether each trajectory has an equation of its own.
        solver: `dopri5` chooses its steps, the others have fixed ones.
        steps: fixed steps between pseudotimes 0 and 1; the state between two of them is a cubic polynomial. None takes
            a step from each pseudotime to the next.
        tolerance: of `dopri5`, relative and absolute.
    """

    depth: Annotated[int, Field(ge=2)] = 3
    width: Count = 64
    activation: Literal["sin", "tanh"] = "sin"
    augment: Annotated[int, Field(ge=0)] = 4
    separate: bool = False
    solver: Solver = "rk4"
    steps: Count | None = None
    tolerance: Annotated[float, Field(gt=0)] = 1e-5


class StateField(nn.Module):
    """The right-hand sides f(h, t) of several independent equations.

    A pseudotime is a further channel of the input. Each network draws from a generator of its own.

    References:
        CPMM, Eq. (3), Sec 5.2.

    Arguments:
        equation: architecture.
        channels: of the state.
        shape: (H, W) of images; () for vectors, whose state has channels alone.
        generators: one for each network.
    """

    def __init__(
        self, equation: Equation, channels: int, shape: Sequence[int], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.networks, self.activation = len(generators), torch.sin if equation.activation == "sin" else torch.tanh
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        kernel = (3,) * len(shape)
        sizes = [channels + 1, *[equation.width] * (equation.depth - 1), channels]
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
            scale = _START if layer == equation.depth - 1 else 1.0
            bound = scale / math.sqrt(inputs * math.prod(kernel))
            weights = [_uniform((outputs, inputs, *kernel), bound, generator) for generator in generators]
            biases = [_uniform((outputs,), bound, generator) for generator in generators]
            self.weights.append(nn.Parameter(torch.stack(weights)))
            self.biases.append(nn.Parameter(torch.stack(biases)))

    def forward(self, t: Tensor, state: Tensor, network: int | None = None) -> Tensor:
        """Return dh/dt of states (networks, B, channels, ...), of the same shape and of their dtype.

        Arguments:
            t: pseudotime, ().
            state: of all networks, or, (1, B, channels, ...), of a single one.
            network: which one, if it is a single one.
        """
        chosen = slice(None) if network is None else slice(network, network + 1)
        time = t.to(state).expand(*state.shape[:2], 1, *state.shape[3:])
        x = torch.cat([state, time], 2)
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = self._layer(x, weight[chosen], bias[chosen])
            if layer != last:
                x = self.activation(x)
        return x.to(state.dtype)

    def _layer(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Map (networks, B, inputs, ...) to (networks, B, outputs, ...)."""
        if x.ndim == 3:
            return torch.baddbmm(bias[:, None], x, weight.mT)
        grouped = x.transpose(0, 1).flatten(1, 2)  # (B, networks inputs, H, W)
        y = functional.conv2d(grouped, weight.flatten(0, 1), bias.flatten(), padding=1, groups=len(weight))
        return torch.unflatten(y, 1, (len(weight), -1)).transpose(0, 1)


def solve(equation: Equation, field: nn.Module, initial: Tensor, times: Tensor) -> Tensor:
    """Return the states at pseudotimes (T,), rising from 0, that start from `initial`, (T, ...).

    The adaptive solver chooses its steps for each network alone, so that none depends on the others.

    Arguments:
        equation: solver and steps.
        field: maps pseudotime, states and, where it is a single one, the network's index to dh/dt.
        initial: states, (networks, B, channels, ...).
        times: pseudotimes.
    """
    if len(times) == 1:
        return initial[None]
    if equation.solver != "dopri5":
        options = {} if equation.steps is None else {"step_size": 1 / equation.steps, "interp": "cubic"}
        states: Tensor = odeint(field, initial, times, method=equation.solver, options=options)
        return states
    paths = [
        odeint(
            functools.partial(field, network=network),
            alone,
            times,
            method=equation.solver,
            rtol=equation.tolerance,
            atol=equation.tolerance,
        )
        for network, alone in enumerate(torch.split(initial, 1))
    ]
    return torch.cat(paths, 1)


def _uniform(shape: Sequence[int], bound: float, generator: torch.Generator) -> Tensor:
    return bound * (2 * torch.rand(*shape, generator=generator) - 1)
