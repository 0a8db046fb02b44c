"""Figures of the CWM paper and of the experiments beyond it."""

import itertools
from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from neumix.papers.cwm.gradient_items import fig_gradients
from neumix.papers.cwm.illustration import fig1, fig2, fig3
from neumix.papers.cwm.readings import (
    SCORE,
    components,
    image_bound,
    model_of,
    score_curve,
    targets_of,
)
from neumix.rendering import NEUTRAL, SERIES
from neumix.results import Results, RunResult
from neumix.spread import error_bars

__all__ = ["fig1", "fig2", "fig3", "fig4", "fig_components", "fig_curves", "fig_gradients", "fig_variational"]


def fig4(results: Results) -> Figure:
    """Draw the image, the samples, and the densities of the four models on one scale of grey."""
    first = next(iter(results.values()))
    top = float(first.arrays["image_density"].max())
    height, width = first.arrays["image_density"].shape
    figure, panels = plt.subplots(2, 3, figsize=(6.8, 3.6 * height / width + 1.5), sharex=True, sharey=True)
    shown = {"(a) image": first.arrays["image_density"], "(b) samples": _relative(first.arrays["samples"])}
    for letter, (name, run) in zip("cdef", results.items(), strict=False):
        shown[f"({letter}) {model_of(name)}, {run.values(SCORE)[0]:.3f} nats"] = run.arrays["density"]
    for panel, (title, density) in zip(panels.flat, shown.items(), strict=True):
        picture = _picture(panel, density, height / width, top)
        panel.set_title(title)
    for panel in panels[-1]:
        panel.set_xlabel("$u_1$")
    for panel in panels[:, 0]:
        panel.set_ylabel("$u_2$")
    figure.colorbar(picture, ax=panels, shrink=0.8, label="density in the unit square (1 is uniform)", extend="max")
    return figure


def fig_curves(results: Results) -> Figure:
    """Draw the held-out score of every gradient-trained model by epoch, and those of EM and of the image."""
    figure, panel = plt.subplots(figsize=(6.0, 3.6))
    ticks: list[int] = []
    for (name, run), colour in zip(results.items(), SERIES, strict=False):
        curve = score_curve(run)
        ticks = sorted({*ticks, *curve})
        if len(curve) == 1:
            panel.axhline(run.values(SCORE).mean(), color=colour, linestyle=":", label=f"{model_of(name)} (EM)")
        else:
            error_bars(panel, list(curve), list(curve.values()), colour, model_of(name))
    panel.axhline(image_bound(results), color=NEUTRAL, linestyle="--", label="the image itself")
    panel.set_xscale("symlog", linthresh=1)
    labels = ["" if 0 < tick < later < 1.5 * tick else str(tick) for tick, later in itertools.pairwise([*ticks, 0])]
    panel.set_xticks(ticks, labels, fontsize=7)  # those too close to the next have no room for a label
    panel.set_xticks([], minor=True)
    panel.set(
        xlabel="epoch (0: CWM's initial mixture)", ylabel="held-out mean log-likelihood (nats)\nmean ± SD over seeds"
    )
    panel.legend()
    return figure


def fig_components(results: Results) -> Figure:
    """Draw the held-out score by number of components and by number of trained values."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.3), sharey=True)
    families = {
        "CWM": [run for name, run in results.items() if "/k_" in name],
        "CWM, spline components": [run for name, run in results.items() if "/spline_" in name],
        "GMM (EM)": [run for name, run in results.items() if "/gmm_" in name],
    }
    axes: dict[str, Callable[[RunResult], float]] = {
        "components K": lambda run: components(run) or 0,
        "trained values": lambda run: float(run.values("n_trained_values")[0]),
    }
    for panel, (title, position) in zip(panels, axes.items(), strict=True):
        for (name, runs), colour in zip(families.items(), SERIES, strict=False):
            ordered = sorted(runs, key=position)
            error_bars(panel, [position(run) for run in ordered], [run.values(SCORE) for run in ordered], colour, name)
        panel.axhline(image_bound(results), color=NEUTRAL, linestyle="--", label="the image itself")
        panel.set(xscale="log", xlabel=title)
    panels[0].set_ylabel("held-out mean log-likelihood (nats)\nmean ± SD over seeds")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def fig_variational(results: Results) -> Figure:
    """Draw each target and the densities fitted to it, one row for each target."""
    rows = targets_of(results)
    models = list(dict.fromkeys(model for fits in rows.values() for model in fits))
    figure, panels = plt.subplots(
        len(rows), 1 + len(models), figsize=(1.45 * (1 + len(models)), 1.6 * len(rows) + 0.5), squeeze=False
    )
    for row, (target, fits) in zip(panels, rows.items(), strict=True):
        first = next(iter(fits.values()))
        exact, axis = first.arrays["target_density"], first.arrays["axis"]
        _plane(row[0], exact, exact, axis)
        row[0].set_ylabel(f"{target}\n$x_2$")
        for panel, model in zip(row[1:], models, strict=True):
            if model not in fits:
                panel.set_axis_off()
                continue
            _plane(panel, fits[model].arrays["density"], exact, axis)
            panel.text(
                0.04,
                0.04,
                f"KL {fits[model].values('reverse_kl')[0]:.3f}",
                transform=panel.transAxes,
                fontsize=6,
                color="white",
            )
    for panel, title in zip(panels[0], ["target", *models], strict=True):
        panel.set_title(title, fontsize=8)
    for panel in panels[-1]:
        panel.set_xlabel("$x_1$")
    return figure


def _relative(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return counts of equal cells as a density of the unit square."""
    return np.asarray(counts / counts.mean())


def _picture(panel: Axes, density: NDArray[np.floating], aspect: float, top: float) -> AxesImage:
    """Draw a density of the unit square in the proportions of the image."""
    panel.set(xticks=[0, 1], yticks=[0, 1])
    return panel.imshow(
        density, cmap="gray", vmin=0, vmax=top, extent=(0, 1, 0, 1), aspect=aspect, interpolation="nearest"
    )


def _plane(panel: Axes, density: NDArray[np.float32], exact: NDArray[np.float32], axis: NDArray[np.float32]) -> None:
    """Draw a density over the plane on the colour scale of the exact one."""
    extent = (axis[0], axis[-1], axis[0], axis[-1])
    panel.imshow(density, origin="lower", extent=extent, vmin=0, vmax=float(exact.max()), interpolation="nearest")
    panel.set(xticks=[-4, 0, 4], yticks=[-4, 0, 4])
    panel.tick_params(labelsize=6)
