"""Each check of `neumix doctor` finds what it is there for, and says why it matters and what to do."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from neumix import catalogue
from neumix.catalogue import Catalogue
from neumix.doctor import machine, slurm
from neumix.doctor.examination import examine
from neumix.doctor.findings import Finding
from neumix.doctor.profile import Profile, read_profile
from neumix.run import Resources
from neumix.settings import CatalogueError

REPOSITORY = Path(__file__).parents[1]
CPU, GPU = Resources(mem_mb=4000), Resources(mem_mb=4000, gpu=1)
CONFIG = "MinJobAge = 300 sec\nEnforcePartLimits = ALL\nSLURM_VERSION = 22.05.8"
HEALTHY = {
    "scontrol": f'echo "{CONFIG}"',
    "sinfo": 'printf "cpu up\\ngpu up\\n"',
    "sbatch": 'echo "sbatch: Job 7 to start at 2030-01-01" >&2',
    "squeue": "true",
    "scancel": "true",
    "sacct": "echo Slurm accounting storage is disabled >&2; exit 1",
    "srun": "echo sees True",
}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    monkeypatch.setenv("PATH", os.environ["PATH"])  # a profile changes it
    for name in [name for name in os.environ if name.startswith("NEUMIX_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def loaded() -> Catalogue:
    return catalogue.load(REPOSITORY, catalogue.Settings(scale="paper"), check_modules=False)


def worse(findings: Iterable[Finding]) -> list[str]:
    """Return the findings that are not good, each of which must be a line with a reason and a remedy."""
    found = list(findings)
    assert found
    for finding in found:
        assert "\n" not in str(finding)
        assert finding.level == "ok" or (finding.why and finding.fix)
    return [str(finding) for finding in found if finding.level != "ok"]


def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """Put commands of a healthy Slurm, but for some, in front of all others."""
    for name, body in {**HEALTHY, **changes}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def examined(*requests: Resources) -> list[str]:
    return worse(slurm.check_slurm(read_profile("slurm"), requests or (CPU, GPU)))


def test_a_healthy_slurm_has_no_findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster(tmp_path, monkeypatch)
    assert examined() == []
    cluster(tmp_path, monkeypatch, sacct="true")
    assert examined() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"scontrol": "echo no contact >&2; exit 1"}, ["controller does not answer: no contact"]),
        ({"sinfo": 'echo "batch up"'}, ["no partition 'cpu' for CPU jobs; Slurm has batch", "'gpu' for GPU jobs"]),
        ({"sinfo": 'printf "cpu up\\ngpu drain\\n"'}, ["partition gpu is drain"]),
        (
            {"sbatch": 'case "$*" in *gpus*) echo bad constraints >&2; exit 1;; esac'},
            ["Slurm refuses 1 CPUs, 4000 MB, 60 min, 1 GPUs: bad constraints"],
        ),
        (
            {"scontrol": f'echo "{CONFIG}" | sed s/300/30/'},
            ["MinJobAge is 30 s and jobs are looked at every 20 s; .* slurm-init-seconds-before-status-checks: 10 in"],
        ),
        ({"scontrol": f'echo "{CONFIG}" | sed s/ALL/NO/'}, ["EnforcePartLimits is NO"]),
        ({"srun": "echo no such file >&2; exit 2"}, ["a node cannot run .* no such file", "a GPU node cannot run"]),
        ({"srun": "echo sees False"}, ["torch on a GPU node sees no GPU"]),
        ({"srun": "echo Unable to allocate resources >&2; exit 1"}, ["no node was free", "no GPU node was free"]),
    ],
)
def test_what_is_wrong_with_slurm_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], expected: list[str]
) -> None:
    cluster(tmp_path, monkeypatch, **changes)
    found = examined()
    assert len(found) == len(expected), found
    for line, pattern in zip(found, expected, strict=True):
        assert re.search(pattern, line), line


def test_sacct_that_never_answers_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm, "_SECONDS", 0.3)
    cluster(tmp_path, monkeypatch, sacct="exec sleep 60")
    asking = Profile("slurm", {**read_profile("slurm").settings, "slurm-status-command": "sacct"})
    (line,) = worse(slurm._status(asking, CONFIG))
    assert "sacct does not work: no answer" in line
    assert line.endswith("fix: slurm-status-command: squeue in the profile")


def test_job_arrays_are_an_error() -> None:
    arrays = Profile("slurm", {"slurm-array-jobs": "all"})
    (line,) = worse(slurm._arrays(arrays))
    assert "deletes the finished results of another" in line


def test_account_and_gpu_model_are_part_of_the_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUMIX_ACCOUNT", "physics")
    monkeypatch.setenv("NEUMIX_GPU_MODEL", "a100")
    cluster(tmp_path, monkeypatch, sbatch=f'echo "$@" >> {tmp_path}/asked')
    examined()
    cpu, gpu = (tmp_path / "asked").read_text().splitlines()
    assert "--test-only --partition=cpu --account=physics --cpus-per-task=1 --mem=4000 --time=60" in cpu
    assert "gpus" not in cpu
    assert "--partition=gpu --account=physics --gpus=a100:1" in gpu


def test_no_slurm_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (line,) = worse(slurm.check_slurm(Profile("slurm", {}), [CPU]))
    assert "sbatch, squeue, scancel, sinfo, scontrol not found" in line


def test_an_unknown_profile_is_refused_with_those_there_are(loaded: Catalogue) -> None:
    with pytest.raises(CatalogueError, match="there are: default, generic, slurm"):
        list(examine(loaded, "slrum"))


def test_packages_must_be_those_of_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("numpy==0.1\nno-such-package==2.0\n")
    assert "no-such-package none for 2.0" in str(machine._packages(lock))
    lock.write_text("")
    assert machine._packages(lock).level == "ok"
    assert machine._packages(tmp_path / "other").level == "error"


def test_a_full_disk_is_found(tmp_path: Path) -> None:
    assert machine._disk(tmp_path, 0).level == "ok"
    (line,) = worse([machine._disk(tmp_path, 10**18)])
    assert "jobs would fail in the middle" in line


def test_data_come_from_here_a_mirror_or_an_address(
    loaded: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_SECONDS", 0.1)
    monkeypatch.setattr(machine, "_answers", lambda place: not place.startswith("http") and Path(place).is_file())
    assert "letter/letter-recognition.data" in worse(machine._data(loaded, ["letter"]))[0]
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "letter-recognition.data.gz").touch()
    monkeypatch.setenv("NEUMIX_DATA_MIRROR", f"{tmp_path}/")
    assert worse(machine._data(loaded, ["letter"])) == []


def test_a_dvc_remote_must_be_verified(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[core]\nremote = here\n['remote \"here\"']\nurl = /a\n")
    (line,) = worse(machine._dvc(tmp_path))
    assert "dvc remote modify here verify true" in line
    (tmp_path / "config.local").write_text("['remote \"here\"']\nverify = true\n")
    assert worse(machine._dvc(tmp_path)) == []
    assert "DVC has no remote" in worse(machine._dvc(REPOSITORY / ".dvc" / "nowhere"))[0]


def test_what_a_killed_snakemake_leaves_is_found(tmp_path: Path) -> None:
    (tmp_path / "locks").mkdir()
    assert list(machine._earlier_run(tmp_path)) == []
    (tmp_path / "locks" / "0.input.lock").touch()
    assert "snakemake --unlock" in worse(machine._earlier_run(tmp_path))[0]


def test_the_submit_command_must_exist(loaded: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neumix.doctor.examination.check_machine", lambda *arguments: iter(()))
    (line,) = worse(examine(loaded, "generic"))
    assert "'qsub' not found" in line
    monkeypatch.setenv("NEUMIX_SUBMIT", f"{sys.executable} -n {{threads}}")
    assert worse(examine(loaded, "generic")) == []


def test_the_command_line_fails_on_an_error_only() -> None:
    command = [sys.executable, "-m", "neumix.cli", "doctor", "--profile", "generic"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "error   'qsub' not found; jobs could not be submitted; fix: set $NEUMIX_SUBMIT" in done.stdout
