"""Mixtures of Gaussians with full covariances: density, samples, inner products in closed form."""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

__all__ = [
    "GaussianMixture",
    "log_inner",
    "log_normal",
    "log_sum",
    "log_weights",
    "require_covariance",
    "require_same_dimension",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclasses.dataclass(frozen=True, eq=False)
class GaussianMixture:
    r"""Mixture of Gaussians with full covariances, $p(z) = \sum_j w_j N(z; \mu_j, \Sigma_j)$.

    References:
        Kivva et al. 2022, Eq. (2).

    Arguments:
        weights: (J,), non-negative, summing to one up to single precision.
        means: (J, M).
        covariances: (J, M, M), positive definite and, up to single precision, symmetric.

    Raises:
        ValueError: shapes do not fit, a value is not finite, weights are no distribution, or a covariance is not
            symmetric or not positive definite; the message names the component.
    """

    weights: Floats
    means: Floats
    covariances: Floats

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            values = np.array(getattr(self, field.name), dtype=np.float64)
            if not np.all(np.isfinite(values)):
                raise ValueError(f"{field.name} must be finite, found {values.tolist()}")
            object.__setattr__(self, field.name, values)
        self._check_shapes()
        if not (self.weights.min() >= 0 and abs(self.weights.sum() - 1) <= 1e-6):
            raise ValueError(f"weights must be non-negative and sum to 1, found {self.weights.tolist()}")
        for component, covariance in enumerate(self.covariances):
            require_covariance(covariance, f"covariance of component {component} (counted from 0)")
        object.__setattr__(self, "covariances", (self.covariances + self.covariances.swapaxes(1, 2)) / 2)

    def _check_shapes(self) -> None:
        if self.means.ndim != 2 or self.means.size == 0:
            raise ValueError(
                f"means must be (components, dimension), neither of them 0, found shape {self.means.shape}"
            )
        components, dimension = self.means.shape
        if self.weights.shape != (components,):
            raise ValueError(f"weights must be ({components},), one for each mean, found shape {self.weights.shape}")
        if self.covariances.shape != (components, dimension, dimension):
            raise ValueError(
                f"covariances must be {(components, dimension, dimension)}, found shape {self.covariances.shape}"
            )

    @property
    def n_components(self) -> int:
        """Number of components J."""
        return len(self.weights)

    @property
    def dimension(self) -> int:
        """Dimension M of the space."""
        return int(self.means.shape[1])

    def pushforward(self, matrix: ArrayLike, offset: ArrayLike) -> "GaussianMixture":
        """Return the law of A z + b.

        Arguments:
            matrix: A, (M, M), invertible.
            offset: b, (M,).

        Raises:
            ValueError: shapes do not fit, or a covariance becomes singular.
        """
        a, b = np.asarray(matrix, dtype=np.float64), np.asarray(offset, dtype=np.float64)
        if a.shape != (self.dimension, self.dimension) or b.shape != (self.dimension,):
            raise ValueError(
                f"matrix and offset must have shapes {self.covariances.shape[1:]} and {self.means.shape[1:]}, "
                f"found {a.shape} and {b.shape}"
            )
        return GaussianMixture(self.weights, self.means @ a.T + b, a @ self.covariances @ a.T)

    def inner(self, other: "GaussianMixture") -> float:
        """Return the integral of the product of both densities.

        Raises:
            ValueError: the dimensions differ.
        """
        return float(np.exp(log_inner(self, other)))

    def log_prob(self, points: ArrayLike) -> Floats:
        """Return the log-density at points (..., M), of shape (...)."""
        z = np.asarray(points, dtype=np.float64)[..., None, :]  # (..., 1, M)
        log_density = log_normal(z - self.means, self.covariances)[0]  # (..., J)
        return np.asarray(logsumexp(log_density, b=self.weights, axis=-1))

    def sample(self, size: int, rng: np.random.Generator) -> tuple[Floats, Integers]:
        """Draw points (size, M) and the components (size,) that they come from."""
        labels = rng.choice(self.n_components, size, p=self.weights / self.weights.sum())
        factors = np.linalg.cholesky(self.covariances)[labels]
        noise = factors @ rng.normal(size=(size, self.dimension, 1))
        return self.means[labels] + noise[..., 0], labels.astype(np.int64)


def log_inner(p: GaussianMixture, q: GaussianMixture) -> float:
    """Return the logarithm of the integral of p q."""
    require_same_dimension(p, q)
    log_density = log_normal(p.means[:, None] - q.means, p.covariances[:, None] + q.covariances)[0]
    return float(log_sum(log_density + log_weights(p, q)))


def log_weights(p: GaussianMixture, q: GaussianMixture) -> Floats:
    """Return the logarithms of products of weights, (J of p, J of q), minus infinity for a weight of zero."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p.weights)[:, None] + np.log(q.weights))


def log_normal(gap: Floats, covariance: Floats) -> tuple[Floats, Floats, Floats]:
    """Return log N(gap; 0, covariance) (...), the precision (..., M, M) and precision times gap (..., M)."""
    precision = np.linalg.inv(covariance)
    pull = (precision @ gap[..., None])[..., 0]
    log_volume = np.linalg.slogdet(covariance)[1] + gap.shape[-1] * np.log(2 * np.pi)
    return np.asarray(-0.5 * (log_volume + (gap * pull).sum(axis=-1))), np.asarray(precision), pull


def log_sum(terms: Floats) -> Floats:
    """Return log sum exp over the last two axes."""
    top = terms.max(axis=(-2, -1), keepdims=True)
    return np.asarray(top[..., 0, 0] + np.log(np.exp(terms - top).sum(axis=(-2, -1))))


def require_same_dimension(p: GaussianMixture, q: GaussianMixture) -> None:
    """Raise ValueError if the mixtures live in spaces of different dimension."""
    if p.dimension != q.dimension:
        raise ValueError(f"mixtures must be of the same dimension, found {p.dimension} and {q.dimension}")


def require_covariance(covariance: Floats, name: str) -> None:
    """Raise ValueError unless a matrix (M, M) is finite, symmetric and positive definite.

    Arguments:
        covariance: the matrix.
        name: what the error calls it.
    """
    if not np.all(np.isfinite(covariance)):
        raise ValueError(f"{name} must be finite, found {covariance.tolist()}")
    if np.abs(covariance - covariance.T).max() > 1e-6 * np.abs(covariance).max():
        raise ValueError(f"{name} must be symmetric, found {covariance.tolist()}")
    eigenvalues = np.linalg.eigvalsh(covariance)
    if eigenvalues[0] <= len(covariance) * np.finfo(np.float64).eps * abs(eigenvalues[-1]):
        raise ValueError(f"{name} is singular or not positive definite, eigenvalues {eigenvalues.tolist()}")
