"""Tables and figures of the identifiability paper: complete, legible, and true to the metrics."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn_paper import DrawnPaper, drawing_style
from matplotlib.figure import Figure

from neumix.metrics.correlation import jackknife
from neumix.papers.identifiability.readings import epoch_curve, label_of
from neumix.papers.identifiability.toy_equivalence import CASES
from neumix.results import Measurement, Results
from neumix.run import Run

PAPER = DrawnPaper("identifiability")
FITS, COMPONENTS, SIDE = 4, 25, 12
PICTURES = ("fig8", "fig9")

_style = drawing_style


def over_pairs(name: str, rng: np.random.Generator) -> dict[str, Any]:
    matrix = rng.uniform(0.5, 1, (FITS, FITS))
    matrix = np.where(np.eye(FITS, dtype=bool), np.nan, (matrix + matrix.T) / 2)
    pairs = matrix[np.triu_indices(FITS, 1)]
    return {name: jackknife(matrix), f"{name}_pairs": pairs, f"{name}_bootstrap": [pairs.min(), pairs.max()]}


def stability(run: Run, rng: np.random.Generator) -> Measurement:
    names = [f"{prefix}mcc_{kind}" for prefix in ("", "untrained_") for kind in ("strong", "weak")]
    snapshots = list(run.stages.values())[-1].snapshots
    names += [f"epoch_{epoch}_mcc_{kind}" for epoch in snapshots for kind in ("strong", "weak")]
    names += ["dist_aff_l2", "dist_aff_l2_refined"]
    metrics = {key: value for name in names for key, value in over_pairs(name, rng).items()}
    metrics |= {
        f"{name.removesuffix('strong')}within": rng.random(FITS) for name in names if name.endswith("mcc_strong")
    }
    metrics |= {"n_pairs": [6], "n_ordered_pairs": [12]}
    metrics |= {"clustering_accuracy": 100 * rng.random(FITS), "n_components_used": [20.0] * FITS}
    images = rng.random((COMPONENTS, 8, SIDE, SIDE)).astype(np.float32)
    images[-1] = np.nan
    arrays = {
        "codes": rng.normal(size=(FITS, 90, 2)).astype(np.float32),
        "labels": np.tile(np.arange(3), (FITS, 30)),
        "samples": rng.random((COMPONENTS, 10, SIDE, SIDE)).astype(np.float32),
        "inputs": images[:, :4],
        "reconstructions": images[:, 4:],
        "confidence": np.sort(rng.random(COMPONENTS))[::-1],
        "members": np.arange(COMPONENTS),
    }
    return Measurement(metrics, arrays)


def draws(run: Run, rng: np.random.Generator) -> Measurement:
    names = ("mcc_strong", "mcc_weak", "dist_aff_l2")
    return Measurement({f"{name}{end}": rng.random(20) for name in names for end in ("", "_sd")}, {})


def toy(run: Run, rng: np.random.Generator) -> Measurement:
    shape = (10, 6)
    arrays: dict[str, Any] = {
        "components": np.tile([2, 2, 2, 3, 3, 3], (10, 1)),
        "cases": rng.integers(2, size=(*shape, len(CASES))),
        "success": rng.integers(2, size=shape),
        "minimisers": rng.integers(1, 9, size=shape),
        "lists": rng.integers(1, 99, size=shape),
        "different": rng.integers(3, size=shape),
        "profile_parameter": np.array([0, 3, 7]),
        "profile_simulation": np.array([0, 2, 5]),
        "profile_truth": np.array([0.0, 1.0, -1.0]),
    }
    values = np.linspace(-2, 2, 50)
    for index in range(3):
        arrays[f"profile_{index}"] = np.stack([values, np.cos(3 * values + index)])
        arrays[f"profile_lowest_{index}"] = np.array([1.0])
    return Measurement({"n_success": rng.integers(40, 50, 10)}, arrays)


MEASURES = {"latent_stability": stability, "draw_sensitivity": draws, "toy_likelihood": toy}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return PAPER.write(tmp_path_factory.mktemp("results"), MEASURES, seed=3, seeds=FITS)


def results(root: Path, item: str) -> Results:
    return PAPER.results(root, item)


def table(root: Path, item: str) -> pd.DataFrame:
    return PAPER.table(root, item)


def figure(root: Path, item: str) -> Figure:
    return PAPER.figure(root, item)


def test_importing_tables_and_figures_does_not_import_torch() -> None:
    PAPER.assert_torch_is_not_imported()


@pytest.mark.parametrize("item", PAPER.tables)
def test_tables_hold_text_in_every_cell(root: Path, item: str) -> None:
    PAPER.assert_complete(root, item)


@pytest.mark.parametrize("item", PAPER.figures)
def test_texts_do_not_overlap_and_stay_inside(root: Path, item: str) -> None:
    PAPER.assert_legible(root, item)


@pytest.mark.parametrize("item", [name for name in PAPER.figures if name not in PICTURES])
def test_panels_are_labelled(root: Path, item: str) -> None:
    panels = figure(root, item).axes  # side by side; the leftmost names the vertical scale of all
    assert all(panel.get_xlabel() for panel in panels)
    if item == "fig_draws":
        assert [tick.get_text() for tick in panels[0].get_yticklabels()] == ["pinwheel", "parallelograms"]
    else:
        assert panels[0].get_ylabel()


def test_table_3_prints_mean_and_deviation_over_pairs(root: Path) -> None:
    frame = table(root, "table3")
    assert list(frame["Architecture"]) == [f"Arch{i}" for i in (1, 1, 1, 2, 2, 2, 3, 3, 3)]
    assert list(frame["Model"][:3]) == ["MFCVAE", "MFCVAE", "iVAE"]
    run = results(root, "table3")["mnist_mcc/ivae_arch2_leakyrelu"]
    pairs = run.values("mcc_weak_pairs")
    assert frame["Weak MCC"][5] == f"{pairs.mean():.3f} ({pairs.std(ddof=1):.3f})"
    assert set(frame["Epochs"]) == {"200"}


def test_table_2_has_a_row_for_every_dataset(root: Path) -> None:
    frame = table(root, "table2").set_index("Dataset")
    assert list(frame.index) == ["Pinwheel", *(f"Random parallelograms #{i}" for i in (1, 2, 3))]
    pairs = results(root, "table2")["parallelograms_vade/draw_2"].values("dist_aff_l2_pairs")
    assert frame["dist_AffL2"].iloc[2] == f"{pairs.mean():.3f} ({pairs.std(ddof=1):.3f})"


def test_epoch_curves_run_from_the_untrained_network_to_the_last_epoch(root: Path) -> None:
    run = results(root, "fig_epochs")["mnist_mcc/ivae_arch3_leakyrelu"]
    curve = epoch_curve(run, "mcc_weak_pairs")
    assert list(curve) == [0, 1, 2, 5, 10, 20, 50, 100, 200]
    np.testing.assert_array_equal(curve[0], run.values("untrained_mcc_weak_pairs"))
    np.testing.assert_array_equal(curve[200], run.values("mcc_weak_pairs"))
    assert len(table(root, "table_epochs")) == 2 * len(curve)


def test_error_bars_reach_one_sample_deviation_from_the_mean(root: Path) -> None:
    run = results(root, "fig_epochs")["mnist_mcc/mfcvae_arch3_leakyrelu"]
    by_epoch = list(epoch_curve(run, "mcc_weak_pairs").values())
    counts = [results(root, "fig_components")[f"controls/{name}"] for name in ("k_2", "k_10")]
    by_count = [found.values("mcc_weak_pairs") for found in counts]
    for item, samples in (("fig_epochs", by_epoch), ("fig_components", by_count)):
        bars = figure(root, item).axes[0].collections[0].get_segments()
        expected = [np.mean(values) + np.std(values, ddof=1) * np.array([-1, 1]) for values in samples]
        np.testing.assert_allclose([bar[:, 1] for bar in bars[: len(samples)]], expected)


def test_components_are_in_order(root: Path) -> None:
    assert list(table(root, "table_components")["Components"]) == ["2", "10", "25", "50", "100"]


def test_latent_spaces_show_every_point_once(root: Path) -> None:
    drawn = figure(root, "fig2")
    run = results(root, "fig2")["pinwheel_vade/main"]
    for fit, axes in enumerate(drawn.axes):
        shown = np.concatenate([line.get_xydata() for line in axes.lines])
        np.testing.assert_array_equal(np.sort(shown, 0), np.sort(run.arrays["codes"][fit].astype(float), 0))


def test_pictures_have_a_row_for_every_component_and_pairs_side_by_side(root: Path) -> None:
    for item, columns in (("fig8", 10), ("fig9", 8)):
        for axes in figure(root, item).axes:
            image = np.asarray(axes.images[0].get_array())
            assert image.shape == (COMPONENTS * (SIDE + 1) - 1, columns * (SIDE + 1) - 1)
    run = results(root, "fig9")["mnist_mcc/mfcvae_arch1_leakyrelu"]
    first = np.asarray(figure(root, "fig9").axes[0].images[0].get_array())
    np.testing.assert_array_equal(first[:SIDE, :SIDE], run.arrays["inputs"][0, 0])
    np.testing.assert_array_equal(first[:SIDE, SIDE + 1 : 2 * SIDE + 1], run.arrays["reconstructions"][0, 0])
    assert not first[-SIDE - 1 :].any(), "a component without points stays empty"


def test_labels_of_runs() -> None:
    assert label_of("mnist_mcc/mfcvae_arch1_leakyrelu") == ("MFCVAE", "Arch1", "LeakyReLU")
    with pytest.raises(KeyError):
        label_of("mnist_mcc/other_arch1_relu")
