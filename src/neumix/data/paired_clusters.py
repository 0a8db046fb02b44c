"""Pairs of points in the plane whose clusters, different in number, depend on each other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.seeding import numpy_rng
from neumix.settings import STRICT

__all__ = ["Config", "load", "mutual_information", "sources"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the draw.

    Arguments:
        table: joint probabilities of the two labels, (C_x, C_y), summing to one.
        radius: distance of the cluster centres from the origin; they are spread evenly on a circle.
        sd: standard deviation of a cluster in each direction.
        size: points for each seed.
    """

    table: tuple[tuple[float, ...], ...]
    radius: Annotated[float, Setting(gt=0)] = 3.0
    sd: Annotated[float, Setting(gt=0)] = 0.5
    size: Annotated[int, Setting(gt=0)]

    def __post_init__(self) -> None:
        if not self.table or len({len(row) for row in self.table}) != 1 or not self.table[0]:
            raise ValueError(f"table needs rows of one length, found {[len(row) for row in self.table]}")
        table = np.array(self.table)
        if not (table.min() >= 0 and abs(table.sum() - 1) <= 1e-9):
            raise ValueError(f"table needs non-negative entries that sum to 1; they sum to {table.sum()}")


def sources(config: Config) -> tuple[str, ...]:
    """Return no dataset: the points are drawn here."""
    return ()


def mutual_information(config: Config) -> float:
    """Return the mutual information of the two labels in nats, the most that two classifiers can share."""
    table = np.array(config.table)
    product = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    seen = table > 0
    return float((table[seen] * np.log(table[seen] / product[seen])).sum())


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Draw the points; fields `x` (N, 2, 2), one point of the plane for each variate, and `labels` (N, 2)."""
    draws = [_draw(config, seed) for seed in seeds]
    points, labels = (np.stack(parts) for parts in zip(*draws, strict=True))
    return Dataset({"train": Split({"x": Field(points, None, True), "labels": Field(labels, None, True)})}, "simulated")


def _draw(config: Config, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = numpy_rng(seed, "clusters")
    table = np.array(config.table)
    cells = rng.choice(table.size, config.size, p=table.ravel() / table.sum())
    labels = np.stack(np.unravel_index(cells, table.shape), -1)
    angles = 2 * np.pi * labels / np.array(table.shape)
    centres = config.radius * np.stack([np.cos(angles), np.sin(angles)], -1)
    points = centres + rng.normal(0, config.sd, centres.shape)
    return points.astype(np.float32), labels
