"""Grey images as normalising flows see them: centred, optionally shrunk and framed in black."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.data.pixels import block_mean
from neumix.run import module_name
from neumix.settings import STRICT

__all__ = ["BLACK", "Config", "load", "sources"]

Count = Annotated[int, Setting(gt=0)]

BLACK = -0.5
"""Value of a black pixel; white is 1 more."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Which images, and how they are prepared.

    References:
        GenMM, Sec IV.B, which does not say which 10000 images it trains on.

    Arguments:
        source: dataset module that has splits `train` and `test` with fields `x`, (H, W) in [0, 1], and `y`.
        origin: published split that is trained on; the other one is held out.
        train: so many first images of that split; None stands for all.
        test: so many first images of the other split; None stands for all.
        shrink: side of the blocks of pixels that are averaged into one.
        pad: rows and columns of black pixels added on every side, after shrinking.
        other: dataset whose test images are a third split, `other`, for telling them apart from the source's; or none.
    """

    source: Literal["mnist", "fashion_mnist", "digits"]
    origin: Literal["train", "test"] = "train"
    train: Count | None = None
    test: Count | None = 10_000
    shrink: Literal[1, 2] = 1
    pad: Annotated[int, Setting(ge=0)] = 0
    other: Literal["mnist", "fashion_mnist", "digits"] | None = None


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that the images come from, under their names in the catalogue."""
    return tuple(name.replace("_", "-") for name in (config.source, config.other) if name)


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Prepare the images, the same for all seeds; splits `train`, `test` and, if asked for, `other`.

    The field `x`, (H, W, 1), holds the grey value in [0, 1] minus 0.5. A density of it is one of the grey value too,
    since a shift keeps volumes; a log density of levels from 0 to 255 is lower by log 255 for each pixel. Shrunk
    images are another quantity, whose scores compare with no others. Padded pixels are part of a point and count in
    nats per pixel; as they never vary, nothing but noise that a model adds to them bounds the density there.

    The field `y` holds the label and `index` the position in the split.

    Arguments:
        root: folder of the raw data.
        config: settings.
        seeds: not used.

    Raises:
        DataError: a file is missing or damaged.
        ValueError: more images are asked for than there are.
    """
    origin = _published(config.source, root, seeds)
    held_out = "test" if config.origin == "train" else "train"
    wanted = {"train": (config.origin, config.train), "test": (held_out, config.test)}
    for name, (published, count) in wanted.items():
        if count is not None and count > len(origin[published]):
            raise ValueError(
                f"{name} is {count}, but the split '{published}' of {origin.label} has {len(origin[published])} images"
            )
    splits = {name: _prepared(origin[published], count, config) for name, (published, count) in wanted.items()}
    if config.other is not None:
        other = _published(config.other, root, seeds)["test"]
        splits["other"] = _prepared(other, None if config.test is None else min(config.test, len(other)), config)
    return Dataset(splits, origin.label)


def _published(name: str, root: Path, seeds: Sequence[int]) -> Dataset:
    module = importlib.import_module(module_name("data", name))
    dataset: Dataset = module.load(root, module.Config(), seeds)
    return dataset


def _prepared(published: Split, count: int | None, config: Config) -> Split:
    grey = block_mean(published["x"].values[:count], config.shrink)
    size, height, width = grey.shape
    x = np.full((size, height + 2 * config.pad, width + 2 * config.pad, 1), BLACK, np.float32)
    inside = x[:, config.pad : config.pad + height, config.pad : config.pad + width, 0]
    np.add(grey, np.float32(BLACK), out=inside)
    index = np.arange(size, dtype=np.int64)
    return Split({"x": Field(x), "y": Field(published["y"].values[:count]), "index": Field(index)})
