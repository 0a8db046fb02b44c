"""Tables and figures of the InClass nets paper: complete, legible, and true to the metrics."""

import dataclasses
import functools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn_paper import DrawnPaper, drawing_style
from figure_checks import is_colourbar
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from neumix import dag, rendering
from neumix.mixtures import ProductMixture
from neumix.papers.inclass import figures, panels, tables
from neumix.papers.inclass.readings import Band, LabelTable, mixture_of, weight_range
from neumix.results import Measurement, Results, RunResult
from neumix.run import Run

PAPER = DrawnPaper("inclass", "laptop")
ITEMS = PAPER.items
DIAGRAMS = [name for name, item in ITEMS.items() if item.kind == "diagram"]
Arrays = dict[str, np.ndarray[Any, Any]]

_style = drawing_style


def truth_of(run: Run) -> ProductMixture:
    settings = json.loads(json.dumps(dag.training_settings(run)))
    return mixture_of(RunResult({}, {}, settings))


def recovery(run: Run, seeds: int, rng: np.random.Generator) -> Measurement:
    truth, points = truth_of(run), 60
    components, variates = len(truth.weights), truth.n_variates
    weights = np.asarray(truth.weights)
    grid = np.stack([truth.grid(v, points) for v in range(variates)])
    densities = np.stack([truth.densities(v, t) for v, t in enumerate(grid)], 1)  # (C, V, G)
    marginal = np.tensordot(weights, densities, 1)
    exact = weights[:, None, None] * densities / marginal.clip(1e-300)
    noise = rng.uniform(0.9, 1.1, (seeds, components, variates, 1))
    metrics: dict[str, Any] = {"weight_error": rng.random(seeds), "density_error": rng.random(seeds)}
    metrics |= {"cost": -rng.random(seeds), "gamma": rng.uniform(0.8, 1.2, seeds)}
    for i in range(components):
        metrics[f"weight_{i + 1}"] = rng.random(seeds)
        metrics[f"true_weight_{i + 1}"] = [weights[i]]
        metrics |= {f"pseudo_weight_{v}{i + 1}": rng.random(seeds) for v in "xyz"[:variates]}
    arrays: Arrays = {
        "grid": grid,
        "marginal": marginal,
        "densities": densities * noise,
        "true_densities": densities,
        "classifiers": np.clip(exact * noise, 0, 1),
        "true_classifiers": exact,
        "true_weights": weights,
    }
    if variates == 2:
        axes = np.stack([truth.grid(v, 40) for v in range(2)])
        joint = truth.joint(np.stack(np.meshgrid(*axes, indexing="ij"), -1))
        posterior = joint / joint.sum(0).clip(1e-300)
        arrays |= {"axes": axes, "aggregate": posterior, "true_aggregate": posterior, "joint": joint}
    return Measurement(metrics, arrays)


def classification(run: Run, seeds: int, rng: np.random.Generator) -> Measurement:
    metrics = {f"accuracy_{stage}": rng.uniform(80, 90, seeds) for stage in run.stages}
    confusions = {f"confusion_{stage}": rng.dirichlet(np.ones(10), (seeds, 10)) for stage in run.stages}
    return Measurement(metrics, {"examples": rng.random((5, 2, 8, 8)), **confusions})


def held_out_cost(run: Run, seeds: int, rng: np.random.Generator) -> Measurement:
    components = run.model.settings["components"]
    return Measurement({"held_out_cost": -rng.random(seeds), "components": [components]}, {})


def total_correlation(run: Run, seeds: int, rng: np.random.Generator) -> Measurement:
    estimates = {"total_correlation": rng.random(seeds), "donsker_varadhan_bound": rng.random(seeds)}
    return Measurement({**estimates, "exact_total_correlation": [0.5], "exact_standard_error": [0.001]}, {})


def multi_label(run: Run, seeds: int, rng: np.random.Generator) -> Measurement:
    table = np.array(run.data.settings["table"])
    metrics = {name: rng.random(seeds) for name in ("accuracy_x", "accuracy_y", "mutual_information")}
    classes = np.stack([rng.integers(size, size=200) for size in table.shape], -1)
    arrays = {"points": rng.normal(size=(200, 2, 2)), "classes": classes, "table": table}
    return Measurement({**metrics, "true_mutual_information": [0.5]}, arrays)


