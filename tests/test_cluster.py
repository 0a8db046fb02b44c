"""Where a job runs, which jobs nobody waits for any more, and that both are written down or acted on."""

import configparser
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from neumix import closure, cluster
from neumix.audit.explain import show_text
from neumix.cluster import cancel_orphans, has_ended, orphans, placement
from neumix.provenance import Recorder
from neumix.records import read_record

REPOSITORY = Path(__file__).parents[1]
SLURM = {"SLURM_JOB_ID": "17", "SLURM_JOB_PARTITION": "gpu", "SLURMD_NODENAME": "n03"}
PLACE = {"scheduler": "slurm", "job": "17", "partition": "gpu", "node": "n03"}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **bodies: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir(exist_ok=True)
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def record(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "run.json"
    with Recorder("train", "toy/one/main", path, tmp_path / "attempts.jsonl", "smoke", {}, {}, []):
        pass
    return read_record(path)


def test_outside_a_cluster_there_is_no_placement_and_no_key_for_one(tmp_path: Path) -> None:
    assert placement() is None
    written = record(tmp_path)
    assert "placement" not in written
    assert "placement" not in written["attempts"][0]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (SLURM, PLACE),
        ({"PBS_JOBID": "8.head", "PBS_QUEUE": "short"}, {"scheduler": "pbs", "job": "8.head", "partition": "short"}),
        ({"LSB_JOBID": "9", "LSB_QUEUE": "normal"}, {"scheduler": "lsf", "job": "9", "partition": "normal"}),
        (
            {"JOB_ID": "4", "QUEUE": "all.q", "SGE_TASK_ID": "undefined"},
            {"scheduler": "sge", "job": "4", "partition": "all.q"},
        ),
    ],
)
def test_placement_by_scheduler(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: dict[str, str]
) -> None:
    set_all(monkeypatch, variables)
    place = placement()
    assert place is not None
    assert place["node"]
    assert {key: place[key] for key in expected} == expected


def test_a_number_of_another_system_is_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, {"JOB_ID": "4"})
    monkeypatch.delenv("SGE_TASK_ID", raising=False)
    assert placement() is None


def test_record_and_attempts_say_where_they_were_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, SLURM)
    written = record(tmp_path)
    assert written["placement"] == PLACE
    assert [attempt["placement"] for attempt in written["attempts"]] == [PLACE]


def test_show_names_job_node_and_partition() -> None:
    job = dict.fromkeys(("commit", "uncommitted_changes", "ended", "wall_seconds", "machine", "kind", "id", "record"))
    job |= {"code": {}, "outputs": {}, "data": {}}
    description = {"id": "a.b", "scale": "paper", "state": "ok", "value": None, "findings": []}
    text = show_text({**description, "chain": [{**job, "placement": PLACE}, {**job, "placement": None}]})
    assert text.count("slurm job 17 on n03, partition gpu") == 1


def test_only_jobs_that_snakemake_sent_from_this_folder_are_orphans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "link").symlink_to(here)
    rows = [
        f"11|rule_train_wildcards_a_b_main|{here}",
        f"12|group_evaluate_x|{tmp_path / 'link'}",
        f"13|rule_train|{tmp_path}",
        f"14|(null)|{here}",
        f"15|my own job|{here}",
    ]
    (tmp_path / "rows").write_text("\n".join(rows) + "\n")
    commands(tmp_path, monkeypatch, squeue=f"cat {tmp_path}/rows")
    assert orphans(here) == ["11", "12"]


def test_orphans_are_cancelled_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancelled job is there for one more question, as one that writes its checkpoint."""
    (tmp_path / "rows").write_text(f"11|rule_train|{tmp_path}\n")
    squeue = f"cat {tmp_path}/rows; [ -e {tmp_path}/asked ] && rm {tmp_path}/rows && touch {tmp_path}/rows\ntrue"
    scancel = f'echo "$@" > {tmp_path}/cancelled; touch {tmp_path}/asked'
    commands(tmp_path, monkeypatch, squeue=squeue, scancel=scancel)
    assert cancel_orphans(tmp_path) == ["11"]
    assert (tmp_path / "cancelled").read_text() == "11\n"


def test_orphans_that_do_not_end_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands(tmp_path, monkeypatch, squeue=f'echo "11|rule_train|{tmp_path}"', scancel="true")
    with pytest.raises(ValueError, match=r"jobs 11 of an earlier run were cancelled .* wait until `squeue --me`"):
        cancel_orphans(tmp_path, patience=0.1)


def test_without_slurm_nothing_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cancel_orphans(tmp_path) == []


def test_a_slurm_that_does_not_answer_is_no_reason_not_to_run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    commands(tmp_path, monkeypatch, squeue="echo no controller >&2; exit 1")
    assert cancel_orphans(tmp_path) == []
    assert "jobs of an earlier run, so there may be some: squeue ended with code 1: no controller" in caplog.text


@pytest.mark.parametrize(
    ("squeue", "ended"),
    [
        ("echo RUNNING", False),
        ("echo PENDING", False),
        ("true", True),
        ("echo slurm_load_jobs error: Invalid job id specified >&2; exit 1", True),
        ("echo Unable to contact slurm controller >&2; exit 1", False),
        ("exec sleep 60", False),
    ],
)
def test_a_job_has_ended_only_if_slurm_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squeue: str, ended: bool
) -> None:
    monkeypatch.setattr(cluster, "_SECONDS", 1.0)
    commands(tmp_path, monkeypatch, squeue=squeue)
    assert has_ended("17") is ended


def test_no_job_calls_dvc() -> None:
    """Many jobs would wait for DVC's one lock; data come in and results go out on the login node."""
    code = [Path(path) for path in closure.sources("neumix.jobs")]
    code += [
        *(REPOSITORY / "workflow").rglob("*.smk"),
        *(REPOSITORY / "workflow").rglob("*.py"),
        REPOSITORY / "Snakefile",
    ]
    assert len(code) > 20
    calls = re.compile(r"(import|from) dvc\b|[\"']dvc[\"']")
    assert not [path for path in code if calls.search(path.read_text())]


def test_every_committed_remote_is_verified() -> None:
    """Without it, `dvc pull` accepts what a remote has damaged."""
    listed = ["git", "show", "HEAD:.dvc/config"]
    shown = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    for text in ((REPOSITORY / ".dvc" / "config").read_text(), *([shown.stdout] if shown.returncode == 0 else [])):
        config = configparser.ConfigParser()
        config.read_string(text)
        remotes = [name for name in config.sections() if "remote" in name]
        assert remotes
        assert all(config[name]["verify"] == "true" for name in remotes)
