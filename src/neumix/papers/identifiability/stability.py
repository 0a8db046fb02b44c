"""How far the latent spaces of several fits of one configuration agree."""

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.batching import DeviceSplit
from neumix.gaussian_mixture import GaussianMixture
from neumix.metrics.correlation import (
    bootstrap_interval,
    jackknife,
    ordered_pair_values,
    pair_values,
    pairwise,
    strong_mcc,
    weak_mcc,
)
from neumix.metrics.matching import clustering_accuracy
from neumix.metrics.mixture_alignment import align, dist_aff_l2
from neumix.mixture_vae import MixtureVAE
from neumix.papers.identifiability.panels import component_panels
from neumix.results import Measurement
from neumix.seeding import numpy_rng
from neumix.settings import STRICT
from neumix.trained import TrainedRun, build_model

__all__ = ["DrawSensitivity", "LatentStability", "prior_mixtures"]

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Metrics = dict[str, Any]

LABELS = ("y", "component")
_SHOWN = 2000  # points kept for pictures of latent spaces


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LatentStability:
    """MCC and, on request, the affine L2 distance over all pairs of a run's fits.

    The metrics that are compared with the paper hold one jackknife pseudo-value for each fit: their mean is the mean
    over pairs, and their spread allows for pairs that share a fit. Those ending in `_pairs` hold every pair, those
    ending in `_within` the mean absolute correlation between the coordinates of one fit's codes: where it is near 1 a
    code says one thing only, and strong MCC is large whatever else.

    References:
        Identifiability, Appendix J.1, Tables 2 and 3.

    Arguments:
        split: whose points are encoded.
        dist: whether to compare the learned priors by dist_AffL2.
        bootstrap: resamples of the fits for an interval of the mean over pairs.
        panels: samples for each component and reconstructions kept for pictures of the first fit; 0 for none.
    """

    split: str = "train"
    dist: bool = False
    bootstrap: Annotated[int, Setting(gt=0)] = 2000
    panels: Annotated[int, Setting(ge=0)] = 0

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run of at least three fits."""
        model = trained.model()
        points = _points(trained, self.split)
        x = points["x"]
        codes = _codes(model, x)
        metrics = self._mcc("mcc", codes) | self._reference_points(trained, x)
        fits = len(codes)
        metrics |= {"n_pairs": [fits * (fits - 1) // 2], "n_ordered_pairs": [fits * (fits - 1)]}
        arrays: dict[str, Any] = {}
        if isinstance(model, MixtureVAE):
            metrics |= _clusters(_assigned(model, codes), _labels(points))
            if self.dist:
                metrics |= self._distances(model)
            if self.panels:
                arrays |= component_panels(model, x, self.panels)
        if codes.shape[-1] == 2:
            arrays["codes"] = codes[:, :_SHOWN].astype(np.float32)
            arrays["labels"] = _labels(points)[:, :_SHOWN]
        return Measurement(metrics, arrays)

    def _mcc(self, name: str, codes: Array) -> Metrics:
        metrics: Metrics = {}
        for kind, score in {"strong": strong_mcc, "weak": weak_mcc}.items():
            metrics |= self._over_pairs(f"{name}_{kind}", pairwise(score, codes))
        return metrics | {f"{name}_within": [_coordinate_correlation(fit) for fit in codes]}

    def _over_pairs(self, name: str, matrix: Array, *, ordered: bool = False) -> Metrics:
        pairs = ordered_pair_values(matrix) if ordered else pair_values(matrix)
        interval = bootstrap_interval(matrix, numpy_rng(0, "bootstrap", name), draws=self.bootstrap)
        return {name: jackknife(matrix), f"{name}_pairs": pairs, f"{name}_bootstrap": interval}

    def _reference_points(self, trained: TrainedRun, x: torch.Tensor) -> Metrics:
        """Return the MCC of untrained networks, and of the snapshots of the last stage."""
        untrained = build_model(trained.run, trained.dataset)
        metrics = self._mcc("untrained_mcc", _codes(untrained, x))
        name, stage = list(trained.run.stages.items())[-1]
        for epoch in stage.snapshots:
            metrics |= self._mcc(f"epoch_{epoch}_mcc", _codes(trained.model(f"{name}@{epoch}"), x))
        return metrics

    def _distances(self, model: MixtureVAE) -> Metrics:
        mixtures = prior_mixtures(model)
        found = np.full((2, len(mixtures), len(mixtures)), np.nan)
        for i, j in zip(*np.nonzero(~np.eye(len(mixtures), dtype=bool)), strict=True):
            means, refined = align(mixtures[i], mixtures[j])
            found[:, i, j] = means.distance, refined.distance
        return {
            **self._over_pairs("dist_aff_l2", found[0], ordered=True),
            **self._over_pairs("dist_aff_l2_refined", found[1], ordered=True),
        }


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DrawSensitivity:
    """Mean over pairs of MCC and dist_AffL2 for every draw of a dataset, each with its own fits.

    References:
        Identifiability, Table 2, whose datasets are random draws.
    """

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run whose data have `fits_per_draw`."""
        fits = trained.data.fits_per_draw
        if fits is None or fits < 3 or trained.run.seeds % fits:
            raise ValueError(
                f"{trained.run.id}: data.fits_per_draw must be 3 or more and divide the {trained.run.seeds} seeds, to "
                f"tell the draws apart; found {fits}"
            )
        model = trained.model()
        points = _points(trained, "train")
        codes = _codes(model, points["x"])
        mixtures = prior_mixtures(model)
        metrics: dict[str, list[float]] = {}
        for start in range(0, len(codes), fits):
            group, priors = codes[start : start + fits], mixtures[start : start + fits]
            found = {
                "mcc_strong": pair_values(pairwise(strong_mcc, group)),
                "mcc_weak": pair_values(pairwise(weak_mcc, group)),
                "dist_aff_l2": ordered_pair_values(pairwise(dist_aff_l2, priors, symmetric=False)),
            }
            for name, values in found.items():
                metrics.setdefault(name, []).append(float(values.mean()))
                metrics.setdefault(f"{name}_sd", []).append(float(values.std(ddof=1)))
        metrics["clustering_accuracy"] = _accuracy(_assigned(model, codes), _labels(points))
        return Measurement(metrics, {})


