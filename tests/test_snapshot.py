"""Weights and arrays as archives that DVC keeps: nothing wrong is packed, pushed, pulled or unpacked unnoticed."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvc_remotes import REPOSITORY, FolderRemote, Remote, dvc, git, isolate, s3_server, use
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neumix.audit import archives
from neumix.audit.archives import pack, unpack
from neumix.audit.snapshot import restore, snapshot
from neumix.provenance import Recorder
from neumix.results import RunFiles

RESULTS = Path("results/laptop")
SIZES = {"toy/one/main": (2**20 + 1, 70_000), "toy/one/other": (512, 0), "toy/two/main": (30_000, None)}
"""Bytes of weights and of arrays; the last run was not measured."""

FILES = sorted(
    f"{kind}/{id_}.safetensors"
    for id_, sizes in SIZES.items()
    for kind, size in zip(("weights", "arrays"), sizes, strict=True)
    if size is not None
)
MAIN = "toy.one.main.tar"


@pytest.fixture(scope="module", autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, tmp_path_factory.mktemp("settings"))
        yield


def noise(name: str, size: int) -> bytes:
    return np.random.default_rng(list(name.encode())).bytes(size)


def record(kind: str, run: RunFiles, output: Path, metrics: Mapping[str, list[float]] | None = None) -> None:
    """Write what a job of the pipeline leaves, in the working folder."""
    path = run.record if kind == "train" else run.evaluation
    outputs = [output, *([run.metrics] if metrics else [])]
    recorder = Recorder(kind, run.id, path, Path("attempts") / f"{kind}.jsonl", "laptop", {}, {}, outputs)
    with recorder:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(noise(str(output), SIZES[run.id][kind == "evaluate"] or 0))
        if metrics:
            run.metrics.write_text(json.dumps({"metrics": metrics}), encoding="utf-8")


def train(id_: str) -> None:
    run = RunFiles(RESULTS, id_)
    record("train", run, run.weights)
    if SIZES[id_][1] is not None:
        record("evaluate", run, run.arrays, {"loss": [1.0, 2.0], "n": [3.0]})


def bare(root: Path) -> Path:
    """Return a git repository with the results of three runs and this repository's settings of git and DVC."""
    (root / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore"):
        shutil.copy(REPOSITORY / name, root / name)
    git(root, "init", "--quiet")
    with contextlib.chdir(root):
        for id_ in SIZES:
            train(id_)
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a committed snapshot."""
    root = bare(tmp_path_factory.mktemp("made") / "repository")
    snapshot(root, "laptop")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "-m", "Results")
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy of the repository with its results and DVC's cache."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def clone(made: Path, tmp_path: Path) -> Path:
    """A fresh clone: what git has of the repository."""
    git(tmp_path, "clone", "--quiet", str(made), "clone")
    return tmp_path / "clone"


@pytest.fixture(scope="module", params=["folder", "s3"])
def pushed(request: pytest.FixtureRequest, made: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """A remote that the snapshot was pushed to."""
    folder = tmp_path_factory.mktemp("remote")
    with s3_server(folder) if request.param == "s3" else contextlib.nullcontext(FolderRemote(folder)) as remote:
        root = shutil.copytree(made, tmp_path_factory.mktemp("pushing") / "repository")
        use(root, remote)
        done = dvc(root, "push")
        assert done.returncode == 0, done.stderr
        yield remote


@pytest.fixture
def spoil(made: Path, pushed: Remote) -> Iterator[Callable[[Callable[[str], None]], None]]:
    """Do something to the remote's copy of the first run's archive; it is undone after the test."""
    md5 = tracked(made)[MAIN]
    content = pushed.read(md5)
    yield lambda change: change(md5)
    pushed.write(md5, content)


def tracked(root: Path) -> dict[str, str]:
    """Return MD5 by archive."""
    content = yaml.safe_load((root / RESULTS / "weights.dvc").read_text(encoding="utf-8"))
    return {Path(out["path"]).name: out["md5"] for out in content["outs"]}


def tree(folder: Path) -> dict[str, bytes | str]:
    """Return everything below a folder: content of files, target of links."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def heavy(root: Path) -> dict[str, bytes | str]:
    """Return weights and arrays."""
    return {k: v for k, v in tree(root / RESULTS).items() if k.startswith(("weights/", "arrays/"))}


def drop(root: Path) -> None:
    for name in ("weights", "arrays"):
        shutil.rmtree(root / RESULTS / name)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


# Archives


def fill(folder: Path, contents: Mapping[str, bytes]) -> dict[str, str]:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


NAMES = st.from_regex(r"(weights|arrays)/[a-z][a-z0-9_]{0,60}/[a-z][a-z0-9_]{0,60}/x\.safetensors", fullmatch=True)
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=1200), min_size=1, max_size=3)
EXAMPLES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)


