"""Tables and figures of the CWM paper: complete, legible, and true to the metrics."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from drawn_paper import DrawnPaper, drawing_style
from matplotlib.figure import Figure

from neumix.papers.cwm.claims import table_claims
from neumix.papers.cwm.readings import score_curve
from neumix.results import Measurement, Results, RunFiles, write_measurement
from neumix.run import Run

PAPER = DrawnPaper("cwm")
SCORES = {"cwm": 0.22, "nsf": 0.18, "gmm": 0.15, "rnvp": 0.13}
SEEDS = 5

_style = drawing_style


def density(run: Run, rng: np.random.Generator) -> Measurement:
    level = SCORES.get(run.name.partition("_")[0], 0.16)
    metrics: dict[str, Any] = {
        "mean_log_likelihood": level + 0.001 * rng.normal(size=run.seeds),
        "standard_error": np.full(run.seeds, 0.002),
        "gap_to_image": 0.224 - level + 0.001 * rng.normal(size=run.seeds),
        "image_log_density": [0.22445],
        "n_trained_values": [39925 if run.name == "cwm" else 343 if "gmm" in run.name else 80000],
        "n_parameters": [39925],
        "share_outside": rng.random(run.seeds) / 100,
    }
    for name, stage in run.stages.items():
        for place in (*(f"{name}@{epoch}" for epoch in stage.snapshots), name):
            metrics[f"curve_{place}"] = level * rng.uniform(0.9, 1, run.seeds)
    picture = rng.random((8, 6)).astype(np.float32)
    arrays = {"density": 2 * picture, "image_density": 3 * picture}
    return Measurement(metrics, {**arrays, "samples": rng.integers(0, 9, (8, 6))})


def variational(run: Run, rng: np.random.Generator) -> Measurement:
    metrics = {name: rng.random(run.seeds) for name in ("reverse_kl", "forward_kl", "effective_share")}
    plane = rng.random((10, 10)).astype(np.float32)
    arrays = {"axis": np.linspace(-4.5, 4.5, 10, dtype=np.float32), "density": plane, "target_density": plane}
    return Measurement({**metrics, "n_parameters": [1448]}, arrays)


MEASURES = {"image_density": density, "variational_fit": variational}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return PAPER.write(tmp_path_factory.mktemp("results"), MEASURES, seed=3)


def results(root: Path, item: str) -> Results:
    return PAPER.results(root, item)


def table(root: Path, item: str) -> pd.DataFrame:
    return PAPER.table(root, item)


def figure(root: Path, item: str) -> Figure:
    return PAPER.figure(root, item)


def test_importing_tables_and_figures_does_not_import_torch() -> None:
    PAPER.assert_torch_is_not_imported()


@pytest.mark.parametrize("item", [name for name in PAPER.tables if name != "table_gradients"])
def test_tables_hold_text_in_every_cell(root: Path, item: str) -> None:
    PAPER.assert_complete(root, item)


@pytest.mark.parametrize("item", [name for name in PAPER.figures if name != "fig_gradients"])
def test_texts_do_not_overlap_and_stay_inside(root: Path, item: str) -> None:
    PAPER.assert_legible(root, item)


def test_table_1_ends_with_the_image_itself(root: Path) -> None:
    frame = table(root, "table1")
    assert list(frame["Model"][:4]) == ["CWM", "RNVP", "NSF", "GMM"]
    assert list(frame["K"][:6]) == ["49", "–", "–", "49", "50", "50"]
    scores = results(root, "table1")["image_density/nsf"].values("mean_log_likelihood")
    assert frame["Mean log-likelihood (nats)"][2] == f"{scores.mean():.4f} ({scores.std(ddof=1):.4f})"
    assert frame["Mean log-likelihood (nats)"].iloc[-1] == "0.22445"
    assert list(frame["Epochs"][:4]) == ["1000", "1000", "1000", "EM"]


def test_claims_are_checked_on_the_scores(root: Path) -> None:
    frame = table(root, "table_claims").set_index("Claim")["Verdict"]
    assert frame["CWM has the highest score"] == "holds"
    assert frame["CWM > NSF > GMM > RNVP (as printed)"] == "holds"
    assert frame["CWM > RNVP > GMM > NSF (columns of RNVP and NSF swapped)"] == "does not hold"
    assert frame["CWM has fewer parameters than both flows"] == "holds"
    assert frame["CWM has fewer parameters than the GMM"] == "does not hold"


@pytest.mark.parametrize(
    ("shift", "spread", "verdict"), [(0.1, 0.001, "holds"), (-0.1, 0.001, "does not hold"), (0.0, 0.1, "not decided")]
)
def test_a_claim_needs_its_whole_interval(
    root: Path, tmp_path: Path, shift: float, spread: float, verdict: str
) -> None:
    rng, runs = np.random.default_rng(0), results(root, "table_claims")
    base = 0.1 + 0.0 * rng.normal(size=SEEDS)
    scores = {"gmm": base, "nsf": base, "rnvp": base, "cwm": base + shift + spread * rng.normal(size=SEEDS)}
    for name, run in runs.items():
        files = RunFiles(tmp_path, f"cwm/{name}")
        metrics = {**run.metrics, "mean_log_likelihood": scores[name.partition("/")[2]]}
        write_measurement(Measurement(metrics, {"none": np.zeros(1)}), files.metrics, files.arrays)
        files.record.write_text(json.dumps({"format": 1, "parameters": dict(run.parameters)}))
    frame = table_claims(Results(tmp_path, "cwm", list(runs))).set_index("Claim")["Verdict"]
    assert frame["CWM has the highest score"] == verdict


def test_curves_begin_with_the_initial_mixture_and_end_with_the_last_epoch(root: Path) -> None:
    runs = results(root, "fig_curves")
    cwm, nsf = (score_curve(runs[f"image_density/{name}"]) for name in ("cwm", "nsf"))
    assert list(cwm) == [0, *nsf] and list(nsf) == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    np.testing.assert_array_equal(cwm[0], runs["image_density/cwm"].values("curve_em"))
    np.testing.assert_array_equal(cwm[1000], runs["image_density/cwm"].values("curve_main"))
    np.testing.assert_array_equal(cwm[5], runs["image_density/cwm"].values("curve_main@5"))


def test_figure_4_draws_image_samples_and_models_on_one_scale(root: Path) -> None:
    panels = [axes for axes in figure(root, "fig4").axes if axes.images and not hasattr(axes, "_colorbar")]
    assert len(panels) == 6 and len({axes.images[0].get_clim() for axes in panels}) == 1
    runs = results(root, "fig4")
    first = runs["image_density/cwm"].arrays
    drawn = [np.asarray(axes.images[0].get_array()) for axes in panels]
    np.testing.assert_array_equal(drawn[0], first["image_density"])
    np.testing.assert_allclose(drawn[1], first["samples"] / first["samples"].mean())
    np.testing.assert_array_equal(drawn[4], runs["image_density/nsf"].arrays["density"])
    assert [axes.get_title()[:3] for axes in panels] == ["(a)", "(b)", "(c)", "(d)", "(e)", "(f)"]


def test_components_are_drawn_against_both_counts(root: Path) -> None:
    first, second = figure(root, "fig_components").axes[:2]
    assert first.get_xlabel() == "components K" and second.get_xlabel() == "trained values"
    runs = results(root, "fig_components")
    expected = [runs[f"components/k_{k}"].values("mean_log_likelihood").mean() for k in (5, 10, 20, 50, 100)]
    np.testing.assert_allclose(np.asarray(first.lines[0].get_ydata(), float), expected)
