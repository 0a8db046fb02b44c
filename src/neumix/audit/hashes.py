"""Hashes of files, kept between calls as long as a file has not been touched."""

import json
from pathlib import Path
from typing import Self

from neumix.files import sha256, write_text

__all__ = ["Hashes"]

CACHE = Path(".neumix/hashes.json")
"""Where hashes are kept, below the folder of the repository."""

_Entry = tuple[int, int, int, str]  # inode, size, time of change in nanoseconds, hash


class Hashes:
    """SHA-256 of files, computed anew where inode, size or time of change differ from those that were noted.

    Arguments:
        root: folder that paths are below.
        cached: whether to believe and to keep what was noted; a flipped byte with a forged time needs `False`.
    """

    def __init__(self, root: Path, *, cached: bool = True) -> None:
        self.root, self.cached = root, cached
        self._known: dict[str, _Entry] = _read(root / CACHE) if cached else {}
        self._changed = False

    def of(self, path: Path | str) -> str | None:
        """Return the hash of a file, or none if there is no such file."""
        name = str(path)
        try:
            status = (self.root / name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        place = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._known.get(name)
        if known is not None and known[:3] == place:
            return known[3]
        digest = sha256(self.root / name)
        self._known[name] = (*place, digest)
        self._changed = True
        return digest

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.cached and self._changed:
            content = {name: list(entry) for name, entry in sorted(self._known.items())}
            write_text(self.root / CACHE, json.dumps(content, indent=0) + "\n")


def _read(path: Path) -> dict[str, _Entry]:
    """Return what was noted; a cache that cannot be read is as good as none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: (int(i), int(size), int(time), str(digest)) for name, (i, size, time, digest) in content.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
