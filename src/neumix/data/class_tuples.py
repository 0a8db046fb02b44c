"""Labelled points as tuples with one example of every class, to train one density per class at once."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.data.letter import ROWS
from neumix.run import module_name
from neumix.settings import STRICT

__all__ = ["Config", "Source", "load", "sources"]

Source = Literal["letter", "satimage", "smallnorb", "digits"]
Count = Annotated[int, Setting(gt=0)]
Floats = NDArray[np.float32]

LETTER_TRAIN_SIZE = 16_000
SHRINK = 3
"""Side of the blocks of pixels that Small NORB is averaged over."""
CLASSES: dict[Source, int] = {"letter": 26, "satimage": 6, "smallnorb": 5, "digits": 10}
VIEWS: dict[Source, tuple[int, int, int]] = {
    "letter": (1, 4, 4),
    "satimage": (1, 6, 6),
    "smallnorb": (2, 32, 32),
    "digits": (1, 8, 8),
}
"""Number, height and width of the views of a point, which lie side by side in its image."""
LARGEST: dict[Source, int] = {"letter": 15, "satimage": 255, "smallnorb": 1, "digits": 1}
"""Largest value of a feature; the smallest is 0."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Which points, and how many.

    References:
        GenMM, Sec IV.D, which gives neither the splits nor the scaling.

    Arguments:
        source: dataset module that has splits `train` and `test` with fields `x` and `y`.
        train_size: rows of Letter that are for training; the other sources are published in two parts.
        limit: at most so many training examples of a class, the first ones; None stands for all.
        test: so many first test examples; None stands for all.
    """

    source: Source
    train_size: Annotated[int, Setting(gt=0, lt=ROWS)] = LETTER_TRAIN_SIZE
    limit: Count | None = None
    test: Count | None = None

    def __post_init__(self) -> None:
        if self.source != "letter" and self.train_size != LETTER_TRAIN_SIZE:
            raise ValueError(f"train_size is {self.train_size}, but only letter has one, and source is {self.source}")


def sources(config: Config) -> tuple[str, ...]:
    """Return the dataset that the points come from."""
    return (config.source,)


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Arrange the points in tuples, the same for all seeds; splits `train`, `train_points` and `test`.

    A point is an image, (H, W, 1), with values scaled to [-0.5, 0.5]: Letter (4, 4, 1) and Satimage (6, 6, 1), both
    with the features row by row in the order of the file, digits (8, 8, 1), and Small NORB (32, 64, 1), the first
    image of the stereo pair left of the second. All classes share the scaling, so it changes no comparison of theirs.

    Split `train` has as many tuples N as the largest class has examples: `by_class` (C, H, W, 1), `present` (C,),
    which is 0 where a smaller class repeats its examples from the first on and 1 elsewhere, and `index` from 0 to
    N - 1. Split `train_points` has the examples with `present` 1, tuple by tuple, as `x` (H, W, 1) and `y`; split
    `test` has the same two fields.

    All of Small NORB takes 0.2 GB for `train` and `train_points`, which share their memory where all classes are of
    one size, 0.2 GB for `test`, and 0.65 GB while it is loaded.

    Arguments:
        root: folder of the raw data.
        config: settings.
        seeds: not used.

    Raises:
        DataError: a file is missing or damaged.
        ValueError: a class has no training example, or there are fewer test examples than asked for.
    """
    module = importlib.import_module(module_name("data", config.source))
    origin: Dataset = module.load(root, module.Config(**_origin_settings(config)), seeds)
    label, published = origin.label, dict(origin.splits)
    del origin  # so that the published training points are freed before the test points are arranged
    splits = _training_splits(published.pop("train"), config, label)
    return Dataset({**splits, "test": _test_split(published["test"], config, label)}, label)


def _origin_settings(config: Config) -> dict[str, Any]:
    if config.source == "letter":
        return {"train_size": config.train_size}
    return {"shrink": SHRINK} if config.source == "smallnorb" else {}


def _training_splits(published: Split, config: Config, label: str) -> dict[str, Split]:
    rows, present = _tuples(published["y"].values, config, label)
    size, classes = rows.shape
    views, height, width = VIEWS[config.source]
    canvas = np.empty((size, classes, height, views, width), np.float32)
    for column in range(classes):
        _place(published["x"].values[rows[:, column]], canvas[:, column], config.source)
    points = canvas.reshape(size * classes, height, views * width, 1)
    kept = np.flatnonzero(present)
    fields = {
        "by_class": Field(points.reshape(size, classes, *points.shape[1:])),
        "present": Field(present.astype(np.float32)),
        "index": Field(np.arange(size, dtype=np.int64)),
    }
    # Indexing would copy: classes of one size, as in Small NORB, leave nothing out.
    x = points if len(kept) == len(points) else points[kept]
    return {"train": Split(fields), "train_points": Split({"x": Field(x), "y": Field(kept % classes)})}


def _tuples(labels: NDArray[np.int64], config: Config, label: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the row of every example in the tuples and whether it is no repetition, both (N, C)."""
    members = [np.flatnonzero(labels == index)[: config.limit] for index in range(CLASSES[config.source])]
    sizes = np.array([len(rows) for rows in members])
    if not sizes.all():
        missing = ", ".join(map(str, np.flatnonzero(sizes == 0)))
        raise ValueError(
            f"{label} has no training example of class {missing} among {len(labels)}; "
            f"each of the classes 0 to {len(members) - 1} needs one"
        )
    largest = int(sizes.max())
    return np.stack([np.resize(rows, largest) for rows in members], -1), np.arange(largest)[:, None] < sizes


def _test_split(published: Split, config: Config, label: str) -> Split:
    if config.test is not None and config.test > len(published):
        raise ValueError(f"test is {config.test}, but the split 'test' of {label} has {len(published)} examples")
    x = published["x"].values[: config.test]
    views, height, width = VIEWS[config.source]
    canvas = np.empty((len(x), height, views, width), np.float32)
    _place(x, canvas, config.source)
    images = canvas.reshape(len(x), height, views * width, 1)
    return Split({"x": Field(images), "y": Field(published["y"].values[: config.test])})


def _place(x: Floats, canvas: Floats, source: Source) -> None:
    """Write scaled points (M, ...) to their images, (M, H, views, W)."""
    canvas[...] = x.reshape(len(x), *VIEWS[source]).swapaxes(1, 2)
    canvas /= LARGEST[source]
    canvas -= 0.5
