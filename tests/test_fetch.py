"""Fetching against real servers, folders, full disks and killed processes."""

import contextlib
import gzip
import hashlib
import http.server
import multiprocessing
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neumix.data.dataset import DataError
from neumix.data.declarations import DatasetDeclaration, FileDeclaration, load_declarations
from neumix.data.fetch import SUMS, fetch
from neumix.settings import CatalogueError

CONFIG = Path(__file__).parents[1] / "config" / "datasets.yaml"
CONTENT = np.random.default_rng(0).integers(256, size=300_000, dtype=np.uint8).tobytes()


class Server:
    """A real HTTP server that misbehaves as told: one instruction for each request, then it behaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.instructions: list[Callable[[http.server.BaseHTTPRequestHandler, bytes], None]] = []
        self.ranges = True
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.requests.append((self.path, self.headers.get("Range")))
                if outer.instructions:
                    outer.instructions.pop(0)(self, outer.files.get(self.path, b""))
                else:
                    outer.answer(self)

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler, cut: int | None = None) -> None:
        body = self.files.get(handler.path)
        if body is None:
            return status(404)(handler, b"")
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range") or "")
        if match and self.ranges:
            start = int(match[1])
            if start >= len(body):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(body)}")
                handler.send_header("Content-Length", "0")
                return handler.end_headers()
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        handler.wfile.write(body[start:cut])
        if cut is not None:
            hang_up(handler)
        return None


def status(code: int) -> Callable[[http.server.BaseHTTPRequestHandler, bytes], None]:
    def answer(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def hang_up(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.flush()
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)


def broken_off(cut: int, server: Server) -> Callable[[http.server.BaseHTTPRequestHandler, bytes], None]:
    return lambda handler, body: server.answer(handler, cut=cut)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


def declare(*urls: str, content: bytes = CONTENT, name: str = "points", **changes: object) -> DatasetDeclaration:
    hashes = {"sha256": hashlib.sha256(content).hexdigest()}
    file = FileDeclaration(**{"name": name, "size": len(content), "urls": urls, **hashes, **changes})
    return DatasetDeclaration(
        title="Toy", homepage="https://example.org", licence="CC0", citation="None", files=(file,)
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_download_is_verified_and_listed(tmp_path: Path, server: Server) -> None:
    server.files["/points"] = CONTENT
    sums = fetch("toy", declare(f"{server.url}/points"), tmp_path)
    assert sums == tmp_path / "toy" / SUMS
    assert (tmp_path / "toy" / "points").read_bytes() == CONTENT
    assert names(tmp_path / "toy") == {"points", SUMS}
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS], cwd=sums.parent, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_right_file_is_kept_and_wrong_one_replaced(tmp_path: Path, server: Server) -> None:
    server.files["/points"] = CONTENT
    declaration = declare(f"{server.url}/points")
    fetch("toy", declaration, tmp_path)
    fetch("toy", declaration, tmp_path)
    assert len(server.requests) == 1
    path = tmp_path / "toy" / "points"
    path.write_bytes(CONTENT[:-1] + b"?" * (CONTENT[-1:] != b"?") + b"!" * (CONTENT[-1:] == b"?"))
    fetch("toy", declaration, tmp_path)
    assert len(server.requests) == 2
    assert path.read_bytes() == CONTENT


def test_server_errors_are_retried_with_growing_waits(tmp_path: Path, server: Server, waits: list[float]) -> None:
    server.files["/points"] = CONTENT
    server.instructions = [status(500), status(503), status(429)]
    fetch("toy", declare(f"{server.url}/points"), tmp_path, sleep=waits.append)
    assert len(server.requests) == 4
    assert len(waits) == 3
    assert waits[0] >= 1
    assert waits[1] >= 2
    assert waits[2] >= 4


def test_missing_page_is_not_retried_but_the_next_source_tried(
    tmp_path: Path, server: Server, waits: list[float]
) -> None:
    server.files["/second/points"] = CONTENT
    fetch(
        "toy",
        declare(f"{server.url}/first/points", f"{server.url}/second/points"),
        tmp_path,
        sleep=waits.append,
    )
    assert [path for path, _ in server.requests] == ["/first/points", "/second/points"]
    assert waits == []


def test_mirrors_come_first_as_folder_or_address(tmp_path: Path, server: Server) -> None:
    declaration = declare(f"{server.url}/public")
    server.files |= {"/public": CONTENT, "/mirror/toy/points.gz": gzip.compress(CONTENT)}
    fetch("toy", declaration, tmp_path / "a", ["", tmp_path / "none", f"{server.url}/mirror/"])
    assert [path for path, _ in server.requests] == ["/mirror/toy/points", "/mirror/toy/points.gz"]
    folder = tmp_path / "folder" / "toy"
    folder.mkdir(parents=True)
    (folder / "points.gz").write_bytes(gzip.compress(CONTENT))
    fetch("toy", declaration, tmp_path / "b", [tmp_path / "folder"])
    fetch("toy", declaration, tmp_path / "c", [(tmp_path / "folder").as_uri()])
    assert len(server.requests) == 2
    for root in "abc":
        assert (tmp_path / root / "toy" / "points").read_bytes() == CONTENT
    assert names(folder) == {"points.gz"}


@pytest.mark.parametrize("level", [0, 1, 9])
def test_gzip_wrappers_may_differ(tmp_path: Path, server: Server, level: int) -> None:
    wrapper = gzip.compress(CONTENT, level, mtime=level)
    server.files["/points.gz"] = wrapper
    fetch("toy", declare(f"{server.url}/points.gz"), tmp_path)
    assert (tmp_path / "toy" / "points").read_bytes() == CONTENT


def test_original_wrapper_vouches_where_no_content_hash_is_known(tmp_path: Path, server: Server) -> None:
    wrapper = gzip.compress(CONTENT)
    md5 = hashlib.md5(wrapper).hexdigest()
    server.files |= {"/other.gz": gzip.compress(CONTENT, 1), "/points.gz": wrapper}
    url, other = f"{server.url}/points.gz", f"{server.url}/other.gz"
    with pytest.raises(DataError, match=f"expected md5 of the original gzip {md5}"):
        fetch("toy", declare(other, sha256=None, wrapper_md5=md5), tmp_path)
    fetch("toy", declare(other, url, sha256=None, wrapper_md5=md5), tmp_path)
    requests = len(server.requests)
    fetch("toy", declare(url, sha256=None, wrapper_md5=md5), tmp_path)
    assert len(server.requests) == requests, "the record of the first fetch vouches for the file"
    (tmp_path / "toy" / "points").write_bytes(bytes(len(CONTENT)))
    fetch("toy", declare(url, sha256=None, wrapper_md5=md5), tmp_path)
    assert (tmp_path / "toy" / "points").read_bytes() == CONTENT
    content_md5 = hashlib.md5(CONTENT).hexdigest()
    fetch("toy", declare(other, sha256=None, md5=content_md5), tmp_path / "b")
    assert (tmp_path / "b" / "toy" / "points").read_bytes() == CONTENT


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, len(CONTENT) - 1), max_size=3), packed=st.booleans())
def test_any_broken_connection_is_resumed(
    tmp_path_factory: pytest.TempPathFactory, server: Server, cuts: list[int], packed: bool
) -> None:
    root = tmp_path_factory.mktemp("data")
    server.files["/points"] = gzip.compress(CONTENT) if packed else CONTENT
    server.requests.clear()
    cuts = sorted(cuts)
    server.instructions = [broken_off(cut, server) for cut in cuts]
    fetch("toy", declare(f"{server.url}/points"), root, sleep=lambda seconds: None)
    assert (root / "toy" / "points").read_bytes() == CONTENT
    assert names(root / "toy") == {"points", SUMS}
    expected = [None, *(f"bytes={cut}-" if cut else None for cut in cuts)]
    assert [span for _, span in server.requests] == expected


def test_server_without_ranges_starts_over(tmp_path: Path, server: Server) -> None:
    server.files["/points"] = CONTENT
    server.ranges = False
    server.instructions = [broken_off(100_000, server)]
    fetch("toy", declare(f"{server.url}/points"), tmp_path, sleep=lambda seconds: None)
    assert server.requests == [("/points", None), ("/points", "bytes=100000-")]
    assert (tmp_path / "toy" / "points").read_bytes() == CONTENT


def leave_partial(root: Path, url: str, content: bytes) -> Path:
    tag = hashlib.sha256(url.encode()).hexdigest()[:8]
    part = root / "toy" / f"points.{tag}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    return part


@pytest.mark.parametrize("size", [1, 1000, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 5, 2 * len(CONTENT)])
def test_bad_partial_file_is_thrown_away_once(tmp_path: Path, server: Server, size: int) -> None:
    server.files["/points"] = CONTENT
    url = f"{server.url}/points"
    part = leave_partial(tmp_path, url, bytes(size))
    fetch("toy", declare(url), tmp_path, sleep=lambda seconds: None)
    assert server.requests == [("/points", f"bytes={size}-"), ("/points", None)]
    assert (tmp_path / "toy" / "points").read_bytes() == CONTENT
    assert not part.exists()


def test_complete_partial_file_is_used_as_it_is(tmp_path: Path, server: Server) -> None:
    server.files["/points"] = CONTENT
    url = f"{server.url}/points"
    leave_partial(tmp_path, url, CONTENT)
    fetch("toy", declare(url), tmp_path)
    assert server.requests == [("/points", f"bytes={len(CONTENT)}-")]
    assert names(tmp_path / "toy") == {"points", SUMS}


def test_partial_files_of_two_sources_are_not_mixed(tmp_path: Path, server: Server) -> None:
    server.files |= {"/a.gz": gzip.compress(CONTENT, 9), "/b.gz": gzip.compress(CONTENT, 1)}
    server.instructions = [broken_off(1000, server)] * 2
    declaration = declare(f"{server.url}/a.gz", f"{server.url}/b.gz")
    fetch("toy", declaration, tmp_path, attempts=2, sleep=lambda seconds: None)
    assert server.requests[-1] == ("/b.gz", None)
    assert names(tmp_path / "toy") == {"points", SUMS}


def test_wrong_hash_names_everything_and_leaves_nothing(tmp_path: Path, server: Server) -> None:
    wrong = bytes(len(CONTENT))
    server.files["/points"] = wrong
    with pytest.raises(DataError) as caught:
        fetch("toy", declare(f"{server.url}/points"), tmp_path, sleep=lambda seconds: None)
    text = str(caught.value)
    for part in ("toy", "points", server.url, "NEUMIX_DATA_MIRROR", str(tmp_path / "toy" / "points")):
        assert part in text
    assert hashlib.sha256(CONTENT).hexdigest() in text
    assert hashlib.sha256(wrong).hexdigest() in text
    assert names(tmp_path / "toy") == set()


@pytest.mark.parametrize("packed", [False, True])
def test_truncated_file_is_refused(tmp_path: Path, server: Server, packed: bool) -> None:
    whole = gzip.compress(CONTENT) if packed else CONTENT
    server.files["/points"] = whole[: len(whole) // 2]
    with pytest.raises(DataError, match=r"truncated"):
        fetch("toy", declare(f"{server.url}/points"), tmp_path)
    assert names(tmp_path / "toy") == set()


def test_damaged_gzip_is_refused(tmp_path: Path, server: Server) -> None:
    damaged = bytearray(gzip.compress(CONTENT))
    damaged[len(damaged) // 2] ^= 0xFF
    server.files["/points"] = bytes(damaged)
    with pytest.raises(DataError, match=r"damaged gzip|expected sha256|holds more"):
        fetch("toy", declare(f"{server.url}/points"), tmp_path)
    assert names(tmp_path / "toy") == set()


def test_decompression_bomb_stops_at_the_declared_size(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/points"] = gzip.compress(bytes(200_000_000))
    assert len(server.files["/points"]) < len(CONTENT)
    written = []
    original = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: (written.append(path), original(path, to))[1])
    with pytest.raises(DataError, match=f"holds more than the declared {len(CONTENT)} bytes"):
        fetch("toy", declare(f"{server.url}/points"), tmp_path)
    assert written == []
    assert names(tmp_path / "toy") == set()


def test_endless_download_is_cut(tmp_path: Path, server: Server) -> None:
    server.files["/points"] = bytes(2 * len(CONTENT))
    with pytest.raises(DataError, match="sends more than"):
        fetch("toy", declare(f"{server.url}/points"), tmp_path)
    assert names(tmp_path / "toy") == set()


def test_no_network_is_one_clear_error(tmp_path: Path, waits: list[float]) -> None:
    address = closed_port()
    with pytest.raises(DataError) as caught:
        fetch("toy", declare(f"{address}/points"), tmp_path, [tmp_path / "mirror", address], sleep=waits.append)
    text = str(caught.value)
    assert f"{tmp_path}/mirror/toy/points: No such file" in text
    assert f"{address}/toy/points.gz: ConnectError" in text
    assert f"{address}/points: ConnectError" in text
    assert "check the network" in text
    assert len(waits) == 9
    assert names(tmp_path / "toy") == set()


def test_stalled_server_counts_as_interrupted(tmp_path: Path, server: Server) -> None:
    server.files["/points"] = CONTENT
    release = threading.Event()
    server.instructions = [lambda handler, body: (release.wait(20), None)[1]]
    fetch("toy", declare(f"{server.url}/points"), tmp_path, timeout=0.3, sleep=lambda seconds: None)
    release.set()
    assert (tmp_path / "toy" / "points").read_bytes() == CONTENT


def fetch_in_process(url: str, root: Path) -> None:
    fetch("toy", declare(url), root)


def test_two_processes_fetch_once(tmp_path: Path, server: Server) -> None:
    server.files["/points"] = CONTENT
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=fetch_in_process, args=(f"{server.url}/points", tmp_path)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(server.requests) == 1
    assert (tmp_path / "toy" / "points").read_bytes() == CONTENT
    assert names(tmp_path / "toy") == {"points", SUMS}


def test_killed_process_is_resumed(tmp_path: Path, server: Server) -> None:
    server.files["/points"] = CONTENT
    release = threading.Event()

    def stall(handler: http.server.BaseHTTPRequestHandler, body: bytes) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:200_000])
        handler.wfile.flush()
        release.wait(60)

    server.instructions = [stall]
    url = f"{server.url}/points"
    worker = multiprocessing.get_context("spawn").Process(target=fetch_in_process, args=(url, tmp_path))
    worker.start()
    deadline = time.monotonic() + 60
    while not any(part.stat().st_size >= 100_000 for part in tmp_path.glob("toy/*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()
    release.set()
    assert not (tmp_path / "toy" / "points").exists()
    fetch("toy", declare(url), tmp_path)
    span = server.requests[-1][1]
    assert span is not None
    assert 100_000 <= int(span.removeprefix("bytes=").removesuffix("-")) <= 200_000
    assert (tmp_path / "toy" / "points").read_bytes() == CONTENT
    assert names(tmp_path / "toy") == {"points", SUMS}


LIMITED = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_fetch import DataError, declare, fetch
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fetch("toy", declare(sys.argv[2]), Path(sys.argv[3]))
except DataError as error:
    print(error)
"""


