"""Tables of the CPMM paper and of the experiments beyond it."""

from collections.abc import Iterator, Mapping

import pandas as pd

from neumix.absent import NOT_RUN
from neumix.papers.cpmm.claims import table_claims
from neumix.papers.cpmm.readings import (
    ABLATION,
    CITED,
    IMAGES,
    MODELS,
    SMALL,
    find_run,
    image_run,
    size_of,
    title_of,
    titles_of,
)
from neumix.results import Results, RunResult
from neumix.spread import mean_and_sd

__all__ = ["table1", "table2", "table3", "table_claims", "table_integration", "table_mixtures", "table_teachers"]

_DASH = "–"
_QUOTE = {"BPD": _DASH, "Acc. (%)": "quoted by the paper"}
_WAYS = {
    "direct": "integrated with the state",
    "scaled": "integrated with the state, divided by its largest density",
    "logs": "integral of logs over the solved states",
    "sum": "sum over the components",
}
_EQUATION = {"direct": "direct", "scaled": "scaled", "logs": "alone", "sum": "alone"}
_FLOWS = {
    "teacher": ("Teacher, maximum likelihood", "cpmm"),
    "ffjord": ("FFJORD, maximum likelihood", None),
    "matching": ("Teacher, flow matching", "cpmm_matching"),
}
_DETECTORS = {
    "students/{}_cpmm": "CPMM",
    "flows/{}_ffjord": "FFJORD",
    "flows/{}_teacher": "Teacher",
    "baselines/{}_gmm_matched": "Matched GMM",
    "baselines/{}_gmm_sclust": "GMM, 250 components",
    "students/{}_gmm_curr": "GMM w/ Curr.",
    "baselines/{}_einet_matched": "EiNet (Matched)",
    "large_circuits/{}_einet": "EiNet (Large)",
}


def table1(results: Results) -> pd.DataFrame:
    """Return bits per dimension and clustering accuracy of every model on both datasets."""
    rows = []
    labels = {dataset: _label(results, dataset) for dataset in IMAGES}
    for row, runs in _image_rows(results, {**MODELS, **SMALL, "vade/{}": "VaDE (ours)"}):
        for dataset, label in labels.items():
            row[f"{label} BPD"] = _cell(runs[dataset], "bits_per_dim", 2)
            row[f"{label} Acc. (%)"] = _cell(runs[dataset], "clustering_accuracy", 2)
        rows.append(row)
    quoted = [
        {"Model": model, "Images": _DASH}
        | {f"{label} {column}": cell for label in labels.values() for column, cell in _QUOTE.items()}
        for model in CITED
    ]
    return pd.DataFrame([*rows, *quoted])


def table2(results: Results) -> pd.DataFrame:
    """Return AUROC and AUPR of every model as a detector of the other dataset, in both directions."""
    rows = []
    titles = {dataset: titles_of(results, dataset) for dataset in IMAGES}
    for row, runs in _image_rows(results, {**_DETECTORS, **SMALL}):
        for dataset, (own, other) in titles.items():
            row[f"in {own}, out {other}: AUROC (%)"] = _cell(runs[dataset], "auroc", 2)
            row[f"in {own}, out {other}: AUPR (%)"] = _cell(runs[dataset], "aupr", 2)
        rows.append(row)
    return pd.DataFrame(rows)


def table3(results: Results) -> pd.DataFrame:
    """Return bits per dimension and accuracy of CPMMs without a curriculum, by start and diagonal."""
    rows = []
    for name, (start, diagonal) in ABLATION.items():
        run = find_run(results, f"mnist_ablation/{name}")
        rows.append(
            {
                "Init.": start,
                "Diagonal": diagonal,
                "BPD": _cell(run, "bits_per_dim", 2),
                "Acc. (%)": _cell(run, "clustering_accuracy", 2),
            }
        )
    return pd.DataFrame(rows)


