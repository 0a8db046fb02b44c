"""Bits per dimension, and how well likelihoods tell a dataset's images from another's."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from neumix.data.dataset import Split

__all__ = ["bits_per_dim", "density_metrics", "labels", "outlier_scores", "points"]

Floats = NDArray[np.float64]


def points(split: Split, count: int | None, seeds: int, field: str = "x") -> torch.Tensor:
    """Return the first points of a split for every seed, (S, N, ...)."""
    found = torch.from_numpy(split[field].values[:count])
    return found.expand(seeds, *found.shape)


def labels(split: Split, count: int | None) -> NDArray[np.int64]:
    """Return the classes of the first points of a split, (N,)."""
    return np.asarray(split["y"].values[:count], dtype=np.int64)


def bits_per_dim(log_prob: torch.Tensor, split: Split, *, levels: bool = False) -> Floats:
    """Return bits per dimension of every image, (S, N).

    References:
        CPMM, Sec 5.2 (dequantisation, rescaling and logit are accounted for).

    Arguments:
        log_prob: nats of the first N images, (S, N): densities of the logits `x`, or probabilities of the `levels`.
        split: of `logit_images`.
        levels: which of both.
    """
    nats = -log_prob.double().numpy()
    if not levels:
        nats = nats + split["log_volume"].values[: nats.shape[1]]
    return np.asarray(nats / (math.prod(split["x"].shape) * math.log(2)))


def density_metrics(bits: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return mean bits per dimension, (S,), and outlier scores if there are images of another dataset.

    Arguments:
        bits: bits per dimension of every image, (S, N), by split.
    """
    metrics = {"bits_per_dim": bits["test"].mean(1), "train_bits_per_dim": bits["train"].mean(1)}
    return metrics | (outlier_scores(bits["test"], bits["other"]) if "other" in bits else {})


def outlier_scores(own: Floats, other: Floats) -> dict[str, Floats]:
    """Return AUROC and AUPR in percent, (S,), of bits per dimension as a score; the own images are the positive class.

    References:
        CPMM, Sec 5.2, Table 2.

    Arguments:
        own: bits per dimension of images of the dataset that was trained on, (S, N).
        other: of those of another, (S, N').
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # takes seconds to import

    known = np.r_[np.ones(own.shape[1]), np.zeros(other.shape[1])]
    scores = [-np.r_[inside, outside] for inside, outside in zip(own, other, strict=True)]
    return {
        "auroc": np.array([100 * roc_auc_score(known, score) for score in scores]),
        "aupr": np.array([100 * average_precision_score(known, score) for score in scores]),
    }
