"""Build the report's folder next to its place and swap it in when it is complete."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from neumix.files import sha256
from neumix.report import chains, items, records, scoreboard
from neumix.report.inputs import DeviationInput, PaperInput, ReportInputs

__all__ = ["SUMS", "build"]

HERE = Path(__file__).parent
SUMS = "SHA256SUMS"
"""Name of the file with the hash of every other one of a report; `sha256sum --check` reads it."""
FOLDERS = ("assets", "figures", "records", "show", "tables")
CONTENT = {"index.html", SUMS, *FOLDERS}

SCALES = {
    "smoke": "A check of the pipeline in minutes: small data sets stand in for the papers' own and the training is "
    "short. It shows that every step works, not that a paper's result holds.",
    "laptop": "The papers' own data, with budgets that a laptop can afford. A row with a reduced budget says so.",
    "paper": "The papers' settings in full.",
}


def build(inputs: ReportInputs, out: Path) -> None:
    """Write the report to the folder `out`, with `out/index.html` as its page.

    Nothing is written to `out` until the whole report exists, so a failed build leaves the old one.

    Arguments:
        inputs: everything that the report shows.
        out: folder of the report; one that holds anything but an older report is refused.

    Raises:
        ValueError: `out` is no place for a report, or `inputs` contradicts itself.
    """
    with _replacing(out) as folder:
        for name in FOLDERS:
            (folder / name).mkdir()
        for asset in sorted((HERE / "static").iterdir()):
            shutil.copyfile(asset, folder / "assets" / asset.name)
        context = _context(inputs, folder)
        for run in inputs.runs:
            target = folder / "records" / f"{context['runs'][run.id].name}.json"
            target.write_text(json.dumps(run.record, indent=1, default=str) + "\n", encoding="utf-8")
        environment = _environment()
        page = environment.get_template("index.html.j2").render(context)
        (folder / "index.html").write_text(page, encoding="utf-8")
        for chain, text in _chain_pages(environment, context):
            (folder / chain.file).write_text(text, encoding="utf-8")
        _sum_up(folder)


def _sum_up(folder: Path) -> None:
    """Write the hash of every file of a report."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that takes its place if the block succeeds."""
    _check_place(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        fresh, old = Path(scratch, "fresh"), Path(scratch, "old")
        fresh.mkdir()
        yield fresh
        if out.exists():
            out.rename(old)
        try:
            fresh.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise


def _check_place(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: expected a folder for the report, found a file; choose another place")
    strangers = {entry.name for entry in out.iterdir()} - CONTENT - {".snakemake_timestamp"} if out.exists() else set()
    if strangers:
        raise ValueError(
            f"{out}: holds '{min(strangers)}', which is no part of a report and would be lost; choose another folder"
        )


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _context(inputs: ReportInputs, folder: Path) -> dict[str, Any]:
    """Return what the templates need, copying the files they link to."""
    rows = scoreboard.rows(inputs.comparison)
    runs = records.views(inputs.runs)
    known = {paper.slug for paper in inputs.papers}
    stranger = next((row for row in rows if row.paper not in known), None)
    if stranger is not None:
        raise ValueError(f"comparison: {stranger.id}: paper '{stranger.paper}' is not among the report's papers")
    return {
        "inputs": inputs,
        "scale_text": SCALES.get(inputs.scale, ""),
        "rows": rows,
        "summary": scoreboard.summarise(rows),
        "papers": [_paper(paper, rows, runs, folder) for paper in inputs.papers],
        "runs": runs,
        "verdicts": scoreboard.VERDICTS,
        "budgets": scoreboard.BUDGETS,
        "deviations": _deviations(inputs.papers),
        "number_ids": {row.id for row in rows},
        "chains": chains.chains(inputs.chains, runs, (row.id for row in rows)),
    }


def _chain_pages(environment: jinja2.Environment, context: Mapping[str, Any]) -> Iterator[tuple[chains.ChainView, str]]:
    """Yield the page of each number, table and figure; a job that stands behind many is rendered once."""
    titles = {item.id: f"{item.label}: {item.title}" for paper in context["inputs"].papers for item in paper.items}
    page, part = (environment.get_template(f"{name}.html.j2") for name in ("show", "_job"))
    macros = environment.get_template("_macros.html.j2").make_module(dict(context))
    shown: dict[str, Markup] = {}
    for chain in context["chains"].values():
        for job in chain.jobs:
            if job.record not in shown:
                shown[job.record] = Markup(part.render(job=job, m=macros))
        jobs = [shown[job.record] for job in chain.jobs]
        yield chain, page.render({**context, "chain": chain, "jobs": jobs, "title": titles.get(chain.id, "")})


def _paper(
    paper: PaperInput, rows: tuple[scoreboard.Row, ...], runs: dict[str, records.RunView], folder: Path
) -> dict[str, Any]:
    own = [row for row in rows if row.paper == paper.slug]
    shown = [items.view(item, folder) for item in paper.items]
    return {
        "paper": paper,
        "rows": own,
        "summary": scoreboard.summarise(own),
        "items": shown,
        "produced": sum(item.produced for item in shown),
        "runs": [run for run in runs.values() if run.paper == paper.slug],
    }


def _deviations(papers: tuple[PaperInput, ...]) -> dict[str, DeviationInput]:
    found: dict[str, DeviationInput] = {}
    for paper in papers:
        for deviation in paper.deviations:
            if deviation.id in found:
                raise ValueError(f"{paper.slug}: deviation '{deviation.id}' is listed twice; rename one")
            found[deviation.id] = deviation
    return found
