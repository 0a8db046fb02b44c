"""What each claim costs to check: the command, time, disk and seeds behind every measured value."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from neumix.audit.badges_project import Project
from neumix.audit.chain import JobRecord
from neumix.audit.plan_jobs import files_of
from neumix.audit.plan_records import job_seconds
from neumix.formatting import format_number

__all__ = ["Claim", "claims"]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A published value that this scale has measured.

    Arguments:
        id: of the value.
        published: as printed, with its unit.
        measured: mean, and spread where there are several runs.
        interval: of the mean; empty for a single run.
        verdict: what the comparison says.
        budget: of the run.
        run: that it was measured on.
        files: that the command makes.
        record: of the measuring; none if there is none.
        seeds: of the run.
        seconds: wall time of all jobs behind the value, one after the other; none if a record does not tell.
        size: bytes that these jobs wrote; none if a file is not here.
    """

    id: str
    published: str
    measured: str
    interval: str
    verdict: str
    budget: str
    run: str
    files: tuple[str, ...]
    record: str | None
    seeds: tuple[int, ...]
    seconds: float | None
    size: int | None

    def command(self, scale: str) -> str:
        """Return what a reader types to measure the value again."""
        return f"snakemake --cores 1 --config scale={scale} --forcerun train -- {' '.join(self.files)}"


def claims(project: Project) -> list[Claim]:
    """Return every value that a scale has measured, in the order of the comparison.

    Raises:
        ValueError: there is no comparison.
    """
    return [_claim(project, row) for row in project.measured.to_dict("records")]


def _claim(project: Project, row: Mapping[Any, Any]) -> Claim:
    run = str(row["runs"])
    record = f"{project.results.as_posix()}/runs/{run}/evaluation.json"
    job = project.chain.jobs.get(record)
    behind = [] if job is None else project.chain.upstream(job)
    like = str(row["published"])
    mean, std, low, high = (float(row[key]) for key in ("mean", "std", "ci_low", "ci_high"))
    spread = "" if math.isnan(std) else f" ± {format_number(std, like)}"
    interval = "" if math.isnan(low) else f"{format_number(low, like)} to {format_number(high, like)}"
    return Claim(
        id=str(row["id"]),
        published=like if row["unit"] == "1" else f"{like} {row['unit']}",
        measured=f"{format_number(mean, like)}{spread} (n = {row['n']})",
        interval=interval,
        verdict=str(row["verdict"]),
        budget=str(row["budget"]),
        run=run,
        files=tuple(files_of(project.catalogue, [str(row["id"])])),
        record=None if job is None else record,
        seeds=() if job is None else tuple(job.content.get("seeds", ())),
        seconds=_seconds(project, behind),
        size=_size(project, behind),
    )


def _seconds(project: Project, jobs: list[JobRecord]) -> float | None:
    if not jobs or not all(isinstance(job.content.get("wall_seconds"), int | float) for job in jobs):
        return None
    return sum(job_seconds(project.chain, job) for job in jobs)


def _size(project: Project, jobs: list[JobRecord]) -> int | None:
    paths = [project.root / name for job in jobs for name in (*job.outputs, job.path)]
    return sum(path.stat().st_size for path in paths) if paths and all(path.is_file() for path in paths) else None
