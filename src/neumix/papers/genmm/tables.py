"""Tables of the GenMM paper and of the experiments beyond it."""

from collections.abc import Iterable

import pandas as pd

from neumix.absent import NOT_RUN
from neumix.formatting import format_number
from neumix.papers.genmm.claims import table_claims
from neumix.papers.genmm.readings import (
    CLASSIFIED,
    IMAGES,
    LATENT,
    MODELS,
    SCORES,
    classifiers,
    components,
    dataset_label,
    image_runs,
    variant_label,
)
from neumix.results import Results, RunResult
from neumix.spread import mean_and_sd

__all__ = ["table1", "table2", "table_claims", "table_classification", "table_likelihood", "table_quality"]

_DASH = "–"
_LIKELIHOOD_K = (1, 3, 5, 7)
_ACCURACY_COLUMNS = {**{f"K = {k}": f"K = {k}" for k in (1, 2, 3, 4, 10, 20)}, LATENT: "LatMM (K = 4)"}


def table1(results: Results) -> pd.DataFrame:
    """Return the lowest training NLL by model, dataset and K."""
    found = image_runs(results, "nll")
    rows = []
    for model, title in MODELS.items():
        for dataset, label in IMAGES.items():
            runs = found.get((model, dataset), {})
            cells = {
                f"K = {k}": mean_and_sd(runs[k].values("lowest_nll"), 4) if k in runs else NOT_RUN
                for k in _LIKELIHOOD_K
            }
            rows.append({"Model": title, "Dataset": _data(label, runs.values()), **cells})
    return pd.DataFrame(rows)


def table2(results: Results) -> pd.DataFrame:
    """Return the test accuracy by dataset and K, and that of LatMM."""
    found, rows = classifiers(results), []
    for dataset, label in CLASSIFIED.items():
        runs = found.get(dataset, {})
        cells = {
            title: mean_and_sd(runs[name].values("accuracy"), 4) if name in runs else NOT_RUN
            for name, title in _ACCURACY_COLUMNS.items()
        }
        rows.append({"Dataset": _data(label, runs.values()), **cells})
    return pd.DataFrame(rows)


def table_likelihood(results: Results) -> pd.DataFrame:
    """Return training and held-out NLL of every run on images, and what else its likelihood says."""
    return pd.DataFrame(
        {
            "Model": variant_label(name),
            "Dataset": dataset_label(run),
            "K": str(components(run)),
            "Trained values": f"{run.values('n_parameters')[0]:.0f}",
            "Effective components": mean_and_sd(run.values("effective_components"), 2),
            "Training NLL (nats/pixel)": mean_and_sd(run.values("train_nll"), 4),
            "Held-out NLL (nats/pixel)": mean_and_sd(run.values("held_out_nll"), 4),
            "Gap (nats/pixel)": mean_and_sd(run.values("held_out_nll") - run.values("train_nll"), 4),
            "Lowest training NLL (nats/pixel)": mean_and_sd(run.values("lowest_nll"), 4),
            "at epoch": mean_and_sd(run.values("lowest_epoch"), 0),
            "Lowest held-out NLL (nats/pixel)": mean_and_sd(run.values("lowest_held_out_nll"), 4),
            "AUROC against the other dataset (%; below 50 the other is more likely)": _auroc(run),
        }
        for name, run in results.items()
    )


def table_quality(results: Results) -> pd.DataFrame:
    """Return the scores of samples and of real images, and what samples and interpolations are classified as."""
    found, rows = image_runs(results, "sample_quality"), []
    for dataset in IMAGES:
        runs = [(model, run) for (model, data), by_k in found.items() if data == dataset for run in by_k.values()]
        rows += [_quality_row(MODELS[model], run) for model, run in runs]
        if runs:
            first = runs[0][1]
            real = {title: _mean_and_range(first, f"real_{metric}") for metric, title in SCORES.items()}
            rows.append({"Model": "Real images", "Dataset": dataset_label(first), **real})
    return pd.DataFrame(rows).fillna(_DASH)


def table_classification(results: Results) -> pd.DataFrame:
    """Return what one density for each class gives besides the test accuracy, and the accuracy earlier in training."""
    runs = [(label, run) for by_label in classifiers(results).values() for label, run in by_label.items()]
    rows = [_classification_row("LatMM" if label == LATENT else "GenMM", run) for label, run in runs]
    frame = pd.DataFrame(rows).fillna(_DASH)
    return frame[[*(name for name in frame if name != "Seeds"), "Seeds"]]


def _quality_row(model: str, run: RunResult) -> dict[str, str]:
    return {
        "Model": model,
        "Dataset": dataset_label(run),
        "K": str(components(run)),
        **{title: _mean_and_range(run, metric) for metric, title in SCORES.items()},
        "1NN of real and of generated images": " and ".join(
            f"{run.values(f'one_nn_{kind}').mean():.3f}" for kind in ("real", "generated")
        ),
        "Effective classes": f"{run.values('class_entropy')[0]:.2f}",
        "Neither end's class, responsible generator (%)": _percent(run, "foreign_share_responsible"),
        "Neither end's class, random generator (%)": _percent(run, "foreign_share_random"),
        "Samples not finite (%)": _percent(run, "not_finite_share"),
    }


def _classification_row(model: str, run: RunResult) -> dict[str, str]:
    epochs = sorted(int(name.partition("@")[2]) for name in run.metrics if name.startswith("accuracy@"))
    return {
        "Dataset": dataset_label(run),
        "Model": model,
        "K": str(components(run)),
        "Test accuracy": mean_and_sd(run.values("accuracy"), 4),
        **{f"after epoch {epoch}": mean_and_sd(run.values(f"accuracy@{epoch}"), 4) for epoch in epochs},
        "Training accuracy": mean_and_sd(run.values("train_accuracy"), 4),
        "Test NLL (nats/value)": mean_and_sd(run.values("test_nll"), 3),
        "Training NLL (nats/value)": mean_and_sd(run.values("train_nll"), 3),
        "Calibration error": mean_and_sd(run.values("calibration_error"), 4),
        "NLL of the class posterior (nats)": mean_and_sd(run.values("posterior_nll"), 3),
        "Unseen-class AUROC (%)": mean_and_sd(run.values("unseen_class_auroc"), 1),
        "Trained values of a class": f"{run.values('n_parameters')[0]:.0f}",
        "Seeds": str(len(run.values("accuracy"))),
    }


def _data(label: str, runs: Iterable[RunResult]) -> str:
    """Return the label of a dataset, or of what stands in for it in its runs."""
    used = {dataset_label(run) for run in runs} or {label}
    return label if used == {label} else f"{' and '.join(sorted(used))} in place of {label}"


def _auroc(run: RunResult) -> str:
    return mean_and_sd(run.values("other_auroc"), 1) if "other_auroc" in run.metrics else _DASH


def _mean_and_range(run: RunResult, metric: str) -> str:
    values = run.values(metric)
    mean, low, high = (format_number(float(value)) for value in (values.mean(), values.min(), values.max()))
    return f"{mean} ({low} to {high})"


def _percent(run: RunResult, metric: str) -> str:
    return mean_and_sd(100 * run.values(metric), 1)
