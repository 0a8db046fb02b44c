"""Runs executed again: the same bits, and what is not seeded is caught."""

from pathlib import Path

import pytest
from workflow_copy import Pipeline

from neumix import catalogue
from neumix.audit.chain import Chain
from neumix.audit.rerun import Rerun, choose, rerun
from neumix.catalogue import Catalogue

pytestmark = pytest.mark.slow

GAUSSIANS = "inclass/two_gaussians/main"


def loaded(pipeline: Pipeline) -> Catalogue:
    return catalogue.load(pipeline.root, catalogue.load_settings({"scale": "smoke"}), check_modules=False)


def again(pipeline: Pipeline, scratch: Path) -> Rerun:
    (found,) = rerun(pipeline.root, loaded(pipeline), [GAUSSIANS], scratch, cores=1)
    return found


def test_a_sample_is_decided_by_its_seed(finished: Pipeline, tmp_path: Path) -> None:
    chain = Chain(finished.root, "smoke")
    assert choose(chain, 1, 3) == choose(chain, 1, 3)
    assert choose(chain, 99, 0) == ["inclass/checkerboard/main", GAUSSIANS]
    assert {choose(chain, 1, seed)[0] for seed in range(20)} == {"inclass/checkerboard/main", GAUSSIANS}
    with pytest.raises(ValueError, match="no finished runs"):
        choose(Chain(tmp_path, "smoke"), 1, 0)


def test_a_run_executed_again_has_the_same_bits(finished: Pipeline, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.root.rglob("*") if path.is_file()}
    assert again(finished, tmp_path / "scratch") == Rerun(GAUSSIANS, "bit-identical", "")
    assert {path: path.stat().st_mtime_ns for path in finished.root.rglob("*") if path.is_file()} == before


def test_without_recorded_weights_metrics_are_compared(pipeline: Pipeline, tmp_path: Path) -> None:
    (pipeline.results / "weights" / f"{GAUSSIANS}.safetensors").unlink()
    assert again(pipeline, tmp_path / "scratch").grade == "metric-identical"


def test_an_operation_that_is_not_seeded_is_caught(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.append(
        "src/neumix/data/product_mixture.py",
        "\n\ndef _unseeded(function):\n"
        "    def load(root, config, seeds):\n"
        "        import os\n\n"
        "        return function(root, config, [int.from_bytes(os.urandom(2)) for _ in seeds])\n\n"
        "    return load\n\n\n"
        "load = _unseeded(load)\n",
    )
    found = again(pipeline, tmp_path / "scratch")
    assert found.grade in ("divergent", "within margin")
    assert "->" in found.detail


def test_a_run_that_fails_says_so(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.append("src/neumix/data/product_mixture.py", "\n\ndef load(root, config, seeds):\n    raise ValueError\n")
    assert again(pipeline, tmp_path / "scratch").grade == "failed"
