"""How well a model has learned the density that an image is."""

from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.image_density import from_logit, log_densities, mean_log_density, to_logit
from neumix.density_model import DensityModel
from neumix.models.coupling_flow import Model as CouplingFlowModel
from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.trained import TrainedRun
from neumix.training import generators

__all__ = ["ImageDensity"]

Count = Annotated[int, Setting(gt=0)]
Floats = NDArray[np.float64]

_POINTS_IN_CELL = 4  # on average, of the histogram of samples
_SHOWN = 0  # the seed whose density is drawn: the first one, chosen before any was trained


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageDensity:
    """Mean log-likelihood in nats of fresh samples of an image, as a density of the unit square.

    References:
        CWM, Sec III.C, Table I, Fig 4.

    Arguments:
        curve_points: samples that score the snapshots.
        model_samples: drawn from the model, to see how many fall outside the image.
        count_masks: whether `n_parameters` counts the entries of a flow's masks, as the printed count of the NSF does.
    """

    curve_points: Count = 20_000
    model_samples: Count = 20_000
    count_masks: bool = False

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on `image_density`."""
        model, test = trained.model(), trained.dataset["test"]
        scores = _scores(model, trained, len(test))
        own = test["log_density"].values.astype(np.float64)
        image = trained.dataset["image"]["image"].values[0]
        metrics: dict[str, Any] = {
            "mean_log_likelihood": scores.mean(1),
            "standard_error": scores.std(1, ddof=1) / np.sqrt(scores.shape[1]),
            "gap_to_image": (own - scores).mean(1),
            "image_log_density": [mean_log_density(image)],
            "n_trained_values": [model.n_parameters],
            "n_parameters": [model.n_parameters + self._masks(model)],
            "share_outside": _share_outside(model, trained, self.model_samples),
        }
        *earlier, last = _places(trained)
        for place in earlier:
            metrics[f"curve_{place}"] = _scores(trained.model(place), trained, self.curve_points).mean(1)
        metrics[f"curve_{last}"] = scores[:, : self.curve_points].mean(1)
        arrays: dict[str, NDArray[Any]] = {
            "samples": _histogram(trained, image.shape),
            "density": _density(model, trained, image.shape),
            "image_density": np.exp(log_densities(image)).astype(np.float32),
        }
        return Measurement(metrics, arrays)

    def _masks(self, model: DensityModel) -> int:
        return model.n_mask_entries if self.count_masks and isinstance(model, CouplingFlowModel) else 0


def _places(trained: TrainedRun) -> list[str]:
    """Return the snapshots and stages whose score is followed, in order; the last one is the end of training."""
    stages = trained.run.stages.items()
    return [place for name, stage in stages for place in (*(f"{name}@{e}" for e in stage.snapshots), name)]


def _scores(model: DensityModel, trained: TrainedRun, points: int) -> Floats:
    """Return the log-density in the unit square at the first test points of each seed, (S, N)."""
    test = trained.dataset["test"]
    x, log_jacobian = test["x"].values[:, :points], test["log_jacobian"].values[:, :points]
    log_prob: Floats = model.log_prob_of(torch.from_numpy(x)).double().numpy()
    return np.asarray(log_prob + log_jacobian)


def _share_outside(model: DensityModel, trained: TrainedRun, size: int) -> Floats:
    """Return the share of each seed's model samples that lie outside the unit square."""
    samples = model.sample(size, generators(range(trained.run.seeds), "model samples")).double().numpy()
    u = from_logit(samples, trained.data.alpha)
    return np.asarray(((u < 0) | (u > 1)).any(-1).mean(1))


def _density(model: DensityModel, trained: TrainedRun, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return the first seed's density in the unit square at the centre of every pixel, (H, W)."""
    height, width = shape
    u = np.stack(np.meshgrid((np.arange(width) + 0.5) / width, 1 - (np.arange(height) + 0.5) / height), -1)
    x, log_jacobian = to_logit(u.reshape(-1, 2), trained.data.alpha)
    points = torch.from_numpy(x.astype(np.float32)).expand(trained.run.seeds, -1, -1)
    log_prob = model.log_prob_of(points)[_SHOWN].double().numpy()
    return np.exp(log_prob + log_jacobian).reshape(shape).astype(np.float32)


def _histogram(trained: TrainedRun, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return how many training points of the first seed fall into each cell, the first row at the top.

    Cells are pixels, or blocks of them where there would be too few points in each to see anything.
    """
    height, width = shape
    u = from_logit(trained.dataset["train"]["x"].of_seed(_SHOWN), trained.data.alpha)
    side = max(1, round(np.sqrt(_POINTS_IN_CELL * height * width / len(u))))
    edges = [np.linspace(0, 1, max(1, size // side) + 1) for size in (height, width)]
    counts, _, _ = np.histogram2d(1 - u[:, 1], u[:, 0], edges)
    return counts.astype(np.int64)
