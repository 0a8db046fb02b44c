"""Another dataset with its training labels in random order, so that they tell nothing about the points."""

import importlib
from collections.abc import Sequence
from pathlib import Path

from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.run import module_name
from neumix.seeding import numpy_rng
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the control.

    Arguments:
        source: dataset module that has splits `train` and `test` with fields `x` and `y`.
    """

    source: str


def sources(config: Config) -> tuple[str, ...]:
    """Return the dataset that the points come from."""
    return (config.source,)


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Load the source; the order of the training labels is the same for all seeds, as the labels themselves are."""
    module = importlib.import_module(module_name("data", config.source))
    origin: Dataset = module.load(root, module.Config(), seeds)
    labels = origin["train"]["y"].values
    shuffled = labels[numpy_rng(0, "shuffled labels").permutation(len(labels))]
    train = Split({"x": origin["train"]["x"], "y": Field(shuffled)})
    return Dataset({"train": train, "test": origin["test"]}, f"{origin.label}, labels shuffled")
