"""The comparison as Markdown: how many published numbers hold, per paper, and which."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from neumix.comparison import JUDGED
from neumix.formatting import format_number

__all__ = ["BEGIN", "END", "render_readme", "scoreboard"]

BEGIN = "<!-- scoreboard:begin -->"
END = "<!-- scoreboard:end -->"

_REDUCED = "reduced or stand-in"
_CATEGORIES = (*JUDGED, _REDUCED, "not_run", "cited", "not_judged")


def scoreboard(frame: pd.DataFrame) -> str:
    """Return two Markdown tables: verdicts counted per paper, and the values judged at full budget.

    A value that was judged at a reduced budget or on stand-in data counts as that alone, so each value of a paper
    is counted once.

    Arguments:
        frame: a comparison.
    """
    judged = frame["verdict"].isin(JUDGED)
    full = judged & (frame["budget"] == "full")
    category = frame["verdict"].mask(judged & ~full, _REDUCED)
    rows = [_count(str(paper), category[frame["paper"] == paper]) for paper in frame["paper"].unique()]
    header = ["paper", "values", *(name.replace("_", " ") for name in _CATEGORIES)]
    table = _markdown(header, [*rows, _count("**all**", category)], numbers_from=1)
    return f"{table}\n\n{_values(frame[full])}"


def _count(title: str, category: "pd.Series[str]") -> list[str]:
    counts = [int((category == name).sum()) for name in _CATEGORIES]
    return [title, str(len(category)), *map(str, counts)]


def _values(full: pd.DataFrame) -> str:
    if full.empty:
        return "No value has been measured at full budget."
    rows = [
        [
            f"`{row['id']}`",
            _with_spread(row["published"], row["published_std"], row["unit"]),
            _ours(row),
            str(row["verdict"]),
        ]
        for _, row in full.iterrows()
    ]
    return _markdown(["value", "published", "ours: mean ± SD (n)", "verdict"], rows, numbers_from=4)


def _with_spread(mean: str, spread: str, unit: str) -> str:
    shown = f"{mean} ± {spread}" if spread else mean
    return f"{shown} %" if unit == "%" else shown


def _ours(row: "pd.Series[Any]") -> str:
    like, n = str(row["published"]), int(row["n"])
    mean, std = float(row["mean"]), float(row["std"])
    spread = "" if math.isnan(std) else format_number(std, like)
    return f"{_with_spread(format_number(mean, like), spread, str(row['unit']))} ({n})"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int) -> str:
    rule = ["---" if position < numbers_from else "---:" for position in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def render_readme(text: str, frame: pd.DataFrame, source: str) -> str:
    """Return `text` with the scoreboard between its two markers replaced.

    Arguments:
        text: a Markdown document.
        frame: a comparison.
        source: file that the comparison came from, to be named under the heading.

    Raises:
        ValueError: a marker is missing or given twice, or they are in the wrong order.
    """
    for marker in (BEGIN, END):
        if text.count(marker) != 1:
            raise ValueError(f"expected the line '{marker}' once, found it {text.count(marker)} times")
    before, _, rest = text.partition(BEGIN)
    if END not in rest:
        raise ValueError(f"'{END}' comes before '{BEGIN}'; swap them")
    after = rest.partition(END)[2]
    origin = f"Generated from `{source}`; edits here are overwritten."
    return f"{before}{BEGIN}\n{origin}\n\n{scoreboard(frame)}\n{END}{after}"
