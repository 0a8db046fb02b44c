"""What a run of the pipeline would do and cost, before anything is launched."""

import dataclasses
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neumix import dag
from neumix.audit.plan_estimate import COVERAGE, Basis, Estimate, Estimator, Range
from neumix.audit.plan_jobs import PlannedJob, ask, files_of
from neumix.audit.plan_records import SCALES, Evidence, Observed, fetching, observe
from neumix.audit.plan_schedule import Node, makespan
from neumix.audit.plan_tasks import Sizes, Task, task_of
from neumix.catalogue import Catalogue, load, load_settings
from neumix.data.declarations import FileDeclaration
from neumix.provenance import machine

__all__ = ["Cost", "Plan", "make_plan"]

_STARTUP = Range(1.0, 4.0, 20.0)
"""Seconds that a job takes before its record begins, Python and imports, where no benchmark file tells."""
_GZIP = 0.1
"""Images and tables rarely shrink to less than this."""
_ANY_CORES = 1024


@dataclasses.dataclass(frozen=True)
class Cost:
    """A job with what it will probably cost.

    Arguments:
        job: as Snakemake plans it.
        time: wall time in seconds, with starting Python, and what that rests on.
        size: bytes of its outputs; none if nothing comparable is on disk.
    """

    job: PlannedJob
    time: Estimate
    size: Estimate | None

    @property
    def may_exceed(self) -> bool:
        """Whether the upper end is beyond the time that the workflow allows, which a cluster enforces."""
        return self.job.runtime is not None and self.time.range.high > 60 * self.job.runtime


@dataclasses.dataclass(frozen=True)
class Plan:
    """What would run, and what it would cost.

    Arguments:
        scale: of the pipeline.
        costs: of the jobs.
        wall: seconds from the first job to the end of the last one.
        slots: what the jobs share: CPU cores, or workers that run a job each.
        slot_name: `cores` or `workers`.
        gpus: GPUs that jobs share; no limit if none.
        download: bytes that come over the network.
        datasets: that are fetched.
        replaced: bytes that outputs on disk have now.
        free: bytes free on the disk.
    """

    scale: str
    costs: tuple[Cost, ...]
    wall: Range
    slots: int
    slot_name: str
    gpus: int | None
    download: Range
    datasets: tuple[str, ...]
    replaced: int
    free: int

    @property
    def rules(self) -> Mapping[str, int]:
        """Number of jobs of each rule, most first."""
        return dict(Counter(cost.job.rule for cost in self.costs).most_common())

    @property
    def core_hours(self) -> Range:
        """Wall time times threads, over all jobs."""
        return _sum(cost.time.range * (cost.job.threads / 3600) for cost in self.costs)

    @property
    def gpu_hours(self) -> Range:
        """Wall time times GPUs, over all jobs."""
        return _sum(cost.time.range * (cost.job.gpu / 3600) for cost in self.costs)

    @property
    def disk(self) -> Range:
        """Bytes of all outputs, as far as their sizes can be told."""
        return _sum(cost.size.range for cost in self.costs if cost.size is not None)

    def on(self, basis: Basis) -> tuple[Cost, ...]:
        """Return the jobs whose time rests on a basis."""
        return tuple(cost for cost in self.costs if cost.time.basis == basis)

    def refusal(self, max_gpu_hours: float | None) -> str | None:
        """Return why the plan is not to be started, if the upper end of its GPU-hours is beyond a limit."""
        if max_gpu_hours is None or self.gpu_hours.high <= max_gpu_hours:
            return None
        return (
            f"refuses to start: up to {self.gpu_hours.high:.3g} GPU-hours (likely {self.gpu_hours.likely:.3g}), "
            f"the limit is {max_gpu_hours:.3g}; plan fewer targets or papers, or raise --max-gpu-hours"
        )


def make_plan(
    root: Path,
    catalogue: Catalogue,
    targets: Sequence[str] = (),
    *,
    cores: int,
    workers: int | None = None,
    gpus: int | None = None,
    profile: Path | None = None,
) -> Plan:
    """Ask Snakemake what would run, and estimate each job from the records on disk.

    Wall time is that of a list schedule by critical path, see `neumix.audit.plan_schedule`.

    Arguments:
        root: folder of the repository.
        catalogue: for the scale, with the user's choice of papers and mirrors.
        targets: output files, published ids, or `paper.item`; none for everything.
        cores: CPU cores that jobs of this machine share.
        workers: jobs at a time on a cluster, whatever their threads; jobs share this machine's cores without it.
        gpus: GPU jobs at a time; by default one on this machine, and no limit on a cluster.
        profile: folder of a Snakemake profile.

    Raises:
        ValueError: a target is unknown, or Snakemake refuses.
    """
    papers = ",".join(catalogue.selected)
    seen = cores if workers is None else _ANY_CORES  # a cluster's jobs are not scaled down to this machine
    files = files_of(catalogue, targets)
    jobs = ask(root, catalogue.settings.scale, papers, files, cores=seen, profile=profile)
    observed = observe(root, catalogue)
    here = machine()
    estimator = Estimator(observed, here["cpu"], here["gpu"], _limits(root, observed.evidence))
    costs = tuple(_cost(catalogue, job, estimator, observed, root) for job in jobs)
    slots, limit = (cores, gpus or 1) if workers is None else (workers, gpus)
    fetched = tuple(job.id for job in jobs if job.rule == "fetch")
    outputs = [root / path for job in jobs for path in job.outputs]
    return Plan(
        catalogue.settings.scale,
        costs,
        _wall(costs, slots, limit, by_threads=workers is None),
        slots,
        "cores" if workers is None else "workers",
        limit,
        _sum(_download(root, catalogue, name, file) for name in fetched for file in catalogue.datasets[name].files),
        fetched,
        sum(path.stat().st_size for path in outputs if path.is_file()),
        shutil.disk_usage(root).free,
    )