@EXAMPLES
@given(contents=CONTENTS, data=st.data())
def test_names_and_contents_alone_decide_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], data: st.DataObject
) -> None:
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    members = fill(first, contents)
    fill(second, {name: contents[name] for name in data.draw(st.permutations(list(contents)))})
    for name in contents:
        time = data.draw(st.integers(0, 2**33))
        os.utime(second / name, (time, time))
        (second / name).chmod(data.draw(st.sampled_from([0o400, 0o644, 0o777])))
    assert pack(first / "a.tar", first, members)
    assert pack(second / "b.tar", second, dict(reversed(members.items())))
    assert (first / "a.tar").read_bytes() == (second / "b.tar").read_bytes()
    with tarfile.open(first / "a.tar") as tar:
        assert tar.getnames() == sorted(contents)
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert member.mode == 0o644
    empty = tmp_path_factory.mktemp("empty")
    assert unpack(first / "a.tar", empty, members) == ([empty / name for name in sorted(contents)], [])
    assert tree(empty) == contents


def test_the_format_stays_what_it_is(tmp_path: Path) -> None:
    """Another Python or another version of this code must not give every archive a new hash."""
    members = fill(tmp_path, {"weights/a/b/c.safetensors": b"w" * 513, "arrays/a/b/c.safetensors": b""})
    pack(tmp_path / "x.tar", tmp_path, members)
    content = (tmp_path / "x.tar").read_bytes()
    assert len(content) == 512 * (1 + 0 + 1 + 2 + 2)
    assert hashlib.sha256(content).hexdigest() == "739b3b28f709f2da80d7595cf32a37ff2bbfb420e99c0392ff40641d1d5cc4bf"


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar")
def test_tar_reads_it(tmp_path: Path) -> None:
    contents = {"weights/a/b/c.safetensors": b"w" * 513, f"arrays/{'a' * 60}/{'b' * 60}/c.safetensors": b"x"}
    pack(tmp_path / "x.tar", tmp_path, fill(tmp_path, contents))
    (tmp_path / "out").mkdir()
    done = subprocess.run(["tar", "-xf", "../x.tar"], cwd=tmp_path / "out", capture_output=True, check=True)
    assert done.stderr == b""
    assert tree(tmp_path / "out") == contents


def test_an_unchanged_archive_is_not_written_again(tmp_path: Path) -> None:
    members = fill(tmp_path, {"weights/x": b"1" * 1000, "arrays/x": b"2" * 1000})
    assert pack(tmp_path / "x.tar", tmp_path, members)
    before = (tmp_path / "x.tar").stat()
    assert not pack(tmp_path / "x.tar", tmp_path, members)
    assert (tmp_path / "x.tar").stat().st_ino == before.st_ino
    for change in ({"weights/x": b"1" * 999 + b"3"}, {"weights/x": b"1" * 600}, {"weights/x": b""}):
        assert pack(tmp_path / "x.tar", tmp_path, {**members, **fill(tmp_path, change)})
    with (tmp_path / "x.tar").open("ab") as stream:
        stream.write(b"\0")
    assert pack(tmp_path / "x.tar", tmp_path, {**members, **fill(tmp_path, {"weights/x": b""})})