def table_teachers(results: Results) -> pd.DataFrame:
    """Return the flows, trained by likelihood and by flow matching, and the CPMMs that they teach."""
    rows = []
    for name, (title, pupil) in _FLOWS.items():
        for dataset, label in IMAGES.items():
            flow = find_run(results, f"flows/{dataset}_{name}")
            student = None if pupil is None else find_run(results, f"students/{dataset}_{pupil}")
            if flow is None and student is None:
                continue
            shown = flow or student
            taught = {
                "CPMM BPD": _cell(student, "bits_per_dim", 2),
                "CPMM Acc. (%)": _cell(student, "clustering_accuracy", 2),
            }
            rows.append(
                {
                    "Flow, trained by": title,
                    "Dataset": label if shown is None else title_of(shown),
                    "Flow BPD": _cell(flow, "bits_per_dim", 2),
                    "Change of BPD with four times the solver's steps": _cell(flow, "finer_bits", 3),
                    **(dict.fromkeys(taught, _DASH) if pupil is None else taught),
                }
            )
    return pd.DataFrame(rows)


def table_mixtures(results: Results) -> pd.DataFrame:
    """Return what the components of every mixture of images say besides Table 1."""
    rows = []
    for name in results.runs:
        run = results[name]
        if "used_components" not in run.metrics:
            continue
        rows.append(
            {
                "Run": name,
                "Images": title_of(run),
                "Components": _cell(run, "n_components", 0),
                "Used": _cell(run, "used_components", 1),
                "Trained values": _cell(run, "n_parameters", 0),
                "Extracted values": _cell(run, "n_extracted", 0),
                "Training BPD": _cell(run, "train_bits_per_dim", 3),
                "BPD": _cell(run, "bits_per_dim", 3),
                "BPD of the lower half, given the upper": _cell(run, "missing_bits_per_dim", 3),
                "Images best explained by a first component (%)": _cell(run, "first_component_share", 2, 100),
                "Change of BPD without the first components": _cell(run, "bits_without_first", 6),
            }
        )
    return pd.DataFrame(rows)


def table_integration(results: Results) -> pd.DataFrame:
    """Return what it takes to integrate the continuous mixture, and how far each way is from the integral of logs."""
    rows = []
    for name in results.runs:
        run = results[name]
        if "integration_evaluations_alone" not in run.metrics:
            continue
        for way, title in _WAYS.items():
            rows.append(
                {
                    "Run": name,
                    "p(x)": title,
                    "Evaluations of the equation": _cell(run, f"integration_evaluations_{_EQUATION[way]}", 0),
                    "Pseudotimes": _cell(run, "integration_grid", 0) if way == "logs" else _DASH,
                    "Last change (nats)": _cell(run, "integration_change", 4) if way == "logs" else _DASH,
                    "Images without a value (%)": _cell(run, f"integration_missing_{way}", 0, 100),
                    "Largest error (nats)": _cell(run, f"integration_error_{way}", 4),
                }
            )
    return pd.DataFrame(rows)


def _image_rows(
    results: Results, models: Mapping[str, str]
) -> Iterator[tuple[dict[str, str], dict[str, RunResult | None]]]:
    """Yield the first cells of a row for each model, and its runs by dataset; nothing for what is added but not run."""
    for name, title in models.items():
        runs = {dataset: image_run(results, name, dataset) for dataset in IMAGES}
        sizes = sorted({size_of(run) for run in runs.values() if run is not None})
        if sizes or name not in SMALL:
            yield {"Model": title, "Images": ", ".join(sizes) or NOT_RUN}, runs


def _label(results: Results, dataset: str) -> str:
    """Return what the columns of a dataset are called."""
    title = titles_of(results, dataset)[0]
    return title if title == IMAGES[dataset] else f"{title} in place of {IMAGES[dataset]}"


def _cell(run: RunResult | None, metric: str, decimals: int, factor: float = 1.0) -> str:
    """Return mean and SD of a metric; a dash if the model has no such number."""
    if run is None:
        return NOT_RUN
    return mean_and_sd(factor * run.values(metric), decimals) if metric in run.metrics else _DASH
