"""Time and memory of a dry run over many runs, and how many jobs a cluster would get."""

import dataclasses
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
PARTS = ("Snakefile", "profiles", "workflow", "config", "src", "requirements.lock", "environment.yml")
PAPER, EXPERIMENT = "inclass", "two_gaussians"
LOCAL = ("all", "fetch", "compare", "merge", "render_table", "render_figure", "report")
"""Rules that run where Snakemake does."""
LARGEST = 10000
DISTRIBUTION = Path("/usr/bin/python3")
"""Python as distributions compile it, with profile-guided optimisation, which one that pyenv compiled lacks."""


def interpreters() -> list[str]:
    """Return this Python and that of the distribution, if it is of the same version and can use the same packages."""
    ask = [str(DISTRIBUTION), "-c", "import sysconfig; print(sysconfig.get_python_version())"]
    if not DISTRIBUTION.exists() or Path(sys.executable).resolve() == DISTRIBUTION.resolve():
        return [sys.executable]
    version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    return [sys.executable, str(DISTRIBUTION)] if version == sysconfig.get_python_version() else [sys.executable]


def copy_with_runs(folder: Path, runs: int) -> None:
    """Copy the pipeline with one experiment of many runs, each a training and a measure, and a table of the first."""
    for name in PARTS:
        source = REPOSITORY / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name, follow_symlinks=False)
    for path in (folder / "config" / "papers").iterdir():
        content = json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
        _reduce(content, runs if path.stem == PAPER else 0)
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _reduce(paper: dict[str, Any], runs: int) -> None:
    for key in ("items", "values"):
        paper.pop(key, None)
    experiments = paper.pop("experiments", {})
    if runs:
        chosen = experiments[EXPERIMENT]
        chosen["runs"] = {f"r{index}": {} for index in range(runs)}
        chosen["scales"] = {"smoke": {"budget": "reduced"}}
        paper["experiments"] = {EXPERIMENT: chosen}


def dry_run(folder: Path, python: str, arguments: Sequence[str]) -> tuple[float, float, float, str]:
    """Return seconds, seconds of a processor, peak memory in MB and what was printed."""
    command = [python, "-m", "snakemake", "--dry-run", "--quiet", "rules", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(folder / "src"), sysconfig.get_path("purelib")))}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    return seconds, processor, used.ru_maxrss / 1024, done.stdout + done.stderr


def cluster_jobs(printed: str, together: int) -> int:
    """Return the number of jobs that a cluster gets if measures go `together` at a time."""
    counts = {name: int(number) for name, number in re.findall(r"^(\w+) +(\d+)$", printed, re.MULTILINE)}
    assert counts.pop("total") == sum(counts.values())
    remote = {name: number for name, number in counts.items() if name not in LOCAL}
    measures = remote.pop("evaluate")
    return sum(remote.values()) - (-measures // together)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A dry run.

    Arguments:
        runs: that are planned.
        python: the interpreter.
        seconds: it took.
        processor: seconds of a processor that it used.
        megabytes: peak memory.
        jobs: that a cluster gets, if measures go 1 and 20 at a time.
    """

    runs: int
    python: str
    seconds: float
    processor: float
    megabytes: float
    jobs: tuple[int, int]

    @property
    def note(self) -> str:
        """Seconds of a processor, jobs and the aim."""
        aim = "; aim: under 60 s and 1500 MB" if self.runs == LARGEST else ""
        jobs = f"{self.jobs[0]} cluster jobs, {self.jobs[1]} with 20 measures in one"
        return f"{self.processor:.0f} s of a processor; {jobs}{aim}"


def measured(runs: int, python: str = sys.executable) -> Measured:
    """Return what a dry run of so many runs takes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pipeline"
        folder.mkdir()
        copy_with_runs(folder, runs)
        seconds, processor, megabytes, printed = dry_run(folder, python, ["--profile", "workflow/profiles/slurm"])
    return Measured(runs, python, seconds, processor, megabytes, (cluster_jobs(printed, 1), cluster_jobs(printed, 20)))


if __name__ == "__main__":
    for count in map(int, sys.argv[1:]):
        print(measured(count), flush=True)
