"""Verdicts keep their promised error rates, and a comparison survives being written and read."""

import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from neumix.comparison import (
    COLUMNS,
    Measured,
    compare,
    counts_as_reproduction,
    estimate,
    judge,
    missing_deviations,
    read_comparison,
    write_comparison,
)
from neumix.published import Deviation, Margin, PublishedValue, read_margins, read_published
from neumix.settings import CatalogueError

CONFIG = Path(__file__).parents[1] / "config"
MARGIN = Margin(abs=0.02)
# Published 0.4051 +- (0.02 + rounding 0.00005).
LOW, HIGH = 0.38505, 0.42515
DRAWS = 10_000

finite = st.floats(-1e3, 1e3, allow_subnormal=False)
samples = st.lists(finite, min_size=2, max_size=12)


def published(**changes: Any) -> PublishedValue:
    given_ = {
        "id": "toy.table1.w1",
        "paper": "toy",
        "where": "Table 1",
        "experiment": "toy.run",
        "dataset": "digits",
        "model": "net",
        "metric": "mixture_weight",
        "printed": "0.4051",
        "unit": "fraction",
        "better": "match",
        "kind": "experiment",
    }
    return PublishedValue(**(given_ | changes))


COUNT = {"printed": "4484", "kind": "count", "unit": "parameters", "metric": "n_parameters"}


def rates(better: str, mean: float, spread: float, n: int) -> dict[str, float]:
    """Return how often each verdict falls on normal draws with the given true mean."""
    draws = np.random.default_rng(20260101).normal(mean, spread, size=(DRAWS, n)).tolist()
    verdicts = [judge(published(better=better), draw, MARGIN) for draw in draws]
    return {verdict: verdicts.count(verdict) / DRAWS for verdict in set(verdicts)}


# Error rates, by simulation

PROMISED = 0.05
NOISE = 3 * math.sqrt(PROMISED * (1 - PROMISED) / DRAWS)
AT_MOST, AT_LEAST = PROMISED + NOISE, PROMISED - NOISE


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("edge", [LOW, HIGH])
@pytest.mark.parametrize("spread", [1e-4, 0.02])
def test_wrong_claims_on_the_edge_of_the_margin_are_rare(n: int, edge: float, spread: float) -> None:
    found = rates("higher", edge, spread, n)
    beyond, impossible = ("better", "worse") if edge == HIGH else ("worse", "better")
    assert found.get("equivalent", 0) <= AT_MOST
    assert found.get(beyond, 0) <= AT_MOST
    assert found.get(impossible, 0) <= AT_MOST / 10


@pytest.mark.parametrize("n", [2, 3, 5, 10])
@pytest.mark.parametrize("edge", [LOW, HIGH])
def test_tests_have_their_nominal_size(n: int, edge: float) -> None:
    found = rates("match", edge, 1e-4, n)
    assert found["equivalent"] >= AT_LEAST
    assert AT_LEAST <= found["worse"] <= AT_MOST


@pytest.mark.parametrize("n", [3, 5, 10])
def test_power_at_the_centre_and_far_away(n: int) -> None:
    assert rates("match", 0.4051, 0.002, n)["equivalent"] > 0.99
    assert rates("higher", 0.5, 0.005, n)["better"] > 0.95
    assert rates("lower", 0.5, 0.005, n)["worse"] > 0.95
    assert rates("match", 0.3, 0.005, n)["worse"] > 0.95


def test_wide_spread_is_inconclusive_even_at_the_centre() -> None:
    assert rates("match", 0.4051, 0.5, 5)["inconclusive"] > 0.9


# The interval


@given(samples)
def test_interval_agrees_with_scipy(values: list[float]) -> None:
    found = estimate(values)
    assume(found.std > 1e-6)
    interval = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.90)
    scale = max(1.0, abs(found.mean))
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(interval), rel=1e-9, abs=1e-9 * scale)
    assert found.std == pytest.approx(np.std(values, ddof=1), rel=1e-9)


