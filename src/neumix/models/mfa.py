"""Mixtures of factor analysers with free parameters: the Gaussian mixtures that the paper compares with."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from neumix.batching import DeviceSplit
from neumix.factor_analyzers import FactorAnalyzers, em_step
from neumix.hierarchical_mixture import (
    HierarchicalMixture,
    Likelihood,
    Structure,
    clustered,
)
from neumix.settings import STRICT

__all__ = ["Config", "Em", "Loss", "Model"]

log = logging.getLogger(__name__)

_SPREAD = 0.1  # of the perturbations of a standard Gaussian


Config = Structure


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Em:
    """A fit by full-batch EM, in a stage of 0 epochs.

    References:
        Ghahramani and Hinton (1996); CPMM, Sec 5.

    Arguments:
        name: `em`.
        start: what it begins with.
        iterations: at most.
        tolerance: a seed's fit ends with the first step that gains less, in nats per point.
    """

    name: Literal["em"]
    start: Literal["kmeans", "kmeans_fa"] = "kmeans_fa"
    iterations: Annotated[int, Field(gt=0)] = 100
    tolerance: Annotated[float, Field(ge=0)] = 0.01


Loss = Annotated[Likelihood | Em, Field(discriminator="name")]


class Model(HierarchicalMixture):
    r"""Mixtures $p(x) = \sum_k \pi_k N(x; \mu_k, A_k A_k^T + \mathrm{diag}(d_k))$, components grouped into clusters.

    References:
        CPMM, Eq. (1), Sec 2.1.1, Sec 5.2.

    Arguments:
        config: number and form of the components.
        shapes: of one point of each field of the data: `x` may have any shape.
        generators: one for each seed; they draw the initial parameters.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(config, shapes["x"], len(generators))
        seeds, count = len(generators), config.clusters * config.components
        self.logits = nn.Parameter(torch.zeros(seeds, count))
        self.means = nn.Parameter(_normal((count, self.dimension), generators))
        self.factors = nn.Parameter(_normal((count, self.dimension, config.rank), generators))
        constant = config.diagonal == "constant"
        shape = (seeds, config.clusters, 1) if constant else (seeds, count, self.dimension)
        self.raw_log_variances = nn.Parameter(self.unlimited(torch.zeros(shape)))

    def mixtures(self) -> FactorAnalyzers:
        """Return the components, one cluster after the other."""
        log_variances = self.limited(self.raw_log_variances)
        if self.structure.diagonal == "constant":
            log_variances = log_variances.repeat_interleave(self.structure.components, 1).expand_as(self.means)
        return FactorAnalyzers(self.logits.log_softmax(1), self.means, self.factors, log_variances)

    def begin_stage(self, loss: Likelihood | Em, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Start the components, and fit them if the loss is EM."""
        if loss.start in ("kmeans", "kmeans_fa"):
            rank = self.structure.rank if loss.start == "kmeans_fa" else 0
            for seed, (x, generator) in enumerate(zip(self.points_to_start(split), noise, strict=True)):
                self._set(seed, clustered(x, self.means.shape[1], rank, generator))
        if isinstance(loss, Em):
            self._fit(loss, self.points_to_start(split))

    def _set(self, seed: int, found: FactorAnalyzers) -> None:
        """Set the components of a seed to some of the same number; where those have no factors, its own stay."""
        self.logits[seed], self.means[seed] = found.log_weights[0], found.means[0]
        if found.factors.shape[3]:
            self.factors[seed] = found.factors[0]
        log_variances = found.log_variances[0]
        if self.structure.diagonal == "constant":
            variances = torch.unflatten(log_variances.exp(), 0, (self.structure.clusters, -1))
            log_variances = variances.mean((1, 2)).log()[:, None]
        self.raw_log_variances[seed] = self.unlimited(log_variances)

    def _fit(self, loss: Em, points: Tensor) -> None:
        """Fit each seed by EM, until it has settled.

        One after the other: all at once they would stop at different steps, and be rounded differently by the shapes of
        their products, which hundreds of steps make visible.
        """
        if self.structure.diagonal == "constant":
            raise ValueError("EM is for 'diagonal: variable'; train a constant diagonal with the loss 'nll'")
        floor = math.exp(self.structure.least_log_variance)
        start = self.mixtures()
        for seed in range(self.n_seeds):
            found, x, before = start.of_seed(seed), points[seed : seed + 1], -math.inf
            for iteration in range(loss.iterations):
                found, mean = em_step(found, x, floor)
                log_likelihood = float(mean)
                log.info("EM, seed %d, iteration %d of %d: %f", seed, iteration + 1, loss.iterations, log_likelihood)
                if log_likelihood - before < loss.tolerance:
                    break
                before = log_likelihood
            self._set(seed, found)


def _normal(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Return small perturbations for every seed, (S, ...)."""
    return _SPREAD * torch.stack([torch.randn(*shape, generator=generator) for generator in generators])
