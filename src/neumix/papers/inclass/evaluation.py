"""What the InClass nets paper measures on a trained run."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Split
from neumix.data.paired_clusters import mutual_information
from neumix.data.product_mixture import mixture
from neumix.metrics.matching import clustering_accuracy, match_components, total_variation
from neumix.mixtures import ProductMixture
from neumix.models.density_ratio import resample
from neumix.models.inclass import costs, extraction
from neumix.results import Measurement
from neumix.seeding import numpy_rng
from neumix.settings import STRICT
from neumix.trained import TrainedRun
from neumix.training import generators

__all__ = [
    "MEASURES",
    "Classification",
    "EquivalentFamily",
    "HeldOutCost",
    "MixtureRecovery",
    "MultiLabel",
    "TotalCorrelation",
]

Array = NDArray[np.float64]
Count = Annotated[int, Setting(gt=0)]

VARIATES = "xyz"
_CHUNK = 20_000
_EXACT_DRAWS = 2_000_000


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MixtureRecovery:
    """Weights, classifiers and densities of the learned mixture beside the true ones.

    Components are matched to the closest true ones. Densities use the exact marginals, as the paper's do.

    References:
        InClass nets, Eq. (30) to (35), Tables 2 and 3, Figs 5 to 7, 10, 13 to 15.

    Arguments:
        grid_points: points for each variate at which curves are evaluated.
        heatmap_points: points for each axis of the aggregate classifier (two variates only).
    """

    grid_points: Count = 400
    heatmap_points: Count = 120

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on a `product_mixture`."""
        learned = _Learned(trained, self.grid_points)
        truth, weights = learned.truth, learned.weights
        metrics: dict[str, Any] = {"n_parameters": [learned.model.n_parameters]}
        metrics["n_component_distributions"] = [len(truth.weights) * truth.n_variates]
        metrics["regions_per_component"] = [_regions(truth)]
        for component in range(len(truth.weights)):
            metrics[f"weight_{component + 1}"] = weights[:, component]
            metrics[f"true_weight_{component + 1}"] = [truth.weights[component]]
            for variate in range(truth.n_variates):
                name = f"pseudo_weight_{VARIATES[variate]}{component + 1}"
                metrics[name] = learned.phi[:, variate, component]
        errors = total_variation(learned.densities, learned.true_densities[None], learned.widths)
        metrics["density_error"] = errors.mean((1, 2))
        metrics["weight_error"] = np.abs(weights - np.asarray(truth.weights)).max(1)
        metrics["cost"] = learned.cost
        arrays = learned.arrays()
        if truth.n_variates == 2:
            arrays |= learned.aggregate(self.heatmap_points)
        return Measurement(metrics, arrays)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EquivalentFamily:
    r"""Which member of the two-parameter family of equivalent instances each seed has learned.

    By (A.3), $g_x^1 - g_x^2 = \gamma r (f_x^1 - f_x^2)$ and $g_y^1 - g_y^2 = (r / \gamma)(f_y^1 - f_y^2)$ with
    $r^2 = w_1 w_2 / (w_1' w_2')$; least squares gives both factors, their ratio $\gamma^2$.

    References:
        InClass nets, Appendix A.1.
    """

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on a `product_mixture` of two components and two variates."""
        recovery = MixtureRecovery()(trained)
        densities, true = recovery.arrays["densities"], recovery.arrays["true_densities"]
        learned, exact = densities[:, 0] - densities[:, 1], true[0] - true[1]
        factors = (learned * exact).sum(-1) / (exact**2).sum(-1)  # (S, V)
        gamma = np.sqrt(np.maximum(factors[:, 0], 1e-12) / np.maximum(factors[:, 1], 1e-12))
        return Measurement({**recovery.metrics, "gamma": gamma}, recovery.arrays)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HeldOutCost:
    """neg_ctc_cost on points that training has not seen.

    References:
        InClass nets, Sec 4.3.
    """

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on a `product_mixture` with held-out points."""
        model = trained.model()
        phi = _pseudo_weights(model, trained.dataset["held_out"])
        cost = _cost(model, trained.dataset["held_out"], phi)
        components = model.config.components
        return Measurement({"held_out_cost": cost, "components": [components]}, {"pseudo_weights": phi})


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TotalCorrelation:
    """Total correlation C* from a density-ratio classifier, and exactly.

    The exact value is a Monte Carlo mean of the exact log ratio over two million points; its standard error is
    reported as well.

    References:
        InClass nets, Sec 4.4, Eq. (41), (42).
    """

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on a `product_mixture` with held-out points."""
        model, seeds = trained.model(), range(trained.run.seeds)
        x = torch.from_numpy(np.stack([trained.dataset["held_out"]["x"].of_seed(seed) for seed in seeds]))
        estimate = model.log_ratio(x).double().mean(1)
        independent = model.log_ratio(resample(x, generators(seeds, "total correlation"))).double()
        bound = estimate - (independent.logsumexp(1) - math.log(x.shape[1]))
        truth = mixture(trained.data)
        points, _ = truth.sample(_EXACT_DRAWS, numpy_rng(0, "exact total correlation"))
        ratio = truth.log_density(points)
        for variate in range(truth.n_variates):
            ratio -= np.log(truth.marginal(variate, points[:, variate]))
        metrics = {
            "total_correlation": estimate.numpy(),
            "donsker_varadhan_bound": bound.numpy(),
            "exact_total_correlation": [ratio.mean()],
            "exact_standard_error": [ratio.std(ddof=1) / math.sqrt(len(ratio))],
        }
        return Measurement(metrics, {})


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Classification:
    """Accuracy and confusion matrix on single unseen images, after every stage.

    Classes were seeded with labels, so components need no matching.

    References:
        InClass nets, Sec 3.3, Figs 11 and 12.

    Arguments:
        examples: pairs kept for the figure of the data.
    """

    examples: Count = 5

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on `image_pairs`."""
        dataset = trained.dataset
        images = torch.from_numpy(np.asarray(dataset["test"]["image"].values))
        labels = np.asarray(dataset["test"]["y"].values)
        classes = trained.model().config.components
        pairs = dataset["pairs"]["x"]
        metrics: dict[str, Any] = {
            "n_parameters": [trained.model().n_parameters],
            "n_test": [len(labels)],
            "n_images_drawn": [2 * (len(dataset["pairs"]) + len(dataset["pairs_held_out"]))],
            "n_images_pool": [len(pairs.values)],
        }
        arrays: dict[str, Any] = {"examples": pairs.of_seed(0)[: self.examples].copy()}
        members = np.eye(classes)[labels]  # (N, C)
        for stage in trained.run.stages:
            model = trained.model(stage)
            seeds = trained.run.seeds
            probabilities = model.log_beta_single(images.expand(seeds, *images.shape)).exp().double().numpy()
            metrics[f"accuracy_{stage}"] = 100 * (probabilities.argmax(-1) == labels).mean(1)
            arrays[f"confusion_{stage}"] = members.T @ probabilities / members.sum(0)[:, None]
        return Measurement(metrics, arrays)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MultiLabel:
    """Accuracy of each variate's classes after optimal assignment, and the mutual information reached.

    The arrays show the seed that reached the highest mutual information, a choice that needs no labels.

    References:
        InClass nets, Sec 5.2.
    """

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on `paired_clusters`."""
        split, seeds = trained.dataset["train"], range(trained.run.seeds)
        x = torch.from_numpy(np.stack([split["x"].of_seed(seed) for seed in seeds]))
        labels = np.stack([split["labels"].of_seed(seed) for seed in seeds])
        logs = trained.model().log_beta_by_variate({"x": x})
        classes = [log.argmax(-1).numpy() for log in logs]
        metrics: dict[str, Any] = {
            f"accuracy_{VARIATES[v]}": [100 * float(clustering_accuracy(classes[v][s], labels[s, :, v])) for s in seeds]
            for v in range(2)
        }
        reached = -costs.neg_mi(logs).double().numpy()
        best = int(np.argmax(reached))
        metrics["mutual_information"] = reached
        metrics["true_mutual_information"] = [mutual_information(trained.data)]
        metrics["n_parameters"] = [trained.model().n_parameters]
        shown = slice(2000)
        arrays = {
            "points": split["x"].of_seed(best)[shown].copy(),
            "classes": np.stack([found[best] for found in classes], -1)[shown],
            "table": np.asarray(trained.data.table),
        }
        return Measurement(metrics, arrays)


class _Learned:
    """The mixture that each seed has learned, with components in the order of the true ones."""

    def __init__(self, trained: TrainedRun, grid_points: int) -> None:
        self.model = trained.model()
        self.truth: ProductMixture = mixture(trained.data)
        self.known: int | None = trained.data.known_variate
        self.grid = np.stack([self.truth.grid(v, grid_points) for v in range(self.truth.n_variates)])
        self.widths = self.grid[:, 1:2] - self.grid[:, :1]  # (V, 1)
        self.marginal = np.stack([self.truth.marginal(v, t) for v, t in enumerate(self.grid)])
        self.true_densities = np.stack([self.truth.densities(v, t) for v, t in enumerate(self.grid)], 1)  # (C, V, G)
        split = trained.dataset["train"]
        phi = _pseudo_weights(self.model, split)
        self.cost = _cost(self.model, split, phi)
        beta = _beta_at(self.model, self.truth, self.known, self.grid.T)  # (S, G, V, C)
        densities = self._densities(beta, phi)
        self.order = match_components(densities, self.true_densities, self.widths)  # (S, C)
        self.phi = np.take_along_axis(phi, self.order[:, None], -1)
        self.beta = np.take_along_axis(beta, self.order[:, None, None], -1)
        self.densities = self._densities(self.beta, self.phi)
        self.weights = extraction.mixture_weights(self.phi)

    def _densities(self, beta: Array, phi: Array) -> Array:
        """Return component densities (S, C, V, G) at the grid."""
        by_variate = [
            extraction.component_densities(beta[:, :, v], phi[:, v], self.marginal[v])
            for v in range(self.truth.n_variates)
        ]  # V x (S, C, G)
        return np.stack(by_variate, 2)

    def arrays(self) -> dict[str, Array]:
        """Return curves on the grid, learned and exact."""
        classifiers = [extraction.classifiers(self.beta[:, :, v], self.phi, v) for v in range(self.truth.n_variates)]
        weights = np.asarray(self.truth.weights)
        with np.errstate(invalid="ignore"):
            exact = weights[:, None, None] * self.true_densities / self.marginal
        return {
            "grid": self.grid,
            "marginal": self.marginal,
            "densities": self.densities,
            "true_densities": self.true_densities,
            "classifiers": np.stack(classifiers, 1).transpose(0, 3, 1, 2),  # (S, C, V, G)
            "true_classifiers": np.nan_to_num(exact),
            "weights": self.weights,
            "pseudo_weights": self.phi,
            "true_weights": weights,
        }

    def aggregate(self, points: int) -> dict[str, Array]:
        """Return the first seed's aggregate classifier on a grid over both variates, and the exact one."""
        axes = np.stack([self.truth.grid(v, points) for v in range(2)])
        beta = _beta_at(self.model, self.truth, self.known, axes.T)[0]  # (G, V, C)
        beta = np.take_along_axis(beta, self.order[0][None, None], -1)
        pairs = np.stack(
            [np.repeat(beta[:, 0], points, 0), np.tile(beta[:, 1], (points, 1))], 1
        )  # (G * G, V, C), x varies slowest
        found = extraction.aggregate_classifier(pairs, self.phi[0]).reshape(points, points, -1)
        joint = self.truth.joint(np.stack(np.meshgrid(*axes, indexing="ij"), -1))  # (C, G, G)
        total = joint.sum(0)
        exact = np.divide(joint, total, out=np.full_like(joint, np.nan), where=total > 0)
        return {"axes": axes, "aggregate": np.moveaxis(found, -1, 0), "true_aggregate": exact, "joint": joint}


