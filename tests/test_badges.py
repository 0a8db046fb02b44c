"""Badges and checklists: every tick is the result of a check that a good project passes and a spoilt one fails."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from workflow_copy import Pipeline

from neumix import catalogue
from neumix.audit.badges import CHECKS, check, export_badges
from neumix.audit.badges_documents import DOCUMENTS
from neumix.audit.badges_project import Outcome, Project
from neumix.comparison import read_comparison, write_comparison

ROOT = Path(__file__).parent.parent
SMOKE = catalogue.load(ROOT, catalogue.load_settings({"scale": "smoke"}), check_modules=False)
FILES = ("LICENSE", "LICENSE-DATA.md", "pyproject.toml", "README.md", "Makefile", "data.dvc", ".ci/run")
RUN = "results/smoke/runs/inclass/two_gaussians/main"
WEIGHTS = "results/smoke/weights/inclass/two_gaussians/main.safetensors"
BOTH = "inclass.table2.w1, inclass.sec3_2.w1"
CITATION = "cff-version: 1.2.0\ndoi: 10.5281/zenodo.1234567\n"


def project_of(pipeline: Pipeline) -> Project:
    return Project(
        pipeline.root, catalogue.load(pipeline.root, catalogue.load_settings({"scale": "smoke"}), check_modules=False)
    )


@pytest.fixture(scope="module")
def complete(finished: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A finished pipeline with what else belongs to a repository, so that almost every check passes."""
    pipeline = finished.copy(tmp_path_factory.mktemp("complete") / "pipeline")
    for name in FILES:
        (pipeline.root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, pipeline.root / name)
    (pipeline.root / "tests").mkdir()
    shutil.copy(Path(__file__), pipeline.root / "tests")
    (pipeline.root / "CITATION.cff").write_text(CITATION)
    pipeline.edit(lambda data: data["euler"].update(licence="CC0 1.0"), "config/datasets.yaml")
    kept = [
        {"md5": "0", "size": 1, "path": f"archives/inclass.{run}.main.tar"} for run in ("two_gaussians", "checkerboard")
    ]
    (pipeline.results / "weights.dvc").write_text(yaml.safe_dump({"outs": kept}))
    return pipeline


@pytest.fixture
def copy(complete: Pipeline, tmp_path: Path) -> Pipeline:
    return complete.copy(tmp_path / "pipeline")


# What is spoilt


def replace(path: str, pattern: str, text: str) -> Callable[[Pipeline], None]:
    """Replace all that a pattern matches in a file."""

    def spoil(pipeline: Pipeline) -> None:
        file = pipeline.root / path
        found, count = re.subn(pattern, text, file.read_text(), flags=re.MULTILINE)
        assert count, f"{pattern} is not in {path}"
        file.write_text(found)

    return spoil


def remove(path: str) -> Callable[[Pipeline], None]:
    return lambda pipeline: (pipeline.root / path).unlink()


def record(change: Callable[[dict[str, Any]], object], *paths: str) -> Callable[[Pipeline], None]:
    """Change the content of records, or of all."""

    def spoil(pipeline: Pipeline) -> None:
        for path in [pipeline.root / path for path in paths] or [*pipeline.results.rglob("*.json")]:
            content = json.loads(path.read_text())
            if "format" in content:
                change(content)
                path.write_text(json.dumps(content))

    return spoil


def compared(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Pipeline], None]:
    """Change the comparison."""

    def spoil(pipeline: Pipeline) -> None:
        path = pipeline.results / "comparison.csv"
        write_comparison(change(read_comparison(path)), path)

    return spoil


def measured(**cells: Any) -> Callable[[Pipeline], None]:
    """Keep the measured rows of the comparison, with other cells."""
    return compared(lambda frame: frame[frame["n"] > 0].assign(**cells))


def one_seed(pipeline: Pipeline) -> None:
    def reduce(paper: dict[str, Any]) -> None:
        paper["experiments"]["two_gaussians"]["settings"]["seeds"] = 1

    pipeline.edit(reduce)
    measured(n=1)(pipeline)


def more_epochs(pipeline: Pipeline) -> None:
    def lengthen(paper: dict[str, Any]) -> None:
        paper["experiments"]["checkerboard"]["settings"]["stages"]["main"]["epochs"] = 3

    pipeline.edit(lengthen)


