"""What an audit can find, and how bad it is."""

import dataclasses
from collections.abc import Iterable
from typing import Literal, get_args

__all__ = ["STATES", "Cause", "Finding", "State", "worst"]

State = Literal["ok", "missing", "stale", "tampered"]
STATES: tuple[State, ...] = get_args(State)
"""From best to worst."""

Cause = Literal["data", "code", "parameter", "environment", "upstream", "content", "record", "configuration"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is not as a record says.

    Arguments:
        state: `missing`: a file is not there; `stale`: something that went in has changed since; `tampered`: content
            differs from its record.
        cause: what kind of thing it is.
        job: the job whose record says otherwise, kind and id.
        file: where to look.
        detail: what was expected and what was found, and what to do.
    """

    state: State
    cause: Cause
    job: str
    file: str
    detail: str

    def __str__(self) -> str:
        return f"{self.state}: {self.file} ({self.cause} of {self.job}): {self.detail}"


def worst(findings: Iterable[Finding]) -> State:
    """Return the worst state, `ok` if there is nothing."""
    return max((finding.state for finding in findings), key=STATES.index, default="ok")
