"""Run records as they are shown: who ran what, on which machine, from and to which bytes."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from neumix.report.charts import Panel, learning_curves
from neumix.report.formatting import NOTHING, duration, finite, number, seed_list, words
from neumix.report.inputs import RunInput

__all__ = ["Pairs", "RunView", "attempts", "facts", "flat", "hashes", "safe_name", "views"]

Pairs = tuple[tuple[str, str], ...]
"""What is said, and what of it."""


@dataclass(frozen=True)
class RunView:
    """One run, ready to be shown."""

    id: str
    name: str
    paper: str
    state: str
    facts: Pairs
    seconds: str
    seeds: str
    parameters: Pairs
    data: Pairs
    upstream: Pairs
    code: Pairs
    outputs: Pairs
    metrics: tuple[tuple[str, str, str], ...]
    attempts: tuple[tuple[str, str, str, str], ...]
    panels: tuple[Panel, ...]
    scale: str

    @property
    def anchor(self) -> str:
        """Name of the element that holds the full record."""
        return f"run-{self.name}"

    @property
    def label(self) -> str:
        """The id without the paper."""
        return self.id.partition("/")[2] or self.id


def safe_name(identifier: str, kind: str) -> str:
    """Return a file name for an id such as `inclass/two_gaussians/main`.

    Raises:
        ValueError: the id could lead outside the report's folder.
    """
    parts = identifier.split("/")
    if not all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*", part) for part in parts):
        raise ValueError(f"{kind} '{identifier}': an id may hold letters, digits and _ . + = - between slashes")
    return ".".join(parts)


def views(runs: Iterable[RunInput]) -> dict[str, RunView]:
    """Return one view per run, by id.

    Raises:
        ValueError: two runs would share one file.
    """
    shown: dict[str, RunView] = {}
    names: dict[str, str] = {}
    for run in runs:
        view = _view(run)
        if view.name in names:
            raise ValueError(f"runs '{names[view.name]}' and '{run.id}' would share {view.name}.json; rename one")
        names[view.name] = run.id
        shown[run.id] = view
    return shown


def _view(run: RunInput) -> RunView:
    record = run.record
    inputs, parameters = _mapping(record, "inputs"), _mapping(record, "parameters")
    seeds = list(record.get("seeds") or [])
    return RunView(
        id=run.id,
        name=safe_name(run.id, "run"),
        paper=run.id.partition("/")[0],
        state=_text(record.get("state")),
        facts=facts(record),
        seconds=duration(record.get("wall_seconds")),
        seeds=seed_list(seeds),
        parameters=tuple(flat(parameters)),
        data=hashes(inputs.get("data")),
        upstream=hashes(inputs.get("upstream")),
        code=hashes(inputs.get("code")),
        outputs=hashes(record.get("outputs")),
        metrics=tuple(_metric(name, values) for name, values in run.metrics.items()),
        attempts=attempts(record),
        panels=learning_curves(run.history),
        scale=_text(record.get("scale")),
    )


def facts(record: Mapping[str, Any]) -> Pairs:
    """Return who ran what, where and when; a dash where the record does not tell."""
    git, machine = _mapping(record, "git"), _mapping(record, "machine")
    environment = _mapping(record, "environment")
    commit = _text(git.get("commit")) + (" (with uncommitted changes)" if git.get("dirty") else "")
    memory = finite(machine.get("memory_gib"))
    hardware = [
        _text(machine.get("cpu")),
        f"{machine.get('cores', '?')} cores",
        " ".join(_text(part) for part in (machine.get("gpu"), machine.get("driver")) if part) or "no GPU",
        f"{memory:.0f} GiB" if memory is not None else "",
        _text(machine.get("os")) if machine.get("os") else "",
    ]
    return (
        ("Commit", commit),
        ("Seeds", seed_list(list(record.get("seeds") or []))),
        ("Machine", ", ".join(part for part in hardware if part)),
        *_placement(_mapping(record, "placement")),
        ("Threads", _text(record.get("threads"))),
        ("Time", duration(record.get("wall_seconds"))),
        ("Peak memory", _megabytes(record.get("peak_memory_mb"))),
        ("Started", _text(record.get("started"))),
        ("Ended", _text(record.get("ended"))),
        ("Resumed", _times(record.get("resumes"))),
        ("Python", _text(environment.get("python"))),
        ("Lock file", _text(environment.get("lock_sha256"))),
    )


def _placement(place: Mapping[str, Any]) -> Pairs:
    """Return which job of a cluster it was, if it was one."""
    if not place:
        return ()
    told = (place.get(name) for name in ("scheduler", "job", "node", "partition"))
    scheduler, job, node, partition = (_text(value) for value in told)
    return (("Cluster job", f"{scheduler} job {job} on {node}, partition {partition}"),)


def _mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return NOTHING if value is None or value == "" else str(value)


def _times(count: object) -> str:
    number_of_times = finite(count)
    if number_of_times is None:
        return NOTHING
    return {0.0: "never", 1.0: "once"}.get(number_of_times, f"{number_of_times:.0f} times")


def _megabytes(value: object) -> str:
    size = finite(value)
    return NOTHING if size is None else f"{number(size, 0)} MB"


def hashes(value: object) -> Pairs:
    """Return files and their hashes."""
    if not isinstance(value, Mapping):
        return ()
    return tuple((str(path), _text(digest)) for path, digest in value.items())


def flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield nested settings as `a.b.c` and text."""
    for key, value in parameters.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def _metric(name: str, values: object) -> tuple[str, str, str]:
    """Return name, mean with SD, and the value of each seed."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        return words(name), NOTHING, "not numeric"
    if array.ndim > 1:
        return words(name), NOTHING, f"array of shape {' x '.join(map(str, array.shape))}"
    array = np.atleast_1d(array)
    if not array.size:
        return words(name), NOTHING, "no value"
    spread = f" ± {array.std(ddof=1):.2g}" if array.size > 1 and np.isfinite(array).all() else ""
    return words(name), f"{array.mean():.5g}{spread}", ", ".join(f"{value:.5g}" for value in array)


def attempts(record: Mapping[str, Any]) -> tuple[tuple[str, str, str, str], ...]:
    """Return start, end, state and error of each attempt."""
    return tuple(
        (_text(one.get("started")), _text(one.get("ended")), _text(one.get("state")), _text(one.get("error")))
        for one in record.get("attempts") or ()
    )
