"""Numbers in what readers read beside the results: the README, captions and deviations."""

import re
from collections.abc import Iterator
from pathlib import Path

from neumix.audit.literals import in_text
from neumix.audit.numerals import Known, Numeral, numerals
from neumix.catalogue import Paper
from neumix.comparison import LEVEL, read_comparison
from neumix.scoreboard import BEGIN, END, render_readme

__all__ = ["in_captions", "in_deviations", "in_readme"]

_CODE = re.compile(r"`[^`]*`|\]\([^)]*\)")
_FROM = re.compile(r"<!-- from (\S+) -->")
_TOTAL = re.compile(r"\b(\d+) published (?:numbers|values)\b")
_LEVELS = {100 * LEVEL, 100 * (1 - 2 * LEVEL)}
"""Percentages of the tests and of their intervals, the only ones that are no results."""


def in_readme(readme: Path, comparison: Path, total: int, known: Known) -> Iterator[tuple[int, str, str]]:
    """Yield line, number and fault of what a README says: its scoreboard as generated, its prose without results.

    A number of the prose that a file holds may stay if `<!-- from FILE -->` on its line names the file.

    Arguments:
        readme: the file; its folder is where the files that it names are.
        comparison: what the scoreboard is generated from.
        total: how many published numbers there are.
        known: numbers that are printed or measured somewhere.
    """
    lines = readme.read_text(encoding="utf-8").splitlines()
    yield from _generated(readme, comparison)
    inside = False
    for line, text in enumerate(lines, 1):
        inside = (inside or BEGIN in text) and END not in text
        if not inside:
            named = _FROM.search(text)
            source = _contents(readme.parent, named[1]) if named else ""
            for number, fault in _in_line(text, total, known):
                if number.replace("%", "") not in source:
                    yield line, number, fault


def _generated(readme: Path, comparison: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the first line of the scoreboard that is not as generated."""
    old = readme.read_text(encoding="utf-8")
    frame = read_comparison(comparison)
    new = render_readme(old, frame, comparison.relative_to(readme.parent).as_posix())
    pairs = zip(old.splitlines(), new.splitlines(), strict=False)
    for line, (written, right) in enumerate(pairs, 1):
        if written != right:
            yield line, written, f"`make scoreboard` writes: {right}"
            return
    if old != new:
        yield len(new.splitlines()), "scoreboard", "lines are missing or too many; `make scoreboard` writes it anew"


def _in_line(text: str, total: int, known: Known) -> Iterator[tuple[str, str]]:
    count = _TOTAL.search(text)
    if count and int(count[1]) != total:
        yield count[1], f"there are {total} published numbers"
    if not text.startswith("    "):
        for number in numerals(_CODE.sub("", text)):
            if _is_result(number):
                remedy = "leave it to the scoreboard, or name the file that it is in with `<!-- from FILE -->`"
                yield number.text, f"it looks like a result; {remedy}"
    for number in numerals(text):
        equal = known.published(number) or known.measured(number)
        if equal:
            yield number.text, f"it is {equal}; leave it to the scoreboard"


def _is_result(number: Numeral) -> bool:
    if number.percent and float(number.value) in _LEVELS:
        return False
    return not number.label and (number.percent or number.decimals > 0)


def _contents(folder: Path, name: str) -> str:
    path = folder / name
    if not path.is_file():
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def in_captions(paper: Paper, known: Known) -> Iterator[tuple[str, str, str]]:
    """Yield key, number and fault of what a paper's catalogue says beside its tables and figures."""
    for name, item in paper.file.items.items():
        for key in ("label", "title", "shows", "differs"):
            for number, fault in in_text(getattr(item, key), known, paper.slug):
                yield f"items.{name}.{key}", number, fault


def in_deviations(paper: Paper, known: Known) -> Iterator[tuple[str, str, str]]:
    """Yield key, number and fault where a deviation repeats what was measured; settings and published numbers may."""
    for deviation in paper.deviations:
        texts = {key: getattr(deviation, key) or "" for key in ("about", "choice", "reason", "cause")}
        for key, text in {**texts, "tried": "; ".join(deviation.tried)}.items():
            for number in numerals(text):
                equal = known.measured(number, paper.slug)
                if equal and not known.published(number) and number.decimals:
                    fault = f"it is {equal}, and will not change with it; say it in words"
                    yield f"deviations.{deviation.id}.{key}", number.text, fault
