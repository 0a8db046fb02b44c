"""Jobs of a cluster: where this one runs, and those that outlived the Snakemake that had submitted them."""

import getpass
import logging
import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path

__all__ = ["cancel_orphans", "has_ended", "orphans", "placement"]

log = logging.getLogger(__name__)

_VARIABLES = {
    "slurm": ("SLURM_JOB_ID", "SLURM_JOB_PARTITION"),
    "pbs": ("PBS_JOBID", "PBS_QUEUE"),
    "lsf": ("LSB_JOBID", "LSB_QUEUE"),
    "sge": ("JOB_ID", "QUEUE"),
}
"""By scheduler: the variables that hold a job's id and its partition or queue."""

_SUBMITTED = re.compile(r"(rule|group)_\w")
"""How Snakemake's plugin begins the comment of a job in Slurm."""

_SECONDS = 30.0  # for one of Slurm's commands, which wait long for a controller that is away


def placement() -> dict[str, str] | None:
    """Return scheduler, job, partition and node of this process; none outside a cluster's job."""
    for scheduler, (job, partition) in _VARIABLES.items():
        if os.environ.get(job) and (scheduler != "sge" or "SGE_TASK_ID" in os.environ):
            node = os.environ.get("SLURMD_NODENAME") or platform.node().partition(".")[0]
            where = os.environ.get(partition, "")
            return {"scheduler": scheduler, "job": os.environ[job], "partition": where, "node": node}
    return None


def has_ended(job: str) -> bool:
    """Return whether Slurm knows that a job is over; what cannot be found out is not."""
    try:
        answer = _run("squeue", "--noheader", f"--jobs={job}", "--format=%T")
    except (OSError, subprocess.SubprocessError) as error:
        return "Invalid job id" in str(error)
    return not answer.strip()


def orphans(folder: Path) -> list[str]:
    """Return the ids of this user's jobs that wait or run in Slurm for a Snakemake in `folder`.

    While no Snakemake runs there, or the only one has not submitted anything yet, one that was killed has left them.

    Raises:
        subprocess.SubprocessError: Slurm does not answer.
    """
    if shutil.which("squeue") is None:
        return []
    answer = _run("squeue", "--noheader", f"--user={getpass.getuser()}", "--format=%i|%k|%Z")
    rows = (line.split("|", 2) for line in answer.splitlines())
    return [
        job for job, comment, where in rows if _SUBMITTED.match(comment) and Path(where).resolve() == folder.resolve()
    ]


def cancel_orphans(folder: Path, *, patience: float = 120.0) -> list[str]:
    """Cancel the jobs of a Snakemake in `folder` that was killed, wait until they have ended, and return their ids.

    A training that is cancelled writes its checkpoint, so that the job that follows goes on where it was.

    Arguments:
        folder: where Snakemake runs; the caller is the only one there and has not submitted anything yet.
        patience: seconds to wait.

    Raises:
        ValueError: they have not ended after that time.
    """
    try:
        found = remaining = orphans(folder)
        if found:
            _run("scancel", *found)
        end = time.monotonic() + patience
        while remaining and time.monotonic() < end:
            time.sleep(0.5)
            remaining = orphans(folder)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("cannot ask Slurm for jobs of an earlier run, so there may be some: %s", error)
        return []
    if remaining:
        raise ValueError(
            f"jobs {', '.join(remaining)} of an earlier run were cancelled {patience:.0f} seconds ago and still run; "
            "wait until `squeue --me` does not show them, then start again"
        )
    return found


def _run(*command: str) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if result.returncode:
        raise subprocess.SubprocessError(f"{command[0]} ended with code {result.returncode}: {result.stderr.strip()}")
    return result.stdout
