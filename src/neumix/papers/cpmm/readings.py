"""What both tables and figures read from the results of runs."""

from typing import Any

from neumix.results import Results, RunResult

__all__ = [
    "ABLATION",
    "CITED",
    "IMAGES",
    "MODELS",
    "SMALL",
    "find_run",
    "image_run",
    "images_of",
    "other_title_of",
    "settings_of",
    "size_of",
    "title_of",
    "titles_of",
]

IMAGES = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
"""Datasets by the first part of a run's name."""

MODELS = {
    "baselines/{}_gmm_matched": "Matched GMM",
    "baselines/{}_gmm_sclust": "GMM w/ S.Clust.",
    "baselines/{}_einet_matched": "EiNet (Matched)",
    "large_circuits/{}_einet": "EiNet (Large)",
    "students/{}_gmm_curr": "GMM w/ Curr.",
    "students/{}_cpmm": "CPMM",
    "flows/{}_teacher": "Teacher",
    "flows/{}_ffjord": "FFJORD",
}
"""Rows of Table 1 that the paper measured, in its order, by run."""

SMALL = {
    name.replace("baselines/", "small_baselines/"): title for name, title in MODELS.items() if "baselines/" in name
}
"""The same models on the smaller images of a reduced budget, where a scale has such."""

_SIDES = {"mnist": 28, "fashion_mnist": 28, "digits": 8, "patches": 8}
_SOURCES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "digits": "digits", "patches": "image patches"}

CITED = ("VADE", "SPC", "DLS")
"""Rows of Table 1 that the paper quotes."""

ABLATION = {
    "random_constant": ("Random", "Constant"),
    "kmeans_constant": ("kmeans", "Constant"),
    "kmeans_variable": ("kmeans", "Variable"),
    "kmeans_constant_sep": ("kmeans*", "Constant"),
}
"""Start and diagonal of each row of Table 3."""


def image_run(results: Results, name: str, dataset: str) -> RunResult | None:
    """Return the run of a model on a dataset; none if the scale does not have it."""
    return find_run(results, name.format(dataset))


def find_run(results: Results, name: str) -> RunResult | None:
    """Return a run; none if the scale does not have it."""
    return results[name] if name in results.runs else None


def settings_of(run: RunResult) -> dict[str, object]:
    """Return the settings of a run's model."""
    settings: dict[str, object] = run.parameters["model"]["settings"]
    return settings


def title_of(run: RunResult) -> str:
    """Return what a reader calls the images of a run."""
    return _SOURCES[images_of(run)["source"]]


def size_of(run: RunResult) -> str:
    """Return the size of a run's images in pixels, `28 x 28`."""
    images = images_of(run)
    side = _SIDES[images.get("source", run.parameters["data"]["name"])] // images.get("shrink", 1)
    return f"{side} x {side}"


def other_title_of(run: RunResult) -> str:
    """Return what a reader calls the images that a run tells its own from."""
    return _SOURCES[images_of(run)["other"]]


def titles_of(results: Results, dataset: str) -> tuple[str, str]:
    """Return what stands in for a dataset at the scale at hand, and for the other one; their names if nothing does."""
    for name in results.runs:
        if name.partition("/")[2].startswith(f"{dataset}_"):
            return title_of(results[name]), other_title_of(results[name])
    return IMAGES[dataset], next(title for key, title in IMAGES.items() if key != dataset)


def images_of(run: RunResult) -> dict[str, Any]:
    """Return the settings of a run's images, be they seen through a flow or not."""
    settings = run.parameters["data"]["settings"]
    return {key: value for key, value in settings.get("base", settings).items() if key != "name"}
