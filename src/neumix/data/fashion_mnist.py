"""Fashion-MNIST: 28x28 grey images of clothes, 60000 for training and 10000 for testing."""

from collections.abc import Sequence
from pathlib import Path

from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset
from neumix.data.idx import load_images
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Fashion-MNIST has no settings."""


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that this one is made from: none."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Load the images as published, the same for all seeds.

    Arguments:
        root: folder of the raw data.
        config: settings.
        seeds: not used.

    Raises:
        DataError: a file is missing or damaged.

    References:
        Xiao, Rasul and Vollgraf (2017), Fashion-MNIST, arXiv:1708.07747.
    """
    return load_images("Fashion-MNIST", root / "fashion-mnist")
