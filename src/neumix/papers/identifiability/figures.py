"""Figures of the identifiability paper and of the experiments beyond it."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from neumix.mosaics import mosaic
from neumix.papers.identifiability.readings import components, epoch_curve, fits, label_of
from neumix.papers.identifiability.theory import fig3, fig4
from neumix.papers.identifiability.toy_figures import fig1
from neumix.rendering import NEUTRAL, SERIES
from neumix.results import Results, RunResult
from neumix.spread import error_bars

__all__ = [
    "fig1",
    "fig2",
    "fig3",
    "fig4",
    "fig5",
    "fig6",
    "fig7",
    "fig8",
    "fig9",
    "fig_components",
    "fig_draws",
    "fig_epochs",
]

_KINDS = {"mcc_weak": "weak MCC", "mcc_strong": "strong MCC"}
_DRAWN = {"dist_aff_l2": r"$\mathrm{dist}_{\mathrm{Aff},L_2}$", **_KINDS}


def fig2(results: Results) -> Figure:
    """Draw the latent spaces of the fits on the pinwheel."""
    return _latent_spaces(results["pinwheel_vade/main"])


def fig5(results: Results) -> Figure:
    """Draw the latent spaces of the fits on the first draw of parallelograms."""
    return _latent_spaces(results["parallelograms_vade/draw_1"])


def fig6(results: Results) -> Figure:
    """Draw the latent spaces of the fits on the second draw of parallelograms."""
    return _latent_spaces(results["parallelograms_vade/draw_2"])


def fig7(results: Results) -> Figure:
    """Draw the latent spaces of the fits on the third draw of parallelograms."""
    return _latent_spaces(results["parallelograms_vade/draw_3"])


def fig8(results: Results) -> Figure:
    """Draw images decoded from samples of every component, for two architectures."""
    return _component_rows(results, lambda run: run.arrays["samples"])


def fig9(results: Results) -> Figure:
    """Draw images of every component beside their reconstructions, for two architectures."""
    return _component_rows(results, _pairs_of_images)


def fig_epochs(results: Results) -> Figure:
    """Draw MCC against training epochs."""
    figure, panels = plt.subplots(1, len(_KINDS), figsize=(7.0, 3.0), sharey=True)
    for panel, (metric, title) in zip(panels, _KINDS.items(), strict=True):
        for (name, run), colour in zip(results.items(), SERIES, strict=False):
            curve = epoch_curve(run, f"{metric}_pairs")
            error_bars(panel, list(curve), list(curve.values()), colour, label_of(name)[0])
        panel.set_xscale("symlog", linthresh=1)
        ticks = list(epoch_curve(next(iter(results.values())), f"{metric}_pairs"))
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.set_xticks([], minor=True)
        panel.set(xlabel="epoch (0: untrained)", title=title)
    panels[0].set_ylabel("mean ± SD over pairs of fits")
    panels[0].legend()
    return figure


def fig_components(results: Results) -> Figure:
    """Draw MCC against the number of components."""
    runs = sorted(results.values(), key=components)
    figure, panel = plt.subplots(figsize=(4.6, 3.2))
    counts = [components(run) for run in runs]
    for (metric, title), colour in zip(_KINDS.items(), SERIES, strict=False):
        error_bars(panel, counts, [run.values(f"{metric}_pairs") for run in runs], colour, title)
    panel.set_xscale("log")
    panel.set_xticks(counts, [str(count) for count in counts])
    panel.set_xticks([], minor=True)
    panel.set(xlabel="components of the prior", ylabel="mean ± SD over pairs of fits")
    panel.legend()
    return figure


def fig_draws(results: Results) -> Figure:
    """Draw the mean over pairs of every draw of a dataset."""
    figure, panels = plt.subplots(1, len(_DRAWN), figsize=(7.0, 2.8))
    names = [name.partition("/")[2] for name in results]
    for panel, (metric, title) in zip(panels, _DRAWN.items(), strict=True):
        for row, (run, colour) in enumerate(zip(results.values(), SERIES, strict=False)):
            values = np.sort(run.values(metric))
            # Spread across the row by rank, so that equal values stay visible.
            panel.plot(values, row + np.linspace(-0.25, 0.25, len(values)), "o", markersize=3, color=colour)
            panel.plot([np.median(values)] * 2, [row - 0.35, row + 0.35], color=NEUTRAL)
        panel.set_yticks(range(len(names)), names if panel is panels[0] else [""] * len(names))
        panel.set(xlabel=title, ylim=(-0.6, len(names) - 0.4))
    figure.suptitle("One point for each draw (mean over its pairs of fits); line: median", fontsize=9)
    return figure


def _latent_spaces(run: RunResult) -> Figure:
    codes, labels = run.arrays["codes"], run.arrays["labels"]  # (S, N, 2), (S, N)
    figure, panels = plt.subplots(1, fits(run), figsize=(1.9 * fits(run), 2.2), squeeze=False)
    for fit, panel in enumerate(panels[0]):
        for cluster in np.unique(labels):
            points = codes[fit][labels[fit] == cluster]
            label = f"cluster {cluster + 1}" if fit == 0 else None
            colour = SERIES[cluster % len(SERIES)]
            # Thousands of points as paths would make the SVG a hundred times as large.
            panel.plot(*points.T, ".", markersize=1.5, color=colour, label=label, rasterized=True)
        panel.set(title=f"fit {fit + 1}", xlabel="$z_1$")
        panel.tick_params(labelsize=6)
    panels[0, 0].set_ylabel("$z_2$")
    figure.legend(loc="outside upper center", ncols=len(np.unique(labels)), markerscale=5)
    return figure


def _pairs_of_images(run: RunResult) -> NDArray[np.float32]:
    """Return images (K, 2 n, H, W) in which each input is followed by its reconstruction."""
    pairs = np.stack([run.arrays["inputs"], run.arrays["reconstructions"]], 2)
    return pairs.reshape(pairs.shape[0], -1, *pairs.shape[3:])


def _component_rows(results: Results, images_of: Callable[[RunResult], NDArray[np.float32]]) -> Figure:
    """Draw one panel for each run, with one row of images for each component."""
    runs = list(results.items())
    rows, columns = images_of(runs[0][1]).shape[:2]
    size = (0.26 * columns * len(runs) + 1.2, 0.26 * rows + 0.8)
    figure, panels = plt.subplots(1, len(runs), figsize=size, squeeze=False)
    for panel, (name, run) in zip(panels[0], runs, strict=True):
        images = images_of(run)
        # Missing images and the lines between are zeros, which are white here.
        panel.imshow(mosaic(np.nan_to_num(images)), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
        side = images.shape[2] + 1
        confidences = [f"{value:.2f}" for value in run.arrays["confidence"]]
        panel.set_yticks((np.arange(len(images)) + 0.5) * side, confidences, fontsize=6)
        panel.set_xticks([])
        panel.tick_params(length=0)
        panel.spines[:].set_visible(False)
        panel.set_title(f"{label_of(name)[1]} ({label_of(name)[2]})")
    panels[0, 0].set_ylabel("component, by mean confidence")
    return figure
