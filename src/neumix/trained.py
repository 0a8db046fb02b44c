"""From a run's settings to its dataset and model, before training and after."""

import dataclasses
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from neumix.data.dataset import Dataset
from neumix.models.base import BatchedModel
from neumix.run import Run, Training, module_name
from neumix.settings import parse
from neumix.training import Phase, generators

__all__ = ["TrainedRun", "build_model", "data_settings", "load_dataset", "phases"]


def data_settings(run: Training) -> Any:
    """Return the run's `Config` of its dataset module."""
    module = importlib.import_module(module_name("data", run.data.name))
    return parse(module.Config, dict(run.data.settings), f"{run.id}: data")


def load_dataset(run: Training, root: Path) -> Dataset:
    """Load or draw the data of a run's seeds.

    Arguments:
        run: the run.
        root: folder of the raw data.
    """
    module = importlib.import_module(module_name("data", run.data.name))
    dataset: Dataset = module.load(root, data_settings(run), range(run.seeds))
    return dataset


def build_model(run: Training, dataset: Dataset) -> BatchedModel:
    """Return the run's model with its initial weights."""
    module = importlib.import_module(module_name("models", run.model.name))
    config = parse(module.Config, dict(run.model.settings), f"{run.id}: model")
    model: BatchedModel = module.Model(config, dataset.shapes, generators(range(run.seeds), "init"))
    return model


def phases(run: Training) -> Sequence[Phase]:
    """Return the run's stages with the losses of its model."""
    module = importlib.import_module(module_name("models", run.model.name))
    return [
        Phase(name, stage, parse(module.Loss, dict(stage.loss), f"{run.id}: stages.{name}.loss"))
        for name, stage in run.stages.items()
    ]


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A trained run, as a paper's measures see it.

    Arguments:
        run: its settings.
        dataset: its data.
        weights: by `stage/parameter`.
    """

    run: Run
    dataset: Dataset
    weights: Mapping[str, Tensor]

    @property
    def data(self) -> Any:
        """Settings of the dataset module."""
        return data_settings(self.run)

    def model(self, stage: str | None = None) -> Any:
        """Return the model as it was at the end of a stage, by default the last one, or at a snapshot, `stage@epoch`.

        The result is of the run's own model class, which the caller knows.
        """
        name = stage or list(self.run.stages)[-1]
        model = build_model(self.run, self.dataset)
        prefix = f"{name}/"
        model.load_state_dict({k.removeprefix(prefix): v for k, v in self.weights.items() if k.startswith(prefix)})
        return model.eval()
