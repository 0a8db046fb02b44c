"""Measures speed and memory on this machine and writes the tables in benchmarks/README.md.

Run `make benchmark` on an otherwise idle machine, or `python benchmarks/run.py flows` for one table. Every pair that is
compared is measured in turns within one run.
"""

import argparse
import itertools
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cnf
import continuous
import dag
import einet
import flows
import torch
from autoencoders import library_cca, neumix_mfcvae, neumix_vade, neumix_weak_mcc, plain_mfcvae, plain_vade
from fitting import fit_seconds
from mixtures import WAYS, measured
from torch import nn

from neumix.data import product_mixture
from neumix.files import write_text
from neumix.mixtures import Normal
from neumix.models.inclass import Config, Loss, Model
from neumix.provenance import git_state, machine
from neumix.schedule import Stage
from neumix.training import Phase, generators

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "benchmarks" / "README.md"
STEPS, BATCH = 2000, 50

Row = tuple[str, str, str]


def two_gaussians(seeds: int) -> float:
    """Return seconds for one epoch of the two-Gaussian run (2000 steps of 50 points) with the project's loop."""
    components = tuple((Normal(family="normal", mean=m, sd=1.5),) * 2 for m in (-1, 1))
    data = product_mixture.Config(weights=(0.4, 0.6), components=components, size=STEPS * BATCH)
    dataset = product_mixture.load(Path(), data, range(seeds))
    model = Model(Config(components=2), dataset.shapes, generators(range(seeds), "init"))
    stage = Stage(loss={"name": "neg_cmi"}, epochs=1, batch_size=BATCH)
    return fit_seconds(model, dataset, [Phase("main", stage, Loss(name="neg_cmi"))], seeds)


def plain_loop() -> float:
    """Return seconds for the same epoch written as a plain PyTorch loop: one seed, two networks, one Adam."""

    def classifier() -> nn.Module:
        widths = (1, 32, 32, 32)
        layers = [layer for a, b in itertools.pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers, nn.Linear(32, 2), nn.Softmax(-1))

    networks = [classifier(), classifier()]
    optimizer = torch.optim.Adam([p for network in networks for p in network.parameters()])
    points = torch.randn(STEPS * BATCH, 2)
    started = time.perf_counter()
    for rows in torch.split(torch.randperm(len(points)), BATCH):
        batch = points[rows]
        x, y = networks[0](batch[:, :1]), networks[1](batch[:, 1:])
        roots = (x.mean(0) * y.mean(0)).sqrt()
        loss = -torch.log((x * y / roots).sum(1) / roots.sum()).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.perf_counter() - started


