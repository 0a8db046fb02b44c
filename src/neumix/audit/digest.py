"""A record's own digest: nothing that comes after the last job of a chain holds the hash of its record."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

__all__ = ["DIGEST", "check", "text_with_digest"]

DIGEST = "sha256"
"""Key of the digest, the last one of a record."""


def text_with_digest(content: Mapping[str, Any]) -> str:
    """Return a record as text that ends with the SHA-256 of the text without it."""
    plain = json.dumps(content, indent=1)
    return json.dumps({**content, DIGEST: hashlib.sha256(plain.encode()).hexdigest()}, indent=1) + "\n"


def check(path: Path) -> Literal["right", "wrong", "none"]:
    """Return whether a record's text is the one that its digest was made from; older records have none."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        content = json.loads(text)
    except json.JSONDecodeError:
        return "wrong"
    if not isinstance(content, dict) or DIGEST not in content:
        return "none"
    content.pop(DIGEST)
    return "right" if text_with_digest(content) == text else "wrong"