def another_archive(pipeline: Pipeline) -> None:
    (pipeline.results / "archives").mkdir()
    (pipeline.results / "archives" / "inclass.checkerboard.main.tar").write_bytes(b"another")


def flip(pipeline: Pipeline) -> None:
    content = bytearray((pipeline.root / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (pipeline.root / WEIGHTS).write_bytes(content)


@dataclasses.dataclass(frozen=True)
class Case:
    """How a check comes to fail.

    Arguments:
        spoil: what makes it fail.
        says: what it then says.
        prepare: what makes it pass before, where a complete pipeline is not enough.
    """

    spoil: Callable[[Pipeline], object]
    says: str
    prepare: Callable[[Pipeline], object] = lambda pipeline: None


CLEAN = record(lambda content: content.update(git={"commit": "a" * 40, "dirty": False}))
CASES: dict[str, list[Case]] = {
    "licence_file": [
        Case(remove("LICENSE"), "missing or empty: LICENSE"),
        Case(replace("pyproject.toml", r"^license-files.*$", ""), "names no license-files"),
    ],
    "licence_id": [Case(replace("pyproject.toml", r'^license = "MIT"$', 'license = "do what you like"'), "no SPDX")],
    "environment_locked": [
        Case(replace("requirements.lock", r"^numpy==.*$", ""), "not pinned in a fitting version: numpy;"),
        Case(replace("requirements.lock", r"^torch==.*$", "torch==1.0"), "torch==2"),
        Case(remove("pyproject.toml"), "names no dependencies"),
    ],
    "archived": [
        Case(remove("CITATION.cff"), "there is no CITATION.cff"),
        Case(replace("CITATION.cff", r"^doi:.*$", "doi: none yet"), "has no DOI"),
        Case(replace("CITATION.cff", r"^doi:.*$", ": ["), "not valid YAML"),
    ],
    "documented": [Case(replace("README.md", r"^## Licence$", "## Thanks"), "no section Licence")],
    "commands_documented": [
        Case(replace("README.md", r"make test", "make sure"), "`make sure`, `make test`"),
        Case(replace("Makefile", r"^reproduce:", "produce:"), "not in README and Makefile: `make reproduce`"),
    ],
    "tests_there": [
        Case(replace(".ci/run", r"^make test$", ""), "does not run"),
        Case(remove("tests/test_badges.py"), "no tests"),
    ],
    "data_licensed": [
        Case(replace("config/datasets.yaml", r"licence: CC0 1.0", "licence: None stated"), "euler (None stated)"),
    ],
    "data_public": [
        Case(
            lambda pipeline: pipeline.edit(
                lambda data: data["euler"]["files"][0].update(urls=[]), "config/datasets.yaml"
            ),
            "without: euler/",
        ),
    ],
    "data_tracked": [
        Case(remove("data.dvc"), "no data.dvc"),
        Case(record(lambda content: content["inputs"].update(data={"data/stars/SHA256SUMS": "0"})), "tracked: stars"),
    ],
    "audited": [
        Case(flip, "tampered"),
        Case(lambda pipeline: shutil.rmtree(pipeline.results), "nothing was run"),
    ],
    "rendered": [Case(remove("results/smoke/tables/inclass.table2.tex"), "files are missing: results/smoke/tables")],
    "code_identified": [
        Case(record(lambda content: content["git"].update(dirty=True), f"{RUN}/run.json"), "two_gaussians", CLEAN),
        Case(record(lambda content: content["git"].update(commit=None)), "no clean commit", CLEAN),
        Case(lambda pipeline: shutil.rmtree(pipeline.results), "no records", CLEAN),
    ],
    "environment_recorded": [
        Case(record(lambda content: content["machine"].update(cpu=None), f"{RUN}/run.json"), "incomplete: results"),
        Case(record(lambda content: content["environment"].update(lock_sha256=None)), "incomplete: results"),
    ],
    "settings_recorded": [
        Case(more_epochs, "catalogue's: inclass/checkerboard/main"),
        Case(remove(f"{RUN}/run.json"), "catalogue's: inclass/two_gaussians/main"),
    ],
    "commands_work": [Case(replace("Snakefile", r"^.*evaluate.smk.*$", ""), "Snakemake makes no plan")],
    "time_told": [
        Case(record(lambda content: content.pop("wall_seconds"), f"{RUN}/run.json"), "behind inclass.table2.w1"),
    ],
    "disk_told": [Case(remove(WEIGHTS), "inclass.table2.w1 are not here")],
    "seeds_recorded": [
        Case(record(lambda content: content.update(seeds=[0]), f"{RUN}/run.json"), "too few: inclass/two_gaussians"),
        Case(record(lambda content: content.update(seeds=[0, 0]), f"{RUN}/run.json"), "repeated"),
    ],
    "runs_repeated": [
        Case(one_seed, "a single run: inclass.table2.w1"),
        Case(compared(lambda frame: frame[frame["n"] == 0]), "no value was measured"),
    ],
    "spread_told": [
        Case(measured(std=float("nan")), "without: inclass.table2.w1"),
        Case(measured(n=1), "no value has several runs"),
    ],
    "compute_told": [
        Case(record(lambda content: content["attempts"][-1].update(state="failed"), f"{RUN}/run.json"), "run.json"),
        Case(record(lambda content: content.update(attempts=[])), "index"),
    ],
    "weights_kept": [
        Case(remove("results/smoke/weights.dvc"), "make snapshot SCALE=smoke"),
        Case(replace("results/smoke/weights.dvc", "checkerboard", "chess"), "not kept: inclass.checkerboard.main"),
        Case(another_archive, "differ from what is kept: inclass.checkerboard.main"),
    ],
    "all_measured": [
        Case(measured(budget="reduced"), "2 of 2 values were not", measured(budget="full")),
        Case(remove("results/smoke/comparison.csv"), "run the pipeline first", measured(budget="full")),
    ],
    "all_reproduced": [
        Case(
            measured(verdict="worse"),
            f"2 worse; {BOTH}",
            measured(budget="full", verdict="better"),
        ),
        Case(measured(budget="reduced"), "no value was judged", measured(budget="full", verdict="equivalent")),
    ],
    "differences_explained": [
        Case(
            measured(budget="full", verdict="worse", deviations=""),
            f"no deviation explains {BOTH}",
        ),
    ],
}


def test_every_check_has_a_case_in_which_it_fails() -> None:
    assert set(CASES) == set(CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), [(name, case) for name, cases in CASES.items() for case in cases])
def test_a_check_passes_on_what_is_good_and_fails_on_what_is_spoilt(copy: Pipeline, name: str, case: Case) -> None:
    if case is CASES[name][0] or case.prepare is not CASES[name][0].prepare:
        case.prepare(copy)
        good = check(project_of(copy), name)
        assert good.passed, good
        assert good.link is None or (copy.root / good.link).exists()
    case.spoil(copy)
    bad = check(project_of(copy), name)
    assert not bad.passed
    assert case.says in bad.detail


@given(st.sets(st.sampled_from(["httpx", "jinja2", "numpy", "pandas", "pydantic", "torch", "tqdm"]), max_size=4))
@settings(deadline=None, max_examples=20)
def test_exactly_the_packages_that_are_not_pinned_are_named(gone: set[str]) -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    kept = [line for line in lines if line.partition("==")[0].lower() not in gone]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copy(ROOT / "pyproject.toml", root)
        (root / "requirements.lock").write_text("\n".join(kept))
        found = check(Project(root, SMOKE), "environment_locked")
    assert found.passed == (not gone)
    named = found.detail.partition(": ")[2].partition(";")[0] if gone else ""
    assert {re.split("[=<>]", name)[0] for name in named.split(", ") if name} == gone


@pytest.mark.slow
def test_failed_attempts_count_as_computing_time(copy: Pipeline) -> None:
    before = project_of(copy).compute
    day = "2026-01-02T0{}:00:00+00:00"
    lost = [
        {"started": day.format(1), "ended": day.format(3), "state": "failed", "error": "no"},
        {"started": day.format(4), "ended": None, "state": "killed", "error": None},
    ]
    record(lambda content: content.update(threads=2, attempts=[*lost, *content["attempts"]]), f"{RUN}/run.json")(copy)
    pending = copy.results / "attempts" / "train" / "inclass" / "checkerboard" / "main.jsonl"
    pending.parent.mkdir(parents=True, exist_ok=True)
    pending.write_text(json.dumps({**lost[0], "started": day.format(2)}) + "\n")
    after = project_of(copy).compute
    assert after.wasted_core_hours - before.wasted_core_hours == pytest.approx(2 * 2 + 1)
    assert (after.attempts - before.attempts, after.unfinished, after.untold) == (3, 3, 1)


# The documents


def boxes(text: str) -> list[tuple[bool, str]]:
    return [(mark == "x", rest) for mark, rest in re.findall(r"^- \[([ x])\] (.*)$", text, re.MULTILINE)]


def test_documents_ask_for_every_check_and_leave_the_rest_to_a_person() -> None:
    questions = [question for document in DOCUMENTS for question in document.questions]
    assert {name for question in questions for name in question.checks} == set(CHECKS)
    assert all(question.checks or question.judge for question in questions)
    assert [document.name for document in DOCUMENTS] == ["acm", "neurips", "mlrc"]


@pytest.mark.slow
def test_ticks_are_those_of_the_checks_and_links_lead_somewhere(
    complete: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Half the checks pass here whatever they find: what is written must follow.
    for number, name in enumerate(CHECKS):
        outcome = Outcome(number % 2 == 0, f"found by {name}", "README.md" if number % 3 else None)
        monkeypatch.setitem(CHECKS, name, _constant(outcome, name))  # type: ignore[misc]
    project = project_of(complete)
    folder = tmp_path / "badges"
    outcomes = export_badges(complete.root, project.catalogue, folder)
    written = {file.name: file.read_bytes() for file in folder.iterdir()}
    export_badges(complete.root, project.catalogue, folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == written
    for document in DOCUMENTS:
        text = (folder / f"{document.name}.md").read_text()
        asked = [name for question in document.questions for name in question.checks]
        expected = [(outcomes[name].passed, outcomes[name].detail) for name in asked]
        ticks = boxes(text)
        assert [tick for tick, _ in ticks] == [passed for passed, _ in expected]
        assert all(detail in line for (_, detail), (_, line) in zip(expected, ticks, strict=True))
        judged = [question for question in document.questions if question.judge]
        assert text.count("- A person must judge") == len(judged)
        for link in re.findall(r"\]\(([^)]+)\)", text):
            assert (folder / link).exists(), link


def _constant(outcome: Outcome, name: str) -> Callable[[Project], Outcome]:
    def function(project: Project) -> Outcome:
        return outcome

    function.__doc__ = f"Check that {name} is asked."
    return function


@pytest.mark.slow
def test_the_command_writes_all_files_and_loads_no_torch(copy: Pipeline) -> None:
    copy.replace("Snakefile", 'include: "workflow/rules/evaluate.smk"\n', "")  # one check fails early, and says so
    code = "import sys; from neumix.cli import run\ntry: run()\nfinally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", code, "export", "badges", "--scale", "smoke"]
    done = subprocess.run(command, cwd=copy.root, env=copy.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "[ ] commands_work: Snakemake makes no plan" in done.stdout
    assert re.search(rf"results/smoke/badges: \d+ of {len(CHECKS)} checks pass", done.stdout)
    files = sorted((copy.results / "badges").iterdir())
    assert [file.name for file in files] == ["acm.md", "claims.md", "mlrc.md", "neurips.md"]
    claims = (copy.results / "badges" / "claims.md").read_text()
    assert "snakemake --cores 1 --config scale=smoke --forcerun train -- " + RUN in claims
    row = next(line for line in claims.splitlines() if line.startswith("| `inclass.table2.w1`"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "0.4051 fraction"
    assert re.fullmatch(r"-?[\d.]+ ± [\d.]+ \(n = 2\)", cells[2])
    assert cells[6] == "2"
    assert re.fullmatch(r"[\d.]+ s", cells[7])
    assert re.fullmatch(r"[\d.]+ MB", cells[8])
    assert (copy.results / "badges" / re.search(r"\(([^)]+)\)", cells[9])[1]).exists()  # type: ignore[index]


def test_without_results_the_reader_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="run the pipeline first"):
        export_badges(tmp_path, SMOKE, tmp_path / "badges")
    assert not (tmp_path / "badges").exists()
