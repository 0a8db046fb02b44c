"""A run of the tiny pipeline's long training on the private Slurm, and what must hold when it is over."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import psutil
from private_slurm import Slurm, wait_for
from workflow_copy import Pipeline

from neumix.records import read_record

GAUSSIANS = "inclass/two_gaussians/main"
PROFILE = ("--profile", "workflow/profiles/slurm", "--slurm-init-seconds-before-status-checks", "2")
SNAKEMAKE = Path(__file__).parent / "impatient_snakemake.py"
RUNNING, ACTIVE = ("RUNNING",), ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED")


def lengthen(pipeline: Pipeline, epochs: int = 200) -> None:
    """Make the training of the two Gaussians take seconds, with a checkpoint every ten epochs."""

    def change(paper: dict[str, Any]) -> None:
        paper["experiments"]["two_gaussians"]["settings"]["stages"]["main"]["epochs"] = epochs

    pipeline.edit(change)


@dataclasses.dataclass
class ClusterRun:
    """Snakemake with the Slurm profile, asked for one training.

    Arguments:
        slurm: where it runs.
        pipeline: the copy of the repository.
        undisturbed: a copy in which the same training ran to its end on this machine.
    """

    slurm: Slurm
    pipeline: Pipeline
    undisturbed: Pipeline
    processes: list["subprocess.Popen[str]"] = dataclasses.field(default_factory=list)

    target: ClassVar[str] = f"results/smoke/runs/{GAUSSIANS}/run.json"

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start Snakemake for the long training."""
        return self.start_all(*arguments, "--", self.target)

    def start_all(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start Snakemake for everything."""
        process = subprocess.Popen(
            [sys.executable, str(SNAKEMAKE), *PROFILE, *arguments],
            cwd=self.pipeline.root,
            env=self.pipeline.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def end(self, process: "subprocess.Popen[str]", expected: int = 0, seconds: float = 540) -> str:
        """Wait for Snakemake to end and return what it printed."""
        output = process.communicate(timeout=seconds)[0]
        assert process.returncode == expected, output
        return output

    def started(self) -> str:
        """Wait until the training has written a checkpoint, stop its clock with SIGSTOP, and return its job.

        Slurm wakes up a process before it ends it, so this loses no signal; without it, a fast machine would be through
        before anything goes wrong.
        """
        wait_for(self._checkpoint, "checkpoint")
        os.kill(self.training, signal.SIGSTOP)
        (job,) = self.slurm.jobs(*RUNNING)
        return job

    @property
    def training(self) -> int:
        """The process that trains, as the lock names it."""
        lock = self.pipeline.results / "logs" / "train" / f"{GAUSSIANS}.lock"
        return int(json.loads(lock.read_text())["process"])

    def thaw(self) -> None:
        """Let the training go on."""
        os.kill(self.training, signal.SIGCONT)

    def _checkpoint(self) -> bool:
        return (self.pipeline.results / "checkpoints" / GAUSSIANS / "checkpoint").exists()

    def record(self) -> dict[str, Any]:
        """Return the record of the training, once it is certain that the result is what it should be."""
        record = read_record(self.pipeline.root / self.target)
        assert self.pipeline.numbers("weights") == self.undisturbed.numbers("weights")
        assert not [path for path in (self.pipeline.results / "checkpoints").rglob("*") if path.is_file()]
        assert not list(self.pipeline.results.rglob("*.lock"))
        attempts = record["attempts"]
        for earlier, later in pairwise(attempts):
            assert (earlier["ended"] or earlier["started"]) <= later["started"], attempts
        self._never_two_at_once()
        return record

    def jobs(self) -> list[str]:
        """Return the ids of this run's jobs, oldest first."""
        return [job for job, *_ in self._jobs()]

    def _jobs(self) -> list[tuple[str, str, str]]:
        """Return id, start and end of this run's jobs."""
        listed = self.slurm.command("squeue", "--noheader", "--states=all", "--sort=i", "--format=%i|%S|%e|%Z")
        rows = [line.split("|") for line in listed.splitlines()]
        return [(job, start, end) for job, start, end, where in rows if Path(where) == self.pipeline.root]

    def _never_two_at_once(self) -> None:
        for (_, _, end), (_, start, _) in pairwise(self._jobs()):
            assert start == "N/A" or end <= start

    def resumed(self, *ends: str) -> dict[str, Any]:
        """Return the record, which must say that all attempts but the last ended in these ways and were resumed."""
        record = self.record()
        *before, last = (attempt["state"] for attempt in record["attempts"])
        assert last == "finished"
        assert before
        assert set(before) <= set(ends), before
        assert record["resumes"] == len(before)
        assert record["placement"]["scheduler"] == "slurm"
        return record

    def tidy(self) -> None:
        """End what a failed test has left, and what Slurm loses sight of where it has no cgroups."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
        left = self.slurm.jobs(*ACTIVE)
        if left:
            self.slurm.command("scancel", *left)
            wait_for(lambda: not self.slurm.jobs(*ACTIVE), "empty queue")
        for stray in psutil.process_iter(["cmdline"]):
            if any(str(self.pipeline.root) in part for part in stray.info["cmdline"] or ()):
                stray.kill()
