"""Numbers as they are written in text, and which of them a paper has printed or a run has measured."""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

from neumix.catalogue import Catalogue

__all__ = ["Known", "Numeral", "numerals"]

_NUMERAL = re.compile(
    r"(?<![\w.#/])(?<!\w-)(?P<digits>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?)(?!\w|\.\d)(?P<percent>\s?%)?"
)
_LABEL = re.compile(
    r"(?:Sec(?:tion)?s?|Eqs?|Fig(?:ure)?s?|Tables?|Theorems?|Remarks?|Examples?|Appendix|Python|RO-Crate|Crate|version)"
    r"\.?[\s~]\(?$",
    re.IGNORECASE,
)
_SPECIFIC = 3
"""Significant digits from which on two numbers that agree are hardly so by chance."""
_MEASURED = ("mean", "std")


@dataclasses.dataclass(frozen=True)
class Numeral:
    """A number as it is written.

    Arguments:
        text: its digits.
        value: what they say.
        percent: whether a percent sign follows.
        label: whether it names a place or a version, such as `Sec. 3.12`.
    """

    text: str
    value: Decimal
    percent: bool = False
    label: bool = False

    @classmethod
    def of(cls, text: str) -> "Numeral":
        """Read a number; thousands may be separated by commas or underscores."""
        return cls(text, Decimal(text.replace(",", "").replace("_", "")))

    @property
    def decimals(self) -> int:
        """Digits after the point."""
        return max(0, -int(self.value.as_tuple().exponent))

    @property
    def specific(self) -> bool:
        """Whether it has so many significant digits that it is hardly equal to another number by chance."""
        whole = self.value == self.value.to_integral_value()
        return len((self.value.normalize() if whole else self.value).as_tuple().digits) >= _SPECIFIC

    @property
    def resembles_result(self) -> bool:
        """Whether it looks like something measured: two decimals or more, or a percentage with any; not 1e-9."""
        tolerance = "e" in self.text.lower() and len(self.value.as_tuple().digits) == 1
        return not (self.label or tolerance) and self.decimals >= (1 if self.percent else 2)


def numerals(text: str) -> Iterator[Numeral]:
    """Yield the numbers in a text; parts of words, identifiers, paths and versions are none."""
    for match in _NUMERAL.finditer(text):
        number = Numeral.of(match["digits"])
        label = bool(_LABEL.search(text[: match.start()]))
        yield dataclasses.replace(number, percent=match["percent"] is not None, label=label)


class Known:
    """Numbers that the papers printed and that runs measured, by paper.

    Arguments:
        published: printed text by id, by paper.
        measured: finite numbers of the comparison by column and id, by paper.
    """

    def __init__(self, published: Mapping[str, Mapping[str, str]], measured: Mapping[str, Mapping[str, float]]) -> None:
        self._published = {
            paper: {abs(Decimal(text)).normalize(): id_ for id_, text in texts.items()}
            for paper, texts in published.items()
        }
        self._measured = measured

    @classmethod
    def load(cls, catalogue: Catalogue, comparison: Path) -> "Known":
        """Read the published numbers, and the measured ones if there is a comparison."""
        published: dict[str, dict[str, str]] = {}
        for slug, paper in catalogue.papers.items():
            spreads = {f"SD of {value.id}": value.printed_std for value in paper.published if value.printed_std}
            published[slug] = {value.id: value.printed for value in paper.published} | spreads
        measured: dict[str, dict[str, float]] = {slug: {} for slug in published}
        for row in _rows(comparison):
            values = {f"{name} of {row['id']}": float(str(row[name])) for name in _MEASURED}
            measured.setdefault(str(row["paper"]), {}).update(
                {name: value for name, value in values.items() if math.isfinite(value)}
            )
        return cls(published, measured)

    def published(self, number: Numeral, paper: str | None = None) -> str | None:
        """Return what a number equals that a paper, or any of them, has printed."""
        if not number.specific or number.label:
            return None
        papers = self._published if paper is None else [paper]
        found = (self._published.get(slug, {}).get(number.value.normalize()) for slug in papers)
        return next((f"what is published as {id_}" for id_ in found if id_), None)

    def measured(self, number: Numeral, paper: str | None = None) -> str | None:
        """Return what a number is, rounded, that runs of a paper, or of any of them, have measured."""
        if not number.specific or number.label:
            return None
        for slug in self._measured if paper is None else [paper]:
            for description, value in self._measured.get(slug, {}).items():
                if round(abs(Decimal(value)), number.decimals) == number.value:
                    return f"the {description} in the comparison"
        return None


def _rows(comparison: Path) -> list[dict[str, object]]:
    from neumix.comparison import read_comparison

    if not comparison.exists():
        return []
    records = read_comparison(comparison).to_dict("records")
    return [{str(key): value for key, value in record.items()} for record in records]
