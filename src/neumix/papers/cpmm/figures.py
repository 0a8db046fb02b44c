"""Figures of the CPMM paper and of the experiments beyond it."""

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import NDArray

from neumix.absent import say_not_run
from neumix.mosaics import mosaic, picture
from neumix.papers.cpmm.readings import IMAGES, find_run, settings_of, title_of
from neumix.rendering import SERIES
from neumix.results import Results, RunResult
from neumix.spread import error_bars

__all__ = ["fig1", "fig2", "fig3", "fig4", "fig5", "fig_inpainting", "fig_sweeps"]

Array = NDArray[Any]

_COLOURS = ("viridis", "plasma", "cividis")
"""Colour scheme of each trajectory."""
_GRID = 9  # spaces that Figure 2 shows
_POINTS = 1500
_SHOWN = 13  # components of a trajectory that Figures 4 and 5 show at most
_LABELS = "tab10"
_SWEPT = {"bits_per_dim": "bits/dim", "clustering_accuracy": "clustering accuracy (%)"}


def fig1(results: Results) -> Figure:
    """Draw data and components along pseudotime, of one trajectory and of three."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.8))
    for letter, panel, name, title in zip(
        "ab", panels, ("one", "three"), ("one trajectory", "three trajectories"), strict=True
    ):
        panel.set_title(f"({letter}) {title}")
        run = find_run(results, f"synthetic/{name}")
        if run is None:
            say_not_run(panel)
            continue
        _scatter(panel, run.arrays["points"], SERIES[0])
        for means, covariances, scheme in zip(run.arrays["means"], run.arrays["covariances"], _COLOURS, strict=False):
            _trajectory(panel, means, covariances, mpl.colormaps[scheme])
        panel.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, 1), _COLOURS[0])
    figure.colorbar(scale, ax=list(panels), label="pseudotime of the first trajectory", shrink=0.8)
    return figure


def fig2(results: Results) -> Figure:
    """Draw the points in evenly spaced spaces, from the latent one to the data."""
    figure, panels = plt.subplots(3, 3, figsize=(6.4, 6.4), sharex=True, sharey=True)
    run = next((results[name] for name in results.runs if name.startswith("planes/")), None)
    if run is None:
        for panel in panels.flat:
            say_not_run(panel)
        return figure
    spaces = run.arrays["spaces"][:_POINTS]
    places = np.linspace(0, spaces.shape[1] - 1, _GRID).round().astype(int)
    for panel, place in zip(panels.flat, places, strict=True):
        _scatter(panel, spaces[:, place], SERIES[0])
        panel.set(title=f"v = {1 - place / (spaces.shape[1] - 1):.2f}", aspect="equal")
    for panel in panels[-1]:
        panel.set_xlabel("$u_1$")
    for panel in panels[:, 0]:
        panel.set_ylabel("$u_2$")
    return figure


def fig3(results: Results) -> Figure:
    """Draw data above and samples below, in colours of their clusters, for both synthetic sets."""
    figure, panels = plt.subplots(2, 2, figsize=(6.4, 6.6))
    for column, (name, title) in enumerate((("circles", "broken circles"), ("spiral", "spiral with outliers"))):
        run = find_run(results, f"synthetic/{name}")
        above, below = panels[:, column]
        above.set_title(f"{title}: data, true labels")
        below.set_title("samples of the CPMM, its clusters")
        if run is None:
            say_not_run(above)
            say_not_run(below)
            continue
        limits = 1.15 * np.abs(run.arrays["points"]).max()
        for panel, points, labels in ((above, "points", "labels"), (below, "samples", "clusters")):
            shown = run.arrays[points][:_POINTS]
            panel.scatter(
                shown[:, 0],
                shown[:, 1],
                s=2,
                c=run.arrays[labels][:_POINTS],
                cmap=_LABELS,
                vmin=0,
                vmax=9,
                linewidths=0,
            )
            panel.set(xlim=(-limits, limits), ylim=(-limits, limits), aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
    return figure


def fig4(results: Results) -> Figure:
    """Draw the components' means along each trajectory on MNIST."""
    return _trajectories(results, "mnist")


def fig5(results: Results) -> Figure:
    """Draw the components' means along each trajectory on Fashion-MNIST."""
    return _trajectories(results, "fashion")


