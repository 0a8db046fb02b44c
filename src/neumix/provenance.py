"""Run records: what went into a job, what came out, on which machine, and every attempt that was made."""

import dataclasses
import datetime
import functools
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from neumix.audit.digest import text_with_digest
from neumix.cluster import placement
from neumix.files import sha256, write_text
from neumix.records import FORMAT

__all__ = ["Recorder", "git_state", "machine"]

_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "pandas", "matplotlib", "safetensors", "snakemake")
_CODE = ("src", "workflow", "config", "Snakefile", "requirements.lock")


@dataclasses.dataclass
class Recorder:
    """Context of one job: notes its start, and on success writes its record.

    An attempt is written down when it starts, so that one that is killed leaves a trace as well.

    Arguments:
        kind: stage of the pipeline, e.g. `train`.
        id: what the job makes, e.g. `inclass/two_gaussians/main`.
        record: where the record goes.
        attempts: where attempts are kept, one JSON object a line.
        scale: of the pipeline.
        parameters: as resolved; everything that decides the result.
        inputs: files by role, e.g. `{"code": [...], "data": [...]}`.
        outputs: files that the job makes.
        seeds: of the run, if it has any.
        threads: CPU threads used.
    """

    kind: str
    id: str
    record: Path
    attempts: Path
    scale: str
    parameters: Mapping[str, Any]
    inputs: Mapping[str, Iterable[Path]]
    outputs: Sequence[Path]
    seeds: Sequence[int] = ()
    threads: int = 1
    resumes: int = 0
    _started: datetime.datetime = dataclasses.field(init=False)
    _clock: float = dataclasses.field(init=False)

    def __enter__(self) -> Self:
        self._started, self._clock = _now(), time.monotonic()
        self._inputs = {role: _hashes(paths) for role, paths in self.inputs.items()}
        self._note("running")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._write()
        elif isinstance(error, SystemExit | KeyboardInterrupt):
            self._note("interrupted")
        else:
            self._note("failed", f"{type(error).__name__}: {error}")

    def _write(self) -> None:
        content = {
            "format": FORMAT,
            "kind": self.kind,
            "id": self.id,
            "scale": self.scale,
            "state": "finished",
            "parameters": self.parameters,
            "seeds": list(self.seeds),
            "inputs": self._inputs,
            "outputs": _hashes(self.outputs),
            "git": git_state(),
            "environment": _environment(),
            "machine": machine(),
            **_placed(),
            "threads": self.threads,
            "started": self._started.isoformat(),
            "ended": _now().isoformat(),
            "wall_seconds": round(time.monotonic() - self._clock, 3),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            // (1024 if sys.platform == "linux" else 2**20),
            "resumes": self.resumes,
            "attempts": [*self._earlier(), self._attempt("finished")],
        }
        write_text(self.record, text_with_digest(content))
        self.attempts.unlink(missing_ok=True)

    def _attempt(self, state: str, error: str | None = None) -> dict[str, Any]:
        times = {"started": self._started.isoformat(), "ended": _now().isoformat()}
        return {**times, "state": state, "error": error, **_placed()}

    def _note(self, state: str, error: str | None = None) -> None:
        attempt = self._attempt(state, error)
        if state == "running":
            attempt["ended"] = None
        self.attempts.parent.mkdir(parents=True, exist_ok=True)
        # The note before may have been cut short by a kill or a full disk; it must not swallow this one.
        cut_short = self.attempts.exists() and self.attempts.read_bytes()[-1:] not in (b"", b"\n")
        with self.attempts.open("a", encoding="utf-8") as stream:
            stream.write(("\n" if cut_short else "") + json.dumps(attempt) + "\n")

    def _earlier(self) -> list[dict[str, Any]]:
        """Return the attempts before this one; one that never noted its end was killed."""
        notes: dict[str, dict[str, Any]] = {}
        for line in self.attempts.read_text(encoding="utf-8").splitlines():
            try:
                note = json.loads(line)
            except json.JSONDecodeError:  # cut short by a kill or a full disk
                continue
            notes[note["started"]] = note
        notes.pop(self._started.isoformat(), None)
        return [{**note, "state": "killed"} if note["state"] == "running" else note for note in notes.values()]


def _placed() -> dict[str, Any]:
    """Return where in a cluster this job runs, if it does."""
    place = placement()
    return {"placement": place} if place else {}


def git_state() -> dict[str, Any]:
    """Return the commit, and whether code or configuration differ from it; none outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        dirty = bool(_git("status", "--porcelain", "--untracked-files=normal", "--", *_CODE))
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "dirty": None}
    return {"commit": commit, "dirty": dirty}


def _git(*arguments: str) -> str:
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    return {path.as_posix(): sha256(path) for path in sorted(paths)}


def _environment() -> dict[str, Any]:
    lock = Path("requirements.lock")
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "lock_sha256": sha256(lock) if lock.exists() else None,
        "python": platform.python_version(),
        "packages": versions,
    }


@functools.cache
def machine() -> dict[str, Any]:
    """Return what is known of this machine's processor, GPU, memory and system, but not its name."""
    gpu, driver = _gpu()
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": gpu,
        "driver": driver,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "os": f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}",
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> tuple[str | None, str | None]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        line = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None, None
    name, _, driver = line.partition(", ")
    return name, driver
