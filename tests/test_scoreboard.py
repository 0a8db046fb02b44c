"""The scoreboard counts each value once and is replaced in place."""

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neumix.comparison import COLUMNS, JUDGED, VERDICTS, Measured, compare
from neumix.formatting import format_number
from neumix.published import read_margins, read_published
from neumix.scoreboard import BEGIN, END, render_readme, scoreboard

CONFIG = Path(__file__).parents[1] / "config"
README = f"# Title\n\nBefore.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n"


def row(**changes: object) -> dict[str, object]:
    blank: dict[str, object] = {name: {"str": "", "int64": 0, "float64": math.nan}[COLUMNS[name]] for name in COLUMNS}
    return blank | {"id": "toy.x", "paper": "toy", "published": "0.40", "verdict": "not_run"} | changes


def table(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(COLUMNS)).astype(dict(COLUMNS))


def cells(text: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {first: rest for first, *rest in lines}


@pytest.mark.parametrize(
    ("value", "like", "text"),
    [
        (0.405123, "0.4051", "0.40512"),
        (95.0712, "95.07", "95.071"),
        (61.0, "55.00", "61.000"),
        (79.94, "80", "79.9"),
        (4484.0, "4484", "4484"),
        (250.5, "250", "250.5"),
        (0.0, "0.4051", "0.00000"),
        (-0.000001, "0.4051", "0.00000"),
        (0.00161, "1.6e-3", "0.00161"),
        (1234.5, "2e3", "1234.5"),
        (0.123456, None, "0.1235"),
        (12345.678, None, "12346"),
        (100000.0, None, "100000"),
        (3.0, None, "3"),
        (9.99999, None, "10.00"),
        (-2.5, None, "-2.500"),
        (1.5e-7, None, "1.500e-07"),
        (3.2e12, None, "3.200e+12"),
        (0.0, None, "0"),
        (math.nan, "0.1", "–"),
        (math.inf, None, "∞"),
        (-math.inf, "1", "-∞"),
    ],
)
def test_format_number(value: float, like: str | None, text: str) -> None:
    assert format_number(value, like) == text


@given(st.floats(-1e6, 1e6), st.integers(1, 6))
def test_formatting_errs_by_less_than_a_printed_digit(value: float, places: int) -> None:
    like = f"{0:.{places}f}"
    assert abs(float(format_number(value, like)) - value) <= 0.051 * 10**-places + 1e-15 * abs(value)


@given(st.floats(-1e300, 1e300, allow_subnormal=False))
def test_four_digits_without_a_model(value: float) -> None:
    assert float(format_number(value)) == pytest.approx(value, rel=5.1e-4, abs=0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["toy", "ply"]), st.sampled_from(VERDICTS), st.sampled_from(["full", "reduced", "stand_in"])
        ),
        min_size=1,
        max_size=30,
    )
)
def test_each_value_is_counted_once(entries: list[tuple[str, str, str]]) -> None:
    frame = table(*(row(paper=paper, verdict=verdict, budget=budget, n=2) for paper, verdict, budget in entries))
    counts = cells(scoreboard(frame).split("\n\n")[0])
    header = counts.pop("paper")
    counts.pop("---")
    for title, numbers in counts.items():
        total, *parts = map(int, numbers)
        assert total == sum(parts) == sum(title in ("**all**", paper) for paper, _, _ in entries)
    reduced = sum(verdict in JUDGED and budget != "full" for _, verdict, budget in entries)
    assert int(counts["**all**"][header.index("reduced or stand-in")]) == reduced
    equivalent = sum(verdict == "equivalent" and budget == "full" for _, verdict, budget in entries)
    assert int(counts["**all**"][header.index("equivalent")]) == equivalent


def test_values_judged_at_full_budget() -> None:
    frame = table(
        row(id="a", published="95.07", unit="%", n=3, mean=95.1, std=0.25, verdict="equivalent", budget="full"),
        row(id="b", published="0.7", published_std="0.07", n=1, mean=0.5, verdict="inconclusive", budget="full"),
        row(id="c", published="4484", n=10, mean=4484.0, std=0.0, verdict="equivalent", budget="full"),
        row(id="d", verdict="equivalent", n=3, mean=0.4, std=0.1, budget="stand_in"),
        row(id="e", verdict="cited"),
    )
    values = cells(scoreboard(frame).split("\n\n")[1])
    assert values["`a`"] == ["95.07 %", "95.100 ± 0.250 % (3)", "equivalent"]
    assert values["`b`"] == ["0.7 ± 0.07", "0.50 (1)", "inconclusive"]
    assert values["`c`"] == ["4484", "4484 ± 0 (10)", "equivalent"]
    assert not {"`d`", "`e`"} & set(values)


def test_nothing_at_full_budget() -> None:
    assert scoreboard(table(row())).endswith("No value has been measured at full budget.")


def test_tables_are_rectangular_on_the_real_comparison() -> None:
    published = [value for path in sorted((CONFIG / "published").glob("*.csv")) for value in read_published(path)]
    measured = {value.id: Measured((value.value,) * 2, "run", "full", "d") for value in published}
    frame = compare(published, read_margins(CONFIG / "margins.yaml"), measured, [], "paper")
    counts, values = scoreboard(frame).split("\n\n")
    for text, rows in ((counts, 5 + 3), (values, 155 - 10 - 4 + 2)):
        lines = text.splitlines()
        assert len(lines) == rows
        assert len({line.count("|") for line in lines}) == 1
    assert cells(counts)["**all**"] == ["155", "141", "0", "0", "0", "0", "0", "10", "4"]


def test_readme_is_replaced_between_the_markers_only() -> None:
    frame = table(row(verdict="cited"))
    text = render_readme(README, frame, "results/laptop/comparison.csv")
    assert text.startswith(f"# Title\n\nBefore.\n\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n\nAfter.\n")
    assert "old" not in text
    assert "`results/laptop/comparison.csv`" in text
    assert scoreboard(frame) in text
    assert render_readme(text, frame, "results/laptop/comparison.csv") == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (README.replace(BEGIN, ""), "begin.*0 times"),
        (README.replace(END, ""), "end.*0 times"),
        (README + BEGIN, "begin.*2 times"),
        (README + END, "end.*2 times"),
        (f"{END}\n{BEGIN}\n", "comes before"),
    ],
)
def test_wrong_markers(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_readme(text, table(row()), "x")
