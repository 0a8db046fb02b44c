"""A number that was typed is found where readers would believe it: tables, captions, README, report, and their code."""

import re
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workflow_copy import REPOSITORY, Pipeline

from neumix import catalogue
from neumix.audit.literals import in_code, in_template, in_text
from neumix.audit.numbers import Unsourced, unsourced
from neumix.audit.numerals import Known, Numeral, numerals
from neumix.audit.prose import in_readme
from neumix.audit.rendered import Rendered
from neumix.files import sha256

KNOWN = Known(
    {"toy": {"toy.table1.score": "0.1726", "toy.table1.n": "39925", "toy.table1.zero": "0.150"}, "other": {}},
    {"toy": {"mean of toy.table1.score": 0.17264, "mean of toy.table1.accuracy": -96.4831}, "other": {}},
)


def found(text: str) -> list[str]:
    return [number.text for number in numerals(text)]


class TestNumerals:
    @given(st.decimals(0, 10**6, places=3), st.sampled_from(["{}", "mean {}.", "({} nats)", "a: {}, b", "={}", "-{} "]))
    def test_a_number_in_a_text_is_found_with_its_digits(self, value: Decimal, text: str) -> None:
        (number,) = numerals(text.format(value))
        assert (number.text, number.value, number.decimals) == (str(value), value, 3)

    @pytest.mark.parametrize(
        ("text", "numbers"),
        [
            ("39,925 of 1,234,567", ["39,925", "1,234,567"]),
            ("0.4, 0.6", ["0.4", "0.6"]),
            ("1.6e-3 and 2E6", ["1.6e-3", "2E6"]),
            ("x1 b2 3d SHA-256 3f9c2a gmm_loglik.2 v0.1.0 3.11.7 #12 a/3", []),
            ("95.07 % or 95%", ["95.07", "95"]),
            ("0.32em", []),
        ],
    )
    def test_parts_of_words_are_none(self, text: str, numbers: list[str]) -> None:
        assert found(text) == numbers

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("0.17", True),
            ("95.1 %", True),
            ("95%", False),
            ("0.5", False),
            ("1e-9", False),
            ("12345", False),
            ("Python 3.11", False),
            ("Sec. 3.12", False),
            ("Eq. (3.12)", False),
        ],
    )
    def test_two_decimals_look_like_a_result(self, text: str, expected: bool) -> None:
        (number,) = numerals(text)
        assert number.resembles_result == expected

    def test_agreement_counts_from_three_digits_on(self) -> None:
        texts = ("0.173", "0.17", "39_925", "50.0", "200_000", "0.150", "0.15")
        assert [Numeral.of(text).specific for text in texts] == [True, False, True, False, False, True, False]

    @pytest.mark.parametrize(
        ("text", "published", "measured"),
        [
            ("0.1726", "toy.table1.score", "mean of toy.table1.score"),
            ("0.173", None, "mean of toy.table1.score"),
            ("0.17", None, None),
            ("39,925", "toy.table1.n", None),
            ("96.48", None, "mean of toy.table1.accuracy"),
            ("96.49", None, None),
            ("Table 39925", None, None),
        ],
    )
    def test_known_numbers_are_recognised_as_they_would_be_printed(
        self, text: str, published: str | None, measured: str | None
    ) -> None:
        (number,) = numerals(text)
        for told, id_ in ((KNOWN.published(number, "toy"), published), (KNOWN.measured(number, None), measured)):
            assert (told is None) == (id_ is None)
            assert id_ is None or id_ in str(told)
        assert KNOWN.published(number, "other") is KNOWN.measured(number, "other") is None


def suspicious(tmp_path: Path, code: str, name: str = "tables.py") -> list[tuple[int, str]]:
    path = tmp_path / name
    path.write_text(code, encoding="utf-8")
    return [(line, number) for line, number, _ in in_code(path, KNOWN, "toy")]


