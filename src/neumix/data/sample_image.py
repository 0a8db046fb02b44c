"""Sample image: one of scikit-learn's two photographs, shrunk, whose grey values are a density in the plane."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pydantic
from pydantic.dataclasses import dataclass

from neumix.data import embedded
from neumix.data.dataset import Dataset, Field, Split
from neumix.data.pixels import block_mean
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Which image, and how small.

    Arguments:
        image: name of the photograph.
        shrink: side of the blocks of pixels that are averaged into one.
    """

    image: embedded.ImageName = "flower"
    shrink: Annotated[int, pydantic.Field(ge=1, le=64)] = 4


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that this one is made from: none."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Load the grey values in [0, 1] as `x`, (1, 427 // shrink, 640 // shrink), of the split `image`.

    Arguments:
        root: not used; the images ship with scikit-learn.
        config: settings.
        seeds: not used.
    """
    grey = block_mean(embedded.sample_image(config.image), config.shrink)
    return Dataset({"image": Split({"x": Field(grey[None])})}, f"scikit-learn {config.image}")
