"""The profiles that Snakemake runs with: the same results everywhere, no trap that is known switched on."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
import yte
from workflow_copy import Pipeline

from neumix import catalogue
from neumix.doctor.profile import largest_requests, read_profile
from neumix.records import read_record
from neumix.run import Resources

REPOSITORY = Path(__file__).parents[1]
PROFILES = REPOSITORY / "workflow" / "profiles"
NAMES = ("default", "slurm", "generic")
RULES = sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in the repository, with a user who has set nothing; the path is put back, which a profile changes."""
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("PATH", os.environ["PATH"])
    for name in [name for name in os.environ if name.startswith("NEUMIX_")]:
        monkeypatch.delenv(name)


def profile(name: str) -> dict[str, Any]:
    with (PROFILES / name / "config.yaml").open() as stream:
        content: dict[str, Any] = yte.process_yaml(stream, require_use_yte=True)
    return content


def test_there_is_no_other_profile() -> None:
    assert {path.parent.name for path in PROFILES.glob("*/config.yaml")} == set(NAMES)
    assert (REPOSITORY / "profiles" / "default").resolve() == PROFILES / "default"


@pytest.mark.parametrize("name", NAMES)
def test_what_decides_whether_something_runs_again_is_the_same_everywhere(name: str) -> None:
    shared = ("keep-going", "rerun-incomplete", "show-failed-logs", "rerun-triggers")
    assert {key: profile(name)[key] for key in shared} == {key: profile("default")[key] for key in shared}


@pytest.mark.parametrize("name", NAMES)
def test_job_arrays_are_off(name: str) -> None:
    """In an array, version 2.8.0 of the plugin lets a failing task delete the finished results of the first."""
    assert not [key for key in profile(name) if "array" in key]


def test_the_profile_says_why_arrays_are_off() -> None:
    text = (PROFILES / "slurm" / "config.yaml").read_text()
    assert re.search(r"# Job arrays stay off: .*deletes the finished results of another", text, re.DOTALL)


def test_rules_leave_attempts_and_partitions_to_profiles() -> None:
    """Each Snakemake on a cluster repeats what the rule says, so that attempts would multiply."""
    own = re.compile(r"\b(retries *:|slurm_partition|slurm_account|gpus|gres|nvidia_gpu)")
    assert not [path.name for path in RULES if own.search(path.read_text())]
    assert [name for name in NAMES if profile(name).get("retries")] == ["slurm", "generic"]


@pytest.mark.parametrize("name", ["slurm", "generic"])
def test_limits_of_the_login_node_are_none_for_jobs(name: str) -> None:
    """Fewer threads than the catalogue says would change results."""
    assert profile(name)["cores"] >= 10**6
    assert profile(name)["resources"]["gpu"] >= 10**6


def test_only_trainings_can_ask_for_a_gpu() -> None:
    asking = [path.name for path in RULES if re.search(r"\bgpu\w*=", path.read_text())]
    assert asking == ["train.smk"]
    assert "gpu" not in profile("slurm").get("default-resources", {})
    assert profile("generic")["default-resources"]["gpu"] == 0


def test_status_is_asked_of_squeue_within_a_third_of_minjobage_and_never_given_up() -> None:
    slurm = profile("slurm")
    assert slurm["slurm-status-command"] == "squeue"
    assert 3 * slurm["slurm-init-seconds-before-status-checks"] <= 300, "300 is Slurm's default of MinJobAge"
    assert slurm["slurm-status-attempts"] / slurm["max-status-checks-per-second"] > 24 * 3600


def test_a_training_is_told_before_its_time_is_over() -> None:
    assert profile("slurm")["set-resources"]["train"]["slurm_extra"] == "'--signal=TERM@120'"


def test_the_account_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "slurm_account" not in profile("slurm")["default-resources"]
    monkeypatch.setenv("NEUMIX_ACCOUNT", "physics")
    assert profile("slurm")["default-resources"]["slurm_account"] == "physics"


def test_the_submit_command_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile("generic")["cluster-generic-submit-cmd"].startswith("qsub ")
    monkeypatch.setenv("NEUMIX_SUBMIT", "bsub -n {threads}")
    monkeypatch.setenv("NEUMIX_STATUS", "status.sh")
    assert profile("generic")["cluster-generic-submit-cmd"] == "bsub -n {threads}"
    assert profile("generic")["cluster-generic-status-cmd"] == "status.sh"


