"""Bad input to the commands of the audit: a clear line that names the file, and never a traceback or a false `ok`."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflow_copy import Pipeline

from neumix import catalogue
from neumix.audit import digest
from neumix.audit.audit import Audit, audit, targets_of
from neumix.audit.explain import describe, reason_text, show_text
from neumix.audit.hashes import Hashes
from neumix.catalogue import Catalogue
from neumix.comparison import read_comparison
from neumix.files import sha256
from neumix.records import FORMAT
from neumix.report.collect import build_report

pytestmark = pytest.mark.slow

W1, TABLE = "inclass.table2.w1", "inclass.table2"
RUN = "results/smoke/runs/inclass/two_gaussians/main"
RECORD = f"{RUN}/run.json"
COMPARISON = "results/smoke/comparison/inclass.json"


def loaded(pipeline: Pipeline) -> Catalogue:
    return catalogue.load(pipeline.root, catalogue.load_settings({"scale": "smoke"}), check_modules=False)


def audited(pipeline: Pipeline, *ids: str, compute: bool = True) -> Audit:
    return audit(pipeline.root, loaded(pipeline), Hashes(pipeline.root, cached=False), ids, compute=compute)


def command(pipeline: Pipeline, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "neumix.cli", *words],
        cwd=pipeline.root,
        env=pipeline.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def rewrite(pipeline: Pipeline, record: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a record and give it the digest of its new text, as a forger would."""
    path = pipeline.root / record
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    del content[digest.DIGEST]
    path.write_text(digest.text_with_digest(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("id_", "words"),
    [
        ("inclass.table2.w3", "inclass.table2.w1"),
        ("inclas.table2", "the nearest are inclass.table2"),
        ("cwm.table1.gmm_logik", "cwm.table1.gmm_loglik"),
        ("?", "the ids are those of config/published/*.csv"),
        ("", "the ids are those of config/published/*.csv"),
        ("../../etc/passwd", "the ids are those of"),
    ],
)
def test_unknown_ids_come_with_the_nearest(finished: Pipeline, id_: str, words: str) -> None:
    with pytest.raises(ValueError, match="is no published value, table or figure; ") as error:
        targets_of(loaded(finished), [id_])
    assert words in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", ["show", "why", "audit"])
def test_each_command_says_so_in_one_line(finished: Pipeline, name: str) -> None:
    said = command(finished, name, "inclass.table2.w3", "--scale", "smoke")
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.count("\n") == 1
    assert "inclass.table2.w1" in said.stderr


def newer(text: str) -> str:
    return text.replace('"format": 1', f'"format": {FORMAT + 1}')


def truncated(text: str) -> str:
    return text[: len(text) // 2]


def empty(text: str) -> str:
    return ""


def a_list(text: str) -> str:
    return "[1]"


SPOILT = {newer: "is newer than", truncated: "not a run record", empty: "not a run record", a_list: "not a run record"}


@pytest.mark.parametrize("record", [RECORD, f"{RUN}/evaluation.json", COMPARISON])
@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_a_record_that_cannot_be_read_is_never_ok(pipeline: Pipeline, record: str, spoil: Callable[[str], str]) -> None:
    path = pipeline.root / record
    path.write_text(spoil(path.read_text(encoding="utf-8")), encoding="utf-8")
    found = audited(pipeline)
    assert not found.ok
    assert SPOILT[spoil] in found.broken[record]
    target = audited(pipeline, W1, compute=False).targets[W1]
    assert target.state == "tampered"
    assert any(finding.file == record and SPOILT[spoil] in finding.detail for finding in target.findings)
    assert record in reason_text(target)
    text = show_text(describe(loaded(pipeline), pipeline.results, target))
    assert text.startswith(f"{W1} at scale smoke: tampered")
    assert SPOILT[spoil] in text


def test_a_record_of_a_newer_format_is_named_even_where_its_hash_is_right(pipeline: Pipeline) -> None:
    path = pipeline.root / RECORD
    path.write_text(newer(path.read_text(encoding="utf-8")), encoding="utf-8")

    def believe(content: dict[str, Any]) -> None:
        content["inputs"]["record"][RECORD] = sha256(path)

    rewrite(pipeline, f"{RUN}/evaluation.json", believe)
    target = audited(pipeline, W1).targets[W1]
    assert any("is newer than" in finding.detail for finding in target.findings)


@pytest.mark.parametrize("name", ["show", "audit", "report"])
def test_commands_survive_a_truncated_record(pipeline: Pipeline, name: str) -> None:
    path = pipeline.root / RECORD
    path.write_text(truncated(path.read_text(encoding="utf-8")), encoding="utf-8")
    said = command(pipeline, name, *([W1] if name == "show" else []), "--scale", "smoke")
    assert "Traceback" not in said.stderr
    assert f"{RECORD}: not a run record" in said.stdout + said.stderr
    assert said.returncode == (0 if name == "show" else 1)


def test_truncated_metrics_are_reported(pipeline: Pipeline) -> None:
    path = pipeline.root / RUN / "metrics.json"
    path.write_text(truncated(path.read_text(encoding="utf-8")), encoding="utf-8")
    target = audited(pipeline, W1).targets[W1]
    assert [(finding.state, finding.file) for finding in target.findings] == [("tampered", f"{RUN}/metrics.json")]
    with pytest.raises(ValueError, match=r"metrics\.json: not a metrics file"):
        build_report(pipeline.root, "smoke")


def test_a_truncated_comparison_is_no_number(pipeline: Pipeline) -> None:
    path = pipeline.results / "comparison.csv"
    text = path.read_text(encoding="utf-8")
    place = text.index(f"\n{W1},")
    target = audited(pipeline, W1, compute=False).targets[W1]
    for content, message in (
        (text[: place + len(W1) + 10], "no cell for"),
        (_with_word(text, place), "not a number"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=f"comparison.csv: {W1}: {message}"):
            describe(loaded(pipeline), pipeline.results, target)


def _with_word(text: str, place: int) -> str:
    """Put a word in the place of a row's number of measurements."""
    end = text.index("\n", place + 1)
    cells = text[place:end].split(",")
    position = text.splitlines()[0].split(",").index("n")
    return text[:place] + ",".join([*cells[:position], "ten", *cells[position + 1 :]]) + text[end:]


def test_a_description_has_the_numbers_that_the_comparison_has(finished: Pipeline) -> None:
    frame = read_comparison(finished.results / "comparison.csv")
    target = audited(finished, W1, compute=False).targets[W1]
    value = describe(loaded(finished), finished.results, target)["value"]
    row = frame[frame["id"] == W1].iloc[0].to_dict()
    assert value == {key: cell for key, cell in row.items() if cell != "" and cell == cell}  # noqa: PLR0124 (NaN)
    assert {key: type(cell) for key, cell in value.items()}["n"] is int


def lie_about_weights(content: dict[str, Any]) -> None:
    content["outputs"]["results/smoke/weights/inclass/two_gaussians/main.safetensors"] = "0" * 64


def lie_about_code(content: dict[str, Any]) -> None:
    content["inputs"]["code"]["src/neumix/nn.py"] = "0" * 64


def lie_about_itself(content: dict[str, Any]) -> None:
    content["id"] = "inclass/checkerboard/main"


def name_a_file_outside(content: dict[str, Any]) -> None:
    content["outputs"]["../../secret"] = "0" * 64


def name_a_file_of_the_system(content: dict[str, Any]) -> None:
    content["outputs"]["/etc/passwd"] = sha256(Path("/etc/passwd"))


LIES = {
    lie_about_weights: ("tampered", "main.safetensors"),
    lie_about_code: ("stale", "module neumix.nn has changed"),
    lie_about_itself: ("tampered", "it belongs to results/smoke/runs/inclass/checkerboard/main/run.json"),
    name_a_file_outside: ("tampered", "it names ../../secret"),
    name_a_file_of_the_system: ("tampered", "it names /etc/passwd"),
}


@pytest.mark.parametrize("forged", [False, True], ids=["digest left", "digest forged"])
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_record_that_lies_is_found(pipeline: Pipeline, lie: Callable[[dict[str, Any]], None], forged: bool) -> None:
    path = pipeline.root / RECORD
    old = sha256(path)
    if forged:
        rewrite(pipeline, RECORD, lie)
    else:
        content = json.loads(path.read_text(encoding="utf-8"))
        lie(content)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    assert sha256(path) != old
    for id_ in ("inclass.fig5", W1):
        findings = audited(pipeline, id_, compute=False).targets[id_].findings
        told = [f"{finding.file} {finding.detail}" for finding in findings if finding.state == LIES[lie][0]]
        assert any(LIES[lie][1] in line for line in told) or lie is lie_about_itself, findings
        assert any(finding.state == "tampered" and finding.file == RECORD for finding in findings)


HEAVY = ("torch", "pandas", "scipy", "matplotlib", "sklearn")


@pytest.mark.parametrize(
    "words", [["show", W1], ["show", TABLE, "--json"], ["why", W1], ["why", "genmm.table1.mnist_k1"]]
)
def test_reading_about_a_number_loads_nothing_heavy(finished: Pipeline, words: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["neumix", *{words!r}, "--scale", "smoke"]
from neumix.cli import app
try:
    app()
except SystemExit as error:
    assert not error.code
found = sorted(set({HEAVY!r}) & set(sys.modules))
sys.exit(", ".join(found) or None)
"""
    child = subprocess.run(
        [sys.executable, "-c", code],
        cwd=finished.root,
        env=finished.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (child.returncode, child.stderr) == (0, "")
    assert words[1] in child.stdout
