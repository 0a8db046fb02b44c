"""Panels that several figures of the InClass nets paper are made of."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from neumix.rendering import ESTIMATED, TRUE

__all__ = ["comparison_handles", "crop", "curves", "heatmap", "number_cells"]

Floats = NDArray[np.float64]


def crop(marginal: Floats) -> slice:
    """Return the part of a grid where a marginal (G,) exceeds a thousandth of its largest value.

    Further out there is next to no data, and a classifier says nothing about the model.
    """
    seen = np.flatnonzero(marginal > 1e-3 * marginal.max())
    return slice(int(seen[0]), int(seen[-1]) + 1)


def curves(axes: Axes, grid: Floats, estimated: Floats, true: Floats) -> None:
    """Draw every seed's curve of one component, and the exact one on top.

    Arguments:
        axes: the panel.
        grid: values of the variate, (G,).
        estimated: of each seed, (S, G).
        true: exact, (G,).
    """
    axes.plot(grid, estimated.T, color=ESTIMATED, linewidth=0.8, alpha=0.45)
    axes.plot(grid, true, color=TRUE, linestyle="-.")


def comparison_handles(seeds: int) -> list[Artist]:
    """Return what a legend needs to explain the line styles of `curves`."""
    estimated = f"estimated ({seeds} seeds)" if seeds > 1 else "estimated"
    return [
        Line2D([], [], color=ESTIMATED, label=estimated),
        Line2D([], [], color=TRUE, linestyle="-.", label="true"),
    ]


def heatmap(axes: Axes, x: Floats, y: Floats, values: Floats, limits: tuple[float, float]) -> AxesImage:
    """Draw values over the plane of two variates, with equal scales and the origin at the lower left.

    Arguments:
        axes: the panel.
        x, y: midpoints of evenly spaced cells, (G,) and (H,).
        values: (G, H), x varies slowest.
        limits: ends of the colour scale.
    """
    extent = (*_edges(x), *_edges(y))
    image = axes.imshow(
        values.T, origin="lower", extent=extent, vmin=limits[0], vmax=limits[1], interpolation="nearest"
    )
    axes.set(xlabel="$x$", aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(7, integer=True))
    axes.spines[:].set_visible(True)
    return image


def _edges(midpoints: Floats) -> tuple[float, float]:
    half = float(midpoints[1] - midpoints[0]) / 2
    return float(midpoints[0]) - half, float(midpoints[-1]) + half


def number_cells(
    axes: Axes, values: Floats, texts: Sequence[Sequence[str]], *, largest: float, fontsize: float
) -> AxesImage:
    """Draw a table as a heatmap with a text in each cell.

    Arguments:
        axes: the panel.
        values: not negative, (R, C); the first row is at the top.
        texts: for each cell.
        largest: end of the colour scale.
        fontsize: of the texts, in points.
    """
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=largest)
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value > 0.55 * largest else "black"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=colour, fontsize=fontsize)
    axes.set(xticks=range(values.shape[1]), yticks=range(values.shape[0]))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(True)
    return image
