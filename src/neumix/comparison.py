"""Reproduced against published: one verdict per published number."""

import csv
import dataclasses
import math
import statistics
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from scipy.special import stdtrit

from neumix.files import atomic_path
from neumix.published import Deviation, Margin, PublishedValue, margin_for
from neumix.run import Budget
from neumix.settings import CatalogueError, nearest

__all__ = [
    "COLUMNS",
    "JUDGED",
    "LEVEL",
    "VERDICTS",
    "Estimate",
    "Measured",
    "Verdict",
    "compare",
    "counts_as_reproduction",
    "estimate",
    "judge",
    "missing_deviations",
    "read_comparison",
    "write_comparison",
]

Verdict = Literal["equivalent", "better", "worse", "inconclusive", "not_run", "cited", "not_judged"]

VERDICTS: tuple[Verdict, ...] = typing.get_args(Verdict)
JUDGED: tuple[Verdict, ...] = ("equivalent", "better", "worse", "inconclusive")
"""Verdicts that follow from a measurement."""
LEVEL = 0.05
"""Probability of a wrong `equivalent`, `better` or `worse`, each by one-sided t tests."""

_TEXT, _INTEGER, _NUMBER = "str", "int64", "float64"
_CELL: Mapping[str, Callable[[str], str | int | float]] = {
    _TEXT: str,
    _INTEGER: int,
    _NUMBER: lambda cell: float(cell) if cell else math.nan,
}
COLUMNS: Mapping[str, str] = {
    "id": _TEXT,
    "paper": _TEXT,
    "where": _TEXT,
    "metric": _TEXT,
    "unit": _TEXT,
    "better": _TEXT,
    "published": _TEXT,
    "published_std": _TEXT,
    "std_kind": _TEXT,
    "n": _INTEGER,
    "mean": _NUMBER,
    "std": _NUMBER,
    "ci_low": _NUMBER,
    "ci_high": _NUMBER,
    "margin": _NUMBER,
    "verdict": _TEXT,
    "budget": _TEXT,
    "dataset": _TEXT,
    "scale": _TEXT,
    "runs": _TEXT,
    "deviations": _TEXT,
}
"""Columns of a comparison and their types.

Published numbers are text, as printed, because their last digit says how they were rounded.
"""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured for one published value.

    Arguments:
        values: one number per seed, in the unit of the published value.
        run: id of the run that produced them; several are joined by ";".
        budget: `full` is the paper's own setting on the paper's own dataset.
        dataset: what the data are called.
    """

    values: tuple[float, ...]
    run: str
    budget: Budget
    dataset: str


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Mean of n independent measurements and its two-sided 90% t interval.

    The interval is the one of two one-sided tests at 5% each: it lies inside the margin exactly when both reject.
    What cannot be computed is NaN: everything for n = 0, spread and interval for n = 1.

    Arguments:
        n: number of measurements.
        mean: their mean.
        std: their standard deviation, with n - 1 degrees of freedom.
        ci_low: lower end of the interval.
        ci_high: upper end of the interval.
    """

    n: int
    mean: float = math.nan
    std: float = math.nan
    ci_low: float = math.nan
    ci_high: float = math.nan


def estimate(values: Sequence[float]) -> Estimate:
    """Return mean, spread and interval of independent measurements.

    Arguments:
        values: the measurements, all in one unit.

    Raises:
        ValueError: a measurement is NaN or infinite.
    """
    numbers = [float(value) for value in values]
    n = len(numbers)
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"expected finite numbers, found {numbers}")
    if n == 0:
        return Estimate(0)
    # Exact sums: equal values must have zero spread, whatever their binary form.
    mean = statistics.mean(numbers)
    if n == 1:
        return Estimate(1, mean)
    std = statistics.stdev(numbers)
    half = float(stdtrit(n - 1, 1 - LEVEL)) * std / math.sqrt(n)
    return Estimate(n, mean, std, mean - half, mean + half)


def judge(published: PublishedValue, values: Sequence[float] | None, margin: Margin | None) -> Verdict:
    """Return the verdict on one published value.

    - `equivalent`: two one-sided t tests at 5% put the mean inside published +- (margin + rounding half-width);
      a count, or a value whose margin is zero, must be met exactly by every measurement, else it is `worse`;
    - `better`, `worse`: the mean is significantly (one-sided 5%) beyond that on the good or the bad side; both
      sides are bad where the value should `match`;
    - `inconclusive`: none can be shown, as always for a single measurement of a random quantity;
    - `not_run`: no measurement; `cited`: somebody else's number; `not_judged`: the margin says so.

    Arguments:
        published: what the paper printed.
        values: one measurement per seed, in the unit of the published value; none or empty if not run.
        margin: how close counts as the same result; none only for cited values.

    Raises:
        ValueError: a measurement is NaN or infinite, or the margin is missing.

    References:
        Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987), 657-680: the two one-sided tests procedure.
    """
    numbers = () if values is None else tuple(values)
    try:
        found = estimate(numbers)
    except ValueError as error:
        raise ValueError(f"'{published.id}': {error}") from None
    if published.kind == "cited":
        return "cited"
    if margin is None:
        raise ValueError(f"'{published.id}': a value of kind '{published.kind}' needs a margin")
    if not numbers:
        return "not_run"
    if not margin.judge:
        return "not_judged"
    if published.kind == "count" or margin.exact:
        return "equivalent" if all(number == published.value for number in numbers) else "worse"
    return _judge_interval(published, found, margin.width(published) + published.rounding)


