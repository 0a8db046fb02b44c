"""Pinwheel: clusters along the arms of a wheel in the plane."""

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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the draw.

    A point of an arm is $(1 + r, t)$ with normal r and t, turned by the arm's angle plus rate times $e^{1 + r}$.

    References:
        Johnson et al. (2016), Composing graphical models with neural networks, whose figures it is known from.

    Arguments:
        arms: number of clusters.
        radial_sd: standard deviation of r, along the arm.
        tangential_sd: standard deviation of t, across the arm.
        rate: of the turning, in radians.
        size: points.
        draw: number of the draw.
        fits_per_draw: seeds that share a draw; the next seeds see the next draw. None gives all seeds the same one.
    """

    arms: Annotated[int, Setting(gt=0)] = 3
    radial_sd: Annotated[float, Setting(gt=0)] = 0.3
    tangential_sd: Annotated[float, Setting(gt=0)] = 0.1
    rate: float = 0.25
    size: Annotated[int, Setting(gt=1)] = 5000
    draw: int = 0
    fits_per_draw: Annotated[int, Setting(gt=0)] | None = None


def sources(config: Config) -> tuple[str, ...]:
    """Return no dataset: the points are drawn here."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Draw the points; fields `x` (N, 2), standardised, and `component` (N,)."""
    return planar_dataset(Draws(config.draw, config.fits_per_draw), seeds, lambda draw: _points(config, draw))


def _points(config: Config, draw: int) -> tuple[np.ndarray, np.ndarray]:
    rng = numpy_rng(draw, "pinwheel")
    arm = rng.integers(config.arms, size=config.size)
    radius = 1 + config.radial_sd * rng.normal(size=config.size)
    across = config.tangential_sd * rng.normal(size=config.size)
    angle = 2 * np.pi * arm / config.arms + config.rate * np.exp(radius)
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.stack([cosine * radius - sine * across, sine * radius + cosine * across], -1), arm
