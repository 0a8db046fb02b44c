"""Grey images as densities on the whole real line see them: dequantised, scaled to (0, 1), then logit."""

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.data.pixels import block_mean
from neumix.run import module_name
from neumix.seeding import numpy_rng
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]

Count = Annotated[int, Setting(gt=0)]
Source = Literal["mnist", "fashion_mnist", "digits", "patches"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    r"""Which images, and how they are prepared.

    A level q becomes $x = \mathrm{logit}(a + (1 - 2a) y)$ with $y = (q + u) / L$ and u uniform on [0, 1).

    References:
        CPMM, Sec 5.2, Appendix B; Dinh et al. (2017), Sec 4.1.

    Arguments:
        source: dataset module that has splits `train` and `test` with fields `x`, (H, W) in [0, 1], and `y`.
        train: so many first images of the training split; None stands for all.
        test: so many first images of the test split; None stands for all.
        shrink: side of the blocks of pixels that are averaged into one, and rounded to a level.
        levels: number L of grey values.
        squeeze: the constant a, which keeps the logit finite.
        other: dataset whose test images are a third split, `other`, of as many images as `test`; or none.
    """

    source: Source
    train: Count | None = None
    test: Count | None = None
    shrink: Literal[1, 2] = 1
    levels: Annotated[int, Setting(ge=2, le=256)] = 256
    squeeze: Annotated[float, Setting(gt=0, lt=0.5)] = 1e-6
    other: Source | None = None


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that the images come from, under their names in the catalogue."""
    return tuple(name.replace("_", "-") for name in (config.source, config.other) if name)


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    r"""Prepare the images, the same for all seeds; splits `train`, `test` and, if asked for, `other`.

    Fields: `x`, (H, W, 1), the logit; `levels`, (H, W, 1), the grey values 0 to L - 1; `log_volume`, a number with
    which a log-density in nats becomes bits per dimension, $(-\log p(x) + v) / (D \log 2)$, where
    $v = \sum_m \log y'_m (1 - y'_m) - D \log(1 - 2a) + D \log L$; `y`, the label.

    Arguments:
        root: folder of the raw data.
        config: settings.
        seeds: not used.

    Raises:
        DataError: a file is missing or damaged.
        ValueError: more images are asked for than there are.
    """
    published = _published(config.source, root, seeds)
    splits = {
        name: _prepared(published[name], count, config, f"{config.source} {name}", f"{name} of {published.label}")
        for name, count in (("train", config.train), ("test", config.test))
    }
    if config.other is not None:
        other = _published(config.other, root, seeds)
        size = min(len(splits["test"]), len(other["test"]))
        name = f"{config.other} test"
        splits["other"] = _prepared(other["test"], size, config, name, f"test of {other.label}")
    return Dataset(splits, published.label)


def _published(name: str, root: Path, seeds: Sequence[int]) -> Dataset:
    module = importlib.import_module(module_name("data", name))
    dataset: Dataset = module.load(root, module.Config(), seeds)
    return dataset


def _prepared(published: Split, count: int | None, config: Config, purpose: str, label: str) -> Split:
    if count is not None and count > len(published):
        raise ValueError(f"{count} images of split {label} are asked for, but it has {len(published)}")
    levels = _levels(published["x"].values[:count], config)
    x, log_volume = _logit(levels, config, numpy_rng(0, "dequantisation", purpose))
    labels = Field(published["y"].values[: len(levels)])
    return Split({"x": Field(x), "levels": Field(levels), "log_volume": Field(log_volume), "y": labels})


def _levels(images: NDArray[np.generic], config: Config) -> NDArray[np.uint8]:
    """Return grey values (N, H, W, 1) of images in [0, 1]."""
    grey = block_mean(images, config.shrink)
    return np.rint(grey * (config.levels - 1)).astype(np.uint8)[..., None]


def _logit(
    levels: NDArray[np.uint8], config: Config, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the logits of dequantised levels, and what turns log-densities into bits per dimension, (N,)."""
    x = np.empty(levels.shape, np.float32)
    log_volume = np.empty(len(levels))
    constant = levels[0].size * (math.log(config.levels) - math.log1p(-2 * config.squeeze))
    for row, level in enumerate(levels):  # image by image: a draw does not depend on how many others there are
        y = (level + rng.random(level.shape)) / config.levels
        y = config.squeeze + (1 - 2 * config.squeeze) * y
        x[row] = np.log(y) - np.log1p(-y)
        log_volume[row] = (np.log(y) + np.log1p(-y)).sum() + constant
    return x, log_volume
