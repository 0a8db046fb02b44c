"""A small training that runs in about a second, for tests that interrupt it."""

import hashlib
import time
from pathlib import Path

import safetensors.torch
import torch
import torch._dynamo

from neumix.checkpoint import Checkpointer
from neumix.data import product_mixture
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


def phases() -> list[Phase]:
    return [
        Phase("first", stage(), Loss(name="neg_ctc")),
        Phase("moving", stage(epochs=4, batch_size=10), Loss(name="moving_estimate")),
        Phase("patient", stage(epochs=20, patience=2), Loss(name="neg_ctc")),
    ]


def train(folder: Path, *, seconds: float = 60, epochs: int = 10, seeds=(0, 1, 2), plan=None) -> Trained:
    torch.set_num_threads(1)
    dataset = product_mixture.load(folder, DATA, seeds)
    model = Model(Config(components=2, hidden=(8, 8)), dataset.shapes, generators(seeds, "init"))
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
