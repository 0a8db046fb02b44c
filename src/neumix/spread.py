"""Mean and sample standard deviation of repeated measurements, as text and as error bars."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["error_bars", "mean_and_sd"]

Floats = NDArray[np.float64]


def mean_and_sd(values: Floats, decimals: int) -> str:
    """Return the mean and, in brackets, the sample standard deviation; a single value stands alone."""
    mean = f"{values.mean():.{decimals}f}"
    return mean if len(values) == 1 else f"{mean} ({values.std(ddof=1):.{decimals}f})"


def error_bars(panel: "Axes", x: Sequence[float], samples: Sequence[Floats], colour: str, label: str) -> None:
    """Draw mean and sample standard deviation of the values at each x; a single value has no bar."""
    means = [values.mean() for values in samples]
    spreads = [values.std(ddof=1) if len(values) > 1 else 0.0 for values in samples]
    panel.errorbar(x, means, spreads, marker="o", markersize=3, capsize=2, color=colour, label=label)
