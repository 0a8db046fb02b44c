"""What the checks behind badges and checklists look at: a repository, and a scale's results."""

import dataclasses
import datetime
import functools
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from neumix.audit.audit import Audit, audit
from neumix.audit.chain import Chain
from neumix.audit.crate_executions import Execution, executions
from neumix.audit.hashes import Hashes
from neumix.catalogue import Catalogue
from neumix.comparison import read_comparison

__all__ = ["Compute", "Outcome", "Project", "few"]

_SHOWN = 5


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a check has found.

    Arguments:
        passed: whether the box is ticked.
        detail: what was found, or what is wrong and what to do.
        link: file to look at, from the folder of the repository.
    """

    passed: bool
    detail: str
    link: str | None = None


@dataclasses.dataclass(frozen=True)
class Compute:
    """Computing time of all attempts, those that failed included.

    Arguments:
        core_hours: of attempts whose end is known.
        wasted_core_hours: of those that did not finish.
        attempts: how many there were.
        unfinished: how many did not finish.
        untold: how many of those were killed and noted no end; their time is not counted.
    """

    core_hours: float
    wasted_core_hours: float
    attempts: int
    unfinished: int
    untold: int


class Project:
    """A repository and the results of one scale; what is costly is read once, when it is asked for.

    Arguments:
        root: folder of the repository.
        catalogue: for the scale.
    """

    def __init__(self, root: Path, catalogue: Catalogue) -> None:
        self.root, self.catalogue = root, catalogue
        self.scale = catalogue.settings.scale
        self.chain = Chain(root, self.scale)

    @property
    def results(self) -> Path:
        """Folder of the scale's results, from that of the repository."""
        return Path("results") / self.scale

    @functools.cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of pyproject.toml; empty if there is none."""
        path = self.root / "pyproject.toml"
        return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    @functools.cached_property
    def comparison(self) -> pd.DataFrame:
        """Values that this scale has measured, with their verdicts.

        Raises:
            ValueError: there is no comparison.
        """
        path = self.root / self.results / "comparison.csv"
        if not path.exists():
            raise ValueError(f"{self.results / 'comparison.csv'}: no such file; run the pipeline first")
        return read_comparison(path)

    @property
    def measured(self) -> pd.DataFrame:
        """Rows of the comparison that this scale has measured."""
        return self.comparison[self.comparison["n"] > 0]

    @functools.cached_property
    def audit(self) -> Audit:
        """Audit of everything."""
        with Hashes(self.root) as hashes:
            return audit(self.root, self.catalogue, hashes)

    @functools.cached_property
    def executions(self) -> list[Execution]:
        """Jobs with all their attempts.

        Raises:
            ValueError: there are no records, or some cannot be read.
        """
        return executions(self.chain, None)

    @functools.cached_property
    def compute(self) -> Compute:
        """Computing time of all attempts."""
        total = wasted = 0.0
        states = []
        for execution in self.executions:
            threads = int(execution.job.content["threads"]) if execution.job else self._threads(execution)
            for attempt in execution.attempts:
                started, ended = map(datetime.datetime.fromisoformat, (attempt.started, attempt.ended))
                hours = threads * (ended - started).total_seconds() / 3600
                states.append(attempt.state)
                total += hours
                wasted += 0.0 if attempt.state == "finished" else hours
        unfinished = [state for state in states if state != "finished"]
        return Compute(total, wasted, len(states), len(unfinished), unfinished.count("killed"))

    def _threads(self, execution: Execution) -> int:
        """Return the threads of a job that never finished: those of its run, or one."""
        paper, _, name = execution.id.partition("/")
        run = self.catalogue.papers[paper].runs.get(name) if paper in self.catalogue.papers else None
        return run.resources.threads if run is not None else 1

    def text(self, name: str) -> str:
        """Return the content of a file of the repository; empty if there is none."""
        path = self.root / name
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    def targets(self) -> set[str]:
        """Return the targets of the Makefile."""
        return set(re.findall(r"^([a-z]+):", self.text("Makefile"), re.MULTILINE))

    def relative(self, link: str, folder: Path) -> str:
        """Return a link to a file of the repository as seen from a folder."""
        return Path(os.path.relpath(self.root / link, folder)).as_posix()


def few(names: Any) -> str:
    """Return names joined by commas, the first ones if there are many."""
    listed = list(names)
    more = len(listed) - _SHOWN
    return ", ".join(map(str, listed[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
