"""Quality of generated samples: inception score, Frechet distance, kernel discrepancy, nearest-neighbour accuracy."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh, svdvals
from scipy.spatial.distance import cdist, pdist
from scipy.special import entr

__all__ = [
    "NearestNeighbourAccuracy",
    "frechet_distance",
    "gaussian_frechet_distance",
    "inception_score",
    "mmd",
    "mmd2",
    "one_nearest_neighbour_accuracy",
]

Floats = NDArray[np.float64]

_ROUNDING = 1e-4  # of probabilities and covariances that were computed in float32


class NearestNeighbourAccuracy(NamedTuple):
    """Share of samples whose nearest neighbour among the others is of their own kind.

    Arguments:
        overall: of all samples; 0.5 where both kinds have the same distribution.
        real: of the real samples; low where generated ones lie on them.
        generated: of the generated samples; high where they keep to themselves, as when modes are missing.
    """

    overall: float
    real: float
    generated: float


def inception_score(probabilities: ArrayLike) -> float:
    r"""Return $\exp E_x\, KL(p(y|x) \| p(y))$, from 1 to the number of classes.

    Computed as the exponential of $H(Y) - H(Y|X)$, which is the same and has no infinite terms.

    References:
        GenMM, Sec IV.B; Barratt and Sharma (2018), A note on the inception score, Eq. (1), Sec 2.

    Arguments:
        probabilities: of the classes given each generated image, (N, classes).

    Raises:
        ValueError: the rows are not finite distributions.
    """
    p = _rows(probabilities, "probabilities", "(images, classes)", 1)
    total = p.sum(axis=1)
    wrong = (p.min(axis=1) < 0) | (np.abs(total - 1) > _ROUNDING)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"probabilities must be non-negative and sum to 1 for each image, found {p[row].min():.6g} or more with "
            f"a sum of {total[row]:.6g} at image {row} (counted from 0); logits need a softmax first"
        )
    p = p / total[:, None]
    information = entr(p.mean(axis=0)).sum() - entr(p).sum(axis=1).mean()
    return float(np.exp(max(information, 0.0)))


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Return the Frechet distance (FID) between Gaussians fitted to two sets of features.

    It is the squared Wasserstein distance of the Gaussians; covariances divide by N - 1 and may be singular.

    References:
        GenMM, Sec IV.B; Heusel et al. (2017), GANs trained by a two time-scale update rule, Eq. (6).

    Arguments:
        a: features of one set, (N, D).
        b: features of the other, (M, D).

    Raises:
        ValueError: features do not fit together, are not finite, or are of fewer than two samples.
    """
    first, second = _features(a, b, ("a", "b"))
    return gaussian_frechet_distance(first.mean(axis=0), _covariance(first), second.mean(axis=0), _covariance(second))


