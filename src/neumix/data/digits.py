"""Digits: 1797 handwritten digits of 8x8 grey values that ship with scikit-learn, ten classes."""

from collections.abc import Sequence
from pathlib import Path

from neumix.data.dataset import Dataset
from neumix.data.embedded import SplitConfig as Config
from neumix.data.embedded import split_by_class

__all__ = ["Config", "load", "sources"]


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
