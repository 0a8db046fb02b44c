"""A private Slurm, and tiny pipelines that run on it; collected only when asked for, as `make test-cluster` does."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # what other tests share

from cluster_run import ClusterRun, lengthen  # noqa: E402
from private_slurm import Slurm, running_slurm, unavailable  # noqa: E402
from workflow_copy import Pipeline, tiny_pipeline  # noqa: E402


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out of a run over all of them: they start daemons and take minutes."""
    asked = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path == HERE or HERE in path.parents for path in asked) else True


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    reason = unavailable()
    if reason:
        pytest.skip(reason)
    with running_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A tiny pipeline whose long training ran on this machine, with nothing in its way."""
    pipeline = tiny_pipeline(tmp_path_factory.mktemp("undisturbed") / "pipeline")
    lengthen(pipeline)
    pipeline.run(ClusterRun.target)
    return pipeline


@pytest.fixture
def run(slurm: Slurm, undisturbed: Pipeline, tmp_path: Path) -> Iterator[ClusterRun]:
    """The same training on the cluster; whatever a test leaves there is cancelled."""
    pipeline = tiny_pipeline(tmp_path / "pipeline")
    lengthen(pipeline)
    prepared = ClusterRun(slurm, pipeline, undisturbed)
    yield prepared
    prepared.tidy()
