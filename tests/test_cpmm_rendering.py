"""Tables and figures of the CPMM paper: complete at every scale, legible, and true to the metrics."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn_paper import DrawnPaper, drawing_style
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from neumix.absent import NOT_RUN
from neumix.mosaics import mosaic
from neumix.papers.cpmm import figures, tables
from neumix.papers.cpmm.claims import table_claims
from neumix.results import Measurement, Results, RunResult
from neumix.run import Run

BY_SCALE = {scale: DrawnPaper("cpmm", scale) for scale in ("smoke", "laptop", "paper")}
PAPER, SMOKE = BY_SCALE["paper"], BY_SCALE["smoke"]
SIDE, CLASSES = 8, 10
BITS = {
    "ffjord": 1.0,
    "teacher": 1.2,
    "matching": 1.3,
    "einet": 1.8,
    "cpmm": 2.0,
    "cpmm_matching": 2.05,
    "einet_matched": 2.2,
    "gmm_curr": 2.4,
    "gmm_sclust": 2.6,
    "gmm_matched": 3.0,
}
"""Made up in the order that the paper claims."""

_style = drawing_style


def image_metrics(run: Run, rng: np.random.Generator, seeds: int) -> dict[str, Any]:
    data = run.data.settings
    model = run.name.partition("_")[2]
    bits = BITS.get(model, 2.3) + 0.001 * rng.random(seeds)
    metrics = {"bits_per_dim": bits, "train_bits_per_dim": bits - 0.1, "n_parameters": np.array([123_456.0])}
    if data.get("base", data).get("other"):
        metrics |= {"auroc": 90 + rng.random(seeds), "aupr": 80 + rng.random(seeds)}
        if run.name == "fashion_ffjord":
            metrics["auroc"] = 9 + rng.random(seeds)
    return metrics


def mixture(run: Run, rng: np.random.Generator) -> Measurement:
    seeds, clusters, count = run.seeds, run.model.settings["clusters"], run.model.settings["components"]
    metrics = image_metrics(run, rng, seeds)
    accuracy = (80 if run.name.endswith("cpmm") else 50) + rng.random(seeds)
    metrics |= {
        "clustering_accuracy": accuracy,
        "n_extracted": np.array([5e5]),
        "missing_bits_per_dim": rng.random(seeds),
    }
    metrics |= {"n_components": np.array([float(clusters * count)]), "used_components": np.full(seeds, clusters + 0.0)}
    if count > 1:
        metrics |= {"first_component_share": np.zeros(seeds), "bits_without_first": np.full(seeds, -7.5e-5)}
    if run.measure.settings.get("integration") is not None:
        metrics |= integration()
    confusion = rng.integers(1, 50, (CLASSES, clusters))
    arrays = {
        "means": pictures(rng, clusters * count),
        "usage": rng.integers(0, 9, (clusters, count)),
        "groups": np.repeat(np.arange(clusters), count),
        "confusion": confusion,
        "originals": pictures(rng, 10),
        "filled": pictures(rng, 10),
    }
    return Measurement(metrics, arrays)


def integration() -> dict[str, Any]:
    """Return what an integral in three ways takes, the first of which gives no image a value."""
    evaluations = {"alone": 50.0, "direct": 44.0, "scaled": 3200.0}
    metrics = {f"integration_evaluations_{way}": [count] for way, count in evaluations.items()}
    metrics |= {f"integration_missing_{way}": [float(way == "direct")] for way in ("direct", "scaled", "logs", "sum")}
    metrics |= {"integration_error_scaled": [0.5], "integration_error_logs": [0.0], "integration_error_sum": [2.25]}
    return metrics | {"integration_grid": [257.0], "integration_change": [0.004]}


def clusters(run: Run, rng: np.random.Generator) -> Measurement:
    return Measurement({"clustering_accuracy": 70 + rng.random(run.seeds)}, {})


def circuit(run: Run, rng: np.random.Generator) -> Measurement:
    ratio = {"parameter_ratio": np.array([10.0])} if run.measure.settings.get("needs") else {}
    return Measurement(image_metrics(run, rng, run.seeds) | ratio, {})


def flow(run: Run, rng: np.random.Generator) -> Measurement:
    if run.experiment != "planes":
        metrics = image_metrics(run, rng, run.seeds) | {"finer_bits": np.full(run.seeds, 0.004)}
        return Measurement(metrics, {"samples": pictures(rng, 100)})
    spaces = run.measure.settings["spaces"]
    grown = rng.normal(size=(1600, 1, 2)) * np.linspace(1, 3, spaces)[:, None]  # the data are three times as wide
    return Measurement({"nll": [2.0]}, {"spaces": grown.astype(np.float32)})


def plane(run: Run, rng: np.random.Generator) -> Measurement:
    clusters, count = run.model.settings["clusters"], run.model.settings["components"]
    arrays = {
        "points": rng.normal(size=(2000, 2)),
        "labels": rng.integers(0, clusters, 2000),
        "samples": rng.normal(size=(2000, 2)),
        "clusters": rng.integers(0, clusters, 2000),
        "means": rng.normal(size=(clusters, count, 2)),
        "covariances": np.tile(np.array([[0.04, 0.0], [0.0, 0.01]]), (clusters, count, 1, 1)),
    }
    arrays["covariances"][0, 1] = [[0.025, 0.015], [0.015, 0.025]]  # turned by 45 degrees
    return Measurement({"nll": [1.0], "clustering_accuracy": [90.0]}, arrays)


def pictures(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return rng.integers(0, 256, (*shape, SIDE, SIDE), dtype=np.uint8)


MEASURES = {"mixture": mixture, "circuit": circuit, "clusters": clusters, "flow": flow, "plane": plane}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {scale: paper.write(tmp_path_factory.mktemp(scale), MEASURES, seed=3) for scale, paper in BY_SCALE.items()}


@pytest.fixture
def root(roots: Mapping[str, Path]) -> Path:
    return roots["paper"]


def figure(root: Path, item: str) -> Figure:
    return PAPER.figure(root, item)


def table(root: Path, item: str) -> pd.DataFrame:
    return PAPER.table(root, item)


class Changed(Results):
    """Results with a metric changed to what a function makes of the run's name and values."""

    def __init__(self, results: Results, metric: str, change: Callable[[str, Any], Any]) -> None:
        super().__init__(results.root, results.paper, results.runs)
        self.metric, self.change = metric, change

    def __getitem__(self, run: str) -> RunResult:
        found = super().__getitem__(run)
        if self.metric not in found.metrics:
            return found
        values = [float(value) for value in self.change(run, found.values(self.metric))]
        return dataclasses.replace(found, metrics={**found.metrics, self.metric: values})


