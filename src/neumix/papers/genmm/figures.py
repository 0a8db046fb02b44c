"""Figures of the GenMM paper and of the experiments beyond it."""

from collections.abc import Iterable, Iterator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from neumix.absent import say_not_run
from neumix.papers.genmm.diagrams import alg1, fig1, fig2
from neumix.papers.genmm.pictures import fig6, fig7
from neumix.papers.genmm.readings import (
    IMAGES,
    LATENT,
    MODELS,
    SCORES,
    ByComponents,
    classifiers,
    dataset_label,
    few,
    image_runs,
)
from neumix.rendering import NEUTRAL, SERIES
from neumix.results import Results, RunResult
from neumix.spread import error_bars

__all__ = ["alg1", "fig1", "fig2", "fig3", "fig4", "fig5", "fig6", "fig7", "fig_new_classes", "fig_reliability"]

Floats = NDArray[np.float64]

_SHOWN_FROM = 8  # the scale of NLL is made for all but the first eighth of the epochs
_RARE = 0.005  # share of points below which a bin of confidence says too little to be drawn
_WITHIN = 95  # percentile of a curve that has to be on the scale


def fig3(results: Results) -> Figure:
    """Draw the training NLL by epoch, one line for each K, and the held-out NLL dashed."""
    found = image_runs(results, "nll")
    figure, panels = plt.subplots(2, 2, figsize=(7.2, 5.4))
    counts = sorted({k for runs in found.values() for k in runs})
    colours = dict(zip(counts, SERIES, strict=False))
    places = [(model, dataset) for model in MODELS for dataset in IMAGES]
    for letter, panel, (model, dataset) in zip("abcd", panels.flat, places, strict=True):
        runs = found.get((model, dataset))
        data = dataset_label(next(iter(runs.values()))) if runs else IMAGES[dataset]
        panel.set_title(f"({letter}) {MODELS[model]}, {data}")
        if runs is None:
            say_not_run(panel)
            continue
        _likelihood_curves(panel, runs, colours)
        panel.set(xlabel="epoch", ylabel="NLL (nats/pixel)")
    handles = [Line2D([], [], color=colour, label=f"K = {k}") for k, colour in colours.items()]
    handles.append(Line2D([], [], color=NEUTRAL, linestyle="--", linewidth=0.8, label="held-out"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles))
    return figure


def fig4(results: Results) -> Figure:
    """Draw the scores of samples by K on MNIST."""
    return _scores(results, "mnist")


def fig5(results: Results) -> Figure:
    """Draw the scores of samples by K on Fashion-MNIST."""
    return _scores(results, "fashion")


def fig_reliability(results: Results) -> Figure:
    """Draw accuracy against confidence of class posteriors, one panel for each dataset."""
    figure, panels = _by_dataset(results, f"mean confidence in a bin\n(with at least {_RARE:.1%} of the points)")
    for panel, label, run, colour in panels:
        confidence, accuracy = _reliability(run)
        panel.plot(confidence, accuracy, marker="o", markersize=3, color=colour, label=label)
    for panel in _visible(figure):
        panel.plot([0, 1], [0, 1], color=NEUTRAL, linestyle="--", label="confidence = accuracy")
        panel.set(xlim=(0, 1), ylim=(0, 1.02))
    _shared_legend(figure, "accuracy in the bin")
    return figure


def fig_new_classes(results: Results) -> Figure:
    """Draw the accuracy among the first classes, as the mixtures of further ones are added."""
    figure, panels = _by_dataset(results, "number of classes")
    for panel, label, run, colour in panels:
        added = run.arrays["accuracy_by_classes"]
        error_bars(panel, range(1, added.shape[1] + 1), list(added.T), colour, label)
    _shared_legend(figure, "test accuracy\nmean ± SD over seeds")
    return figure


