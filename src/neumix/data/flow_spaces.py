"""A dataset seen through a trained flow: the spaces between the flow's latent and the data, from easy to true."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.run import Named, module_name
from neumix.settings import STRICT, parse

__all__ = ["Config", "extend", "load", "needs", "sources"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Which data, and through which flow they are seen.

    References:
        CPMM, Sec 3.3, Eq. (8).

    Arguments:
        base: dataset module of the data, and its settings.
        teacher: run whose flow makes the spaces, `experiment/run`; its measure stores them in the array `spaces`.
    """

    base: Named
    teacher: str


def needs(config: Config) -> tuple[str, ...]:
    """Return the runs whose measured arrays the training data are made from, `experiment/run`."""
    return (config.teacher,)


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that these data are made from, under their names in the catalogue."""
    module, settings = _base(config)
    return (config.base.name.replace("_", "-"), *module.sources(settings))


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Load the data themselves; measures need no more."""
    module, settings = _base(config)
    dataset: Dataset = module.load(root, settings, seeds)
    return dataset


def extend(dataset: Dataset, config: Config, arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> Dataset:
    """Return the dataset with a split `spaces`, whose field `path` (T, ...) holds a training point in every space.

    Arguments:
        dataset: as loaded.
        config: settings.
        arrays: of the runs that `needs` names; `spaces` is (N, T, ...), the latent first and the data last.

    Raises:
        ValueError: the measure stored no spaces, or the flow was trained on other points.
    """
    found, x = arrays[config.teacher], dataset["train"]["x"].values
    if "spaces" not in found:
        raise ValueError(
            f"the measure of {config.teacher} stores no array 'spaces', only {', '.join(sorted(found))}: name a run "
            f"whose measure does"
        )
    spaces = found["spaces"]
    if spaces.shape[:1] + spaces.shape[2:] != x.shape:
        raise ValueError(
            f"the spaces of {config.teacher} have points of shape {spaces.shape[2:]}, {len(spaces)} of them; the data "
            f"here have shape {x.shape[1:]}, {len(x)}: give both runs the same data settings"
        )
    if not np.allclose(spaces[:, -1], x, rtol=2e-3, atol=2e-3):  # they may be stored in half precision
        raise ValueError(
            f"the last space of {config.teacher} is not the data of this run: give both the same data settings"
        )
    return Dataset({**dataset.splits, "spaces": Split({"path": Field(spaces)})}, dataset.label)


def _base(config: Config) -> tuple[Any, Any]:
    module = importlib.import_module(module_name("data", config.base.name))
    return module, parse(module.Config, dict(config.base.settings), f"data '{config.base.name}'")
