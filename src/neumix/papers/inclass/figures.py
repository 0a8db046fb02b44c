"""Figures of the InClass nets paper."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from neumix.papers.inclass.diagrams import fig1, fig2
from neumix.papers.inclass.extensions import (
    fig_batches,
    fig_components,
    fig_identifiability,
    fig_labels,
    fig_prior,
    fig_uncertainty,
)
from neumix.papers.inclass.panels import comparison_handles, crop, curves, heatmap, number_cells
from neumix.papers.inclass.readings import standard_deviation
from neumix.results import Results, RunResult

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
    "fig10",
    "fig11",
    "fig12",
    "fig13",
    "fig14",
    "fig15",
    "fig_batches",
    "fig_components",
    "fig_identifiability",
    "fig_labels",
    "fig_prior",
    "fig_uncertainty",
]

Floats = NDArray[np.float64]

_VARIATES = "xyz"
_WIDE = (7.0, 3.2)
_CONFUSIONS = (
    ("mnist_pairs/semisup", "pairs", "After unsupervised training"),
    ("mnist_pairs/semisup", "seeding", "After noisy seeding"),
    ("mnist_pairs/supervised", "clean", "Fully supervised"),
)


def fig3(results: Results) -> Figure:
    """Draw the joint density of each of the two Gaussians."""
    return _component_heatmaps(results["two_gaussians/main"])


def fig4(results: Results) -> Figure:
    """Draw the joint density of the mixture of two Gaussians."""
    return _mixture_heatmap(results["two_gaussians/main"])


def fig5(results: Results) -> Figure:
    """Draw the classifiers learned from 100000 points."""
    return _classifiers(results["two_gaussians/main"])


def fig6(results: Results) -> Figure:
    """Draw the component densities learned from 100000 points."""
    return _two_densities(results["two_gaussians/main"])


def fig7(results: Results) -> Figure:
    """Draw the aggregate classifier of the two Gaussians, estimated and exact."""
    run = results["two_gaussians/main"]
    rows, columns, axes = _plane(run)
    figure, panels = plt.subplots(1, 2, figsize=_WIDE, sharey=True)
    for panel, name, title in zip(
        panels, ("aggregate", "true_aggregate"), ("Estimated (first seed)", "True"), strict=True
    ):
        image = heatmap(panel, *axes, run.arrays[name][1][rows, columns], (0, 1))
        panel.set_title(title)
    panels[0].set_ylabel("$y$")
    figure.colorbar(image, ax=panels, label=r"$\alpha_{\mathrm{aggregate}}^{(2)}(x, y)$")
    return figure


def fig8(results: Results) -> Figure:
    """Draw the joint density of the checkerboard."""
    return _mixture_heatmap(results["checkerboard/main"])


def fig9(results: Results) -> Figure:
    """Draw the joint density of each component of the checkerboard."""
    return _component_heatmaps(results["checkerboard/main"])


def fig10(results: Results) -> Figure:
    """Draw the learned density of the checkerboard's first component."""
    return _two_densities(results["checkerboard/main"], components=(0,))


def fig11(results: Results) -> Figure:
    """Draw pairs of images of the same digit, one pair a column."""
    examples = results["mnist_pairs/semisup"].arrays["examples"]  # (N, 2, H, W)
    figure, panels = plt.subplots(2, len(examples), figsize=(1.2 * len(examples) + 0.4, 2.8), squeeze=False)
    for (row, column), panel in np.ndenumerate(panels):
        panel.imshow(examples[column, row], cmap="gray_r")
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(True)
    for column, panel in enumerate(panels[0]):
        panel.set_title(f"point {column + 1}")
    for row, panel in enumerate(panels[:, 0]):
        panel.set_ylabel(f"$x_{row + 1}$", rotation=0, labelpad=10, va="center")
    return figure


def fig12(results: Results) -> Figure:
    """Draw confusion matrices after unsupervised, noisy and fully supervised training."""
    shown = [confusion for confusion in _CONFUSIONS if confusion[0] in results.runs]
    figure, panels = plt.subplots(1, len(shown), figsize=(3.7 * len(shown) + 0.4, 4.4), sharey=True, squeeze=False)
    for panel, (name, stage, title) in zip(panels[0], shown, strict=True):
        run = results[name]
        confusion = run.arrays[f"confusion_{stage}"].mean(0)
        texts = [[f"{value:.2f}" for value in row] for row in confusion]
        image = number_cells(panel, confusion, texts, largest=1.0, fontsize=6)
        accuracy = run.values(f"accuracy_{stage}")
        panel.set(xlabel="predicted digit", title=f"{title}\naccuracy {_percent(accuracy)}")
    panels[0, 0].set_ylabel("true digit")
    figure.colorbar(image, ax=panels, label="mean output probability", shrink=0.8, pad=0.01)
    return figure


def fig13(results: Results) -> Figure:
    """Draw the twelve densities of the trivariate Gaussians."""
    run = results["trivariate_gaussians/main"]
    figure, panels = plt.subplots(2, 2, figsize=(7.0, 5.2), sharey=True)
    for variate, panel in enumerate(panels.flat[:3]):
        _densities(panel, run, variate, range(len(run.arrays["true_densities"])))
    panels[0, 1].tick_params(labelleft=True)
    panels[1, 1].axis("off")
    panels[1, 1].legend(handles=comparison_handles(len(run.arrays["densities"])), loc="center")
    return figure


