"""A page for each number, table and figure: the chain of jobs behind it, as `neumix show` tells it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from neumix.report.formatting import NOTHING
from neumix.report.records import Pairs, RunView, attempts, facts, flat, hashes, safe_name

__all__ = ["ChainView", "DataView", "JobView", "chains"]

_NUMBER = "6g"
"""How `neumix show` writes a measured number."""


@dataclass(frozen=True)
class DataView:
    """Raw data that a job read, with the files that its manifest names."""

    manifest: str
    sha256: str
    licence: str
    files: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class JobView:
    """One job of a chain; `run` is the place of its record in the report, if it is a training's."""

    kind: str
    id: str
    record: str
    facts: Pairs
    outputs: Pairs
    inputs: Pairs
    code: Pairs
    data: tuple[DataView, ...]
    parameters: Pairs
    packages: Pairs
    attempts: tuple[tuple[str, str, str, str], ...]
    run: RunView | None


@dataclass(frozen=True)
class ChainView:
    """What stands behind a number, table or figure: the number, the state of its chain, and jobs, the last one first.

    `findings` holds state, file and detail of what is not as recorded; `place` is where in the report it is shown.
    """

    id: str
    name: str
    place: str
    state: str
    value: Pairs
    findings: tuple[tuple[str, str, str], ...]
    jobs: tuple[JobView, ...]

    @property
    def file(self) -> str:
        """Page, from the report's folder."""
        return f"show/{self.name}.html"


def chains(
    descriptions: Mapping[str, Mapping[str, Any]], runs: Mapping[str, RunView], numbers: Iterable[str]
) -> dict[str, ChainView]:
    """Return one view per description, by id; a job that stands behind several has one view.

    Arguments:
        descriptions: see `neumix.audit.explain.describe`.
        runs: that the report holds the records of.
        numbers: ids of the published numbers; the others are tables and figures.

    Raises:
        ValueError: an id is no file name.
    """
    known = set(numbers)
    jobs = {job["record"]: job for description in descriptions.values() for job in description["chain"]}
    views = {record: _job(job, runs) for record, job in jobs.items()}
    return {
        id_: ChainView(
            id=id_,
            name=safe_name(id_, "id"),
            place=id_ if id_ in known else f"item-{id_}",
            state=description["state"],
            value=tuple(_value(description["value"] or {})),
            findings=tuple(
                dict.fromkeys((one["state"], one["file"], one["detail"]) for one in description["findings"])
            ),
            jobs=tuple(views[job["record"]] for job in reversed(description["chain"])),
        )
        for id_, description in descriptions.items()
    }


def _job(job: Mapping[str, Any], runs: Mapping[str, RunView]) -> JobView:
    git = {"commit": job["commit"], "dirty": job["uncommitted_changes"]}
    told = facts({**job, "git": git})
    environment = job["environment"] or {}
    return JobView(
        kind=job["kind"],
        id=job["id"],
        record=job["record"],
        facts=tuple((key, value) for key, value in told if value != NOTHING),
        outputs=hashes(job["outputs"]),
        inputs=hashes(job["inputs"]),
        code=hashes(job["code"]),
        data=tuple(_data(manifest, source) for manifest, source in job["data"].items()),
        parameters=tuple(flat(job["parameters"])),
        packages=tuple(flat(environment.get("packages") or {})),
        attempts=attempts(job),
        run=runs.get(job["id"]) if job["kind"] == "train" else None,
    )


def _data(manifest: str, source: Mapping[str, Any]) -> DataView:
    files = (
        (file["name"], file["sha256"], next((url for url in file["urls"] if url.startswith(("https:", "http:"))), ""))
        for file in source.get("files", ())
    )
    return DataView(manifest, source["sha256"], source.get("licence", ""), tuple(files))


def _value(value: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is said of a published number, with the digits that `neumix show` gives."""
    if not value:
        return
    unit = f" {value['unit']}" if "unit" in value else ""
    spread = f" ± {value['published_std']}" if "published_std" in value else ""
    yield "Published", f"{value['published']}{spread}{unit}"
    if "mean" in value:
        spread = f" ± {value['std']:.{_NUMBER}}" if "std" in value else ""
        yield "Measured", f"{value['mean']:.{_NUMBER}}{spread}{unit} (n = {value['n']})"
    else:
        yield "Measured", "not measured"
    if "ci_low" in value:
        yield "90% interval", f"{value['ci_low']:.{_NUMBER}} to {value['ci_high']:.{_NUMBER}}"
    if "margin" in value:
        yield "Margin", f"{value['margin']:.{_NUMBER}}"
    for key in ("verdict", "where", "metric", "budget", "dataset", "deviations"):
        if key in value:
            yield key.capitalize(), str(value[key])
