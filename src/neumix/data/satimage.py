"""Satimage: 3x3 neighbourhoods of satellite pixels in four bands (36 values, 0 to 255), six kinds of soil."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.data.raw import damaged, integers, read_rows
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]

LABEL = "Satimage"
FEATURES = 36
CODES = ("1", "2", "3", "4", "5", "7")
"""Codes of the classes in the files; code 6 (mixtures) has no rows."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Satimage has no settings."""


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that this one is made from: none."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Load both tables as published, the same for all seeds; features are unscaled, classes are 0 to 5.

    Arguments:
        root: folder of the raw data.
        config: settings.
        seeds: not used.

    Raises:
        DataError: a file is missing or a row is bad.

    References:
        Michie, Spiegelhalter and Taylor (1994), Machine learning, neural and statistical classification.
    """
    folder = root / "satimage"
    return Dataset(
        {"train": _load_split(folder / "sat.trn", 4435), "test": _load_split(folder / "sat.tst", 2000)}, LABEL
    )


def _load_split(path: Path, rows: int) -> Split:
    features, labels = [], []
    for place, fields in read_rows(LABEL, path, None, FEATURES + 1, rows):
        if fields[-1] not in CODES:
            raise damaged(LABEL, f"{place}, last field", f"a class out of {', '.join(CODES)}", repr(fields[-1]))
        labels.append(CODES.index(fields[-1]))
        features.append(integers(LABEL, place, fields[:-1], largest=255))
    return Split({"x": Field(np.array(features, np.float32)), "y": Field(np.array(labels, np.int64))})
