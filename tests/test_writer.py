"""Two writers never hold one lock, and a holder that has ended does not keep it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neumix import writer
from neumix.writer import sole_writer

SLURM = {"scheduler": "slurm", "job": "7", "partition": "gpu", "node": "n1"}
HOLD = """
import sys, time
from pathlib import Path
from neumix.writer import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "main.lock"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_POLL", 0.02)
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def other(lock: Path) -> Iterator["subprocess.Popen[str]"]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def leave(lock: Path, **changes: Any) -> None:
    """Write a lock as another machine would have left it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(json.dumps({"placement": None, "host": "elsewhere", "process": 1, "since": 0.0, **changes}))


def test_the_lock_names_its_holder_and_goes_with_it(lock: Path) -> None:
    with sole_writer(lock):
        assert json.loads(lock.read_text())["process"] == os.getpid()
    assert not lock.exists()


def test_an_error_inside_gives_it_up(lock: Path) -> None:
    with pytest.raises(RuntimeError), sole_writer(lock):
        raise RuntimeError
    assert not lock.exists()


def test_a_second_writer_is_refused_with_the_name_of_the_first(lock: Path, other: "subprocess.Popen[str]") -> None:
    refusal = rf"process {other.pid} on .* is writing the same results; stop it"
    with pytest.raises(ValueError, match=refusal), sole_writer(lock, patience=0.1):
        raise AssertionError
    assert json.loads(lock.read_text())["process"] == other.pid


def test_a_killed_holder_is_replaced_at_once(lock: Path, other: "subprocess.Popen[str]") -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert lock.exists()
    started = time.monotonic()
    with sole_writer(lock, patience=60):
        assert json.loads(lock.read_text())["process"] == os.getpid()
    assert time.monotonic() - started < 30


def test_it_waits_for_a_holder_that_is_ending(lock: Path, other: "subprocess.Popen[str]") -> None:
    threading.Timer(0.3, other.kill).start()
    with sole_writer(lock, patience=60):
        other.wait()


def test_the_same_job_started_again_elsewhere_takes_over(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leave(lock, placement=SLURM)
    monkeypatch.setattr(writer, "placement", lambda: {**SLURM, "node": "n2"})
    with sole_writer(lock, patience=0):
        pass


@pytest.mark.parametrize("ended", [True, False])
def test_slurm_says_whether_a_job_elsewhere_has_ended(lock: Path, monkeypatch: pytest.MonkeyPatch, ended: bool) -> None:
    leave(lock, placement=SLURM)
    asked: list[str] = []
    monkeypatch.setattr(writer, "has_ended", lambda job: asked.append(job) or ended)
    if ended:
        with sole_writer(lock, patience=0.1):
            pass
    else:
        with pytest.raises(ValueError, match="slurm job 7"), sole_writer(lock, patience=0.1):
            raise AssertionError
    assert set(asked) == {"7"}


def test_a_process_of_an_unknown_machine_counts_as_running(lock: Path) -> None:
    leave(lock)
    with pytest.raises(ValueError, match=f"if it has ended already, delete {lock}"), sole_writer(lock, patience=0.1):
        raise AssertionError


def test_a_process_number_used_again_is_another_process(lock: Path) -> None:
    with sole_writer(lock):
        own = json.loads(lock.read_text())
    leave(lock, host=own["host"], process=os.getpid(), since=own["since"] - 100)
    with sole_writer(lock, patience=0):
        pass


def test_a_lock_cut_short_is_taken_over_in_the_end(lock: Path) -> None:
    lock.parent.mkdir(parents=True)
    lock.write_text('{"host": "el')
    with sole_writer(lock, patience=0.1):
        assert json.loads(lock.read_text())["process"] == os.getpid()


def test_whoever_was_replaced_does_not_remove_the_lock_of_the_next(lock: Path) -> None:
    with sole_writer(lock):
        leave(lock)
    assert json.loads(lock.read_text())["host"] == "elsewhere"
