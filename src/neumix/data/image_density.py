"""Samples of the density in the plane that a grey-scale image is, in logit coordinates."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.run import module_name
from neumix.seeding import numpy_rng
from neumix.settings import STRICT

__all__ = ["Config", "from_logit", "load", "log_densities", "mean_log_density", "sources", "to_logit"]

Count = Annotated[int, Setting(gt=0)]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the draw.

    References:
        Classifier weighted mixtures, Sec III.C, which names neither the image nor the numbers of points.

    Arguments:
        source: dataset module that has the split `image` with the field `x`, (1, H, W), of grey values.
        train: points to train on, for each seed.
        test: points to test on, for each seed.
        alpha: distance from 0 and from 1 that the coordinates are shrunk by before the logit, which is finite then.
    """

    source: Literal["euler", "sample_image"]
    train: Count = 200_000
    test: Count = 100_000
    alpha: Annotated[float, Setting(gt=0, lt=0.5)] = 0.01


def sources(config: Config) -> tuple[str, ...]:
    """Return the dataset that the image comes from."""
    return (config.source,)


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Draw the points; splits `train`, `test` and `image`.

    The field `x`, (2,), holds the logit coordinates. Split `test` adds `log_jacobian`, which turns a log density at
    `x` into one of the unit square, and `log_density`, the image's own in the unit square. Split `image` has one
    point, the image itself, as the field `image`, (H, W).

    Raises:
        ValueError: the image is black everywhere.
    """
    module = importlib.import_module(module_name("data", config.source))
    origin: Dataset = module.load(root, module.Config(), seeds)
    image = origin["image"]["x"].values[0]
    splits = {
        "train": Split({"x": _draws(image, config, "train", config.train, seeds)["x"]}),
        "test": Split(_draws(image, config, "test", config.test, seeds)),
        "image": Split({"image": Field(image[None])}),
    }
    return Dataset(splits, origin.label)


def log_densities(image: ArrayLike) -> Floats:
    """Return the log density in the unit square at every pixel, (H, W), minus infinity where it is black.

    Arguments:
        image: grey values, (H, W).

    Raises:
        ValueError: the image is not a matrix of finite non-negative numbers, or is black everywhere.
    """
    with np.errstate(divide="ignore"):
        log_density: Floats = np.log(_densities(image))
    return log_density


def mean_log_density(image: ArrayLike) -> float:
    """Return the mean of the image's own log density in the unit square, in nats, which no model can exceed.

    Arguments:
        image: grey values, (H, W).

    Raises:
        ValueError: the image is not a matrix of finite non-negative numbers, or is black everywhere.
    """
    density = _densities(image)
    positive = density[density > 0]
    return float((positive * np.log(positive)).sum() / density.size)


def to_logit(u: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    r"""Return logit coordinates, (..., D), and $\log |\det \partial x / \partial u|$, (...).

    $$ x = \log \frac{s}{1 - s}, \quad s = \alpha + (1 - 2 \alpha) u $$

    A log density at x plus the second result is the log density at u.

    Arguments:
        u: points in the unit cube, (..., D).
        alpha: distance that s keeps from 0 and 1.

    Raises:
        ValueError: a coordinate has no finite logit.
    """
    s = alpha + (1 - 2 * alpha) * np.asarray(u, dtype=np.float64)
    if not np.all((s > 0) & (s < 1)):
        raise ValueError(f"u needs to be in the unit cube to have a logit with alpha {alpha}, but is not everywhere")
    log_s, log_rest = np.log(s), np.log1p(-s)
    return log_s - log_rest, (np.log1p(-2 * alpha) - log_s - log_rest).sum(-1)


def from_logit(x: ArrayLike, alpha: float) -> Floats:
    """Return the points whose logit coordinates are `x`, (..., D); they lie outside the unit cube for large `x`.

    Arguments:
        x: logit coordinates, (..., D).
        alpha: as in `to_logit`.
    """
    s = 0.5 + 0.5 * np.tanh(np.asarray(x, dtype=np.float64) / 2)
    points: Floats = (s - alpha) / (1 - 2 * alpha)
    return points


def _draws(image: NDArray[np.float32], config: Config, name: str, size: int, seeds: Sequence[int]) -> dict[str, Field]:
    rngs = [numpy_rng(seed, "image density", name) for seed in seeds]
    draws = [_points(image, config.alpha, size, rng) for rng in rngs]
    return {key: Field(np.stack([draw[key] for draw in draws]), per_seed=True) for key in draws[0]}


def _points(
    image: NDArray[np.float32], alpha: float, size: int, rng: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    density = _densities(image).ravel()
    pixels = rng.choice(len(density), size, p=density / density.sum())
    row, column = np.divmod(pixels, image.shape[1])
    right, down = rng.random((2, size))
    u = np.stack([(column + right) / image.shape[1], 1 - (row + down) / image.shape[0]], -1)  # (size, 2)
    x, log_jacobian = to_logit(u, alpha)
    numbers = {"x": x, "log_jacobian": log_jacobian, "log_density": np.log(density[pixels])}
    return {key: values.astype(np.float32) for key, values in numbers.items()}


def _densities(image: ArrayLike) -> Floats:
    """Return the density in the unit square at every pixel, (H, W)."""
    grey = np.asarray(image, dtype=np.float64)
    if grey.ndim != 2 or not np.all(np.isfinite(grey)) or np.any(grey < 0):
        raise ValueError(f"image needs to be a matrix of finite non-negative grey values, found shape {grey.shape}")
    if not np.any(grey):
        raise ValueError("image is black everywhere, so it is no density; some grey value needs to be above 0")
    density: Floats = grey / grey.mean()
    return density
