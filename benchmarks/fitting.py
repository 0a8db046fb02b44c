"""How long the project's training loop takes."""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset
from neumix.models.base import BatchedModel
from neumix.training import Phase, fit

__all__ = ["fit_seconds"]


def fit_seconds(model: BatchedModel, dataset: Dataset, phases: Sequence[Phase], seeds: int) -> float:
    """Return seconds that a training takes, with its checkpoints in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        checkpointer = Checkpointer(Path(folder), "benchmark")
        started = time.perf_counter()
        fit(model, dataset, phases, range(seeds), checkpointer, name="benchmark", device=torch.device("cpu"))
        return time.perf_counter() - started
