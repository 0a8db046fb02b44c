"""What DVC tracks, as its files say."""

import hashlib
from pathlib import Path
from typing import Any

import yaml

__all__ = ["md5", "outputs"]


def outputs(text: str) -> list[dict[str, Any]]:
    """Return the entries of a `.dvc` file, `path`, `md5` and `size` among their keys.

    Arguments:
        text: of the file; an empty one tracks nothing.
    """
    found: list[dict[str, Any]] = (yaml.safe_load(text) or {}).get("outs", [])
    return found


def md5(path: Path) -> str:
    """Return the MD5 of a file's content, by which DVC knows it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()