def fig14(results: Results) -> Figure:
    """Draw the classifiers learned from 5000 points."""
    return _classifiers(results["two_gaussians_5000/main"])


def fig15(results: Results) -> Figure:
    """Draw the component densities learned from 5000 points."""
    return _two_densities(results["two_gaussians_5000/main"])


def _component_heatmaps(run: RunResult) -> Figure:
    """Draw the normalised joint density of two components side by side."""
    rows, columns, axes = _plane(run)
    densities = run.arrays["joint"][:, rows, columns] / run.arrays["true_weights"][:, None, None]
    figure, panels = plt.subplots(1, 2, figsize=_WIDE, sharey=True)
    for component, panel in enumerate(panels):
        image = heatmap(panel, *axes, densities[component], (0, densities.max()))
        panel.set_title(f"Component {component + 1}")
    panels[0].set_ylabel("$y$")
    figure.colorbar(image, ax=panels, label="$f^{(i)}(x, y)$")
    return figure


def _mixture_heatmap(run: RunResult) -> Figure:
    """Draw the joint density of a bivariate mixture."""
    rows, columns, axes = _plane(run)
    density = run.arrays["joint"].sum(0)[rows, columns]
    figure, panel = plt.subplots(figsize=(4.2, 3.4))
    image = heatmap(panel, *axes, density, (0, density.max()))
    panel.set_ylabel("$y$")
    figure.colorbar(image, ax=panel, label="$P(x, y)$")
    return figure


def _plane(run: RunResult) -> tuple[slice, slice, tuple[Floats, Floats]]:
    """Return the rows and columns of the plane that hold the data, and the midpoints of their cells."""
    total = run.arrays["joint"].sum(0)
    x, y = run.arrays["axes"]
    rows, columns = crop(total.sum(1)), crop(total.sum(0))
    return rows, columns, (x[rows], y[columns])


def _classifiers(run: RunResult) -> Figure:
    """Draw learned and exact classifiers of both variates."""
    learned, true = run.arrays["classifiers"], run.arrays["true_classifiers"]
    figure, panels = plt.subplots(1, 2, figsize=_WIDE, sharey=True)
    for variate, panel in enumerate(panels):
        inside = crop(run.arrays["marginal"][variate])
        grid = run.arrays["grid"][variate, inside]
        for component, exact in enumerate(true[:, variate, inside]):
            curves(panel, grid, learned[:, component, variate, inside], exact)
            left = exact.argmax() < len(exact) / 2
            panel.annotate(
                f"$i={component + 1}$",
                (grid[0] if left else grid[-1], 0.9),
                ha="left" if left else "right",
                va="center",
            )
        name = _VARIATES[variate]
        panel.set(xlabel=f"${name}$", ylabel=rf"$\alpha_{name}^{{(i)}}({name})$", ylim=(-0.03, 1.03))
        panel.tick_params(labelleft=True)
    figure.legend(handles=comparison_handles(len(learned)), loc="outside upper center", ncols=2)
    return figure


def _two_densities(run: RunResult, components: Sequence[int] = (0, 1)) -> Figure:
    """Draw learned and exact component densities of both variates."""
    figure, panels = plt.subplots(1, 2, figsize=_WIDE, sharey=True)
    for variate, panel in enumerate(panels):
        _densities(panel, run, variate, components)
        panel.tick_params(labelleft=True)
    handles = comparison_handles(len(run.arrays["densities"]))
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _densities(panel: Axes, run: RunResult, variate: int, components: Sequence[int]) -> None:
    """Draw learned and exact densities of one variate."""
    inside = crop(run.arrays["marginal"][variate])
    grid = run.arrays["grid"][variate, inside]
    learned = run.arrays["densities"][:, components, variate, inside]  # (S, C, G)
    true = run.arrays["true_densities"][components, variate, inside]  # (C, G)
    for component, exact in enumerate(true):
        curves(panel, grid, learned[:, component], exact)
    if len(components) > 1:
        _number_peaks(panel, grid, true, np.maximum(true, learned.max(0)))
    name, index = _VARIATES[variate], "i" if len(components) > 1 else str(components[0] + 1)
    panel.set(xlabel=f"${name}$", ylabel=f"$f_{name}^{{({index})}}({name})$")
    panel.set_ylim(bottom=0)


def _number_peaks(panel: Axes, grid: Floats, densities: Floats, tops: Floats) -> None:
    """Write the number of each component above its peak; two that are close lean away from each other.

    Arguments:
        panel: where the curves are.
        grid: values of the variate, (G,).
        densities: exact, (C, G).
        tops: what the numbers must stay above, (C, G).
    """
    peaks = densities.argmax(1)
    order = np.argsort(peaks, kind="stable")
    close = np.diff(peaks[order]) < 0.05 * len(grid)
    for rank, component in enumerate(order):
        left, right = rank > 0 and close[rank - 1], rank < len(close) and close[rank]
        panel.annotate(
            f"{component + 1}",
            (grid[peaks[component]], tops[component, peaks[component]]),
            (0, 5),
            textcoords="offset points",
            ha="center" if left == right else "left" if left else "right",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
        )


def _percent(accuracy: Floats) -> str:
    spread = f" ± {standard_deviation(accuracy):.2f}" if len(accuracy) > 1 else ""
    return f"{accuracy.mean():.2f}{spread}% ({len(accuracy)} seeds)"