def claims(root: Path, metric: str = "", change: Callable[[str, Any], Any] = lambda _, values: values) -> pd.DataFrame:
    return table_claims(Changed(PAPER.results(root, "table_claims"), metric, change)).set_index("Claim")


def test_every_item_has_its_function_and_every_function_its_item() -> None:
    assert set(tables.__all__) == set(PAPER.tables)
    assert set(figures.__all__) == set(PAPER.figures)


def test_importing_tables_and_figures_does_not_import_torch() -> None:
    PAPER.assert_torch_is_not_imported()


@pytest.mark.parametrize("scale", BY_SCALE)
@pytest.mark.parametrize("item", PAPER.tables)
def test_tables_hold_text_in_every_cell(roots: Mapping[str, Path], item: str, scale: str) -> None:
    BY_SCALE[scale].assert_complete(roots[scale], item)


@pytest.mark.parametrize("scale", BY_SCALE)
@pytest.mark.parametrize("item", PAPER.figures)
def test_texts_do_not_overlap_and_stay_inside(roots: Mapping[str, Path], item: str, scale: str) -> None:
    BY_SCALE[scale].assert_legible(roots[scale], item)


@pytest.mark.parametrize("item", PAPER.figures)
def test_a_figure_without_runs_says_so_in_every_panel(root: Path, item: str) -> None:
    drawn = getattr(figures, item)(Results(root, "cpmm", []))
    panels = [panel for panel in drawn.axes if not hasattr(panel, "_colorbar")]
    assert [[text.get_text() for text in panel.texts] for panel in panels] == [[NOT_RUN]] * len(panels)


def test_tables_without_runs_say_so_in_every_cell(root: Path) -> None:
    nothing = Results(root, "cpmm", [])
    for frame, names in ((tables.table1(nothing)[:9], 1), (tables.table2(nothing), 1), (tables.table3(nothing), 2)):
        assert set(frame.iloc[:, names:].to_numpy().ravel()) == {NOT_RUN}
    assert "in Fashion-MNIST, out MNIST: AUROC (%)" in tables.table2(nothing)