class TestCode:
    @pytest.mark.parametrize(
        ("code", "number"),
        [
            ('frame = {"Score": "0.42 ± 0.03"}', "0.42"),
            ('frame = {"Score": 0.4271}', "0.4271"),
            ("rows.append([0.42])", "0.42"),
            ("axes.axhline(0.42)", "0.42"),
            ("axes.plot([0, 1], [0.42, 0.42])", "0.42"),
            ('axes.set_title(f"{name}: accuracy 96.2 %")', "96.2"),
            ('axes.text(0.5, 0.5, "0.42")', "0.42"),
            ("return 0.1726 * 2", "0.1726"),
            ("_BEST = 0.1726", "0.1726"),
            ("count = 39925", "39925"),
            ('return "96.48"', "96.48"),
            ("def draw(best=0.42): pass", "0.42"),
        ],
    )
    def test_typed_results_are_found(self, tmp_path: Path, code: str, number: str) -> None:
        assert number in [text for _, text in suspicious(tmp_path, f"import a\n{code}\n".replace("return", "x ="))]

    @pytest.mark.parametrize(
        "code",
        [
            '"""Score 0.1726, as printed."""',
            'def draw():\n    """Return 0.1726."""',
            "plt.subplots(figsize=(1.45 * columns, 2.35), width_ratios=[0.25, 0.75])",
            'axes.text(0.25, 3.75, "for every batch")',
            "axes.set(ylim=(-0.03, 1.03))",
            "margin = 0.05 * (high - low)",
            "close = gap < 0.05",
            "_RECOVERED = 0.05",
            "grid = np.linspace(-0.25, 0.25, 801)",
            'style = "round,pad=0,rounding_size=0.15"',
            "points = 20_000",
            'text = f"{mean:.4f} ± {half:.2f}"',
            "tolerance = 1e-9",
            '_AXES = dict(bbox={"alpha": 0.85})',
            'title = "Remark 3.6 and Sec. 3.12"',
        ],
    )
    def test_layout_choices_and_formats_are_left_alone(self, tmp_path: Path, code: str) -> None:
        assert suspicious(tmp_path, f"{code}\n") == []

    def test_coordinates_of_diagrams_are_left_alone_and_their_texts_are_not(self, tmp_path: Path) -> None:
        code = 'arrow(axes, (8.05, 9.95), (8.05, 8.95))\nbox(axes, (1, 2), "0.42")\n'
        assert suspicious(tmp_path, code, "diagrams.py") == [(2, "0.42")]
        assert len(suspicious(tmp_path, code)) == 5

    @pytest.mark.parametrize(
        ("template", "expected"),
        [
            ("<p>Mean {{ row.mean }}, 5% and 90%</p>", []),
            ('<svg viewBox="0 0 140.25 18"><rect x="0.25"/></svg>', []),
            ("<p>\nMean 0.42</p>", [(2, "0.42")]),
            ('<img alt="mean 0.42">', [(1, "0.42")]),
            ("{{ row.mean }}\n{{ 0.42 }}", [(2, "0.42")]),
            ("{# 96.48 #}", [(1, "96.48")]),
            ("<p>39,925 values</p>", [(1, "39,925")]),
        ],
    )
    def test_templates(self, template: str, expected: list[tuple[int, str]]) -> None:
        assert [(line, number) for line, number, _ in in_template(template, KNOWN)] == expected

    def test_the_fault_says_what_the_number_is(self) -> None:
        assert [fault.partition(";")[0] for _, fault in in_text("0.1726, 96.483, 0.42", KNOWN, "toy")] == [
            "it is what is published as toy.table1.score",
            "it is the mean of toy.table1.accuracy in the comparison",
            "it looks like a result",
        ]


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    """A copy of the README beside the results that its scoreboard shows."""
    shutil.copy(REPOSITORY / "README.md", tmp_path / "README.md")
    (tmp_path / "results" / "laptop").mkdir(parents=True)
    shutil.copy(REPOSITORY / "results" / "laptop" / "comparison.csv", tmp_path / "results" / "laptop")
    return tmp_path / "README.md"


def in_copy(readme: Path) -> list[tuple[int, str, str]]:
    total = int(re.findall(r"(\d+) published numbers", (REPOSITORY / "README.md").read_text(encoding="utf-8"))[0])
    return list(in_readme(readme, readme.parent / "results" / "laptop" / "comparison.csv", total, KNOWN))


class TestReadme:
    def test_the_readme_has_no_typed_results(self, readme: Path) -> None:
        assert in_copy(readme) == []

    @pytest.mark.parametrize(
        ("line", "number"),
        [
            ("It reaches 96.2 on MNIST.", "96.2"),
            ("About 3% are worse.", "3"),
            ("See `x` with 39925 values.", "39925"),
            ("    neumix show toy  # 0.1726", "0.1726"),
            ("All 1234 published numbers.", "1234"),
            ("| `toy` | Toy | complete, 0.4 |", "0.4"),
            ("It takes 0.25 h <!-- from config/none.yaml -->", "0.25"),
        ],
    )
    def test_a_typed_result_is_found(self, readme: Path, line: str, number: str) -> None:
        text = readme.read_text(encoding="utf-8")
        readme.write_text(f"{text}\n{line}\n", encoding="utf-8")
        ((where, told, _),) = in_copy(readme)
        assert (where, told) == (len(text.splitlines()) + 2, number)

    @pytest.mark.parametrize(
        "line",
        [
            "With Python 3.11, two cores and 5% tests, see Table 3 and Sec. 4.1.",
            "    pip install x==0.25",
            "`v0.25` of [it](https://example.org/0.25)",
            "It takes 0.25 h <!-- from times.txt -->",
        ],
    )
    def test_places_versions_commands_and_numbers_of_files_may_stay(self, readme: Path, line: str) -> None:
        (readme.parent / "times.txt").write_text("0.25 h\n")
        with readme.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{line}\n")
        assert in_copy(readme) == []

    def test_a_retyped_cell_of_the_scoreboard_is_found(self, readme: Path) -> None:
        text = readme.read_text(encoding="utf-8")
        row = next(line for line in text.splitlines() if line.startswith("| `cwm.table1.gmm_loglik` |"))
        readme.write_text(text.replace(row, row.replace("±", "± 1", 1)), encoding="utf-8")
        ((line, _, fault),) = in_copy(readme)
        assert text.splitlines()[line - 1] == row
        assert row in fault

    def test_a_removed_line_of_the_scoreboard_is_found(self, readme: Path) -> None:
        text = readme.read_text(encoding="utf-8")
        row = next(line for line in text.splitlines() if line.startswith("| `inclass.sec3_4.n_distributions` |"))
        readme.write_text(text.replace(f"{row}\n", ""), encoding="utf-8")
        assert in_copy(readme)


