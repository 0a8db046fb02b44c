"""Tables and figures of the GenMM paper: complete, legible, and true to the metrics."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn_paper import DrawnPaper, drawing_style
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from neumix import rendering
from neumix.mosaics import mosaic
from neumix.papers.genmm import figures, tables
from neumix.papers.genmm.claims import apart, ruggedness, table_claims
from neumix.papers.genmm.readings import classifiers, few, image_runs
from neumix.results import Measurement, RunResult
from neumix.run import Run

PAPER, SMOKE = DrawnPaper("genmm", "paper"), DrawnPaper("genmm", "smoke")
BY_SCALE = {"paper": PAPER, "smoke": SMOKE}
SIDE, EPOCHS, BINS = 8, 40, 15
CLASSES = {"letter": 26, "satimage": 6, "smallnorb": 5, "digits": 10}

_style = drawing_style


def count_of(run: Run) -> int:
    settings = run.model.settings
    return settings.get("individual") or settings.get("generators", 1) * settings.get("sources", 1)


def likelihood(run: Run, rng: np.random.Generator) -> Measurement:
    level = 2.0 - 0.02 * count_of(run) + 0.4 * ("fashion" in run.name)
    falling = 3 * np.exp(-np.arange(EPOCHS) / 2)[:, None]
    rough = 0.02 if "sources" in run.model.settings else 0.002
    train = level + falling + rough * rng.random((EPOCHS, 1))
    held_out = train + 0.05
    metrics: dict[str, Any] = {
        "lowest_nll": train.min(0),
        "lowest_epoch": train.argmin(0) + 1.0,
        "lowest_held_out_nll": held_out.min(0),
        "train_nll": train[-1],
        "held_out_nll": held_out[-1],
        "n_parameters": [83_456.0 * count_of(run)],
        "effective_components": [0.9 * count_of(run) + 0.1],
    }
    if run.data.settings.get("other"):
        metrics["other_auroc"] = 100 * rng.random(1)
    return Measurement(metrics, {"train_curve": train, "held_out_curve": held_out})


def generation(run: Run, rng: np.random.Generator) -> Measurement:
    better = count_of(run) / 9
    near = {"inception_score": 5 + 3 * better, "fid": 40 - 20 * better, "mmd": 0.3 - 0.1 * better, "one_nn": 0.95}
    metrics = {name: value * rng.uniform(0.99, 1.01, 5) for name, value in near.items()}
    metrics |= {"one_nn_real": rng.random(5), "one_nn_generated": rng.random(5), "class_entropy": np.array([8.7])}
    real = {"inception_score": 9.5, "fid": 1.5, "mmd": 0.02, "one_nn": 0.5}
    metrics |= {f"real_{name}": value * rng.uniform(0.99, 1.01, 5) for name, value in real.items()}
    metrics |= {"foreign_share_responsible": np.array([0.1]), "foreign_share_random": np.array([0.1 + 0.3 * better])}
    metrics |= {"not_finite_share": np.zeros(1)}
    arrays = {f"interpolation_{rule}": pictures(rng, 12, 10) for rule in ("responsible", "random", "within")}
    return Measurement(metrics, {**arrays, "samples": pictures(rng, 100)})


def pictures(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    return rng.integers(0, 256, (*shape, SIDE, SIDE), dtype=np.uint8)


def classification(run: Run, rng: np.random.Generator) -> Measurement:
    level, seeds = 0.9 + 0.003 * (count_of(run) if "generators" in run.model.settings else 1), run.seeds
    accuracy = level + 0.0002 * rng.normal(size=seeds)
    snapshots = run.stages["main"].snapshots
    share = rng.dirichlet(np.ones(BINS), seeds)
    share[:, :3] = 0
    metrics: dict[str, Any] = {
        "accuracy": accuracy,
        **{f"accuracy@{epoch}": accuracy - 0.001 for epoch in snapshots},
        **{name: rng.random(seeds) for name in ("train_accuracy", "test_nll", "train_nll", "posterior_nll")},
        "calibration_error": rng.random(seeds) / 10,
        "unseen_class_auroc": 100 * rng.random(seeds),
        "n_parameters": [6720.0],
    }
    filled = (share > 0) * (np.arange(BINS) + 0.5) / BINS
    arrays = {"reliability_share": share, "reliability_confidence": filled, "reliability_accuracy": filled**1.2}
    classes = CLASSES[run.data.settings["source"]]
    added = 1 - 0.1 * np.arange(classes) / classes + 0.001 * rng.normal(size=(seeds, classes))
    return Measurement(metrics, {**arrays, "accuracy_by_classes": added})


MEASURES = {"likelihood": likelihood, "generation": generation, "classification": classification}


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


def verdicts(results: Mapping[str, RunResult]) -> "pd.Series[str]":
    return table_claims(results).set_index("Claim")["Verdict"]


def changed(root: Path, metric: str, change: Any) -> dict[str, RunResult]:
    """Return the results behind the claims with a metric changed to what a function makes of name and values."""
    found = dict(PAPER.results(root, "table_claims"))
    for name, run in found.items():
        if metric in run.metrics:
            values = [float(value) for value in change(name, run.values(metric))]
            found[name] = dataclasses.replace(run, metrics={**run.metrics, metric: values})
    return found


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


def test_table_1_has_the_rows_of_the_paper_first(root: Path, roots: Mapping[str, Path]) -> None:
    frame = table(root, "table1")
    assert list(frame["Model"]) == ["GenMM", "GenMM", "LatMM", "LatMM"]
    assert list(frame["Dataset"]) == ["MNIST", "Fashion-MNIST"] * 2
    lowest = PAPER.results(root, "table1")["nll/latmm_fashion_k5"].values("lowest_nll")
    assert frame["K = 5"][3] == f"{lowest[0]:.4f}"
    smoke = SMOKE.table(roots["smoke"], "table1")
    assert list(smoke["Dataset"][:2]) == ["digits in place of MNIST", "digits in place of Fashion-MNIST"]
    assert list(smoke.loc[3])[2:] == ["not run"] * 4 and smoke["K = 1"][1] == smoke["K = 7"][0] == "not run"


def test_table_2_names_what_was_not_run(root: Path, roots: Mapping[str, Path]) -> None:
    frame = table(root, "table2").set_index("Dataset")
    assert list(frame.index) == ["Letter", "Satimage", "Small NORB"]
    accuracy = PAPER.results(root, "table2")["classification/satimage_latmm"].values("accuracy")
    assert frame.loc["Satimage", "LatMM (K = 4)"] == f"{accuracy.mean():.4f} ({accuracy.std(ddof=1):.4f})"
    smoke = SMOKE.table(roots["smoke"], "table2")
    assert smoke["Dataset"][0] == "digits in place of Letter"
    assert smoke["K = 20"][0] == "not run" and set(smoke.loc[1][1:]) == {"not run"}


def test_likelihood_tells_what_a_run_overfits_by(root: Path, roots: Mapping[str, Path]) -> None:
    frame = table(root, "table_likelihood")
    combined = frame[frame["Model"] == "GenMM whose latent is a LatMM"].iloc[0]
    assert (combined["K"], combined["Gap (nats/pixel)"]) == ("9", "0.0500")
    column = next(name for name in frame if name.startswith("AUROC"))
    assert set(SMOKE.table(roots["smoke"], "table_likelihood")[column]) == {"–"}
    run = PAPER.results(root, "table_likelihood")["nll/genmm_mnist_k1"]
    assert frame[column][0] == f"{run.values('other_auroc')[0]:.1f}"


def test_quality_ends_each_dataset_with_real_images(root: Path) -> None:
    frame = table(root, "table_quality")
    assert list(np.flatnonzero(frame["Model"] == "Real images")) == [10, 21]
    values = PAPER.results(root, "table_quality")["sample_quality/genmm_mnist_k9"].values("inception_score")
    row = frame[(frame["K"] == "9") & (frame["Model"] == "GenMM")].iloc[0]
    assert row["IS"] == f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"
    assert row["Neither end's class, random generator (%)"] == "40.0"


def test_classification_shows_the_accuracy_of_the_snapshots(root: Path) -> None:
    frame = table(root, "table_classification")
    run = PAPER.results(root, "table_classification")["classification/letter_k10"]
    row = frame[(frame["Dataset"] == "Letter") & (frame["K"] == "10")].iloc[0]
    early = run.values("accuracy@100")
    assert row["after epoch 100"] == f"{early.mean():.4f} ({early.std(ddof=1):.4f})"
    assert row["Seeds"] == "3" and frame.columns[-1] == "Seeds"
    assert list(frame["Model"][:7]) == ["GenMM"] * 6 + ["LatMM"]


def test_likelihood_curves_are_drawn_whole_on_a_scale_for_their_ends(root: Path) -> None:
    panels = figure(root, "fig3").axes
    assert [panel.get_title()[:3] for panel in panels] == ["(a)", "(b)", "(c)", "(d)"]
    run = PAPER.results(root, "fig3")["nll/genmm_mnist_k1"]
    np.testing.assert_allclose(np.asarray(panels[0].lines[0].get_ydata()), run.arrays["train_curve"][:, 0])
    np.testing.assert_allclose(np.asarray(panels[0].lines[1].get_ydata()), run.arrays["held_out_curve"][:, 0])
    assert panels[0].lines[0].get_xdata()[0] == 1 and panels[0].lines[1].get_linestyle() == "--"
    for panel in panels:
        low, high = panel.get_ylim()
        ends = [float(np.asarray(line.get_ydata())[-1]) for line in panel.lines]
        assert low < min(ends) and max(ends) < high < 4 and np.ptp(ends) > 0.2 * (high - low)


def test_scores_show_mean_and_range_and_what_real_images_get(root: Path) -> None:
    panels = figure(root, "fig5").axes
    runs = [PAPER.results(root, "fig5")[f"sample_quality/latmm_fashion_k{k}"] for k in (1, 3, 5, 7, 9)]
    values = [run.values("fid") for run in runs]
    np.testing.assert_allclose(np.asarray(panels[1].lines[1].get_ydata()), [v.mean() for v in values])
    band = panels[1].collections[1].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((min(map(min, values)), max(map(max, values))))
    levels = [panel.lines[-1].get_ydata()[0] for panel in panels]
    first = PAPER.results(root, "fig5")["sample_quality/genmm_fashion_k1"]
    assert levels == [*(first.values(f"real_{name}").mean() for name in ("inception_score", "fid", "mmd")), 0.5]


def test_interpolations_stand_in_by_the_largest_mixture_and_frame_what_is_real(
    root: Path, roots: Mapping[str, Path]
) -> None:
    panels = figure(root, "fig7").axes
    titles = [panel.get_title().partition("\n")[0] for panel in panels]
    assert titles[1] == "(b) GenMM, MNIST, K = 7," and titles[4] == "(e) LatMM, Fashion-MNIST, K = 9,"
    expected = PAPER.results(root, "fig7")["sample_quality/genmm_mnist_k7"].arrays["interpolation_random"]
    image = np.asarray(panels[1].images[0].get_array())
    np.testing.assert_array_equal(image[-SIDE:, :SIDE], expected[-1, 0])
    tops = sorted(patch.get_y() + 0.5 for patch in panels[1].patches)
    assert tops == [0, 11 * (SIDE + 1)] and image.shape == (12 * (SIDE + 1) - 1, 10 * (SIDE + 1) - 1)
    assert to_rgba(panels[1].patches[0].get_edgecolor()) == to_rgba(rendering.TRUE)
    smoke = SMOKE.figure(roots["smoke"], "fig7").axes
    assert smoke[0].get_title().startswith("(a) GenMM, digits, K = 3,")
    assert [text.get_text() for text in smoke[4].texts] == ["not run"]


def test_samples_are_those_of_few_some_and_many_components(root: Path) -> None:
    titles = [panel.get_title() for panel in figure(root, "fig6").axes]
    assert titles[:4] == [f"GenMM, MNIST, K = {k}" for k in (1, 5, 9)] + ["GenMM, Fashion-MNIST, K = 1"]
    assert titles[-1] == "LatMM, Fashion-MNIST, K = 9"


def test_mosaics_keep_every_image_in_its_place() -> None:
    images = np.arange(24).reshape(2, 3, 2, 2)
    whole = mosaic(images)
    assert whole.shape == (5, 8)
    np.testing.assert_array_equal(whole[3:5, 6:8], images[1, 2])
    assert not whole[2].any() and not whole[:, [2, 5]].any()


def test_bins_that_are_nearly_empty_are_not_drawn(root: Path) -> None:
    panel = figure(root, "fig_reliability").axes[0]
    run = PAPER.results(root, "fig_reliability")["classification/letter_k1"]
    line = panel.lines[0]
    share, accuracy = run.arrays["reliability_share"], run.arrays["reliability_accuracy"]
    kept = share.mean(0) >= 0.005
    assert not kept[:3].any()
    pooled = (share * accuracy).sum(0)[kept] / share.sum(0)[kept]
    np.testing.assert_allclose(np.asarray(line.get_ydata()), pooled)
    legend = [text.get_text() for text in panel.figure.legends[0].get_texts()]
    assert legend[:4] == ["K = 1", "K = 4", "K = 20", "LatMM"]


def test_accuracy_is_drawn_for_every_number_of_classes(root: Path) -> None:
    panels = figure(root, "fig_new_classes").axes
    run = PAPER.results(root, "fig_new_classes")["classification/letter_k1"]
    line = panels[0].lines[0]
    assert list(line.get_xdata()) == list(range(1, 27))
    np.testing.assert_allclose(np.asarray(line.get_ydata(), float), run.arrays["accuracy_by_classes"].mean(0))
    assert [panel.get_title() for panel in panels] == ["Letter", "Satimage", "Small NORB"]


def test_claims_follow_the_numbers(root: Path) -> None:
    found = verdicts(PAPER.results(root, "table_claims"))
    assert found["Lowest training NLL falls with K: GenMM on MNIST"] == "holds"
    assert found["LatMM's curves are more rugged than GenMM's: Fashion-MNIST"] == "holds"
    assert found["IS rises from K = 1 to K = 9: LatMM on MNIST"] == "holds"
    assert found["FID falls from K = 1 to K = 9: GenMM on Fashion-MNIST"] == "holds"
    assert found["1NN falls from K = 1 to K = 9: GenMM on MNIST"] == "not decided"
    assert found["K = 3 is sometimes worse than K = 1"] == "not decided"
    assert found["IS flattens or drops at K = 9: GenMM on MNIST"] == "does not hold"
    assert found["Random generators show other classes than the two images': GenMM on MNIST"] == "holds"
    assert found["Accuracy at K = 20 exceeds that at K = 1: Letter"] == "holds"
    assert found["Accuracy rises at every step of K: Small NORB"] == "holds"
    assert found["LatMM's accuracy is about that of GenMM with K = 1: Satimage"] == "holds"


def test_claims_are_refuted_by_the_contrary(root: Path) -> None:
    mirrored = {
        "lowest_nll": "Lowest training NLL falls with K: LatMM on Fashion-MNIST",
        "inception_score": "IS rises from K = 1 to K = 9: GenMM on MNIST",
        "mmd": "MMD falls from K = 1 to K = 9: LatMM on MNIST",
        "foreign_share_random": "Random generators show other classes than the two images': GenMM on MNIST",
        "accuracy": "Accuracy rises at every step of K: Letter",
    }
    for metric, claim in mirrored.items():
        assert verdicts(changed(root, metric, lambda _, values: -values))[claim] == "does not hold", metric


def test_claims_that_the_numbers_do_not_decide(root: Path) -> None:
    one_step = {"nll/genmm_mnist_k3": 0.5}
    bumpy = verdicts(changed(root, "lowest_nll", lambda name, values: values + one_step.get(name, 0)))
    assert bumpy["Lowest training NLL falls with K: GenMM on MNIST"] == "not decided"
    worse = {"sample_quality/latmm_mnist_k3": 90.0}
    once = table_claims(changed(root, "fid", lambda name, values: values + worse.get(name, 0))).set_index("Claim")
    assert once["Verdict"]["K = 3 is sometimes worse than K = 1"] == "holds"
    assert "(worse: FID of LatMM on MNIST)" in once["Evidence"]["K = 3 is sometimes worse than K = 1"]
    single = verdicts(changed(root, "accuracy", lambda _, values: values[:1]))
    assert single["Accuracy at K = 20 exceeds that at K = 1: Letter"] == "not decided"
    same = verdicts(changed(root, "inception_score", lambda _, values: 5 + 0 * values))
    assert same["IS flattens or drops at K = 9: GenMM on MNIST"] == "not decided"
    stopped = {"sample_quality/genmm_mnist_k9": 1.0}
    flat = verdicts(changed(root, "inception_score", lambda name, values: values - stopped.get(name, 0)))
    assert flat["IS flattens or drops at K = 9: GenMM on MNIST"] == "holds"


@pytest.mark.parametrize(("shift", "verdict"), [(0.005, "holds"), (0.05, "does not hold"), (0.01, "not decided")])
def test_about_the_same_accuracy_means_within_a_hundredth(root: Path, shift: float, verdict: str) -> None:
    ends = np.array([-1, 1, 0, -1, 1]) * 1e-3

    def change(name: str, values: Any) -> Any:
        return 0.9 + (shift + ends if name.endswith("letter_latmm") else 0 * values)

    found = verdicts(changed(root, "accuracy", change))
    assert found["LatMM's accuracy is about that of GenMM with K = 1: Letter"] == verdict


def test_claims_without_runs_are_left_out(roots: Mapping[str, Path]) -> None:
    frame = table_claims(SMOKE.results(roots["smoke"], "table_claims"))
    claims = "\n".join(frame["Claim"])
    assert "digits" in claims and "Fashion" not in claims and "K = 9" not in claims
    assert "one seed" in frame["Evidence"][0]


def test_ruggedness_counts_rises_after_the_start() -> None:
    curve = np.array([9.0, 8, 9, 8, 9, 3, 4, 2, 2.5, 2])[:, None]
    assert ruggedness(curve) == pytest.approx(1.5 / 4)
    assert ruggedness(np.c_[curve, 0 * curve]) == pytest.approx(0.75 / 4)
    assert ruggedness(curve[:4]) == 0


def test_ranges_lie_apart_or_overlap() -> None:
    low, high = np.array([1.0, 2.0]), np.array([2.5, 3.0])
    assert (apart(low, high), apart(high, low), apart(low, low + 1)) == (True, False, None)


def test_runs_are_found_by_name_and_sorted_by_number(root: Path) -> None:
    found = image_runs(PAPER.results(root, "fig6"), "sample_quality")
    assert list(found) == [(m, d) for m in ("genmm", "latmm") for d in ("mnist", "fashion")]
    assert list(found["latmm", "fashion"]) == [1, 3, 5, 7, 9]
    assert list(classifiers(PAPER.results(root, "table2"))["norb"]) == [
        *(f"K = {k}" for k in (1, 2, 3, 4, 10, 20)),
        "LatMM",
    ]
    assert (few([]), few([1]), few([1, 3]), few([1, 3, 5, 7])) == ([], [1], [1, 3], [1, 5, 7])
