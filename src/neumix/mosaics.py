"""Small grey images side by side, and pictures of them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

__all__ = ["mosaic", "picture"]


def mosaic(images: NDArray[Any]) -> NDArray[Any]:
    """Return images (R, C, H, W) side by side with lines of zeros between, (R (H + 1) - 1, C (W + 1) - 1)."""
    rows, columns, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (0, 1), (0, 1)))
    joined = padded.transpose(0, 2, 1, 3).reshape(rows * (height + 1), columns * (width + 1))
    return np.asarray(joined[:-1, :-1])


def picture(panel: Axes, image: NDArray[Any]) -> None:
    """Draw grey values, black at 0 and white at 255, (H, W), without scales."""
    panel.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
