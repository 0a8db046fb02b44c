"""The files of a crate: which version of each is there, where it lies in the crate, and what is said of it."""

import dataclasses
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from neumix.audit.crate_graph import Graph, Reference, fragment
from neumix.audit.history import History
from neumix.files import sha256

__all__ = ["CrateFiles"]

_FORMATS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".json": "application/json",
    ".md": "text/markdown",
    ".png": "image/png",
    ".py": "text/x-python",
    ".safetensors": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".tex": "text/x-tex",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}
_OTHER_FORMAT = "text/plain"


@dataclasses.dataclass
class _Held:
    """A file in the crate: its path there and in the repository, its content, and the parameters it stands for."""

    place: str
    path: str
    sha256: str
    size: int
    examples: set[str] = dataclasses.field(default_factory=set)
    properties: dict[str, object] = dataclasses.field(default_factory=dict)


class CrateFiles:
    """Files of the repository, put into a crate as they are asked for.

    Arguments:
        root: folder of the repository.
        folder: of the crate.
        link: hard-link files rather than copy them.
    """

    def __init__(self, root: Path, folder: Path, *, link: bool) -> None:
        self.root, self.folder, self.link = root, folder, link
        self._today: dict[str, str | None] = {}
        self._history = History(root)
        self._held: dict[str, _Held] = {}
        self._missing: dict[str, tuple[str, str, str]] = {}

    def today(self, path: str) -> Reference:
        """Put a file into the crate as it is now, and return the reference to it.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: its path leads out of the repository, or it is a symbolic link.
        """
        digest = self._digest(path)
        if digest is None:
            raise FileNotFoundError(f"{path}: not there; a crate needs it")
        return self.recorded(path, digest)

    def recorded(self, path: str, digest: str, commit: str | None = None) -> Reference:
        """Return the reference to a file with the content that a record tells of, in the crate if it can be found.

        Arguments:
            path: from the folder of the repository.
            digest: SHA-256 of the content.
            commit: that git may have this content at, where it is not the one on disk.

        Raises:
            ValueError: its path leads out of the repository, or it is a symbolic link.
        """
        if self._digest(path) == digest:
            return self._hold(path, path, digest)
        place = f"earlier/{digest[:12]}/{path}"
        if quote(place) not in self._held:
            content = self._history.content(path, digest, commit)
            if content is None:
                return self._not_included(path, digest)
            self._write(place, content)
        return self._hold(place, path, digest)

    def _not_included(self, path: str, digest: str) -> Reference:
        said = "not on this machine" if self._digest(path) is None else "what is on disk now has another content"
        name = fragment("not-included", digest[:12], path)
        self._missing[name] = (path, digest, said)
        return {"@id": name}

    def add(self, path: str, content: bytes) -> Reference:
        """Put a file into the crate that the repository has elsewhere or not at all."""
        self._write(path, content)
        return self._hold(path, path, sha256(self.folder / path))

    def describe(self, file: Reference, **properties: object) -> None:
        """Say more of a file in the crate."""
        self._held[file["@id"]].properties.update(properties)

    def exemplify(self, files: Iterable[Reference], parameter: str) -> bool:
        """Note that files stand for a formal parameter; return whether any of them is in the crate."""
        held = [self._held[file["@id"]] for file in files if file["@id"] in self._held]
        for file in held:
            file.examples.add(parameter)
        return bool(held)

    def write(self, graph: Graph) -> None:
        """Describe files in the metadata: those in the crate as data entities, those that are not by their hash."""
        for file in sorted(self._held.values(), key=lambda held: held.place):
            properties: dict[str, object] = {
                "name": file.path,
                "alternateName": file.path if file.place != file.path else None,
                "encodingFormat": _FORMATS.get(PurePosixPath(file.path).suffix, _OTHER_FORMAT),
                "contentSize": str(file.size),
                "sha256": file.sha256,
                "exampleOfWork": [{"@id": example} for example in sorted(file.examples)],
                **file.properties,
            }
            graph.add_file(file.place, properties)
        for id_, (path, digest, said) in sorted(self._missing.items()):
            graph.add(id_, "CreativeWork", name=path, sha256=digest, description=f"Not included in this crate: {said}.")

    def _hold(self, place: str, path: str, digest: str) -> Reference:
        id_ = quote(place)
        if id_ not in self._held:
            held = self.folder / place
            if not held.exists():
                self._copy(path, held)
            if sha256(held) != digest:
                raise ValueError(f"{path}: it changed while the crate was written; export again when nothing runs")
            self._held[id_] = _Held(place, path, digest, held.stat().st_size)
        return {"@id": id_}

    def _copy(self, path: str, held: Path) -> None:
        held.parent.mkdir(parents=True, exist_ok=True)
        if self.link:
            os.link(self.root / path, held)
        else:
            shutil.copyfile(self.root / path, held)

    def _write(self, place: str, content: bytes) -> None:
        file = self.folder / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def _digest(self, path: str) -> str | None:
        """Return the hash of a file of the repository as it is now; none if it is not there."""
        if path not in self._today:
            _check(self.root, path)
            file = self.root / path
            self._today[path] = sha256(file) if file.is_file() else None
        return self._today[path]


def _check(root: Path, path: str) -> None:
    """Refuse a path that is not a plain one below the repository."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise ValueError(f"{path!r}: a crate holds only files below its folder; expected a relative path without '..'")
    for part in _steps(pure):
        if (root / part).is_symlink():
            raise ValueError(f"{part}: a symbolic link; a crate holds only plain files: put its content in its place")


def _steps(path: PurePosixPath) -> Iterator[PurePosixPath]:
    """Yield a path and the folders that lead to it, outermost first."""
    for count in range(1, len(path.parts) + 1):
        yield PurePosixPath(*path.parts[:count])
