"""Operations on images that several datasets share: grey values and block means."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["block_mean", "to_grey"]

LUMA = np.array([0.2989, 0.5870, 0.1140])


def to_grey(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return grey values 0.2989 R + 0.5870 G + 0.1140 B in [0, 1].

    Arguments:
        rgb: (..., 3) from 0 to 255.
    """
    return np.asarray(rgb @ LUMA / 255, dtype=np.float32)


def block_mean(images: NDArray[np.generic], side: int) -> NDArray[np.float32]:
    """Shrink images by the mean of square blocks; what does not fill a block at the right and bottom is cut off.

    Arguments:
        images: (..., H, W).
        side: of a block, in pixels.
    """
    *batch, height, width = images.shape
    rows, columns = height // side, width // side
    blocks = images[..., : rows * side, : columns * side].reshape(*batch, rows, side, columns, side)
    return np.asarray(blocks.mean(axis=(-3, -1), dtype=np.float32))
