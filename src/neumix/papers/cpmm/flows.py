"""What is measured of continuous normalising flows, and the spaces that they teach mixtures by."""

import dataclasses
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.measured import MeasuredRun
from neumix.models.cnf import Model
from neumix.ode_flow import Dopri5, RungeKutta
from neumix.papers.cpmm.scores import bits_per_dim, density_metrics, points
from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.training import generators

__all__ = ["Flow"]

Count = Annotated[int, Setting(gt=0)]

_SAMPLES = 100


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Flow:
    """Density of a flow on images in bits per dimension or in the plane in nats, and its spaces.

    How much of it is error of the solver shows in `finer_bits` (`finer_nll`): the change with four times as many steps
    (a tenth of the tolerance), on a hundred training points and with the same probes.

    References:
        CPMM, Sec 3.3, Table 1, Table 2, Fig 2.

    Arguments:
        images: so many first points of each split are scored; None stands for all.
        spaces: number of evenly spaced spaces, latent first and data last, in which the training points of the first
            seed are kept; 0 keeps none.
        precision: of the kept points.
    """

    images: Count | None = None
    spaces: Annotated[int, Setting(ge=0)] = 51
    precision: Literal["float16", "float32"] = "float32"

    def __call__(self, trained: MeasuredRun) -> Measurement:
        """Measure a run on `logit_images` or `plane_curves`."""
        model: Model = trained.model()
        splits = trained.dataset.splits
        nats = {name: model.log_prob_of(points(split, self.images, model.n_seeds)) for name, split in splits.items()}
        x = points(splits["train"], None, model.n_seeds)
        some = x[:, :_SAMPLES]
        coarse, fine = model.log_prob(some), model.log_prob(some, solver=_finer(model.config.solver))
        metrics: dict[str, Any] = {
            "n_parameters": np.array([float(model.n_parameters)]),
            "evaluations": np.array(model.evaluations(some), dtype=float),
            "inverse_error": (model.decode(model.latent(some)) - some).abs().flatten(1).amax(1).double().numpy(),
        }
        arrays: dict[str, NDArray[Any]] = {}
        if "log_volume" in splits["train"].fields:
            bits = {name: bits_per_dim(values, splits[name]) for name, values in nats.items()}
            metrics |= density_metrics(bits)
            finer_bits = bits_per_dim(fine, splits["train"]) - bits_per_dim(coarse, splits["train"])
            metrics["finer_bits"] = finer_bits.mean(1)
            arrays |= {f"bits_{name}": values.astype(np.float32) for name, values in bits.items()}
            samples = torch.sigmoid(model.sample(_SAMPLES, generators(range(model.n_seeds), "samples"))[0, ..., 0])
            arrays["samples"] = samples.mul(255).round().to(torch.uint8).numpy()
        else:
            metrics["nll"] = -nats["train"].double().mean(1).numpy()
            metrics["finer_nll"] = (coarse - fine).double().mean(1).numpy()
        if self.spaces:
            times = torch.linspace(1, 0, self.spaces).tolist()
            kept = model.spaces(x, times)[0].numpy()
            arrays["spaces"] = kept.astype(self.precision)
            metrics["latent_mean_square"] = np.array([float(np.square(kept[:, 0].astype(np.float64)).mean())])
        return Measurement(metrics, arrays)


def _finer(solver: RungeKutta | Dopri5) -> RungeKutta | Dopri5:
    """Return a solver whose error is a fraction of another's."""
    if isinstance(solver, RungeKutta):
        return dataclasses.replace(solver, steps=4 * solver.steps)
    return dataclasses.replace(solver, tolerance=solver.tolerance / 10)  # float32 has no digits for much less