@pytest.mark.parametrize(("gpu", "partition"), [(0, "cpu"), (1, "gpu"), (8, "gpu"), (9, None)])
def test_jobs_go_where_they_belong(gpu: int, partition: str | None) -> None:
    assert read_profile("slurm").partition_of(Resources(gpu=gpu, threads=4, runtime=2880)) == partition


def test_partitions_of_the_user_decide(tmp_path: Path) -> None:
    file = tmp_path / "partitions.yaml"
    file.write_text(yaml.safe_dump({"partitions": {"short": {"max_runtime": 60}, "a100": {"max_gpu": 4}}}))
    slurm = read_profile("slurm")
    object.__setattr__(slurm, "settings", {**slurm.settings, "slurm-partition-config": file})
    assert slurm.partition_of(Resources(runtime=30)) == "short"
    assert slurm.partition_of(Resources(runtime=90)) == "a100", "there is no other that is long enough"
    assert slurm.partition_of(Resources(runtime=90, gpu=1)) == "a100"


def test_the_largest_requests_cover_every_run() -> None:
    loaded = catalogue.load(REPOSITORY, catalogue.Settings(scale="paper"), check_modules=False)
    largest = {request.gpu: request for request in largest_requests(loaded)}
    assert min(largest) == 0
    for paper in loaded.papers.values():
        for run in paper.runs.values():
            for gpu in {0, run.resources.gpu}:
                for name in ("threads", "mem_mb", "runtime"):
                    assert getattr(run.resources, name) <= getattr(largest[gpu], name)


def commands(tmp_path: Path, **bodies: str) -> str:
    """Write commands of a cluster and return the path that finds them after the profile's own."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    return os.pathsep.join([str(PROFILES / "slurm" / "bin"), str(folder), os.environ["PATH"]])


def sacct(path: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path}
    return subprocess.run(["sacct", *arguments], env=environment, capture_output=True, text=True, check=False)


def test_without_a_database_states_come_from_squeue(tmp_path: Path) -> None:
    path = commands(tmp_path, sacct="echo disabled >&2; exit 1", squeue='echo "7|RUNNING $*"')
    answer = sacct(path, "-X", "--parsable2", "--name", "run-1")
    assert answer.stdout == "7|RUNNING --noheader --states=all --format=%i|%T --name run-1\n"


def test_with_a_database_it_is_asked(tmp_path: Path) -> None:
    path = commands(tmp_path, sacct='echo "7|COMPLETED"', squeue="exit 1")
    assert sacct(path, "-X", "--name", "run-1").stdout == "7|COMPLETED\n"


def test_other_questions_go_to_sacct_with_its_failures(tmp_path: Path) -> None:
    path = commands(tmp_path, sacct="echo disabled >&2; exit 3", squeue="echo wrong")
    answer = sacct(path, "-n", "-o", "Account")
    assert (answer.returncode, answer.stdout, answer.stderr) == (3, "", "disabled\n")


def test_a_controller_that_is_away_is_a_failure_not_an_empty_answer(tmp_path: Path) -> None:
    path = commands(tmp_path, sacct="exit 1", squeue="echo away >&2; exit 1")
    assert sacct(path, "--name", "run-1").returncode != 0


@pytest.mark.slow
def test_a_generic_cluster_gives_the_results_of_this_machine(finished: Pipeline, tmp_path: Path) -> None:
    """A scheduler of one line runs each job script where it is, and its trainings say under which id."""
    pipeline = finished.copy(tmp_path / "pipeline")
    target = "results/smoke/runs/inclass/two_gaussians/main/metrics.json"
    expected = pipeline.numbers("runs", "weights")
    submitted = tmp_path / "submitted"
    submit = tmp_path / "submit"
    submit.write_text(
        f'#!/bin/sh\necho "$1 $2" >> {submitted}\nid=$(wc -l < {submitted})\n'
        'for script; do :; done\nPBS_JOBID=$id PBS_QUEUE=short sh "$script" >/dev/null 2>&1 &\necho $id\n'
    )
    submit.chmod(0o755)
    command = [sys.executable, "-m", "snakemake", "--profile", "workflow/profiles/generic", "--forceall", target]
    environment = {**pipeline.environment, "NEUMIX_SUBMIT": f"{submit} {{rule}} gpu={{resources.gpu}}"}
    done = subprocess.run(command, cwd=pipeline.root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert submitted.read_text().split("\n") == ["train gpu=0", "evaluate gpu=0", ""]
    assert pipeline.numbers("runs", "weights") == expected
    record = read_record(pipeline.root / target.replace("metrics", "evaluation"))
    assert (record["placement"]["scheduler"], record["placement"]["job"]) == ("pbs", "2")
    assert record["placement"]["partition"] == "short"
