"""Code closure: the source files that a result depends on, found by following imports without running them."""

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from neumix.files import sha256

__all__ = ["closure_hash", "sources"]

_ROOT = Path(__file__).parent  # the package's own folder
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
    lines = [f"{sha256(path)}  {path.as_posix()}\n" for path in sorted(files)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


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
