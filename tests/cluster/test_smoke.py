"""The smoke pipeline of a paper on a real Slurm: the bits of this machine, and records that say where."""

import re
from pathlib import Path
from typing import Any

import pytest
from cluster_run import ClusterRun
from private_slurm import Slurm
from workflow_copy import REPOSITORY, Pipeline, copy_pipeline

from neumix.comparison import read_comparison
from neumix.records import read_record

PAPER, ON_GPUS = "cwm", "image_density"
TIMED = re.compile(r"arrays/cwm/gradients/\w+\.safetensors|(tables/cwm\.table|figures/cwm\.fig)_gradients\.\w+")
"""What holds or shows the seconds that each gradient took, which differ between any two evaluations."""

OWN = re.compile(rf"/{PAPER}[/.]")
"""What belongs to the paper: there may be others beside it on this machine."""

LIMIT = 2400  # seconds, for a machine that others use as well
FOLDERS = ("weights", "arrays", "runs", "tables", "figures", "comparison")
MAKING = ("Training", "Measuring", "Rendering", "Comparing")
"""What the jobs are said to do that write there."""


def ask_for_gpus(paper: dict[str, Any]) -> None:
    paper["experiments"][ON_GPUS]["scales"]["smoke"]["settings"]["resources"] = {"gpu": 1}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """The paper on this machine: what `make reproduce` has made, if it is all there and nothing has changed since."""
    here = Pipeline(REPOSITORY)
    if not any(job.startswith(MAKING) for job in here.plan("--config", f"papers={PAPER}")):
        return here
    pipeline = copy_pipeline(tmp_path_factory.mktemp("local") / "pipeline")
    process = pipeline.start("--config", f"papers={PAPER}")
    output = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 0, output
    return pipeline


@pytest.fixture(scope="module")
def remote(slurm: Slurm, tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = copy_pipeline(tmp_path_factory.mktemp("remote") / "pipeline")
    pipeline.edit(ask_for_gpus, f"config/papers/{PAPER}.yaml")
    run = ClusterRun(slurm, pipeline, pipeline)
    together = ("--groups", "evaluate=m", "--group-components", "m=4")
    run.end(run.start_all("--jobs", "3", *together, "--config", f"papers={PAPER}"), seconds=LIMIT)
    return pipeline


@pytest.mark.timeout(LIMIT)
def test_a_paper_has_the_same_bits_on_the_cluster(local: Pipeline, remote: Pipeline) -> None:
    here, there = (
        {name: content for name, content in pipeline.numbers(*FOLDERS).items() if OWN.search(name)}
        for pipeline in (local, remote)
    )
    assert {name.partition("/")[0] for name in here} == set(FOLDERS)
    assert set(here) == set(there)
    different = {name for name in here if here[name] != there[name]}
    assert {name for name in different if not TIMED.fullmatch(name)} == set()


@pytest.mark.timeout(LIMIT)
def test_every_record_says_where_it_was_made(slurm: Slurm, remote: Pipeline) -> None:
    """Only trainings that ask for a GPU are where GPUs are; what takes seconds is not sent away at all."""
    seen: dict[tuple[str, str], set[str]] = {}
    for path in (remote.results / "runs" / PAPER).rglob("*.json"):
        if path.name != "metrics.json":
            record = read_record(path)
            placement = record["placement"]
            assert (placement["scheduler"], placement["node"]) == ("slurm", slurm.node)
            assert slurm.field(placement["job"], "JobState") == "COMPLETED"
            kind = "gpu" if ON_GPUS in Path(record["id"]).parts else "cpu"
            seen.setdefault((record["kind"], kind), set()).add(placement["partition"])
    assert seen == {
        ("train", "gpu"): {"gpu"},
        ("train", "cpu"): {"cpu"},
        ("evaluate", "gpu"): {"cpu"},
        ("evaluate", "cpu"): {"cpu"},
    }
    for path in (remote.results / "tables").glob("*.json"):
        assert "placement" not in read_record(path)


@pytest.mark.timeout(LIMIT)
def test_the_report_says_for_each_number_where_it_was_made(remote: Pipeline) -> None:
    comparison = read_comparison(remote.results / "comparison" / f"{PAPER}.csv")
    assert len(comparison)
    for id_, run in zip(comparison["id"], comparison["runs"], strict=True):
        page = (remote.results / "report" / "show" / f"{id_}.html").read_text(encoding="utf-8")
        for record in ("run.json", "evaluation.json"):
            place = read_record(remote.results / "runs" / run / record)["placement"]
            assert f"slurm job {place['job']} on {place['node']}, partition {place['partition']}" in page
