"""Digits: 1797 handwritten digits of 8x8 grey values that ship with scikit-learn, ten classes."""

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
    """Load the digits as `x`, (N, 8, 8) in [0, 1], the same for all seeds.

    Arguments:
        root: not used; the data ship with scikit-learn.
        config: settings.
        seeds: not used; the split is always the same.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return split_by_class(bunch.images / 16, bunch.target, config.test_fraction, "scikit-learn digits")
