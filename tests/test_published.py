"""Published numbers, margins and deviations: every row parses, and every mistake is named."""

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neumix.published import (
    Margin,
    PublishedValue,
    margin_for,
    read_deviations,
    read_margins,
    read_published,
    rounding_half_width,
)
from neumix.settings import CatalogueError

CONFIG = Path(__file__).parents[1] / "config"
TABLES = sorted((CONFIG / "published").glob("*.csv"))
HEADER = "id,paper,where,experiment,dataset,model,setting,metric,value,std,unit,better,kind,note"
ROW = "toy.table1.acc,toy,Table 1,toy.run,digits,net,,accuracy,95.07,0.1,%,higher,experiment,"


def value(**changes: Any) -> PublishedValue:
    given_ = {
        "id": "toy.table1.acc",
        "paper": "toy",
        "where": "Table 1",
        "experiment": "toy.run",
        "dataset": "digits",
        "model": "net",
        "metric": "accuracy",
        "printed": "95.07",
        "unit": "%",
        "better": "higher",
        "kind": "experiment",
    }
    return PublishedValue(**(given_ | changes))


def write_table(folder: Path, *rows: str, header: str = HEADER) -> Path:
    path = folder / "toy.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


# Numbers as printed


@pytest.mark.parametrize(
    ("printed", "half"),
    [
        ("0.4055", 5e-5),
        ("95.07", 0.005),
        ("50", 0.5),
        ("80", 0.5),
        ("1.0", 0.05),
        ("55.00", 0.005),
        ("0.70", 0.005),
        ("0.7", 0.05),
        ("1e-3", 5e-4),
        ("1.6e-3", 5e-5),
        ("2e3", 500.0),
        ("-1.25", 0.005),
    ],
)
def test_rounding_half_width(printed: str, half: float) -> None:
    assert rounding_half_width(printed) == half


@given(st.decimals(min_value=-1000, max_value=1000, places=7), st.integers(0, 6))
def test_rounding_never_moves_a_number_further(number: Decimal, places: int) -> None:
    printed = f"{number:.{places}f}"
    assert abs(number - Decimal(printed)) <= Decimal(rounding_half_width(printed)) * (1 + Decimal("1e-12"))


