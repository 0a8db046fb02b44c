"""The results folder: where each file of a run, table or figure lies, and how it is read and written."""

import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from neumix.files import atomic_path, write_text
from neumix.records import read_record

__all__ = ["Measurement", "Results", "RunFiles", "RunResult", "read_metrics", "write_history", "write_measurement"]

Metrics = dict[str, list[float]]

_HISTORY = ("stage", "epoch", "step", "seconds", "learning_rate", "loss_mean")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a paper measures on a trained run.

    Arguments:
        metrics: numbers by name; one for each seed, or a single one where the seed plays no role.
        arrays: what tables and figures draw, by name.
    """

    metrics: Mapping[str, Sequence[float] | NDArray[np.float64]]
    arrays: Mapping[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """Files of one run.

    Arguments:
        root: results/<scale>.
        id: `paper/experiment/run`.
    """

    root: Path
    id: str

    @property
    def record(self) -> Path:
        """Record of the training."""
        return self.root / "runs" / self.id / "run.json"

    @property
    def history(self) -> Path:
        """Loss and held-out score for each epoch."""
        return self.root / "runs" / self.id / "history.csv"

    @property
    def metrics(self) -> Path:
        """Numbers measured after training."""
        return self.root / "runs" / self.id / "metrics.json"

    @property
    def evaluation(self) -> Path:
        """Record of the measuring."""
        return self.root / "runs" / self.id / "evaluation.json"

    @property
    def weights(self) -> Path:
        """Trained weights at the end of each stage."""
        return self.root / "weights" / f"{self.id}.safetensors"

    @property
    def arrays(self) -> Path:
        """Arrays measured after training."""
        return self.root / "arrays" / f"{self.id}.safetensors"


@dataclasses.dataclass(frozen=True)
class RunResult:
    """A run as tables and figures see it."""

    metrics: Metrics
    arrays: Mapping[str, NDArray[Any]]
    parameters: Mapping[str, Any]

    def values(self, metric: str) -> NDArray[np.float64]:
        """Return a metric's values.

        Raises:
            ValueError: there is no such metric.
        """
        if metric not in self.metrics:
            raise ValueError(f"no metric '{metric}'; there are {', '.join(sorted(self.metrics))}")
        return np.asarray(self.metrics[metric], dtype=np.float64)


class Results(Mapping[str, RunResult]):
    """Results of a paper's runs, by `experiment/run`, read when asked for.

    Arguments:
        root: results/<scale>.
        paper: slug.
        runs: `experiment/run` of the runs that may be read.
    """

    def __init__(self, root: Path, paper: str, runs: Sequence[str]) -> None:
        self.root, self.paper, self.runs = root, paper, runs

    def __getitem__(self, run: str) -> RunResult:
        if run not in self.runs:
            raise KeyError(f"'{run}' is not among the runs that the catalogue names here: {', '.join(self.runs)}")
        files = RunFiles(self.root, f"{self.paper}/{run}")
        arrays = safetensors.numpy.load_file(files.arrays)
        return RunResult(read_metrics(files.metrics), arrays, read_record(files.record)["parameters"])

    def __iter__(self) -> Any:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)


def write_measurement(measurement: Measurement, metrics: Path, arrays: Path) -> None:
    """Write a measurement's numbers and arrays.

    Raises:
        ValueError: a metric has no values or one that is not finite.
    """
    for name, values in measurement.metrics.items():
        if not len(values) or not np.isfinite(values).all():
            raise ValueError(f"metric '{name}' needs finite values, found {list(values)}; nothing was written")
    lists = {name: [float(value) for value in values] for name, values in measurement.metrics.items()}
    with atomic_path(arrays) as temporary:
        contiguous = {name: np.ascontiguousarray(array) for name, array in measurement.arrays.items()}
        safetensors.numpy.save_file(contiguous, temporary)
    write_text(metrics, json.dumps({"metrics": lists}, indent=1) + "\n")


def read_metrics(path: Path) -> Metrics:
    """Read a run's metrics.

    Raises:
        ValueError: the file is not what `write_measurement` writes.
    """
    try:
        metrics: Metrics = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a metrics file ({error!r}); delete it and run the pipeline again") from None
    return metrics


def write_history(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write the rows of a training's history as CSV; stages may have different columns, and one of 0 epochs no row."""
    columns = dict.fromkeys([*_HISTORY, *(column for row in history for column in row)])
    text = io.StringIO()
    writer = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())
