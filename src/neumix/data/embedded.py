"""What the datasets that ship with scikit-learn share: a stratified split, and the two sample images."""

from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.data.pixels import to_grey
from neumix.settings import STRICT

__all__ = ["ImageName", "SplitConfig", "TestFraction", "sample_image", "split_by_class"]

ImageName = Literal["china", "flower"]
TestFraction = Annotated[float, pydantic.Field(ge=0.1, le=0.5)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SplitConfig:
    """How the points are split.

    Arguments:
        test_fraction: share of each class that is for testing.
    """

    test_fraction: TestFraction = 0.25


def split_by_class(x: NDArray[np.generic], y: NDArray[np.generic], test_fraction: float, label: str) -> Dataset:
    """Split points so that each class has the same share of both parts, always in the same way.

    Arguments:
        x: points, (N, ...).
        y: classes, (N,).
        test_fraction: share of the points that is for testing.
        label: what a reader calls the dataset.
    """
    from sklearn.model_selection import train_test_split

    parts = train_test_split(np.arange(len(y)), test_size=test_fraction, stratify=y, random_state=0)
    splits = {
        name: Split({"x": Field(x[rows].astype(np.float32)), "y": Field(y[rows].astype(np.int64))})
        for name, rows in zip(("train", "test"), map(np.sort, parts), strict=True)
    }
    return Dataset(splits, label)


def sample_image(name: ImageName) -> NDArray[np.float32]:
    """Return one of scikit-learn's two sample images in grey, (427, 640) in [0, 1]."""
    from sklearn.datasets import load_sample_image

    rgb: Any = load_sample_image(f"{name}.jpg")
    return to_grey(rgb)
