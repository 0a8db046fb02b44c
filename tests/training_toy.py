"""Small trainings that run in about a second, for tests that interrupt them, and models that note what they begin."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch._dynamo
from torch import Tensor

from neumix.batching import DeviceSplit
from neumix.checkpoint import Checkpointer
from neumix.data import product_mixture
from neumix.models.base import BatchedModel
from neumix.models.inclass import Config, Loss, Model
from neumix.schedule import Stage
from neumix.training import Phase, Trained, fit, generators

DATA = product_mixture.Config(
    weights=(0.4, 0.6),
    components=(
        ({"family": "normal", "mean": -1, "sd": 1}, {"family": "normal", "mean": -1, "sd": 1}),
        ({"family": "normal", "mean": 1, "sd": 1}, {"family": "normal", "mean": 1, "sd": 1}),
    ),
    size=1030,  # not a multiple of the batch size
    held_out=500,
)


def stage(**changes: object) -> Stage:
    settings = {"loss": {"name": "neg_ctc"}, "epochs": 8, "batch_size": 20, "validation": "held_out"}
    return Stage(**{**settings, **changes})


def located(split: DeviceSplit, noise: Sequence[torch.Generator]) -> Tensor:
    """Return the mean of each seed's points, moved by a little noise, (S, V)."""
    mean = split.points()["x"].mean(1)
    return mean + 0.1 * torch.stack([torch.randn(mean.shape[1:], generator=generator) for generator in noise])


class Observed(Model):
    """InClass net that notes what it is asked to begin, with a location that it fits to the points for a `neg_cmi`."""

    begun: Tensor
    centre: Tensor

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls: list[tuple[Any, ...]] = []
        self.register_buffer("begun", torch.zeros(self.n_seeds, 2))  # stages and epochs
        self.register_buffer("centre", torch.zeros(self.n_seeds, self.n_variates))

    def begin_stage(self, loss: Loss, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        super().begin_stage(loss, split, noise)
        self.calls.append((loss, split, noise, torch.is_grad_enabled()))
        self.begun[:, 0] += 1
        if loss.name == "neg_cmi":
            self.centre.copy_(located(split, noise))

    def begin_epoch(self, epoch: int) -> None:
        self.calls.append((epoch,))
        self.begun[:, 1] += 1

    def loss(self, batch: Mapping[str, Tensor], loss: Loss, noise: Sequence[torch.Generator]) -> Tensor:
        return super().loss({**batch, "x": batch["x"] - self.centre[:, None]}, loss, noise)


class Centres(BatchedModel):
    """Model without parameters that is fitted in one step."""

    centre: Tensor

    def __init__(self, config: Any, shapes: Mapping[str, Sequence[int]], noise: Sequence[torch.Generator]) -> None:
        super().__init__(len(noise))
        self.register_buffer("centre", torch.zeros(self.n_seeds, *shapes["x"]))

    def loss(self, batch: Mapping[str, Tensor], loss: Any, noise: Sequence[torch.Generator]) -> Tensor:
        raise NotImplementedError

    def begin_stage(self, loss: Any, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        self.centre.copy_(located(split, noise))


def phases() -> list[Phase]:
    return [
        Phase("first", stage(), Loss(name="neg_ctc")),
        Phase("moving", stage(epochs=4, batch_size=10), Loss(name="moving_estimate")),
        Phase("patient", stage(epochs=20, patience=2), Loss(name="neg_ctc")),
        everything(epochs=2, batch_size=50, snapshots=(1,)),
    ]


def everything(**changes: object) -> Phase:
    """A stage with all that a stage can have at once, but for patience."""
    settings = {
        "epochs": 3,
        "learning_rate": 0.01,
        "schedule": {"name": "noam", "steps": 70, "floor": 0.008},
        "weight_decay": 1e-3,
        "clip_value": 0.03,
        "clip_norm": 0.05,
        "precision": "bfloat16",
        "snapshots": (1, 2),
    }
    return Phase("everything", stage(**{**settings, **changes}), Loss(name="neg_ctc"))


def train(folder: Path, *, seconds: float = 60, epochs: int = 10, seeds=(0, 1, 2), plan=None, kind=Model) -> Trained:
    """Train a model of some kind through a plan, or take that up."""
    torch.set_num_threads(1)
    dataset = product_mixture.load(folder, DATA, seeds)
    model = kind(Config(components=2, hidden=(8, 8)), dataset.shapes, generators(seeds, "init"))
    checkpointer = Checkpointer(folder / "checkpoint", "toy", seconds=seconds, epochs=epochs)
    return fit(model, dataset, plan or phases(), seeds, checkpointer, name="toy", device=torch.device("cpu"))


def digest(trained: Trained) -> str:
    """Hash of the weights and of the history but for its times."""
    history = [{key: value for key, value in row.items() if key != "seconds"} for row in trained.history]
    return hashlib.sha256(safetensors.torch.save(dict(trained.weights)) + repr(history).encode()).hexdigest()


def run_in_child(folder: str, seconds: float) -> None:
    """Entry point of a process that may be killed: writes `started`, then `result` with digest and resumes."""
    root = Path(folder)
    (root / "started").write_text(str(time.time()))
    trained = train(root, seconds=seconds)
    (root / "result.part").write_text(f"{digest(trained)} {trained.resumes}")
    (root / "result.part").replace(root / "result")
