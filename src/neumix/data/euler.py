"""Portrait of Leonhard Euler, 197x256 pixels, whose grey values are a density in the plane."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.data.pixels import to_grey
from neumix.data.raw import damaged, read_bytes
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]

LABEL = "Euler portrait"
WIDTH, HEIGHT = 197, 256


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """The portrait has no settings."""


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that this one is made from: none."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Load the portrait's grey values in [0, 1] as `x`, (1, 256, 197), of the split `image`.

    Arguments:
        root: folder of the raw data.
        config: settings.
        seeds: not used.

    Raises:
        DataError: the file is missing or damaged.
    """
    path = root / "euler" / "euler.jpg"
    stream = io.BytesIO(read_bytes(LABEL, path))
    try:
        with PIL.Image.open(stream, formats=["JPEG"]) as image:
            if image.size != (WIDTH, HEIGHT):
                raise damaged(LABEL, path, f"{WIDTH}x{HEIGHT} pixels", f"{image.width}x{image.height}")
            rgb = np.asarray(image.convert("RGB"))  # (256, 197, 3)
    except (OSError, PIL.Image.DecompressionBombError) as error:
        raise damaged(LABEL, path, "a complete JPEG image", error) from error
    return Dataset({"image": Split({"x": Field(to_grey(rgb)[None])})}, LABEL)
