"""Recovery of a linear map from the covariances of a mixture that it has mixed."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumix.gaussian_mixture import require_covariance

__all__ = ["recover_linear_map"]

Floats = NDArray[np.float64]


def recover_linear_map(
    covariance_1: ArrayLike, covariance_2: ArrayLike, tolerance: float = 1e-6
) -> tuple[Floats, Floats]:
    r"""Return a matrix that equals A up to order, scale and sign of its columns, and the ratios that it rests on.

    The components of Y = A Z + b have covariances $A \Sigma_i A^\top$ with diagonal $\Sigma_i$.

    References:
        Kivva et al. 2022, Theorem E.1.

    Arguments:
        covariance_1, covariance_2: of two components of Y, (M, M), symmetric and positive definite.
        tolerance: relative gap below which two ratios count as equal.

    Returns:
        A', (M, M), and the ratios of standard deviations $(\Sigma_2 / \Sigma_1)_{tt}^{1/2}$, largest first, (M,).

    Raises:
        ValueError: a covariance is not symmetric and positive definite, shapes differ, or two ratios are equal within
            the tolerance.
    """
    pair = [np.asarray(covariance, dtype=np.float64) for covariance in (covariance_1, covariance_2)]
    if pair[0].shape != pair[1].shape or pair[0].ndim != 2 or pair[0].shape[0] != pair[0].shape[1]:
        raise ValueError(f"covariances must be square and of one shape, found {pair[0].shape} and {pair[1].shape}")
    for name, covariance in zip(("covariance_1", "covariance_2"), pair, strict=True):
        require_covariance(covariance, name)
    first, second = np.linalg.cholesky(pair[0]), np.linalg.cholesky(pair[1])
    left, ratios, _ = np.linalg.svd(np.linalg.solve(first, second))
    close = np.flatnonzero(ratios[:-1] - ratios[1:] <= tolerance * ratios[:-1])
    if len(close):
        raise ValueError(
            "the ratios of standard deviations must be distinct to identify the map, found "
            f"{ratios[close[0]]} and {ratios[close[0] + 1]}, equal within a tolerance of {tolerance}"
        )
    return first @ left, ratios