@given(samples, st.sampled_from(["higher", "lower", "match"]))
def test_verdict_agrees_with_one_sided_tests(values: list[float], better: str) -> None:
    value, margin = published(printed="100.0", better=better), Margin(abs=200.0)
    low, high = -100.05, 300.05
    assume(estimate(values).std > 1e-6)
    above_low, below_low, above_high, below_high = (
        scipy.stats.ttest_1samp(values, edge, alternative=side).pvalue
        for edge in (low, high)
        for side in ("greater", "less")
    )
    assume(all(abs(p - PROMISED) > 1e-6 for p in (above_low, below_low, above_high, below_high)))
    if above_low < PROMISED and below_high < PROMISED:
        expected = "equivalent"
    elif above_high < PROMISED:
        expected = "better" if better == "higher" else "worse"
    elif below_low < PROMISED:
        expected = "better" if better == "lower" else "worse"
    else:
        expected = "inconclusive"
    assert judge(value, values, margin) == expected


@given(finite, st.integers(2, 20))
def test_equal_values_have_no_spread(value: float, n: int) -> None:
    found = estimate([value] * n)
    assert (found.mean, found.std, found.ci_low, found.ci_high) == (value, 0.0, value, value)


def test_estimate_of_few() -> None:
    assert estimate([]).n == 0
    assert math.isnan(estimate([]).mean)
    one = estimate([0.25])
    assert (one.n, one.mean) == (1, 0.25)
    assert all(map(math.isnan, (one.std, one.ci_low, one.ci_high)))


# Rules of the verdict


@given(finite, st.sampled_from(["higher", "lower", "match"]))
def test_one_measurement_of_a_random_quantity_proves_nothing(value: float, better: str) -> None:
    assert judge(published(better=better), [value], MARGIN) == "inconclusive"


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.4051, "equivalent"), (0.4251, "equivalent"), (0.4252, "better"), (0.385, "worse")]
)
def test_without_spread_the_position_decides(value: float, verdict: str) -> None:
    assert judge(published(better="higher"), [value] * 3, MARGIN) == verdict


def test_rounding_widens_the_margin() -> None:
    near = [0.4251 + 4e-5] * 2
    assert judge(published(), near, MARGIN) == "equivalent"
    assert judge(published(printed="0.40510"), near, MARGIN) == "worse"


@given(st.lists(st.sampled_from([4484.0, 4483.0, 4485.0, 4484.0000000001]), min_size=1, max_size=4))
def test_counts_must_match_exactly(values: list[float]) -> None:
    expected = "equivalent" if set(values) == {4484.0} else "worse"
    assert judge(published(**COUNT), values, Margin(abs=0.0)) == expected


def test_zero_margin_makes_an_experiment_a_count() -> None:
    successes = published(printed="50", unit="simulations", metric="n_simulations_truth_is_unique_minimiser")
    assert judge(successes, [50.0], Margin(abs=0.0)) == "equivalent"
    # Within the rounding of a printed 50, and still not 50 of 50.
    assert judge(successes, [49.6], Margin(abs=0.0)) == "worse"


def test_values_that_are_not_judged() -> None:
    assert judge(published(), None, MARGIN) == "not_run"
    assert judge(published(), [], MARGIN) == "not_run"
    assert judge(published(kind="cited"), [0.4051] * 5, None) == "cited"
    assert judge(published(), [0.4051] * 5, Margin(judge=False)) == "not_judged"
    assert judge(published(), np.array([0.4051, 0.4052]), MARGIN) == "equivalent"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["experiment", "count", "cited"])
def test_non_finite_measurements_are_refused(bad: float, kind: str) -> None:
    with pytest.raises(ValueError, match=r"'toy.table1.w1': expected finite numbers"):
        judge(published(kind=kind), [0.4, bad], Margin(abs=0.0))


def test_missing_margin_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'toy.table1.w1'.*needs a margin"):
        judge(published(), [0.4, 0.5], None)


MIRROR = {"higher": "lower", "lower": "higher", "match": "match"}


@given(samples, st.decimals(-100, 100, places=3), st.sampled_from(list(MIRROR)), st.floats(0.001, 500))
def test_verdict_is_the_same_in_the_mirror(values: list[float], centre: Decimal, better: str, width: float) -> None:
    margin = Margin(abs=width)
    there = judge(published(printed=f"{centre:f}", better=better), values, margin)
    mirrored = published(printed=f"{centre.copy_negate():f}", better=MIRROR[better])
    assert judge(mirrored, [-value for value in values], margin) == there


def clear_of_edges(values: Sequence[float], low: float, high: float) -> bool:
    found = estimate(values)
    gaps = [abs(end - edge) for end in (found.ci_low, found.ci_high) for edge in (low, high)]
    return min(gaps) > 1e-6


