"""The chain of jobs behind a published number, a table or a figure, as their records tell it."""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neumix.records import read_record

__all__ = ["Chain", "JobRecord"]

_RECORD_FOLDERS = ("runs", "tables", "figures", "comparison")


@dataclasses.dataclass(frozen=True)
class JobRecord:
    """A job as its record tells it.

    Arguments:
        path: of the record, from the repository's folder.
        content: of the record.
    """

    path: str
    content: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """Rule of the workflow."""
        return str(self.content.get("kind"))

    @property
    def id(self) -> str:
        """What the job made."""
        return str(self.content.get("id"))

    @property
    def name(self) -> str:
        """Kind and id, for a reader."""
        return f"{self.kind} {self.id}"

    @property
    def outputs(self) -> Mapping[str, str]:
        """Hashes of the files that the job made."""
        return dict(self.content.get("outputs", {}))

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the job was told."""
        return dict(self.content.get("parameters", {}))

    def inputs(self, *roles: str) -> dict[str, str]:
        """Return hashes of the files that the job read, in all roles or in some."""
        found: dict[str, str] = {}
        for role, files in self.content.get("inputs", {}).items():
            if not roles or role in roles:
                found.update(files)
        return found


class Chain:
    """All records of a scale, and which job made which file.

    Arguments:
        root: folder of the repository.
        scale: of the results.
    """

    def __init__(self, root: Path, scale: str) -> None:
        self.root, self.scale = root, scale
        self.jobs: dict[str, JobRecord] = {}
        self.broken: dict[str, str] = {}
        for path in self._record_files():
            name = path.relative_to(root).as_posix()
            try:
                self.jobs[name] = JobRecord(name, read_record(path))
            except ValueError as error:
                self.broken[name] = str(error)
        self.made_by = {file: job for job in self.jobs.values() for file in job.outputs}

    @property
    def results(self) -> Path:
        """Folder of the scale's results."""
        return self.root / "results" / self.scale

    def _record_files(self) -> Iterator[Path]:
        for folder in _RECORD_FOLDERS:
            for path in sorted((self.results / folder).rglob("*.json")):
                if path.name != "metrics.json":
                    yield path
        merged = self.results / "comparison.json"
        if merged.exists():
            yield merged

    def source_of(self, file: str) -> JobRecord | None:
        """Return the job that made a file, or whose record it is; none if it is neither."""
        return self.jobs.get(file) or self.made_by.get(file)

    def upstream(self, job: JobRecord, *, only: str | None = None) -> list[JobRecord]:
        """Return the jobs that a job's files come from, and the job itself, each after those that it needs.

        Arguments:
            job: at the end of the chain.
            only: where the job compares values: the run of the one that is asked about.
        """
        found: dict[str, JobRecord] = {}
        self._collect(job, found, only)
        return list(found.values())

    def _collect(self, job: JobRecord, found: dict[str, JobRecord], only: str | None) -> None:
        if job.path in found:
            return
        for file in job.inputs():
            above = self.source_of(file)
            if above is None or above.path == job.path:
                continue
            if only is not None and above.id != only:
                continue
            self._collect(above, found, None)
        found[job.path] = job

    def last_records(self, id_: str) -> list[str]:
        """Return where the last record behind a table or figure, or else a published value, may lie."""
        items = [f"results/{self.scale}/{folder}/{id_}.json" for folder in ("tables", "figures")]
        compared = f"results/{self.scale}/comparison/{id_.partition('.')[0]}.json"
        return [compared] if id_.count(".") > 1 else items

    def of_value(self, id_: str) -> list[JobRecord]:
        """Return the jobs behind the comparison of a published value; none if it was not run."""
        comparison = self.jobs.get(f"results/{self.scale}/comparison/{id_.partition('.')[0]}.json")
        value = comparison.parameters.get("values", {}).get(id_) if comparison is not None else None
        return self.upstream(comparison, only=value["run"]) if comparison is not None and value else []

    def of_file(self, name: str) -> list[JobRecord]:
        """Return the jobs behind a file of the results; none if no job has made it."""
        job = self.made_by.get(f"results/{self.scale}/{name}")
        return self.upstream(job) if job is not None else []

    def of_item(self, id_: str) -> list[JobRecord]:
        """Return the jobs behind a table or figure; none if it was not rendered."""
        for folder in ("tables", "figures"):
            job = self.jobs.get(f"results/{self.scale}/{folder}/{id_}.json")
            if job is not None:
                return self.upstream(job)
        return []
