"""The real Snakemake on a tiny paper: what runs, what does not run again, what a failure and a kill leave behind."""

import json
import os
import platform
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
from workflow_copy import Pipeline, add_sixth_paper, reverse_times, script_of, tiny_pipeline

from neumix.comparison import read_comparison
from neumix.records import read_record

pytestmark = pytest.mark.slow

GAUSSIANS, CHECKERBOARD = "inclass/two_gaussians/main", "inclass/checkerboard/main"
RENDERED = {"Rendering inclass.table2", "Rendering inclass.fig5", "Rendering inclass.fig10"}
AFTER = {"Comparing inclass with its published values", "Joining the comparisons of all papers", "Building the report"}
ALL_OF_CHECKERBOARD = {f"Measuring {CHECKERBOARD}", "Rendering inclass.fig10", *AFTER}
PUBLISHED = 155
ROLLS = "data/dice-rolls/SHA256SUMS"


def records(pipeline: Pipeline) -> Iterator[Path]:
    return (
        path for path in pipeline.results.rglob("*.json") if path.name != "metrics.json" and "report" not in path.parts
    )


def test_everything_is_there(finished: Pipeline) -> None:
    results = finished.results
    assert (results / "report" / "index.html").stat().st_size > 0
    for kind in ("csv", "md", "tex", "html"):
        assert (results / "tables" / f"inclass.table2.{kind}").stat().st_size > 0
    for kind in ("svg", "png"):
        assert (results / "figures" / f"inclass.fig5.{kind}").stat().st_size > 0
    assert not [path for path in results.rglob("*") if path.is_file() and path.name.startswith(".")], "temporary files"
    assert not [path for path in (results / "checkpoints").rglob("*") if path.is_file()]
    assert not [path for path in (results / "attempts").rglob("*") if path.is_file()]


def test_the_code_of_the_copy_made_the_results(finished: Pipeline) -> None:
    code = read_record(finished.results / "runs" / GAUSSIANS / "run.json")["inputs"]["code"]
    assert "src/neumix/models/inclass/costs.py" in code


def test_the_comparison_has_every_published_number(finished: Pipeline) -> None:
    frame = read_comparison(finished.results / "comparison.csv")
    assert len(frame) == PUBLISHED
    measured = frame[frame["n"] > 0]
    assert set(measured["id"]) == {"inclass.table2.w1", "inclass.sec3_2.w1"}
    assert set(measured["n"]) == {2}
    assert set(measured["budget"]) == {"reduced"}


def test_records_name_no_folder_and_no_host(finished: Pipeline) -> None:
    paths = list(records(finished))
    assert len(paths) >= 2 + 2 + 3 + 5 + 1
    for path in paths:
        text = path.read_text()
        assert str(finished.root) not in text
        assert str(Path.home()) + "/" not in text
        assert not re.search(rf"\b{re.escape(platform.node())}\b", text), path
        assert not re.search(r'"/', text), path


def test_hashes_of_upstream_outputs_are_those_that_went_in(finished: Pipeline) -> None:
    made: dict[str, str] = {}
    for path in records(finished):
        made |= read_record(path)["outputs"]
    trained = read_record(finished.results / "runs" / GAUSSIANS / "run.json")
    measured = read_record(finished.results / "runs" / GAUSSIANS / "evaluation.json")
    weights = f"results/smoke/weights/{GAUSSIANS}.safetensors"
    assert measured["inputs"]["weights"] == {weights: trained["outputs"][weights]}
    drawn = read_record(finished.results / "figures" / "inclass.fig5.json")
    arrays = f"results/smoke/arrays/{GAUSSIANS}.safetensors"
    assert drawn["inputs"]["arrays"] == {arrays: made[arrays]}


def test_nothing_runs_twice(finished: Pipeline) -> None:
    assert finished.plan() == set()


