"""CPMM: mixtures of factor analysers whose components lie along trajectories of a learned differential equation."""

import math
from collections.abc import Mapping, Sequence

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from neumix.batching import DeviceSplit
from neumix.factor_analyzers import FactorAnalyzers
from neumix.hierarchical_mixture import (
    HierarchicalMixture,
    Likelihood,
    Structure,
    clustered,
)
from neumix.settings import STRICT
from neumix.trajectories import Equation, StateField, solve

__all__ = ["Config", "Loss", "Model"]

_SPREAD = 0.1  # of the perturbations of a standard Gaussian


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config(Structure, Equation):
    """Settings of the mixtures: a cluster is a trajectory, its components are states at even pseudotimes in [0, 1].

    Arguments:
        start_log_variance: log d of the random states that trajectories begin with. A flow's latent space is one
            Gaussian, of which a single wide component is a perfect model: narrow ones have to spread over it, and are
            then drawn apart along the trajectories.
    """

    start_log_variance: float = 0.0


Loss = Likelihood


class Model(HierarchicalMixture):
    r"""Mixtures $p(x) = \sum_c \eta_c \frac1G \sum_j N(x; \mu_c(t_j), A_c(t_j) A_c(t_j)^T + \mathrm{diag}(d_c(t_j)))$.

    The joint state $h_c(t) = [\mu, A, \log d, \alpha]$ solves $dh/dt = f(h, t)$ from an initial state that is learned.
    Nothing of it depends on a point, so a training step costs the same for few points and for many.

    References:
        CPMM, Eq. (3) to (7), Sec 5.2.

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x` is (H, W, 1), or (M,).
        generators: one for each seed; they draw the initial parameters.

    Raises:
        ValueError: images have several channels.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(config, shapes["x"], len(generators))
        self.config = config
        image = len(self.shape) == 3
        if image and self.shape[2] != 1:
            raise ValueError(f"images need one channel, (H, W, 1), found points of shape {self.shape}")
        self.grid = self.shape[:2] if image else ()
        self.features = 1 if image else self.dimension  # channels of one part of the state
        self.constant = config.diagonal == "constant"
        parts = config.rank + (1 if self.constant else 2)
        channels = parts * self.features * (1 + config.augment)
        repeats = config.clusters if config.separate else 1
        self.field = StateField(config, channels, self.grid, [g for g in generators for _ in range(repeats)])
        size = (config.clusters, channels, *self.grid)
        start = torch.stack([_SPREAD * torch.randn(*size, generator=generator) for generator in generators])
        log_variance = self.unlimited(torch.tensor(config.start_log_variance))
        self.logits = nn.Parameter(torch.zeros(len(generators), config.clusters))
        self.initial = nn.Parameter(start)  # (S, C, channels, ...)
        if self.constant:
            self.raw_log_variances = nn.Parameter(log_variance.expand(len(generators), config.clusters, 1).clone())
        else:
            self._part(start, config.rank + 1).copy_(log_variance)

    def mixtures(self) -> FactorAnalyzers:
        """Return the components at even pseudotimes, one trajectory after the other."""
        return self.extract(torch.linspace(0, 1, self.config.components))

    def extract(self, times: Tensor) -> FactorAnalyzers:
        """Return the components at pseudotimes (G,), rising from 0; the equation is not needed any more."""
        return self.components(self.states(times))

    def components(self, states: Tensor) -> FactorAnalyzers:
        """Return the components that joint states (S, C, G, channels, ...) stand for, (S, C G, ...)."""
        count, rank = states.shape[2], self.config.rank
        means = self._part(states, 0).flatten(3).flatten(1, 2)  # (S, C G, M)
        columns = [self._part(states, 1 + column).flatten(3).flatten(1, 2) for column in range(rank)]
        if self.constant:
            log_variances = self.limited(self.raw_log_variances).repeat_interleave(count, 1).expand_as(means)
        else:
            log_variances = self.limited(self._part(states, rank + 1).flatten(3).flatten(1, 2))
        log_weights = (self.logits.log_softmax(1) - math.log(count)).repeat_interleave(count, 1)
        return FactorAnalyzers(log_weights, means, torch.stack(columns, 3), log_variances)

    def states(self, times: Tensor, equation: Equation | None = None) -> Tensor:
        """Return the joint states at pseudotimes (G,), (S, C, G, channels, ...), solved as set or in another way."""
        shape = self.initial.shape
        networks = self.field.networks
        initial = self.initial.reshape(networks, -1, *shape[2:])
        states = solve(equation or self.config, self.field, initial, times.to(initial))
        return states.reshape(len(times), *shape).movedim(0, 2)

    def begin_stage(self, loss: Likelihood, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Start the trajectories at the centres of k-means, if the stage asks for it."""
        if loss.start not in ("kmeans", "kmeans_fa"):
            return
        rank = self.config.rank if loss.start == "kmeans_fa" else 0
        for seed, (x, generator) in enumerate(zip(self.points_to_start(split), noise, strict=True)):
            self._start(seed, clustered(x, self.config.clusters, rank, generator))

    def _start(self, seed: int, found: FactorAnalyzers) -> None:
        """Start the trajectories of a seed at given components, or at those without their factors."""
        self.logits[seed] = found.log_weights[0]
        self._set(seed, 0, found.means[0])
        for column in range(found.factors.shape[3]):
            self._set(seed, 1 + column, found.factors[0, ..., column])
        if self.constant:
            self.raw_log_variances[seed] = self.unlimited(found.log_variances[0].exp().mean(1, keepdim=True).log())
        else:
            self._set(seed, self.config.rank + 1, self.unlimited(found.log_variances[0]))

    def _part(self, states: Tensor, part: int) -> Tensor:
        """Return one part of joint states: the mean, a column of A, or log d."""
        axis = states.ndim - 1 - len(self.grid)
        return states.narrow(axis, part * self.features, self.features)

    def _set(self, seed: int, part: int, values: Tensor) -> None:
        """Set one part of a seed's initial states from values (C, M)."""
        place = self._part(self.initial[seed], part)
        place.copy_(values.reshape(place.shape))