def assert_full_disk(text: str, folder: Path) -> None:
    assert "toy: points cannot be written" in text
    assert f"needs up to {2 * len(CONTENT)} bytes" in text
    assert re.search(r"\d+ bytes are free", text)
    assert names(folder) == set()


@pytest.mark.parametrize("path", ["points", "points.gz"])
def test_file_size_limit_is_told_and_leaves_nothing(tmp_path: Path, server: Server, path: str) -> None:
    server.files |= {"/points": CONTENT, "/points.gz": gzip.compress(CONTENT)}
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(Path(__file__).parent), f"{server.url}/{path}", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert_full_disk(result.stdout, tmp_path / "toy")
    assert len(server.requests) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a small disk here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_is_told_and_leaves_nothing(small_disk: Path, server: Server) -> None:
    server.files["/points"] = CONTENT
    with pytest.raises(DataError) as caught:
        fetch("toy", declare(f"{server.url}/points"), small_disk)
    assert_full_disk(str(caught.value), small_disk / "toy")
    assert "No space left" in str(caught.value)


def test_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"toy: cannot write to .*data/toy"):
        fetch("toy", declare("http://localhost/x"), tmp_path / "data")


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/passwd", ".hidden", "", "..", "a\n", "a\\b"])
def test_names_never_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        declare("http://localhost/x", name=name)
    with pytest.raises(ValueError, match="a dataset's name"):
        fetch(name, declare("http://localhost/x"), tmp_path)
    assert names(tmp_path) == set()


