"""What a check finds: one line that says what, why it matters and what to do."""

import dataclasses
from typing import Literal

__all__ = ["Finding", "Level", "bad", "good", "poor"]

Level = Literal["ok", "warning", "error"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """Result of a check.

    Arguments:
        level: `error`: a run would fail or wait for ever; `warning`: it may.
        what: was found.
        why: it matters.
        fix: what to do.
    """

    level: Level
    what: str
    why: str = ""
    fix: str = ""

    def __str__(self) -> str:
        line = "; ".join(part for part in (self.what, self.why, f"fix: {self.fix}" if self.fix else "") if part)
        return f"{self.level:<7} {' '.join(line.split())}"


def good(what: str) -> Finding:
    """Return a finding that all is well."""
    return Finding("ok", what)


def poor(what: str, why: str, fix: str) -> Finding:
    """Return a finding that may make a run fail."""
    return Finding("warning", what, why, fix)


def bad(what: str, why: str, fix: str) -> Finding:
    """Return a finding that makes a run fail or wait for ever."""
    return Finding("error", what, why, fix)
