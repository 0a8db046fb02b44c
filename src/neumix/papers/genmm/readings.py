"""What both tables and figures read from the results of runs."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from neumix.results import Results, RunResult

__all__ = [
    "CLASSIFIED",
    "IMAGES",
    "LATENT",
    "MODELS",
    "SCORES",
    "ByComponents",
    "classifiers",
    "components",
    "dataset_label",
    "few",
    "image_runs",
    "title_of",
    "variant_label",
]

T = TypeVar("T")
ByComponents = dict[int, RunResult]

MODELS = {"genmm": "GenMM", "latmm": "LatMM"}
IMAGES = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
CLASSIFIED = {"letter": "Letter", "satimage": "Satimage", "norb": "Small NORB"}
"""Datasets of Table II by the first part of a run's name."""
LATENT = "LatMM"
"""Column and label of the LatMM among classifiers, whose others are GenMMs."""

SCORES = {"inception_score": "IS", "fid": "FID", "mmd": "MMD", "one_nn": "1NN"}
"""Scores of samples by metric, in the paper's order; all but the first fall as samples get better."""

_SOURCES = {
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "digits": "digits",
    "letter": "Letter",
    "satimage": "Satimage",
    "smallnorb": "Small NORB",
}
_VARIANTS = {
    "combined": "GenMM whose latent is a LatMM",
    "common_individual": "common generator with individual ones",
    "uniform_noise": "GenMM with uniform noise",
}


def components(run: RunResult) -> int:
    """Return the number of components K of a run's mixture."""
    settings = run.parameters["model"]["settings"]
    return int(settings.get("individual") or settings.get("generators", 1) * settings.get("sources", 1))


def dataset_label(run: RunResult) -> str:
    """Return what a reader calls the data that a run is trained on, which may stand in for the paper's."""
    return _SOURCES[run.parameters["data"]["settings"]["source"]]


def variant_label(run: str) -> str:
    """Return what a reader calls the model of a run `experiment/run` of images."""
    name = run.partition("/")[2]
    return _VARIANTS.get(name) or MODELS[name.partition("_")[0]]


def title_of(model: str, run: RunResult) -> str:
    """Return model, data and number of components of a run of images."""
    return f"{MODELS[model]}, {dataset_label(run)}, K = {components(run)}"


def image_runs(results: Results, experiment: str) -> dict[tuple[str, str], ByComponents]:
    """Return the runs of an experiment on images by model and dataset, then by K in order, GenMM first.

    Arguments:
        results: runs `experiment/model_dataset_k<number>` and others.
        experiment: whose runs.
    """
    found: dict[tuple[str, str], ByComponents] = {}
    for model in MODELS:
        for dataset in IMAGES:
            prefix = f"{experiment}/{model}_{dataset}_k"
            numbers = sorted(int(name.removeprefix(prefix)) for name in results if name.startswith(prefix))
            if numbers:
                found[model, dataset] = {number: results[f"{prefix}{number}"] for number in numbers}
    return found


def classifiers(results: Results) -> dict[str, dict[str, RunResult]]:
    """Return the runs of the classification by dataset, then by label: `K = 1` and so on in order, LatMM last."""
    found: dict[str, dict[str, RunResult]] = {}
    for dataset in CLASSIFIED:
        prefix = f"classification/{dataset}_"
        names = [name.removeprefix(prefix) for name in results if name.startswith(prefix)]
        numbers = sorted(int(name.removeprefix("k")) for name in names if name != "latmm")
        runs = {f"K = {number}": results[f"{prefix}k{number}"] for number in numbers}
        if "latmm" in names:
            runs[LATENT] = results[f"{prefix}latmm"]
        if runs:
            found[dataset] = runs
    return found


def few(values: Sequence[T] | Mapping[T, RunResult]) -> list[T]:
    """Return the first, a middle and the last of some values, each once."""
    listed = list(values)
    return [listed[place] for place in sorted({0, len(listed) // 2, len(listed) - 1})] if listed else []