def test_table_1_has_the_rows_of_the_paper(root: Path, roots: Mapping[str, Path]) -> None:
    frame = table(root, "table1").set_index("Model")
    ours = ["Matched GMM", "GMM w/ S.Clust.", "EiNet (Matched)", "EiNet (Large)", "GMM w/ Curr.", "CPMM"]
    assert list(frame.index) == [*ours, "Teacher", "FFJORD", "VaDE (ours)", "VADE", "SPC", "DLS"]
    assert list(frame) == ["Images", "MNIST BPD", "MNIST Acc. (%)", "Fashion-MNIST BPD", "Fashion-MNIST Acc. (%)"]
    assert list(frame["Images"]) == ["28 x 28"] * 9 + ["–"] * 3
    results = PAPER.results(root, "table1")
    accuracy = results["students/fashion_cpmm"].values("clustering_accuracy")
    assert frame.loc["CPMM", "Fashion-MNIST Acc. (%)"] == f"{accuracy[0]:.2f}"
    bits = results["baselines/mnist_gmm_matched"].values("bits_per_dim")
    assert frame.loc["Matched GMM", "MNIST BPD"] == f"{bits.mean():.2f} ({bits.std(ddof=1):.2f})"
    assert frame.loc["EiNet (Large)", "MNIST BPD"] == "1.80" and frame.loc["EiNet (Matched)", "MNIST BPD"] == "2.20"
    assert set(frame["MNIST Acc. (%)"][["EiNet (Large)", "Teacher", "FFJORD"]]) == {"–"}
    vade = results["vade/fashion"].values("clustering_accuracy")
    assert list(frame.loc["VaDE (ours)"][3:]) == ["–", f"{vade.mean():.2f} ({vade.std(ddof=1):.2f})"]
    assert list(frame.loc["SPC"][1:]) == ["–", "quoted by the paper"] * 2
    smoke = SMOKE.table(roots["smoke"], "table1").set_index("Model")
    assert [name for name in smoke if name.endswith("BPD")] == [
        "digits in place of MNIST BPD",
        "image patches in place of Fashion-MNIST BPD",
    ]
    assert set(smoke.loc["FFJORD"][3:]) == set(smoke.loc["EiNet (Large)"][3:]) == {NOT_RUN}


def test_table_2_names_both_datasets_of_each_direction(root: Path, roots: Mapping[str, Path]) -> None:
    frame = table(root, "table2").set_index("Model")
    assert list(frame.index[:2]) == ["CPMM", "FFJORD"]
    assert list(frame)[2:4] == ["in MNIST, out Fashion-MNIST: AUPR (%)", "in Fashion-MNIST, out MNIST: AUROC (%)"]
    auroc = PAPER.results(root, "table2")["flows/fashion_ffjord"].values("auroc")
    assert frame.loc["FFJORD", "in Fashion-MNIST, out MNIST: AUROC (%)"] == f"{auroc[0]:.2f}"
    smoke = SMOKE.table(roots["smoke"], "table2")
    assert list(smoke)[2::2] == ["in digits, out image patches: AUROC (%)", "in image patches, out digits: AUROC (%)"]


def test_table_3_is_in_the_papers_order(root: Path) -> None:
    frame = table(root, "table3")
    assert list(frame["Init."]) == ["Random", "kmeans", "kmeans", "kmeans*"]
    assert list(frame["Diagonal"]) == ["Constant", "Constant", "Variable", "Constant"]
    run = PAPER.results(root, "table3")["mnist_ablation/kmeans_constant_sep"]
    assert frame["Acc. (%)"][3] == f"{run.values('clustering_accuracy')[0]:.2f}"


def test_teachers_stand_beside_their_students(root: Path, roots: Mapping[str, Path]) -> None:
    frame = table(root, "table_teachers")
    trained = ["Teacher, maximum likelihood", "FFJORD, maximum likelihood", "Teacher, flow matching"]
    assert list(frame["Flow, trained by"]) == [way for way in trained for _ in range(2)]
    assert list(frame["Dataset"]) == ["MNIST", "Fashion-MNIST"] * 3
    assert list(frame["Flow BPD"]) == ["1.20", "1.20", "1.00", "1.00", "1.30", "1.30"]
    assert set(frame["Change of BPD with four times the solver's steps"]) == {"0.004"}
    assert list(frame["CPMM BPD"]) == ["2.00", "2.00", "–", "–", "2.05", "2.05"]
    assert list(SMOKE.table(roots["smoke"], "table_teachers")["Dataset"]) == [
        "digits",
        "image patches",
        "digits",
        "digits",
    ]


