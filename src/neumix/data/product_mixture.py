"""Points drawn from a conditional independence mixture whose components are given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.mixtures import ProductMixture, Univariate
from neumix.seeding import numpy_rng
from neumix.settings import STRICT

__all__ = ["Config", "load", "mixture", "sources"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the draw.

    Arguments:
        weights: of the components, (C,).
        components: for each component, one distribution for each variate.
        size: points to train on, for each seed.
        held_out: further points, split `held_out`.
        draw: `fresh` draws new points for each seed; `fixed` gives every seed the same ones; `bootstrap` resamples,
            with replacement, the ones that `fixed` gives.
        known_variate: a variate whose component densities the model may know; adds the field `log_density_ratio`,
            log f_v^(i) - log P_v.
    """

    weights: tuple[float, ...]
    components: tuple[tuple[Univariate, ...], ...]
    size: Annotated[int, Setting(gt=0)]
    held_out: Annotated[int, Setting(ge=0)] = 0
    draw: Literal["fresh", "fixed", "bootstrap"] = "fresh"
    known_variate: Annotated[int, Setting(ge=0)] | None = None

    def __post_init__(self) -> None:
        variates = mixture(self).n_variates
        if self.known_variate is not None and self.known_variate >= variates:
            raise ValueError(f"known_variate is {self.known_variate}, but variates are 0 to {variates - 1}")


def mixture(config: Config) -> ProductMixture:
    """Return the mixture that the points are drawn from.

    Raises:
        ValueError: weights do not sum to one, or numbers of components or variates differ.
    """
    return ProductMixture(config.weights, config.components)


def sources(config: Config) -> tuple[str, ...]:
    """Return no dataset: the points are drawn here."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Draw the points; fields `x` (N, V) and `component` (N,) in splits `train` and `held_out`."""
    splits = {"train": _split(config, "train", config.size, seeds)}
    if config.held_out:
        splits["held_out"] = _split(config, "held_out", config.held_out, seeds)
    return Dataset(splits, "simulated")


def _split(config: Config, name: str, size: int, seeds: Sequence[int]) -> Split:
    truth = mixture(config)
    if config.draw == "fresh":
        draws = [truth.sample(size, numpy_rng(seed, "points", name)) for seed in seeds]
        points, labels = (np.stack(parts) for parts in zip(*draws, strict=True))
        return Split(_fields(config, points, labels, None, per_seed=True))
    points, labels = truth.sample(size, numpy_rng(0, "points", name))
    rows = None
    if config.draw == "bootstrap":
        rows = np.stack([numpy_rng(seed, "bootstrap", name).integers(size, size=size) for seed in seeds])
    return Split(_fields(config, points, labels, rows, per_seed=False))


def _fields(
    config: Config,
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    rows: NDArray[np.int64] | None,
    *,
    per_seed: bool,
) -> dict[str, Field]:
    values: dict[str, NDArray[np.generic]] = {"x": points.astype(np.float32), "component": labels}
    if config.known_variate is not None:
        truth, t = mixture(config), points[..., config.known_variate]
        with np.errstate(divide="ignore"):
            ratio = np.log(truth.densities(config.known_variate, t)) - np.log(truth.marginal(config.known_variate, t))
        values["log_density_ratio"] = np.moveaxis(ratio, 0, -1).astype(np.float32)
    return {name: Field(value, rows, per_seed) for name, value in values.items()}