def check(pipeline: Pipeline) -> list[Unsourced]:
    """Return what is found in a pipeline with this repository's README, and assert that nothing is written."""
    (pipeline.root / "results" / "laptop").mkdir(exist_ok=True)
    readme, scoreboard = pipeline.root / "README.md", pipeline.root / "results" / "laptop" / "comparison.csv"
    for path in (readme, scoreboard):
        shutil.copy(REPOSITORY / path.relative_to(pipeline.root), path)
    settings = catalogue.load(pipeline.root, catalogue.load_settings({"scale": "smoke"}), check_modules=False)
    before, counts = state(pipeline.root), Rendered()
    faults = list(unsourced(pipeline.root, settings, readme, scoreboard, counts))
    assert state(pipeline.root) == before
    assert counts.computed >= 3
    return faults


def state(root: Path) -> dict[str, tuple[int, str]]:
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path): (path.stat().st_mtime_ns, sha256(path)) for path in files}


def retype_table(pipeline: Pipeline) -> str:
    return retype(pipeline.results / "tables" / "inclass.table2.csv", r"0\.\d{4} ±")


def retype_other_format(pipeline: Pipeline) -> str:
    return retype(pipeline.results / "tables" / "inclass.table2.tex", r"0\.\d{4} ±")


def retype_comparison(pipeline: Pipeline) -> str:
    return retype(pipeline.results / "comparison" / "inclass.csv", r"0\.\d{6,}")


def retype_scoreboard_source(pipeline: Pipeline) -> str:
    return retype(pipeline.results / "comparison.csv", r"0\.\d{6,}")


def retype_figure(pipeline: Pipeline) -> str:
    return retype(pipeline.results / "figures" / "inclass.fig5.svg", r"\d\.\d{4,}")


def retype_caption(pipeline: Pipeline) -> str:
    def change(paper: dict) -> None:
        paper["items"]["fig5"]["shows"] = "The weight is 0.39979 on average."

    pipeline.edit(change)
    return "config/papers/inclass.yaml: items.fig5.shows: 0.39979"


def retype_report(pipeline: Pipeline) -> str:
    return retype(pipeline.results / "report" / "index.html", r"(?<=>)0\.\d{3,}")


def retype_page(pipeline: Pipeline) -> str:
    return retype(pipeline.results / "report" / "show" / "inclass.table2.w1.html", r"(?<=>)0\.\d{4,}")


def retype_template(pipeline: Pipeline) -> str:
    path = "src/neumix/report/templates/_scoreboard.html.j2"
    pipeline.append(path, "<p>31 equivalent, mean 0.42</p>\n")
    return path


def retype(path: Path, pattern: str) -> str:
    """Change the last digit of the first number of a file that fits, and return the file's name."""
    text = path.read_text(encoding="utf-8")
    match = re.search(pattern, text)
    assert match, path
    old = re.search(r"\d+\.\d+", match[0])
    assert old
    last = match.start() + old.end() - 1
    path.write_text(text[:last] + str((int(text[last]) + 5) % 10) + text[last + 1 :], encoding="utf-8")
    return path.name


PLACES = [
    *(retype_table, retype_other_format, retype_comparison, retype_scoreboard_source, retype_figure, retype_caption),
    *(retype_report, retype_page, retype_template),
]


@pytest.mark.slow
def test_a_finished_pipeline_has_only_numbers_with_a_source(pipeline: Pipeline) -> None:
    assert check(pipeline) == []


@pytest.mark.slow
@pytest.mark.parametrize("change", PLACES, ids=lambda change: change.__name__)
def test_a_retyped_number_is_found_where_it_is(pipeline: Pipeline, change: Callable[[Pipeline], str]) -> None:
    place = change(pipeline)
    faults = [str(fault) for fault in check(pipeline)]
    assert any(place in fault for fault in faults), faults


@pytest.mark.slow
def test_without_arrays_tables_are_computed_from_metrics_alone(pipeline: Pipeline) -> None:
    shutil.rmtree(pipeline.results / "arrays")
    assert check(pipeline) == []
    retype_table(pipeline)
    assert [fault.place.rpartition("/")[2] for fault in check(pipeline)] == ["inclass.table2.csv:2"]
