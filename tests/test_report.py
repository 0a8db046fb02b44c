"""The report as files: complete, self-contained, escaped, reproducible, and never half-written."""

import dataclasses
import hashlib
import json
import math
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_fixture
from hypothesis import given
from hypothesis import strategies as st

from neumix.audit.explain import show_text
from neumix.comparison import COLUMNS
from neumix.report import DeviationInput, ItemInput, ReportInputs, RunInput, build
from neumix.report.charts import band, learning_curves
from neumix.report.formatting import decimals_of, duration, mean_decimals, number, seed_list
from neumix.report.scoreboard import VERDICTS, rows, summarise

SAID_OTHERWISE = {"<-", "record", "sha256", "at", "scale", "n", "=", "verdict", "measured", "files", "260.4", "s"}
"""Words of `neumix show` that the page puts as headings, labels, or other units."""
VOID = {"meta", "link", "br", "wbr", "img", "input", "col", "hr"}
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


class Page(HTMLParser):
    """Every element of a page, with complaints about tags that do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.complaints: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        self.complaints += [f"<{tag}> is never closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if len({name for name, _ in attrs}) < len(attrs):
            self.complaints.append(f"<{tag}> repeats an attribute at {self.getpos()}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.complaints.append(f"</{tag}> at {self.getpos()} closes {self.open[-3:]}")
        else:
            self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)

    def attribute(self, name: str, *tags: str) -> list[str]:
        return [found[name] for tag, found in self.elements if name in found and (not tags or tag in tags)]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> ReportInputs:
    return report_fixture.realistic(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def folder(inputs, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report"
    build(inputs, out)
    return out


@pytest.fixture(scope="module")
def page(folder) -> Page:
    return Page((folder / "index.html").read_text(encoding="utf-8"))


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def with_rows(inputs: ReportInputs, **changes: object) -> ReportInputs:
    return dataclasses.replace(inputs, comparison=inputs.comparison.assign(**changes))


def with_item(inputs: ReportInputs, item: ItemInput) -> ReportInputs:
    first, *rest = inputs.papers
    return dataclasses.replace(inputs, papers=(dataclasses.replace(first, items=(item,)), *rest))


class TestPage:
    def test_tags_match_and_ids_are_unique(self, page):
        assert page.complaints == []
        repeated = [name for name, count in Counter(page.attribute("id")).items() if count > 1]
        assert repeated == []

    def test_every_internal_link_has_its_target(self, page, folder):
        targets = set(page.attribute("id"))
        links = page.attribute("href")
        assert len(links) > 300
        assert [link for link in links if link.startswith("#") and link[1:] not in targets] == []
        files = [link for link in links + page.attribute("src") if not link.startswith(("#", "https://"))]
        assert [name for name in files if not (folder / name).is_file()] == []

    def test_labels_refer_to_elements(self, page):
        targets = set(page.attribute("id"))
        assert set(page.attribute("aria-labelledby")) <= targets

    def test_nothing_comes_from_outside(self, page, folder):
        loaded = page.attribute("src") + page.attribute("href", "link", "use", "image")
        assert [name for name in loaded if ":" in name or name.startswith("/")] == []
        assert page.attribute("style") == []
        for asset in (folder / "assets").glob("report.*"):
            text = asset.read_text(encoding="utf-8")
            assert not any(word in text for word in ("http:", "https:", "//cdn", "@import", "url(", "fetch("))

    def test_every_published_number_is_there_once(self, page, inputs):
        ids = Counter(page.attribute("id"))
        assert len(inputs.comparison) >= 150
        assert {ids[name] for name in inputs.comparison["id"]} == {1}

    def test_images_have_alternatives(self, page):
        images = [found for tag, found in page.elements if tag == "img"]
        assert images
        assert all(found["alt"] for found in images)

    def test_what_is_missing_is_said(self, folder):
        text = (folder / "index.html").read_text(encoding="utf-8")
        assert text.count("Not produced at this scale.") == len(report_fixture.PAPERS)
        assert not list((folder / "figures").glob("*fig3*"))

    def test_a_budget_below_full_is_subdued(self, folder):
        text = (folder / "index.html").read_text(encoding="utf-8")
        blocks = [block for block in text.split('<tbody class="number"')[1:] if "<th" in block]
        for block in blocks:
            head = block.split('class="fold"', 1)[0]
            below = any(f'data-budget="{name}"' in head for name in ("reduced", "stand_in"))
            assert ("badge-faint" in head) == below

    def test_records_are_copied(self, inputs, folder):
        assert len(list((folder / "records").iterdir())) == len(inputs.runs)
        copied = json.loads((folder / "records" / "cwm.two_gaussians.main.json").read_text(encoding="utf-8"))
        assert copied == next(run.record for run in inputs.runs if run.id == "cwm/two_gaussians/main")

    def test_fold_out_holds_the_record(self, inputs, folder):
        text = (folder / "index.html").read_text(encoding="utf-8")
        row = inputs.comparison[inputs.comparison["id"] == "inclass.sec3_3.acc_supervised"].iloc[0]
        block = text.split(f'id="{row["id"]}"', 1)[1].split("</tbody>", 1)[0]
        record = next(run.record for run in inputs.runs if run.id == row["runs"])
        digests = [*record["inputs"]["data"].values(), *record["outputs"].values()]
        wanted = [record["git"]["commit"], "0 to 9 (10 seeds)", "AMD EPYC 7B13", "4 min 20 s", *digests]
        assert [text for text in wanted if text not in block] == []
        assert "make reproduce SCALE=laptop PAPERS=inclass" in block


class TestChains:
    def pages(self, folder: Path) -> dict[str, Page]:
        return {path.stem: Page(path.read_text(encoding="utf-8")) for path in (folder / "show").iterdir()}

    def test_every_number_and_item_has_a_page_that_the_report_links_to(self, inputs, folder, page):
        items = [item.id for paper in inputs.papers for item in paper.items]
        ids = [*inputs.comparison["id"], *items]
        links = Counter(page.attribute("href", "a"))
        assert {path.name for path in (folder / "show").iterdir()} == {f"{id_}.html" for id_ in ids}
        assert all(links[f"show/{id_}.html"] == (1 if id_ in items else 2) for id_ in ids)

    def test_a_number_is_its_link(self, inputs, folder):
        text = (folder / "index.html").read_text(encoding="utf-8")
        for row, shown in zip(inputs.comparison.to_dict("records"), rows(inputs.comparison), strict=True):
            number = shown.mean if shown.mean != "–" else shown.published
            assert f'href="show/{row["id"]}.html" aria-label="{number}, chain of {row["id"]}">{number}</a>' in text

    def test_pages_are_sound_and_their_links_lead_somewhere(self, folder):
        anchors = set(Page((folder / "index.html").read_text(encoding="utf-8")).attribute("id"))
        for name, page in self.pages(folder).items():
            assert page.complaints == [], name
            own = page.attribute("id")
            assert len(own) == len(set(own)), name
            for link in page.attribute("href"):
                place, _, anchor = link.partition("#")
                assert link.startswith("https://") or not place or (folder / "show" / place).is_file(), link
                assert not anchor or anchor in (anchors if place else own), link

    def test_pages_need_neither_scripts_nor_a_network(self, folder):
        for page in self.pages(folder).values():
            assert not {"script", "iframe", "form"} & {tag for tag, _ in page.elements}
            assert page.attribute("src") == page.attribute("style") == []
            assert all(name.startswith("../assets/") for name in page.attribute("href", "link"))

    def test_a_page_says_what_the_command_says(self, inputs, folder):
        pages = self.pages(folder)
        for id_, description in inputs.chains.items():
            text = " ".join([*pages[id_].texts, *pages[id_].attribute("href")]).lower()
            for line in show_text(description).lower().splitlines():
                for word in re.sub(r"[,;]( |$)", " ", line.removeprefix("! ")).split():
                    assert word.rstrip(":") in text or word in SAID_OTHERWISE, f"{id_}: {line}"

    def test_a_page_holds_whole_hashes_machine_and_time(self, inputs, folder):
        text = (folder / "show" / "inclass.sec3_3.acc_supervised.html").read_text(encoding="utf-8")
        row = inputs.comparison[inputs.comparison["id"] == "inclass.sec3_3.acc_supervised"].iloc[0]
        record = next(run.record for run in inputs.runs if run.id == row["runs"])
        hashes = [*record["inputs"]["data"].values(), *record["inputs"]["code"].values(), *record["outputs"].values()]
        facts = [record["git"]["commit"], record["started"], record["ended"], "4 min 20 s", "AMD EPYC 7B13"]
        others = ["0 to 9 (10 seeds)", "CC BY-SA 3.0", "slurm job 4711 on node-3, partition gpu", "torch", "killed"]
        assert [wanted for wanted in (*hashes, *facts, *others) if wanted not in text] == []

    def test_what_was_not_run_says_so(self, folder):
        text = (folder / "show" / "genmm.table1.mnist_k1.html").read_text(encoding="utf-8")
        assert "State: not run" in text
        assert "Nothing stands behind it at this scale." in text

    def test_without_chains_nothing_links_to_them(self, inputs, tmp_path):
        build(dataclasses.replace(inputs, chains={}), tmp_path / "report")
        page = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
        assert list((tmp_path / "report" / "show").iterdir()) == []
        assert not [link for link in page.attribute("href") if link.startswith("show/")]

    def test_markup_in_a_chain_stays_text(self, inputs, tmp_path):
        description = json.loads(json.dumps(inputs.chains["inclass.table2.w1"]))
        finding = dict.fromkeys(("state", "cause", "job", "file", "detail"), ATTACK)
        job = {**description["chain"][0], "id": ATTACK, "record": ATTACK, "parameters": {ATTACK: ATTACK}}
        files = [{"name": ATTACK, "sha256": ATTACK, "urls": ["javascript:alert(1)"]}]
        job["data"] = {ATTACK: {"sha256": ATTACK, "licence": ATTACK, "files": files}}
        value = {**description["value"], "where": ATTACK, "unit": ATTACK}
        hostile = {**description, "findings": [finding], "chain": [job], "value": value}
        build(dataclasses.replace(inputs, chains={"inclass.table2.w1": hostile}), tmp_path / "report")
        page = Page((tmp_path / "report" / "show" / "inclass.table2.w1.html").read_text(encoding="utf-8"))
        assert page.complaints == []
        assert not {"script", "img"} & {tag for tag, _ in page.elements}
        assert not [link for link in page.attribute("href") if link.startswith("javascript")]

    @pytest.mark.parametrize("name", ["../escape", "a/../../b", ""])
    def test_ids_cannot_leave_the_folder(self, inputs, tmp_path, name):
        chain = inputs.chains["inclass.table2.w1"]
        with pytest.raises(ValueError, match="an id may hold letters"):
            build(dataclasses.replace(inputs, chains={name: chain}), tmp_path / "report")
        assert not (tmp_path / "report").exists()


class TestUntrustedText:
    def test_markup_in_texts_stays_text(self, inputs, tmp_path):
        table = tmp_path / "table.csv"
        pd.DataFrame({ATTACK: [ATTACK]}).to_csv(table, index=False)
        attempt = {"started": ATTACK, "ended": None, "state": ATTACK, "error": ATTACK}
        record = {"attempts": [attempt], "parameters": {ATTACK: ATTACK}, "outputs": {ATTACK: ATTACK}, "state": ATTACK}
        hostile = with_item(
            inputs,
            ItemInput(
                id="x", label=ATTACK, kind="table", title=ATTACK, shows=ATTACK, runs=(ATTACK,), paths={"csv": table}
            ),
        )
        deviation = DeviationInput(id="d", about=ATTACK, choice=ATTACK, reason=ATTACK, values=(ATTACK,))
        first = dataclasses.replace(hostile.papers[0], deviations=(deviation,), title=ATTACK, url="javascript:alert(1)")
        hostile = dataclasses.replace(
            with_rows(hostile, where=ATTACK, metric=ATTACK, unit=ATTACK, dataset=ATTACK),
            papers=(first, *hostile.papers[1:]),
            runs=(RunInput(id="inclass/a/b", record=record, metrics={ATTACK: [1.0]}),),
            generated_from=ATTACK,
        )
        build(hostile, tmp_path / "report")
        found = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
        assert found.complaints == []
        assert found.attribute("src", "script") == ["assets/report.js"]
        assert sum(tag == "script" for tag, _ in found.elements) == 1
        assert not [name for _, attributes in found.elements for name in attributes if name.startswith("on")]
        assert not [link for link in found.attribute("href") if link.startswith("javascript")]
        assert any("{{ 7 * 7 }}" in text for text in found.texts)

    @pytest.mark.parametrize("name", ["../escape", "a/../../b", "", "a b", ".hidden", "a\\b"])
    def test_ids_cannot_leave_the_folder(self, inputs, tmp_path, name):
        with pytest.raises(ValueError, match="an id may hold letters"):
            build(dataclasses.replace(inputs, runs=(RunInput(id=name, record={}),)), tmp_path / "report")
        assert not (tmp_path / "report").exists()

    def test_an_empty_record_is_shown(self, inputs, tmp_path):
        build(dataclasses.replace(inputs, runs=(RunInput(id="inclass/a/b", record={}),)), tmp_path / "report")
        assert (tmp_path / "report" / "records" / "inclass.a.b.json").read_text() == "{}\n"


class TestBuild:
    def test_same_inputs_give_the_same_bytes(self, inputs, folder, tmp_path):
        build(inputs, tmp_path / "again")
        assert contents(tmp_path / "again") == contents(folder)

    def test_the_hash_of_every_file_is_told(self, folder):
        lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
        told = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        assert told == {name: digest for name, digest in contents(folder).items() if name != "SHA256SUMS"}

    def test_a_rebuild_replaces_all(self, inputs, tmp_path):
        out = tmp_path / "report"
        build(inputs, out)
        build(dataclasses.replace(inputs, runs=(), papers=inputs.papers), out)
        assert list((out / "records").iterdir()) == []
        assert [path.name for path in tmp_path.iterdir()] == ["report"]

    def test_a_failed_build_leaves_the_old_report(self, inputs, tmp_path):
        out, table = tmp_path / "site" / "report", tmp_path / "table.csv"
        build(inputs, out)
        before = contents(out)
        table.write_text("a,b\n1,2,3\n")
        item = ItemInput(id="inclass.t", label="T", kind="table", title="t", shows="s", paths={"csv": table})
        with pytest.raises(ValueError, match=r"table\.csv: line 2: expected 2 cells"):
            build(with_item(inputs, item), out)
        assert contents(out) == before
        assert [path.name for path in out.parent.iterdir()] == ["report"]

    def test_a_failed_swap_puts_the_old_report_back(self, inputs, tmp_path, monkeypatch):
        out = tmp_path / "report"
        build(inputs, out)
        before, rename = contents(out), Path.rename

        def refuse(self: Path, target: Path) -> Path:
            if self.name == "fresh":
                raise OSError(28, "No space left on device")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", refuse)
        with pytest.raises(OSError, match="No space left"):
            build(inputs, out)
        assert contents(out) == before

    def test_a_folder_with_other_things_is_refused(self, inputs, tmp_path):
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(ValueError, match=r"holds 'thesis\.tex'"):
            build(inputs, tmp_path)
        assert (tmp_path / "thesis.tex").read_text() == "years of work"

    def test_a_file_in_its_place_is_refused(self, inputs, tmp_path):
        (tmp_path / "report").write_text("")
        with pytest.raises(ValueError, match="found a file"):
            build(inputs, tmp_path / "report")

    def test_does_not_import_torch(self):
        code = "import neumix.report, sys; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestContradictions:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"verdict": "equivalnt"}, "inclass.sec3_1.n_params: verdict: unknown value 'equivalnt'; did you mean"),
            ({"budget": "half"}, "budget: unknown value 'half'"),
            ({"id": "same"}, "id 'same' is listed twice"),
            ({"paper": "sixth"}, "paper 'sixth' is not among"),
        ],
    )
    def test_rows(self, inputs, tmp_path, changes, message):
        with pytest.raises(ValueError, match=message):
            build(with_rows(inputs, **changes), tmp_path / "report")

    def test_missing_column(self, inputs):
        with pytest.raises(ValueError, match="columns missing: margin; rebuild"):
            rows(inputs.comparison.drop(columns="margin"))

    def test_two_runs_in_one_file(self, inputs, tmp_path):
        runs = tuple(RunInput(id=name, record={}) for name in ("a/b.c", "a.b/c"))
        with pytest.raises(ValueError, match=r"would share a\.b\.c\.json"):
            build(dataclasses.replace(inputs, runs=runs), tmp_path / "report")

    def test_repeated_deviation_and_item(self, inputs, tmp_path):
        first = inputs.papers[0]
        for field in ("deviations", "items"):
            twice = dataclasses.replace(first, **{field: getattr(first, field) * 2})
            with pytest.raises(ValueError, match="is listed twice"):
                build(dataclasses.replace(inputs, papers=(twice, *inputs.papers[1:])), tmp_path / "report")


class TestScoreboard:
    @given(st.lists(st.tuples(st.sampled_from(sorted(VERDICTS)), st.sampled_from(["full", "reduced", "stand_in", ""]))))
    def test_only_a_full_budget_reproduces(self, pairs):
        frame = pd.DataFrame(
            [
                dict.fromkeys(COLUMNS, None) | {"id": f"n.{index}", "verdict": verdict, "budget": budget}
                for index, (verdict, budget) in enumerate(pairs)
            ],
            columns=COLUMNS,
        )
        summary = summarise(rows(frame))
        assert summary.reproduced == sum(pair in (("equivalent", "full"), ("better", "full")) for pair in pairs)
        assert sum(count for _, count in summary.verdicts) == summary.total == len(pairs)
        assert summary.reproduced <= summary.judgeable

    def test_digits_follow_the_standard_deviation(self, inputs):
        row = inputs.comparison.iloc[[1]].assign(
            published="0.4055", mean=0.405123, std=0.00321, ci_low=0.4, ci_high=0.41
        )
        shown = rows(row)[0]
        assert (shown.published, shown.mean, shown.std, shown.interval) == (
            "0.4055",
            "0.4051",
            "0.0032",
            "0.4000 to 0.4100",
        )


class TestCharts:
    @given(
        published=st.floats(-100, 100),
        margin=st.floats(0.001, 10),
        values=st.lists(st.floats(-100, 100), min_size=3, max_size=3),
    )
    def test_band_keeps_order_and_stays_inside(self, published, margin, values):
        low, mean, high = sorted(values)
        shape = band(published, margin, mean, low, high)
        assert 0 <= shape.low <= shape.mean <= shape.high <= 140
        assert 0 <= shape.accepted_left <= shape.published <= shape.accepted_left + shape.accepted_width <= 140
        if published - margin <= low and high <= published + margin:
            assert shape.accepted_left - 0.2 <= shape.low
            assert shape.high <= shape.accepted_left + shape.accepted_width + 0.2
        if low > published + margin:
            assert shape.low >= shape.accepted_left + shape.accepted_width - 1.2

    def test_band_of_an_exact_count(self):
        shape = band(10.0, 0.0, 10.0, 10.0, 10.0)
        assert shape.mean == shape.published == 70
        assert not shape.clipped

    def test_one_panel_per_stage_and_quantity(self):
        panels = learning_curves(report_fixture.history(np.random.default_rng(1)))
        titles = ["pretraining: loss", "pretraining: held-out score", "main: loss", "main: held-out score"]
        assert [panel.title for panel in panels] == titles
        assert all(len(panel.seeds) == 10 and len(panel.mean) == 1 for panel in panels)

    def test_a_non_finite_value_breaks_the_line(self):
        history = pd.DataFrame({"epoch": range(6), "loss_0": [3, 2, math.inf, 2, 1, 0], "loss_1": [3.0] * 6})
        (panel,) = learning_curves(history)
        assert len(panel.seeds) == 3
        assert "1 non-finite value left out" in panel.note
        assert not any(word in "".join(panel.seeds + panel.mean) for word in ("nan", "inf"))

    def test_rows_without_a_measurement_do_not_break_the_line(self):
        history = pd.DataFrame({"epoch": range(5), "held_out_0": [3, None, 2, None, 1]})
        (panel,) = learning_curves(history)
        assert len(panel.seeds) == 1
        assert panel.note == ""

    def test_extremes_of_a_curve_touch_the_frame(self):
        (panel,) = learning_curves(pd.DataFrame({"epoch": [1, 2, 3], "loss_0": [5.0, -5.0, 0.0]}))
        assert panel.mean == ("48.0,8.0 180.0,122.0 312.0,65.0",)

    def test_wide_positive_ranges_are_logarithmic(self):
        (panel,) = learning_curves(pd.DataFrame({"epoch": [1, 2, 3], "loss_0": [1000.0, 10.0, 0.1]}))
        assert panel.note == "logarithmic scale"
        assert panel.mean == ("48.0,8.0 180.0,65.0 312.0,122.0",)

    def test_long_histories_are_thinned_but_keep_their_ends(self):
        (panel,) = learning_curves(pd.DataFrame({"epoch": range(5000), "loss": np.linspace(1, 0, 5000)}))
        points = panel.mean[0].split()
        assert len(points) <= 64
        assert (points[0], points[-1]) == ("48.0,8.0", "312.0,122.0")

    @pytest.mark.parametrize(
        "history",
        [
            None,
            pd.DataFrame(),
            pd.DataFrame({"epoch": [1]}),
            pd.DataFrame({"epoch": [1, 2], "loss_0": [None, None]}),
            pd.DataFrame({"epoch": [1, 2], "loss_0": [math.inf, -math.inf]}),
        ],
    )
    def test_nothing_to_draw(self, history):
        assert learning_curves(history) == ()

    def test_a_single_constant_value(self):
        (panel,) = learning_curves(pd.DataFrame({"epoch": [1], "loss_0": [2.5]}))
        assert panel.y_ticks == ((65.0, "2.5"),)


class TestFormatting:
    @pytest.mark.parametrize(
        ("value", "decimals", "text"),
        [
            (4484.0, None, "4,484"),
            ("55.00", None, "55.00"),
            ("1.6e-3", None, "0.0016"),
            (-0.5, 2, "−0.50"),
            (-0.0001, 2, "0.00"),
            (math.nan, None, "–"),
            (None, 2, "–"),
            (math.inf, 2, "–"),
            (1e-12, None, "1e−12"),
        ],
    )
    def test_number(self, value, decimals, text):
        assert number(value, decimals) == text

    def test_decimals(self):
        assert [decimals_of(value) for value in ("0.4055", 95.07, 10.0, "10.0", "1.1e-2", "3")] == [4, 2, 0, 1, 3, 0]
        assert mean_decimals("0.4", 0.0123) == 3
        assert mean_decimals("0.4", 1e-9) == 3
        assert mean_decimals("0.4055", 2.0) == 4

    def test_times_and_seeds(self):
        assert [duration(value) for value in (0.04, 59.94, 60, 3661, None)] == [
            *("0.0 s", "59.9 s", "1 min 00 s", "1 h 01 min", "–")
        ]
        assert [seed_list(value) for value in ([], [7], [3, 4, 5], [1, 5])] == [
            *("–", "7", "3 to 5 (3 seeds)", "1, 5 (2 seeds)")
        ]
