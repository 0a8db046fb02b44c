"""Collects what the report shows from the catalogue and the results on disk."""

from pathlib import Path
from typing import Any

import pandas as pd

import neumix
from neumix import catalogue as catalogues
from neumix.audit.audit import audit, targets_of
from neumix.audit.explain import describe
from neumix.audit.hashes import Hashes
from neumix.catalogue import Catalogue, Item, Paper
from neumix.comparison import read_comparison
from neumix.provenance import git_state
from neumix.published import Deviation
from neumix.records import read_record
from neumix.report.build import build
from neumix.report.inputs import DeviationInput, ItemInput, PaperInput, ReportInputs, RunInput
from neumix.results import RunFiles, read_metrics

__all__ = ["build_report", "collect"]


def build_report(root: Path, scale: str) -> None:
    """Build results/<scale>/report from what is on disk, whatever papers were selected last.

    Arguments:
        root: folder of the repository.
        scale: of the results.

    Raises:
        FileNotFoundError: there is no comparison yet; run the pipeline first.
    """
    catalogue = catalogues.load(root, catalogues.load_settings({"scale": scale}), check_modules=False)
    with Hashes(root) as hashes:
        build(collect(root, catalogue, hashes), root / "results" / scale / "report")


def collect(root: Path, catalogue: Catalogue, hashes: Hashes) -> ReportInputs:
    """Return everything that the report shows.

    Arguments:
        root: folder of the repository.
        catalogue: for the scale.
        hashes: of files, to compare with those in records.

    Raises:
        FileNotFoundError: there is no comparison yet.
    """
    results = root / "results" / catalogue.settings.scale
    comparison = results / "comparison.csv"
    if not comparison.exists():
        raise FileNotFoundError(f"{comparison}: no results of this scale yet; run the pipeline first")
    # Papers with something to show come first; the others are listed with their published values.
    papers = sorted(catalogue.papers.values(), key=lambda paper: not paper.runs)
    return ReportInputs(
        scale=catalogue.settings.scale,
        generated_from=git_state()["commit"] or "no commit",
        version=neumix.__version__,
        comparison=read_comparison(comparison),
        papers=tuple(_paper(results, catalogue, paper) for paper in papers),
        runs=tuple(
            _run(RunFiles(results, run.id))
            for paper in papers
            for run in paper.runs.values()
            if RunFiles(results, run.id).record.exists()
        ),
        chains=_chains(root, catalogue, hashes),
    )


def _chains(root: Path, catalogue: Catalogue, hashes: Hashes) -> dict[str, dict[str, Any]]:
    """Return what `neumix show` says of every published number, table and figure."""
    found = audit(root, catalogue, hashes, compute=False)
    results = root / "results" / catalogue.settings.scale
    return {id_: describe(catalogue, results, found.targets[id_]) for id_ in targets_of(catalogue)}


def _paper(results: Path, catalogue: Catalogue, paper: Paper) -> PaperInput:
    file = paper.file
    return PaperInput(
        slug=paper.slug,
        title=file.title,
        authors=file.authors,
        year=file.year,
        url=file.url,
        items=tuple(_item(results, catalogue, paper, *pair) for pair in file.items.items()),
        deviations=tuple(_deviation(paper.slug, deviation) for deviation in paper.deviations),
    )


def _item(results: Path, catalogue: Catalogue, paper: Paper, name: str, item: Item) -> ItemInput:
    id_ = f"{paper.slug}.{name}"
    runs = [paper.runs[run] for run in item.runs if run in paper.runs]
    return ItemInput(
        id=id_,
        label=item.label,
        kind=item.kind,
        title=item.title,
        shows=item.shows,
        differs=item.differs,
        beyond_paper=item.beyond_paper,
        stand_in=catalogue.item_note(id_) or None,
        runs=tuple(run.id for run in runs),
        paths=item.paths(results, id_),
    )


def _deviation(slug: str, deviation: Deviation) -> DeviationInput:
    sources = {"paper": "the paper", "code": "the authors' code", "ours": "ours"}
    return DeviationInput(
        id=deviation.id,
        about=deviation.about,
        choice=deviation.choice,
        reason=deviation.reason,
        source=sources[deviation.source],
        values=deviation.values,
        tried="; ".join(deviation.tried) or None,
        cause=deviation.cause,
    )


def _run(files: RunFiles) -> RunInput:
    return RunInput(
        id=files.id,
        record=read_record(files.record),
        history=pd.read_csv(files.history) if files.history.exists() else None,
        metrics=read_metrics(files.metrics) if files.metrics.exists() else {},
    )