def _sum(ranges: Any) -> Range:
    return sum(ranges, start=Range())


def _cost(catalogue: Catalogue, job: PlannedJob, estimator: Estimator, observed: Observed, root: Path) -> Cost:
    task = _task(catalogue, job, observed.sizes)
    limit = None if job.runtime is None else 60.0 * job.runtime
    startup = _startup(observed.startups)
    time = estimator.seconds(task, threads=job.threads, startup=startup, limit=limit, gpu=job.gpu > 0)
    if job.rule == "fetch":
        missing = sum(file.size for file in catalogue.datasets[job.id].files if not _present(root, job.id, file))
        size: Estimate | None = Estimate(Range(missing, missing, missing), "same", "config/datasets.yaml")
    else:
        size = estimator.size(task)
    return Cost(job, time, size)


def _task(catalogue: Catalogue, job: PlannedJob, sizes: Sizes) -> Task:
    if job.rule == "fetch":
        return fetching(job.id, sum(file.size for file in catalogue.datasets[job.id].files))
    parameters: dict[str, Any] = {}
    if job.rule in ("train", "evaluate"):
        run = catalogue.run(*job.id.split("/"))
        parameters = dag.training_settings(run) if job.rule == "train" else dag.settings_of(run)
    elif job.rule in ("render_table", "render_figure"):
        parameters = {"runs": dag.item_runs(catalogue, job.id), "note": catalogue.item_note(job.id)}
    return task_of(job.rule, job.id, parameters, sizes)


def _startup(startups: Sequence[float]) -> Range:
    if not startups:
        return _STARTUP
    return Range.of(float(end) for end in np.quantile(startups, [(1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2]))


def _limits(root: Path, evidence: Sequence[Evidence]) -> list[tuple[float, float]]:
    """Return seconds taken and allowed of every recorded run that the catalogue still has."""
    found = []
    for scale in SCALES:
        catalogue = load(root, load_settings({"scale": scale}), check_modules=False)
        runs = {run.id: run.resources for run in catalogue.runs}
        for record in evidence:
            resources = runs.get(record.task.id) if record.source.startswith(f"results/{scale}/") else None
            if resources is not None:
                found.append((record.core_seconds / resources.threads, 60.0 * resources.runtime))
    return found


def _wall(costs: Sequence[Cost], slots: int, gpus: int | None, *, by_threads: bool) -> Range:
    maker = {file: number for number, cost in enumerate(costs) for file in cost.job.outputs}
    needs = [sorted({maker[file] for file in cost.job.inputs if file in maker}) for cost in costs]

    def span(end: str) -> float:
        nodes = [
            Node(getattr(cost.time.range, end), before, cost.job.threads if by_threads else 1, cost.job.gpu)
            for cost, before in zip(costs, needs, strict=True)
        ]
        return makespan(nodes, slots, gpus)

    # A list schedule can become longer when jobs become shorter (Graham's anomaly): the ends are put in order.
    return Range.of(span(end) for end in ("low", "likely", "high"))


def _present(root: Path, dataset: str, file: FileDeclaration) -> bool:
    path = root / "data" / dataset / file.name
    return path.is_file() and path.stat().st_size == file.size


def _download(root: Path, catalogue: Catalogue, dataset: str, file: FileDeclaration) -> Range:
    """Return the bytes of a file that come over the network: none if it is on disk or in a folder of the user's."""
    mirrors = [os.environ.get("NEUMIX_DATA_MIRROR", ""), *catalogue.settings.mirrors]
    local = [mirror.removeprefix("file://") for mirror in mirrors if mirror and not mirror.startswith("http")]
    folders = [root / Path(mirror).expanduser() for mirror in local]
    copies = (folder / dataset / f"{file.name}{suffix}" for folder in folders for suffix in ("", ".gz"))
    if _present(root, dataset, file) or any(copy.is_file() for copy in copies):
        return Range()
    zipped = any(url.endswith(".gz") for url in file.urls)
    return Range(file.size * (_GZIP if zipped else 1), file.size, file.size)
