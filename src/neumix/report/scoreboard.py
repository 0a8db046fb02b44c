"""The comparison as rows of the scoreboard, and the counts above it."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from neumix.comparison import COLUMNS, JUDGED
from neumix.report.charts import Band, band
from neumix.report.formatting import NOTHING, finite, mean_decimals, number, words
from neumix.settings import nearest

__all__ = ["BUDGETS", "VERDICTS", "Row", "Summary", "Verdict", "rows", "summarise"]


@dataclass(frozen=True)
class Verdict:
    """How one verdict is written and what it means."""

    name: str
    label: str
    symbol: str
    meaning: str


VERDICTS = {
    verdict.name: verdict
    for verdict in (
        Verdict(
            "equivalent",
            "equivalent",
            "=",
            "Two one-sided tests at 5% put the mean inside the published value plus or minus the margin, that is, "
            "the 90% interval lies wholly inside the shaded band. Counts must match exactly.",
        ),
        Verdict("better", "better", "▲", "Significantly beyond the margin, on the good side."),
        Verdict(
            "worse",
            "worse",
            "▼",
            "Significantly beyond the margin on the bad side, or on either side where the number should match.",
        ),
        Verdict(
            "inconclusive",
            "inconclusive",
            "?",
            "Neither can be shown: the interval crosses the edge of the band, or there is a single run.",
        ),
        Verdict("not_run", "not run", "○", "Nothing was measured at this scale."),
        Verdict("cited", "cited", "”", "The paper quotes the number from elsewhere; it is not measured here."),
        Verdict("not_judged", "not judged", "–", "Measured, but not identified by the model: shown for information."),
    )
}
"""Verdicts in the order in which they are listed."""

BUDGETS = {"full": "full", "reduced": "reduced", "stand_in": "stand-in", "": NOTHING}
BETTER = {"higher": "higher is better", "lower": "lower is better", "match": "should match"}


@dataclass(frozen=True)
class Row:
    """One published number, ready to be shown; every text is final."""

    id: str
    paper: str
    where: str
    metric: str
    unit: str
    better: str
    dataset: str
    published: str
    published_std: str
    std_kind: str
    mean: str
    std: str
    n: str
    interval: str
    margin: str
    band: Band | None
    verdict: Verdict
    budget: str
    runs: tuple[str, ...]
    deviations: tuple[str, ...]
    sort: dict[str, float | str]

    @property
    def name(self) -> tuple[str, ...]:
        """The parts of the id, between which a line may break."""
        return tuple(self.id.split("."))

    @property
    def judged(self) -> bool:
        """Whether the verdict says something about the result."""
        return self.verdict.name in JUDGED

    @property
    def reproduced(self) -> bool:
        """Whether the number counts as reproduced."""
        return self.budget == "full" and self.verdict.name in ("equivalent", "better")


@dataclass(frozen=True)
class Summary:
    """Counts of a set of rows."""

    total: int
    judgeable: int
    reproduced: int
    verdicts: tuple[tuple[Verdict, int], ...]


def rows(comparison: pd.DataFrame) -> tuple[Row, ...]:
    """Turn the comparison into rows.

    Raises:
        ValueError: a column is missing, an id repeats, or a verdict or budget is unknown.
    """
    missing = [column for column in COLUMNS if column not in comparison]
    if missing:
        raise ValueError(f"comparison: columns missing: {', '.join(missing)}; rebuild comparison.csv")
    repeated = comparison["id"][comparison["id"].duplicated()]
    if len(repeated):
        raise ValueError(f"comparison: id '{repeated.iloc[0]}' is listed twice; every number needs one row")
    records = comparison.to_dict("records")
    return tuple(_row(index, {str(key): value for key, value in row.items()}) for index, row in enumerate(records))


def summarise(selected: Iterable[Row]) -> Summary:
    """Count verdicts; only a full budget counts as a reproduction."""
    selected = tuple(selected)
    counts = Counter(row.verdict.name for row in selected)
    return Summary(
        total=len(selected),
        judgeable=len(selected) - counts["cited"] - counts["not_judged"],
        reproduced=sum(row.reproduced for row in selected),
        verdicts=tuple((verdict, counts[name]) for name, verdict in VERDICTS.items()),
    )


def _row(index: int, row: dict[str, object]) -> Row:
    identifier = str(row["id"])
    verdict = _known(row["verdict"], VERDICTS, f"comparison: {identifier}: verdict")
    budget = _known(row["budget"], BUDGETS, f"comparison: {identifier}: budget")
    metric, unit = re.sub(r"^n ", "number of ", words(_text(row["metric"]))), _text(row["unit"])
    std, mean = finite(row["std"]), finite(row["mean"])
    digits = mean_decimals(row["published"], std)
    whole = mean is not None and mean.is_integer() and (finite(row["published"]) or 0.0).is_integer()
    digits = 0 if whole and not std else digits
    low, high = finite(row["ci_low"]), finite(row["ci_high"])
    return Row(
        id=identifier,
        paper=_text(row["paper"]),
        where=_text(row["where"]),
        metric=metric,
        unit="" if unit in metric else unit,
        better=BETTER.get(_text(row["better"]), _text(row["better"])),
        dataset=_text(row["dataset"]),
        published=number(row["published"]),
        published_std=number(row["published_std"]),
        std_kind=words(_text(row["std_kind"])),
        mean=number(mean, digits),
        std=number(std, digits) if std is not None else NOTHING,
        n=number(row["n"], 0),
        interval=_interval(low, high, digits),
        margin=_margin(row["margin"]),
        band=_band(row),
        verdict=VERDICTS[verdict],
        budget=budget,
        runs=_names(row["runs"]),
        deviations=_names(row["deviations"]),
        sort=_sort_keys(index, row, verdict, budget),
    )


def _interval(low: float | None, high: float | None, digits: int) -> str:
    if low is None or high is None:
        return NOTHING
    return "exact" if low == high else f"{number(low, digits)} to {number(high, digits)}"


def _known(value: object, valid: Iterable[str], where: str) -> str:
    text = _text(value)
    if text not in (names := list(valid)):
        raise ValueError(f"{where}: unknown value '{text}'{nearest(text, [name for name in names if name])}")
    return text


def _text(value: object) -> str:
    missing = value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value)


def _names(value: object) -> tuple[str, ...]:
    """Read a list of ids, given as a sequence or as text separated by semicolons, commas or blanks."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(str(name) for name in value)
    return tuple(name for name in re.split(r"[;,\s]+", _text(value)) if name)


