"""The one training loop: seeds together, deterministic from (seed, epoch), resumable at any step."""

import contextlib
import dataclasses
import logging
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from neumix.batching import DeviceSplit
from neumix.checkpoint import Checkpoint, Checkpointer
from neumix.data.dataset import Dataset
from neumix.early_stopping import EarlyStopping
from neumix.models.base import BatchedModel
from neumix.optimization import clip_gradients, make_optimizer, set_learning_rate
from neumix.schedule import Stage
from neumix.seeding import derive

__all__ = [
    "REQUEUE",
    "Interrupted",
    "NonFiniteLossError",
    "Phase",
    "Trained",
    "fit",
    "generators",
    "resolve_device",
]

log = logging.getLogger(__name__)

REQUEUE = 75
"""Exit code after a signal, `EX_TEMPFAIL`: run the job again and it goes on where it was."""

_CHECK_EVERY = 50  # steps between checks for a non-finite loss: on a GPU each one waits for the device
_SCORE_BATCH = 10_000

Row = dict[str, float | int | str]


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or NaN; nothing was written from it."""


class Interrupted(SystemExit):
    """A signal asked for the end; the checkpoint is written. Exits with `REQUEUE`."""

    def __init__(self) -> None:
        super().__init__(REQUEUE)


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stage of training with its name and its loss parsed by the model's module."""

    name: str
    stage: Stage
    loss: Any


@dataclasses.dataclass(frozen=True)
class Trained:
    """Result of a training.

    Arguments:
        weights: state of the model at the end of each stage, by `stage/parameter`, and at its snapshots, by
            `stage@epoch/parameter`.
        history: one row for each epoch.
        resumes: how often the training was taken up from a checkpoint.
    """

    weights: Mapping[str, Tensor]
    history: Sequence[Row]
    resumes: int


