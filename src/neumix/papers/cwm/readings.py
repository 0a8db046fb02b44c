"""What both tables and figures read from the results of runs."""

import numpy as np
from numpy.typing import NDArray

from neumix.results import Results, RunResult

__all__ = [
    "MODELS",
    "SCORE",
    "components",
    "epochs",
    "fit_of",
    "image_bound",
    "model_of",
    "score_curve",
    "targets_of",
]

Floats = NDArray[np.float64]

MODELS = {"cwm": "CWM", "rnvp": "RNVP", "nsf": "NSF", "gmm": "GMM"}
"""Models of Table I by run, in the paper's order."""

SCORE = "mean_log_likelihood"
"""Metric that models are compared by."""

_FITS = {"cwm": "CWM", "mixture": "Mixture, K = 8", "mixture_32": "Mixture, K = 32", "rnvp": "RNVP", "nsf": "NSF"}
_TARGETS = {"banana": "Banana", "ring": "Ring", "mixture": "Mixture"}


def model_of(run: str) -> str:
    """Return what a reader calls the model of a run `experiment/model` or `experiment/model_components`."""
    return MODELS[run.partition("/")[2].partition("_")[0]]


def components(run: RunResult) -> int | None:
    """Return the number of components of a run's model, or none for a flow."""
    count = run.parameters["model"]["settings"].get("components")
    return None if count is None else int(count)


def epochs(run: RunResult) -> int:
    """Return the number of epochs of gradient training; 0 for EM."""
    return sum(int(stage["epochs"]) for stage in run.parameters["stages"].values())


def image_bound(results: Results) -> float:
    """Return the mean log density of the image itself, which no model exceeds."""
    return float(next(iter(results.values())).values("image_log_density")[0])


def score_curve(run: RunResult) -> dict[int, Floats]:
    """Return the held-out score of every seed by epoch; 0 is the Gaussian mixture that a CWM starts from."""
    curve: dict[int, Floats] = {}
    for name, stage in run.parameters["stages"].items():
        for epoch in (*stage["snapshots"], stage["epochs"]):
            place = name if epoch == stage["epochs"] else f"{name}@{epoch}"
            curve[int(epoch)] = run.values(f"curve_{place}")
    return dict(sorted(curve.items()))


def fit_of(run: str) -> tuple[str, str]:
    """Return what a reader calls target and model of a run `variational/target_model`."""
    target, _, model = run.partition("/")[2].partition("_")
    return _TARGETS[target], _FITS[model]


def targets_of(results: Results) -> dict[str, dict[str, RunResult]]:
    """Return the variational fits by target and model, as a reader calls them."""
    found: dict[str, dict[str, RunResult]] = {}
    for name, run in results.items():
        target, model = fit_of(name)
        found.setdefault(target, {})[model] = run
    return found