@pytest.mark.parametrize("printed", ["", "nan", "inf", "0x1", "1_000", "1,5", " 1", "1\n", "٣"])
def test_rounding_refuses_what_is_no_number(printed: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        rounding_half_width(printed)


def test_counts_are_not_rounded() -> None:
    count = value(printed="4484", unit="parameters", metric="n_parameters", better="match", kind="count")
    assert (count.value, count.rounding) == (4484.0, 0.0)
    assert value(printed="50").rounding == 0.5


# Published tables


def test_all_published_tables_parse() -> None:
    papers = {path.stem: read_published(path) for path in TABLES}
    assert set(papers) == {"cpmm", "cwm", "genmm", "identifiability", "inclass"}
    values = [entry for table in papers.values() for entry in table]
    assert len(values) == 155
    assert len({entry.id for entry in values}) == 155
    assert all(math.isfinite(entry.value) for entry in values)
    # Trailing zeros say how a number was rounded, so they must survive.
    assert {"55.00", "0.8900", "0.70", "1.0"} <= {entry.printed for entry in values}


def test_every_published_value_has_a_margin() -> None:
    margins = read_margins(CONFIG / "margins.yaml")
    for path in TABLES:
        for entry in read_published(path):
            margin = margin_for(entry, margins)
            assert (margin is None) == (entry.kind == "cited")
            if entry.kind == "count":
                assert margin is not None
                assert margin.exact


def test_reading_keeps_every_cell(tmp_path: Path) -> None:
    (read,) = read_published(write_table(tmp_path, ROW))
    assert read == value(printed_std="0.1")
    assert (read.value, read.std, read.note) == (95.07, 0.1, "")


def test_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write_table(tmp_path, ROW, header="\ufeff" + HEADER)
    assert len(read_published(path)) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("95.07", "95,07", "line 3: expected 14 cells, found 15"),
        ("95.07", "95.O7", "line 3: column 'value': '95.O7' is not a number"),
        ("95.07", "nan", "line 3: column 'value': 'nan' is not a number"),
        ("95.07", "", "line 3: column 'value': '' is not a number"),
        (",0.1,", ",~0.1,", "line 3: column 'std': '~0.1' is not a number"),
        ("experiment,", "experimnt,", "line 3: .*'kind'.*'experimnt'; did you mean 'experiment'"),
        ("higher", "hihger", "line 3: .*'better'.*'hihger'; did you mean 'higher'"),
        ("toy.table1", "try.table1", "line 3: column 'id': 'try.table1.acc' must start with 'toy.'"),
        (",toy,", ",ply,", "line 3: column 'paper': expected 'toy' as the file, found 'ply'"),
        (",accuracy,", ",,", "line 3: .*'metric'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write_table(tmp_path, ROW.replace("table1", "table0"), ROW.replace(old, new))
    with pytest.raises(CatalogueError, match=f"toy.csv: {message}"):
        read_published(path)


def test_duplicate_id_names_both_lines(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"line 3: column 'id': 'toy.table1.acc' is taken by line 2"):
        read_published(write_table(tmp_path, ROW, ROW))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (HEADER.replace("metric", "metrics"), "unknown column 'metrics'; did you mean 'metric'"),
        (HEADER.replace("id,paper", "paper,id"), "expected the columns id,paper"),
        (HEADER.removesuffix(",note"), "expected the columns"),
        ("", "found nothing"),
    ],
)
def test_wrong_header(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        read_published(write_table(tmp_path, ROW, header=header))


def test_unreadable_tables(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="no such file"):
        read_published(tmp_path / "toy.csv")
    with pytest.raises(CatalogueError, match="not a CSV"):
        read_published(write_table(tmp_path, ROW + '"open'.replace("o", '"o')))
    (tmp_path / "toy.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CatalogueError, match="UTF-8"):
        read_published(tmp_path / "toy.csv")


# Margins


def test_margin_width_follows_the_unit() -> None:
    margin = Margin(abs=0.01, percent_abs=1.0)
    assert margin.width(value()) == 1.0
    assert margin.width(value(printed="0.9507", unit="fraction")) == 0.01


@pytest.mark.parametrize(("printed", "width"), [("1.01", 0.05), ("2.50", 0.05), ("7.67", 0.1534), ("-7.67", 0.1534)])
def test_the_larger_margin_holds(printed: str, width: float) -> None:
    margin = Margin(abs=0.05, rel=0.02)
    assert margin.width(value(printed=printed, unit="bits/dim")) == pytest.approx(width, rel=1e-12)


def test_percent_margin_alone_does_not_fit_a_fraction() -> None:
    with pytest.raises(CatalogueError, match=r"'accuracy' has no 'abs'.*toy.table1.acc"):
        Margin(percent_abs=3.0).width(value(unit="fraction"))
    with pytest.raises(CatalogueError, match=r"margins.yaml: .*'accuracy' has no 'abs'"):
        margin_for(value(unit="fraction"), {"accuracy": Margin(percent_abs=3.0)})


def test_only_counts_and_cited_values_may_lack_a_margin() -> None:
    count = value(kind="count", metric="n_pairs", printed="45", unit="pairs", better="match")
    assert margin_for(count, {}) == Margin(abs=0.0)
    assert margin_for(value(kind="cited"), {"accuracy": Margin(abs=1.0)}) is None
    with pytest.raises(CatalogueError, match=r"margins.yaml: no margin for metric 'accuracy'.*'acuracy'"):
        margin_for(value(), {"acuracy": Margin(abs=1.0)})
    with pytest.raises(CatalogueError, match=r"other.yaml: 'n_pairs' must have 'abs: 0'"):
        margin_for(count, {"n_pairs": Margin(abs=1.0)}, "other.yaml")


def test_project_margins() -> None:
    margins = read_margins(CONFIG / "margins.yaml")
    assert margins["accuracy"] == Margin(abs=0.01, percent_abs=1.0)
    assert margins["bits_per_dim"] == Margin(abs=0.05, rel=0.02)
    assert margins["n_parameters"].exact
    assert not margins["accuracy"].exact
    assert not margins["pseudo_weight"].judge


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy: {abbs: 0.1}", "unknown key 'accuracy.abbs'; did you mean 'abs'"),
        ("accuracy: {abs: -0.1}", "'accuracy.abs'"),
        ("accuracy: {abs: .nan}", "'accuracy.abs'"),
        ("accuracy: {abs: .inf}", "'accuracy.abs'"),
        ("accuracy: {abs: yes}", "'accuracy.abs'"),
        ("accuracy: {}", "'accuracy' has no width"),
        ("accuracy: {judge: true}", "'accuracy' has no width"),
        ("accuracy: {abs: 1}\naccuracy: {abs: 2}", "key 'accuracy' is given twice"),
    ],
)
def test_bad_margins(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "margins.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CatalogueError, match=f"margins.yaml.*{message}"):
        read_margins(path)


# Deviations

DEVIATION = """
deviations:
  early-stop:
    about: When training stops
    choice: After 15 epochs
    reason: The paper does not say
    source: ours
    values: [toy.table1.acc]
    tried: [30 epochs]
    cause: one seed
  plain:
    about: Optimiser
    choice: Adam
    reason: As in the code
    source: code
"""


def test_deviations(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(DEVIATION, encoding="utf-8")
    first, second = read_deviations(path)
    assert (first.id, first.values, first.tried, first.cause) == (
        "early-stop",
        ("toy.table1.acc",),
        ("30 epochs",),
        "one seed",
    )
    assert (second.id, second.source, second.values, second.cause) == ("plain", "code", (), None)


def test_no_file_means_no_deviations(tmp_path: Path) -> None:
    assert read_deviations(tmp_path / "toy.yaml") == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("source: ours", "source: our", "deviations.early-stop: .*'source'.*'our'; did you mean 'ours'"),
        ("cause:", "becuase:", "deviations.early-stop: unknown key 'becuase'; did you mean 'cause'"),
        ("    choice: Adam\n", "", "deviations.plain: key 'choice' is missing"),
        ("early-stop:", "Early stop;:", "deviations.Early stop;: .*'id'"),
        ("about: Optimiser", "id: other\n    about: x", "deviations.plain: remove the key 'id'"),
        ("deviations:", "deviation:", "unknown key 'deviation'; did you mean 'deviations'"),
        ("plain:", "early-stop:", "'early-stop' is given twice"),
    ],
)
def test_bad_deviations(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(DEVIATION.replace(old, new), encoding="utf-8")
    with pytest.raises(CatalogueError, match=f"toy.yaml: .*{message}"):
        read_deviations(path)
