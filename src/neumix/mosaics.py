"""Small images side by side."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["mosaic"]


def mosaic(images: NDArray[Any]) -> NDArray[Any]:
    """Return images (R, C, H, W) side by side with lines of black between, (R (H + 1) - 1, C (W + 1) - 1)."""
    rows, columns, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)))
    joined = padded.transpose(0, 2, 1, 3).reshape(rows * (height + 1), columns * (width + 1))
    return np.asarray(joined[:-1, :-1])