def _likelihood_curves(panel: Axes, runs: ByComponents, colours: dict[int, str]) -> None:
    """Draw the curves of one model and dataset on a scale that their ends are legible on."""
    low, high = np.inf, -np.inf
    for k, run in runs.items():
        for name, line, width in (("train_curve", "-", 1.3), ("held_out_curve", "--", 0.8)):
            curve = run.arrays[name].mean(1)
            panel.plot(np.arange(1, len(curve) + 1), curve, color=colours[k], linestyle=line, linewidth=width)
            shown = curve[len(curve) // _SHOWN_FROM :]
            low, high = min(low, shown.min()), max(high, np.percentile(shown, _WITHIN))
    margin = 0.05 * (high - low)
    panel.set_ylim(low - margin, high + margin)


def _scores(results: Results, dataset: str) -> Figure:
    """Draw each score against K: mean and range over evaluations for both models, and what real images get."""
    found = {model: runs for (model, data), runs in image_runs(results, "sample_quality").items() if data == dataset}
    figure, panels = plt.subplots(2, 2, figsize=(6.8, 5.0), sharex=True)
    for panel, (metric, score) in zip(panels.flat, SCORES.items(), strict=True):
        panel.set_ylabel(f"{score} ({'higher' if metric == 'inception_score' else 'lower'} is better)")
        if not found:
            say_not_run(panel)
            continue
        for (model, runs), colour in zip(found.items(), SERIES, strict=False):
            _mean_and_range(panel, runs, metric, colour, MODELS[model])
        first = next(iter(next(iter(found.values())).values()))
        ideal = metric == "one_nn"
        level = 0.5 if ideal else first.values(f"real_{metric}").mean()
        panel.axhline(level, color=NEUTRAL, linestyle="--", label="real images beside real images (1NN: 0.5)")
        panel.set_xticks(sorted({k for runs in found.values() for k in runs}))
    for panel in panels[-1]:
        panel.set_xlabel("number of components K")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _mean_and_range(panel: Axes, runs: ByComponents, metric: str, colour: str, label: str) -> None:
    values = [run.values(metric) for run in runs.values()]
    counts = list(runs)
    panel.fill_between(counts, [v.min() for v in values], [v.max() for v in values], color=colour, alpha=0.2, lw=0)
    panel.plot(counts, [v.mean() for v in values], marker="o", markersize=4, color=colour, label=label)


def _reliability(run: RunResult) -> tuple[Floats, Floats]:
    """Return mean confidence and accuracy of the points of all seeds in each bin that is not nearly empty."""
    share, confidence, accuracy = (run.arrays[f"reliability_{key}"] for key in ("share", "confidence", "accuracy"))
    total = share.sum(0)
    filled = total >= _RARE * total.sum()
    means = [(share * values).sum(0)[filled] / total[filled] for values in (confidence, accuracy)]
    return means[0], means[1]


def _by_dataset(results: Results, xlabel: str) -> tuple[Figure, Iterator[tuple[Axes, str, RunResult, str]]]:
    """Return a panel for each dataset, and the runs to be drawn there: of few, some and many components, and LatMM."""
    found = classifiers(results)
    figure, panels = plt.subplots(
        1, max(len(found), 1), figsize=(2.5 * max(len(found), 2), 3.4), sharey=True, squeeze=False
    )
    chosen = {dataset: _chosen(runs) for dataset, runs in found.items()}
    labels = sorted({label for names in chosen.values() for label in names}, key=_place)
    colours = dict(zip(labels, SERIES, strict=False))
    for panel, runs in zip(panels[0], found.values(), strict=False):
        panel.set(title=dataset_label(next(iter(runs.values()))), xlabel=xlabel)
    if not found:
        say_not_run(panels[0, 0])
    drawn = (
        (panel, label, found[dataset][label], colours[label])
        for panel, (dataset, names) in zip(panels[0], chosen.items(), strict=False)
        for label in names
    )
    return figure, drawn


def _chosen(runs: Iterable[str]) -> list[str]:
    """Return the labels of few, some and many components, and that of LatMM."""
    return [*few([label for label in runs if label != LATENT]), *(label for label in runs if label == LATENT)]


def _place(label: str) -> tuple[bool, int]:
    """Return what sorts labels by K, LatMM last."""
    return (True, 0) if label == LATENT else (False, int(label.removeprefix("K = ")))


def _visible(figure: Figure) -> list[Axes]:
    """Return the panels that runs are drawn in."""
    return [panel for panel in figure.axes if panel.get_title()]


def _shared_legend(figure: Figure, ylabel: str) -> None:
    """Name the vertical scale of all panels, and what is drawn in any of them."""
    figure.axes[0].set_ylabel(ylabel)
    handles: dict[str, Artist] = {}
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=3)
