"""Variational autoencoders with a mixture prior: what VaDE and MFCVAE share."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neumix.autoencoder import Autoencoder, Network
from neumix.mixture_prior import MixturePrior
from neumix.models.base import BatchedModel

__all__ = ["MixtureVAE"]


class MixtureVAE(BatchedModel):
    r"""Autoencoder whose code has J independent facets, each from a mixture of diagonal Gaussians.

    With $q(k_j|x) = p(k_j|z_j)$ at the sampled code, the cluster posterior that is best for that sample, and everything
    else in closed form, the ELBO is

    $$ \log p(x|z) + \sum_{jk} q(k_j|x) \left( E_{q(z|x)}[\log p(z_j|k_j)] + \log \frac{\pi_{jk}}{q(k_j|x)} \right)
       + H[q(z|x)]. $$

    References:
        Jiang et al. (2017), Variational deep embedding; Falck et al. (2021), Multi-facet clustering variational
        autoencoders; Identifiability, Eq. (5).

    Arguments:
        network: settings of encoder and decoder.
        latent: dimension D of a facet's code.
        components: K, of each facet.
        facets: J.
        shapes: of one point of each field of the data; `x` is modelled.
        generators: one for each seed; they draw the initial weights.
    """

    def __init__(
        self,
        network: Network,
        latent: int,
        components: int,
        facets: int,
        shapes: Mapping[str, Sequence[int]],
        generators: Sequence[torch.Generator],
    ) -> None:
        super().__init__(len(generators))
        self.autoencoder = Autoencoder(network, facets * latent, shapes, generators)
        self.prior = MixturePrior(facets, components, latent, self.n_seeds)

    def elbo(self, x: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the evidence lower bound in nats at points (S, B, ...), with one sample of the code, (S, B)."""
        posterior = self.autoencoder.encode(x)
        z = posterior.sample(noise)
        log_clusters = self.prior.log_responsibilities(z)  # (S, B, J, K)
        expected = self.prior.expected_log_normal(posterior.mean, posterior.log_variance)
        prior = expected + self.prior.log_weights.unsqueeze(1) - log_clusters
        return self.autoencoder.log_likelihood(x, z) + (log_clusters.exp() * prior).sum((-1, -2)) + posterior.entropy()

    def reconstruction(self, x: Tensor) -> Tensor:
        """Return log p(x|z) in nats at the posterior mean of points (S, B, ...), (S, B)."""
        return self.autoencoder.log_likelihood(x, self.autoencoder.encode(x).mean)

    def codes(self, x: Tensor) -> Tensor:
        """Return the posterior means at points (S, N, ...), (S, N, J D)."""
        return self.autoencoder.codes(x)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Return p(k|z_j) at the posterior means of points (S, N, ...), (S, N, J, K)."""
        return self.prior.responsibilities(self.codes(x))