def in_turns(repeats: int, *measures: Callable[[], float]) -> list[float]:
    """Return the median of each measure, taken in turns after one round that does not count."""
    rounds = [[measure() for measure in measures] for _ in range(repeats + 1)][1:]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def command(*words: str, cwd: Path = ROOT) -> float:
    """Return seconds that a command takes, with the code of the folder it runs in."""
    environment = {**os.environ, "PYTHONPATH": str(cwd / "src")}
    started = time.perf_counter()
    subprocess.run(words, cwd=cwd, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started


def training_rows(repeats: int) -> list[Row]:
    """Compare one seed, ten seeds and a plain loop, single-threaded, as the workflow trains."""
    torch.set_num_threads(1)
    one, ten, plain = in_turns(repeats, lambda: two_gaussians(1), lambda: two_gaussians(10), plain_loop)
    rate = [f"{STEPS / seconds:,.0f} steps/s" for seconds in (one, ten, plain)]
    return [
        ("plain PyTorch loop, one seed", rate[2], ""),
        ("neumix, one seed", rate[0], f"{plain / one:.2f} x the plain loop (aim: at least 1)"),
        ("neumix, ten seeds together", rate[1], f"{ten / one:.2f} x the time of one seed (aim: at most 2)"),
        (
            "neumix, ten seeds, per seed",
            f"{10 * STEPS / ten:,.0f} seed-steps/s",
            f"{10 * plain / ten:.1f} x the plain loop (aim: at least 3)",
        ),
    ]


def autoencoder_rows(repeats: int) -> list[Row]:
    """Compare fits of autoencoders trained together with plain loops, and two ways to weak MCC, on two threads."""
    torch.set_num_threads(2)
    plain, single, half = in_turns(
        repeats, plain_mfcvae, lambda: neumix_mfcvae(10, "float32"), lambda: neumix_mfcvae(10, "bfloat16")
    )
    plain_points, points, half_points = in_turns(
        repeats, plain_vade, lambda: neumix_vade(5, "float32"), lambda: neumix_vade(5, "bfloat16")
    )
    library, ours = in_turns(repeats, library_cca, neumix_weak_mcc)
    return [
        ("MFCVAE Arch1, batch 512, plain loop", f"{1000 * plain:.0f} ms per step and fit", ""),
        ("the same, ten fits together", f"{1000 * single:.0f} ms", f"{plain / single:.1f} x the plain loop"),
        (
            "the same, products in bfloat16",
            f"{1000 * half:.0f} ms",
            f"{plain / half:.1f} x the plain loop (aim: at least 2)",
        ),
        ("VaDE, 5000 points, batch 100, plain loop", f"{1000 * plain_points:.0f} ms per epoch and fit", ""),
        (
            "the same, five fits together",
            f"{1000 * points:.0f} ms",
            f"{plain_points / points:.1f} x the plain loop (aim: at least 2)",
        ),
        (
            "the same, products in bfloat16",
            f"{1000 * half_points:.0f} ms",
            f"{plain_points / half_points:.1f} x the plain loop",
        ),
        ("CCA of 5000 x 50 codes, 20 variates, scikit-learn", f"{1000 * library:.0f} ms", ""),
        (
            "weak MCC of such a pair",
            f"{1000 * ours:.0f} ms",
            f"{library / ours:.0f} x faster (aim: at least 20)",
        ),
    ]


def mixture_rows(repeats: int) -> list[Row]:
    """Compare an epoch of the classifier weighted mixture with plain autograd, in processes of their own."""
    rounds = [[measured(way) for way in WAYS] for _ in range(repeats)]
    aims = {"tolerance": " (aims: at least 4, at most 600 MB)"}
    return _ways_rows("CWM epoch, 200000 samples, K = 50", WAYS, rounds, aims)


def flow_rows(repeats: int) -> list[Row]:
    """Compare GenMM's training with the plain way, in processes of their own."""
    aims = {
        "image-float32": " (aim: at least 1.5, at most half the memory)",
        "image-bfloat16": " (aim: at least 3)",
        "letter-float32": " (aim: at least 5)",
    }
    kinds = {"GenMM step, K = 4, 32 x 32": flows.IMAGE_WAYS, "GenMM epoch of Letter, K = 4": flows.LETTER_WAYS}
    return _kinds_rows(kinds, flows.measured, repeats, aims)


def circuit_rows(repeats: int) -> list[Row]:
    """Compare steps of einsum networks with the plain way, in processes of their own."""
    kinds = {
        "Einsum network, 0.2 M parameters, step of EM, batch 100": einet.SMALL_WAYS,
        "Einsum network, 3.2 M parameters, step of EM, batch 100": einet.LARGE_WAYS,
    }
    return _kinds_rows(kinds, einet.measured, repeats, {"large-em": " (aim: at least 2)"})


def continuous_flow_rows(repeats: int) -> list[Row]:
    """Compare steps and maps of continuous flows with the plain way, in processes of their own."""
    kinds = {
        "FFJORD step, 28 x 28, batch 64": cnf.LIKELIHOOD_WAYS,
        "Flow matching step, 28 x 28, batch 64": cnf.MATCHING_WAYS,
        "100 images through 51 spaces": cnf.SPACES_WAYS,
    }
    return _kinds_rows(kinds, cnf.measured, repeats, {})


def continuous_mixture_rows(repeats: int) -> list[Row]:
    """Measure CPMM at the size of MNIST and its teacher's density, in processes of their own."""
    aims = {"step-float32": "aim: under 6 s", "density-mixture": "aim: under 4 s"}
    rounds = [[continuous.measured(way) for way in continuous.WAYS] for _ in range(repeats)]
    return [
        (f"CPMM: {title}", f"{seconds:.2f} s, {megabytes:.0f} MB", aims.get(way, ""))
        for (way, title), seconds, megabytes in zip(continuous.WAYS.items(), *_summary(rounds), strict=True)
    ]


def _kinds_rows(
    kinds: Mapping[str, Mapping[str, str]],
    measure: Callable[[str], tuple[float, float]],
    repeats: int,
    aims: Mapping[str, str],
) -> list[Row]:
    return [
        row
        for kind, ways in kinds.items()
        for row in _ways_rows(kind, ways, [[measure(way) for way in ways] for _ in range(repeats)], aims)
    ]


def _summary(rounds: Sequence[Sequence[tuple[float, float]]]) -> tuple[list[float], list[float]]:
    """Return median seconds and largest peak of each way."""
    seconds = [statistics.median(time for time, _ in column) for column in zip(*rounds, strict=True)]
    return seconds, [max(peak for _, peak in column) for column in zip(*rounds, strict=True)]


def _ways_rows(
    kind: str, ways: Mapping[str, str], rounds: Sequence[Sequence[tuple[float, float]]], aims: Mapping[str, str]
) -> list[Row]:
    """Compare ways, measured in turns as seconds and peak megabytes, with the first of them."""
    seconds, memory = _summary(rounds)
    return [
        (
            f"{kind}: {title}",
            f"{seconds[place]:.2f} s, {memory[place]:.0f} MB",
            f"{seconds[0] / seconds[place]:.1f} x the plain way{aims.get(way, '')}" if place else "",
        )
        for place, (way, title) in enumerate(ways.items())
    ]


def command_rows(repeats: int) -> list[Row]:
    """Time the import, the dry run of everything, and a smoke reproduction in an empty copy."""
    python = sys.executable
    blank, imported = in_turns(
        4 * repeats, lambda: command(python, "-c", "pass"), lambda: command(python, "-c", "import neumix")
    )
    dry = statistics.median(command(python, "-m", "snakemake", "--dry-run", "--quiet") for _ in range(repeats))
    with tempfile.TemporaryDirectory() as folder:
        for name in ("Snakefile", "workflow", "config", "src", "requirements.lock", "environment.yml"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, Path(folder) / name)
        words = ("--profile", "workflow/profiles/default", "--cores", "2", "--config", "scale=smoke", "papers=inclass")
        smoke = command(python, "-m", "snakemake", *words, cwd=Path(folder))
    return [
        ("`import neumix`", f"{1000 * (imported - blank):.0f} ms", "beyond starting Python (aim: under 100 ms)"),
        ("`snakemake -n` of everything", f"{dry:.1f} s", "aim: under 10 s"),
        ("smoke reproduction of InClass nets, 2 cores", f"{smoke:.0f} s", "aim: under 120 s"),
    ]


def scale_rows(_: int) -> list[Row]:
    """Measure dry runs of many runs with the profile of Slurm, once each, the largest with each Python."""
    rows = [*map(dag.measured, (100, 1000)), *(dag.measured(dag.LARGEST, python) for python in dag.interpreters())]
    return [
        (
            f"`snakemake -n` of {row.runs} runs" + ("" if row.python == sys.executable else f", `{row.python}`"),
            f"{row.seconds:.0f} s, {row.megabytes:.0f} MB",
            row.note,
        )
        for row in rows
    ]


TABLES = {
    "training": training_rows,
    "autoencoders": autoencoder_rows,
    "mixtures": mixture_rows,
    "flows": flow_rows,
    "circuits": circuit_rows,
    "continuous_flows": continuous_flow_rows,
    "continuous_mixtures": continuous_mixture_rows,
    "workflow": command_rows,
    "scale": scale_rows,
}
"""Tables of the README, by the name between their marks."""
ONCE = ("scale",)
"""Those that are measured in one round, whatever is asked for."""


def main() -> None:
    """Measure and rewrite the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", metavar="table", help=f"of {', '.join(TABLES)}; all without any")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each measure; the median counts")
    chosen = parser.parse_args()
    if unknown := {*chosen.tables} - {*TABLES}:
        parser.error(f"there is no table {', '.join(sorted(unknown))}: choose of {', '.join(TABLES)}")
    for name in chosen.tables or TABLES:
        repeats = 1 if name in ONCE else chosen.repeats
        where, rows = _where(repeats), TABLES[name](repeats)
        table = ["| what | measured | note |", "|---|---:|---|", *(f"| {' | '.join(row)} |" for row in rows)]
        _replace(name, f"{where}\n\n" + "\n".join(table))
        print("\n".join(table), flush=True)


def _where(repeats: int) -> str:
    """Return what the measurements depend on."""
    here, commit = machine(), git_state()
    return (
        f"Measured on {here['cpu']}, {here['cores']} cores, {here['memory_gib']} GiB, {here['os']}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, commit {str(commit['commit'])[:12]}"
        f"{' with local changes' if commit['dirty'] else ''}; load before the start {os.getloadavg()[0]:.1f}; "
        f"rounds: {repeats}."
    )


def _replace(name: str, content: str) -> None:
    """Put a table between its marks."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = README.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ValueError(f"{README}: there are no marks '{begin}' and '{end}' to put the table between")
    head, _, rest = text.partition(begin)
    write_text(README, f"{head}{begin}\n{content}\n{end}{rest.partition(end)[2]}")


if __name__ == "__main__":
    main()
