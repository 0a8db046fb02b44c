"""Distances between the components of a mixture, and clusters of components made from them."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["leading_directions", "pairwise_frechet", "spectral_groups"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def pairwise_frechet(means: Floats, covariances: Floats) -> Floats:
    r"""Return $\|m_i - m_j\|^2 + tr(C_i + C_j - 2 (C_i C_j)^{1/2})$ of all pairs of Gaussians, (K, K).

    References:
        Dowson and Landau (1982); CPMM, Sec 5.2.

    Arguments:
        means: (K, D).
        covariances: symmetric and positive semi-definite, (K, D, D).
    """
    values, vectors = np.linalg.eigh(covariances)
    roots = (vectors * np.sqrt(np.maximum(values, 0))[:, None]) @ vectors.swapaxes(1, 2)
    traces = np.maximum(values, 0).sum(1)
    squared = np.square(means[:, None] - means[None]).sum(2)
    for row, root in enumerate(roots):
        # The singular values of the product of the roots are those of (C_i C_j)^(1/2), for singular matrices too.
        cross = np.linalg.svd(root @ roots[row + 1 :], compute_uv=False).sum(1)
        spread = np.maximum(traces[row] + traces[row + 1 :] - 2 * cross, 0)
        squared[row, row + 1 :] += spread
        squared[row + 1 :, row] += spread
    return np.asarray(squared)


def leading_directions(weights: Floats, means: Floats, factors: Floats, variances: Floats, count: int) -> Floats:
    """Return orthonormal directions in which a mixture of factor analysers varies most, (M, count).

    Arguments:
        weights: of the components, (K,).
        means: (K, M).
        factors: (K, M, R).
        variances: (K, M).
        count: of directions.
    """
    offset = np.sqrt(weights)[:, None] * (means - weights @ means)
    low_rank = (np.sqrt(weights)[:, None, None] * factors).transpose(0, 2, 1).reshape(-1, means.shape[1])
    covariance = offset.T @ offset + low_rank.T @ low_rank + np.diag(weights @ variances)
    return np.asarray(np.linalg.eigh(covariance)[1][:, ::-1][:, :count])


def spectral_groups(squared_distances: Floats, groups: int, seed: int) -> Integers:
    """Return a cluster for each item by spectral clustering, (K,).

    The affinity is $e^{-d^2 / 2 s^2}$, with the median of the distances for s.

    Arguments:
        squared_distances: (K, K).
        groups: number of clusters.
        seed: of the final k-means.

    Raises:
        ValueError: more clusters are asked for than there are items.
    """
    from sklearn.cluster import SpectralClustering  # takes seconds to import

    items = len(squared_distances)
    if groups > items:
        raise ValueError(f"{groups} groups are asked for, but there are {items} components")
    if groups == 1:
        return np.zeros(items, dtype=np.int64)
    scale = np.median(squared_distances[~np.eye(items, dtype=bool)])
    affinity = np.exp(-squared_distances / (2 * scale)) if scale > 0 else np.ones_like(squared_distances)
    clustering = SpectralClustering(groups, affinity="precomputed", random_state=seed, assign_labels="kmeans")
    return np.asarray(clustering.fit_predict(affinity), dtype=np.int64)