def fig_inpainting(results: Results) -> Figure:
    """Draw images above and, below, the same with the lower half filled in from the upper one."""
    names = [name for name in results.runs if "filled" in results[name].arrays]
    figure, panels = plt.subplots(max(len(names), 1), 1, figsize=(6.4, 1.75 * max(len(names), 1)), squeeze=False)
    if not names:
        say_not_run(panels[0, 0])
    for panel, name in zip(panels[:, 0], names, strict=False):
        run = results[name]
        pair = np.stack([run.arrays["originals"], run.arrays["filled"]])
        picture(panel, mosaic(pair))
        panel.set_title(f"{name.partition('/')[2]}: {title_of(run)}, lower half filled in below")
    return figure


def fig_sweeps(results: Results) -> Figure:
    """Draw bits per dimension and accuracy by the number of components of a trajectory and by the rank."""
    figure, panels = plt.subplots(2, 2, figsize=(7.2, 5.2), sharex="col")
    labels = {"components": "components G of a trajectory", "rank": "rank R"}
    for column, (setting, label) in zip(panels.T, labels.items(), strict=True):
        found = {
            int(str(settings_of(results[name])[setting])): results[name]
            for name in results.runs
            if name == "sweeps/base" or name.startswith(f"sweeps/{setting}_")
        }
        for panel, (metric, unit), colour in zip(column, _SWEPT.items(), SERIES, strict=False):
            if not found:
                say_not_run(panel)
                continue
            values = dict(sorted(found.items()))
            error_bars(panel, list(values), [run.values(metric) for run in values.values()], colour, unit)
            panel.set(ylabel=unit, xticks=list(values))
        column[1].set_xlabel(label)
    if any(name.startswith("sweeps/") for name in results.runs):
        name = next(name for name in results.runs if name.startswith("sweeps/"))
        figure.suptitle(f"{title_of(results[name])}, mean and SD over seeds", fontsize=9)
    return figure


def _trajectories(results: Results, dataset: str) -> Figure:
    run = find_run(results, f"students/{dataset}_cpmm")
    figure, panel = plt.subplots(figsize=(6.6, 5.2))
    if run is None:
        panel.set_title(IMAGES[dataset])
        say_not_run(panel)
        return figure
    means = run.arrays["means"]
    clusters = run.arrays["usage"].shape[0]
    means = means.reshape(clusters, -1, *means.shape[1:])
    shown = np.linspace(0, means.shape[1] - 1, min(_SHOWN, means.shape[1])).round().astype(int)
    classes = _classes(run)
    order = np.argsort(classes, kind="stable")
    picture(panel, mosaic(means[order][:, shown]))
    _pseudotimes(panel, means.shape[3] + 1, shown, means.shape[1])
    names = ["–" if classes[cluster] < 0 else f"{classes[cluster]}" for cluster in order]
    height = means.shape[2] + 1
    panel.set_yticks(height * (np.arange(len(order)) + 0.5) - 1, names)
    panel.set(xlabel="pseudotime", ylabel="trajectory, by its most frequent class", title=title_of(run))
    return figure


def _classes(run: RunResult) -> Array:
    """Return the class that most images of each cluster have; -1 for a cluster without images."""
    confusion = run.arrays["confusion"]
    clusters = run.arrays["usage"].shape[0]
    padded = np.pad(confusion, ((0, 0), (0, clusters - confusion.shape[1])))
    return np.where(padded.sum(0) > 0, padded.argmax(0), -1)


def _pseudotimes(panel: Axes, width: int, shown: Array, count: int) -> None:
    places = width * (np.arange(len(shown)) + 0.5) - 1
    panel.set_xticks(places[::3], [f"{place / max(count - 1, 1):.2f}" for place in shown[::3]])


def _trajectory(panel: Axes, means: Array, covariances: Array, colours: Any) -> None:
    """Draw an ellipse of equal likelihood for each component, at two standard deviations."""
    for place, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        values, vectors = np.linalg.eigh(covariance)
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        colour = colours(place / max(len(means) - 1, 1))
        across, along = 4 * np.sqrt(np.maximum(values, 0))
        panel.add_patch(Ellipse(mean, along, across, angle=angle, fill=False, edgecolor=colour, linewidth=1))


def _scatter(panel: Axes, points: Array, colour: str) -> None:
    x, y = points[:_POINTS].T
    panel.scatter(x, y, s=2, color=colour, alpha=0.35, linewidths=0)
