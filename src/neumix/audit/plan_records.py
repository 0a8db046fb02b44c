"""What jobs have cost so far: times and sizes from the records and benchmark files on disk."""

import csv
import dataclasses
import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path

from neumix.audit.chain import Chain, JobRecord
from neumix.audit.plan_tasks import Sizes, Task, task_of
from neumix.audit.tracked import outputs
from neumix.catalogue import Catalogue
from neumix.results import RunFiles, read_metrics

__all__ = ["SCALES", "Evidence", "Observed", "benchmark_seconds", "fetching", "job_seconds", "observe"]

SCALES = ("smoke", "laptop", "paper")
_NEEDED = {"paper", "experiment", "data", "model", "stages", "seeds"}


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What one job has cost.

    Arguments:
        task: what was done.
        source: where this is from, for a reader.
        core_seconds: wall time times threads, without starting Python.
        output_bytes: size of what it made; none if that is not on disk.
        cpu: processor.
        gpu: GPU, if there was one.
    """

    task: Task
    source: str
    core_seconds: float
    output_bytes: int | None
    cpu: str | None
    gpu: str | None


@dataclasses.dataclass(frozen=True)
class Observed:
    """Everything that is known of earlier jobs.

    Arguments:
        evidence: of jobs.
        sizes: that settings do not tell.
        startups: seconds from the start of a job's process to the start of its record, one for each benchmark file.
    """

    evidence: tuple[Evidence, ...]
    sizes: Sizes
    startups: tuple[float, ...]


def observe(root: Path, catalogue: Catalogue) -> Observed:
    """Read all records on disk, of every scale.

    Arguments:
        root: folder of the repository.
        catalogue: for any scale; tells the sizes of datasets.
    """
    chains = [Chain(root, scale) for scale in SCALES]
    jobs = [(chain, job) for chain in chains for job in chain.jobs.values() if _is_whole(job)]
    sizes = Sizes()
    for chain, job in jobs:
        if job.kind == "train":
            _learn(chain, job, sizes)
    archives = {chain.scale: _archives(chain) for chain in chains}
    evidence = [_evidence(chain, job, sizes, archives[chain.scale]) for chain, job in jobs]
    startups = [startup for chain, job in jobs if (startup := _startup(chain, job)) is not None]
    usual = statistics.median(startups) if startups else 0.0
    evidence += [*_fetched(root, catalogue, usual), *_reports(chains, usual)]
    return Observed(tuple(evidence), sizes, tuple(startups))


def _is_whole(job: JobRecord) -> bool:
    """Return whether a record tells what an estimate needs; one of another layout may not."""
    told = job.kind not in ("train", "evaluate") or job.parameters.keys() >= _NEEDED
    return told and isinstance(job.content.get("wall_seconds"), int | float)


def _learn(chain: Chain, job: JobRecord, sizes: Sizes) -> None:
    """Add what a training tells of the sizes behind its settings."""
    parameters, files = job.parameters, RunFiles(chain.results, job.id)
    data, model = (json.dumps(parameters[name], sort_keys=True) for name in ("data", "model"))
    for row in _rows(files.history):
        stage = parameters["stages"].get(row["stage"])
        if stage is not None:
            sizes.points[data, stage["split"]] = float(row["step"]) * stage["batch_size"]
    if files.metrics.exists():
        counted = read_metrics(files.metrics).get("n_parameters")
        if counted:
            sizes.parameters[data, model] = counted[0]


def _evidence(chain: Chain, job: JobRecord, sizes: Sizes, archives: Mapping[str, int]) -> Evidence:
    content = job.content
    machine = content.get("machine") or {}
    return Evidence(
        task_of(job.kind, job.id, job.parameters, sizes),
        job.path,
        job_seconds(chain, job) * int(content.get("threads", 1)),
        _bytes(chain, job, archives),
        machine.get("cpu"),
        machine.get("gpu"),
    )


def job_seconds(chain: Chain, job: JobRecord) -> float:
    """Return the wall time of a job: a record has that since it was resumed, a history that of the whole training."""
    seconds = float(job.content["wall_seconds"])
    if job.kind == "train" and job.content.get("resumes"):
        seconds = max([seconds, *(float(row["seconds"]) for row in _rows(RunFiles(chain.results, job.id).history))])
    return seconds


def _bytes(chain: Chain, job: JobRecord, archives: Mapping[str, int]) -> int | None:
    """Return the size of what a job made; where DVC keeps it, its archive counts as made by the training."""
    paths = [chain.root / name for name in (*job.outputs, job.path)]
    present = [path.stat().st_size for path in paths if path.is_file()]
    if len(present) == len(paths):
        return sum(present)
    return None if job.id not in archives else sum(present) + (archives[job.id] if job.kind == "train" else 0)


def _archives(chain: Chain) -> dict[str, int]:
    """Return the size of each run's archive of weights and arrays, as far as DVC keeps them."""
    path = chain.results / "weights.dvc"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {Path(output["path"]).stem.replace(".", "/"): int(output["size"]) for output in outputs(text)}


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _startup(chain: Chain, job: JobRecord) -> float | None:
    """Return the seconds of a job's process that are not in its record; none if no benchmark file tells."""
    folder = "render" if job.kind.startswith("render") else job.kind
    name = folder if job.kind == "merge" else f"{folder}/{job.id}"
    whole = benchmark_seconds(chain.results / "benchmarks" / f"{name}.tsv")
    return whole - float(job.content["wall_seconds"]) if whole and whole >= job.content["wall_seconds"] else None


def benchmark_seconds(path: Path) -> float | None:
    """Return the seconds that Snakemake has measured of a job; none if there is no file that can be read."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return float(next(csv.DictReader(stream, delimiter="\t"))["s"])
    except (OSError, StopIteration, KeyError, ValueError):
        return None


def _fetched(root: Path, catalogue: Catalogue, startup: float) -> Iterator[Evidence]:
    """Yield what fetching datasets has cost; it leaves no record."""
    for name, declaration in catalogue.datasets.items():
        path = root / "data" / ".logs" / f"{name}.tsv"
        seconds = benchmark_seconds(path)
        if seconds is not None:
            size = sum(file.size for file in declaration.files)
            task = fetching(name, size)
            yield Evidence(task, path.relative_to(root).as_posix(), max(0.0, seconds - startup), size, None, None)


def fetching(name: str, size: int) -> Task:
    """Return the job that fetches a dataset.

    Arguments:
        name: of the dataset.
        size: in bytes.
    """
    return Task("fetch", name, "fetch", "fetch", {}, {"bytes": float(size)})


def _reports(chains: list[Chain], startup: float) -> Iterator[Evidence]:
    """Yield what building reports has cost; it leaves no record."""
    for chain in chains:
        path = chain.results / "benchmarks" / "report.tsv"
        seconds = benchmark_seconds(path)
        if seconds is not None:
            report = chain.results / "report"
            size = sum(file.stat().st_size for file in report.rglob("*") if file.is_file()) if report.exists() else None
            task = task_of("report", "report", {}, Sizes())
            source = path.relative_to(chain.root).as_posix()
            yield Evidence(task, source, max(0.0, seconds - startup), size, None, None)
