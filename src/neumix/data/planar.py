"""What synthetic sets of points in the plane share: which seed sees which draw, and one scale."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from neumix.data.dataset import Dataset, Field, Split

__all__ = ["Draws", "planar_dataset"]

Points = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Draws:
    """Which draw a seed sees.

    Arguments:
        first: number of the first draw.
        fits: seeds that share a draw, or none for all.
    """

    first: int
    fits: int | None

    def of(self, seed: int) -> int:
        """Return the number of a seed's draw."""
        return self.first + (seed // self.fits if self.fits else 0)


def planar_dataset(draws: Draws, seeds: Sequence[int], make: Callable[[int], tuple[Points, Labels]]) -> Dataset:
    """Return split `train` with fields `x` (N, 2) and `component` (N,).

    Each draw is centred and divided by one number for both axes, so that its mean square distance from the centre is 2
    and its shape stays.

    Arguments:
        draws: which seed sees which draw.
        seeds: of the run.
        make: returns points (N, 2) and clusters (N,) of a draw.
    """
    numbers = [draws.of(seed) for seed in seeds]
    if len(set(numbers)) == 1:
        points, labels = _standardised(*make(numbers[0]))
        return Dataset({"train": Split({"x": Field(points), "component": Field(labels)})}, "simulated")
    made = {number: _standardised(*make(number)) for number in dict.fromkeys(numbers)}
    points_of_each, labels_of_each = zip(*(made[number] for number in numbers), strict=True)
    fields = {
        "x": Field(np.stack(points_of_each), None, True),
        "component": Field(np.stack(labels_of_each), None, True),
    }
    return Dataset({"train": Split(fields)}, "simulated")


def _standardised(points: Points, labels: Labels) -> tuple[NDArray[np.float32], Labels]:
    centred = points - points.mean(0)
    scale = np.sqrt(np.square(centred).sum(1).mean() / 2)
    return (centred / scale).astype(np.float32), labels.astype(np.int64)