def test_mixtures_of_single_components_have_no_first_ones(root: Path) -> None:
    frame = table(root, "table_mixtures").set_index("Run")
    column = "Change of BPD without the first components"
    assert frame.loc["baselines/mnist_gmm_sclust", column] == "–"
    assert frame.loc["students/mnist_cpmm", column] == "-0.000075"
    assert frame.loc["students/mnist_cpmm", "Components"] == "250"
    assert list(frame.index) == list(PAPER.items["table_mixtures"].runs)


def test_integrals_without_a_value_have_no_error(root: Path) -> None:
    frame = table(root, "table_integration")
    assert list(frame["Evaluations of the equation"]) == ["44", "3200", "50", "50"]
    assert list(frame["Pseudotimes"]) == ["–", "–", "257", "–"]
    assert list(frame["Last change (nats)"]) == ["–", "–", "0.0040", "–"]
    assert list(frame["Images without a value (%)"]) == ["100", "0", "0", "0"]
    assert list(frame["Largest error (nats)"]) == ["–", "0.5000", "0.0000", "2.2500"]


def test_claims_hold_by_their_numbers(root: Path) -> None:
    frame = claims(root)
    assert set(frame["Verdict"]) == {"holds"}
    assert len(frame) == 9 + 3 + 1 + 2
    evidence = frame["Evidence"]["CPMM has fewer bits per dimension than Matched GMM"]
    assert (
        evidence.startswith("MNIST, 28 x 28: 2.00")
        and "; Fashion-MNIST, 28 x 28: 2.00" in evidence
        and "(one seed)" in evidence
    )
    assert "CPMM tells MNIST from Fashion-MNIST better than FFJORD does" in frame.index


@pytest.mark.parametrize(
    ("metric", "claim"),
    [
        ("bits_per_dim", "Teacher has fewer bits per dimension than CPMM"),
        ("clustering_accuracy", "CPMM has a higher clustering accuracy than GMM w/ Curr."),
        ("auroc", "CPMM tells MNIST from Fashion-MNIST better than FFJORD does"),
    ],
)
def test_claims_do_not_hold_by_the_contrary_and_are_open_if_nothing_differs(
    root: Path, metric: str, claim: str
) -> None:
    assert claims(root, metric, lambda _, values: -values)["Verdict"][claim] == "does not hold"
    assert claims(root, metric, lambda _, values: 0 * values)["Verdict"][claim] == "not decided"


@pytest.mark.parametrize(("gap", "verdict"), [(1.0, "holds"), (0.1, "not decided"), (-1.0, "does not hold")])
def test_with_several_seeds_an_interval_decides(root: Path, gap: float, verdict: str) -> None:
    noise = np.array([-0.3, 0.0, 0.3])

    def change(name: str, _: Any) -> Any:
        return 2 + (noise if name.endswith("_cpmm") else gap + 0 * noise)

    found = claims(root, "bits_per_dim", change)
    name = "CPMM has fewer bits per dimension than GMM w/ Curr."
    assert found["Verdict"][name] == verdict
    half = 4.302653 * 0.3 / math.sqrt(3)
    assert f"better by {gap:+.3f} ± {half:.3f}" in found["Evidence"][name]


def test_models_are_compared_on_the_same_images(roots: Mapping[str, Path]) -> None:
    laptop = BY_SCALE["laptop"]
    evidence = laptop.table(roots["laptop"], "table_claims").set_index("Claim")["Evidence"]
    whole = evidence.index[evidence.str.contains("28 x 28")]
    assert list(whole) == ["GMM w/ S.Clust. has fewer bits per dimension than Matched GMM"]
    results = laptop.results(roots["laptop"], "table1")
    ours, theirs = (
        results[f"{name}/mnist_{model}"].values("bits_per_dim").mean()
        for name, model in (("students", "cpmm"), ("small_baselines", "gmm_sclust"))
    )
    found = evidence["CPMM has fewer bits per dimension than GMM w/ S.Clust."]
    assert found.startswith(f"MNIST, 14 x 14: {ours:.3f} against {theirs:.3f}, ")
    frame = laptop.table(roots["laptop"], "table1").set_index(["Model", "Images"])
    assert {("Matched GMM", "28 x 28"), ("Matched GMM", "14 x 14"), ("CPMM", "14 x 14")} <= set(frame.index)