MEASURES = {
    "classification": classification,
    "equivalent_family": recovery,
    "held_out_cost": held_out_cost,
    "mixture_recovery": recovery,
    "multi_label": multi_label,
    "total_correlation": total_correlation,
}


def write_results(root: Path, seeds: int) -> Path:
    measures = {name: functools.partial(of_seeds, measure, seeds) for name, measure in MEASURES.items()}
    return PAPER.write(root, measures, seed=7)


def of_seeds(measure: Any, seeds: int, run: Run, rng: np.random.Generator) -> Measurement:
    return measure(run, seeds, rng)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("results"), seeds=4)


@pytest.fixture(scope="module")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_results(tmp_path_factory.mktemp("one"), seeds=1)


def results(root: Path, item: str) -> Results:
    return PAPER.results(root, item)


def table(root: Path, item: str) -> pd.DataFrame:
    return PAPER.table(root, item)


def figure(root: Path, item: str) -> Figure:
    return PAPER.figure(root, item)


def test_every_item_has_its_function_and_every_function_its_item() -> None:
    assert set(tables.__all__) == set(PAPER.tables)
    assert set(figures.__all__) == set(PAPER.figures)


def test_importing_tables_and_figures_does_not_import_torch() -> None:
    PAPER.assert_torch_is_not_imported()


@pytest.mark.parametrize("item", PAPER.tables)
@pytest.mark.parametrize("folder", ["root", "one_seed"])
def test_tables_hold_text_in_every_cell(item: str, folder: str, request: pytest.FixtureRequest) -> None:
    PAPER.assert_complete(request.getfixturevalue(folder), item)


@pytest.mark.parametrize("item", PAPER.figures)
def test_figures_draw_a_single_seed_without_warnings(one_seed: Path, item: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure(one_seed, item).canvas.draw()


@pytest.mark.parametrize("item", PAPER.figures)
def test_panels_are_labelled(root: Path, item: str) -> None:
    drawn = figure(root, item)
    visible = [axes for axes in drawn.axes if axes.axison]
    assert bool(visible) == (item not in DIAGRAMS)
    if item == "fig11":  # images have no scales; rows and columns are named
        assert all(axes.get_ylabel() for axes in visible[::5]) and all(axes.get_title() for axes in visible[:5])
        return
    for axes in visible:
        assert is_colourbar(axes) or axes.get_xlabel()
        assert axes.get_ylabel() or any(other.get_ylabel() for other in axes.get_shared_y_axes().get_siblings(axes))


@pytest.mark.parametrize("item", PAPER.figures)
def test_texts_do_not_overlap_and_stay_inside(root: Path, item: str) -> None:
    PAPER.assert_legible(root, item)


def test_weights_are_the_metrics(root: Path) -> None:
    for item, title, components in (("table2", "Weight", 2), ("table3", "Estimated weight", 4)):
        frame, run = table(root, item), results(root, item)[ITEMS[item].runs[0]]
        column = f"{title} (mean ± SD of 4 seeds)"
        for i in range(components):
            values = run.values(f"weight_{i + 1}")
            assert frame[column][i] == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"


def test_pseudo_weights_are_the_metrics(root: Path) -> None:
    frame, run = table(root, "table2"), results(root, "table2")["two_gaussians/main"]
    for variate in "xy":
        values = run.values(f"pseudo_weight_{variate}2")
        cell = frame[f"Pseudo weight of {variate} (mean ± SD of 4 seeds)"][1]
        assert cell == f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}"
    assert list(frame["True weight"]) == ["0.4", "0.6"]


def test_specifications_are_those_of_the_catalogue(root: Path) -> None:
    first = table(root, "table1")
    assert list(first.loc[0]) == ["1", "0.4", "Normal(mean -1, SD 1.5)", "Normal(mean -1, SD 1.5)"]
    assert table(root, "table3")["z"][3] == "Normal(mean 2, SD 2.5)"


