"""Records say what happened, and every attempt leaves a trace."""

import datetime
import getpass
import hashlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neumix import provenance
from neumix.provenance import Recorder, git_state
from neumix.records import FORMAT, read_record

ATTEMPTS = Path("results/smoke/attempts/train/toy/one/main.jsonl")
RECORD = Path("results/smoke/runs/toy/one/main/run.json")
OUTPUT = Path("results/smoke/weights/toy/one/main.safetensors")
KEYS = {
    *("format", "kind", "id", "scale", "state", "parameters", "seeds", "inputs", "outputs", "git", "environment"),
    *("machine", "threads", "started", "ended", "wall_seconds", "peak_memory_mb", "resumes", "attempts"),
    "sha256",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder that looks like a copy of the repository."""
    monkeypatch.chdir(tmp_path)
    for name, content in {"src/code.py": "x = 1\n", "data/toy/points": "0 1\n", "requirements.lock": "a==1\n"}.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(content)
    OUTPUT.parent.mkdir(parents=True)
    yield tmp_path


def recorder(**changes: Any) -> Recorder:
    arguments: dict[str, Any] = {
        "kind": "train",
        "id": "toy/one/main",
        "record": RECORD,
        "attempts": ATTEMPTS,
        "scale": "smoke",
        "parameters": {"model": {"name": "toy", "width": 3}},
        "inputs": {"code": [Path("src/code.py")], "data": [Path("data/toy/points")], "nothing": []},
        "outputs": [OUTPUT],
        "seeds": range(3),
        "threads": 2,
    }
    return Recorder(**{**arguments, **changes})


def succeed(**changes: Any) -> dict[str, Any]:
    with recorder(**changes) as active:
        OUTPUT.write_bytes(b"weights")
        active.resumes = 1
    return read_record(RECORD)


def fail(error: BaseException) -> None:
    with pytest.raises(type(error)), recorder():
        raise error


def kill(after: str = "") -> None:
    """Enter a recorder in a child that is killed inside."""
    code = f"import os, test_provenance as t\nwith t.recorder():\n {after or 'pass'}\n os.kill(os.getpid(), 9)"
    paths = [str(Path(__file__).parent), str(Path(provenance.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    child = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr


def states(record: dict[str, Any]) -> list[str]:
    return [attempt["state"] for attempt in record["attempts"]]


def strings(content: Any) -> Iterator[str]:
    """Yield every key and text of a JSON document."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from strings(value)
    elif isinstance(content, str):
        yield content


def test_a_success_has_every_documented_key() -> None:
    record = succeed()
    assert set(record) == KEYS
    assert record["format"] == FORMAT
    assert (record["kind"], record["id"], record["scale"], record["state"]) == (
        "train",
        "toy/one/main",
        "smoke",
        "finished",
    )
    assert record["parameters"] == {"model": {"name": "toy", "width": 3}}
    assert (record["seeds"], record["threads"], record["resumes"]) == ([0, 1, 2], 2, 1)


def test_hashes_are_those_of_the_files() -> None:
    record = succeed()
    assert record["inputs"] == {
        "code": {"src/code.py": hashlib.sha256(b"x = 1\n").hexdigest()},
        "data": {"data/toy/points": hashlib.sha256(b"0 1\n").hexdigest()},
        "nothing": {},
    }
    assert record["outputs"] == {OUTPUT.as_posix(): hashlib.sha256(b"weights").hexdigest()}
    assert record["environment"]["lock_sha256"] == hashlib.sha256(b"a==1\n").hexdigest()


def test_inputs_are_hashed_as_they_were_at_the_start() -> None:
    with recorder():
        Path("src/code.py").write_text("edited while the job ran\n")
        OUTPUT.write_bytes(b"weights")
    assert read_record(RECORD)["inputs"]["code"]["src/code.py"] == hashlib.sha256(b"x = 1\n").hexdigest()


def test_times_are_in_order_and_name_their_zone() -> None:
    before = datetime.datetime.now(datetime.UTC)
    record = succeed()
    started, ended = (datetime.datetime.fromisoformat(record[key]) for key in ("started", "ended"))
    assert before <= started <= ended <= datetime.datetime.now(datetime.UTC)
    assert started.utcoffset() == datetime.timedelta(0)
    assert record["wall_seconds"] >= 0
    assert record["peak_memory_mb"] > 5


def test_machine_and_packages_are_those_in_use() -> None:
    import numpy

    record = succeed()
    assert record["environment"]["python"] == platform.python_version()
    assert record["environment"]["packages"]["numpy"] == numpy.__version__
    assert set(record["machine"]) == {"cpu", "cores", "gpu", "driver", "memory_gib", "os"}
    assert record["machine"]["cores"] == len(os.sched_getaffinity(0))


def test_a_record_names_no_folder_user_or_host(folder: Path) -> None:
    fail(ValueError("bad"))
    texts = list(strings(succeed()))
    assert not [text for text in texts if text.startswith("/") or str(folder) in text or str(Path.home()) in text]
    for private in {platform.node(), getpass.getuser()}:
        assert not [text for text in texts if re.search(rf"\b{re.escape(private)}\b", text)], private


def test_a_success_leaves_no_list_of_attempts() -> None:
    record = succeed()
    assert states(record) == ["finished"]
    assert not ATTEMPTS.exists()


def test_a_failure_leaves_its_error_and_no_record() -> None:
    fail(ValueError("learning_rate is too large"))
    assert not RECORD.exists()
    notes = [json.loads(line) for line in ATTEMPTS.read_text().split("\n") if line]
    assert [note["state"] for note in notes] == ["running", "failed"]
    assert notes[1]["error"] == "ValueError: learning_rate is too large"
    assert notes[0]["started"] == notes[1]["started"]
    assert notes[0]["ended"] is None


def test_a_failure_keeps_the_record_of_an_earlier_success() -> None:
    before = succeed()
    fail(ValueError("bad"))
    assert read_record(RECORD) == before


def test_every_attempt_is_listed_in_order() -> None:
    fail(ValueError("bad"))
    fail(SystemExit(75))
    fail(KeyboardInterrupt())
    kill()
    record = succeed()
    assert states(record) == ["failed", "interrupted", "interrupted", "killed", "finished"]
    assert [attempt["error"] for attempt in record["attempts"]] == ["ValueError: bad", None, None, None, None]
    starts = [attempt["started"] for attempt in record["attempts"]]
    assert starts == sorted(starts)
    assert len(set(starts)) == 5


def test_attempts_before_a_success_are_not_told_again() -> None:
    fail(ValueError("bad"))
    succeed()
    assert states(succeed()) == ["finished"]


def test_a_note_cut_short_by_a_full_disk_does_not_spoil_the_record() -> None:
    fail(ValueError("bad"))
    whole = ATTEMPTS.read_text()
    ATTEMPTS.write_text(whole + whole.strip().splitlines()[0][:30])
    assert states(succeed()) == ["failed", "finished"]


def test_an_attempt_after_a_note_cut_short_is_listed_as_well() -> None:
    fail(ValueError("bad"))
    ATTEMPTS.write_text(ATTEMPTS.read_text() + '{"started": "20')
    kill()
    assert states(succeed()) == ["failed", "killed", "finished"]


def test_a_missing_output_is_an_error_and_no_record() -> None:
    with pytest.raises(FileNotFoundError, match=r"main\.safetensors"), recorder():
        pass
    assert not RECORD.exists()
    assert states(succeed())[-1] == "finished"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 1, "kind": "tra', r"run\.json: not a run record: .*; delete it and run the pipeline again"),
        ("", r"run\.json: not a run record"),
        ("[]", r"run\.json: not a run record: it has no 'format'"),
        ('{"kind": "train"}', r"run\.json: not a run record: it has no 'format'"),
        (f'{{"format": {FORMAT + 1}}}', rf"run\.json: format {FORMAT + 1} is newer than {FORMAT}, .*; update neumix"),
    ],
)
def test_what_is_not_a_record_is_refused(content: str, message: str) -> None:
    RECORD.parent.mkdir(parents=True)
    RECORD.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_record(RECORD)


