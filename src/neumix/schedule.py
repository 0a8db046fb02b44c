"""The training schedule of a run, as plain settings that any part may read without loading torch."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from neumix.settings import STRICT

__all__ = ["Stage"]

Positive = Annotated[int, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Stage:
    """One stage of training: what is minimised, on which split, for how long.

    Arguments:
        loss: settings of the loss, read by the model's `Loss`; `name` chooses it.
        split: split of the dataset to train on.
        validation: split on which the same loss is scored after every epoch.
        epochs: passes over the split.
        batch_size: points per step and seed.
        learning_rate: step size of Adam.
        betas: decay rates of Adam's moments.
        epsilon: term that Adam adds to the denominator.
        patience: epochs without a better validation score after which a seed keeps its best weights;
            none trains to the end and keeps the last weights.
    """

    loss: Mapping[str, Any]
    epochs: Positive
    batch_size: Positive
    split: str = "train"
    validation: str | None = None
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    epsilon: Annotated[float, Field(gt=0)] = 1e-8
    patience: Positive | None = None

    def __post_init__(self) -> None:
        if self.patience is not None and self.validation is None:
            raise ValueError("'patience' needs a 'validation' split to be patient about")
