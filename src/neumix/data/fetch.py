"""Fetch the raw files of a dataset: verified, resumable, safe when two processes do it at once."""

import errno
import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import filelock
import httpx

from neumix.data.dataset import DataError
from neumix.data.declarations import DatasetDeclaration, FileDeclaration, check_name
from neumix.data.transfer import Content, SourceError, digest, download, unpack

__all__ = ["SUMS", "fetch"]

log = logging.getLogger(__name__)

SUMS = "SHA256SUMS"
"""Name of the file that lists what was fetched, in the format of `sha256sum --check`."""

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class _Fetcher:
    """Fetches the files of one dataset into one folder."""

    def __init__(
        self,
        name: str,
        declaration: DatasetDeclaration,
        root: Path,
        mirrors: Sequence[str | Path],
        client: httpx.Client,
        attempts: int,
        sleep: Callable[[float], None],
    ) -> None:
        self.name = name
        self.declaration = declaration
        self.folder = root / name
        self.mirrors = [str(mirror).rstrip("/") for mirror in mirrors if str(mirror)]
        self.client = client
        self.attempts = attempts
        self.sleep = sleep

    def fetch(self) -> Path:
        recorded = _read_sums(self.folder / SUMS)
        sums = {}
        for file in self.declaration.files:
            try:
                sums[file.name] = self._present(file, recorded) or self._obtain(file)
            except OSError as error:
                raise self._unwritable(file, error) from error
        return self._write_sums(sums)

    def _present(self, file: FileDeclaration, recorded: dict[str, str]) -> str | None:
        """Return the sha256 of a file that is there already and right, or none."""
        path = self.folder / file.name
        if not path.is_file():
            return None
        found = digest(path)
        problem = _mismatch(file, found, wrapper=None)
        if problem is None or (file.sha256 is None and recorded.get(file.name) == found.sha256):
            return found.sha256
        log.warning("%s: %s is there but wrong (%s); fetching it anew", self.name, path, problem)
        return None

    def _obtain(self, file: FileDeclaration) -> str:
        failures = []
        for location in self._locations(file):
            try:
                return self._obtain_from(location, file)
            except SourceError as error:
                log.warning("%s: %s: %s", self.name, location, error)
                failures.append(f"{location}: {error}")
        raise DataError(self._exhausted(file, failures))

    def _locations(self, file: FileDeclaration) -> Iterator[str]:
        for mirror in self.mirrors:
            for suffix in ("", ".gz"):
                yield f"{mirror}/{self.name}/{file.name}{suffix}"
        yield from file.urls

    def _obtain_from(self, location: str, file: FileDeclaration) -> str:
        if location.startswith(("http://", "https://")):
            return self._obtain_url(location, file)
        wrapper = Path(location.removeprefix("file://")).expanduser()
        try:
            wrapper.open("rb").close()
        except OSError as error:
            raise SourceError(error.strerror) from None
        return self._install(wrapper, file)

    def _obtain_url(self, url: str, file: FileDeclaration, *, again: bool = True) -> str:
        # The name holds the address: bytes of two sources, whose gzips differ, are never mixed.
        tag = hashlib.sha256(url.encode()).hexdigest()[:8]
        part = self.folder / f"{file.name}.{tag}.part"
        # Deflate grows incompressible data by far less than 1%; the rest is room for a gzip header.
        limit = file.size + file.size // 100 + 65536
        resumed = download(self.client, url, part, limit, attempts=self.attempts, sleep=self.sleep)
        try:
            return self._install(part, file)
        except SourceError:
            if not (resumed and again):
                raise
        finally:
            part.unlink(missing_ok=True)
        log.warning("%s: the resumed download of %s was bad; starting over", self.name, url)
        return self._obtain_url(url, file, again=False)

    def _install(self, wrapper: Path, file: FileDeclaration) -> str:
        """Verify what a source delivered and move its content into place in one step."""
        final = self.folder / file.name
        content = self.folder / f"{file.name}.content.part"
        try:
            found = unpack(wrapper, content, file.size)
            problem = _mismatch(file, found, wrapper)
            if problem is not None:
                raise SourceError(problem)
            content.replace(final)
        finally:
            content.unlink(missing_ok=True)
        for leftover in self.folder.glob(f"{file.name}.*.part"):
            leftover.unlink(missing_ok=True)
        log.info("%s: %s verified (%d bytes)", self.name, final, found.size)
        return found.sha256

    def _write_sums(self, sums: dict[str, str]) -> Path:
        path = self.folder / SUMS
        temporary = self.folder / f"{SUMS}.part"
        try:
            with temporary.open("w", encoding="ascii", newline="\n") as stream:
                stream.writelines(f"{sha256}  {name}\n" for name, sha256 in sorted(sums.items()))
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError as error:
            raise DataError(f"{self.name}: cannot write {path}: {error.strerror}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return path

    def _exhausted(self, file: FileDeclaration, failures: list[str]) -> str:
        tried = "\n".join(f"  {failure}" for failure in failures) or "  (no source is declared)"
        lines = [
            f"{self.name}: {file.name} could not be fetched; every source failed:",
            tried,
            f"Expected: {file.size} bytes, uncompressed, with {_expected(file)}.",
            f"What to do: check the network and run again (a broken download goes on where it stopped); or set "
            f"NEUMIX_DATA_MIRROR to a folder or address that has {self.name}/{file.name} (or {file.name}.gz); "
            f"or put the uncompressed file at {self.folder / file.name} yourself.",
        ]
        return "\n".join([*lines, self.declaration.note] if self.declaration.note else lines)

    def _unwritable(self, file: FileDeclaration, error: OSError) -> DataError:
        what = f"{self.name}: {file.name} cannot be written to {self.folder}: {error.strerror or error}."
        if error.errno not in DISK_FULL:
            return DataError(f"{what} Check the folder's permissions and run again.")
        for leftover in self.folder.glob(f"{file.name}.*.part"):
            leftover.unlink(missing_ok=True)
        # Twice, because the download and its uncompressed content exist side by side for a moment.
        return DataError(
            f"{what} It needs up to {2 * file.size} bytes; {shutil.disk_usage(self.folder).free} bytes are "
            "free on that disk (a quota or file-size limit may allow less). Free some space and run again."
        )


def fetch(
    name: str,
    declaration: DatasetDeclaration,
    root: Path,
    mirrors: Sequence[str | Path] = (),
    *,
    attempts: int = 4,
    timeout: float = 30.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Bring every file of a dataset to `root/name`, uncompressed and verified, and list them in `SHA256SUMS`.

    Files that are there and right are kept. Mirrors are tried before the public addresses.

    Arguments:
        name: the dataset's name.
        declaration: its files with sizes and hashes.
        root: folder of the raw data.
        mirrors: folders or addresses laid out as `<mirror>/<dataset>/<file>` or `<file>.gz`.
        attempts: how often each address is tried.
        timeout: seconds without an answer after which an attempt counts as failed.
        sleep: waits for so many seconds between attempts.

    Returns:
        Path of `SHA256SUMS`, in the format of `sha256sum --check`.

    Raises:
        ValueError: the name would leave the folder.
        DataError: a file cannot be had or written; says which, what every source answered, and what to do.
    """
    check_name(name)
    try:
        (root / name).mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(root / f".{name}.lock"), _client(timeout) as client:
            return _Fetcher(name, declaration, root, mirrors, client, attempts, sleep).fetch()
    except OSError as error:
        raise DataError(f"{name}: cannot write to {root / name}: {error.strerror or error}") from error


def _client(timeout: float) -> httpx.Client:
    # Servers must send the file as it is: resuming needs offsets into the stored bytes.
    headers = {"Accept-Encoding": "identity", "User-Agent": "neumix"}
    return httpx.Client(follow_redirects=True, timeout=timeout, headers=headers)


def _mismatch(file: FileDeclaration, found: Content, wrapper: Path | None) -> str | None:
    """Return what is wrong with a file's content, or none.

    A hash of the original gzip vouches for its content where nobody has published a sha256.
    """
    if found.size != file.size:
        kind = "truncated: " if found.size < file.size else ""
        return f"{kind}expected {file.size} bytes, found {found.size}"
    if file.sha256 is not None:
        right = found.sha256 == file.sha256
    else:
        right = found.md5 == file.md5
        if not right and file.wrapper_md5 is not None and wrapper is not None:
            right = digest(wrapper).md5 == file.wrapper_md5
    return None if right else f"expected {_expected(file)}, found sha256 {found.sha256}, md5 {found.md5}"


def _expected(file: FileDeclaration) -> str:
    if file.sha256 is not None:
        return f"sha256 {file.sha256}"
    hashes = {"md5": file.md5, "md5 of the original gzip": file.wrapper_md5}
    return " or ".join(f"{kind} {value}" for kind, value in hashes.items() if value is not None)


def _read_sums(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return {name: sha256 for sha256, _, name in (line.partition("  ") for line in lines)}
