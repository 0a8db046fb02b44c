"""A paper's comparison from the files of a scale's results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from neumix.comparison import Measured, compare
from neumix.published import read_deviations, read_margins, read_published
from neumix.results import RunFiles, read_metrics

__all__ = ["judge_paper"]


def judge_paper(
    results: Path, values: Mapping[str, Mapping[str, str]], published: Path, margins: Path, deviations: Sequence[Path]
) -> pd.DataFrame:
    """Return the comparison of one paper, see `neumix.comparison.compare`.

    Arguments:
        results: folder of a scale.
        values: run, metric, budget and dataset of each published value that was measured, by its id.
        published: the paper's published values, named after its slug.
        margins: file of margins.
        deviations: files of deviations, of any papers; the one with the paper's slug counts.

    Raises:
        ValueError: a run has no such metric; the message names those that it has.
    """
    measured = {}
    for id_, value in values.items():
        metrics = read_metrics(RunFiles(results, value["run"]).metrics)
        if value["metric"] not in metrics:
            has = ", ".join(sorted(metrics))
            raise ValueError(f"{id_}: run {value['run']} has no metric '{value['metric']}'; it has {has}")
        numbers = tuple(metrics[value["metric"]])
        measured[id_] = Measured(numbers, value["run"], value["budget"], value["dataset"])  # type: ignore[arg-type]
    entries = [entry for path in deviations if path.stem == published.stem for entry in read_deviations(path)]
    return compare(read_published(published), read_margins(margins), measured, entries, results.name)
