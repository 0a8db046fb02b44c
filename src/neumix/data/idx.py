"""The IDX format of MNIST and Fashion-MNIST: a big-endian header with type and dimensions, then the bytes."""

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neumix.data.dataset import Dataset, Field, Split
from neumix.data.raw import damaged, read_bytes

__all__ = ["load_images", "read_idx"]

UNSIGNED_BYTE = 0x08
CLASSES = 10
SIDE = 28


def read_idx(dataset: str, path: Path, item: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, (N, *item).

    Arguments:
        dataset: what a reader calls the dataset, for errors.
        path: the uncompressed file.
        item: expected shape of one point; empty for labels.

    Raises:
        DataError: the file is missing, or its magic number, dimensions or length are wrong.
    """
    content = read_bytes(dataset, path)
    header = struct.pack(">HBB", 0, UNSIGNED_BYTE, 1 + len(item))
    if content[:4] != header:
        raise damaged(dataset, path, f"magic number {header.hex()}", content[:4].hex() or "an empty file")
    start = 4 + 4 * (1 + len(item))
    if len(content) < start:
        raise damaged(dataset, path, f"a header of {start} bytes", f"{len(content)} bytes")
    shape = struct.unpack(f">{1 + len(item)}I", content[4:start])
    if shape[1:] != item:
        raise damaged(dataset, path, f"dimensions {('N', *item)}", shape)
    if len(content) - start != math.prod(shape):
        raise damaged(dataset, path, f"{math.prod(shape)} bytes after the header", len(content) - start)
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def load_images(dataset: str, folder: Path) -> Dataset:
    """Load the four IDX files of an MNIST-like dataset.

    Images are (N, 28, 28) in [0, 1], labels (N,) from 0 to 9.

    Arguments:
        dataset: what a reader calls the dataset.
        folder: where the files lie.

    Raises:
        DataError: a file is missing or damaged.
    """
    return Dataset(
        {"train": _load_split(dataset, folder, "train"), "test": _load_split(dataset, folder, "t10k")}, dataset
    )


def _load_split(dataset: str, folder: Path, prefix: str) -> Split:
    images = read_idx(dataset, folder / f"{prefix}-images-idx3-ubyte", (SIDE, SIDE))
    path = folder / f"{prefix}-labels-idx1-ubyte"
    labels = read_idx(dataset, path, ())
    if len(labels) != len(images):
        raise damaged(dataset, path, f"{len(images)} labels, one per image", len(labels))
    if labels.max(initial=0) >= CLASSES:
        raise damaged(dataset, path, f"labels from 0 to {CLASSES - 1}", int(labels.max()))
    pixels = images.astype(np.float32) / np.float32(255)  # (N, 28, 28)
    return Split({"x": Field(pixels), "y": Field(labels.astype(np.int64))})