def resolve_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`.

    Raises:
        ValueError: CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but torch sees no GPU; use device: auto, or check the driver")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def generators(seeds: Sequence[int], *purpose: str | int) -> list[torch.Generator]:
    """Return one CPU generator for each seed, for one purpose."""
    return [torch.Generator().manual_seed(derive(seed, *purpose)) for seed in seeds]


def fit(
    model: BatchedModel,
    dataset: Dataset,
    phases: Sequence[Phase],
    seeds: Sequence[int],
    checkpointer: Checkpointer,
    *,
    name: str,
    device: torch.device,
) -> Trained:
    """Train all seeds of a model through its stages, from the checkpoint if there is one.

    Arguments:
        model: copies for `seeds`, on the CPU; moved to `device`.
        dataset: splits that the stages name.
        phases: stages in order.
        seeds: decide shuffling and noise.
        checkpointer: keeps the progress; cleared by the caller once the results are safe.
        name: of the run, for errors and progress.
        device: where to train.

    Raises:
        NonFiniteLossError: names run, stage, epoch, step, seed and the last checkpoint.
        Interrupted: after SIGTERM, SIGINT or SIGUSR1, with the checkpoint written.
    """
    loop = _Loop(model.to(device), dataset, phases, seeds, checkpointer, name, device)
    with _signals() as received:
        return loop.run(received)


class _Loop:
    """The loop's state; everything in it is either derived from the arguments or in the checkpoint."""

    def __init__(
        self,
        model: BatchedModel,
        dataset: Dataset,
        phases: Sequence[Phase],
        seeds: Sequence[int],
        checkpointer: Checkpointer,
        name: str,
        device: torch.device,
    ) -> None:
        self.model, self.phases, self.seeds = model, phases, seeds
        self.checkpointer, self.name, self.device = checkpointer, name, device
        used = {split for phase in phases for split in (phase.stage.split, phase.stage.validation) if split}
        self.splits = {split: DeviceSplit(dataset[split], len(seeds), device) for split in used}
        self.position = 0  # index of the stage
        self.epoch = 0
        self.step = 0
        self.seconds = 0.0
        self.resumes = 0
        self.history: list[Row] = []
        self.finished: dict[str, Tensor] = {}
        self.loss_sum = torch.zeros(len(seeds), dtype=torch.float64, device=device)
        self.best: EarlyStopping | None = None
        self.noise: list[torch.Generator] = []
        self.optimizer: torch.optim.Adam

    def run(self, received: list[int]) -> Trained:
        resumed = self._restore()
        started = time.monotonic() - self.seconds
        while self.position < len(self.phases):
            phase = self.phases[self.position]
            if not resumed:
                self._begin(phase)
            resumed = False
            epochs = phase.stage.epochs
            with tqdm(total=epochs, initial=self.epoch, desc=f"{self.name} {phase.name}", disable=None) as bar:
                while self.epoch < epochs and not (self.best and self.best.exhausted):
                    self._run_epoch(phase, received, started)
                    bar.update()
            self._finish(phase)
        return Trained(self.finished, self.history, self.resumes)

    def _begin(self, phase: Phase) -> None:
        with torch.no_grad():
            self.model.begin_stage(
                phase.loss, self.splits[phase.stage.split], generators(self.seeds, "begin", phase.name)
            )
        self._make_optimizer(phase.stage)
        self.best = EarlyStopping.of(phase.stage, self.model)
        if phase.stage.epochs:
            self._begin_epoch(phase)

    def _make_optimizer(self, stage: Stage) -> None:
        if stage.epochs:  # a model that fits itself may have no parameters, which Adam refuses
            self.optimizer = make_optimizer(self.model.parameters(), stage)

    def _begin_epoch(self, phase: Phase) -> None:
        self.model.begin_epoch(self.epoch)
        self.step = 0
        self.loss_sum.zero_()
        self.noise = generators(self.seeds, "noise", phase.name, self.epoch)

    def _run_epoch(self, phase: Phase, received: list[int], started: float) -> None:
        stage, split = phase.stage, self.splits[phase.stage.split]
        steps = math.ceil(len(split) / stage.batch_size)
        orders = [
            torch.randperm(len(split), generator=g) for g in generators(self.seeds, "shuffle", phase.name, self.epoch)
        ]
        pending: list[Tensor] = []
        for batch in split.batches(torch.stack(orders), stage.batch_size, self.step):
            losses = self._loss(phase, batch, self.noise)
            self.optimizer.zero_grad()
            losses.sum().backward()  # type: ignore[no-untyped-call]
            clip_gradients(self.model.parameters(), len(self.seeds), stage.clip_value, stage.clip_norm)
            set_learning_rate(self.optimizer, stage.rate(self.epoch, self.epoch * steps + self.step))
            self.optimizer.step()
            self.step += 1
            pending.append(losses.detach())
            stop = bool(received)
            if stop or len(pending) == _CHECK_EVERY or self.step == steps or self.checkpointer.due():
                self._account(phase, pending)
                saved = self._save(started) if stop or (self.step < steps and self.checkpointer.due()) else False
                if stop:
                    log.warning("%s: ended by signal %d, %s", self.name, received[0], _kept(self.checkpointer, saved))
                    raise Interrupted
        self._end_epoch(phase, steps, started)

    def _loss(self, phase: Phase, batch: Mapping[str, Tensor], noise: Sequence[torch.Generator]) -> Tensor:
        """Return the loss of each seed, (S,), with matrix products in the stage's precision."""
        if phase.stage.precision == "float32":
            return self.model.loss(batch, phase.loss, noise)
        with torch.autocast(self.device.type, getattr(torch, phase.stage.precision)):
            return self.model.loss(batch, phase.loss, noise).float()

    def _account(self, phase: Phase, pending: list[Tensor]) -> None:
        """Add the pending losses to the epoch's sum, unless one of them is not finite."""
        losses = torch.stack(pending).double()
        pending.clear()
        if not torch.isfinite(losses).all():
            first, seed = (~torch.isfinite(losses)).nonzero()[0].tolist()
            step = self.step - len(losses) + first + 1
            raise NonFiniteLossError(
                f"{self.name}: loss is {losses[first, seed].item()} in stage '{phase.name}', "
                f"epoch {self.epoch + 1}, step {step}, seed {self.seeds[seed]}; nothing was written; "
                f"{_kept(self.checkpointer)}; try a smaller learning_rate or check the data"
            )
        # One by one, so that where the checks fall does not change the rounding of the sum.
        for row in losses:
            self.loss_sum += row

    def _end_epoch(self, phase: Phase, steps: int, started: float) -> None:
        loss = self.loss_sum / steps
        held_out = self._score(phase) if phase.stage.validation else None
        if self.best is not None and held_out is not None:
            self.best.update(held_out, self.model)
        self.seconds = time.monotonic() - started
        rate = phase.stage.rate(self.epoch, (self.epoch + 1) * steps - 1)
        place: Row = {"stage": phase.name, "epoch": self.epoch + 1, "step": self.step}
        self.history.append(_row({**place, "seconds": round(self.seconds, 3), "learning_rate": rate}, loss, held_out))
        self.epoch += 1
        log.info(
            "%s: %s, epoch %d of %d, mean loss %.6g, %.1f s",
            self.name,
            phase.name,
            self.epoch,
            phase.stage.epochs,
            loss.mean().item(),
            self.seconds,
        )
        if self.epoch in phase.stage.snapshots:
            self._keep(f"{phase.name}@{self.epoch}")
        if self.epoch < phase.stage.epochs:
            self._begin_epoch(phase)
            if self.checkpointer.due(epoch_ended=True):
                self._save(started)

    @torch.no_grad()
    def _score(self, phase: Phase) -> Tensor:
        split = self.splits[phase.stage.validation or ""]
        order = torch.arange(len(split)).expand(len(self.seeds), -1)
        noise = generators(self.seeds, "score", phase.name)
        size = min(_SCORE_BATCH, len(split))
        total = torch.zeros_like(self.loss_sum)
        for start, batch in enumerate(split.batches(order, size, 0)):
            points = min(size, len(split) - start * size)
            total += points * self._loss(phase, batch, noise)
        return total / len(split)

    def _finish(self, phase: Phase) -> None:
        if self.best is not None:
            self.best.restore(self.model)
        self._keep(phase.name)
        self.position += 1
        self.epoch = 0

    def _keep(self, name: str) -> None:
        for key, tensor in self.model.state_dict().items():
            self.finished[f"{name}/{key}"] = tensor.detach().cpu().clone()

    def _save(self, started: float) -> bool:
        """Write a checkpoint; return whether that succeeded."""
        self.seconds = time.monotonic() - started
        tensors = {f"model/{key}": value for key, value in self.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{key}": value for key, value in state.items()}
        tensors |= {f"noise/{index}": generator.get_state() for index, generator in enumerate(self.noise)}
        tensors |= {f"finished/{key}": value for key, value in self.finished.items()}
        best = {f"best/{key}": value for key, value in self.best.tensors().items()} if self.best else {}
        tensors |= {"loss_sum": self.loss_sum, **best}
        state = {key: getattr(self, key) for key in ("position", "epoch", "step", "seconds", "resumes", "history")}
        return self.checkpointer.save(Checkpoint(tensors, state))

    def _restore(self) -> bool:
        checkpoint = self.checkpointer.load()
        if checkpoint is None:
            return False
        for key, value in checkpoint.state.items():
            setattr(self, key, value)
        self.resumes += 1
        stage = self.phases[self.position].stage
        self.model.load_state_dict(_below(checkpoint.tensors, "model/"))
        self._make_optimizer(stage)
        self._restore_optimizer(_below(checkpoint.tensors, "optimizer/"))
        self.noise = [torch.Generator() for _ in self.seeds]
        for index, generator in enumerate(self.noise):
            generator.set_state(checkpoint.tensors[f"noise/{index}"])
        self.finished = _below(checkpoint.tensors, "finished/")
        self.loss_sum.copy_(checkpoint.tensors["loss_sum"])
        self.best = EarlyStopping.of(stage, self.model)
        if self.best is not None:
            self.best.load(_below(checkpoint.tensors, "best/"))
        log.info(
            "%s: resumed at stage %d, epoch %d, step %d",
            self.name,
            self.position + 1,
            self.epoch + 1,
            self.step,
        )
        return True

    def _restore_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        state = self.optimizer.state_dict()
        for key, tensor in tensors.items():
            index, _, name = key.partition("/")
            state["state"].setdefault(int(index), {})[name] = tensor
        self.optimizer.load_state_dict(state)


def _row(place: Row, loss: Tensor, held_out: Tensor | None) -> Row:
    row = {**place, "loss_mean": loss.mean().item()}
    row |= {f"loss_{index}": value for index, value in enumerate(loss.tolist())}
    if held_out is not None:
        row |= {f"held_out_{index}": value for index, value in enumerate(held_out.tolist())}
    return row


def _kept(checkpointer: Checkpointer, saved: bool = False) -> str:
    """Return what is left of the progress, for a message."""
    if not checkpointer.newest.exists():
        return "there is no checkpoint yet"
    return f"the {'new' if saved else 'last'} checkpoint is {checkpointer.newest}"


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that ask for the end, instead of dying of them."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)

    watched = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, handle) for number in watched}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
