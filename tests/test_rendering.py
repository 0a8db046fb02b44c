"""Tables in four formats and figures in two: content, escaping, notes, identical bytes."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest

from neumix.rendering import save_figure, save_table, style
from neumix.run import budget_note

NOTE = "Scale smoke: reduced budget (simulated); not a reproduction."
CELLS = [["5% & x_1", "<b>bold</b>"], ["#1 {a} $", "y" * 90], ["0.400", "≈ 3 ± 1"]]
FRAME = pd.DataFrame(CELLS, columns=["a & b_c", "d < e"])


def render(folder: Path, frame: pd.DataFrame, note: str = "") -> dict[str, str]:
    outputs = {kind: folder / "tables" / f"t.{kind}" for kind in ("csv", "md", "tex", "html")}
    save_table(frame, note, outputs)
    return {kind: path.read_text(encoding="utf-8") for kind, path in outputs.items()}


class Cells(HTMLParser):
    """Reads the cells of a table as a browser shows them; any tag inside a cell is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "tr":
            self.rows.append([])
        if self.open:
            raise ValueError(f"<{tag}> inside a cell")
        if tag in ("td", "th"):
            self.open = True
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self.open = False

    def handle_data(self, data: str) -> None:
        if self.open:
            self.rows[-1][-1] += data


def tex_rows(text: str) -> list[list[str]]:
    """Read the rows of a tabular, undoing the escapes."""
    lines = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r"\\")]
    return [[re.sub(r"\\([%&_#{}$])", r"\1", cell) for cell in re.split(r"(?<!\\) & ", line)] for line in lines]


def test_every_format_reads_back_as_the_same_cells(tmp_path):
    texts = render(tmp_path, FRAME)
    expected = [list(FRAME.columns), *CELLS]
    assert list(csv.reader(io.StringIO(texts["csv"]))) == expected
    assert Cells(texts["html"]).rows == expected
    assert tex_rows(texts["tex"]) == expected
    lines = texts["md"].strip().splitlines()
    assert [[cell.strip() for cell in line.strip("|").split("|")] for line in [lines[0], *lines[2:]]] == expected


def test_html_escapes_what_it_must(tmp_path):
    html = render(tmp_path, FRAME)["html"]
    assert "&lt;b&gt;bold&lt;/b&gt;" in html
    assert "a &amp; b_c" in html
    assert "<b>" not in html


def test_tex_escapes_what_it_must(tmp_path):
    tex = render(tmp_path, FRAME)["tex"]
    assert r"5\% \& x\_1" in tex
    assert r"\#1 \{a\} \$" in tex
    assert not re.search(r"(?<!\\)[%#_$]", tex)


def test_numbers_are_kept_as_they_are_written(tmp_path):
    texts = render(tmp_path, pd.DataFrame({"w": ["0.400", "1e-05", "-0.0", "007"]}))
    for text in texts.values():
        for cell in ("0.400", "1e-05", "-0.0", "007"):
            assert cell in text


def test_the_note_is_in_every_format(tmp_path):
    without, noted = render(tmp_path, FRAME), render(tmp_path, FRAME, NOTE)
    for kind in noted:
        assert NOTE in noted[kind]
        assert NOTE not in without[kind]
    rows = list(csv.DictReader(io.StringIO(noted["csv"])))
    assert [row["budget"] for row in rows] == [NOTE] * 3
    assert "budget" not in without["csv"]
    assert f'<p class="note">{NOTE}</p>' in noted["html"]
    assert f"\\emph{{{NOTE}}}" in noted["tex"]


@pytest.mark.parametrize(("kind", "escaped"), [("html", "R&amp;D &lt;8x8&gt;"), ("tex", r"R\&D <8x8> 5\% a\_b")])
def test_the_note_is_escaped_like_a_cell(tmp_path, kind, escaped):
    lines = render(tmp_path, FRAME, "R&D <8x8> 5% a_b")[kind].splitlines()
    assert any(escaped in line for line in lines if not line.startswith("%"))


def test_a_bar_does_not_begin_a_new_column_in_markdown(tmp_path):
    md = render(tmp_path, pd.DataFrame({"P(x|y)": ["a|b"], "c": ["d"]}))["md"]
    assert [len(re.split(r"(?<!\\)\|", line)) for line in md.splitlines()] == [4, 4, 4]


def test_a_table_replaces_the_one_before_and_leaves_no_other_files(tmp_path):
    render(tmp_path, FRAME, NOTE)
    texts = render(tmp_path, FRAME[:1])
    assert NOTE not in "".join(texts.values())
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["t.csv", "t.html", "t.md", "t.tex"]


def draw(folder: Path, note: str = "") -> dict[str, bytes]:
    outputs = {kind: folder / f"f.{kind}" for kind in ("svg", "png")}
    with style():
        figure, axes = plt.subplots(figsize=(3, 2))
        axes.plot([0, 1, 4], label="curve")
        axes.imshow([[0, 1], [1, 0]], clip_on=True)
        axes.set_title("title")
        axes.legend()
        save_figure(figure, note, outputs)
    return {kind: path.read_bytes() for kind, path in outputs.items()}


def test_figures_are_identical_to_the_byte(tmp_path):
    first, second = draw(tmp_path / "a", NOTE), draw(tmp_path / "b", NOTE)
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert b"<svg" in first["svg"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["f.png", "f.svg"]


def test_figures_do_not_say_when_they_were_drawn(tmp_path):
    figure = draw(tmp_path)
    assert b"dc:date" not in figure["svg"]
    assert b"Creation Time" not in figure["png"]


def test_the_note_is_drawn(tmp_path):
    without, noted = draw(tmp_path / "a"), draw(tmp_path / "b", NOTE)
    comment = f"<!-- {NOTE} -->".encode()  # text is drawn as outlines; a comment beside them says what it is
    assert comment in noted["svg"]
    assert comment not in without["svg"]
    assert noted["png"] != without["png"]


def test_style_is_left_behind():
    before = dict(mpl.rcParams)
    with pytest.raises(RuntimeError), style():
        plt.figure()
        assert mpl.rcParams["svg.hashsalt"] == "neumix"
        raise RuntimeError
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("budgets", "datasets", "expected"),
    [
        ([], [], ""),
        (["full", "full"], ["MNIST", "simulated"], ""),
        (["reduced"], ["simulated"], NOTE),
        (["reduced", "full", "reduced"], ["simulated"] * 3, NOTE),
        (
            ["stand_in", "reduced"],
            ["simulated", "digits"],
            "Scale smoke: reduced budget, stand-in data or budget (digits, simulated); not a reproduction.",
        ),
    ],
)
def test_budget_note_says_what_falls_short(budgets, datasets, expected):
    assert budget_note(budgets, datasets, "smoke") == expected
