import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def neumix(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neumix.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path):
    """Configuration, README and committed results, to be spoilt."""
    for name in ("config", "results/laptop/comparison.csv", "README.md"):
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return tmp_path


def test_check_accepts_the_repository(copy):
    done = neumix("check", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == ["smoke", "laptop", "paper"]
    assert "155 published values" in done.stdout


def test_check_refuses_a_typo_without_a_traceback(copy):
    path = copy / "config" / "papers" / "inclass.yaml"
    path.write_text(path.read_text().replace("epochs: 15", "epohcs: 15", 1))
    done = neumix("check", "--scale", "smoke", cwd=copy)
    assert done.returncode == 1
    assert "inclass.yaml" in done.stderr
    assert "did you mean 'epochs'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_scoreboard_is_written_and_checked(copy):
    readme = copy / "README.md"
    spoilt = readme.read_text().replace("<!-- scoreboard:begin -->", "<!-- scoreboard:begin -->\nretyped 99.9\n", 1)
    readme.write_text(spoilt)
    assert neumix("scoreboard", "--check", cwd=copy).returncode == 1
    assert readme.read_text() == spoilt  # checking changes nothing
    assert neumix("scoreboard", cwd=copy).returncode == 0
    assert "retyped 99.9" not in readme.read_text()
    assert neumix("scoreboard", "--check", cwd=copy).returncode == 0


def test_missing_names_what_is_not_there(copy):
    done = neumix("missing", "--scale", "laptop", cwd=copy)
    assert done.returncode == 1
    assert "results/laptop/figures/inclass.fig12.svg" in done.stderr
    assert "results/laptop/comparison.csv," not in done.stderr


def test_report_without_results_says_what_to_do(tmp_path, copy):
    done = neumix("report", "--scale", "smoke", cwd=copy)
    assert done.returncode == 1
    assert "run the pipeline first" in done.stderr
    assert "Traceback" not in done.stderr


def test_report_is_built_from_committed_results_alone(copy):
    shutil.copytree(ROOT / "results" / "laptop", copy / "results" / "laptop", dirs_exist_ok=True)
    for heavy in ("weights", "arrays", "report"):
        shutil.rmtree(copy / "results" / "laptop" / heavy, ignore_errors=True)
    done = neumix("report", "--scale", "laptop", cwd=copy)
    assert done.returncode == 0, done.stderr
    page = (copy / "results" / "laptop" / "report" / "index.html").read_text()
    assert page.count("<tr") > 155
    assert "inclass.sec3_3.acc_semisup" in page
