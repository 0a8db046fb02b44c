"""A trained run as measures see it that look beyond its weights: at its history, or at another run's network."""

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neumix.trained import TrainedRun

__all__ = ["MeasuredRun", "read_curves"]

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class MeasuredRun(TrainedRun):
    """A trained run with its history and the runs that its measure needs.

    Arguments:
        history: file with a row for each epoch, if the measure reads it.
        needs: trained runs by `experiment/run`, as the measure's setting `needs` names them.
    """

    history: Path | None = None
    needs: Mapping[str, TrainedRun] = dataclasses.field(default_factory=dict)


def read_curves(history: Path | None, column: str) -> Floats:
    """Return a quantity of every epoch and seed, (epochs, S).

    Arguments:
        history: as training writes it.
        column: `loss`, the mean over an epoch's steps, or `held_out`, after the epoch.

    Raises:
        ValueError: there is no history, or it has no such column.
    """
    if history is None:
        raise ValueError("the history of this run is not among the inputs of its measure: set `reads_history` there")
    with history.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    seeds = sum(name.removeprefix(f"{column}_").isdigit() for name in (rows[0] if rows else ()))
    if not seeds:
        raise ValueError(f"{history}: no column '{column}_0'; does the stage have a validation split?")
    return np.array([[float(row[f"{column}_{seed}"]) for seed in range(seeds)] for row in rows])
