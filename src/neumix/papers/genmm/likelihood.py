"""How likely images are under a mixture, while it is trained and after."""

from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass
from scipy.special import entr
from sklearn.metrics import roc_auc_score

from neumix.data.dataset import Split
from neumix.measured import MeasuredRun, read_curves
from neumix.models.genmm import Model
from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.training import generators

__all__ = ["LikelihoodCurve"]

Count = Annotated[int, Setting(gt=0)]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LikelihoodCurve:
    """Negative log-likelihood in nats per pixel, of levels from 0 to 255 and with the noise that training adds.

    References:
        GenMM, Sec IV.B, Fig 3, Table I.

    Arguments:
        images: so many first images of each split are scored after training.
    """

    reads_history: ClassVar[bool] = True

    images: Count = 1000

    def __call__(self, trained: MeasuredRun) -> Measurement:
        """Measure a run on `flow_images`."""
        model: Model = trained.model()
        train, held_out = (read_curves(trained.history, column) for column in ("loss", "held_out"))
        own = self._log_prob(model, trained.dataset["test"])
        metrics = {
            "lowest_nll": train.min(0),
            "lowest_epoch": train.argmin(0) + 1.0,
            "last_nll": train[-1],
            "lowest_held_out_nll": held_out.min(0),
            "last_held_out_nll": held_out[-1],
            "train_nll": self._nll(model, trained.dataset["train"]),
            "held_out_nll": -own.mean(1) / model.dimension + model.offset,
            "n_parameters": np.array([model.n_parameters], dtype=float),
            "latent_share": np.array([model.latent_share]),
            "effective_components": np.exp(entr(model.log_weights.exp().double().numpy()).sum(1)),
        }
        if "other" in trained.dataset.splits:
            metrics["other_auroc"] = _auroc(own, self._log_prob(model, trained.dataset["other"]))
        arrays = {"train_curve": train, "held_out_curve": held_out}
        return Measurement(metrics, arrays)

    def _nll(self, model: Model, split: Split) -> Floats:
        return np.asarray(-self._log_prob(model, split).mean(1) / model.dimension + model.offset)

    def _log_prob(self, model: Model, split: Split) -> Floats:
        """Return the log-density in nats of the first images with noise, (S, N)."""
        x = torch.from_numpy(split["x"].values[: self.images])
        (noise,) = generators([0], "scored noise")
        log_prob: Floats = model.log_prob(model.noisy(x, noise))[:, 0].double().numpy()
        return log_prob


def _auroc(own: Floats, other: Floats) -> Floats:
    """Return how well log-densities tell images apart from those of another dataset, in percent, (S,)."""
    known = np.r_[np.ones(own.shape[1]), np.zeros(other.shape[1])]
    return np.array([100 * roc_auc_score(known, np.r_[a, b]) for a, b in zip(own, other, strict=True)])
