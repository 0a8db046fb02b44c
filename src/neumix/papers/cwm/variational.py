"""How well a model fitted by reverse KL has caught a posterior in the plane."""

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.targets import target
from neumix.trained import TrainedRun
from neumix.training import generators

__all__ = ["VariationalFit"]

_SHOWN = 0  # the seed whose density is drawn: the first one, chosen before any was trained
_REACH = 4.5  # half the side of the square that is drawn


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VariationalFit:
    r"""Both divergences between a fitted model q and its target p, in nats.

    `reverse_kl` is $E_q[\log q - \log p]$ over the model's samples, `forward_kl` is $E_p[\log p - \log q]$ over exact
    samples of the target, which a missed mode makes large; `effective_share` is the effective number of importance
    samples, as a share of all.

    References:
        CWM, Sec III-B.2.

    Arguments:
        model_samples: drawn from the model.
        grid: points along each side of the square on which densities are drawn.
    """

    model_samples: Annotated[int, Setting(gt=1)] = 20_000
    grid: Annotated[int, Setting(gt=1)] = 150

    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on `plane_targets`."""
        model, seeds = trained.model(), range(trained.run.seeds)
        log_target = target(trained.data.target).log_prob
        drawn = model.sample(self.model_samples, generators(seeds, "model samples"))
        log_ratio = (log_target(drawn) - model.log_prob_of(drawn)).double()  # (S, N)
        test = trained.dataset["test"]
        log_prob = model.log_prob_of(torch.from_numpy(test["x"].values)).double().numpy()
        log_weights = log_ratio.log_softmax(1)
        metrics = {
            "reverse_kl": -log_ratio.mean(1).numpy(),
            "forward_kl": (test["log_density"].values - log_prob).mean(1),
            "effective_share": (1 / (2 * log_weights).exp().sum(1)).numpy() / self.model_samples,
            "n_parameters": [model.n_parameters],
        }
        axis = torch.linspace(-_REACH, _REACH, self.grid)
        points = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(1, -1, 2)
        arrays: dict[str, NDArray[np.float32]] = {
            "axis": axis.numpy(),
            "density": self._on_grid(model.log_prob_of(points.expand(len(seeds), -1, -1))[_SHOWN]),
            "target_density": self._on_grid(log_target(points[0])),
        }
        return Measurement(metrics, arrays)

    def _on_grid(self, log_density: torch.Tensor) -> NDArray[np.float32]:
        density: NDArray[np.float32] = log_density.exp().reshape(self.grid, self.grid).numpy()
        return density
