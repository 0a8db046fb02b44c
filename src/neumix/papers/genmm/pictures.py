"""Figures that show images: samples, and what lies between two images' latents."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from neumix.absent import say_not_run
from neumix.mosaics import mosaic, picture
from neumix.papers.genmm.readings import IMAGES, MODELS, ByComponents, few, image_runs, title_of
from neumix.rendering import TRUE
from neumix.results import Results

__all__ = ["fig6", "fig7"]

Grey = NDArray[np.uint8]

_SIDE = 6
"""Rows and columns of samples that are shown of each run."""

_INTERPOLATIONS = (
    ("genmm", "mnist", 7, "responsible"),
    ("genmm", "mnist", 7, "random"),
    ("genmm", "mnist", 9, "responsible"),
    ("latmm", "mnist", 9, "responsible"),
    ("latmm", "fashion", 9, "responsible"),
    ("latmm", "mnist", 9, "within"),
)
"""Model, dataset, K and rule of each panel of Figure 7."""
_RULES = {"responsible": "responsible generator", "random": "random generator", "within": "ends of one class"}


def fig6(results: Results) -> Figure:
    """Draw samples of both models on both datasets, for the smallest, a middle and the largest K."""
    rows = list(image_runs(results, "sample_quality").items())
    columns = max((len(few(runs)) for _, runs in rows), default=1)
    figure, panels = plt.subplots(
        max(len(rows), 1), columns, figsize=(2.2 * max(columns, 2), 2.35 * max(len(rows), 1) + 0.2), squeeze=False
    )
    for row, ((model, _), runs) in zip(panels, rows, strict=False):
        for panel, k in zip(row, few(runs), strict=False):
            shown = runs[k].arrays["samples"][: _SIDE**2]
            picture(panel, mosaic(shown.reshape(_SIDE, _SIDE, *shown.shape[1:])))
            panel.set_title(title_of(model, runs[k]))
        for panel in row[len(few(runs)) :]:
            panel.set_axis_off()
    if not rows:
        say_not_run(panels[0, 0])
    return figure


def fig7(results: Results) -> Figure:
    """Draw interpolations between real images, which are framed above and below them."""
    found = image_runs(results, "sample_quality")
    figure, panels = plt.subplots(2, 3, figsize=(7.2, 6.6))
    for letter, panel, (model, dataset, wanted, rule) in zip("abcdef", panels.flat, _INTERPOLATIONS, strict=True):
        runs = found.get((model, dataset))
        if runs is None:
            panel.set_title(f"({letter}) {MODELS[model]}, {IMAGES[dataset]}, K = {wanted},\n{_text(model, rule)}")
            say_not_run(panel)
            continue
        run = runs[_nearest(runs, wanted)]
        _interpolation(panel, run.arrays[f"interpolation_{rule}"])
        panel.set_title(f"({letter}) {title_of(model, run)},\n{_text(model, rule)}")
    return figure


def _nearest(runs: ByComponents, wanted: int) -> int:
    """Return the wanted K if there is a run of it, otherwise the largest."""
    return wanted if wanted in runs else max(runs)


def _text(model: str, rule: str) -> str:
    """Return what the panel's rule is called; a LatMM has no choice of generators to name."""
    return "ends of different classes" if model == "latmm" and rule == "responsible" else _RULES[rule]


def _interpolation(panel: Axes, images: Grey) -> None:
    """Draw rows of images (R, C, H, W) of which the first and last are real."""
    rows, _, height, _ = images.shape
    whole = mosaic(images)
    picture(panel, whole)
    for top in (0, (rows - 1) * (height + 1)):
        corner = (-0.5, top - 0.5)
        panel.add_patch(Rectangle(corner, whole.shape[1], height, fill=False, edgecolor=TRUE, linewidth=1.5))
    centres = [place * (height + 1) + (height - 1) / 2 for place in (0, (rows - 1) / 2, rows - 1)]
    panel.set_yticks(centres, ["real", "decoded", "real"], rotation=90, va="center", fontsize=7)
    panel.tick_params(length=0)
