"""Exact samples of a posterior in the plane, whose density variational inference is to approximate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.seeding import numpy_rng
from neumix.settings import STRICT
from neumix.targets import TargetName, target

__all__ = ["Config", "load", "sources"]

Count = Annotated[int, Setting(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the draw.

    Arguments:
        target: the posterior.
        train: points for each seed; a variational fit looks at their number alone, which decides its number of steps.
        test: points to judge the fit by, for each seed.
    """

    target: TargetName
    train: Count
    test: Count = 20_000


def sources(config: Config) -> tuple[str, ...]:
    """Return no dataset: the points are drawn here."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Draw the points; splits `train` and `test` with the field `x` (N, 2), and `log_density` (N,) in `test`."""
    train = _points(config, "train", config.train, seeds)
    test = _points(config, "test", config.test, seeds)
    log_density = _log_density(config, test)
    splits = {
        "train": Split({"x": Field(train, per_seed=True)}),
        "test": Split({"x": Field(test, per_seed=True), "log_density": Field(log_density, per_seed=True)}),
    }
    return Dataset(splits, "simulated")


def _points(config: Config, split: str, size: int, seeds: Sequence[int]) -> NDArray[np.float32]:
    draws = [target(config.target).sample(size, numpy_rng(seed, "plane target", split)) for seed in seeds]
    return np.stack(draws).astype(np.float32)


def _log_density(config: Config, points: NDArray[np.float32]) -> NDArray[np.float32]:
    import torch  # settings are read without it

    log_density = target(config.target).log_prob(torch.from_numpy(points).double())
    return log_density.float().numpy()
