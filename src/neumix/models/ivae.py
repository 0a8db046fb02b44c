"""iVAE: an autoencoder whose prior is a diagonal Gaussian for each value of an observed label."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from neumix.autoencoder import Autoencoder, Network
from neumix.models.base import BatchedModel
from neumix.settings import STRICT

__all__ = ["Config", "Loss", "Model"]

Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the model.

    Arguments:
        network: encoder, decoder and likelihood.
        latent: dimension of the code.
        labels: number of values of the label, 0, 1, ...
    """

    network: Network
    latent: Positive
    labels: Positive = 10


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """Loss of a stage: minus the ELBO of x given the label."""

    name: Literal["elbo"]


class Model(BatchedModel):
    r"""Identifiable VAE with the conditionally factorial prior $p(z|u) = N(z; \mu_u, \mathrm{diag}\, \sigma^2_u)$.

    The encoder sees x alone, so that codes need no label.

    References:
        Khemakhem et al. (2020), Variational autoencoders and nonlinear ICA; Identifiability, Appendix J.3.3.

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x` may have any shape, `y` is the label.
        generators: one for each seed; they draw the initial weights and the initial means of the prior.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        self.autoencoder = Autoencoder(config.network, config.latent, shapes, generators)
        shape = (config.labels, config.latent)
        self.means = nn.Parameter(torch.stack([torch.randn(shape, generator=generator) for generator in generators]))
        self.log_variances = nn.Parameter(torch.zeros(self.n_seeds, *shape))

    def elbo(self, x: Tensor, y: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the lower bound of log p(x|y) in nats at points (S, B, ...) with labels (S, B), (S, B)."""
        posterior = self.autoencoder.encode(x)
        index = y.unsqueeze(-1).expand(-1, -1, self.means.shape[-1])
        mean, log_variance = self.means.gather(1, index), self.log_variances.gather(1, index)
        squared = (posterior.mean - mean).square() + posterior.log_variance.exp()
        difference = log_variance - posterior.log_variance
        divergence = 0.5 * (squared * (-log_variance).exp() + difference - 1).sum(-1)
        return self.autoencoder.log_likelihood(x, posterior.sample(noise)) - divergence

    def codes(self, x: Tensor) -> Tensor:
        """Return the posterior means at points (S, N, ...), (S, N, D)."""
        return self.autoencoder.codes(x)

    def loss(self, batch: Mapping[str, Tensor], loss: Loss, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the mean of minus the ELBO of each seed, in nats for a point, (S,)."""
        return -self.elbo(batch["x"], batch["y"], noise).mean(1)
