"""Figures of the experiments that the InClass nets paper describes but does not show."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import NDArray

from neumix.mixtures import Linear, ProductMixture
from neumix.papers.inclass.panels import crop, number_cells
from neumix.papers.inclass.readings import (
    Band,
    LabelTable,
    batch_size,
    component_costs,
    gradient,
    mixture_of,
    weight_range,
)
from neumix.rendering import ESTIMATED, NEUTRAL, SERIES, TRUE
from neumix.results import Results, RunResult

__all__ = ["fig_batches", "fig_components", "fig_identifiability", "fig_labels", "fig_prior", "fig_uncertainty"]

Floats = NDArray[np.float64]

_RATIO = "number_of_components/density_ratio"
_BANDS = {
    "uncertainty/seeds": "seeds",
    "uncertainty/bootstrap": "bootstrap resamples",
    "uncertainty/fresh": "fresh data",
}
_PRIORS = {
    "prior_knowledge/free": ("nothing known", "o"),
    "prior_knowledge/known_weights": ("weights known", "s"),
    "prior_knowledge/known_density": ("densities of $x$ known", "^"),
}


def fig_components(results: Results) -> Figure:
    """Draw the held-out cost against the number of components, and its lower bound."""
    costs = component_costs(results)
    figure, axes = plt.subplots(figsize=(7.6, 3.6))
    means = [0, *(cost.mean() for cost in costs.values())]
    axes.plot([1, *costs], means, color=ESTIMATED, label="InClass net, mean of the seeds", zorder=2)
    for number, (components, cost) in enumerate(costs.items()):
        label = f"InClass net, each of {len(cost)} seeds" if number == 0 else None
        axes.plot(np.full(len(cost), components), cost, "o", color=ESTIMATED, alpha=0.5, markersize=4, label=label)
    axes.plot(1, 0, "o", markerfacecolor="white", color=ESTIMATED, zorder=3)
    axes.annotate("0 by definition", (1, 0), (8, 0), textcoords="offset points", va="center", color=NEUTRAL)
    if _RATIO in results.runs:
        _cost_bounds(axes, results[_RATIO])
    axes.set(xlabel="number of components $C$", ylabel="held-out cost (nats)", xticks=[1, *costs])
    figure.legend(loc="outside right upper")
    return figure


def _cost_bounds(axes: Axes, ratio: RunResult) -> None:
    """Draw the bound on the cost, estimated and exact, and the number of components at which it is reached."""
    estimates = -ratio.values("total_correlation")
    label = "$-C^*$, density-ratio classifier\n(range and mean of the seeds)"
    axes.axhspan(estimates.min(), estimates.max(), color=SERIES[0], alpha=0.25, linewidth=0, label=label)
    axes.axhline(estimates.mean(), color=SERIES[0], linewidth=0.8)
    exact = -float(ratio.values("exact_total_correlation")[0])
    axes.axhline(exact, color=TRUE, linestyle="-.", label="$-C^*$, exact")
    components = len(mixture_of(ratio).weights)
    axes.axvline(components, color=NEUTRAL, linestyle=":", label="true number of components")


def fig_batches(results: Results) -> Figure:
    """Draw the errors of weight and densities against the batch size, for both gradients."""
    runs = list(results.values())
    sizes = sorted({batch_size(run) for run in runs})
    figure, panels = plt.subplots(1, 2, figsize=(7.0, 3.2))
    labels = (
        ("weight_error", "largest error of a weight"),
        ("density_error", "mean total variation\nof the densities"),
    )
    for panel, (metric, label) in zip(panels, labels, strict=True):
        for number, name in enumerate(dict.fromkeys(gradient(run) for run in runs)):
            chosen = {batch_size(run): run.values(metric) for run in runs if gradient(run) == name}
            _errors(panel, dict(sorted(chosen.items())), name, number)
        panel.set(xscale="log", xlabel="batch size", ylabel=label)
        panel.set_xticks(sizes, [str(size) for size in sizes])
        panel.minorticks_off()
        panel.set_ylim(bottom=0)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, title="gradient (points: seeds; lines: means)")
    return figure


def _errors(panel: Axes, errors: Mapping[int, Floats], label: str, number: int) -> None:
    """Draw the errors of one gradient by batch size, a little aside so that the other one's points stay visible."""
    places = [size * 1.06 ** (number - 1) for size in errors]
    for place, values in zip(places, errors.values(), strict=True):
        panel.plot(np.full(len(values), place), values, "o", color=SERIES[number], alpha=0.4, markersize=4)
    panel.plot(places, [values.mean() for values in errors.values()], color=SERIES[number], label=label)


def fig_prior(results: Results) -> Figure:
    """Draw the allowed region of weight and gamma, and where the seeds of each run end."""
    runs = dict(results)
    truth = mixture_of(next(iter(runs.values())))
    figure, axes = plt.subplots(figsize=(7.0, 3.8))
    weights, low, high = _allowed_region(truth)
    axes.fill_between(weights, low, high, color=NEUTRAL, alpha=0.2, linewidth=0, label="allowed by (A.4)")
    for colour, (name, run) in zip(SERIES, runs.items(), strict=False):
        label, marker = _PRIORS[name]
        x, y = run.values("weight_1"), run.values("gamma")
        axes.plot(x, y, marker, color=colour, alpha=0.6, markersize=5, label=f"{label} ({len(x)} seeds)")
    axes.plot(truth.weights[0], 1, "*", color=TRUE, markersize=12, markeredgecolor="white", label="true mixture")
    axes.set(xlabel="weight $w_1'$", ylabel=r"$\gamma$", yscale="log")
    axes.yaxis.set(major_locator=MaxNLocator(6), major_formatter="{x:.3g}", minor_locator=NullLocator())
    figure.legend(loc="outside right upper")
    return figure


