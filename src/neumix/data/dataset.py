"""What a dataset is: named splits of named fields, optionally one draw per seed."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DataError", "Dataset", "Field", "Split"]


class DataError(ValueError):
    """Data on disk is not what it should be; the text names dataset, file, expected, found and remedy."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One quantity of every point of a split.

    Three layouts cover every dataset:

    - shared by all seeds: `values` is (N, ...);
    - drawn per seed: `values` is (S, N, ...) and `per_seed` is true;
    - drawn per seed from a shared pool: `values` is (M, ...), `rows` is (S, N, ...) with indices into it.

    Arguments:
        values: the numbers.
        rows: indices into the first axis of `values`, or none.
        per_seed: whether the first axis of `values` is the seed (without `rows`).
    """

    values: NDArray[Any]
    rows: NDArray[np.int64] | None = None
    per_seed: bool = False

    def __post_init__(self) -> None:
        if self.rows is not None and self.per_seed:
            raise ValueError("a field has rows into a shared pool, or values per seed, not both")

    def __len__(self) -> int:
        """Return the number of points N (for each seed)."""
        if self.rows is not None:
            return len(self.rows[0])
        return len(self.values[0]) if self.per_seed else len(self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one point."""
        if self.rows is not None:
            return self.rows.shape[2:] + self.values.shape[1:]
        return self.values.shape[2 if self.per_seed else 1 :]

    def of_seed(self, position: int) -> NDArray[Any]:
        """Return the points that one seed sees, (N, ...).

        Arguments:
            position: place of the seed in the run's list of seeds.
        """
        if self.rows is not None:
            points: NDArray[Any] = self.values[self.rows[position]]
        else:
            points = self.values[position] if self.per_seed else self.values
        return points


@dataclasses.dataclass(frozen=True)
class Split:
    """Fields with the same number of points."""

    fields: Mapping[str, Field]

    def __post_init__(self) -> None:
        lengths = {name: len(field) for name, field in self.fields.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"fields of a split need the same number of points, found {lengths}")

    def __len__(self) -> int:
        """Return the number of points N (for each seed)."""
        return len(next(iter(self.fields.values())))

    def __getitem__(self, name: str) -> Field:
        return self.fields[name]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Splits of one dataset.

    Arguments:
        splits: by name; `train` and `test` by convention.
        label: what a reader should call it, e.g. "MNIST".
    """

    splits: Mapping[str, Split]
    label: str

    def __getitem__(self, name: str) -> Split:
        if name not in self.splits:
            raise ValueError(f"{self.label} has no split '{name}'; it has {', '.join(self.splits)}")
        return self.splits[name]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one point of every field; a field has one shape wherever it appears."""
        return {name: field.shape for split in self.splits.values() for name, field in split.fields.items()}