def test_costs_are_sorted_and_measured_from_the_exact_bound(root: Path) -> None:
    frame = table(root, "table_components").set_index("Quantity")
    assert list(frame.index[:6]) == [f"C = {components}" for components in range(1, 7)]
    cost = results(root, "table_components")["number_of_components/c3"].values("held_out_cost").mean()
    assert frame.loc["C = 3", "Above -C*, exact"] == f"{cost + 0.5:.4f}"
    assert frame.loc["C = 1", "Above -C*, exact"] == "0.5000"
    assert frame.loc["-C*, exact"].iloc[0] == "-0.5000 (standard error 0.0010)"


def test_conditions_are_the_exact_ones(root: Path) -> None:
    frame = table(root, "table_identifiability").set_index("Mixture")
    assert list(frame["Unique"]) == ["yes", "yes", "no"]
    linear = frame.loc["linear densities"]
    supremum = (0.4 * 1.8 / (0.4 * 1.8 + 0.6 * 0.2), 0.6 * 1.8 / (0.6 * 1.8 + 0.4 * 0.2))
    assert linear["Eq. (37), x"] == linear["Eq. (36), y"] == f"{supremum[0]:.4f} and {supremum[1]:.4f}"
    ratios = ((supremum[1] - 0.6) ** 2 / 0.24, 0.24 / (supremum[0] - 0.4) ** 2)
    low, high = (ratio / (1 + ratio) for ratio in ratios)
    assert linear["Allowed weight of component 1"] == f"{low:.4f} to {high:.4f}"
    assert frame.loc["checkerboard", "Allowed weight of component 1"] == "0.5000 to 0.5000"


def test_no_range_of_weights_is_left_where_components_dominate() -> None:
    assert weight_range(np.array([0.4, 0.6]), np.ones(2), np.ones(2)) == pytest.approx((0.4, 0.4))
    assert weight_range(np.array([0.4, 0.6]), np.array([0.4, 0.6]), np.array([0.4, 0.6])) == (0.0, 1.0)


def test_coverage_weighs_points_by_the_data(root: Path) -> None:
    run = results(root, "table_uncertainty")["uncertainty/seeds"]
    band = dataclasses.replace(
        Band.of(run),
        mean=np.array([0.5, 0.5]),
        exact=np.array([0.6, 0.9]),
        sd=np.array([0.1, 0.1]),
        mass=np.array([0.75, 0.25]),
    )
    assert (band.coverage, band.mean_sd) == (0.75, pytest.approx(0.1))
    assert Band.of(run).mass.sum() == pytest.approx(1)


@pytest.mark.parametrize(("item", "array"), [("fig5", "classifiers"), ("fig13", "densities"), ("fig15", "densities")])
def test_every_seed_and_component_is_drawn_once(root: Path, item: str, array: str) -> None:
    run = results(root, item)[ITEMS[item].runs[0]]
    seeds, components, variates, _ = run.arrays[array].shape
    for variate, axes in enumerate(figure(root, item).axes[:variates]):
        lines = {colour: coloured(axes, colour) for colour in (rendering.ESTIMATED, rendering.TRUE)}
        inside = panels.crop(run.arrays["marginal"][variate])
        assert len(lines[rendering.ESTIMATED]) == seeds * components
        np.testing.assert_array_equal(
            np.stack([line.get_ydata() for line in lines[rendering.ESTIMATED]]),
            run.arrays[array][:, :, variate, inside].swapaxes(0, 1).reshape(seeds * components, -1),
        )
        exact = run.arrays[f"true_{array}"][:, variate, inside]
        np.testing.assert_array_equal(np.stack([line.get_ydata() for line in lines[rendering.TRUE]]), exact)
        assert {line.get_linestyle() for line in lines[rendering.TRUE]} == {"-."}


def coloured(axes: Axes, colour: str) -> list[Any]:
    return [line for line in axes.lines if to_rgba(line.get_color()) == to_rgba(colour)]


def test_only_the_first_component_of_the_checkerboard_is_drawn(root: Path) -> None:
    for axes in figure(root, "fig10").axes:
        assert len(coloured(axes, rendering.ESTIMATED)) == 4
        assert len(coloured(axes, rendering.TRUE)) == 1


