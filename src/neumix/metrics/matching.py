"""Matching of learned components or clusters to true ones, and the accuracies that follow."""

from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

__all__ = [
    "assign",
    "classification_accuracy",
    "clustering_accuracy",
    "component_distances",
    "match_components",
    "total_variation",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def total_variation(p: ArrayLike, q: ArrayLike, width: ArrayLike) -> Floats:
    """Return half the L1 distance between densities on a grid, (...).

    Arguments:
        p: densities, (..., G).
        q: densities, (..., G), broadcast against `p`.
        width: quadrature weights of the grid, (G,), or one width for all points.

    Returns:
        0 for equal densities, 1 for normalised densities without overlap.
    """
    difference = np.abs(np.asarray(p, dtype=np.float64) - np.asarray(q, dtype=np.float64))
    return np.asarray((difference * np.asarray(width)).sum(axis=-1) / 2)


def component_distances(estimated: Floats, true: Floats, width: ArrayLike) -> Floats:
    """Return the distance of every pair of components, (..., C, C), [i, j] for true i and estimated j.

    The distance is the total variation between the densities of a variate, added up over the variates.

    Arguments:
        estimated: densities of the learned components on a grid per variate, (..., C, V, G).
        true: densities of the true components, (C, V, G).
        width: quadrature weights, a number, (V, 1) or (V, G).

    Raises:
        ValueError: shapes do not fit, or a density is not finite.
    """
    estimated, true = np.asarray(estimated, dtype=np.float64), np.asarray(true, dtype=np.float64)
    if true.ndim != 3 or estimated.shape[-3:] != true.shape:
        raise ValueError(
            f"densities must be (..., components, variates, grid), found {estimated.shape} and true {true.shape}"
        )
    for name, densities in (("estimated", estimated), ("true", true)):
        if not np.all(np.isfinite(densities)):
            raise ValueError(f"{name} densities are not all finite; components cannot be matched")
    pairs = total_variation(true[:, None], estimated[..., None, :, :, :], width)  # (..., C, C, V)
    return cast(Floats, pairs.sum(axis=-1))


def match_components(estimated: Floats, true: Floats, width: ArrayLike) -> Integers:
    """Return for each true component the learned one, (..., C), a permutation p per leading index.

    `estimated[p[i]]` belongs to `true[i]`; of all permutations p has the least sum of `component_distances`.
    Densities decide and weights do not, because the weights are what the match is to compare.

    Arguments:
        estimated: densities of the learned components on a grid per variate, (..., C, V, G).
        true: densities of the true components, (C, V, G).
        width: quadrature weights, a number, (V, 1) or (V, G).

    Raises:
        ValueError: shapes do not fit, or a density is not finite.

    References:
        InClass nets, Sec 3.1 (components are matched to the closest true ones; the distance is our choice).
    """
    distances = component_distances(estimated, true, width)
    flat = distances.reshape(-1, *distances.shape[-2:])
    return np.stack([assign(item) for item in flat]).reshape(distances.shape[:-1])


def assign(distances: Floats) -> Integers:
    """Return the column of each row, (R,), so that no column repeats and the sum of distances is least.

    Arguments:
        distances: (R, K) with R <= K.

    Raises:
        ValueError: there are more rows than columns, or a distance is not finite.
    """
    distances = np.asarray(distances, dtype=np.float64)
    if distances.ndim != 2 or distances.shape[0] > distances.shape[1]:
        raise ValueError(f"need a matrix with at least as many columns as rows, found shape {distances.shape}")
    if not np.all(np.isfinite(distances)):
        raise ValueError("distances are not all finite; nothing can be assigned")
    return cast(Integers, linear_sum_assignment(distances)[1].astype(np.int64))


def classification_accuracy(predicted: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the share of points whose class is right, (...).

    Arguments:
        predicted: classes, (..., N).
        labels: true classes, (N,) or (..., N).

    Raises:
        ValueError: there are no points, or the numbers of points differ.
    """
    predicted, labels = _classes(predicted, labels)
    return np.asarray((predicted == labels).mean(axis=-1))


def clustering_accuracy(predicted: ArrayLike, labels: ArrayLike) -> Floats:
    """Return the accuracy under the best one-to-one naming of the clusters, (...).

    There may be more clusters than classes or fewer; the points of clusters left without a class are wrong.

    Arguments:
        predicted: cluster of each point, (..., N), any integers.
        labels: true classes, (N,) or (..., N).

    Raises:
        ValueError: there are no points, or the numbers of points differ.
    """
    predicted, labels = _classes(predicted, labels)
    shape = predicted.shape[:-1]
    rows = zip(predicted.reshape(-1, predicted.shape[-1]), labels.reshape(-1, labels.shape[-1]), strict=True)
    return np.array([_best_agreement(*row) for row in rows]).reshape(shape)


def _best_agreement(clusters: Integers, classes: Integers) -> float:
    names, cluster = np.unique(clusters, return_inverse=True)
    truths, label = np.unique(classes, return_inverse=True)
    counts = np.bincount(cluster * len(truths) + label, minlength=len(names) * len(truths))
    table = counts.reshape(len(names), len(truths))
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / len(clusters))


def _classes(predicted: ArrayLike, labels: ArrayLike) -> tuple[Integers, Integers]:
    """Return both as integers of the same shape."""
    predicted, labels = np.asarray(predicted), np.asarray(labels)
    if predicted.ndim == 0 or predicted.shape[-1:] != labels.shape[-1:] or 0 in predicted.shape:
        raise ValueError(f"need classes of the same points, found shapes {predicted.shape} and {labels.shape}")
    for name, values in (("predicted", predicted), ("labels", labels)):
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"{name} classes must be integers, found {values.dtype}")
    first, second = np.broadcast_arrays(predicted, labels)
    return first.astype(np.int64), second.astype(np.int64)
