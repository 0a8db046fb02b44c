"""Wine: 13 chemical measurements of 178 wines that ship with scikit-learn, three classes."""

from collections.abc import Sequence
from pathlib import Path

from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset
from neumix.data.embedded import TestFraction, split_by_class
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """How the points are split.

    Arguments:
        test_fraction: share of each class that is for testing.
    """

    test_fraction: TestFraction = 0.25


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that this one is made from: none."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Load the unscaled measurements as `x`, (N, 13), the same for all seeds.

    Arguments:
        root: not used; the data ship with scikit-learn.
        config: settings.
        seeds: not used; the split is always the same.
    """
    from sklearn.datasets import load_wine

    bunch = load_wine()
    return split_by_class(bunch.data, bunch.target, config.test_fraction, "scikit-learn wine")
