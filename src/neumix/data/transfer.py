"""Bring one file from one source: resumable download, bounded decompression, hashes on the way."""

import dataclasses
import gzip
import hashlib
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

import httpx
import tenacity

__all__ = ["Content", "SourceError", "SourceInterruptedError", "digest", "download", "unpack"]

log = logging.getLogger(__name__)

CHUNK = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class SourceError(Exception):
    """A source did not deliver; the text says why, and another source may."""


class SourceInterruptedError(SourceError):
    """A source did not deliver this time; the same request may succeed later."""


@dataclasses.dataclass(frozen=True)
class Content:
    """Size in bytes and hashes of a file's content."""

    size: int
    sha256: str
    md5: str


def download(
    client: httpx.Client,
    url: str,
    part: Path,
    limit: int,
    *,
    attempts: int,
    sleep: Callable[[float], None],
) -> bool:
    """Download `url` into `part`, going on where an earlier attempt stopped.

    Arguments:
        client: HTTP client with its time limits.
        url: http or https address.
        part: the partial file, kept when the connection breaks.
        limit: most bytes to accept.
        attempts: how often to try before giving up.
        sleep: waits for so many seconds between attempts.

    Returns:
        Whether the last request went on from an earlier one, whose bytes may have been of another version.

    Raises:
        SourceError: the source refuses, sends too much, or breaks off in every attempt.
        OSError: `part` cannot be written.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(SourceInterruptedError),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential_jitter(initial=1, max=30),
        before_sleep=tenacity.before_sleep_log(log, logging.WARNING),
        sleep=sleep,
        reraise=True,
    )
    try:
        return retrying(_receive, client, url, part, limit)
    except SourceInterruptedError:
        raise
    except SourceError:
        part.unlink(missing_ok=True)
        raise


def _receive(client: httpx.Client, url: str, part: Path, limit: int) -> bool:
    received = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={received}-"} if received else {}
    log.info("%s%s", url, f" from byte {received}" if received else "")
    try:
        with client.stream("GET", url, headers=headers) as response:
            start = _start(response, received, part)
            if start is not None:
                _append(response.iter_raw(), part, start, limit)
            return start != 0
    except httpx.TransportError as error:
        raise SourceInterruptedError(f"{type(error).__name__}: {error or 'no answer in time'}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(f"{type(error).__name__}: {error}") from None


def _append(chunks: Iterable[bytes], part: Path, start: int, limit: int) -> None:
    with part.open("ab") as stream:
        stream.truncate(start)
        for chunk in chunks:
            start += len(chunk)
            if start > limit:
                raise SourceError(f"sends more than the {limit} bytes that the file can have")
            stream.write(chunk)


def _start(response: httpx.Response, received: int, part: Path) -> int | None:
    """Return the byte at which the body starts, or none if `part` is complete already."""
    status = response.status_code
    if status == httpx.codes.OK:
        return 0
    span = response.headers.get("Content-Range", "")
    if status == httpx.codes.PARTIAL_CONTENT and span.startswith(f"bytes {received}-"):
        return received
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and re.fullmatch(rf"bytes \*/{received}", span):
        return None
    if status in (httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
        part.unlink(missing_ok=True)
        raise SourceInterruptedError(f"cannot go on at byte {received} (it answers '{span}')")
    reason = f"HTTP {status} {response.reason_phrase}".rstrip()
    raise SourceInterruptedError(reason) if status in RETRIED else SourceError(reason)


def unpack(wrapper: Path, target: Path, limit: int) -> Content:
    """Write the content of a plain or gzip file to `target`, durably.

    Arguments:
        wrapper: what a source delivered; gzip is recognised by its first bytes, not by its name.
        target: where the content goes.
        limit: most bytes to write; a decompression bomb stops there.

    Raises:
        SourceError: `wrapper` is cut short, damaged or too large.
        OSError: `wrapper` cannot be read or `target` cannot be written.
    """
    with wrapper.open("rb") as raw, target.open("wb") as out:
        packed = raw.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        raw.seek(0)
        content = _copy(_chunks(gzip.GzipFile(fileobj=raw) if packed else raw), out, limit)
        out.flush()
        os.fsync(out.fileno())
    return content


def digest(path: Path) -> Content:
    """Return size and hashes of a file."""
    with path.open("rb") as stream:
        return _copy(iter(lambda: stream.read(CHUNK), b""))


def _chunks(source: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    try:
        while chunk := source.read(CHUNK):
            yield chunk
    except EOFError:
        raise SourceError("truncated: the gzip ends early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"damaged gzip: {error}") from None


def _copy(chunks: Iterable[bytes], out: BinaryIO | None = None, limit: int | None = None) -> Content:
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for chunk in chunks:
        size += len(chunk)
        if limit is not None and size > limit:
            raise SourceError(f"holds more than the declared {limit} bytes")
        sha256.update(chunk)
        md5.update(chunk)
        if out is not None:
            out.write(chunk)
    return Content(size, sha256.hexdigest(), md5.hexdigest())
