"""Classifier weighted mixtures on the line, whose weights are a classifier of the components' CDFs."""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, ndtr, ndtri, softmax

__all__ = ["CDFMixture", "SoftmaxClassifier"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_LOG_2PI = np.log(2 * np.pi)
_GRID = 2**52  # the finest whose midpoints in the unit interval are floats, the last of them below 1


@dataclasses.dataclass(frozen=True, eq=False)
class SoftmaxClassifier:
    r"""Smooth classifier of the unit interval, $\alpha(u) = \mathrm{softmax}(b + \sum_m c_m \cos(\pi m u))$.

    References:
        Classifier weighted mixtures, Eq. (5) for what it must satisfy; the cosines are our choice.

    Arguments:
        biases: b, (K,).
        coefficients: $c_{km}$ for m = 1, ..., M, (K, M); M = 0 or zeros make the classifier constant.

    Raises:
        ValueError: shapes do not fit, or a value is not finite.
    """

    biases: Floats
    coefficients: Floats

    def __post_init__(self) -> None:
        _store_finite(self, "biases", "coefficients")
        if self.biases.ndim != 1 or self.biases.size == 0:
            raise ValueError(f"biases must be (classes,) with at least one class, found shape {self.biases.shape}")
        if self.coefficients.ndim != 2 or len(self.coefficients) != len(self.biases):
            raise ValueError(
                f"coefficients must be ({len(self.biases)}, frequencies), a row for each bias, "
                f"found shape {self.coefficients.shape}"
            )

    @classmethod
    def constant(cls, weights: ArrayLike) -> "SoftmaxClassifier":
        """Return the classifier that gives the same probabilities everywhere.

        Arguments:
            weights: the probabilities, (K,), positive.

        Raises:
            ValueError: weights are not positive numbers that sum to 1.
        """
        probabilities = np.asarray(weights, dtype=np.float64)
        if probabilities.ndim != 1 or not (np.all(probabilities > 0) and abs(probabilities.sum() - 1) <= 1e-6):
            raise ValueError(f"weights must be positive and sum to 1, found {probabilities.tolist()}")
        return cls(np.log(probabilities), np.zeros((len(probabilities), 0)))

    def __call__(self, u: ArrayLike) -> Floats:
        """Return the probabilities of the classes, (..., K), at numbers (...) of the unit interval.

        Raises:
            ValueError: a number lies outside the unit interval.
        """
        points = np.asarray(u, dtype=np.float64)
        if not np.all((points >= 0) & (points <= 1)):
            raise ValueError(f"u must lie in [0, 1], found values from {points.min()} to {points.max()}")
        frequencies = np.pi * np.arange(1, self.coefficients.shape[1] + 1)
        waves = np.cos(points[..., None] * frequencies)  # (..., M)
        return np.asarray(softmax(self.biases + waves @ self.coefficients.T, axis=-1))


@dataclasses.dataclass(frozen=True, eq=False)
class CDFMixture:
    r"""Classifier weighted mixture of normals, $p(x) = \sum_k \alpha_k(P_k(x)) p_k(x)$ with $P_k$ the CDF of $p_k$.

    The weights $\pi_k(x) = \alpha_k(P_k(x))$ are non-negative but sum to one at every x only if they are constant;
    then this is an ordinary mixture. The tails are exact where the classifier is positive at 0 and 1; one that
    vanishes at 1 sees u there with an absolute error of rounding.

    References:
        Classifier weighted mixtures, Eq. (4)-(11).

    Arguments:
        means: of the components, (K,).
        sds: standard deviations of the components, (K,), positive.
        classifier: maps u (...) in the unit interval to probabilities $\alpha(u)$ (..., K), which need to sum to one
            up to single precision only.

    Raises:
        ValueError: shapes do not fit, a value is not finite, a standard deviation is not positive, or what the
            classifier returns are not K probabilities for each u.
    """

    means: Floats
    sds: Floats
    classifier: Callable[[Floats], Floats]

    def __post_init__(self) -> None:
        _store_finite(self, "means", "sds")
        if self.means.ndim != 1 or self.means.size == 0:
            raise ValueError(f"means must be (components,), at least one, found shape {self.means.shape}")
        if self.sds.shape != self.means.shape:
            raise ValueError(f"sds must be {self.means.shape}, one for each mean, found shape {self.sds.shape}")
        if self.sds.min() <= 0:
            raise ValueError(f"sds must be positive, found {self.sds.tolist()}")
        self._classify(np.linspace(0, 1, 5))

    @property
    def n_components(self) -> int:
        """Number of components K."""
        return len(self.means)

    def log_prob(self, x: ArrayLike) -> Floats:
        """Return the log-density at points (...), of the same shape; Eq. (6)."""
        return np.asarray(logsumexp(self._log_joint(x), axis=-1))

    def weights(self, x: ArrayLike) -> Floats:
        r"""Return $\pi_k(x) = \alpha_k(P_k(x))$ at points (...), (..., K)."""
        at_components = self._classify(np.asarray(ndtr(self._standardised(x))))  # (..., K of P, K of alpha)
        return np.diagonal(at_components, axis1=-2, axis2=-1).copy()

    def weighted_components(self, x: ArrayLike) -> Floats:
        r"""Return $\pi_k(x) p_k(x)$ at points (...), (..., K); their sum is the density; Eq. (7)."""
        return np.asarray(np.exp(self._log_joint(x)))

    def responsibilities(self, x: ArrayLike) -> Floats:
        """Return the probabilities of the components given points (...), (..., K).

        Raises:
            ValueError: the density at a point is zero, also within floating point and its exponents.
        """
        joint = self._log_joint(x)
        outside = np.isneginf(joint).all(axis=-1)
        if outside.any():
            first = np.asarray(x, dtype=np.float64)[outside].flat[0]
            raise ValueError(f"the density is zero at x = {first}; responsibilities are not defined there")
        return np.asarray(softmax(joint, axis=-1))

    def sample(self, size: int, rng: np.random.Generator) -> tuple[Floats, Integers]:
        """Draw points (size,) and the components (size,) that they come from; Eq. (9)-(11)."""
        # Never 0 or 1, whose quantiles are infinite.
        u = (rng.integers(_GRID, size=size) + 0.5) / _GRID
        cumulative = self._classify(u).cumsum(axis=-1)  # (size, K)
        threshold = rng.random(size) * cumulative[:, -1]
        labels = (threshold[:, None] >= cumulative[:, :-1]).sum(axis=-1)
        return self.means[labels] + self.sds[labels] * ndtri(u), labels.astype(np.int64)

    def _log_joint(self, x: ArrayLike) -> Floats:
        r"""Return $\log \pi_k(x) p_k(x)$ at points (...), (..., K); minus infinity where the weight is zero."""
        with np.errstate(over="ignore", divide="ignore"):
            squared = self._standardised(x) ** 2
            return np.asarray(np.log(self.weights(x)) - 0.5 * (squared + _LOG_2PI) - np.log(self.sds))

    def _standardised(self, x: ArrayLike) -> Floats:
        """Return points (...) in standard deviations from the mean of each component, (..., K)."""
        points = np.asarray(x, dtype=np.float64)
        if not np.all(np.isfinite(points)):
            raise ValueError("x must be finite, found NaN or infinity")
        return np.asarray((points[..., None] - self.means) / self.sds)

    def _classify(self, u: Floats) -> Floats:
        """Return the classifier's probabilities at numbers (...) of the unit interval, (..., K), checked."""
        found = np.asarray(self.classifier(u), dtype=np.float64)
        if found.shape != (*u.shape, self.n_components):
            raise ValueError(
                f"classifier must map shape {u.shape} to {(*u.shape, self.n_components)}, found {found.shape}"
            )
        # Written so that NaN fails too.
        if not np.all((found >= 0) & (np.abs(found.sum(axis=-1, keepdims=True) - 1) <= 1e-6)):
            raise ValueError("classifier must return probabilities, non-negative and with sum 1 for each u")
        return found


def _store_finite(instance: object, *names: str) -> None:
    """Replace attributes of a frozen instance by float64 copies; raise ValueError unless they are finite."""
    for name in names:
        values = np.array(getattr(instance, name), dtype=np.float64)
        if not np.all(np.isfinite(values)):
            raise ValueError(f"{name} must be finite, found {values.tolist()}")
        object.__setattr__(instance, name, values)
