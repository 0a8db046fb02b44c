"""Letter recognition: 16 measurements (0 to 15) of 20000 distorted capital letters, 26 classes."""

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.data.raw import damaged, integers, read_rows
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]

LABEL = "Letter"
ROWS = 20_000
FEATURES = 16


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """How Letter is split.

    Arguments:
        train_size: so many first rows are for training, the rest for testing; by convention 16000 or 15000.
    """

    train_size: Annotated[int, pydantic.Field(gt=0, lt=ROWS)] = 16_000


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that this one is made from: none."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Load the table as published, the same for all seeds; features are unscaled.

    Arguments:
        root: folder of the raw data.
        config: settings.
        seeds: not used.

    Raises:
        DataError: the file is missing or a row is bad.

    References:
        Frey and Slate (1991), Letter recognition using Holland-style adaptive classifiers.
    """
    features, labels = [], []
    for place, fields in read_rows(LABEL, root / "letter" / "letter-recognition.data", ",", 1 + FEATURES, ROWS):
        if len(fields[0]) != 1 or fields[0] not in string.ascii_uppercase:
            raise damaged(LABEL, f"{place}, field 1", "a capital letter", repr(fields[0]))
        labels.append(string.ascii_uppercase.index(fields[0]))
        features.append(integers(LABEL, place, fields[1:], largest=15))
    x, y = np.array(features, np.float32), np.array(labels, np.int64)  # (20000, 16), (20000,)
    n = config.train_size
    splits = {
        "train": Split({"x": Field(x[:n]), "y": Field(y[:n])}),
        "test": Split({"x": Field(x[n:]), "y": Field(y[n:])}),
    }
    return Dataset(splits, LABEL)
