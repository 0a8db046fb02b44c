"""Checks every file of a crate against its hash and size in ro-crate-metadata.json; needs nothing but Python."""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

__all__ = ["METADATA", "main", "problems"]

METADATA = "ro-crate-metadata.json"
"""Name of the metadata in a crate; what it says of the other files is believed."""


def main() -> int:
    """Check the crate that this file lies in, say what is wrong line by line, and return the exit status."""
    folder = Path(__file__).resolve().parent
    found = list(problems(folder))
    for problem in found:
        print(problem if problem.isascii() and problem.isprintable() else ascii(problem))
    if found:
        print(f"{len(found)} problems in {folder}")
        return 1
    digest = _sha256(folder / METADATA)
    print(f"every file is as {METADATA} says; the SHA-256 of {METADATA} itself is {digest}")
    return 0


def problems(folder: Path) -> Iterator[str]:
    """Yield what is wrong with a crate, one line for each problem.

    Arguments:
        folder: of the crate.
    """
    plain = set()
    for path, problem in _files(folder):
        if problem:
            yield f"{path}: {problem}"
        else:
            plain.add(path)
    if METADATA not in plain:
        yield f"{METADATA}: not there; this is not a crate"
        return
    try:
        content = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        described = [entity for entity in content["@graph"] if "File" in _types(entity)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        yield f"{METADATA}: cannot be read: {type(error).__name__}: {error}"
        return
    yield from _compared(folder, described, plain - {METADATA})


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the path of everything in a crate that is not a folder, and what is wrong with it on sight."""
    for parent, folders, names in os.walk(folder):
        for name in sorted(folders + names):
            path = Path(parent, name)
            place = path.relative_to(folder).as_posix()
            if path.is_symlink():
                yield place, "a symbolic link; a crate holds only plain files"
            elif name in names:
                yield place, "" if path.is_file() else "not a plain file"


def _types(entity: Any) -> list[Any]:
    types = entity["@type"]
    return types if isinstance(types, list) else [types]


def _compared(folder: Path, described: list[dict[str, Any]], plain: set[str]) -> Iterator[str]:
    """Yield how the files that are there differ from those that the metadata describes."""
    seen = set()
    for entity in described:
        place = unquote(str(entity.get("@id")))
        if place in seen:
            yield f"{place}: described more than once"
        elif not _inside(place):
            yield f"{place}: not a path below the folder of the crate"
        elif place not in plain:
            yield f"{place}: not there"
        else:
            yield from _differences(folder / place, place, entity)
        seen.add(place)
    for place in sorted(plain - seen):
        yield f"{place}: the metadata does not describe it"


def _inside(place: str) -> bool:
    """Return whether a path is relative and stays below its folder, on any system."""
    return bool(re.fullmatch(r"[^/\\:]+(/[^/\\:]+)*", place)) and not {".", ".."} & set(place.split("/"))


def _differences(file: Path, place: str, entity: dict[str, Any]) -> Iterator[str]:
    size = str(file.stat().st_size)
    if entity.get("contentSize") != size:
        yield f"{place}: {size} bytes, the metadata says {entity.get('contentSize')}"
    digest = _sha256(file)
    if entity.get("sha256") != digest:
        yield f"{place}: SHA-256 {digest}, the metadata says {entity.get('sha256')}"


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
