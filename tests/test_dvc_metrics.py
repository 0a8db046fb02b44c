"""`dvc metrics` on a clone of this repository: the means of the committed runs, and what a change does to them."""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc_remotes import REPOSITORY, FolderRemote, dvc, git, isolate, use

from neumix.audit.snapshot import note_means
from neumix.results import read_metrics

RESULTS = Path("results/laptop")
METRICS = f"{RESULTS}/metrics.json"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A clone with the means of its runs committed."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git repository")
    folder = tmp_path_factory.mktemp("metrics")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder / "settings")
        git(folder, "clone", "--quiet", "--depth", "1", REPOSITORY.as_uri(), "clone")
        root = folder / "clone"
        note_means(root, "laptop")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--allow-empty", "-m", "Means")
        use(root, FolderRemote(folder / "remote"))
        yield root


def shown(root: Path, *words: str) -> dict[str, Any]:
    done = dvc(root, "metrics", *words, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_every_committed_run_is_shown_with_its_means(clone: Path) -> None:
    found = shown(clone, "show")[""]["data"][METRICS]["data"]
    files = sorted((clone / RESULTS / "runs").rglob("metrics.json"))
    assert len(files) > 40
    assert sum(map(len, found.values())) == len(files)
    for file in files:
        paper, run = file.parent.relative_to(clone / RESULTS / "runs").as_posix().split("/", 1)
        assert found[paper][run] == {name: statistics.fmean(values) for name, values in read_metrics(file).items()}


def test_a_changed_run_is_the_only_difference(clone: Path) -> None:
    assert shown(clone, "diff") == {}
    file = clone / RESULTS / "runs/cwm/image_density/gmm/metrics.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    name, values = next((name, values) for name, values in content["metrics"].items() if len(values) > 1)
    old = statistics.fmean(values)
    content["metrics"][name] = [value + 1 for value in values]
    file.write_text(json.dumps(content), encoding="utf-8")
    note_means(clone, "laptop")
    (path,) = (changes := shown(clone, "diff"))
    (key,) = changes[path]
    assert (path, key) == (METRICS, f"cwm.image_density/gmm.{name}")
    assert changes[path][key]["old"] == pytest.approx(old)
    assert changes[path][key]["diff"] == pytest.approx(1)
