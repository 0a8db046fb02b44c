"""Measurements in processes of their own, since the peak of memory is the process's."""

import json
import subprocess
import sys
from pathlib import Path

__all__ = ["in_child", "peak_megabytes"]


def in_child(script: str, *words: str) -> tuple[float, float]:
    """Return seconds and peak memory in MB as a script prints them, in JSON."""
    command = [sys.executable, script, *words]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(found["seconds"]), float(found["megabytes"])


def peak_megabytes() -> float:
    """Return the peak of this process's memory; not `ru_maxrss`, which is inherited from the parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
