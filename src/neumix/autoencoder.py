"""Variational autoencoders of several seeds at once: encoder, decoder, likelihood; the prior is the model's."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from neumix.nn import Activation, BatchedMLP, Initialisation
from neumix.settings import STRICT

__all__ = ["Autoencoder", "Network", "Posterior", "standard_normal"]

Width = Annotated[int, Field(gt=0)]

_CHUNK = 2000  # points encoded at once where there is no need for gradients


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Network:
    """Settings of an autoencoder's networks.

    Arguments:
        encoder: widths of the encoder's hidden layers.
        decoder: widths of the decoder's hidden layers.
        activation: of the hidden layers.
        initialisation: of the weights, see `neumix.nn.BatchedMLP`.
        likelihood: of an observed value given its mean: `bernoulli` on values in [0, 1], or `gaussian`.
        noise_sd: standard deviation of the Gaussian likelihood.
    """

    encoder: tuple[Width, ...]
    decoder: tuple[Width, ...]
    activation: Activation = "relu"
    initialisation: Initialisation = "fan_in"
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    noise_sd: Annotated[float, Field(gt=0)] | None = None

    def __post_init__(self) -> None:
        if (self.likelihood == "gaussian") != (self.noise_sd is not None):
            raise ValueError("noise_sd goes with likelihood: gaussian; give it there and nowhere else")


class Posterior:
    r"""The encoder's diagonal Gaussian q(z|x) at a batch.

    Arguments:
        mean: (S, B, D).
        log_variance: (S, B, D).
    """

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        self.mean, self.log_variance = mean, log_variance

    def sample(self, noise: Sequence[torch.Generator]) -> Tensor:
        """Return one reparameterised sample for each point, (S, B, D)."""
        return self.mean + (0.5 * self.log_variance).exp() * standard_normal(self.mean, noise)

    def entropy(self) -> Tensor:
        """Return the entropy in nats, (S, B)."""
        return 0.5 * (self.log_variance + (1 + math.log(2 * math.pi))).sum(-1)


class Autoencoder(nn.Module):
    r"""Encoder to the mean and log variance of q(z|x), and decoder to the mean of p(x|z), for every seed.

    Arguments:
        network: settings.
        latent: dimension D of the code.
        shapes: of one point of each field of the data; `x` is encoded.
        generators: one for each seed; they draw the initial weights.
    """

    def __init__(
        self, network: Network, latent: int, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        self.network, self.shape = network, tuple(shapes["x"])
        size = math.prod(self.shape)
        options = (network.activation, network.initialisation)
        self.encoder = BatchedMLP((size, *network.encoder, 2 * latent), generators, *options)
        self.decoder = BatchedMLP((latent, *network.decoder, size), generators, *options)

    def encode(self, x: Tensor) -> Posterior:
        """Return q(z|x) at points (S, B, ...)."""
        mean, log_variance = self.encoder(_in_rows(x)).float().chunk(2, -1)
        return Posterior(mean, log_variance)

    def codes(self, x: Tensor) -> Tensor:
        """Return the posterior means at points (S, N, ...), (S, N, D), without gradients."""
        with torch.no_grad():
            return torch.cat([self.encode(part).mean for part in torch.split(x, _CHUNK, 1)], 1)

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean of p(x|z) at codes (S, B, D), (S, B, ...)."""
        outputs = self.decoder(z).float()
        means = outputs.sigmoid() if self.network.likelihood == "bernoulli" else outputs
        decoded: Tensor = means.reshape(*means.shape[:-1], *self.shape)
        return decoded

    def log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        r"""Return log p(x|z), (S, B), in nats, summed over the values of a point.

        The Bernoulli form $x \log p + (1 - x) \log(1 - p)$ is used on grey values too, where it is not normalised.
        """
        values, outputs = _in_rows(x), self.decoder(z)
        if self.network.likelihood == "bernoulli":
            losses = functional.binary_cross_entropy_with_logits(outputs.float(), values, reduction="none")
            log_likelihood: Tensor = -losses.sum(-1)
            return log_likelihood
        sd = self.network.noise_sd or math.nan  # checked by the settings
        squared: Tensor = ((outputs.float() - values) / sd).square().sum(-1)
        return -0.5 * squared - values.shape[-1] * (math.log(sd) + 0.5 * math.log(2 * math.pi))


def standard_normal(like: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
    """Return standard normal numbers of the shape of `like`, (S, ...), each seed's from its own generator."""
    draws = [torch.randn(like.shape[1:], generator=generator) for generator in noise]
    return torch.stack(draws).to(like.device)


def _in_rows(x: Tensor) -> Tensor:
    """Map points (S, B, ...) of any shape to (S, B, values)."""
    return x.reshape(*x.shape[:2], -1)
