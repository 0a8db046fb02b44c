"""Boxes and arrows, what block diagrams are drawn from."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from neumix.rendering import NEUTRAL

__all__ = ["Point", "arrow", "box", "canvas"]

Point = tuple[float, float]


def canvas(size: Point, extent: Point) -> tuple[Figure, Axes]:
    """Return an empty drawing area with equal scales.

    Arguments:
        size: of the figure, in inches.
        extent: of both coordinates, from 0.
    """
    figure, axes = plt.subplots(figsize=size)
    axes.set(xlim=(0, extent[0]), ylim=(0, extent[1]), aspect="equal")
    axes.axis("off")
    return figure, axes


def box(axes: Axes, centre: Point, size: Point, text: str, colour: str) -> None:
    """Draw a box with text in its middle."""
    (x, y), (width, height) = centre, size
    corner = (x - width / 2, y - height / 2)
    style = "round,pad=0,rounding_size=0.15"
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, facecolor=colour, edgecolor=NEUTRAL))
    axes.text(x, y, text, ha="center", va="center", linespacing=1.5)


def arrow(axes: Axes, start: Point, end: Point) -> None:
    """Draw an arrow."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, shrinkA=0, shrinkB=0, color=NEUTRAL)
    )
