"""What was executed: jobs with their records, and every attempt that was made."""

import dataclasses
import datetime
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from neumix.audit.chain import Chain, JobRecord
from neumix.settings import nearest

__all__ = ["Attempt", "Execution", "executions"]

_KEYS = {
    *("attempts", "environment", "git", "inputs", "machine", "outputs", "parameters"),
    *("peak_memory_mb", "seeds", "threads", "wall_seconds"),
}
"""What a crate tells of a job."""

_ERRORS = {
    "interrupted": "interrupted before it was done",
    "killed": "killed, or still running when this crate was written: its end was not noted",
}


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One attempt at a job.

    Arguments:
        state: `finished`, `failed`, `interrupted`, or `killed`: it never noted its end.
        started: ISO 8601, in milliseconds.
        ended: likewise; the start where the end was not noted.
        error: why it did not finish.
    """

    state: str
    started: str
    ended: str
    error: str | None

    @classmethod
    def of(cls, note: Mapping[str, Any]) -> "Attempt":
        """Read what a job noted."""
        state = "killed" if note["state"] == "running" else note["state"]
        error = None if state == "finished" else note["error"] or _ERRORS.get(state, state)
        return cls(state, _milliseconds(note["started"]), _milliseconds(note["ended"] or note["started"]), error)


@dataclasses.dataclass(frozen=True)
class Execution:
    """A job, as it was executed.

    Arguments:
        kind: rule of the workflow.
        id: what it makes.
        attempts: in the order they were made.
        job: its record, if it ever finished.
    """

    kind: str
    id: str
    attempts: tuple[Attempt, ...]
    job: JobRecord | None

    @property
    def error(self) -> str | None:
        """Why the job never finished; none if it did."""
        return None if self.job else self.attempts[-1].error


def executions(chain: Chain, runs: Collection[str] | None) -> list[Execution]:
    """Return the jobs of a scale and their attempts, by the time they were started.

    Arguments:
        chain: records of the scale.
        runs: `paper/experiment/run` of runs that are wanted, with all that they need; all jobs if none.

    Raises:
        ValueError: a record cannot be read, or is of a newer format, or there is none; or there is no such run.
    """
    if chain.broken:
        raise ValueError("\n".join(chain.broken.values()))
    jobs = list(chain.jobs.values())
    if not jobs:
        raise ValueError(f"{chain.results}: no records; run the pipeline first")
    if runs is not None:
        jobs = _needed(chain, runs)
    for job in jobs:
        if missing := _KEYS - {*job.content}:
            raise ValueError(f"{job.path}: not a run record: it has no {', '.join(sorted(missing))}; run the job again")
    unfinished = dict(_unfinished(chain.results / "attempts"))
    found = []
    for job in jobs:
        notes = [*job.content["attempts"], *unfinished.pop((job.kind, job.id), ())]
        found.append(Execution(job.kind, job.id, tuple(map(Attempt.of, notes)), job))
    for (kind, id_), notes in unfinished.items():
        if notes and (runs is None or id_ in runs):
            found.append(Execution(kind, id_, tuple(map(Attempt.of, notes)), None))
    return sorted(found, key=lambda execution: (execution.attempts[0].started, execution.kind, execution.id))


def _needed(chain: Chain, runs: Collection[str]) -> list[JobRecord]:
    """Return the jobs that train and measure runs, and those that they need."""
    known = {job.id for job in chain.jobs.values() if job.kind in ("train", "evaluate")}
    for run in runs:
        if run not in known:
            raise ValueError(f"run '{run}' has no record below {chain.results}{nearest(run, [*known])}")
    ends = [job for job in chain.jobs.values() if job.id in runs and job.kind in ("train", "evaluate")]
    return list({above.path: above for job in ends for above in chain.upstream(job)}.values())


def _unfinished(folder: Path) -> Iterator[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """Yield the attempts at jobs that have not finished since, by kind and id."""
    for path in sorted(folder.rglob("*.jsonl")):
        kind, _, id_ = path.relative_to(folder).with_suffix("").as_posix().partition("/")
        notes: dict[str, dict[str, Any]] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                note = json.loads(line)
                notes[note["started"]] = {"state": "running", "ended": None, "error": None, **note}
            except (json.JSONDecodeError, KeyError, TypeError):  # cut short by a kill or a full disk
                continue
        yield (kind, id_), list(notes.values())


def _milliseconds(time: str) -> str:
    """Return a time as the profile writes it."""
    return datetime.datetime.fromisoformat(time).astimezone(datetime.UTC).isoformat(timespec="milliseconds")