def test_what_is_undecided_or_refuted_on_one_dataset_is_so_in_all(root: Path) -> None:
    worse = claims(root, "bits_per_dim", lambda name, values: values + 9 * (name == "students/fashion_cpmm"))
    assert worse["Verdict"]["CPMM has fewer bits per dimension than Matched GMM"] == "does not hold"
    assert worse["Verdict"]["Teacher has fewer bits per dimension than CPMM"] == "holds"


def test_only_seeds_that_both_have_are_compared(root: Path) -> None:
    found = claims(root, "bits_per_dim", lambda name, _: [1.0] if name.endswith("_cpmm") else [2.0, 7.0])
    name = "CPMM has fewer bits per dimension than Matched GMM"
    assert found["Evidence"][name].startswith("MNIST, 28 x 28: 1.000 against 2.000, better by +1.000 (one seed)")


def test_a_first_component_that_is_used_refutes_that_it_never_is(root: Path) -> None:
    used = claims(root, "first_component_share", lambda name, values: values + 0.25 * ("mnist" in name))
    assert used["Verdict"]["The first component of a trajectory is never the most likely one: MNIST"] == "does not hold"
    assert used["Verdict"]["The first component of a trajectory is never the most likely one: Fashion-MNIST"] == "holds"
    assert "25.00%" in used["Evidence"]["The first component of a trajectory is never the most likely one: MNIST"]


def test_claims_name_what_was_measured_and_leave_out_what_was_not(roots: Mapping[str, Path]) -> None:
    frame = SMOKE.table(roots["smoke"], "table_claims").set_index("Claim")
    assert not [claim for claim in frame.index if "FFJORD does" in claim], "no FFJORD has seen image patches"
    assert "Fashion" not in "\n".join([*frame.index, *frame["Evidence"]])
    evidence = frame["Evidence"]["CPMM has fewer bits per dimension than EiNet (Matched)"]
    assert evidence.startswith("digits, 8 x 8: ") and ";" not in evidence


def test_ellipses_lie_at_two_standard_deviations(root: Path) -> None:
    panels = figure(root, "fig1").axes
    drawn = [patch for patch in panels[1].patches if isinstance(patch, Ellipse)]
    run = PAPER.results(root, "fig1")["synthetic/three"]
    assert len(panels[0].patches) == 25 and len(drawn) == 3 * 25
    np.testing.assert_allclose(drawn[0].get_center(), run.arrays["means"][0, 0])
    assert (drawn[0].get_width(), drawn[0].get_height()) == pytest.approx((4 * 0.2, 4 * 0.1))
    assert drawn[0].get_angle() % 180 == pytest.approx(0)
    values = np.linalg.eigvalsh(run.arrays["covariances"][0, 1])
    assert (drawn[1].get_height(), drawn[1].get_width()) == pytest.approx(tuple(4 * np.sqrt(values)))
    assert drawn[1].get_angle() % 180 == pytest.approx(45)
    assert [panel.get_xlabel() for panel in panels[:2]] == ["$x_1$"] * 2
    assert panels[2].get_ylabel() == "pseudotime of the first trajectory"


def test_spaces_lead_from_the_latent_to_the_data_and_keep_their_labels(root: Path) -> None:
    drawn = figure(root, "fig2")
    panels = drawn.axes
    assert [panel.get_title() for panel in panels[:2]] == ["v = 1.00", "v = 0.88"]
    assert panels[8].get_title() == "v = 0.00"
    spaces = PAPER.results(root, "fig2")["planes/crescents"].arrays["spaces"]
    for panel, place in ((panels[0], 0), (panels[4], 25), (panels[8], 50)):
        np.testing.assert_allclose(panel.collections[0].get_offsets(), spaces[:1500, place])
    assert [panel.get_xlabel() for panel in panels] == [""] * 6 + ["$u_1$"] * 3
    assert [panel.get_ylabel() for panel in panels] == ["$u_2$", "", ""] * 3
    assert drawn.get_supxlabel() == "", "the budget's note is written there"


def test_samples_lie_below_the_data_on_the_same_axes(root: Path) -> None:
    panels = figure(root, "fig3").axes
    arrays = PAPER.results(root, "fig3")["synthetic/spiral"].arrays
    above, below = panels[1], panels[3]
    assert above.get_title().startswith("spiral") and above.get_xlim() == below.get_xlim()
    for panel, points, labels in ((above, "points", "labels"), (below, "samples", "clusters")):
        np.testing.assert_allclose(panel.collections[0].get_offsets(), arrays[points][:1500])
        np.testing.assert_array_equal(panel.collections[0].get_array(), arrays[labels][:1500])
    assert {(panel.get_xlabel(), panel.get_ylabel()) for panel in panels} == {("$x_1$", "$x_2$")}