@given(samples, st.decimals(-100, 100, places=3), st.sampled_from(list(MIRROR)), st.floats(0.001, 500))
def test_verdict_does_not_depend_on_the_unit(values: list[float], centre: Decimal, better: str, width: float) -> None:
    reach = width + 0.0005
    assume(clear_of_edges(values, float(centre) - reach, float(centre) + reach))
    fraction = published(printed=f"{centre:f}", better=better)
    percent = published(printed=f"{centre.scaleb(2):f}", better=better, unit="%")
    margin = Margin(abs=width, percent_abs=100 * width)
    assert judge(percent, [100 * value for value in values], margin) == judge(fraction, values, margin)


@given(st.permutations([0.39, 0.4, 0.405, 0.41, 0.43]))
def test_order_of_seeds_does_not_matter(values: list[float]) -> None:
    assert estimate(values) == estimate(sorted(values))


# The table


def all_published() -> list[PublishedValue]:
    return [value for path in sorted((CONFIG / "published").glob("*.csv")) for value in read_published(path)]


def test_with_nothing_measured_all_values_are_listed() -> None:
    values = all_published()
    frame = compare(values, read_margins(CONFIG / "margins.yaml"), {}, [], "smoke")
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame["id"]) == [value.id for value in values]
    assert len(frame) == 155
    kinds = pd.Series([value.kind for value in values])
    assert (frame["verdict"] == np.where(kinds == "cited", "cited", "not_run")).all()
    assert (frame["n"] == 0).all()
    assert (frame[["budget", "dataset", "runs", "deviations"]] == "").all(axis=None)
    assert frame[["mean", "std", "ci_low", "ci_high"]].isna().all(axis=None)
    judged = (kinds != "cited") & (frame["metric"] != "pseudo_weight")
    assert (frame["margin"].notna() == judged).all()


def test_published_numbers_reproduce_themselves() -> None:
    values = all_published()
    measured = {value.id: Measured((value.value,) * 3, "run", "full", value.dataset) for value in values}
    frame = compare(values, read_margins(CONFIG / "margins.yaml"), measured, [], "paper")
    expected = {"experiment": "equivalent", "count": "equivalent", "cited": "cited"}
    for value, verdict in zip(values, frame["verdict"], strict=True):
        assert verdict == ("not_judged" if value.metric == "pseudo_weight" else expected[value.kind])


def example() -> pd.DataFrame:
    """Two measured values at different budgets, one that ran and gave no number, one that did not run."""
    values = [
        published(printed="0.40", printed_std="1.6e-3"),
        published(**COUNT, id="toy.text.n"),
        published(id="toy.table1.w2"),
        published(id="toy.cited", kind="cited", where='Table "2", left'),
    ]
    margins = {"mixture_weight": MARGIN}
    measured = {
        "toy.table1.w1": Measured((0.1, 0.2, 0.4), "toy/run/a", "full", "digits"),
        "toy.text.n": Measured((4484.0,), "toy/run/a;toy/run/b", "stand_in", "digits"),
        "toy.table1.w2": Measured((), "toy/run/a", "full", "digits"),
    }
    deviations = [
        Deviation(id=name, about="a", choice="b", reason="c", source="ours", values=bears_on)
        for name, bears_on in (("seeds", ("toy.table1.w1",)), ("stop", ("toy.table1.w1", "toy.text.n")), ("x", ()))
    ]
    return compare(values, margins, measured, deviations, "laptop")


def test_rows_of_a_comparison() -> None:
    first, count, empty, cited = example().to_dict("records")
    assert (first["published"], first["published_std"], first["std_kind"]) == ("0.40", "1.6e-3", "as printed")
    assert (first["n"], first["margin"], first["scale"]) == (3, 0.02, "laptop")
    assert first["mean"] == pytest.approx(0.7 / 3)
    assert first["verdict"] == "inconclusive"
    assert (first["runs"], first["deviations"]) == ("toy/run/a", "seeds;stop")
    assert (count["verdict"], count["budget"], count["margin"]) == ("equivalent", "stand_in", 0.0)
    assert (count["runs"], count["std_kind"]) == ("toy/run/a;toy/run/b", "")
    assert (empty["verdict"], empty["budget"], empty["runs"]) == ("not_run", "", "")
    assert (cited["verdict"], cited["deviations"]) == ("cited", "")
    assert math.isnan(cited["margin"])