def prior_mixtures(model: MixtureVAE) -> list[GaussianMixture]:
    """Return the learned prior of each fit, of one facet."""
    weights = model.prior.log_weights.double().softmax(-1)[:, 0].numpy()
    means = model.prior.means.double()[:, 0].numpy()
    variances = model.prior.log_variances.double().exp()[:, 0].numpy()
    covariances = variances[..., None] * np.eye(means.shape[-1])
    return [GaussianMixture(*parts) for parts in zip(weights, means, covariances, strict=True)]


def _coordinate_correlation(codes: Array) -> float:
    """Return the mean absolute correlation between different coordinates of codes (N, D); 0 for a single one."""
    dimension = codes.shape[1]
    if dimension == 1:
        return 0.0
    correlations = np.atleast_2d(np.corrcoef(codes.T))
    return float(np.abs(correlations[np.triu_indices(dimension, 1)]).mean())


def _points(trained: TrainedRun, split: str) -> dict[str, torch.Tensor]:
    """Return the fields of a split as each fit sees them, (S, N, ...)."""
    return DeviceSplit(trained.dataset[split], trained.run.seeds, torch.device("cpu")).points()


def _codes(model: Any, x: torch.Tensor) -> Array:
    codes: Array = model.codes(x).double().numpy()
    return codes


def _labels(points: Mapping[str, torch.Tensor]) -> Integers:
    """Return the classes of points, (S, N)."""
    (name,) = [name for name in LABELS if name in points]
    labels: Integers = points[name].numpy()
    return labels


def _clusters(assigned: Integers, labels: Integers) -> Metrics:
    """Return the clustering accuracy in percent, and how many components are used at all."""
    return {
        "clustering_accuracy": _accuracy(assigned, labels),
        "n_components_used": [len(np.unique(fit)) for fit in assigned],
    }


def _accuracy(assigned: Integers, labels: Integers) -> list[float]:
    return [100 * float(clustering_accuracy(*fit)) for fit in zip(assigned, labels, strict=True)]


def _assigned(model: MixtureVAE, codes: Array) -> Integers:
    """Return the most probable component of the first facet, (S, N)."""
    responsibilities = model.prior.responsibilities(torch.from_numpy(codes).float())
    assigned: Integers = responsibilities[:, :, 0].argmax(-1).numpy()
    return assigned
