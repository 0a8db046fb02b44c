"""MFCVAE: a code in several facets, each with a mixture prior of its own, trained by the ELBO alone."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from neumix.autoencoder import Network
from neumix.batching import DeviceSplit
from neumix.mixture_vae import MixtureVAE
from neumix.settings import STRICT

__all__ = ["Config", "Loss", "Model"]

Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the model.

    Arguments:
        network: encoder, decoder and likelihood.
        latent: dimension of a facet's code.
        components: of each facet's prior.
        facets: independent parts of the code.
        initial_variance: of every component at the start; the means start from a mixture fitted to the codes of the
            untrained encoder.
        initial_points: training points that this mixture is fitted to, the first ones.
    """

    network: Network
    latent: Positive
    components: Positive
    facets: Positive = 1
    initial_variance: Annotated[float, Field(gt=0)] = 0.01
    initial_points: Positive = 10_000


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """Loss of a stage: minus the ELBO."""

    name: Literal["elbo"]


class Model(MixtureVAE):
    """Multi-facet clustering variational autoencoder, with one encoder and one decoder for all facets.

    References:
        Falck et al. (2021), Multi-facet clustering variational autoencoders; Identifiability, Eq. (5), Appendix J.3.3.

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x` may have any shape.
        generators: one for each seed; they draw the initial weights.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(config.network, config.latent, config.components, config.facets, shapes, generators)
        self.config = config

    def begin_stage(self, loss: Any, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Start the prior at the codes of the encoder as it is."""
        points = split.points()["x"][:, : self.config.initial_points]
        self.prior.fit(self.codes(points), noise, variance=self.config.initial_variance)

    def loss(self, batch: Mapping[str, Tensor], loss: Loss, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the mean of minus the ELBO of each seed, in nats for a point, (S,)."""
        return -self.elbo(batch["x"], noise).mean(1)
