"""Patches: squares cut at random from scikit-learn's two sample images, labelled by the image."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import pydantic
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.data.embedded import ImageName, TestFraction, sample_image
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Size and number of the patches.

    Arguments:
        size: side of a patch, in pixels.
        count: number of patches for training and testing together, half from each image.
        test_fraction: share of the patches, and of the images' width, that is for testing.
    """

    size: Annotated[int, pydantic.Field(ge=2, le=64)] = 8
    count: Annotated[int, pydantic.Field(ge=20, le=1_000_000)] = 4000
    test_fraction: TestFraction = 0.25


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that this one is made from: none."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Cut the grey patches `x`, (N, size, size) in [0, 1], and the image `y` they come from.

    Patches for testing come from the right part of the images, so that no pixel is in both splits.

    Arguments:
        root: not used; the images ship with scikit-learn.
        config: settings.
        seeds: not used; the patches are always the same.
    """
    images = np.stack([sample_image(name) for name in get_args(ImageName)])  # (2, 427, 640)
    border = round(images.shape[-1] * (1 - config.test_fraction))
    test_count = round(config.count * config.test_fraction)
    rng = np.random.default_rng(0)
    splits = {
        "train": _cut(images[..., :border], config.size, config.count - test_count, rng),
        "test": _cut(images[..., border:], config.size, test_count, rng),
    }
    return Dataset(splits, "image patches")


def _cut(images: np.ndarray, size: int, count: int, rng: np.random.Generator) -> Split:
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))
    image = np.arange(count) % len(images)
    row = rng.integers(windows.shape[1], size=count)
    column = rng.integers(windows.shape[2], size=count)
    return Split({"x": Field(windows[image, row, column]), "y": Field(image.astype(np.int64))})