def test_only_full_budget_counts_as_a_reproduction() -> None:
    frame = example()
    assert [counts_as_reproduction(row) for _, row in frame.iterrows()] == [True, False, False, False]


def test_a_difference_without_an_explanation_is_found() -> None:
    frame = example()
    assert missing_deviations(frame) == ()
    frame["deviations"] = ""
    assert missing_deviations(frame) == ("toy.table1.w1",)
    frame["budget"] = "reduced"
    assert missing_deviations(frame) == ()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100), max_size=5))
@settings(max_examples=40)
def test_round_trip_is_exact(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("comparison") / "deep" / "comparison.csv"
    note = 'a "quoted", NA, \n line'
    frame = compare(
        [published(where=note), published(id="toy.other", where="NA")],
        {"mixture_weight": MARGIN},
        {"toy.table1.w1": Measured(tuple(values), "run", "full", "digits")},
        [],
        "smoke",
    )
    write_comparison(frame, path)
    pd.testing.assert_frame_equal(read_comparison(path), frame, check_exact=True)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_written_text_is_what_a_person_expects(tmp_path: Path) -> None:
    path = tmp_path / "comparison.csv"
    write_comparison(example(), path)
    header, first, count, *_ = path.read_bytes().decode().split("\n")
    assert header == ",".join(COLUMNS)
    assert first.startswith("toy.table1.w1,toy,Table 1,mixture_weight,fraction,match,0.40,1.6e-3,as printed,3,0.2333")
    assert ",4484,,,1,4484.0,,,,0.0,equivalent,stand_in,digits,laptop,toy/run/a;toy/run/b,stop" in count


def test_an_empty_comparison_round_trips(tmp_path: Path) -> None:
    frame = compare([], {}, {}, [], "smoke")
    write_comparison(frame, tmp_path / "c.csv")
    pd.testing.assert_frame_equal(read_comparison(tmp_path / "c.csv"), frame)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "comparison.csv"
    write_comparison(example(), path)
    before = path.read_bytes()

    def full_disk(_: pd.DataFrame, target: Path, **__: object) -> None:
        target.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_comparison(example(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("verdict", "verdikt", "expected the columns"),
        ("inconclusive", "inconclusiv", "'verdict': unknown 'inconclusiv'; did you mean 'inconclusive'"),
        ("as printed,3,", "as printed,3.5,", "column 'n'"),
        ("as printed,3,", "as printed,,", "column 'n'"),
        (",0.02,inconclusive", ",wide,inconclusive", "column 'margin'.*wide"),
        (",laptop,toy/run/a,", ",laptop,", "row 1: expected 21 cells, found 20"),
        (",laptop,", ',laptop"\n",x,"', "expected 21 cells|not CSV"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "comparison.csv"
    write_comparison(example(), path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=f"comparison.csv: .*({message})"):
        read_comparison(path)


def test_a_table_that_is_no_comparison_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the columns"):
        write_comparison(example().drop(columns="verdict"), tmp_path / "c.csv")
    assert list(tmp_path.iterdir()) == []


def test_unknown_ids_are_refused() -> None:
    values, margins = [published()], {"mixture_weight": MARGIN}
    with pytest.raises(ValueError, match=r"'toy.table1.w' was measured.*did you mean 'toy.table1.w1'"):
        compare(values, margins, {"toy.table1.w": Measured((0.4,), "r", "full", "d")}, [], "smoke")
    entry = Deviation(id="x", about="a", choice="b", reason="c", source="ours", values=("toy.table1.v1",))
    with pytest.raises(CatalogueError, match=r"deviation 'x'.*'toy.table1.v1'; did you mean 'toy.table1.w1'"):
        compare(values, margins, {}, [entry], "smoke")
    twin = Deviation(id="x", about="a", choice="b", reason="c", source="ours")
    with pytest.raises(CatalogueError, match="'x' is given 2 times"):
        compare(values, margins, {}, [twin, twin], "smoke")


def test_a_metric_without_margin_is_refused() -> None:
    with pytest.raises(CatalogueError, match=r"config/margins.yaml: no margin for metric 'mixture_weight'"):
        compare([published()], {}, {}, [], "smoke")
