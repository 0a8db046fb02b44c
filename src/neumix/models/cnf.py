"""Continuous normalising flows, trained by maximum likelihood or by flow matching: one flow for each seed."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from neumix.accumulation import chunked, mean_in_chunks
from neumix.density_model import DensityModel, Integrand
from neumix.ode_flow import Dopri5, Exact, Hutchinson, OdeFlow, RungeKutta, Solver, Trace, directions
from neumix.settings import STRICT
from neumix.training import generators as seed_generators
from neumix.vector_field import FieldConfig, make_field

__all__ = ["Config", "FlowMatching", "Likelihood", "Loss", "Model"]

Weight = Annotated[float, Field(ge=0)]

_AT_ONCE = 2**23  # hidden values, and as many for each direction, of points that are evaluated at once
_AT_ONCE_ON_GPU = 2**28


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the flow.

    References:
        CPMM, Sec 3.3, Eq. (8), Sec 5 (simple flows as in FFJORD); Grathwohl et al. (2019), FFJORD.

    Arguments:
        field: the network that gives the velocity: `mlp` for vectors, `cnn` for images.
        solver: of the equation: `rk4` with a number of steps, or `dopri5` with a tolerance.
        trace: of the Jacobian: `exact`, or `hutchinson` with a number of probes, over which it is averaged.
    """

    field: FieldConfig
    solver: Solver = RungeKutta(name="rk4")
    trace: Trace = Hutchinson(name="hutchinson")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Likelihood:
    """Mean negative log-likelihood in nats, and the energies of the paths, on the field `x`.

    References:
        FFJORD, Algorithm 1; Finlay et al. (2020), How to train your neural ODE (energies).

    Arguments:
        name: `nll`.
        solver: in training; none takes that of the model.
        trace: in training; none takes that of the model.
        kinetic: factor of the integral of the squared velocity.
        jacobian: factor of the integral of the squared Frobenius norm of the Jacobian, estimated like the trace.
    """

    name: Literal["nll"]
    solver: Solver | None = None
    trace: Trace | None = None
    kinetic: Weight = 0.0
    jacobian: Weight = 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FlowMatching:
    r"""Mean squared error of the velocity's coordinates on straight paths from data to noise; no equation is solved.

    $$ E |g((1 - s) x + s z, s) - (z - x)|^2 / D, \quad z \sim N(0, I), \ s \sim U[0, 1] $$

    The minimiser is the velocity of a flow from the data's distribution to the Gaussian.

    References:
        Lipman et al. (2023), Flow matching for generative modeling, Eq. (9), Sec 4.1; Tong et al. (2024), Improving and
        generalizing flow-based generative models with minibatch optimal transport, Sec 3.2.3. Not used by CPMM.

    Arguments:
        name: `flow_matching`.
        coupling: `independent`: a point gets any noise; `optimal`: noise is assigned to the points of a batch such that
            the squared distances are least in sum, which makes paths straighter.
    """

    name: Literal["flow_matching"]
    coupling: Literal["independent", "optimal"] = "independent"


Loss = Annotated[Likelihood | FlowMatching, Field(discriminator="name")]


