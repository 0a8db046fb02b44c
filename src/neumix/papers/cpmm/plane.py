"""What is measured of mixtures of points in the plane: components, samples, clusters."""

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass
from scipy.spatial import cKDTree

from neumix.hierarchical_mixture import HierarchicalMixture
from neumix.measured import MeasuredRun
from neumix.metrics.matching import clustering_accuracy
from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.training import generators

__all__ = ["Plane"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Plane:
    """Components along their trajectories, samples and their clusters.

    References:
        CPMM, Sec 5.1, Fig 1, Fig 3.

    Arguments:
        samples: that are drawn, and points that are kept for the figure.
    """

    samples: Annotated[int, Setting(gt=0)] = 2000

    def __call__(self, trained: MeasuredRun) -> Measurement:
        """Measure a run on `plane_curves`, or on `flow_spaces` of them."""
        model: HierarchicalMixture = trained.model()
        mixtures = model.mixtures()
        split = trained.dataset["train"]
        x = torch.from_numpy(split["x"].values).expand(model.n_seeds, -1, -1)
        truth = split["component"].values
        predicted = model.cluster_responsibilities(x).argmax(2).numpy()
        covariances = mixtures.factors @ mixtures.factors.mT + torch.diag_embed(mixtures.log_variances.exp())
        samples, clusters = model.sample(self.samples, generators(range(model.n_seeds), "samples"))
        metrics = {
            "nll": -mixtures.log_prob(x).mean(1).double().numpy(),
            "clustering_accuracy": 100 * clustering_accuracy(predicted, truth),
            "n_parameters": np.array([float(model.n_parameters)]),
            "far_share": _far_share(samples.numpy(), split["x"].values),
        }
        arrays = {
            "points": split["x"].values[: self.samples],
            "labels": truth[: self.samples],
            "samples": samples[0].numpy(),
            "clusters": clusters[0].numpy(),
            "means": torch.unflatten(mixtures.means[0], 0, (model.structure.clusters, -1)).numpy(),
            "covariances": torch.unflatten(covariances[0], 0, (model.structure.clusters, -1)).numpy(),
        }
        return Measurement(metrics, arrays)


def _far_share(samples: Floats, data: Floats) -> Floats:
    """Return the share of samples that are farther from every point than nearly all points are from others, (S,)."""
    tree = cKDTree(data)
    usual = np.quantile(tree.query(data, 2)[0][:, 1], 0.999)
    return np.array([(tree.query(rows)[0] > usual).mean() for rows in samples])
