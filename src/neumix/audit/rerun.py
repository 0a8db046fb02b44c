"""Determinism: runs executed again in a folder of their own, and how close they come to what is recorded."""

import dataclasses
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from neumix.audit.chain import Chain
from neumix.catalogue import Catalogue
from neumix.files import sha256
from neumix.published import margin_for
from neumix.results import RunFiles, read_metrics

__all__ = ["GRADES", "Grade", "Rerun", "choose", "rerun"]

Grade = Literal["bit-identical", "metric-identical", "within margin", "divergent", "failed"]
GRADES: tuple[Grade, ...] = get_args(Grade)
"""From best to worst."""

_PARTS = ("Snakefile", "workflow", "config", "src", "requirements.lock", "environment.yml")


@dataclasses.dataclass(frozen=True)
class Rerun:
    """A run that was executed again.

    Arguments:
        run: its id, `paper/experiment/run`.
        grade: how close it came. `bit-identical`: weights and metrics have the same bytes; `metric-identical`: the
            metrics have; `within margin`: every metric that a published number is compared with is within its margin,
            and every other one within 1%; `divergent`: none of these; `failed`: it did not end.
        detail: what differs most, or why it failed.
    """

    run: str
    grade: Grade
    detail: str


def choose(chain: Chain, sample: int, seed: int) -> list[str]:
    """Return a random sample of the runs that have been measured, the same for the same seed.

    Raises:
        ValueError: there are no finished runs.
    """
    finished = sorted(job.id for job in chain.jobs.values() if job.kind == "evaluate")
    if not finished:
        raise ValueError(f"{chain.results}: no finished runs; run the pipeline first")
    return sorted(random.Random(seed).sample(finished, min(sample, len(finished))))


def rerun(root: Path, catalogue: Catalogue, runs: Sequence[str], scratch: Path, cores: int) -> list[Rerun]:
    """Execute runs again below a scratch folder, with today's code, configuration and raw data, and grade them.

    Arguments:
        root: folder of the repository, which is not written to.
        catalogue: for the scale.
        runs: ids.
        scratch: empty folder.
        cores: for Snakemake.
    """
    _copy(root, scratch)
    scale = catalogue.settings.scale
    targets = [RunFiles(Path("results") / scale, run).evaluation.as_posix() for run in runs]
    papers = ",".join(dict.fromkeys(run.partition("/")[0] for run in runs))
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--keep-going", "--quiet", "all"]
    command += ["--config", f"scale={scale}", f"papers={papers}", "--", *targets]
    subprocess.run(command, cwd=scratch, check=False, env=_environment(scratch))
    return [_graded(root, scratch, catalogue, run) for run in runs]


def _copy(root: Path, scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    for name in _PARTS:
        if (root / name).is_dir():
            shutil.copytree(root / name, scratch / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(root / name, scratch / name)
    if (root / "data").exists():
        (scratch / "data").symlink_to((root / "data").resolve())


def _environment(scratch: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(scratch / "src")}


def _graded(root: Path, scratch: Path, catalogue: Catalogue, run: str) -> Rerun:
    old, new = (RunFiles(folder / "results" / catalogue.settings.scale, run) for folder in (root, scratch))
    if not new.evaluation.exists():
        return Rerun(run, "failed", f"did not end; see {scratch}/results/{catalogue.settings.scale}/logs")
    before, after = read_metrics(old.metrics), read_metrics(new.metrics)
    same_metrics = before == after
    if same_metrics and old.weights.exists() and sha256(old.weights) == sha256(new.weights):
        return Rerun(run, "bit-identical", "")
    if same_metrics:
        detail = "weights differ" if old.weights.exists() else "the recorded weights are not here to compare with"
        return Rerun(run, "metric-identical", detail)
    name, excess, text = max(_excesses(catalogue, run, before, after), key=lambda entry: entry[1])
    return Rerun(run, "within margin" if excess <= 1 else "divergent", f"{name}: {text}")


def _excesses(
    catalogue: Catalogue, run: str, before: Mapping[str, Sequence[float]], after: Mapping[str, Sequence[float]]
) -> list[tuple[str, float, str]]:
    """Return for every metric how far its mean has moved, in units of what is allowed, and the means as text."""
    allowed = _margins(catalogue, run)
    found = []
    for name in dict.fromkeys([*before, *after]):
        if name not in before or name not in after or len(before[name]) != len(after[name]):
            found.append((name, float("inf"), "is not in both"))
            continue
        old, new = (sum(values) / len(values) for values in (before[name], after[name]))
        width = allowed.get(name, 0.01 * abs(old))
        moved = abs(new - old)
        excess = moved / width if width else float("inf") if moved else 0.0
        found.append((name, excess, f"mean {old:.6g} -> {new:.6g}, allowed {width:.2g}"))
    return found


def _margins(catalogue: Catalogue, run: str) -> dict[str, float]:
    """Return the margins of the metrics that published numbers are compared with."""
    paper_name, _, place = run.partition("/")
    paper = catalogue.papers[paper_name]
    published = {value.id: value for value in paper.published}
    found: dict[str, float] = {}
    for id_, value in paper.file.values.items():
        margin = margin_for(published[id_], catalogue.margins) if value.run == place else None
        if margin is not None and margin.judge:
            found[value.metric] = margin.width(published[id_])
    return found
