"""What is measured of models of images: bits per dimension, clusters, outliers, trajectories, missing pixels."""

import dataclasses
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass
from torch.nn.functional import logsigmoid

from neumix.accumulation import chunked
from neumix.factor_analyzers import FactorAnalyzers
from neumix.hierarchical_mixture import HierarchicalMixture
from neumix.measured import MeasuredRun
from neumix.metrics.gaussian_distances import leading_directions, pairwise_frechet, spectral_groups
from neumix.metrics.matching import clustering_accuracy
from neumix.mixture_vae import MixtureVAE
from neumix.papers.cpmm.integration import Integration
from neumix.papers.cpmm.scores import bits_per_dim, density_metrics, labels, points
from neumix.results import Measurement
from neumix.settings import STRICT

__all__ = ["Circuit", "Clusters", "Mixture"]

Count = Annotated[int, Setting(gt=0)]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_DIRECTIONS = 100  # in which components are compared: exact distances in all 784 would take hours
_FILLED = 10


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Circuit:
    """Bits per dimension of a circuit, of densities or of grey values, and how it tells outliers.

    References:
        CPMM, Table 1.

    Arguments:
        images: so many first images of each split; None stands for all.
        needs: the run whose number of trained values this one's is compared with, `experiment/run`, if any.
    """

    images: Count | None = None
    needs: tuple[str, ...] = ()

    def __call__(self, trained: MeasuredRun) -> Measurement:
        """Measure a run on `logit_images`."""
        model: Any = trained.model()
        field = model.config.field
        bits = {
            name: bits_per_dim(
                model.log_prob(points(split, self.images, trained.run.seeds, field)), split, levels=field == "levels"
            )
            for name, split in trained.dataset.splits.items()
        }
        metrics = density_metrics(bits) | {"n_parameters": np.array([float(model.n_parameters)])}
        for name in self.needs:
            metrics["parameter_ratio"] = metrics["n_parameters"] / trained.needs[name].model().n_parameters
        return Measurement(metrics, {f"bits_{name}": values.astype(np.float32) for name, values in bits.items()})


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mixture:
    """What the components of a trained mixture say; a differential equation behind them is solved once and dropped.

    References:
        CPMM, Sec 5.2, Table 1, Table 2, Fig 4, Fig 5, Sec 6.

    Arguments:
        images: so many first images of each split; None stands for all.
        groups: clusters that components are joined to by spectral clustering on their Frechet distances; None keeps the
            model's own.
        integration: how the limit of infinitely many components is measured as well, if at all.
    """

    images: Count | None = None
    groups: Count | None = None
    integration: Integration | None = None

    def __call__(self, trained: MeasuredRun) -> Measurement:
        """Measure a run on `logit_images`, or on `flow_spaces` of them."""
        model: HierarchicalMixture = trained.model()
        mixtures = model.mixtures()
        reader = _Reader(model, mixtures, self.images)
        joints = {name: reader.log_joint(split) for name, split in trained.dataset.splits.items()}
        splits = trained.dataset.splits
        bits = {name: bits_per_dim(joint.logsumexp(2), splits[name]) for name, joint in joints.items()}
        groups = self._groups(mixtures, model)
        predicted = reader.clusters(joints["test"], groups)  # (S, N)
        truth = labels(splits["test"], self.images)
        best = joints["test"].argmax(2).numpy()
        usage = np.stack([np.bincount(row, minlength=mixtures.means.shape[1]) for row in best])  # (S, K)
        metrics: dict[str, Any] = density_metrics(bits) | {
            "clustering_accuracy": 100 * clustering_accuracy(predicted, truth),
            "n_parameters": np.array([float(model.n_parameters)]),
            "n_extracted": np.array([float(model.n_extracted)]),
            "n_components": np.array([float(mixtures.means.shape[1])]),
            "used_components": (usage > 0).sum(1).astype(float),
        }
        metrics |= reader.first_components(joints["test"], splits["test"], bits["test"], best)
        arrays: dict[str, NDArray[Any]] = {f"bits_{name}": values.astype(np.float32) for name, values in bits.items()}
        arrays |= {
            "means": reader.grey(mixtures.means[0]),
            "usage": usage[0].reshape(model.structure.clusters, -1),
            "groups": groups[0],
            "confusion": _confusion(predicted[0], truth),
        }
        filled, missing_bits = reader.fill(splits["test"])
        metrics |= {"missing_bits_per_dim": missing_bits} | (self.integration(trained) if self.integration else {})
        return Measurement(metrics, arrays | filled)

    def _groups(self, mixtures: FactorAnalyzers, model: HierarchicalMixture) -> Integers:
        """Return the cluster of every component, (S, K)."""
        structure = model.structure
        if self.groups is None:
            own = np.repeat(np.arange(structure.clusters), structure.components)
            return np.tile(own, (model.n_seeds, 1))
        return np.stack([_joined(mixtures, seed, self.groups) for seed in range(model.n_seeds)])


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Clusters:
    """Clustering accuracy of an autoencoder whose codes have a mixture as their prior.

    References:
        CPMM, Table 1 (which quotes VaDE's).
    """

    def __call__(self, trained: MeasuredRun) -> Measurement:
        """Measure a run of a mixture of one facet on images with classes."""
        model: MixtureVAE = trained.model()
        split = trained.dataset["test"]
        predicted = model.responsibilities(points(split, None, trained.run.seeds))[:, :, 0].argmax(2).numpy()
        accuracy = 100 * clustering_accuracy(predicted, labels(split, None))
        return Measurement({"clustering_accuracy": accuracy}, {})


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads a mixture's components on images."""

    model: HierarchicalMixture
    mixtures: FactorAnalyzers
    images: int | None

    def log_joint(self, split: Any) -> torch.Tensor:
        """Return log-joints of components and images, (S, N, K)."""
        x = points(split, self.images, self.model.n_seeds).flatten(2)
        return chunked(self.mixtures.log_joint, x, self.model.chunk)

    def clusters(self, joint: torch.Tensor, groups: Integers) -> Integers:
        """Return the most likely cluster of every image, (S, N)."""
        posterior = joint.softmax(2)
        membership = torch.nn.functional.one_hot(torch.from_numpy(groups)).to(posterior)  # (S, K, clusters)
        return np.asarray((posterior @ membership).argmax(2).numpy(), dtype=np.int64)

    def first_components(
        self, joint: torch.Tensor, split: Any, bits: Floats, best: Integers
    ) -> dict[str, NDArray[np.float64]]:
        """Return how often a cluster's first component is the most likely one, and what leaving them out changes."""
        count = self.model.structure.components
        if count == 1:
            return {}
        later = np.arange(joint.shape[2]) % count != 0
        share = (best % count == 0).mean(1)
        kept = joint[..., torch.from_numpy(later)]
        log_mass = self.mixtures.log_weights[:, torch.from_numpy(later)].logsumexp(1)  # their weights, made to sum to 1
        without = bits_per_dim(kept.logsumexp(2) - log_mass[:, None], split)
        return {"first_component_share": share, "bits_without_first": (without - bits).mean(1)}

    def grey(self, logits: torch.Tensor) -> NDArray[np.uint8]:
        """Return points (..., M) as grey values (..., H, W)."""
        levels = torch.sigmoid(logits).mul(255).round().to(torch.uint8)
        return np.asarray(levels.reshape(*logits.shape[:-1], *self.model.shape[:2]).numpy())

    def fill(self, split: Any) -> tuple[dict[str, NDArray[Any]], Floats]:
        """Return images with their lower half filled in by its conditional mean, and its bits per dimension, (S,)."""
        x = points(split, self.images, self.model.n_seeds).flatten(2)
        half = self.model.dimension // 2 // self.model.shape[1] * self.model.shape[1]
        known, missing = torch.arange(half), torch.arange(half, self.model.dimension)
        some = x[:, :_FILLED]
        filled = some.clone()
        filled[:, :, missing] = self.mixtures.conditional(known, some[:, :, known], missing).mean()
        marginal = self.mixtures.marginal(known)

        def nats_given(rows: torch.Tensor) -> torch.Tensor:
            return marginal.log_prob(rows[:, :, known]) - self.mixtures.log_prob(rows)

        nats = chunked(nats_given, x, self.model.chunk)
        volume = logsigmoid(x.double()) + logsigmoid(-x.double())
        constant = torch.from_numpy(split["log_volume"].values[: x.shape[1]]) - volume.sum(2)  # equal for all pixels
        nats = nats + volume[:, :, missing].sum(2) + constant * (len(missing) / self.model.dimension)
        arrays: dict[str, NDArray[Any]] = {"originals": self.grey(some[0]), "filled": self.grey(filled[0])}
        return arrays, nats.mean(1).numpy() / (len(missing) * np.log(2))


def _confusion(predicted: Integers, truth: Integers) -> NDArray[np.int64]:
    """Return how many images of each class are in each cluster, (classes, clusters)."""
    table = np.zeros((truth.max() + 1, predicted.max() + 1), dtype=np.int64)
    np.add.at(table, (truth, predicted), 1)
    return table


def _joined(mixtures: FactorAnalyzers, seed: int, groups: int) -> Integers:
    """Return the group of each component of a seed, (K,)."""
    parts = (mixtures.log_weights.exp(), mixtures.means, mixtures.factors, mixtures.log_variances.exp())
    weights, means, factors, variances = (part[seed].double().numpy() for part in parts)
    directions = leading_directions(weights, means, factors, variances, min(_DIRECTIONS, means.shape[1]))
    low_rank = np.einsum("kmr,mp->kpr", factors, directions)
    covariances = low_rank @ low_rank.transpose(0, 2, 1) + np.einsum(
        "mp,km,mq->kpq", directions, variances, directions, optimize=True
    )
    return spectral_groups(pairwise_frechet(means @ directions, covariances), groups, seed)
