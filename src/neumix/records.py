"""Reading run records, apart from writing them: what reads a record does not depend on how it is made."""

import json
from pathlib import Path
from typing import Any

__all__ = ["FORMAT", "read_record"]

FORMAT = 1
"""Version of the record's layout; readers refuse newer ones."""


def read_record(path: Path) -> dict[str, Any]:
    """Read a run record.

    Raises:
        ValueError: it is not a record, or of a newer format than this version knows.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a run record: {error}; delete it and run the pipeline again") from None
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError(f"{path}: not a run record: it has no 'format'; delete it and run the pipeline again")
    if not isinstance(content["format"], int):
        raise ValueError(
            f"{path}: 'format' is {content['format']!r}, not a number; delete it and run the pipeline again"
        )
    if content["format"] > FORMAT:
        raise ValueError(f"{path}: format {content['format']} is newer than {FORMAT}, the newest known; update neumix")
    return content
