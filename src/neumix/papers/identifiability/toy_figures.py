"""Figure and table of the exhaustive maximum likelihood search on random univariate models."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from neumix.data.toy_models import PARAMETERS
from neumix.formatting import format_number
from neumix.papers.identifiability.toy_equivalence import CASES
from neumix.rendering import ESTIMATED, SERIES, TRUE
from neumix.results import Results, RunResult

__all__ = ["fig1", "table_toy"]

Flags = NDArray[np.bool_]

_DESCRIPTIONS = dict(
    zip(
        CASES,
        (
            "fewer than J different components",
            "a neuron without effect (alpha or beta is 0)",
            "f constant",
            "f even about a point, like |z|",
        ),
        strict=True,
    )
)


def fig1(results: Results) -> Figure:
    """Draw the negative log-likelihood along one parameter of a model, for three of them."""
    run = results["mle_toy/main"]
    number = len(run.arrays["profile_parameter"])
    figure, panels = plt.subplots(1, number, figsize=(2.5 * number + 0.4, 2.9), squeeze=False)
    for index, panel in enumerate(panels[0]):
        _profile(panel, run.arrays, index)
    panels[0, 0].set_ylabel("negative log-likelihood (nats)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(handles))
    return figure


def _profile(axes: Axes, arrays: Any, index: int) -> None:
    values, likelihood = arrays[f"profile_{index}"]
    simulation = int(arrays["profile_simulation"][index])
    parameter = PARAMETERS[int(arrays["profile_parameter"][index])]
    axes.plot(values, likelihood, color=SERIES[0], label="negative log-likelihood")
    axes.axvline(arrays["profile_truth"][index], color=TRUE, linewidth=3, alpha=0.5, label="truth")
    for position, lowest in enumerate(arrays[f"profile_lowest_{index}"]):
        label = "global minimiser" if position == 0 else None
        axes.axvline(lowest, color=ESTIMATED, linestyle="--", linewidth=1.2, label=label)
    components = int(arrays["components"][0, simulation])
    axes.set(xlabel=f"$\\{parameter}$", title=f"simulation {simulation + 1}, $J = {components}$")


def table_toy(results: Results) -> pd.DataFrame:
    """Return successes and global minimisers by number of components and by what is special about the true model."""
    run = results["mle_toy/main"]
    components, cases = run.arrays["components"], run.arrays["cases"].astype(bool)
    rows = []
    for number in np.unique(components):
        of_number = components == number
        rows.append(_row(run, str(number), "all", of_number))
        for column, case in enumerate(CASES):
            rows.append(_row(run, str(number), _DESCRIPTIONS[case], of_number & cases[..., column]))
        rows.append(_row(run, str(number), "none of these", of_number & ~cases.any(-1)))
    return pd.DataFrame(rows)


def _row(run: RunResult, components: str, case: str, chosen: Flags) -> dict[str, str]:
    """Return a row on the true models (S, N) that are chosen."""
    found = {name: run.arrays[name][chosen] for name in ("success", "minimisers", "lists", "different")}
    simulations, seeds = int(chosen.sum()), len(chosen)
    means = {name: format_number(float(values.mean()) if simulations else np.nan) for name, values in found.items()}
    return {
        "J": components,
        "True model": case,
        f"Simulations ({seeds} seeds)" if seeds > 1 else "Simulations": str(simulations),
        "Every global minimiser equivalent to the truth": str(int(found["success"].sum())),
        "Global minimisers per simulation": means["minimisers"],
        "Parameter lists that give these": means["lists"],
        "Minimisers not equivalent to the truth": str(int(found["different"].sum())),
    }
