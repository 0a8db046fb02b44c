"""Pairs of images of the same class, and the labelled images that seed and judge a classifier of them."""

import importlib
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

__all__ = ["Config", "load", "sources"]

Count = Annotated[int, Setting(gt=0)]
Fraction = Annotated[float, Setting(gt=0, lt=1)]
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the draw.

    References:
        InClass nets, Sec 3.3.

    Arguments:
        source: dataset module that has splits `train` and `test` with fields `x` and `y`.
        pairs: pairs drawn for each seed: a class, uniformly, then two of its images with replacement.
        held_out: fraction of the pairs, and of the clean labelled images, kept for validation.
        seeding_images: images with a noisy label.
        label_accuracy: probability that a noisy label is the true one; otherwise it is one of the others, uniformly.
    """

    source: str
    pairs: Annotated[int, Setting(gt=1)]
    held_out: Fraction = 0.1
    seeding_images: Count = 2000
    label_accuracy: Annotated[float, Setting(gt=0, le=1)] = 0.6


def sources(config: Config) -> tuple[str, ...]:
    """Return the dataset that the images come from."""
    return (config.source,)


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Draw the pairs; splits `pairs`, `pairs_held_out`, `seeding`, `hybrid`, `clean`, `clean_held_out` and `test`.

    A pair is the field `x`, (2, H, W); a labelled image the fields `image`, (H, W), and `y`. A point of `hybrid`
    is a pair together with a labelled image of the seeding set.
    """
    module = importlib.import_module(f"neumix.data.{config.source.replace('-', '_')}")
    origin = module.load(root, module.Config(), seeds)
    images, labels = origin["train"]["x"].values, origin["train"]["y"].values
    draws = [_draw(labels, config, seed) for seed in seeds]
    rows = {name: np.stack([draw[name] for draw in draws]) for name in draws[0]}
    noisy, hybrid_noisy = rows.pop("noisy"), rows.pop("hybrid_noisy")
    splits = {
        "pairs": Split({"x": Field(images, rows["pairs"])}),
        "pairs_held_out": Split({"x": Field(images, rows["pairs_held_out"])}),
        "seeding": Split({"image": Field(images, rows["seeding"]), "y": Field(noisy, per_seed=True)}),
        "hybrid": Split(
            {
                "x": Field(images, rows["pairs"]),
                "image": Field(images, rows["hybrid"]),
                "y": Field(hybrid_noisy, per_seed=True),
            }
        ),
        "test": Split({"image": origin["test"]["x"], "y": origin["test"]["y"]}),
    }
    for name in ("clean", "clean_held_out"):
        splits[name] = Split({"image": Field(images, rows[name]), "y": Field(labels, rows[name])})
    return Dataset(splits, origin.label)


def _draw(labels: Rows, config: Config, seed: int) -> dict[str, Rows]:
    rng = numpy_rng(seed, "pairs")
    classes = np.unique(labels)
    if config.seeding_images > len(labels):
        raise ValueError(
            f"seeding_images is {config.seeding_images}, but {config.source} has {len(labels)} to train on"
        )
    members = [np.flatnonzero(labels == digit) for digit in classes]
    chosen = rng.integers(len(classes), size=config.pairs)
    picks = rng.random((config.pairs, 2))
    sizes = np.array([len(rows) for rows in members])
    within = (picks * sizes[chosen, None]).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    pairs = np.concatenate(members)[starts[chosen, None] + within]
    seeding = rng.permutation(len(labels))[: config.seeding_images]
    shift = rng.integers(1, len(classes), size=len(seeding)) * (rng.random(len(seeding)) >= config.label_accuracy)
    noisy = (labels[seeding] + shift) % len(classes)
    clean = rng.permutation(len(labels))
    kept, clean_kept = (max(1, round(size * config.held_out)) for size in (config.pairs, len(labels)))
    again = rng.integers(len(seeding), size=config.pairs - kept)
    return {
        "pairs": pairs[kept:],
        "pairs_held_out": pairs[:kept],
        "seeding": seeding,
        "noisy": noisy,
        "hybrid": seeding[again],
        "hybrid_noisy": noisy[again],
        "clean": clean[clean_kept:],
        "clean_held_out": clean[:clean_kept],
    }