def write_declaration(path: Path, old: str, new: str) -> Path:
    text = CONFIG.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  licence:", "  licnece:", "mnist: unknown key 'licnece'; did you mean 'licence'?"),
        ("      size: 47040016", "      size: -1", "mnist: key 'files.0.size'"),
        ("name: train-images", "name: ../train-images", "mnist: key 'files.0.name'"),
        ('sha256: "ba89', 'sha256: "zz89', "mnist: key 'files.0.sha256'"),
        ("        - https://ossci", "        - ftp://ossci", "mnist: key 'files.0.urls.0'"),
        ("\nmnist:", "\n../mnist:", "hyphens only, found '../mnist'"),
        ("name: train-labels", "name: train-images", "sha256"),
    ],
)
def test_typos_in_the_declarations_are_found(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "datasets.yaml"
    if old == "name: train-labels":
        text = CONFIG.read_text(encoding="utf-8").replace("      sha256:", "      # sha256:", 1)
        path.write_text(text, encoding="utf-8")
    else:
        write_declaration(path, old, new)
    with pytest.raises(CatalogueError) as caught:
        load_declarations(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_declarations_are_complete() -> None:
    declarations = load_declarations(CONFIG)
    assert set(declarations) == {"mnist", "fashion-mnist", "letter", "satimage", "smallnorb", "euler"}
    for declaration in declarations.values():
        for file in declaration.files:
            assert len(set(file.urls)) >= 2
            assert all(Path(url).name in (file.name, f"{file.name}.gz") for url in file.urls)


def test_declared_labels_of_small_norb_follow_from_their_description() -> None:
    labels = struct.pack("<5I", 0x1E3D4C54, 1, 24300, 1, 1) + (np.arange(24300) % 5).astype("<i4").tobytes()
    for file in load_declarations(CONFIG)["smallnorb"].files:
        if file.name.endswith("-cat.mat"):
            assert file.md5 == hashlib.md5(labels).hexdigest()
            assert file.size == len(labels)