def _allowed_region(truth: ProductMixture, points: int = 801) -> tuple[Floats, Floats, Floats]:
    """Return weights, and the smallest and largest gamma that (A.4) allows at each."""
    from neumix.models.inclass import theory

    weights = np.asarray(truth.weights)
    mu_x, mu_y = (theory.mu(weights, truth.densities(v, truth.grid(v, 20_000))) for v in range(2))
    tried = np.linspace(0, 1, points + 2)[1:-1]
    bounds = np.array([theory.gamma_bounds(weights, mu_x, mu_y, w1) for w1 in tried])
    kept = bounds[:, 0] <= bounds[:, 1]
    return tried[kept], bounds[kept, 0], bounds[kept, 1]


def fig_uncertainty(results: Results) -> Figure:
    """Draw mean and two standard deviations of the classifier of x, by what varies."""
    figure, panels = plt.subplots(1, len(results), figsize=(9.0, 3.2), sharey=True, squeeze=False)
    for panel, name in zip(panels[0], results.runs, strict=True):
        run = results[name]
        band, inside = Band.of(run), crop(run.arrays["marginal"][0])
        x, mean, spread = band.grid[inside], band.mean[inside], 2 * band.sd[inside]
        panel.fill_between(
            x, mean - spread, mean + spread, color=ESTIMATED, alpha=0.25, linewidth=0, label="mean ± 2 SD"
        )
        panel.plot(x, mean, color=ESTIMATED, label="estimated, mean")
        panel.plot(x, band.exact[inside], color=TRUE, linestyle="-.", label="true")
        panel.set(xlabel="$x$", title=f"{_BANDS[name]} ({len(run.values('weight_1'))} fits)")
    panels[0, 0].set(ylabel=r"$\alpha_x^{(1)}(x)$")
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    return figure


def fig_labels(results: Results) -> Figure:
    """Draw the points of each variate by the class found, and the joint table of classes."""
    run = results["multi_label/main"]
    points, labels = run.arrays["points"], LabelTable.of(run)
    figure, panels = plt.subplots(1, 3, figsize=(10.0, 3.8))
    for variate, name in enumerate("xy"):
        for number in range(labels.true.shape[variate]):
            members = points[labels.classes[:, variate] == number, variate]
            panels[variate].plot(*members.T, ".", color=SERIES[number], markersize=2, alpha=0.6)
        panels[variate].set(xlabel=f"${name}_1$", ylabel=f"${name}_2$", title=f"variate ${name}$", aspect="equal")
    _class_table(panels[2], labels)
    numbers = range(max(labels.true.shape))
    handles = [Line2D([], [], marker="o", linestyle="", color=SERIES[n], label=f"{n + 1}") for n in numbers]
    figure.legend(
        handles=handles,
        title="class found (seed of highest mutual information)",
        loc="outside upper center",
        ncols=len(handles),
    )
    return figure


def _class_table(axes: Axes, labels: LabelTable) -> None:
    pairs = zip(labels.found, labels.true, strict=True)
    texts = [[f"{found:.3f}\n({true:.3f})" for found, true in zip(*rows, strict=True)] for rows in pairs]
    largest = float(max(labels.found.max(), labels.true.max()))
    image = number_cells(axes, labels.found, texts, largest=largest, fontsize=7)
    axes.set(xlabel="class of $y$", ylabel="class of $x$", title="share of the points (true)")
    for axis, size in zip((axes.yaxis, axes.xaxis), labels.true.shape, strict=True):
        axis.set_ticklabels([str(number + 1) for number in range(size)])
    axes.figure.colorbar(image, ax=axes, label="share of the points", shrink=0.7)


def fig_identifiability(results: Results) -> Figure:
    """Draw the essential suprema of the classifiers, and the weights that (A.6) allows, as components overlap."""
    slopes, weights = np.linspace(0, 1, 201), np.array([0.4, 0.6])
    suprema = np.array([_suprema(weights, slope) for slope in slopes])
    bounds = np.array([weight_range(weights, pair, pair) for pair in suprema])
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 3.4))
    for component, values in enumerate(suprema.T):
        left.plot(slopes, values, color=SERIES[component], label=rf"$i={component + 1}$")
    left.axhline(1, color=TRUE, linestyle="-.", label="unique if all reach 1, (37)")
    left.set(ylabel=r"ess sup $\alpha_x^{(i)}$", ylim=(0.3, 1.05))
    right.fill_between(slopes, *bounds.T, color=NEUTRAL, alpha=0.25, linewidth=0, label="allowed by (A.6)")
    right.plot(slopes, bounds, color=NEUTRAL)
    right.axhline(weights[0], color=TRUE, linestyle="-.", label="true weight $w_1$")
    right.set(ylabel="weight $w_1'$", ylim=(0, 1))
    for panel, place in ((left, "lower right"), (right, "upper right")):
        panel.set(xlabel="slope $s$ of the densities $1 \\pm s(1 - 2t)$\n(overlap $1 - s/2$)", xlim=(0, 1.01))
        panel.legend(loc=place)
    return figure


def _suprema(weights: Floats, slope: float) -> Floats:
    """Return the essential suprema, which densities with slopes of opposite sign reach at the ends of the interval."""
    from neumix.models.inclass import theory

    ends = np.array([0.0, np.nextafter(1.0, 0.0)])
    densities = np.stack([Linear(family="linear", slope=sign * slope).pdf(ends) for sign in (1, -1)])
    return theory.mu(weights, densities)
