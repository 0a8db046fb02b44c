"""Small NORB: 24300 + 24300 stereo pairs of 96x96 grey images of toys, five classes."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic.dataclasses import dataclass

from neumix.data.dataset import DataError, Dataset, Field, Split
from neumix.data.pixels import block_mean
from neumix.data.raw import damaged
from neumix.settings import STRICT

__all__ = ["Config", "load", "read_matrix", "sources"]

LABEL = "Small NORB"
CLASSES = 5
SIDE = 96
TRAIN = "smallnorb-5x46789x9x18x6x2x96x96-training"
TEST = "smallnorb-5x01235x9x18x6x2x96x96-testing"
MAGIC = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}
PAIRS_AT_ONCE = 512


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Resolution of Small NORB.

    Arguments:
        shrink: side of the blocks of pixels that are averaged into one; 1 leaves 96x96, 3 gives 32x32.
    """

    shrink: Literal[1, 2, 3, 4] = 1


def sources(config: Config) -> tuple[str, ...]:
    """Return the datasets that this one is made from: none."""
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    """Load the stereo pairs as published, (N, 2, 96 / shrink, 96 / shrink) in [0, 1], the same for all seeds.

    Arguments:
        root: folder of the raw data.
        config: settings.
        seeds: not used.

    Raises:
        DataError: a file is missing or damaged.

    References:
        LeCun, Huang and Bottou (2004), Learning methods for generic object recognition.
    """
    folder = root / "smallnorb"
    return Dataset({"train": _load_split(folder, TRAIN, config), "test": _load_split(folder, TEST, config)}, LABEL)


def _load_split(folder: Path, prefix: str, config: Config) -> Split:
    pairs = read_matrix(folder / f"{prefix}-dat.mat", "uint8", (2, SIDE, SIDE))
    path = folder / f"{prefix}-cat.mat"
    labels = read_matrix(path, "int32", ())
    if len(labels) != len(pairs):
        raise damaged(LABEL, path, f"{len(pairs)} labels, one per pair", len(labels))
    if labels.min(initial=0) < 0 or labels.max(initial=0) >= CLASSES:
        raise damaged(LABEL, path, f"labels from 0 to {CLASSES - 1}", f"{labels.min()} to {labels.max()}")
    side = SIDE // config.shrink
    x = np.empty((len(pairs), 2, side, side), np.float32)
    for start in range(0, len(pairs), PAIRS_AT_ONCE):
        rows = slice(start, start + PAIRS_AT_ONCE)
        x[rows] = block_mean(pairs[rows], config.shrink) / np.float32(255)
    return Split({"x": Field(x), "y": Field(labels.astype(np.int64))})


def read_matrix(path: Path, kind: Literal["uint8", "int32"], item: tuple[int, ...]) -> NDArray[np.generic]:
    """Map a file in the binary matrix format of NORB, (N, *item), without reading it into memory.

    The little-endian header holds a magic number that stands for the type, the number of dimensions, and the
    dimensions, of which there are at least three (unused ones are 1).

    Arguments:
        path: the uncompressed file.
        kind: type of the numbers.
        item: expected shape of one point; empty for labels.

    Raises:
        DataError: the file is missing, or its magic number, dimensions or length are wrong.
    """
    dimensions = 1 + len(item)
    start = 8 + 4 * max(3, dimensions)
    try:
        with path.open("rb") as stream:
            content = stream.read(start)
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(
            f"{LABEL}: {path}: no such file. Fetch the dataset through the pipeline, or put its six uncompressed "
            f".mat files into {path.parent} yourself (they are named in config/datasets.yaml)."
        ) from None
    if len(content) < start:
        raise damaged(LABEL, path, f"a header of {start} bytes", f"{len(content)} bytes")
    header = np.frombuffer(content, "<u4")
    if header[0] != MAGIC[kind]:
        raise damaged(LABEL, path, f"magic number {MAGIC[kind]:#x} ({kind})", hex(header[0]))
    shape = tuple(int(length) for length in header[2 : 2 + dimensions])
    if header[1] != dimensions or shape[1:] != item:
        found = tuple(int(length) for length in header[2:])
        raise damaged(LABEL, path, f"{dimensions} dimensions {('N', *item)}", f"{header[1]} dimensions, {found}")
    number = np.dtype(kind).newbyteorder("<")
    expected = start + math.prod(shape) * number.itemsize
    if size != expected:
        raise damaged(LABEL, path, f"{expected} bytes", size)
    if shape[0] == 0:
        raise damaged(LABEL, path, "at least one point", 0)
    return np.memmap(path, number, "r", start, shape)