def test_what_differs_from_its_record_is_not_packed(tmp_path: Path) -> None:
    members = fill(tmp_path, {"weights/x": b"1" * 1000, "arrays/x": b"2" * 1000})
    pack(tmp_path / "x.tar", tmp_path, members)
    before = tree(tmp_path)
    flip(tmp_path / "weights/x", 999)
    with pytest.raises(ValueError, match=r"weights/x: sha256 \w{12}, its record says \w{12}; restore it, or run"):
        pack(tmp_path / "x.tar", tmp_path, members)
    flip(tmp_path / "weights/x", 999)
    assert tree(tmp_path) == before


def test_a_kill_while_packing_keeps_the_old_archive(copy: Path) -> None:
    archive = copy / RESULTS / "archives" / MAIN
    flip(archive, 5_000)
    old = archive.read_bytes()
    code = (
        "import os\nfrom pathlib import Path\nfrom neumix.audit import archives, snapshot\n"
        "blocks = archives._blocks\n"
        "def killed(*arguments):\n  for number, block in enumerate(blocks(*arguments)):\n"
        "    if number == 6: os.kill(os.getpid(), 9)\n    yield block\n"
        f"archives._blocks = killed\nsnapshot.snapshot(Path({str(copy)!r}), 'laptop')\n"
    )
    paths = {"PYTHONPATH": str(Path(archives.__file__).parents[2])}
    child = subprocess.run([sys.executable, "-c", code], env={**os.environ, **paths}, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert archive.read_bytes() == old
    assert [path.name for path in archive.parent.glob(".*")] != []
    assert snapshot(copy, "laptop") == [archive]
    assert list(archive.parent.glob(".*")) == []
    assert git(copy, "status", "--porcelain") == ""


GOOD = {"weights/a/b/c.safetensors": b"w" * 600, "arrays/a/b/c.safetensors": b"a"}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.size = 4 if kind == tarfile.REGTYPE else 0
    return made


BAD = {
    "its name is absolute": [member("/tmp/neumix_absolute")],
    "its name leads out of the folder": [member("weights/../../outside/x"), member("../outside/x")],
    "it is a symbolic link": [
        member("arrays/a/b/c.safetensors", tarfile.SYMTYPE, "../../outside/x"),
        member("weights/a", tarfile.SYMTYPE, "/tmp"),
    ],
    "it is a hard link": [member("arrays/a/b/c.safetensors", tarfile.LNKTYPE, "weights/a/b/c.safetensors")],
    "it is a device": [
        member("arrays/a/b/c.safetensors", tarfile.CHRTYPE),
        member("arrays/a/b/c.safetensors", tarfile.BLKTYPE),
    ],
    "it is a named pipe": [member("arrays/a/b/c.safetensors", tarfile.FIFOTYPE)],
    "it is a folder": [member("arrays/a", tarfile.DIRTYPE)],
    "it is not a plain file": [
        member("arrays/a/b/c.safetensors", tarfile.CONTTYPE),
        member("arrays/a/b/c.safetensors", tarfile.GNUTYPE_SPARSE),
    ],
    "no record of the run names it": [
        member("runs/a/b/c/run.json"),
        member("weights/a/b/other.safetensors"),
        member("weights/a/./b/c.safetensors"),
        member("weights\\a"),
        member(""),
    ],
    "it is there twice": [member("weights/a/b/c.safetensors")],
}


@pytest.mark.parametrize(("fault", "bad"), [(fault, bad) for fault, members in BAD.items() for bad in members])
@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_malicious_member_is_refused_before_anything_is_written(
    tmp_path: Path, fault: str, bad: tarfile.TarInfo, format_: int
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=format_) as tar:
        tar.addfile(sized("weights/a/b/c.safetensors"), io.BytesIO(GOOD["weights/a/b/c.safetensors"]))
        tar.addfile(bad, io.BytesIO(b"evil"))
    members = fill(tmp_path / "source", GOOD)
    (tmp_path / "results").mkdir()
    (tmp_path / "outside").mkdir()
    before = tree(tmp_path)
    with pytest.raises(ValueError) as error:
        unpack(tmp_path / "x.tar", tmp_path / "results", members)
    assert f"x.tar: refused for its member '{bad.name}': {fault}; nothing was written" in str(error.value)
    assert tree(tmp_path) == before
    assert not list((tmp_path / "results").iterdir())
    assert not Path("/tmp/neumix_absolute").exists()


def sized(name: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = len(GOOD[name])
    return made


def test_a_name_in_an_extended_header_is_refused_as_well(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        bad = sized("weights/a/b/c.safetensors")
        bad.pax_headers = {"path": "../outside"}
        tar.addfile(bad, io.BytesIO(GOOD["weights/a/b/c.safetensors"]))
    with pytest.raises(ValueError, match=r"'\.\./outside': its name leads out of the folder"):
        unpack(tmp_path / "x.tar", tmp_path / "results", fill(tmp_path / "source", GOOD))


def test_a_link_in_the_results_leads_nothing_outside(tmp_path: Path) -> None:
    members = fill(tmp_path / "source", GOOD)
    pack(tmp_path / "x.tar", tmp_path / "source", members)
    (tmp_path / "outside").mkdir()
    (tmp_path / "results" / "weights").mkdir(parents=True)
    (tmp_path / "results" / "weights" / "a").symlink_to(tmp_path / "outside")
    with pytest.raises(ValueError, match=r"c\.safetensors': a link in the results leads it elsewhere"):
        unpack(tmp_path / "x.tar", tmp_path / "results", members)
    assert tree(tmp_path / "outside") == {}
    assert not (tmp_path / "results" / "arrays").exists()


def test_weights_may_lie_on_another_disk(tmp_path: Path) -> None:
    members = fill(tmp_path / "source", GOOD)
    pack(tmp_path / "x.tar", tmp_path / "source", members)
    (tmp_path / "disk").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "weights").symlink_to(tmp_path / "disk")
    assert unpack(tmp_path / "x.tar", tmp_path / "results", members)[1] == []
    assert tree(tmp_path / "disk") == {"a/b/c.safetensors": GOOD["weights/a/b/c.safetensors"]}


@settings(EXAMPLES, max_examples=150)
@given(data=st.data())
def test_a_damaged_archive_never_gives_wrong_files(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    members = fill(folder / "source", GOOD)
    pack(folder / "x.tar", folder / "source", members)
    content = bytearray((folder / "x.tar").read_bytes())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[position] = data.draw(st.integers(0, 255))
    (folder / "x.tar").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    target = folder / "results"
    try:
        written, wrong = unpack(folder / "x.tar", target, members)
        assert sorted(written) == sorted(path for path in target.rglob("*") if path.is_file())
        assert all(str(folder / "x.tar") in line for line in wrong)
    except ValueError as error:
        assert f"{folder / 'x.tar'}: " in str(error)
        assert not target.exists()
    assert all(GOOD[name] == content for name, content in tree(target).items())


# Snapshots


def test_snapshot_packs_and_tracks_every_run(made: Path) -> None:
    names = sorted(f"{id_.replace('/', '.')}.tar" for id_ in SIZES)
    archives_ = made / RESULTS / "archives"
    assert sorted(path.name for path in archives_.iterdir()) == names
    assert tracked(made) == {name: hashlib.md5((archives_ / name).read_bytes()).hexdigest() for name in names}
    for id_, (_, arrays) in SIZES.items():
        with tarfile.open(archives_ / f"{id_.replace('/', '.')}.tar") as tar:
            expected = [f"{kind}/{id_}.safetensors" for kind in ("arrays", "weights")]
            assert tar.getnames() == (expected if arrays is not None else expected[1:])
            for name in tar.getnames():
                content = tar.extractfile(name)
                assert content is not None
                assert content.read() == (made / RESULTS / name).read_bytes()
    assert not [name for name in git(made, "ls-files").split() if name.endswith((".tar", ".safetensors"))]


def test_a_second_snapshot_changes_nothing_and_fills_the_cache(copy: Path) -> None:
    """An interrupted snapshot may have written `weights.dvc` without having filled DVC's cache."""
    before = tree(copy / RESULTS)
    shutil.rmtree(copy / ".dvc" / "cache")
    assert snapshot(copy, "laptop") == []
    assert tree(copy / RESULTS) == before
    assert git(copy, "status", "--porcelain") == ""
    cached = {path.parent.name + path.name for path in (copy / ".dvc" / "cache").rglob("*") if path.is_file()}
    assert cached == set(tracked(copy).values())
    assert dvc(copy, "status", "--quiet").returncode == 0


def test_a_run_that_changes_or_goes_changes_its_own_line(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tracked(copy)
    monkeypatch.setitem(SIZES, "toy/one/main", (2_000, 3_000))
    with contextlib.chdir(copy):
        train("toy/one/main")
    shutil.rmtree(copy / RESULTS / "runs/toy/two")
    assert snapshot(copy, "laptop") == [copy / RESULTS / "archives" / MAIN]
    new = tracked(copy)
    assert set(new) == {MAIN, "toy.one.other.tar"}
    assert new["toy.one.other.tar"] == old["toy.one.other.tar"]
    assert new[MAIN] != old[MAIN]
    assert sorted(path.name for path in (copy / RESULTS / "archives").iterdir()) == sorted(new)


@pytest.mark.parametrize("name", FILES)
def test_snapshot_names_a_file_that_differs_from_its_record(copy: Path, name: str) -> None:
    path = copy / RESULTS / name
    path.write_bytes(path.read_bytes() + b"x")
    before = tree(copy)
    with pytest.raises(ValueError, match=f"{name}: sha256 .* its record says"):
        snapshot(copy, "laptop")
    assert tree(copy) == before


@pytest.mark.parametrize("untracked", ["never", "other files", "damaged"])
def test_snapshot_names_a_file_that_is_not_there(copy: Path, untracked: str) -> None:
    arrays = copy / RESULTS / "arrays/toy/one/other.safetensors"
    if untracked == "never":
        (copy / RESULTS / "weights.dvc").unlink()
    elif untracked == "damaged":
        flip(copy / RESULTS / "archives/toy.one.other.tar", 600)
    else:
        arrays.write_bytes(b"other")
        with contextlib.chdir(copy):
            evaluation = RunFiles(RESULTS, "toy/one/other").evaluation
            content = json.loads(evaluation.read_text())
            content["outputs"][str(arrays.relative_to(copy))] = hashlib.sha256(b"other").hexdigest()
            evaluation.write_text(json.dumps(content))
    arrays.unlink()
    before = tree(copy / RESULTS)
    with pytest.raises(FileNotFoundError, match=r"arrays/toy/one/other\.safetensors"):
        snapshot(copy, "laptop")
    assert tree(copy / RESULTS) == before


@pytest.mark.parametrize("archives_too", [True, False])
def test_runs_whose_files_are_elsewhere_stay_tracked(clone: Path, made: Path, archives_too: bool) -> None:
    """A clone has one run trained anew, and of the others nothing or the archives alone."""
    if archives_too:
        shutil.copytree(made / RESULTS / "archives", clone / RESULTS / "archives")
    with contextlib.chdir(clone):
        train("toy/one/main")
    text = (clone / RESULTS / "weights.dvc").read_text()
    assert snapshot(clone, "laptop") == ([] if archives_too else [clone / RESULTS / "archives" / MAIN])
    assert (clone / RESULTS / "weights.dvc").read_text() == text
    cached = {path.parent.name + path.name for path in (clone / ".dvc" / "cache").rglob("*") if path.is_file()}
    assert cached == (set(tracked(made).values()) if archives_too else {tracked(made)[MAIN]})


def test_snapshot_names_a_record_without_the_file(copy: Path) -> None:
    record_ = copy / RESULTS / "runs/toy/one/main/evaluation.json"
    content = json.loads(record_.read_text())
    content["outputs"] = {}
    record_.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"evaluation\.json: its outputs do not name results/laptop/arrays/toy/one/"):
        snapshot(copy, "laptop")


def test_without_runs_both_say_so(tmp_path: Path) -> None:
    for function in (snapshot, restore):
        with pytest.raises(FileNotFoundError, match="paper/runs: no records of runs; run the pipeline first"):
            function(tmp_path, "paper")


def test_results_that_git_ignores_are_not_kept(copy: Path) -> None:
    (copy / "results" / "laptop").rename(copy / "results" / "smoke")
    before = tree(copy)
    with pytest.raises(ValueError, match=r"results/smoke/weights\.dvc: git ignores the results of this scale"):
        snapshot(copy, "smoke")
    assert tree(copy) == before


def test_what_dvc_says_is_passed_on(copy: Path) -> None:
    shutil.rmtree(copy / ".dvc")
    with pytest.raises(ValueError, match=r"(?s)weights\.dvc: DVC did not take it: .*not inside of a DVC repository"):
        snapshot(copy, "laptop")


def test_dvc_shows_means_and_their_changes(copy: Path) -> None:
    use(copy, FolderRemote(copy / "remote"))  # DVC reads the commit's settings together with the local ones
    shown = json.loads(dvc(copy, "metrics", "show", "--json").stdout)[""]["data"]
    run = {"loss": 1.5, "n": 3.0}
    path = "results/laptop/metrics.json"
    assert shown == {path: {"data": {"toy": {"one/main": run, "one/other": run}}}}
    metrics = copy / RESULTS / "runs/toy/one/main/metrics.json"
    metrics.write_text(json.dumps({"metrics": {"loss": [1.0, 3.0], "n": [3.0]}}))
    snapshot(copy, "laptop")
    done = dvc(copy, "metrics", "diff", "--json")
    change = {"old": 1.5, "new": 2.0, "diff": 0.5}
    assert json.loads(done.stdout) == {path: {"toy.one/main.loss": change}}, done.stderr
    assert git(copy, "status", "--porcelain", "--", path) == f" M {path}\n"


# Restoring


def test_restore_brings_back_the_bytes(copy: Path) -> None:
    before = heavy(copy)
    assert sorted(before) == FILES
    drop(copy)
    assert restore(copy, "laptop") == [copy / RESULTS / name for name in sorted(FILES, key=restored_order)]
    assert heavy(copy) == before
    assert restore(copy, "laptop") == []


def restored_order(name: str) -> tuple[str, str]:
    kind, _, id_ = name.partition("/")
    return id_, kind


def test_restore_replaces_a_damaged_file_alone(copy: Path) -> None:
    before = heavy(copy)
    flip(copy / RESULTS / "weights/toy/one/main.safetensors", 2**20)
    assert restore(copy, "laptop") == [copy / RESULTS / "weights/toy/one/main.safetensors"]
    assert heavy(copy) == before


@pytest.mark.parametrize("there", [False, True])
def test_a_damaged_archive_is_reported_and_its_other_file_restored(copy: Path, there: bool) -> None:
    before = heavy(copy)
    if not there:
        drop(copy)
    weights = "weights/toy/one/main.safetensors"
    archive = copy / RESULTS / "archives" / MAIN
    flip(archive, archive.stat().st_size - 5_000)  # among the weights
    if there:
        flip(copy / RESULTS / weights, 7)
        old = (copy / RESULTS / weights).read_bytes()
    with pytest.raises(ValueError) as error:
        restore(copy, "laptop")
    assert f"{0 if there else 4} files were restored" in str(error.value)
    assert f"{archive}: '{weights}' has sha256 " in str(error.value)
    expected = {**before, weights: old} if there else {k: v for k, v in before.items() if k != weights}
    assert heavy(copy) == expected


def test_all_that_is_wrong_is_reported_at_once(copy: Path) -> None:
    before = heavy(copy)
    drop(copy)
    folder = copy / RESULTS / "archives"
    (folder / MAIN).write_bytes(b"no tar" * 1000)
    shutil.copy(folder / "toy.two.main.tar", folder / "toy.three.main.tar")
    shutil.copy(folder / "toy.two.main.tar", folder / "toy.one.other.tar")
    with pytest.raises(ValueError) as error:
        restore(copy, "laptop")
    lines = str(error.value).split("\n")
    assert lines[0] == "1 files were restored, others are wrong:"
    assert [line.strip().partition(": ")[0] for line in lines[1:]] == [
        str(folder / name) for name in (MAIN, "toy.one.other.tar", "toy.three.main.tar")
    ]
    assert "not an archive" in lines[1]
    assert "no record of the run names it" in lines[2]
    assert "no run of" in lines[3]
    assert heavy(copy) == {k: v for k, v in before.items() if "two" in k}


def test_restore_without_archives_says_how_to_get_them(copy: Path) -> None:
    shutil.rmtree(copy / RESULTS / "archives")
    with pytest.raises(FileNotFoundError, match=r"no archives; `dvc pull .*results/laptop/weights\.dvc` brings them"):
        restore(copy, "laptop")


# Remotes


def test_a_clone_gets_the_same_bytes(clone: Path, made: Path, pushed: Remote) -> None:
    use(clone, pushed)
    done = dvc(clone, "pull")
    assert done.returncode == 0, done.stderr
    assert len(restore(clone, "laptop")) == len(FILES)
    assert heavy(clone) == heavy(made)
    assert git(clone, "status", "--porcelain") == ""


def test_a_corrupted_remote_object_is_reported(
    clone: Path, made: Path, pushed: Remote, spoil: Callable[[Callable[[str], None]], None]
) -> None:
    def corrupt(md5: str) -> None:
        content = bytearray(pushed.read(md5))
        content[600_000] ^= 1
        pushed.write(md5, bytes(content))

    spoil(corrupt)
    use(clone, pushed)
    incomplete(clone, made)


def test_a_missing_remote_object_is_reported(
    clone: Path, made: Path, pushed: Remote, spoil: Callable[[Callable[[str], None]], None]
) -> None:
    spoil(pushed.delete)
    use(clone, pushed)
    incomplete(clone, made)


def incomplete(clone: Path, made: Path) -> None:
    """Assert that a pull fails for the first run, by name, and that all others are restored."""
    done = dvc(clone, "pull")
    assert done.returncode != 0
    assert f"results/laptop/archives/{MAIN}" in done.stderr
    assert "toy.one.other.tar" not in done.stderr
    assert not (clone / RESULTS / "archives" / MAIN).exists()
    assert len(restore(clone, "laptop")) == 3
    assert heavy(clone) == {k: v for k, v in heavy(made).items() if "one/main" not in k}


@pytest.mark.parametrize("pushed", ["s3"], indirect=True)
@pytest.mark.parametrize("option", ["access_key_id", "secret_access_key"])
def test_a_wrong_key_is_a_clear_error(clone: Path, pushed: Remote, option: str) -> None:
    use(clone, pushed, **{option: "wrong"})
    done = dvc(clone, "pull")
    assert done.returncode != 0
    assert "403" in done.stderr
    assert not (clone / RESULTS / "archives").exists()


def test_a_lost_object_is_pushed_again(
    copy: Path, pushed: Remote, spoil: Callable[[Callable[[str], None]], None]
) -> None:
    content = pushed.read(tracked(copy)[MAIN])
    spoil(pushed.delete)
    use(copy, pushed)
    done = dvc(copy, "push")
    assert done.returncode == 0, done.stderr
    assert pushed.read(tracked(copy)[MAIN]) == content


def test_without_a_default_remote_pull_says_so(clone: Path) -> None:
    done = dvc(clone, "pull")
    assert done.returncode != 0
    assert "no default remote set" in done.stderr


def test_two_commands_name_a_remote_that_is_verified(copy: Path, tmp_path: Path) -> None:
    before = git(copy, "status", "--porcelain")
    for command in (
        ["remote", "modify", "--local", "storage", "url", str(tmp_path / "remote")],
        ["remote", "default", "--local", "storage"],
    ):
        assert dvc(copy, *command).returncode == 0
    assert git(copy, "status", "--porcelain") == before
    listed = dvc(copy, "config", "--list").stdout.split()
    assert "remote.storage.verify=true" in listed
    assert [line for line in listed if line.startswith("remote.storage.url=")][-1].endswith("/remote")
    assert dvc(copy, "push").returncode == 0
    assert len([path for path in (tmp_path / "remote").rglob("*") if path.is_file()]) == len(SIZES)


def test_neither_needs_torch() -> None:
    code = "import sys, neumix.audit.snapshot; sys.exit('torch' in sys.modules)"
    paths = {"PYTHONPATH": str(Path(archives.__file__).parents[2])}
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ, **paths}, check=False).returncode == 0