def test_files_may_be_asked_for_by_name_in_a_fresh_clone(tmp_path: Path) -> None:
    """Snakemake must find the lists of the code behind each, which are not there before."""
    pipeline = tiny_pipeline(tmp_path / "pipeline")
    asked = ("tables/inclass.table2.csv", "figures/inclass.fig10.png", f"runs/{GAUSSIANS}/run.json")
    planned = pipeline.plan("--", *(f"results/smoke/{name}" for name in asked))
    assert {f"Training {GAUSSIANS}", "Rendering inclass.table2", "Rendering inclass.fig10"} <= planned


def test_new_times_of_all_files_run_nothing(pipeline: Pipeline) -> None:
    """Contents decide: a copy, an archive or another branch and back give files other times."""
    reverse_times(pipeline.root, time.time() - 10_000)
    assert pipeline.plan() == set()


def recolour(pipeline: Pipeline) -> None:
    pipeline.replace("src/neumix/rendering.py", 'ESTIMATED = "#c0392b"', 'ESTIMATED = "#c0392c"')


def comment_on_costs(pipeline: Pipeline) -> None:
    pipeline.append("src/neumix/models/inclass/costs.py", "# A remark.\n")


def train_longer(pipeline: Pipeline) -> None:
    def change(paper: dict[str, Any]) -> None:
        paper["experiments"]["checkerboard"]["settings"]["stages"]["main"]["epochs"] = 3

    pipeline.edit(change)


def measure_finer(pipeline: Pipeline) -> None:
    def change(paper: dict[str, Any]) -> None:
        paper["experiments"]["checkerboard"]["settings"]["measure"]["grid_points"] = 300

    pipeline.edit(change)


def use_more_memory(pipeline: Pipeline) -> None:
    def change(paper: dict[str, Any]) -> None:
        paper["experiments"]["checkerboard"]["settings"]["resources"] = {"mem_mb": 3000}

    pipeline.edit(change)


def retitle(pipeline: Pipeline) -> None:
    pipeline.edit(lambda paper: paper["items"]["fig5"].update(title="Another title"))


def widen_a_margin(pipeline: Pipeline) -> None:
    pipeline.replace("config/margins.yaml", "mixture_weight:      {abs: 0.02}", "mixture_weight:      {abs: 0.03}")


def correct_a_published_number(pipeline: Pipeline) -> None:
    pipeline.replace("config/published/genmm.csv", ",1.8929,", ",1.8928,")


def restyle_the_report(pipeline: Pipeline) -> None:
    pipeline.append("src/neumix/report/static/report.css", "/* A remark. */\n")