def test_trajectories_are_ordered_by_class_and_run_through_pseudotime(root: Path) -> None:
    arrays = PAPER.results(root, "fig5")["students/fashion_cpmm"].arrays
    panel = figure(root, "fig5").axes[0]
    classes = arrays["confusion"].argmax(0)
    order = sorted(range(10), key=lambda cluster: classes[cluster])
    shown = np.arange(0, 25, 2)
    expected = mosaic(arrays["means"].reshape(10, 25, SIDE, SIDE)[order][:, shown])
    np.testing.assert_array_equal(np.asarray(panel.images[0].get_array()), expected)
    assert [label.get_text() for label in panel.get_yticklabels()] == [str(classes[cluster]) for cluster in order]
    np.testing.assert_allclose(panel.get_yticks(), (SIDE + 1) * np.arange(10) + (SIDE - 1) / 2)
    times = {tick: label.get_text() for tick, label in zip(panel.get_xticks(), panel.get_xticklabels(), strict=True)}
    assert times[(SIDE - 1) / 2] == "0.00" and times[(SIDE + 1) * 12 + (SIDE - 1) / 2] == "1.00"
    assert panel.get_title() == "Fashion-MNIST" and panel.get_xlabel() == "pseudotime"


def test_trajectories_without_images_come_first_and_have_no_class(root: Path) -> None:
    class Unused(Results):
        def __getitem__(self, run: str) -> RunResult:
            found = super().__getitem__(run)
            confusion = np.zeros((10, 9), int)  # nothing is in the tenth cluster
            confusion[[9 - cluster for cluster in range(2, 9)], range(2, 9)] = 5
            confusion[8, 1] = 5  # nothing is in the first
            return dataclasses.replace(found, arrays={**found.arrays, "confusion": confusion})

    panel = figures.fig4(Unused(root, "cpmm", ["students/mnist_cpmm"])).axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["–", "–", *"1234567", "8"]
    means = PAPER.results(root, "fig4")["students/mnist_cpmm"].arrays["means"].reshape(10, 25, SIDE, SIDE)
    image = np.asarray(panel.images[0].get_array())
    rows = [image[(SIDE + 1) * row :][:SIDE, :SIDE] for row in range(10)]
    np.testing.assert_array_equal(rows, means[[0, 9, 8, 7, 6, 5, 4, 3, 2, 1], 0])


def test_filled_images_lie_below_their_originals(root: Path, roots: Mapping[str, Path]) -> None:
    panels = figure(root, "fig_inpainting").axes
    arrays = PAPER.results(root, "fig_inpainting")["students/mnist_cpmm"].arrays
    image = np.asarray(panels[1].images[0].get_array())
    np.testing.assert_array_equal(image[:SIDE, :SIDE], arrays["originals"][0])
    np.testing.assert_array_equal(image[-SIDE:, -SIDE:], arrays["filled"][9])
    assert panels[1].get_title() == "mnist_cpmm: MNIST, lower half filled in below"
    smoke = SMOKE.figure(roots["smoke"], "fig_inpainting").axes
    assert smoke[2].get_title().startswith("fashion_cpmm: image patches")


def test_sweeps_are_drawn_over_what_changes(root: Path, roots: Mapping[str, Path]) -> None:
    panels = figure(root, "fig_sweeps").axes
    results = PAPER.results(root, "fig_sweeps")
    swept = (("components", 25, [1, 5, 10, 25]), ("rank", 6, [1, 3, 6, 12]))
    for column, (setting, base, values) in enumerate(swept):
        for panel, metric in ((panels[column], "bits_per_dim"), (panels[2 + column], "clustering_accuracy")):
            line = panel.lines[0]
            assert list(line.get_xdata()) == values
            runs = ["base" if value == base else f"{setting}_{value}" for value in values]
            expected = [results[f"sweeps/{run}"].values(metric).mean() for run in runs]
            np.testing.assert_allclose(np.asarray(line.get_ydata(), float), expected)
    assert [panel.get_xlabel() for panel in panels] == ["", "", "components G of a trajectory", "rank R"]
    assert [panel.get_ylabel() for panel in panels[::2]] == ["bits/dim", "clustering accuracy (%)"]
    smoke = SMOKE.figure(roots["smoke"], "fig_sweeps").axes
    assert [list(panel.lines[0].get_xdata()) for panel in smoke[:2]] == [[1, 5], [1, 3]]
