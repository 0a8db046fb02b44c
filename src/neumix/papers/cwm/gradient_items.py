"""Table and figure of the gradient estimators."""

from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from neumix.formatting import format_number
from neumix.rendering import NEUTRAL, SERIES
from neumix.results import Results, RunResult

__all__ = ["fig_gradients", "table_gradients"]

Floats = NDArray[np.float64]

_LABELS = {
    "rao_blackwell": "Rao-Blackwell (19)",
    "rao_blackwell_equal": "Rao-Blackwell (19), M/K draws",
    "reinforce": "REINFORCE",
    "reinforce_leave_one_out": "REINFORCE, baseline",
    "crude": "crude (18), labels constant",
}
_RELAXED = "gumbel_softmax_"
_UNBIASED = ("rao_blackwell", "reinforce")
"""How the names of the estimators start whose gradients are unbiased by theory."""
_FAMILIES = {"rao_blackwell": (SERIES[0], "o"), "reinforce": (SERIES[1], "s"), "crude": (NEUTRAL, "D")}
_RELAXED_STYLE = (SERIES[2], "^")
_NOISE: dict[str, Any] = {"color": "black", "marker": "|", "markersize": 9, "linestyle": "none"}
_MEASURED = "_gradient_variance"


def table_gradients(results: Results) -> pd.DataFrame:
    """Return bias, variance and time of each estimator for every target, medians over seeds."""
    return pd.DataFrame(
        _row(name.partition("/")[2], run, estimator) for name, run in results.items() for estimator in _estimators(run)
    )


def fig_gradients(results: Results) -> Figure:
    """Draw bias, variance, and mean squared error against time, one row for each target."""
    runs = dict(results)
    figure, panels = plt.subplots(len(runs), 3, figsize=(7.4, 2.1 * len(runs) + 0.8), squeeze=False, sharex="col")
    for (bias, variance, cost), (name, run) in zip(panels, runs.items(), strict=True):
        if cost is not panels[0, 2]:
            cost.sharey(panels[0, 2])
        _draw_run(bias, variance, cost, run)
        bias.set_ylabel(name.partition("/")[2].capitalize(), fontsize=10, fontweight="bold")
        cost.set_ylabel("relative mean squared error")
    panels[-1, 0].set_xlabel("relative bias")
    panels[-1, 1].set_xlabel("relative variance")
    longest = max(_milliseconds(run, estimator) for run in runs.values() for estimator in _estimators(run))
    panels[-1, 2].set(xlabel="milliseconds", xlim=(0, 1.1 * longest))
    _show_two_decades(panels[0, 0], "x")
    _show_two_decades(panels[0, 1], "x")
    _show_two_decades(panels[0, 2], "y")
    figure.legend(handles=_handles(next(iter(runs.values()))), loc="outside upper center", ncols=2)
    return figure


def _row(title: str, run: RunResult, estimator: str) -> dict[str, str]:
    """Return a row of the table."""
    seeds = len(run.values("gradient_norm"))

    def median(metric: str) -> float:
        return float(np.median(run.values(f"{estimator}_{metric}")))

    bias, noise = (format_number(median(f"gradient_{metric}")) for metric in ("bias", "bias_noise"))
    return {
        "Target": title,
        "Estimator": _label(estimator),
        "Unbiased gradient": "yes" if estimator.startswith(_UNBIASED) else "no",
        "Evaluations of h": f"{median('evaluations'):.0f}",
        "Relative bias (noise of an unbiased one)": f"{bias} ({noise})",
        "Relative variance": format_number(median("gradient_variance")),
        "Relative mean squared error": format_number(median("gradient_mse")),
        "Bias of the value in nats (standard error)": f"{median('value_bias'):z.4f} ({median('value_bias_noise'):.4f})",
        "Variance of the value": format_number(median("value_variance")),
        f"Milliseconds per gradient of {seeds} seeds": format_number(_milliseconds(run, estimator)),
    }


def _draw_run(bias: Axes, variance: Axes, cost: Axes, run: RunResult) -> None:
    """Draw the three panels of a target."""
    estimators = _estimators(run)
    for position, estimator in enumerate(estimators):
        style = _style(estimators, estimator)
        for axes, metric in ((bias, "gradient_bias"), (variance, "gradient_variance")):
            values = run.values(f"{estimator}_{metric}")
            axes.plot([values.min(), values.max()], [position] * 2, color=style["color"], linewidth=1)
            axes.plot(np.median(values), position, **style)
        bias.plot(np.median(run.values(f"{estimator}_gradient_bias_noise")), position, **_NOISE)
        error = run.values(f"{estimator}_gradient_mse")
        seconds = _milliseconds(run, estimator)
        cost.plot([seconds] * 2, [error.min(), error.max()], color=style["color"], linewidth=1)
        cost.plot(seconds, np.median(error), **style)
    for axes in (bias, variance):
        axes.set_yticks(range(len(estimators)), [_label(e) for e in estimators] if axes is bias else [])
        axes.set(xscale="log", ylim=(len(estimators) - 0.5, -0.5))
    cost.set_yscale("log")
    for axis in (bias.xaxis, variance.xaxis, cost.yaxis):
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_minor_formatter(NullFormatter())


def _style(estimators: list[str], estimator: str) -> dict[str, Any]:
    """Return the marker of an estimator, filled for the first of its family and open for the others."""
    family = next((family for family in _FAMILIES if estimator.startswith(family)), _RELAXED)
    color, marker = _FAMILIES.get(family, _RELAXED_STYLE)
    first = next(name for name in estimators if name.startswith(family)) == estimator
    face = color if first else "white"
    return {"color": color, "marker": marker, "markerfacecolor": face, "markersize": 5, "linestyle": "none"}


def _handles(run: RunResult) -> list[Line2D]:
    label = f"median and range of {len(run.values('gradient_norm'))} seeds"
    return [
        Line2D([], [], color="black", marker="o", markersize=5, linewidth=1, label=label),
        Line2D([], [], **_NOISE, label="noise: what an unbiased estimator is expected to show"),
    ]


def _show_two_decades(axes: Axes, side: Literal["x", "y"]) -> None:
    """Extend a logarithmic axis to powers of ten where it holds fewer than two of them, which are its labels."""
    low, high = np.log10(getattr(axes, f"get_{side}lim")())
    if np.floor(high) - np.ceil(low) < 1:
        axes.set(**{f"{side}lim": (10 ** np.floor(low), 10 ** np.ceil(high))})


def _estimators(run: RunResult) -> list[str]:
    """Return the names of the measured estimators, in order."""
    return [metric.removesuffix(_MEASURED) for metric in run.metrics if metric.endswith(_MEASURED)]


def _label(estimator: str) -> str:
    if estimator.startswith(_RELAXED):
        return f"Gumbel-softmax, τ = {estimator.removeprefix(_RELAXED)}"
    return _LABELS[estimator]


def _milliseconds(run: RunResult, estimator: str) -> float:
    return float(1000 * np.median(run.arrays[f"{estimator}_seconds"]))