def gaussian_frechet_distance(
    mean_1: ArrayLike, covariance_1: ArrayLike, mean_2: ArrayLike, covariance_2: ArrayLike
) -> float:
    r"""Return $\|m_1 - m_2\|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^{1/2})$.

    $C_1 C_2$ has the eigenvalues of the symmetric $C_1^{1/2} C_2 C_1^{1/2}$, whose roots are the singular values of
    $C_1^{1/2} C_2^{1/2}$: their sum is real, symmetric in both and exact for singular covariances too.

    References:
        Dowson and Landau (1982), The Frechet distance between multivariate normal distributions;
        Heusel et al. (2017), Eq. (6).

    Arguments:
        mean_1: (D,).
        covariance_1: symmetric and positive semi-definite, (D, D).
        mean_2: (D,).
        covariance_2: as the first, (D, D).

    Raises:
        ValueError: shapes do not fit, a value is not finite, or a covariance is not one.
    """
    first, second = np.asarray(mean_1, dtype=np.float64), np.asarray(mean_2, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape or not len(first):
        raise ValueError(f"means must be (coordinates,) of the same length, found {first.shape} and {second.shape}")
    if not np.all(np.isfinite([first, second])):
        raise ValueError("mean_1 and mean_2 must be finite")
    trace_1, root_1 = _root(covariance_1, len(first), "covariance_1")
    trace_2, root_2 = _root(covariance_2, len(first), "covariance_2")
    spread = trace_1 + trace_2 - 2 * svdvals(root_1 @ root_2).sum()
    return float(np.square(first - second).sum() + max(spread, 0.0))


def mmd2(a: ArrayLike, b: ArrayLike, bandwidth: float | None = None) -> float:
    r"""Return the squared maximum mean discrepancy with the kernel $\exp(-\|a - b\|^2 / 2 s^2)$, from 0 to 2.

    The biased estimate (V-statistic: all pairs count, a sample's with itself too) is the squared distance of the mean
    embeddings of both sets, hence never negative, so that its root can be reported; for equal distributions it is of
    the order 1/N + 1/M, not 0.

    References:
        GenMM, Sec IV.B; Gretton et al. (2012), A kernel two-sample test, Eq. (5), Sec 8 (median heuristic).

    Arguments:
        a: features of the generated samples, (N, D).
        b: features of the real samples, (M, D).
        bandwidth: s; by default the median distance of two real samples, so that it is the same for every model.

    Raises:
        ValueError: features do not fit together, are not finite, or are of fewer than two samples; the bandwidth is
            not positive, or there is none because half of the real samples are equal.
    """
    generated, real = _features(a, b, ("a", "b"))
    if bandwidth is None:
        bandwidth = float(np.median(pdist(real)))
        if bandwidth == 0:
            raise ValueError("b has a median distance of 0, its samples repeat; give a bandwidth")
    if not 0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth must be positive and finite, found {bandwidth}")
    within = _mean_kernel(generated, generated, bandwidth) + _mean_kernel(real, real, bandwidth)
    return max(within - 2 * _mean_kernel(generated, real, bandwidth), 0.0)


def mmd(a: ArrayLike, b: ArrayLike, bandwidth: float | None = None) -> float:
    """Return the maximum mean discrepancy, the root of `mmd2` at the same arguments.

    References:
        Xu et al. (2018), An empirical study on evaluation metrics of generative adversarial networks (whose
        program reports the same root, with the root mean squared distance of the real samples as bandwidth).

    Raises:
        ValueError: as for `mmd2`.
    """
    return float(np.sqrt(mmd2(a, b, bandwidth)))


def one_nearest_neighbour_accuracy(real: ArrayLike, generated: ArrayLike) -> NearestNeighbourAccuracy:
    """Return the leave-one-out accuracy of the 1-nearest-neighbour rule that tells real from generated samples.

    Near 0.5 for equal distributions, near 1 for ones that differ, below 0.5 where generated samples are nearly copies
    of real ones. A sample with several nearest neighbours at exactly the same distance counts with their share of its
    own kind, the mean over random choices among them. So an exact copy of a sample of the other kind, without a copy
    among its own, is wrong.

    References:
        GenMM, Sec IV.B; Lopez-Paz and Oquab (2016), Revisiting classifier two-sample tests; Xu et al. (2018).

    Arguments:
        real: features of real samples, (N, D).
        generated: features of as many generated samples, (N, D).

    Raises:
        ValueError: features do not fit together, are not finite, or are of fewer than two samples; there are not as
            many generated samples as real ones.
    """
    first, second = _features(real, generated, ("real", "generated"))
    if len(first) != len(second):
        raise ValueError(
            f"need as many generated samples as real ones, because 0.5 is ideal only then, found {len(second)} "
            f"generated and {len(first)} real; draw a subset of the larger set"
        )
    across = cdist(first, second, "sqeuclidean")
    of_real, of_generated = _own_share(first, across), _own_share(second, across.T)
    return NearestNeighbourAccuracy((of_real + of_generated) / 2, of_real, of_generated)


def _rows(values: ArrayLike, name: str, axes: str, fewest: int) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must be {axes}, found shape {array.shape}")
    if len(array) < fewest:
        raise ValueError(f"{name} must have at least {fewest} row{'s' * (fewest > 1)}, found {len(array)}")
    if not np.all(np.isfinite(array)):
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(f"{name} must be finite, found {array[row, column]} at [{row}, {column}]")
    return array


def _features(a: ArrayLike, b: ArrayLike, names: tuple[str, str]) -> tuple[Floats, Floats]:
    """Return both sets of features as float64, of at least two samples and the same number of coordinates."""
    first, second = (_rows(x, name, "(samples, coordinates)", 2) for x, name in zip((a, b), names, strict=True))
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same coordinates, found {first.shape[1]} and {second.shape[1]}"
        )
    return first, second


def _covariance(features: Floats) -> Floats:
    return np.atleast_2d(np.cov(features, rowvar=False))


def _root(covariance: ArrayLike, size: int, name: str) -> tuple[float, Floats]:
    """Return trace and symmetric square root of a covariance; eigenvalues that rounding made negative count as 0."""
    matrix = np.asarray(covariance, dtype=np.float64)
    if matrix.shape != (size, size):
        raise ValueError(f"{name} must be {(size, size)} to go with its mean, found shape {matrix.shape}")
    if not np.all(np.isfinite(matrix)):
        raise ValueError(f"{name} must be finite")
    largest = np.abs(matrix).max()
    if np.abs(matrix - matrix.T).max() > _ROUNDING * largest:
        raise ValueError(f"{name} must be symmetric")
    values, vectors = eigh((matrix + matrix.T) / 2)
    if values[0] < -_ROUNDING * largest:
        raise ValueError(f"{name} must be positive semi-definite, found an eigenvalue of {values[0]:.6g}")
    values = np.maximum(values, 0.0)
    return float(values.sum()), (vectors * np.sqrt(values)) @ vectors.T


def _mean_kernel(a: Floats, b: Floats, bandwidth: float) -> float:
    return float(np.exp(-0.5 * np.square(cdist(a, b) / bandwidth)).mean())


def _own_share(own: Floats, across: Floats) -> float:
    """Return the mean share of a sample's own kind among its nearest neighbours.

    Arguments:
        own: features of one kind, (N, D).
        across: squared distances from these to the other kind, (N, N); computed coordinate by coordinate like those
            among them, so that equal distances are equal numbers and those of copies are 0.
    """
    within = cdist(own, own, "sqeuclidean")
    np.fill_diagonal(within, np.inf)
    nearest = np.minimum(within.min(axis=1), across.min(axis=1))[:, None]
    mine, theirs = (within == nearest).sum(axis=1), (across == nearest).sum(axis=1)
    return float((mine / (mine + theirs)).mean())