def _judge_interval(published: PublishedValue, found: Estimate, tolerance: float) -> Verdict:
    if found.n == 1:
        return "inconclusive"
    low, high = published.value - tolerance, published.value + tolerance
    if low <= found.ci_low and found.ci_high <= high:
        return "equivalent"
    above, below = found.ci_low > high, found.ci_high < low
    if not above and not below:
        return "inconclusive"
    good = {"higher": above, "lower": below, "match": False}[published.better]
    return "better" if good else "worse"


def compare(
    published: Sequence[PublishedValue],
    margins: Mapping[str, Margin],
    measured: Mapping[str, Measured],
    deviations: Sequence[Deviation],
    scale: str,
) -> pd.DataFrame:
    """Return one row per published value, in the given order, with the columns of `COLUMNS`.

    What was not measured is empty (0 in column `n`). Column `margin` holds the margin in the unit of the value,
    without the rounding half-width, and is empty for values that are never judged.

    Arguments:
        published: what the papers printed.
        margins: by metric.
        measured: by id of the published value.
        deviations: what we do differently; their ids go to the values they bear on.
        scale: name of the scale that was run.

    Raises:
        CatalogueError: a metric has no margin, two deviations share an id, or one names an unknown value.
        ValueError: a measurement has an unknown id, or is NaN or infinite.
    """
    ids = [value.id for value in published]
    _check_deviations(deviations, ids)
    for key in measured:
        if key not in ids:
            raise ValueError(f"'{key}' was measured, and no paper publishes it{nearest(key, ids)}")
    rows = [
        {
            **_row(value, margin_for(value, margins), measured.get(value.id)),
            "scale": scale,
            "deviations": ";".join(entry.id for entry in deviations if value.id in entry.values),
        }
        for value in published
    ]
    return _typed(pd.DataFrame(rows, columns=list(COLUMNS)))


def _check_deviations(deviations: Sequence[Deviation], ids: Sequence[str]) -> None:
    for name, count in Counter(entry.id for entry in deviations).items():
        if count > 1:
            raise CatalogueError(f"deviation '{name}' is given {count} times; ids are unique over all papers")
    for entry in deviations:
        for value in entry.values:
            if value not in ids:
                raise CatalogueError(
                    f"deviation '{entry.id}': no published value has the id '{value}'{nearest(value, ids)}"
                )


def _row(value: PublishedValue, margin: Margin | None, measured: Measured | None) -> dict[str, Any]:
    values = measured.values if measured else ()
    verdict = judge(value, values, margin)
    judged = margin is not None and margin.judge
    # Without a number there is no budget: a run that yields none has not measured this value.
    origin = measured if values else None
    return {
        **{name: getattr(value, name) for name in ("id", "paper", "where", "metric", "unit", "better")},
        "published": value.printed,
        "published_std": value.printed_std,
        "std_kind": "as printed" if value.printed_std else "",
        **dataclasses.asdict(estimate(values)),
        "margin": margin.width(value) if margin is not None and judged else math.nan,
        "verdict": verdict,
        "budget": origin.budget if origin else "",
        "dataset": origin.dataset if origin else "",
        "runs": origin.run if origin else "",
    }


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(dict(COLUMNS))


def write_comparison(frame: pd.DataFrame, path: Path) -> None:
    """Write a comparison as CSV, whole or not at all; reading it back gives the same frame to the last bit.

    Arguments:
        frame: as `compare` returns it.
        path: the file to write; its folder is created.

    Raises:
        ValueError: the frame is not a comparison.
    """
    _check_columns(list(frame.columns), "this table")
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8")


def read_comparison(path: Path) -> pd.DataFrame:
    """Read a comparison.

    Arguments:
        path: a CSV file that `write_comparison` wrote.

    Raises:
        ValueError: columns, numbers or verdicts are not those of a comparison; says which.
    """
    rows = _read_cells(path)
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    for name, kind in COLUMNS.items():
        try:
            frame[name] = [_CELL[kind](cell) for cell in frame[name]]
        except ValueError as error:
            raise ValueError(f"{path}: column '{name}': {error}") from None
    unknown = sorted(set(frame["verdict"]) - set(VERDICTS))
    if unknown:
        raise ValueError(f"{path}: column 'verdict': unknown '{unknown[0]}'{nearest(unknown[0], VERDICTS)}")
    return _typed(frame)


def _read_cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        try:
            _check_columns(next(reader, []), str(path))
            rows = list(reader)
        except csv.Error as error:
            raise ValueError(f"{path}: line {reader.line_num}: not CSV: {error}") from None
    for position, row in enumerate(rows, start=1):
        if len(row) != len(COLUMNS):
            raise ValueError(f"{path}: row {position}: expected {len(COLUMNS)} cells, found {len(row)}")
    return rows


def _check_columns(found: Sequence[str], where: str) -> None:
    if list(found) != list(COLUMNS):
        raise ValueError(f"{where}: expected the columns {', '.join(COLUMNS)}; found {', '.join(found)}")


def counts_as_reproduction(row: "Mapping[str, Any] | pd.Series[Any]") -> bool:
    """Return whether a row was measured at the paper's full budget, hence on the paper's own dataset.

    Arguments:
        row: one row of a comparison.
    """
    return bool(row["budget"] == "full")


def missing_deviations(frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the ids that no deviation explains although they are not reproduced at full budget.

    Arguments:
        frame: a comparison.
    """
    unproven = frame["verdict"].isin(["worse", "inconclusive"]) & (frame["budget"] == "full")
    return tuple(frame.loc[unproven & (frame["deviations"] == ""), "id"])
