"""Tables of the identifiability paper and of the experiments beyond it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neumix.papers.identifiability.readings import components, epoch_curve, fits, label_of
from neumix.papers.identifiability.theory import table1, table_examples, table_laws
from neumix.papers.identifiability.toy_figures import table_toy
from neumix.results import Results, RunResult
from neumix.spread import mean_and_sd

__all__ = [
    "table1",
    "table2",
    "table3",
    "table_clustering",
    "table_components",
    "table_controls",
    "table_draws",
    "table_epochs",
    "table_examples",
    "table_laws",
    "table_toy",
]

Floats = NDArray[np.float64]

_DATASETS = {
    "pinwheel_vade/main": "Pinwheel",
    "parallelograms_vade/draw_1": "Random parallelograms #1",
    "parallelograms_vade/draw_2": "Random parallelograms #2",
    "parallelograms_vade/draw_3": "Random parallelograms #3",
}
_DRAWS = {"draw_sensitivity/pinwheel": "Pinwheel", "draw_sensitivity/parallelograms": "Random parallelograms"}
_IMAGES = {"clustering/mnist": "MNIST", "clustering/fashion_mnist": "Fashion-MNIST"}
_MCC = {"Strong MCC": "mcc_strong", "Weak MCC": "mcc_weak"}


def table2(results: Results) -> pd.DataFrame:
    """Return distance and MCC over the pairs of fits of each synthetic dataset, mean and standard deviation."""
    columns = {"dist_AffL2": "dist_aff_l2", "dist_AffL2, refined": "dist_aff_l2_refined", **_MCC}
    return pd.DataFrame(
        {
            "Dataset": _DATASETS[name],
            **{title: _over_pairs(run, metric) for title, metric in columns.items()},
            "Clustering accuracy (%)": mean_and_sd(run.values("clustering_accuracy"), 1),
            "Fits": str(fits(run)),
        }
        for name, run in results.items()
    )


def table3(results: Results) -> pd.DataFrame:
    """Return strong and weak MCC of every architecture, model and activation, mean and standard deviation."""
    rows = []
    for name, run in results.items():
        model, architecture, activation = label_of(name)
        row = {"Architecture": architecture, "Model": model, "Activation": activation}
        for title, metric in _MCC.items():
            low, high = run.values(f"{metric}_bootstrap")
            row[title] = _over_pairs(run, metric)
            row[f"{title}, 90% bootstrap over fits"] = f"{low:.3f} to {high:.3f}"
        rows.append({**row, "Pairs": f"{run.values('n_pairs')[0]:.0f}", "Epochs": _epochs(run)})
    return pd.DataFrame(rows)


def table_draws(results: Results) -> pd.DataFrame:
    """Return how the means over pairs move from draw to draw of a dataset."""
    rows = []
    for name, run in results.items():
        for title, metric in {"dist_AffL2": "dist_aff_l2", **_MCC}.items():
            values, spread = run.values(metric), run.values(f"{metric}_sd")
            rows.append(
                {
                    "Dataset": _DRAWS[name],
                    "Quantity": title,
                    "Mean over draws": f"{values.mean():.3f}",
                    "SD between draws": f"{values.std(ddof=1):.3f}",
                    "Smallest": f"{values.min():.3f}",
                    "Median": f"{np.median(values):.3f}",
                    "Largest": f"{values.max():.3f}",
                    "SD between pairs of a draw, mean": f"{spread.mean():.3f}",
                    "Draws": str(len(values)),
                    "Fits of each": str(run.parameters["data"]["settings"]["fits_per_draw"]),
                }
            )
    return pd.DataFrame(rows)


def table_epochs(results: Results) -> pd.DataFrame:
    """Return MCC by training epoch."""
    rows = []
    for name, run in results.items():
        curves = {title: epoch_curve(run, f"{metric}_pairs") for title, metric in _MCC.items()}
        curves["Correlation between coordinates of a code"] = epoch_curve(run, "mcc_within")
        for epoch in curves["Weak MCC"]:
            found = {title: mean_and_sd(curve[epoch], 3) for title, curve in curves.items()}
            rows.append({"Model": label_of(name)[0], "Epoch": str(epoch), **found})
    return pd.DataFrame(rows)


def table_components(results: Results) -> pd.DataFrame:
    """Return MCC and clustering accuracy by the number of components."""
    by_count = sorted(results.values(), key=components)
    return pd.DataFrame(
        {
            "Components": str(components(run)),
            **{title: _over_pairs(run, metric) for title, metric in _MCC.items()},
            "Components in use": f"{run.values('n_components_used').mean():.1f}",
            "Clustering accuracy (%)": mean_and_sd(run.values("clustering_accuracy"), 1),
        }
        for run in by_count
    )


def table_controls(results: Results) -> pd.DataFrame:
    """Return MCC of models that see labels, none, wrong ones, and of networks that were never trained."""
    rows: list[Mapping[str, str]] = []
    for name, run in results.items():
        shuffled = run.parameters["data"]["name"] == "shuffled_labels"
        title = "iVAE, labels shuffled" if shuffled else f"{label_of(name)[0]}, {label_of(name)[1]}"
        rows.append({"Fits": title, **{column: _over_pairs(run, metric) for column, metric in _MCC.items()}})
        if not shuffled:
            untrained = {column: _over_pairs(run, f"untrained_{metric}") for column, metric in _MCC.items()}
            rows.append({"Fits": f"{title}, untrained", **untrained})
    return pd.DataFrame(rows)


def table_clustering(results: Results) -> pd.DataFrame:
    """Return VaDE's clustering accuracy on images."""
    return pd.DataFrame(
        {
            "Dataset": _IMAGES[name],
            "Clustering accuracy (%)": mean_and_sd(run.values("clustering_accuracy"), 2),
            "Best fit (%)": f"{run.values('clustering_accuracy').max():.2f}",
            **{title: _over_pairs(run, metric) for title, metric in _MCC.items()},
            "Fits": str(fits(run)),
            "Epochs": _epochs(run),
        }
        for name, run in results.items()
    )


def _epochs(run: RunResult) -> str:
    return " + ".join(str(stage["epochs"]) for stage in run.parameters["stages"].values())


def _over_pairs(run: RunResult, metric: str) -> str:
    return mean_and_sd(run.values(f"{metric}_pairs"), 3)
