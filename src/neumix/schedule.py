"""The training schedule of a run, as plain settings that any part may read without loading torch."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from neumix.settings import STRICT

__all__ = ["Noam", "Precision", "Stage", "StepDecay", "Warmup"]

Positive = Annotated[int, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Limit = Annotated[float, Field(gt=0)]

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StepDecay:
    """Learning rate multiplied by a factor after every so many epochs.

    Arguments:
        every: epochs between two reductions.
        factor: of each reduction.
    """

    name: Literal["step"]
    every: Positive
    factor: Annotated[float, Field(gt=0, le=1)]

    def rate(self, base: float, epoch: int, step: int) -> float:
        """Return the learning rate at an epoch and a step of the stage, both from 0."""
        return base * self.factor ** (epoch // self.every)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Warmup:
    """Learning rate that grows linearly over the first steps and then stays.

    Arguments:
        steps: until the full rate.
    """

    name: Literal["warmup"]
    steps: Positive

    def rate(self, base: float, epoch: int, step: int) -> float:
        """Return the learning rate at an epoch and a step of the stage, both from 0."""
        return base * min(1.0, (step + 1) / self.steps)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Noam:
    """Learning rate that grows linearly, then falls with the inverse square root of the step.

    References:
        Vaswani et al. (2017), Attention is all you need, Eq. (3), scaled so that its peak is the stage's rate.

    Arguments:
        steps: until the full rate.
        floor: least rate after the growth.
    """

    name: Literal["noam"]
    steps: Positive
    floor: Annotated[float, Field(ge=0)] = 0.0

    def rate(self, base: float, epoch: int, step: int) -> float:
        """Return the learning rate at an epoch and a step of the stage, both from 0."""
        grown = (step + 1) / self.steps
        return base * grown if grown < 1 else max(self.floor, base * grown**-0.5)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Stage:
    """One stage of training: what is minimised, on which split, for how long.

    Arguments:
        loss: settings of the loss, read by the model's `Loss`; `name` chooses it.
        split: split of the dataset to train on.
        validation: split on which the same loss is scored after every epoch.
        epochs: passes over the split; 0 for a model that fits itself when the stage begins.
        batch_size: points per step and seed.
        learning_rate: step size of Adam.
        schedule: how the learning rate changes within the stage; none keeps it.
        betas: decay rates of Adam's moments.
        epsilon: term that Adam adds to the denominator.
        weight_decay: L2 term that Adam adds to the gradient.
        clip_value: largest magnitude of a gradient's entry; larger ones are cut.
        clip_norm: largest L2 norm of a seed's gradient, after `clip_value`; a longer one is shortened.
        precision: of matrix products; parameters, optimiser and reductions stay float32.
        patience: epochs without a better validation score after which a seed keeps its best weights;
            none trains to the end and keeps the last weights.
        snapshots: epochs after which the weights are kept as well, under `stage@epoch`.
    """

    loss: Mapping[str, Any]
    epochs: Annotated[int, Field(ge=0)]
    batch_size: Positive
    split: str = "train"
    validation: str | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    schedule: Annotated[StepDecay | Warmup | Noam, Field(discriminator="name")] | None = None
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip_value: Limit | None = None
    clip_norm: Limit | None = None
    precision: Precision = "float32"
    patience: Positive | None = None
    snapshots: tuple[Positive, ...] = ()

    def __post_init__(self) -> None:
        if self.patience is not None and self.validation is None:
            raise ValueError("'patience' needs a 'validation' split to be patient about")
        late = [epoch for epoch in self.snapshots if epoch > self.epochs]
        if late:
            raise ValueError(f"'snapshots' asks for epoch {late[0]}, but the stage has {self.epochs} epochs")

    def rate(self, epoch: int, step: int) -> float:
        """Return the learning rate at an epoch and a step of the stage, both from 0."""
        return self.learning_rate if self.schedule is None else self.schedule.rate(self.learning_rate, epoch, step)