def _margin(value: object) -> str:
    margin = finite(value)
    return NOTHING if margin is None else f"{margin:.4g}"


def _band(row: dict[str, object]) -> Band | None:
    published, mean, margin = (finite(row[name]) for name in ("published", "mean", "margin"))
    if published is None or mean is None or margin is None:
        return None
    low, high = finite(row["ci_low"]), finite(row["ci_high"])
    return band(published, margin, mean, mean if low is None else low, mean if high is None else high)


def _sort_keys(index: int, row: dict[str, object], verdict: str, budget: str) -> dict[str, float | str]:
    """Return what each column sorts by; the interval sorts by its distance in margins, rows without one come last."""
    published, mean, margin = (finite(row[name]) for name in ("published", "mean", "margin"))
    distance: float | str = ""
    if published is not None and mean is not None and margin is not None:
        gap = abs(mean - published)
        distance = round(gap / margin, 6) if margin > 0 else (1e9 if gap else 0.0)
    return {
        "number": index,
        "where": _text(row["where"]),
        "metric": _text(row["metric"]),
        "published": "" if published is None else published,
        "reproduced": "" if mean is None else mean,
        "interval": distance,
        "verdict": list(VERDICTS).index(verdict),
        "budget": list(BUDGETS).index(budget),
    }
