"""Mixtures of diagonal Gaussians as learned priors of latent codes, for several seeds and facets at once."""

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["MixturePrior"]

_LOG_2PI = math.log(2 * math.pi)


class MixturePrior(nn.Module):
    r"""Prior $p(z) = \prod_j \sum_k \pi_{jk} N(z_j; \mu_{jk}, \mathrm{diag}\, \sigma^2_{jk})$ over J facets of a code.

    References:
        Identifiability, Eq. (2) for one facet, Eq. (5) for several.

    Arguments:
        facets: J, independent parts of the code.
        components: K, of each facet.
        dimension: D, of each facet.
        n_seeds: number of copies S.
    """

    def __init__(self, facets: int, components: int, dimension: int, n_seeds: int) -> None:
        super().__init__()
        self.facets = facets
        shape = (n_seeds, facets, components)
        self.logits = nn.Parameter(torch.zeros(shape))
        self.means = nn.Parameter(torch.zeros(*shape, dimension))
        self.log_variances = nn.Parameter(torch.zeros(*shape, dimension))

    @property
    def log_weights(self) -> Tensor:
        """Logarithms of the mixture weights, (S, J, K)."""
        return self.logits.log_softmax(-1)

    def _joint(self, z: Tensor) -> Tensor:
        """Return log pi_k + log N(z; k) at codes (S, B, J D), (S, B, J, K)."""
        parts = self._by_facet(z).unsqueeze(-2)  # (S, B, J, 1, D)
        means, log_variances = self.means.unsqueeze(1), self.log_variances.unsqueeze(1)
        squared = (parts - means).square() * (-log_variances).exp()
        log_normal: Tensor = -0.5 * (squared + log_variances + _LOG_2PI).sum(-1)
        return log_normal + self.log_weights.unsqueeze(1)

    def _by_facet(self, z: Tensor) -> Tensor:
        """Map codes (S, B, J D) to (S, B, J, D)."""
        return z.view(*z.shape[:-1], self.facets, -1)

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log p(z) at codes (S, B, J D), (S, B)."""
        return self._joint(z).logsumexp(-1).sum(-1)

    def responsibilities(self, z: Tensor) -> Tensor:
        """Return p(k|z_j) at codes (S, B, J D), (S, B, J, K)."""
        return self._joint(z).softmax(-1)

    def log_responsibilities(self, z: Tensor) -> Tensor:
        """Return log p(k|z_j) at codes (S, B, J D), (S, B, J, K)."""
        return self._joint(z).log_softmax(-1)

    def expected_log_normal(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        r"""Return $E_{q}[\log N(z_j; k)]$ for diagonal Gaussians q with moments (S, B, J D), (S, B, J, K).

        Written as matrix products, so that no array with components and dimensions at once is made for every point;
        in float32 whatever the precision of the networks, because it is a small difference of large numbers.
        """
        means, variances = (self._by_facet(part).transpose(1, 2) for part in (mean, log_variance.exp()))
        precisions = (-self.log_variances).exp()  # (S, J, K, D)
        with torch.autocast(means.device.type, enabled=False):
            squared = (means.square() + variances) @ precisions.mT - 2 * means @ (self.means * precisions).mT
        constant = (self.means.square() * precisions + self.log_variances + _LOG_2PI).sum(-1)  # (S, J, K)
        expected: Tensor = -0.5 * (squared + constant.unsqueeze(-2)).transpose(1, 2)
        return expected

    def sample(self, component: int, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return codes of one component of every facet, (S, size, J D)."""
        shape = (size, *self.means.shape[1:2], self.means.shape[-1])
        draws = torch.stack([torch.randn(shape, generator=generator) for generator in noise]).to(self.means.device)
        means, log_variances = self.means[:, None, :, component], self.log_variances[:, None, :, component]
        return (means + (0.5 * log_variances).exp() * draws).flatten(2)

    @torch.no_grad()
    def fit(self, codes: Tensor, noise: Sequence[torch.Generator], *, variance: float | None = None) -> None:
        """Set the prior to a Gaussian mixture fitted to codes by EM, seed by seed and facet by facet.

        Arguments:
            codes: (S, N, J D).
            noise: one generator for each seed; they choose EM's start.
            variance: if given, of every component, with equal weights; only the means are then EM's.

        Raises:
            ValueError: there are fewer points than components, or a code is not finite.
        """
        components = self.means.shape[2]
        if codes.shape[1] < components:
            raise ValueError(f"{components} components cannot be fitted to {codes.shape[1]} points; lower `components`")
        if not torch.isfinite(codes).all():
            raise ValueError("codes are not all finite; no mixture can be fitted to them")
        for seed, generator in enumerate(noise):
            start = int(torch.randint(2**31, (1,), generator=generator))
            for facet, part in enumerate(self._by_facet(codes)[seed].unbind(1)):
                weights, means, variances = _fit_one(part.double().cpu().numpy(), components, start + facet)
                self.means[seed, facet] = torch.from_numpy(means)
                if variance is None:
                    self.logits[seed, facet] = torch.from_numpy(weights).log()
                    self.log_variances[seed, facet] = torch.from_numpy(variances).log()
        if variance is not None:
            self.logits.zero_()
            self.log_variances.fill_(math.log(variance))


def _fit_one(points: np.ndarray, components: int, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights (K,), means (K, D) and variances (K, D) by scikit-learn's EM."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a start of training needs no converged EM
        # Codes of an untrained encoder may be tiny: the floor under the variances goes by their scale.
        floor = 1e-6 * max(float(points.var()), 1e-12)
        mixture = GaussianMixture(components, covariance_type="diag", random_state=start % 2**32, reg_covar=floor)
        mixture.fit(points)
    return np.maximum(mixture.weights_, 1e-12), mixture.means_, mixture.covariances_