@pytest.mark.parametrize("version", ['"1"', "null", "[1]", '{"a": 1}'])
def test_a_format_that_is_no_number_is_refused(version: str) -> None:
    RECORD.parent.mkdir(parents=True)
    RECORD.write_text(f'{{"format": {version}}}')
    with pytest.raises(ValueError, match=r"run\.json"):
        read_record(RECORD)


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def commit(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the working folder a repository with one commit, and return its name."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    Path(".gitignore").write_text("/results/\n__pycache__/\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    return git("rev-parse", "HEAD")


def test_a_clean_repository(commit: str) -> None:
    assert git_state() == {"commit": commit, "dirty": False}
    assert succeed()["git"] == {"commit": commit, "dirty": False}


@pytest.mark.parametrize(
    ("path", "dirty"),
    [
        ("src/code.py", True),
        ("src/new.py", True),
        ("src/new/deep/new.py", True),
        ("config/config.yaml", True),
        ("Snakefile", True),
        ("requirements.lock", True),
        ("README.md", False),
        ("results/smoke/new.csv", False),
        ("src/__pycache__/code.pyc", False),
    ],
)
def test_only_a_change_of_code_or_configuration_is_dirty(commit: str, path: str, dirty: bool) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("changed")
    assert git_state() == {"commit": commit, "dirty": dirty}


def test_a_staged_change_is_dirty(commit: str) -> None:
    Path("src/code.py").write_text("changed")
    git("add", "-A")
    assert git_state() == {"commit": commit, "dirty": True}


def test_a_deleted_file_is_dirty(commit: str) -> None:
    Path("src/code.py").unlink()
    assert git_state() == {"commit": commit, "dirty": True}


def test_asking_does_not_write_to_the_repository(commit: str) -> None:
    os.utime("src/code.py", (1, 1))  # a stale index is refreshed by a careless `git status`
    before = Path(".git/index").read_bytes()
    git_state()
    assert Path(".git/index").read_bytes() == before


def test_outside_a_repository(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(folder.parent))
    assert git_state() == {"commit": None, "dirty": None}


def test_without_git(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder))
    assert git_state() == {"commit": None, "dirty": None}


def test_a_repository_without_a_commit() -> None:
    git("init", "-q")
    assert git_state() == {"commit": None, "dirty": None}


def test_records_in_the_repository_name_no_folder_of_one_machine() -> None:
    results = Path(__file__).parents[1] / "results" / "laptop"
    kinds = ("comparison", "figures", "runs", "tables")
    for kind in kinds:
        records = sorted((results / kind).rglob("*.json"))
        assert records
        assert [path for path in records if re.search(r'"/', path.read_text(encoding="utf-8"))] == []
