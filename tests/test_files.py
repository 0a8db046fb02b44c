"""A file is there whole or not at all, whatever happens while it is written."""

import hashlib
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neumix import files

KIB = 1024


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def in_child(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code that sees `target`, a file in `folder`, and everything of `neumix.files`."""
    prelude = f"from pathlib import Path\nfrom neumix.files import *\ntarget = Path({str(folder / 'x.txt')!r})\n"
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])}
    command = [sys.executable, "-c", prelude + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_writes_into_folders_that_do_not_exist_yet(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "x.csv"
    with files.atomic_path(target) as temporary:
        assert temporary.parent == target.parent  # a rename is atomic on one file system only
        assert temporary.suffix == ".csv"  # writers choose a format by it
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert names(target.parent) == ["x.csv"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(old=st.binary(max_size=200), new=st.binary(max_size=200))
def test_replaces_the_old_content_exactly(tmp_path: Path, old: bytes, new: bytes) -> None:
    target = tmp_path / "x.bin"
    files.write_bytes(target, old)
    files.write_bytes(target, new)
    assert target.read_bytes() == new
    assert files.sha256(target) == hashlib.sha256(new).hexdigest()
    assert names(tmp_path) == ["x.bin"]


def test_text_is_utf8_with_the_line_ends_it_was_given(tmp_path: Path) -> None:
    files.write_text(tmp_path / "x.txt", "π ± 1\nnext\r\n")
    assert (tmp_path / "x.txt").read_bytes() == b"\xcf\x80 \xc2\xb1 1\nnext\r\n"


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(75)])
def test_a_failure_keeps_the_old_content_and_leaves_nothing_behind(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    with pytest.raises(type(error)), files.atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_a_failure_of_the_first_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bad"), files.atomic_path(tmp_path / "x.txt"):
        raise ValueError("bad")
    assert names(tmp_path) == []


def test_a_full_disk_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("old")
    limit = f"import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nsize = {64 * KIB}\n"
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
    child = in_child(limit + "write_bytes(target, b'n' * (size + 1))", tmp_path)
    assert child.returncode == 1
    assert "OSError" in child.stderr
    assert (tmp_path / "x.txt").read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_a_kill_while_writing_keeps_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("old")
    kill = "import os, signal\nwith atomic_path(target) as temporary:\n"
    kill += " temporary.write_text('half')\n os.kill(os.getpid(), signal.SIGKILL)"
    assert in_child(kill, tmp_path).returncode == -9
    assert (tmp_path / "x.txt").read_text() == "old"
    files.write_text(tmp_path / "x.txt", "new")  # what the kill left behind is in nobody's way
    assert (tmp_path / "x.txt").read_text() == "new"


def test_content_reaches_the_disk_before_it_takes_the_place_of_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    seen: list[tuple[bytes, str]] = []

    def fsync(descriptor: int) -> None:
        seen.append((os.pread(descriptor, KIB, 0), target.read_text()))

    monkeypatch.setattr(os, "fsync", fsync)
    files.write_text(target, "new")
    assert seen[0] == (b"new", "old")


def test_many_writers_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    contents = [str(number) * (64 * KIB) for number in range(8)]
    files.write_text(target, contents[0])
    seen: set[str] = set()

    def write(content: str) -> None:
        for _ in range(5):
            files.write_text(target, content)
            seen.add(target.read_text())

    with ThreadPoolExecutor(len(contents)) as pool:
        list(pool.map(write, contents))
    assert seen <= set(contents)
    assert target.read_text() in contents
    assert names(tmp_path) == ["x.txt"]


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o000])
def test_everybody_may_read_and_only_the_owner_may_write(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write_text(tmp_path / "x.txt", "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.txt").stat().st_mode) == 0o644


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(OSError, match="file"):
        files.write_text(tmp_path / "file" / "x.txt", "new")
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError):
            files.write_text(tmp_path / "x.txt", "new")
    finally:
        tmp_path.chmod(0o755)
    assert names(tmp_path) == []


def test_a_link_is_replaced_and_what_it_points_to_is_kept(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "x.txt").symlink_to(tmp_path / "elsewhere")
    files.write_text(tmp_path / "x.txt", "new")
    assert (tmp_path / "elsewhere").read_text() == "theirs"
    assert (tmp_path / "x.txt").read_text() == "new"


@pytest.mark.parametrize("size", [0, 1, 2**20 + 1])
def test_hash_of_a_file_is_that_of_its_content(tmp_path: Path, size: int) -> None:
    content = b"\x00\xff" * size
    (tmp_path / "x").write_bytes(content)
    assert files.sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()
