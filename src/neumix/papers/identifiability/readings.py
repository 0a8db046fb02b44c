"""What both tables and figures read from the results of runs."""

import numpy as np
from numpy.typing import NDArray

from neumix.results import RunResult

__all__ = ["components", "epoch_curve", "fits", "label_of"]

Floats = NDArray[np.float64]

_MODELS = {"mfcvae": "MFCVAE", "ivae": "iVAE"}
_ACTIVATIONS = {"relu": "ReLU", "leakyrelu": "LeakyReLU"}


def label_of(run: str) -> tuple[str, str, str]:
    """Return what a reader calls model, architecture and activation of a run of Table 3.

    Arguments:
        run: `experiment/model_architecture_activation`.
    """
    model, architecture, activation = run.partition("/")[2].split("_")
    return _MODELS[model], architecture.capitalize(), _ACTIVATIONS[activation]


def fits(run: RunResult) -> int:
    """Return the number of fits of a run."""
    return int(run.parameters["seeds"])


def components(run: RunResult) -> int:
    """Return the number of components of a run's prior."""
    return int(run.parameters["model"]["settings"]["components"])


def epoch_curve(run: RunResult, metric: str) -> dict[int, Floats]:
    """Return a metric by training epoch, from the untrained network, epoch 0, to the last epoch."""
    stage = list(run.parameters["stages"].values())[-1]
    curve = {0: run.values(f"untrained_{metric}")}
    curve |= {epoch: run.values(f"epoch_{epoch}_{metric}") for epoch in stage["snapshots"]}
    return curve | {int(stage["epochs"]): run.values(metric)}
