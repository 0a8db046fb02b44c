"""The jobs that Snakemake would run, asked of Snakemake itself by a dry run."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neumix.audit.plan_events import COUNTS, JOB, NOTHING
from neumix.catalogue import Catalogue
from neumix.results import RunFiles
from neumix.settings import nearest

__all__ = ["PlannedJob", "ask", "files_of"]


@dataclasses.dataclass(frozen=True)
class PlannedJob:
    """A job that would run.

    Arguments:
        rule: of the workflow.
        id: what it makes.
        threads: CPU threads.
        inputs: files that it reads.
        outputs: files that it makes.
        reason: why it would run.
        runtime: minutes that the workflow allows; none if it does not say.
        gpu: number of GPUs that it asks for.
    """

    rule: str
    id: str
    threads: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reason: str
    runtime: int | None = None
    gpu: int = 0

    @property
    def name(self) -> str:
        """Rule and id, for a reader."""
        return f"{self.rule} {self.id}"


def files_of(catalogue: Catalogue, targets: Sequence[str]) -> list[str]:
    """Return the files that targets stand for: a value for its measurement, an item for its formats, a file for itself.

    Arguments:
        catalogue: for the scale.
        targets: output files, published ids, or `paper.item`.

    Raises:
        ValueError: a target is none of these, or this scale does not measure it.
    """
    return list(dict.fromkeys(file for target in targets for file in _files_of(catalogue, target)))


def _files_of(catalogue: Catalogue, target: str) -> list[str]:
    if "/" in target:
        return [target]
    scale = catalogue.settings.scale
    results, slug = Path("results") / scale, target.partition(".")[0]
    paper = catalogue.papers.get(slug)
    if paper is not None and target in catalogue.items(slug):
        return [path.as_posix() for path in catalogue.item(target).paths(results, target).values()]
    known = [value.id for other in catalogue.papers.values() for value in other.published]
    if paper is None or target not in known:
        known += [item for other in catalogue.papers for item in catalogue.items(other)]
        raise ValueError(f"'{target}' is no output file, published value, table or figure{nearest(target, known)}")
    value = paper.file.values.get(target)
    if value is None or value.run not in paper.runs:
        raise ValueError(f"'{target}' is not measured at scale {scale}, so there is nothing to plan; try another scale")
    run = RunFiles(results, f"{slug}/{value.run}")
    return [run.metrics.as_posix(), run.evaluation.as_posix()]


def ask(
    root: Path, scale: str, papers: str, files: Sequence[str], *, cores: int, profile: Path | None
) -> list[PlannedJob]:
    """Return the jobs that Snakemake would run now, without running them.

    Arguments:
        root: folder of the repository.
        scale: of the pipeline.
        papers: `all`, or slugs joined by commas.
        files: to make; none for everything.
        cores: that Snakemake may use.
        profile: folder of a profile; Snakemake's default without one.

    Raises:
        ValueError: Snakemake refuses, or does not log its jobs the way that is known here.
    """
    options = ["--dry-run", "--nolock", "--quiet", "host", "--cores", str(cores)]
    options += [] if profile is None else ["--profile", str(profile)]
    options += ["--config", f"scale={scale}", f"papers={papers}", "--", *files]
    path = [str((root / "src").resolve()), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.jsonl"
        command = [sys.executable, "-m", "neumix.audit.plan_events", str(events), *options]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ValueError(f"Snakemake makes no plan: {_complaint(done.stdout + done.stderr)}")
        return read(events.read_text(encoding="utf-8").splitlines())


def _complaint(text: str) -> str:
    """Return the end of what Snakemake printed, from its first line about an error."""
    lines = [line for line in text.splitlines() if line.strip()]
    start = next((number for number, line in enumerate(lines) if "Error" in line or "Exception" in line), 0)
    return "\n".join(lines[start:][-20:])


def read(events: Sequence[str]) -> list[PlannedJob]:
    """Return the jobs that logged events tell of, but for those that make nothing.

    Raises:
        ValueError: the jobs are not as many as Snakemake counts.
    """
    contents = [json.loads(event) for event in events]
    jobs = [content for content in contents if content["kind"] == JOB]
    counts: dict[str, int] = next((content["rules"] for content in contents if content["kind"] == COUNTS), {})
    counted = {rule: count for rule, count in counts.items() if rule != "total"}
    nothing = any(content["kind"] == NOTHING for content in contents)
    if counted != Counter(job["rule"] for job in jobs) or not (jobs or nothing):
        raise ValueError(
            f"Snakemake counts {sum(counted.values())} jobs and its log describes {len(jobs)}: its log events are not "
            "those that this version of neumix knows; install the locked versions, or use `make check`"
        )
    return [_job(content) for content in jobs if content["outputs"]]


def _job(content: dict[str, Any]) -> PlannedJob:
    return PlannedJob(
        content["rule"],
        "/".join(content["wildcards"]) or content["rule"],
        content["threads"],
        tuple(content["inputs"]),
        tuple(content["outputs"]),
        content["reason"],
        content.get("runtime"),
        content.get("gpu", 0),
    )
