"""The results of a pipeline that the real Snakemake has run, to an S3 server and back: no damage gets into them."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dvc_remotes import REPOSITORY, Remote, dvc, git, isolate, s3_server, use
from workflow_copy import Pipeline

from neumix import catalogue
from neumix.audit.audit import Audit, audit
from neumix.audit.hashes import Hashes
from neumix.audit.snapshot import restore, snapshot

pytestmark = pytest.mark.slow

RESULTS = Path("results/smoke")
HEAVY = ("weights", "arrays")


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """An empty bucket, for a user whose own settings do not matter."""
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, tmp_path_factory.mktemp("settings"))
        with s3_server(tmp_path_factory.mktemp("s3")) as server:
            yield server


@pytest.fixture(scope="module")
def pushed(finished: Pipeline, remote: Remote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose results are in the bucket, without weights, arrays, archives and DVC's cache."""
    root = finished.copy(tmp_path_factory.mktemp("pushed") / "repository").root
    (root / ".dvc").mkdir()
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore"):
        shutil.copy(REPOSITORY / name, root / name)
    (root / ".gitignore").write_text("".join(f"/{RESULTS}/{name}/\n" for name in (*HEAVY, "archives")))
    git(root, "init", "--quiet")
    assert len(snapshot(root, "smoke")) == len(list((root / RESULTS / "runs").rglob("run.json")))
    use(root, remote)
    assert_done(dvc(root, "push"))
    for folder in (*(root / RESULTS / name for name in (*HEAVY, "archives")), root / ".dvc" / "cache"):
        shutil.rmtree(folder)
    return root


@pytest.fixture
def repository(pushed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pushed, tmp_path / "repository"))


def assert_done(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stderr


def audited(root: Path) -> Audit:
    settings = catalogue.load(root, catalogue.load_settings({"scale": "smoke"}), check_modules=False)
    with Hashes(root, cached=False) as hashes:
        return audit(root, settings, hashes)


def heavy(root: Path) -> dict[str, bytes]:
    files = (path for name in HEAVY for path in (root / RESULTS / name).rglob("*") if path.is_file())
    return {path.relative_to(root / RESULTS).as_posix(): path.read_bytes() for path in files}


def objects(root: Path) -> dict[str, str]:
    """Return the MD5 of each archive that DVC tracks."""
    content = yaml.safe_load((root / RESULTS / "weights.dvc").read_text(encoding="utf-8"))
    return {Path(out["path"]).name: out["md5"] for out in content["outs"]}


def test_what_comes_back_passes_the_audit(finished: Pipeline, repository: Path) -> None:
    gone = audited(repository)
    assert {finding.state for finding in gone.concerned} == {"missing"}
    assert_done(dvc(repository, "pull"))
    restore(repository, "smoke")
    assert heavy(repository) == heavy(finished.root)
    assert audited(repository).ok


def test_a_corrupted_object_reaches_no_result(finished: Pipeline, repository: Path, remote: Remote) -> None:
    name, md5 = sorted(objects(repository).items())[0]
    right = remote.read(md5)
    remote.write(md5, right[:-1000] + b"x" + right[-999:])
    try:
        done = dvc(repository, "pull")
    finally:
        remote.write(md5, right)
    assert done.returncode != 0
    assert name in done.stderr
    restore(repository, "smoke")
    run = name.removesuffix(".tar").replace(".", "/")
    expected = {file: content for file, content in heavy(finished.root).items() if run not in file}
    assert heavy(repository) == expected
    found = audited(repository)
    assert not found.ok
    assert {finding.state for finding in found.concerned} == {"missing"}
    assert all(run in finding.file for finding in found.concerned)