def test_checkerboard_squares_are_bright_where_they_should_be(root: Path) -> None:
    image = figure(root, "fig8").axes[0].images[0]
    assert image.origin == "lower"
    assert image.get_extent() == pytest.approx([0, 4, 0, 4])
    bright = np.asarray(image.get_array()) > 0
    rows, columns = np.indices(bright.shape) * 4 // len(bright)
    np.testing.assert_array_equal(bright, (rows + columns) % 2 == 0)


def test_heatmap_puts_x_on_the_horizontal_axis() -> None:
    values = np.zeros((3, 2))
    values[2, 0] = 1.0  # at large x and small y
    image = panels.heatmap(Figure().subplots(), np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0]), values, (0, 1))
    assert np.asarray(image.get_array())[0, 2] == 1
    assert image.get_extent() == [0.5, 3.5, 4.5, 6.5]


def test_confusion_cells_and_titles(root: Path) -> None:
    axes = figure(root, "fig12").axes[:3]
    expected = [("semisup", "pairs"), ("semisup", "seeding"), ("supervised", "clean")]
    for panel, (name, stage) in zip(axes, expected, strict=True):
        run = results(root, "fig12")[f"mnist_pairs/{name}"]
        cells = [text.get_text() for text in panel.texts]
        assert cells == [f"{value:.2f}" for value in run.arrays[f"confusion_{stage}"].mean(0).ravel()]
        assert f"{run.values(f'accuracy_{stage}').mean():.2f} ±" in panel.get_title()


def test_cost_curve_starts_at_zero_and_follows_the_means(root: Path) -> None:
    line = figure(root, "fig_components").axes[0].lines[0]
    runs = results(root, "fig_components")
    means = [runs[f"number_of_components/c{count}"].values("held_out_cost").mean() for count in range(2, 7)]
    assert list(line.get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert list(line.get_ydata()) == [0, *means]


def test_prior_shows_every_seed_and_an_allowed_region_around_the_truth(root: Path) -> None:
    axes = figure(root, "fig_prior").axes[0]
    assert [len(line.get_xdata()) for line in axes.lines] == [4, 4, 4, 1]
    assert axes.collections[0].get_paths()[0].contains_point((0.4, 1.0))
    assert not axes.collections[0].get_paths()[0].contains_point((0.7, 1.0))


def test_allowed_weights_shrink_to_the_true_one(root: Path) -> None:
    low, high = figure(root, "fig_identifiability").axes[1].lines[:2]
    assert (low.get_ydata()[0], high.get_ydata()[0]) == (0, 1)
    assert (low.get_ydata()[-1], high.get_ydata()[-1]) == pytest.approx((0.4, 0.4), abs=1e-6)
    assert np.all(np.diff(low.get_ydata()) > 0) and np.all(np.diff(high.get_ydata()) < 0)


@pytest.mark.parametrize("item", ["fig12", "fig_components", "fig_prior", "fig_batches", "fig_uncertainty"])
def test_a_figure_draws_the_runs_that_the_scale_has(root: Path, item: str) -> None:
    figure_of = getattr(figures, item)
    assert figure_of(Results(root, "inclass", ITEMS[item].runs[:1])).axes


def test_a_run_that_the_item_does_not_name_is_refused(root: Path) -> None:
    with pytest.raises(KeyError, match="two_gaussians/main"):
        tables.table2(Results(root, "inclass", ["checkerboard/main"]))


@given(st.permutations(range(3)), st.permutations(range(4)))
def test_classes_found_are_named_after_the_true_ones(rows: list[int], columns: list[int]) -> None:
    counts = np.array([[20, 5, 0, 5], [2, 20, 8, 0], [0, 5, 5, 30]])
    pairs = np.repeat(np.argwhere(counts >= 0), counts.ravel(), axis=0)
    renamed = np.stack([np.array(rows)[pairs[:, 0]], np.array(columns)[pairs[:, 1]]], -1)
    found = LabelTable.of(RunResult({}, {"table": counts / 100, "classes": renamed}, {}))
    np.testing.assert_allclose(found.found, counts / 100)
    np.testing.assert_array_equal(found.classes, pairs)
