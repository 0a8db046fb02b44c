"""A results folder as a finished pipeline leaves it: all published numbers, five papers, failed and missing parts."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from neumix.report import DeviationInput, ItemInput, PaperInput, ReportInputs, RunInput

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PUBLISHED = Path(__file__).parents[1] / "config" / "published"
PAPERS = {
    "inclass": "Mixture models from independence: InClass nets",
    "identifiability": "Identifiability of deep generative models without auxiliary information",
    "cwm": "Continuously weighted mixtures of densities",
    "cpmm": "Continuously parametrised mixture models",
    "genmm": "Learning of mixtures of neural generators by expectation maximisation",
}
EXPERIMENTS = ("two_gaussians", "checkerboard", "semi_supervised_pairs", "images_with_a_rather_long_name")
SEEDS = list(range(10))
MARGINS = {"count": 0.0, "experiment": 0.05}


def realistic(root: Path, scale: str = "laptop") -> ReportInputs:
    """Write rendered files below `root` and return inputs that refer to them; the same for every call."""
    rng = np.random.default_rng(0)
    images = _images(root)
    papers = tuple(_paper(slug, title, images, root) for slug, title in PAPERS.items())
    runs = tuple(
        _run(f"{slug}/{experiment}/main", rng, broken=(index == 3 and slug == "cwm"))
        for slug in PAPERS
        for index, experiment in enumerate(EXPERIMENTS)
    )
    frame = comparison(rng, scale)
    return ReportInputs(
        scale=scale,
        generated_from="3f9c2a71d5e84b06a9f1c7d2e5b8034f6a7d9c10",
        version="0.1.0",
        comparison=frame,
        papers=papers,
        runs=runs,
        chains=chains(frame, papers, runs),
    )


def chains(frame: pd.DataFrame, papers: tuple[PaperInput, ...], runs: tuple[RunInput, ...]) -> dict[str, dict]:
    """Return what `neumix show` says of every number and item: one run and what was made of it, or nothing."""
    by_id = {run.id: run.record for run in runs}
    described = {}
    for row in frame.to_dict("records"):
        last = {"kind": "compare", "id": row["paper"], "record": f"results/laptop/comparison/{row['paper']}.json"}
        value = {key: cell for key, cell in row.items() if cell != "" and cell == cell}  # noqa: PLR0124 (NaN)
        value |= {"n": int(value["n"])} if "n" in value else {}
        described[row["id"]] = _chain(row["id"], value, last, by_id.get(row["runs"]))
    for paper in papers:
        for item in paper.items:
            last = {"kind": "render_table", "id": item.id, "record": f"results/laptop/tables/{item.id}.json"}
            described[item.id] = _chain(item.id, None, last, by_id[item.runs[0]] if item.runs else None)
    return described


def _chain(id_: str, value: dict | None, last: dict, run: dict | None) -> dict:
    jobs = [] if run is None else [_job(run, f"results/laptop/runs/{run['id']}/run.json"), {**_job(run, ""), **last}]
    finding = {"state": "stale", "cause": "code", "job": "train", "file": "src/neumix/nn.py", "detail": "has changed"}
    findings = [finding] if jobs and run is not None and run["id"].startswith("cwm") else []
    state = "not run" if run is None else "stale" if findings else "ok"
    return {"id": id_, "scale": "laptop", "value": value, "state": state, "findings": findings, "chain": jobs}


def _job(run: dict, record: str) -> dict:
    """Return a job as `neumix.audit.explain.describe` tells it."""
    manifest, digest = next(iter(run["inputs"]["data"].items()))
    files = [{"name": "train-images", "sha256": digest, "urls": ["https://example.org/train-images"]}]
    same = ("kind", "id", "seeds", "parameters", "outputs", "machine", "environment", "threads", "attempts")
    times = ("started", "ended", "wall_seconds", "peak_memory_mb", "resumes")
    return {
        **{key: run[key] for key in (*same, *times)},
        "record": record,
        "commit": run["git"]["commit"],
        "uncommitted_changes": run["git"]["dirty"],
        "placement": {"scheduler": "slurm", "job": "4711", "node": "node-3", "partition": "gpu"},
        "code": run["inputs"]["code"],
        "data": {manifest: {"sha256": digest, "dataset": "mnist", "licence": "CC BY-SA 3.0", "files": files}},
        "inputs": {},
    }


def comparison(rng: np.random.Generator, scale: str) -> pd.DataFrame:
    """Return the comparison for every published number, with all verdicts and budgets among them."""
    rows = []
    for slug in PAPERS:
        published = pd.read_csv(PUBLISHED / f"{slug}.csv", dtype=str, keep_default_na=False)
        rows += [_row(index, row, rng, scale) for index, row in enumerate(published.to_dict("records"))]
    return pd.DataFrame(rows)


def _row(index: int, row: dict, rng: np.random.Generator, scale: str) -> dict:
    value, count = float(row["value"]), row["kind"] == "count"
    verdict = "equivalent" if count else ("equivalent", "better", "worse", "inconclusive")[int(rng.integers(4))]
    verdict = {"cited": "cited"}.get(row["kind"], "not_run" if row["paper"] == "genmm" else verdict)
    verdict = "not_judged" if row["metric"] == "pseudo_weight" else verdict
    budget = ("full", "reduced", "stand_in")[0 if count else int(rng.integers(3))]
    measured = verdict not in ("cited", "not_run")
    margin = 0.0 if count else max(0.02, 0.03 * abs(value))
    shift = {"equivalent": 0.2, "better": 2.5, "worse": -2.5, "inconclusive": 0.9}.get(verdict, 0.1) * margin
    mean = value if count else value + shift
    half = 0.0 if count else 0.3 * margin
    run = f"{row['paper']}/{EXPERIMENTS[index % len(EXPERIMENTS)]}/main"
    return {
        **{key: row[key] for key in ("id", "paper", "where", "metric", "unit", "better", "dataset")},
        "published": row["value"],
        "published_std": row["std"] or np.nan,
        "std_kind": "SD" if row["std"] else "",
        "n": (1 if count else 10) if measured else np.nan,
        "mean": mean if measured else np.nan,
        "std": 0.5 * margin if measured and not count else np.nan,
        "ci_low": mean - half if measured else np.nan,
        "ci_high": mean + half if measured else np.nan,
        "margin": margin if measured else np.nan,
        "verdict": verdict,
        "budget": budget if measured else "",
        "scale": scale,
        "runs": run if measured else "",
        "deviations": f"{row['paper']}.initialisation" if verdict == "worse" else "",
    }


def _images(root: Path) -> dict[str, Path]:
    (root / "figures").mkdir(parents=True)
    paths = {suffix: root / "figures" / f"plot.{suffix}" for suffix in ("svg", "png")}
    figure, axes = plt.subplots(1, 2, figsize=(7, 3))
    grid = np.linspace(-3, 3, 80)
    for axis, width in zip(axes, (0.6, 1.2), strict=True):
        axis.plot(grid, np.exp(-((grid / width) ** 2)), label="estimated")
        axis.plot(grid, np.exp(-((grid / width) ** 2)) + 0.02, "--", label="true")
        axis.legend(frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": "fixed"}):
        figure.savefig(paths["svg"], metadata={"Date": None})
    figure.savefig(paths["png"], dpi=80)
    plt.close(figure)
    return paths


def _paper(slug: str, title: str, images: dict[str, Path], root: Path) -> PaperInput:
    return PaperInput(
        slug=slug,
        title=title,
        authors="A. Author, B. Author and C. Author",
        year=2021,
        url="https://example.org/paper",
        items=(_table(slug, root), *_figures(slug, images)),
        deviations=(
            DeviationInput(
                id=f"{slug}.initialisation",
                about="Initialisation of the classifiers",
                choice="Glorot uniform weights and zero biases",
                reason="The paper does not state one; this is the default of the library it names.",
                source="Sec 3.1",
                values=("inclass.table2.w1", "inclass.table2.w2"),
                tried="He initialisation, with no visible difference",
                cause="Probably the number of epochs",
            ),
            DeviationInput(
                id=f"{slug}.batches",
                about="Last batch of an epoch",
                choice="Kept although it is smaller",
                reason="Dropping it would lose data in the small sets.",
            ),
        ),
    )


def _table(slug: str, root: Path) -> ItemInput:
    path = root / "tables" / f"{slug}.table1.csv"
    path.parent.mkdir(exist_ok=True)
    lines = [f"component {row},0.4{row}123456,0.40{row},0.405 ± 0.00{row},{row * 1000 + 17}" for row in range(1, 6)]
    path.write_text("\n".join(["quantity,pseudo weight,weight,true,parameters", *lines]) + "\n")
    return ItemInput(
        id=f"{slug}.table1",
        label="Table 1",
        kind="table",
        title="Weights of the components",
        shows="Estimated pseudo weights and weights beside the true ones.",
        differs="Mean and SD over ten seeds instead of a single run.",
        runs=(f"{slug}/two_gaussians/main",),
        paths={"csv": path, "md": path.with_suffix(".md")},
    )


def _figures(slug: str, images: dict[str, Path]) -> tuple[ItemInput, ...]:
    common = {"shows": "Estimated densities (solid) and true densities (dashed) of both components.", "paths": images}
    return (
        ItemInput(
            id=f"{slug}.fig1",
            label="Figure 1",
            kind="figure",
            title="Component densities",
            stand_in="Digits of scikit-learn in the place of MNIST.",
            runs=(f"{slug}/two_gaussians/main", f"{slug}/checkerboard/main"),
            **common,
        ),
        ItemInput(id=f"{slug}.fig2", label="Figure 2", kind="diagram", title="Architecture", **common),
        ItemInput(
            id=f"{slug}.fig3",
            label="Figure 3",
            kind="figure",
            title="Samples",
            shows="Samples of every component.",
            paths={"svg": images["svg"].with_name("never_drawn.svg")},
        ),
        ItemInput(id=f"{slug}.extra", label="Figure A", kind="figure", title="Bands", beyond_paper=True, **common),
    )


def _run(identifier: str, rng: np.random.Generator, broken: bool) -> RunInput:
    metrics = {"mixture_weight_1": list(0.4 + 0.01 * rng.standard_normal(10)), "accuracy": list(rng.random(10))}
    error = "ValueError: loss is not finite\n  run cwm, epoch 3, step 120, last finite checkpoint: epoch 2"
    attempts = [
        {"started": "2025-03-01T09:58:00Z", "ended": "2025-03-01T09:59:00Z", "state": "killed", "error": None},
        {"started": "2025-03-01T10:00:00Z", "ended": "2025-03-01T10:04:20Z", "state": "finished", "error": None},
    ]
    if broken:
        attempts[-1] |= {"state": "failed", "error": error}
    return RunInput(
        id=identifier,
        record=record(identifier, attempts, rng),
        history=history(rng, broken=broken),
        metrics={} if broken else metrics,
    )


def record(identifier: str, attempts: list[dict], rng: np.random.Generator) -> dict:
    """Return a `run.json` as the pipeline writes it."""
    digests = iter(rng.bytes(32).hex() for _ in range(100))
    code = [f"src/neumix/{name}.py" for name in ("training", "nn", "models/inclass", "papers/inclass", "settings")]
    return {
        "format": 1,
        "kind": "train",
        "id": identifier,
        "scale": "laptop",
        "state": attempts[-1]["state"],
        "parameters": {"model": {"name": "inclass", "hidden": [32, 32, 32]}, "epochs": 15, "batch": 50},
        "seeds": SEEDS,
        "inputs": {
            "code": {path: next(digests) for path in code},
            "data": {"data/mnist/train-images-idx3-ubyte": next(digests)},
            "upstream": {},
        },
        "outputs": {
            f"results/laptop/runs/{identifier}/{name}": next(digests) for name in ("metrics.json", "history.csv")
        },
        "git": {"commit": "3f9c2a71d5e84b06a9f1c7d2e5b8034f6a7d9c10", "dirty": False},
        "environment": {"lock_sha256": next(digests), "python": "3.12.3", "packages": {"torch": "2.13.0"}},
        "machine": {
            "cpu": "AMD EPYC 7B13",
            "cores": 2,
            "gpu": None,
            "driver": None,
            "memory_gib": 23.0,
            "os": "Linux 6.1",
        },
        "threads": 1,
        "started": attempts[0]["started"],
        "ended": attempts[-1]["ended"],
        "wall_seconds": 260.4,
        "peak_memory_mb": 1412.7,
        "resumes": len(attempts) - 1,
        "attempts": attempts,
    }


def history(rng: np.random.Generator, epochs: int = 30, broken: bool = False) -> pd.DataFrame:
    """Return the history of ten seeds in two stages; a broken one has values that are not finite."""
    frames = []
    for stage in ("pretraining", "main"):
        epoch = np.arange(1, epochs + 1)
        frame = pd.DataFrame({"stage": stage, "epoch": epoch, "step": epoch * 100, "seconds": epoch * 1.5})
        for family, level in (("loss", -0.3), ("held_out", -0.25)):
            curves = level + 0.4 * np.exp(-epoch / 6)[:, None] + 0.02 * rng.standard_normal((epochs, len(SEEDS)))
            curves[3, 2] = np.inf if broken else curves[3, 2]
            for seed in SEEDS:
                frame[f"{family}_{seed}"] = curves[:, seed]
        frame["loss_mean"] = frame[[f"loss_{seed}" for seed in SEEDS]].mean(axis=1)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)
