"""Random parallelograms: uniform points in randomly oriented parallelograms of the plane, with Gaussian noise."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset
from neumix.data.planar import Draws, planar_dataset
from neumix.seeding import numpy_rng
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]

Positive = Annotated[float, Setting(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the draw.

    Each parallelogram has a centre uniform in a square around the origin, a first edge of uniform direction, and a
    second edge turned from it by a uniform angle between 45 and 135 degrees; lengths are uniform.

    References:
        Identifiability, Appendix J.3.2, which gives none of these distributions.

    Arguments:
        count: number of parallelograms, all equally likely.
        half_width: of the square of centres.
        shortest, longest: lengths of an edge.
        noise_sd: standard deviation of the noise in each direction.
        size: points.
        draw: number of the draw.
        fits_per_draw: seeds that share a draw; the next seeds see the next draw. None gives all seeds the same one.
    """

    count: Annotated[int, Setting(gt=0)] = 3
    half_width: Positive = 2.0
    shortest: Positive = 1.0
    longest: Positive = 2.0
    noise_sd: Annotated[float, Setting(ge=0)] = 0.05
    size: Annotated[int, Setting(gt=1)] = 5000
    draw: int = 1
    fits_per_draw: Annotated[int, Setting(gt=0)] | None = None

    def __post_init__(self) -> None:
        if self.shortest > self.longest:
            raise ValueError(f"shortest is {self.shortest}, more than longest, {self.longest}")


def sources(config: Config) -> tuple[str, ...]:
    """Return no dataset: the points are drawn here."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Draw the points; fields `x` (N, 2), standardised, and `component` (N,)."""
    return planar_dataset(Draws(config.draw, config.fits_per_draw), seeds, lambda draw: _points(config, draw))


def _points(config: Config, draw: int) -> tuple[np.ndarray, np.ndarray]:
    rng = numpy_rng(draw, "parallelograms")
    centres = rng.uniform(-config.half_width, config.half_width, (config.count, 2))
    first = rng.uniform(0, 2 * np.pi, config.count)
    angles = np.stack([first, first + rng.uniform(np.pi / 4, 3 * np.pi / 4, config.count)], -1)
    lengths = rng.uniform(config.shortest, config.longest, (config.count, 2, 1))
    edges = lengths * np.stack([np.cos(angles), np.sin(angles)], -1)  # (count, edge, 2)
    member = rng.integers(config.count, size=config.size)
    inside = rng.uniform(-0.5, 0.5, (config.size, 1, 2))
    points = centres[member] + (inside @ edges[member])[:, 0]
    return points + config.noise_sd * rng.normal(size=points.shape), member