class Model(DensityModel):
    r"""Density of points that a field carries to a standard Gaussian, of vectors (D,) or images (H, W, C).

    $$ \log p(x) = \log N(u_1; 0, I) + \int_0^1 \mathrm{tr} \frac{\partial g}{\partial u} \, ds $$

    Under autocast the network alone is of lower precision, and only with fixed steps: states, integrals and densities
    are not.

    References:
        CPMM, Eq. (8).

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x`.
        generators: one for each seed; they draw the initial weights.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        self.config = config
        self.shape = tuple(shapes["x"])
        self.flow = OdeFlow(make_field(config.field, self.shape, generators))

    @property
    def chunk(self) -> int:
        """Points of each seed that are evaluated at once."""
        return self._at_once(self.config.trace)

    def _at_once(self, trace: Exact | Hutchinson | None) -> int:
        """Return the points of each seed that are evaluated at once, however many seeds there are."""
        width = 0 if trace is None else trace.probes if isinstance(trace, Hutchinson) else math.prod(self.shape)
        budget = _AT_ONCE if next(self.parameters()).device.type == "cpu" else _AT_ONCE_ON_GPU
        return int(max(1, budget // (self.flow.field.hidden_values * (1 + width))))

    def loss(
        self, batch: Mapping[str, Tensor], loss: Likelihood | FlowMatching, noise: Sequence[torch.Generator]
    ) -> Tensor:
        """Return the loss of each seed, (S,), in nats or as a mean squared error."""
        if isinstance(loss, FlowMatching):
            return self._flow_matching(batch["x"], loss, noise)
        return self._penalised_likelihood(batch["x"], loss, noise)

    def _penalised_likelihood(self, x: Tensor, loss: Likelihood, noise: Sequence[torch.Generator]) -> Tensor:
        solver, trace = loss.solver or self.config.solver, loss.trace or self.config.trace
        factors = x.new_tensor([loss.kinetic, loss.jacobian])
        energies = bool(loss.kinetic or loss.jacobian)

        def objective(part: Tensor) -> Tensor:
            e = directions(trace, part, noise)
            log_prob, found = self.flow.density(part, e, solver, energies=energies)
            return (found * factors).sum(2) - log_prob if energies else -log_prob

        adaptive = isinstance(solver, Dopri5)  # whose gradient is an adaptive solution too
        with torch.autocast(x.device.type, enabled=False) if adaptive else contextlib.nullcontext():
            return mean_in_chunks(objective, x, self._at_once(trace), list(self.parameters()))

    def _flow_matching(self, x: Tensor, loss: FlowMatching, noise: Sequence[torch.Generator]) -> Tensor:
        z = torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in noise]).to(x)
        if loss.coupling == "optimal":
            z = torch.stack([_assigned(*pair) for pair in zip(x, z, strict=True)])

        def objective(pairs: Tensor) -> Tensor:
            s = torch.stack([torch.rand(pairs.shape[1], generator=generator) for generator in noise]).to(x)
            start, end = pairs.unbind(2)
            velocity, _ = self.flow.field(torch.lerp(start, end, s.view(*s.shape, *[1] * len(self.shape))), s)
            squares: Tensor = (velocity - (end - start)).square()
            return squares.flatten(2).mean(2)

        return mean_in_chunks(objective, torch.stack([x, z], 2), self._at_once(None), list(self.parameters()))

    def log_prob(
        self,
        x: Tensor,
        noise: Sequence[torch.Generator] | None = None,
        *,
        start: float = 0.0,
        solver: RungeKutta | Dopri5 | None = None,
        trace: Exact | Hutchinson | None = None,
    ) -> Tensor:
        """Return the log-density in nats at points (S, B, ...), (S, B).

        Arguments:
            x: points.
            noise: generators that draw the probes, one for each seed; none stands for the same ones at each call.
            start: time v of the space that the points and the density belong to, below 1.
            solver, trace: none takes those of the settings.
        """
        e = directions(trace or self.config.trace, x, noise or self._probe_noise())
        return self.flow.density(x, e, solver or self.config.solver, start=start)[0]

    def log_prob_of(self, x: Tensor) -> Tensor:
        """Return `log_prob` at any number of points, some at a time, whose probes differ."""
        noise = self._probe_noise()
        return chunked(lambda part: self.log_prob(part, noise), x, self.chunk)

    def _probe_noise(self) -> list[torch.Generator]:
        return seed_generators(range(self.n_seeds), "probes")

    def latent(self, x: Tensor) -> Tensor:
        """Return the latents of points (S, N, ...), of the same shape."""
        return chunked(lambda part: self.flow.latent(part, self.config.solver), x, self._at_once(None))

    def spaces(self, x: Tensor, times: Sequence[float]) -> Tensor:
        """Return points (S, N, ...) in the spaces at times v in [0, 1], in their order, (S, N, T, ...).

        Time 0 is the data, time 1 the latent; times between two steps of the solver cost almost nothing.
        """
        return chunked(lambda part: self.flow.spaces(part, times, self.config.solver), x, self._at_once(None))

    def decode(self, z: Tensor) -> Tensor:
        """Return the points of latents (S, N, ...), of the same shape."""
        return chunked(lambda part: self.flow.inverse(part, self.config.solver), z, self._at_once(None))

    def sample(self, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return samples (S, size, ...)."""
        z = torch.stack([torch.randn(size, *self.shape, generator=generator) for generator in noise])
        return self.decode(z.to(next(self.parameters())))

    def expectation(self, h: Integrand, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the mean of h over reparameterised samples, (S,)."""
        return h(self.sample(size, noise)).mean(1)

    @torch.no_grad()
    def evaluations(self, x: Tensor, solver: RungeKutta | Dopri5 | None = None) -> tuple[int, ...]:
        """Return how often the field of each seed is evaluated to bring points (S, B, ...) to the latent."""
        return self.flow.follow(x, (0.0, 1.0), solver or self.config.solver).evaluations


def _assigned(x: Tensor, z: Tensor) -> Tensor:
    """Return noise (B, ...) in an order whose squared distances from points (B, ...) are least in sum."""
    cost = cdist(x.flatten(1).cpu(), z.flatten(1).cpu(), "sqeuclidean")
    return z[torch.from_numpy(linear_sum_assignment(cost)[1]).to(z.device)]
