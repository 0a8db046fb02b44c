"""Code closure: the source files that a result depends on, found by following imports without running them."""

import ast
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from neumix.files import atomic_path, sha256

__all__ = ["closure_hash", "read_list", "sources", "write_list"]

_ROOT = Path(__file__).resolve().parent  # the package's own folder
_PACKAGE = _ROOT.name


def sources(*modules: str) -> tuple[Path, ...]:
    """Return the files of this package that the given modules import, directly or not, sorted.

    Imports inside functions count; modules loaded by name do not, so whoever loads one names it here.

    Arguments:
        modules: full names, e.g. `neumix.models.inclass`.

    Raises:
        ValueError: a module is not part of this package.
    """
    found: set[str] = set()
    pending = list(modules)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        if _file(name) is None:
            raise ValueError(f"there is no module {name}")
        found.add(name)
        pending += [parent for parent in _parents(name) if parent not in found]
        pending += [imported for imported in _imports(name) if imported not in found]
    return tuple(sorted(_relative(path) for path in map(_file, found) if path))


def closure_hash(files: Iterable[Path]) -> str:
    """Return one SHA-256 for the names and contents of files."""
    return hashlib.sha256(_list(files).encode()).hexdigest()


def write_list(files: Sequence[Path], folder: Path) -> Path:
    """Return a file in `folder` that lists files with their hashes, for the workflow to watch in place of them all.

    Its name stands for the files' names. It is left alone while their contents are the same, and otherwise as new as
    the newest of them.

    Raises:
        OSError: a file cannot be read, or the list not written.
    """
    content = _list(files)
    names = "".join(f"{path.as_posix()}\n" for path in sorted(files))
    path = folder / f"{hashlib.sha256(names.encode()).hexdigest()[:16]}.sha256"
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        newest = max(file.stat().st_mtime_ns for file in files)
        with atomic_path(path) as temporary:
            temporary.write_text(content, encoding="utf-8")
            os.utime(temporary, ns=(newest, newest))
    return path


def read_list(path: Path) -> list[Path]:
    """Return the files that a list names."""
    return [Path(line.split("  ", 1)[1]) for line in path.read_text(encoding="utf-8").splitlines()]


def _list(files: Iterable[Path]) -> str:
    return "".join(f"{sha256(path)}  {path.as_posix()}\n" for path in sorted(files))


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _file(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != _PACKAGE:
        return None
    base = _ROOT.joinpath(*parts[1:])
    candidates = (base.with_suffix(".py"), base / "__init__.py") if parts[1:] else (_ROOT / "__init__.py",)
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _imports(name: str) -> tuple[str, ...]:
    path = _file(name)
    if path is None:
        return ()
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return tuple(module for node in ast.walk(tree) for module in _named(node, path) if _file(module))


def _named(node: ast.AST, path: Path) -> Iterator[str]:
    """Yield what an import statement may refer to: modules, and names in them that may be modules."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        if node.level or not node.module:
            raise ValueError(f"{path}: line {node.lineno}: relative import; write the full name, which can be followed")
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _relative(path: Path) -> Path:
    """Return the path as seen from the working folder where possible: records must not name a user's folders."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