COMPARED = {
    f"Comparing {slug} with its published values" for slug in ("inclass", "identifiability", "cwm", "cpmm", "genmm")
}
GENMM = {"Comparing genmm with its published values"}
MERGED = {"Joining the comparisons of all papers", "Building the report"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            comment_on_costs,
            {f"Training {GAUSSIANS}", f"Training {CHECKERBOARD}", f"Measuring {GAUSSIANS}"}
            | RENDERED
            | ALL_OF_CHECKERBOARD,
        ),
        (recolour, RENDERED | {"Building the report"}),
        (train_longer, {f"Training {CHECKERBOARD}"} | ALL_OF_CHECKERBOARD),
        (measure_finer, ALL_OF_CHECKERBOARD),
        (use_more_memory, {"Building the report"}),
        (retitle, {"Building the report"}),
        (widen_a_margin, COMPARED | MERGED),
        (correct_a_published_number, GENMM | MERGED),
        (restyle_the_report, {"Building the report"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_change_reruns_what_depends_on_it_and_nothing_else(
    pipeline: Pipeline, change: Callable[[Pipeline], None], expected: set[str]
) -> None:
    change(pipeline)
    assert pipeline.plan() == expected


def test_two_clean_builds_give_the_same_bytes(finished: Pipeline, tmp_path: Path) -> None:
    again = finished.copy(tmp_path / "again")
    for name in ("results", ".snakemake"):
        shutil.rmtree(again.root / name)
    again.run(PYTHONHASHSEED="7")
    folders = ("weights", "arrays", "runs", "tables", "figures", "comparison")
    first, second = finished.numbers(*folders), again.numbers(*folders)
    assert {name.partition("/")[0] for name in first} == set(folders)
    assert set(first) == set(second)
    assert not [name for name in first if first[name] != second[name]]


def test_a_failing_training_says_so_and_leaves_nothing_but_its_trace(pipeline: Pipeline) -> None:
    def spoil(paper: dict[str, Any]) -> None:
        paper["experiments"]["checkerboard"]["settings"]["stages"]["main"]["learning_rate"] = 1e30

    def repair(paper: dict[str, Any]) -> None:
        del paper["experiments"]["checkerboard"]["settings"]["stages"]["main"]["learning_rate"]

    files = [
        pipeline.results / "weights" / f"{CHECKERBOARD}.safetensors",
        *(pipeline.results / "runs" / CHECKERBOARD / name for name in ("run.json", "history.csv")),
    ]
    target = str(files[1].relative_to(pipeline.root))
    pipeline.edit(spoil)
    output = pipeline.fail(target)
    message = rf"train {CHECKERBOARD}: {CHECKERBOARD}: loss is nan in stage 'main', epoch 1, step \d+, seed 0"
    assert re.search(message, output)
    log = pipeline.results / "logs" / "train" / f"{CHECKERBOARD}.log"
    assert f"(the traceback is in {log.relative_to(pipeline.root)})" in output
    assert "Traceback" in log.read_text()
    assert not [path for path in files if path.exists()]
    attempts = pipeline.results / "attempts" / "train" / f"{CHECKERBOARD}.jsonl"
    assert [json.loads(line)["state"] for line in attempts.read_text().splitlines()] == ["running", "failed"]
    pipeline.edit(repair)
    pipeline.run(target)
    failed, finished = read_record(files[1])["attempts"]
    assert failed["state"] == "failed"
    assert failed["error"].startswith(f"NonFiniteLossError: {CHECKERBOARD}: loss is nan")
    assert finished["state"] == "finished"
    assert not attempts.exists()


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {what} after {seconds} seconds")


def interrupt(pipeline: Pipeline, target: str, send: Callable[[psutil.Process, psutil.Process], None]) -> str:
    """Run, wait for a new checkpoint, let `send` signal Snakemake or the training, and return what was printed."""
    checkpoint = pipeline.results / "checkpoints" / GAUSSIANS / "checkpoint"
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    process = pipeline.start(target)
    snakemake = psutil.Process(process.pid)
    wait_for(lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns > before, "new checkpoint")
    send(snakemake, wait_for(lambda: script_of(snakemake, "train"), "training"))
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0, output
    assert checkpoint.exists()
    assert not (pipeline.root / target).exists()
    return output


def test_a_training_that_is_killed_again_and_again_ends_as_if_it_never_was(pipeline: Pipeline, tmp_path: Path) -> None:
    def lengthen(paper: dict[str, Any]) -> None:
        paper["experiments"]["two_gaussians"]["settings"]["stages"]["main"]["epochs"] = 150

    pipeline.edit(lengthen)
    undisturbed = pipeline.copy(tmp_path / "undisturbed")
    target = f"results/smoke/runs/{GAUSSIANS}/run.json"
    undisturbed.run(target)

    interrupt(pipeline, target, lambda snakemake, training: training.kill())
    interrupt(pipeline, target, lambda snakemake, training: training.terminate())
    interrupt(pipeline, target, lambda snakemake, training: os.killpg(snakemake.pid, signal.SIGINT))  # Ctrl-C
    pipeline.run(target)

    record = read_record(pipeline.root / target)
    assert record["resumes"] == 3
    states = [attempt["state"] for attempt in record["attempts"]]
    assert states == ["killed", "interrupted", "interrupted", "finished"]
    assert not [path for path in (pipeline.results / "checkpoints").rglob("*") if path.is_file()]
    assert pipeline.numbers("weights") == undisturbed.numbers("weights")
    assert read_record(undisturbed.root / target)["resumes"] == 0
    losses = [
        [line.split(",")[:3] + line.split(",")[4:] for line in path.read_text().splitlines()]  # without seconds
        for path in (built.results / "runs" / GAUSSIANS / "history.csv" for built in (pipeline, undisturbed))
    ]
    assert losses[0] == losses[1]


def test_a_sixth_paper_is_added_by_its_own_files(pipeline: Pipeline, tmp_path: Path) -> None:
    add_sixth_paper(pipeline, tmp_path / "mirror")
    mirror = {"NEUMIX_DATA_MIRROR": str(tmp_path / "mirror")}
    own = {"Fetching dice-rolls", "Training dice/rolls/main", "Measuring dice/rolls/main", "Rendering dice.table1"}
    own |= {"Comparing dice with its published values"} | MERGED
    assert pipeline.plan("--config", "papers=dice", **mirror) == own
    before = read_comparison(pipeline.results / "comparison.csv")
    pipeline.run("--config", "papers=dice", **mirror)

    after = read_comparison(pipeline.results / "comparison.csv")
    assert len(after) == PUBLISHED + 1
    assert after[after["paper"] != "dice"].reset_index(drop=True).equals(before), "papers that are not selected stay"
    (row,) = after[after["paper"] == "dice"].to_dict("records")
    assert (row["verdict"], row["mean"], row["budget"]) == ("equivalent", 40.0, "full")
    record = read_record(pipeline.results / "runs" / "dice/rolls/main" / "run.json")
    assert set(record["inputs"]["data"]) == {"data/dice-rolls/SHA256SUMS"}
    assert pipeline.plan("--config", "papers=dice", **mirror) == set()


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A tiny pipeline that has fetched a dataset and done nothing else."""
    folder = tmp_path_factory.mktemp("fetched")
    pipeline = tiny_pipeline(folder / "pipeline")
    add_sixth_paper(pipeline, folder / "mirror")
    pipeline.run(ROLLS, NEUMIX_DATA_MIRROR=str(folder / "mirror"))
    return pipeline


def test_data_that_is_there_is_not_fetched_again(fetched: Pipeline) -> None:
    mirror = str(fetched.root.parent / "mirror")
    assert fetched.plan(ROLLS, NEUMIX_DATA_MIRROR=mirror) == set()


def test_another_mirror_fetches_nothing_again(fetched: Pipeline, tmp_path: Path) -> None:
    pipeline = fetched.copy(tmp_path / "pipeline")
    pipeline.edit(lambda settings: settings.update(mirrors=["https://example.org"]), "config/config.yaml")
    assert pipeline.plan(ROLLS, NEUMIX_DATA_MIRROR="/elsewhere") == set()


def test_what_is_said_of_a_dataset_fetches_nothing_again(fetched: Pipeline, tmp_path: Path) -> None:
    pipeline = fetched.copy(tmp_path / "pipeline")
    words = {"citation": "Somebody", "licence": "MIT", "note": "Beware"}
    pipeline.edit(lambda datasets: datasets["dice-rolls"].update(words), "config/datasets.yaml")
    assert pipeline.plan(ROLLS) == set()


def test_another_hash_fetches_again(fetched: Pipeline, tmp_path: Path) -> None:
    pipeline = fetched.copy(tmp_path / "pipeline")
    pipeline.edit(lambda datasets: datasets["dice-rolls"]["files"][0].update(sha256="0" * 64), "config/datasets.yaml")
    assert pipeline.plan(ROLLS) == {"Fetching dice-rolls"}


def test_a_selection_is_complete_after_its_first_run(finished: Pipeline, tmp_path: Path) -> None:
    """Papers that are not selected are listed as not run, without a file of their own that would count as kept."""
    pipeline = finished.copy(tmp_path / "pipeline")
    comparison = pipeline.results / "comparison"
    for path in comparison.iterdir():
        if path.stem != "inclass":
            path.unlink()
    pipeline.run("--config", "papers=inclass")
    assert pipeline.plan("--config", "papers=inclass") == set()
    assert {path.stem for path in comparison.iterdir()} == {"inclass"}
    merged = pd.read_csv(pipeline.results / "comparison.csv")
    assert len(merged) == len(pd.read_csv(finished.results / "comparison.csv"))
    assert set(merged[merged["paper"] != "inclass"]["verdict"]) <= {"not_run", "cited"}
