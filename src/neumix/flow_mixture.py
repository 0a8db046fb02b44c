"""Mixtures whose components are flows, latent Gaussians behind a flow, or both; several mixtures at once."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from neumix.glow import Glow, Mixing, Shape
from neumix.settings import STRICT

__all__ = ["Architecture", "FlowComponents", "standard_log_prob"]

Count = Annotated[int, Field(gt=0)]

_LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)
_SOURCE_SPREAD = 0.1  # the public code's sources start at N(0, 0.01)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Architecture:
    """What the components of a mixture are made of.

    GenMM has many generators with one source each, LatMM one generator with many sources. Both at once is GenMM whose
    latent is a LatMM; one generator with individual flows of its latent is the common-and-individual model.

    References:
        GenMM, Eq. (1), (20), (21), Sec III-B.

    Arguments:
        generators: number of flows from the data to the latent.
        sources: number of diagonal Gaussians behind each generator; a single one is the standard Gaussian.
        individual: number of flows between one common generator's latent and standard Gaussians.
        blocks, steps, hidden, mixing: of the generators, see `neumix.glow.Glow`.
        individual_steps: flow steps of each individual flow.
        tied: whether a source has one mean and one scale for each channel, or for each coordinate of the latent.
    """

    generators: Count = 1
    sources: Count = 1
    individual: Annotated[int, Field(ge=0)] = 0
    blocks: Count = 3
    steps: Count = 4
    hidden: Count = 512
    mixing: Mixing = "plain"
    individual_steps: Count = 4
    tied: Literal["channel", "coordinate"] = "channel"

    def __post_init__(self) -> None:
        if self.individual and (self.generators > 1 or self.sources > 1):
            raise ValueError(
                f"individual flows belong to one common generator with one source, found generators "
                f"{self.generators} and sources {self.sources}"
            )

    @property
    def components(self) -> int:
        """Number of components K of the mixture."""
        return self.individual or self.generators * self.sources


class FlowComponents(nn.Module):
    """Components of G independent mixtures; every parameter has the mixture as (part of) its first axis.

    Arguments:
        architecture: what each mixture is made of.
        shape: of one point.
        generators: one for each mixture; they draw the initial weights.
    """

    def __init__(self, architecture: Architecture, shape: Shape, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.architecture = architecture
        a = architecture
        per_flow = [generator for generator in generators for _ in range(a.generators)]
        self.flows = Glow(shape, a.blocks, a.steps, a.hidden, per_flow, a.mixing)
        self.individual: Glow | None = None
        self.source_mean: nn.Parameter | None = None
        if a.individual:
            per_individual = [generator for generator in generators for _ in range(a.individual)]
            vector = (1, 1, self.flows.top_dimension)
            self.individual = Glow(vector, 1, a.individual_steps, a.hidden, per_individual, a.mixing)
        elif a.sources > 1:
            width = self.flows.top_shape[2] if a.tied == "channel" else self.flows.top_dimension
            draws = torch.stack([_SOURCE_SPREAD * torch.randn(2, a.sources, width, generator=g) for g in per_flow])
            self.source_mean = nn.Parameter(draws[:, 0].contiguous())
            self.source_log_scale = nn.Parameter(draws[:, 1].contiguous())

    @property
    def hidden_values(self) -> int:
        """Number of values of hidden layers for each point of a mixture."""
        return self.architecture.generators * self.flows.hidden_values

    def forward(self, x: Tensor) -> Tensor:
        """Return the log-densities of points x (G, B, H, W, C) under every component, (G, B, K)."""
        mixtures, batch = x.shape[:2]
        z, log_det = self.flows(self._for_each(self.architecture.generators, x))
        split_off, top = torch.split(z, [z.shape[2] - self.flows.top_dimension, self.flows.top_dimension], 2)
        rest = standard_log_prob(split_off) + log_det  # (G generators, B)
        log_prob: Tensor = rest[:, None] + self._latent_log_prob(top)  # (G generators, sources or individual, B)
        return log_prob.reshape(mixtures, -1, batch).transpose(1, 2)

    def _latent_log_prob(self, top: Tensor) -> Tensor:
        if self.individual is not None:
            u, log_det = self.individual(self._for_each(self.architecture.individual, top)[:, :, None, None])
            return torch.unflatten(standard_log_prob(u) + log_det, 0, (len(top), -1))
        if self.source_mean is None:
            return standard_log_prob(top)[:, None]
        mean, log_scale = self._sources()
        precision = (-2 * log_scale).exp()  # (G generators, J, D)
        with torch.autocast(top.device.type, enabled=False):
            # The square is multiplied out, so that no (points, sources, D) is ever held.
            square = top.square() @ precision.mT - 2 * top @ (mean * precision).mT
        constant = 0.5 * (mean.square() * precision).sum(2) + log_scale.sum(2) + _LOG_SQRT_2_PI * top.shape[2]
        return (-0.5 * square - constant[:, None]).mT

    def _sources(self) -> tuple[Tensor, Tensor]:
        """Return mean and log-scale of every source at every coordinate of the latent, (G generators, J, D)."""
        if self.source_mean is None:
            raise ValueError("this mixture has no sources but the standard Gaussian")
        repeats = self.flows.top_dimension // self.source_mean.shape[2]
        return self.source_mean.repeat(1, 1, repeats), self.source_log_scale.repeat(1, 1, repeats)

    def log_prior(self, kind: Literal["gamma", "l2"], strength: float) -> Tensor:
        r"""Return the logarithm of the prior of the sources' scales, divided by their number, (G,).

        References:
            GenMM, Eq. (26) with shape 2 and rate 1, and Eq. (27).

        Arguments:
            kind: `gamma`: $\log \Gamma(1/\sigma; 2, 1)$; `l2`: minus the square of $1 - \sigma$.
            strength: factor of the latter.
        """
        _, log_scale = self._sources()
        log_prob = -log_scale - (-log_scale).exp() if kind == "gamma" else -strength * (1 - log_scale.exp()).square()
        return torch.unflatten(log_prob.sum(2).mean(1), 0, (-1, self.architecture.generators)).sum(1)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Fit the actnorm layers to points x (G, B, H, W, C)."""
        x = self._for_each(self.architecture.generators, x)
        self.flows.initialise(x)
        if self.individual is not None:
            top = self.flows(x)[0][:, :, -self.flows.top_dimension :]
            self.individual.initialise(self._for_each(self.architecture.individual, top)[:, :, None, None])

    @torch.no_grad()
    def encode(self, x: Tensor, component: Tensor) -> Tensor:
        """Return the latents (G, B, D) of points x (G, B, H, W, C) by the generators of components (G, B)."""
        z, _ = self.flows(self._for_each(self.architecture.generators, x))
        z = torch.unflatten(z, 0, (len(x), -1))  # (G, generators, B, D)
        chosen = self._generator_of(component)[:, None, :, None].expand(-1, 1, -1, z.shape[3])
        return z.gather(1, chosen)[:, 0]

    @torch.no_grad()
    def decode(self, z: Tensor, component: Tensor) -> Tensor:
        """Return the points (G, B, H, W, C) of latents (G, B, D) by the generators of components (G, B)."""
        a = self.architecture
        x = torch.unflatten(self.flows.inverse(self._for_each(a.generators, z)), 0, (len(z), -1))
        chosen = self._generator_of(component)[:, None, :, None, None, None].expand(-1, 1, -1, *x.shape[3:])
        return x.gather(1, chosen)[:, 0]

    @torch.no_grad()
    def latents(self, normal: Tensor, component: Tensor) -> Tensor:
        """Return latents (G, B, D) drawn from the sources of components (G, B), given standard normal draws."""
        if self.individual is None and self.source_mean is None:
            return normal
        split_off, top = torch.split(normal, [normal.shape[2] - self.flows.top_dimension, self.flows.top_dimension], 2)
        if self.individual is not None:
            copies = self.architecture.individual
            tops = torch.unflatten(self.individual.inverse(self._for_each(copies, top)).flatten(2), 0, (-1, copies))
            top = tops.gather(1, component[:, None, :, None].expand(-1, 1, -1, top.shape[2]))[:, 0]
        else:
            mean, log_scale = (torch.unflatten(s, 0, (len(normal), -1)).flatten(1, 2) for s in self._sources())
            chosen = component[:, :, None].expand(-1, -1, top.shape[2])
            top = mean.gather(1, chosen) + top * log_scale.gather(1, chosen).exp()
        return torch.cat([split_off, top], 2)

    def _generator_of(self, component: Tensor) -> Tensor:
        return torch.zeros_like(component) if self.individual is not None else component // self.architecture.sources

    def _for_each(self, copies: int, x: Tensor) -> Tensor:
        """Repeat what each mixture sees for each of its flows."""
        return x if copies == 1 else x.repeat_interleave(copies, 0)


def standard_log_prob(z: Tensor) -> Tensor:
    """Return the standard normal log-density of points (..., D), (...)."""
    return -0.5 * z.square().sum(-1) - _LOG_SQRT_2_PI * z.shape[-1]
