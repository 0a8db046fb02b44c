"""Points along curves in the plane: broken circles, a spiral with outliers, and crescents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset
from neumix.data.planar import Draws, planar_dataset
from neumix.seeding import numpy_rng
from neumix.settings import STRICT

__all__ = ["Config", "load", "sources"]

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the draw; the numbers are ours, the shapes those of the paper.

    `circles`: two concentric circles whose radii differ by a tenth, each broken by two gaps. `spiral`: five arms from
    near the origin outwards, and outliers between them. `crescents`: three arcs around the origin.

    References:
        CPMM, Sec 5.1, Fig 1 and 3.

    Arguments:
        shape: what is drawn.
        noise: standard deviation across the curve, in units of the outer radius.
        outliers: share of the spiral's points that lie anywhere between the arms.
        size: points.
        draw: number of the draw.
    """

    shape: Literal["circles", "spiral", "crescents"]
    noise: Annotated[float, Setting(gt=0)] = 0.015
    outliers: Annotated[float, Setting(ge=0, lt=1)] = 0.05
    size: Annotated[int, Setting(gt=1)] = 5000
    draw: int = 0


def sources(config: Config) -> tuple[str, ...]:
    """Return no dataset: the points are drawn here."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Draw the points; fields `x` (N, 2), standardised, and `component` (N,), where outliers are a cluster too."""
    shapes = {"circles": _circles, "spiral": _spiral, "crescents": _crescents}

    def make(draw: int) -> tuple[Floats, Labels]:
        rng = numpy_rng(draw, "plane curves", config.shape)
        points, labels = shapes[config.shape](config, rng)
        return points + config.noise * rng.normal(size=points.shape), labels

    return planar_dataset(Draws(config.draw, None), seeds, make)


def _polar(radius: Floats, angle: Floats) -> Floats:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


def _circles(config: Config, rng: np.random.Generator) -> tuple[Floats, Labels]:
    label = rng.integers(2, size=config.size)
    half = rng.integers(2, size=config.size)
    along = rng.uniform(0.1, 0.9, config.size)  # of half a circle: a tenth is missing at each end
    turned = np.where(label == 1, 0.0, np.pi / 2)  # the gaps of the two circles lie at different places
    return _polar(np.where(label == 1, 1.0, 1 / 1.1), np.pi * (half + along) + turned), label


def _spiral(config: Config, rng: np.random.Generator) -> tuple[Floats, Labels]:
    arm = rng.integers(5, size=config.size)
    along = rng.uniform(0.15, 1, config.size)
    points = _polar(along, 2 * np.pi * arm / 5 + 2.5 * along)
    outlier = rng.random(config.size) < config.outliers
    anywhere = _polar(np.sqrt(rng.uniform(0, 1, config.size)), rng.uniform(0, 2 * np.pi, config.size))
    return np.where(outlier[:, None], anywhere, points), np.where(outlier, 5, arm)


def _crescents(config: Config, rng: np.random.Generator) -> tuple[Floats, Labels]:
    label = rng.integers(3, size=config.size)
    along = rng.uniform(-1, 1, config.size)
    angle = 2 * np.pi * label / 3
    bend = _polar(np.full(config.size, 0.6), 0.75 * np.pi * along)
    turn = np.stack([np.cos(angle), np.sin(angle)], 1)
    centre = 0.4 * turn
    across = np.stack([-turn[:, 1], turn[:, 0]], 1)
    return centre + bend[:, :1] * turn + bend[:, 1:] * across, label
