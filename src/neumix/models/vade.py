"""VaDE: an autoencoder is pre-trained, a Gaussian mixture is fitted to its codes, then both are trained by the ELBO."""

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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the model.

    Arguments:
        network: encoder, decoder and likelihood.
        latent: dimension of the code.
        components: of the prior.
    """

    network: Network
    latent: Annotated[int, Field(gt=0)]
    components: Annotated[int, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """Loss of a stage: `reconstruction` pre-trains the autoencoder, `elbo` begins with a prior fitted to its codes."""

    name: Literal["reconstruction", "elbo"]


class Model(MixtureVAE):
    """Variational deep embedding, one facet of `MixtureVAE`.

    References:
        Jiang et al. (2017), Variational deep embedding; Identifiability, Appendix J.3.2.

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x` may have any shape.
        generators: one for each seed; they draw the initial weights.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(config.network, config.latent, config.components, 1, shapes, generators)

    def begin_stage(self, loss: Any, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Fit the prior to the codes of the training points before the ELBO's stage."""
        if loss.name == "elbo":
            self.prior.fit(self.codes(split.points()["x"]), noise)

    def loss(self, batch: Mapping[str, Tensor], loss: Loss, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the mean of minus the objective of each seed, in nats for a point, (S,)."""
        x = batch["x"]
        return -(self.reconstruction(x) if loss.name == "reconstruction" else self.elbo(x, noise)).mean(1)
