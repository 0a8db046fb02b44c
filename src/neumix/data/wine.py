"""Wine: 13 chemical measurements of 178 wines that ship with scikit-learn, three classes."""

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
    """Load the unscaled measurements as `x`, (N, 13), the same for all seeds.

    Arguments:
        root: not used; the data ship with scikit-learn.
        config: settings.
        seeds: not used; the split is always the same.
    """
    from sklearn.datasets import load_wine

    bunch = load_wine()
    return split_by_class(bunch.data, bunch.target, config.test_fraction, "scikit-learn wine")