def _batches(split: Split, seeds: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield all points of a split in chunks, fields (S, B, ...)."""
    names = [name for name in split.fields if name in ("x", "log_density_ratio")]
    whole = {name: [split[name].of_seed(seed) for seed in range(seeds)] for name in names}
    for start in range(0, len(split), _CHUNK):
        rows = slice(start, start + _CHUNK)
        yield {name: torch.from_numpy(np.stack([values[rows] for values in whole[name]])) for name in names}


def _pseudo_weights(model: Any, split: Split) -> Array:
    """Return pseudo weights (S, V, C) on all points of a split."""
    sums = sum(model.log_beta(batch).exp().double().sum(1) for batch in _batches(split, model.n_seeds))
    phi: Array = (sums / len(split)).numpy()
    return phi


def _cost(model: Any, split: Split, phi: Array) -> Array:
    """Return neg_ctc_cost (S,) on all points of a split; Eq. (24b) is minus the mean log of (18b) without the Q_v."""
    total = np.zeros(model.n_seeds)
    for batch in _batches(split, model.n_seeds):
        total -= np.log(extraction.joint_ratio(model.log_beta(batch).exp().double().numpy(), phi)).sum(1)
    return total / len(split)


def _beta_at(model: Any, truth: ProductMixture, known: int | None, points: Array) -> Array:
    """Return pseudo classifiers (S, G, V, C) at points (G, V)."""
    batch: dict[str, Any] = {"x": torch.from_numpy(points).float().expand(model.n_seeds, *points.shape)}
    if known is not None:
        t = points[:, known]
        with np.errstate(divide="ignore"):
            ratio = np.log(truth.densities(known, t)) - np.log(truth.marginal(known, t))
        batch["log_density_ratio"] = torch.from_numpy(ratio.T).float().expand(model.n_seeds, *ratio.T.shape)
    beta: Array = model.log_beta(batch).exp().double().numpy()
    return beta


def _regions(truth: ProductMixture, points: int = 4000) -> int:
    """Return the number of disconnected boxes of the first component's support."""
    count = 1
    for variate in range(truth.n_variates):
        positive = truth.components[0][variate].pdf(truth.grid(variate, points)) > 0
        count *= int(positive[0]) + int((positive[1:] & ~positive[:-1]).sum())
    return count


MEASURES: Mapping[str, type] = {
    "classification": Classification,
    "equivalent_family": EquivalentFamily,
    "held_out_cost": HeldOutCost,
    "mixture_recovery": MixtureRecovery,
    "multi_label": MultiLabel,
    "total_correlation": TotalCorrelation,
}
"""Measures by the name that the catalogue uses; their fields are the settings."""
