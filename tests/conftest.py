"""Fixtures that several test files share: a tiny pipeline that the real Snakemake has run."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from workflow_copy import Pipeline, tiny_pipeline

# Read when torch is imported, after this file. Tests run beside each other: threads that wait for one another would
# burn a third of the processors' time.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A tiny pipeline that has run to its end; built once, also where several processes run the tests."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished"
    with FileLock(f"{folder}.lock"):
        if not (folder / "pipeline").exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a build that failed has left
            tiny_pipeline(folder / "building").run()
            (folder / "building").rename(folder / "pipeline")
    return Pipeline(folder / "pipeline")


@pytest.fixture
def pipeline(finished: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of the finished pipeline to do as one likes with."""
    return finished.copy(tmp_path / "pipeline")
