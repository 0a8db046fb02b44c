"""One writer at a time for the results of a job, on whichever machine it runs."""

import contextlib
import json
import logging
import os
import platform
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from neumix.cluster import has_ended, placement

__all__ = ["sole_writer"]

log = logging.getLogger(__name__)

_POLL = 2.0  # seconds


@contextlib.contextmanager
def sole_writer(path: Path, *, patience: float = 60.0) -> Iterator[None]:
    """Hold a lock that names process and cluster job, and give it up at the end.

    A lock whose holder has ended is taken over: a process of this machine that is gone, a job that Slurm says is over,
    an earlier start of this same job. A holder that was just cancelled has some time to write its checkpoint.

    Arguments:
        path: of the lock.
        patience: seconds to wait for another writer.

    Raises:
        ValueError: another writer is still at work after that time; names it.
    """
    own, end = _self(), time.monotonic() + patience
    while not _take(path, own):
        holder, late = _read(path), time.monotonic() >= end
        if late if holder is None else _gone(holder, own):
            log.warning("%s has ended without giving up %s; going on in its place", _name(holder), path)
            path.unlink(missing_ok=True)
        elif late:
            raise ValueError(
                f"{_name(holder)} is writing the same results; stop it, its progress is kept, or wait for it, and "
                f"start again; if it has ended already, delete {path}"
            )
        else:
            time.sleep(_POLL)
    try:
        yield
    finally:
        if _read(path) == own:
            path.unlink(missing_ok=True)


def _self() -> dict[str, Any]:
    since = psutil.Process().create_time()
    return {"placement": placement(), "host": platform.node(), "process": os.getpid(), "since": since}


def _take(path: Path, own: Mapping[str, Any]) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(json.dumps(own))
    except FileExistsError:
        return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    """Return the holder; none if it has just gone, or a kill or a full disk has cut its name short."""
    try:
        holder: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return holder


def _gone(holder: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    there, here = holder["placement"], own["placement"]
    if holder["host"] == own["host"]:
        return not _alive(holder["process"], holder["since"])
    if (
        there is not None
        and here is not None
        and (there["scheduler"], there["job"]) == (here["scheduler"], here["job"])
    ):
        return True  # the scheduler has started this job again
    return there is not None and there["scheduler"] == "slurm" and has_ended(there["job"])


def _alive(process: int, since: float) -> bool:
    try:
        found = psutil.Process(process)
        return abs(found.create_time() - since) < 1 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _name(holder: Mapping[str, Any] | None) -> str:
    if holder is None:
        return "an unknown process"
    process = f"process {holder['process']} on {holder['host']}"
    place = holder["placement"]
    return f"{place['scheduler']} job {place['job']} ({process})" if place else process
