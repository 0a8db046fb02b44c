"""Mixtures of factor analysers: Gaussians whose covariance is a diagonal and a low-rank matrix, several at once."""

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["FactorAnalyzers", "em_step"]

_LOG_2_PI = math.log(2 * math.pi)
_LEAST_MASS = 1e-8


@dataclasses.dataclass(frozen=True)
class FactorAnalyzers:
    r"""Mixtures $\sum_k \pi_k N(x; \mu_k, A_k A_k^T + \mathrm{diag}(d_k))$ of S seeds; no M x M matrix is ever formed.

    References:
        CPMM, Sec 2.1.1; Ghahramani and Hinton (1996).

    Arguments:
        log_weights: (S, K), or (S, N, K) where the mixture depends on the point.
        means: (S, K, M), or (S, N, K, M).
        factors: A, (S, K, M, R).
        log_variances: log d, (S, K, M).
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor
    log_variances: Tensor

    def of_seed(self, seed: int) -> "FactorAnalyzers":
        """Return the mixture of one seed, S = 1."""
        return FactorAnalyzers(*(part[seed : seed + 1] for part in vars(self).values()))

    def log_densities(self, x: Tensor) -> Tensor:
        """Return the log-density of every component at points (S, N, M), (S, N, K).

        By Woodbury's identity and the determinant lemma; with squares multiplied out, so that products of matrices do
        all the work. Points and means are first shifted to about zero, where the squares are least.
        """
        centre = self.means.detach().mean(1, keepdim=True)  # (S, 1, M)
        x, means = x - centre, self.means - centre
        with torch.autocast(x.device.type, enabled=False):
            precision = (-self.log_variances).exp()
            cholesky, whitened = self._whitened(precision)
            square = x.square() @ precision.mT - 2 * x @ (precision * means).mT
            constant = (precision * means.square()).sum(2) + self.log_variances.sum(2) + means.shape[2] * _LOG_2_PI
            constant = constant + 2 * cholesky.diagonal(dim1=2, dim2=3).log().sum(2)
            explained = self._project(x, means, whitened).square().sum(3)
        return -0.5 * (square + constant[:, None] - explained)

    def _whitened(self, precision: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Cholesky factor C of I + A' D^-1 A, (S, K, R, R), and C^-1 A' D^-1, (S, K, R, M)."""
        scaled = self.factors.mT * precision[:, :, None]  # (S, K, R, M)
        rank = self.factors.shape[3]
        inner = scaled @ self.factors + torch.eye(rank, dtype=scaled.dtype, device=scaled.device)
        found, failed = torch.linalg.cholesky_ex(inner)
        # Numbers that are not finite go through as NaN, so that who trains can say when it happened.
        cholesky = torch.where(failed[..., None, None] == 0, found, torch.nan)
        return cholesky, torch.linalg.solve_triangular(cholesky, scaled, upper=False)

    def _project(self, x: Tensor, means: Tensor, rows: Tensor) -> Tensor:
        """Return rows (S, K, R, M) times x - mean, (S, N, K, R)."""
        seeds, components, rank, _ = rows.shape
        offset = (rows @ means[..., None])[..., 0]  # (S, K, R)
        return (x @ rows.flatten(1, 2).mT).view(seeds, x.shape[1], components, rank) - offset[:, None]

    def log_joint(self, x: Tensor) -> Tensor:
        """Return log pi_k + log N_k at points (S, N, M), (S, N, K)."""
        return self.log_weights[:, None] + self.log_densities(x)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in nats at points (S, N, M), (S, N)."""
        return self.log_joint(x).logsumexp(2)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Return P(k | x) at points (S, N, M), (S, N, K)."""
        return self.log_joint(x).softmax(2)

    def sample(self, size: int, noise: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Return samples (S, size, M) and their components (S, size)."""
        found = [self._sample_seed(seed, size, generator) for seed, generator in enumerate(noise)]
        points, labels = zip(*found, strict=True)
        return torch.stack(points), torch.stack(labels)

    def _sample_seed(self, seed: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        weights, means = self.log_weights[seed].exp().cpu(), self.means[seed]
        labels = torch.multinomial(weights, size, replacement=True, generator=generator).to(means.device)
        latent = torch.randn(size, self.factors.shape[3], 1, generator=generator).to(means)
        rest = torch.randn(size, means.shape[1], generator=generator).to(means)
        low_rank = torch.empty_like(rest)
        for component in range(len(weights)):  # never a copy of the factors for every sample
            rows = labels == component
            low_rank[rows] = latent[rows, :, 0] @ self.factors[seed, component].mT
        return means[labels] + low_rank + (0.5 * self.log_variances[seed, labels]).exp() * rest, labels

    def marginal(self, features: Tensor) -> "FactorAnalyzers":
        """Return the mixture of some of the features alone.

        References:
            CPMM, Sec 6.

        Arguments:
            features: their indices, (M',).
        """
        return FactorAnalyzers(
            self.log_weights,
            self.means[..., features],
            self.factors[..., features, :],
            self.log_variances[..., features],
        )

    def conditional(self, observed: Tensor, values: Tensor, wanted: Tensor) -> "FactorAnalyzers":
        """Return, for each point, the mixture of some features given others; weights and means depend on the point.

        References:
            CPMM, Sec 6.

        Arguments:
            observed: indices of the features that are known, (M',).
            values: of these, (S, N, M').
            wanted: indices of other features, (M'',).

        Raises:
            ValueError: a feature is both known and wanted.
        """
        both = set(observed.tolist()) & set(wanted.tolist())
        if both:
            raise ValueError(f"features cannot be both observed and wanted, but these are: {sorted(both)}")
        given, others = self.marginal(observed), self.marginal(wanted)
        cholesky, whitened = given._whitened((-given.log_variances).exp())
        latent = given._project(values, given.means, whitened)  # C^-1 A' D^-1 (x - mean), (S, N, K, R)
        spread = torch.linalg.solve_triangular(cholesky.mT, others.factors, upper=True, left=False)  # A'' C^-T
        shift = torch.einsum("skmr,snkr->snkm", spread, latent)
        return FactorAnalyzers(
            given.log_joint(values).log_softmax(2), others.means[:, None] + shift, spread, others.log_variances
        )

    def mean(self) -> Tensor:
        """Return the mean of the mixtures, (S, M), or (S, N, M) where they depend on the point."""
        return (self.log_weights.exp()[..., None] * self.means).sum(-2)


def em_step(mixtures: FactorAnalyzers, x: Tensor, floor: float = 1e-6) -> tuple[FactorAnalyzers, Tensor]:
    """Return the mixtures after a step of EM, and each seed's mean log-likelihood before it, (S,).

    Mean and factors are found together, as a regression on the latents' expected values. A component without points
    stays as it is.

    References:
        Ghahramani and Hinton (1996), The EM algorithm for mixtures of factor analyzers, with a diagonal of its own for
        each component.

    Arguments:
        mixtures: before the step.
        x: points, (S, N, M).
        floor: least entry of d.
    """
    joint = mixtures.log_joint(x)
    log_prob = joint.logsumexp(2, keepdim=True)
    gamma = (joint - log_prob).exp()  # (S, N, K)
    mass = gamma.sum(1)  # (S, K)
    precision = (-mixtures.log_variances).exp()
    cholesky, whitened = mixtures._whitened(precision)
    rows = torch.linalg.solve_triangular(cholesky.mT, whitened, upper=True)  # L^-1 A' D^-1
    latent = mixtures._project(x, mixtures.means, rows)  # E[z | x, k], (S, N, K, R)
    ones = latent.new_ones(*latent.shape[:3], 1)
    latent = torch.cat([latent, ones], 3)  # with a constant, for the mean
    weighted = gamma[..., None] * latent  # (S, N, K, R + 1)
    second = torch.einsum("snkr,snkq->skrq", weighted, latent)
    rank = second.shape[3] - 1
    second[..., :rank, :rank] += mass[..., None, None] * torch.cholesky_inverse(cholesky)
    cross = torch.unflatten(x.mT @ weighted.flatten(2), 2, weighted.shape[2:]).permute(0, 2, 1, 3)  # (S, K, M, R + 1)
    present = mass > _LEAST_MASS
    eye = torch.eye(rank + 1, dtype=x.dtype, device=x.device)
    loading = torch.linalg.solve(torch.where(present[..., None, None], second, eye), cross, left=False)
    squares = gamma.mT @ x.square()  # (S, K, M)
    variances = (squares - (loading * cross).sum(3)) / mass.clamp(min=_LEAST_MASS)[..., None]
    kept = present[..., None]
    step = FactorAnalyzers(
        (mass / mass.sum(1, keepdim=True)).clamp(min=torch.finfo(x.dtype).tiny).log(),
        torch.where(kept, loading[..., rank], mixtures.means),
        torch.where(kept[..., None], loading[..., :rank], mixtures.factors),
        torch.where(kept, variances.clamp(min=floor).log(), mixtures.log_variances),
    )
    return step, log_prob.mean((1, 2))
