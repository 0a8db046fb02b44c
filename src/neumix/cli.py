"""The command line: check the catalogue and the outputs, rebuild the report and the scoreboard."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neumix.settings import CatalogueError

if TYPE_CHECKING:
    from neumix.audit.audit import Audit
    from neumix.catalogue import Catalogue

__all__ = ["app", "run"]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

README = Path("README.md")
SCOREBOARD = Path("results/laptop/comparison.csv")
"""The results that the README shows."""

Scale = Annotated[str, typer.Option(help="smoke, laptop or paper")]


@app.callback()
def main() -> None:
    """Five papers on neural mixture models, reproduced and auditable."""


@app.command()
def check(scale: Annotated[str | None, typer.Option(help="one scale; all by default")] = None) -> None:
    """Check every configuration file against its schema and the code."""
    from neumix import catalogue
    from neumix.settings import read_yaml

    user = read_yaml(Path("config/config.yaml"))
    for name in [scale] if scale else ["smoke", "laptop", "paper"]:
        loaded = catalogue.load(Path(), catalogue.load_settings({**user, "scale": name}))
        runs = len(loaded.runs)
        values = sum(len(paper.published) for paper in loaded.papers.values())
        typer.echo(f"{name}: {runs} runs, {values} published values, {len(loaded.datasets)} datasets: ok")


@app.command()
def doctor(
    profile: Annotated[str, typer.Option(help="folder of workflow/profiles")] = "default",
    scale: Scale = "smoke",
    papers: Annotated[str, typer.Option(help="all, or slugs joined by commas")] = "all",
) -> None:
    """Check before a run whether it can work here or on a cluster; each finding says why it matters and what to do."""
    from neumix import catalogue
    from neumix.doctor.examination import examine
    from neumix.settings import read_yaml

    user = read_yaml(Path("config/config.yaml"))
    settings = catalogue.load_settings({**user, "scale": scale, "papers": papers})
    loaded = catalogue.load(Path(), settings, check_modules=False)
    failed = False
    for finding in examine(loaded, profile):
        typer.echo(str(finding))
        failed = failed or finding.level == "error"
    if failed:
        raise typer.Exit(1)


@app.command()
def missing(
    scale: Scale = "smoke", papers: Annotated[str, typer.Option(help="all, or slugs joined by commas")] = "all"
) -> None:
    """Fail and say which, if an expected table, figure, comparison or report is not there."""
    from neumix import dag

    loaded = _catalogue(scale, papers)
    expected = dag.expected_outputs(loaded)
    absent = [path for path in expected if not Path(path).is_file() or not Path(path).stat().st_size]
    if absent:
        raise FileNotFoundError(f"{len(absent)} of {len(expected)} expected files are missing: {', '.join(absent)}")
    typer.echo(f"{scale}: all {len(expected)} expected files are there")


Ids = Annotated[list[str] | None, typer.Argument(help="published values, tables or figures; all by default")]
Json = Annotated[bool, typer.Option("--json", help="for programs")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="read every byte again")]


@app.command()
def plan(
    targets: Annotated[list[str] | None, typer.Argument(help="output files or ids; everything by default")] = None,
    scale: Scale = "smoke",
    papers: Annotated[str, typer.Option(help="all, or slugs joined by commas")] = "all",
    cores: Annotated[int | None, typer.Option(min=1, help="of this machine; all by default")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="jobs at a time on a cluster, instead of cores")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="jobs with a GPU at a time; 1 here, any on a cluster")] = None,
    profile: Annotated[Path | None, typer.Option(help="folder of a Snakemake profile")] = None,
    max_gpu_hours: Annotated[float | None, typer.Option(min=0, help="fail if it may take more")] = None,
    as_json: Json = False,
) -> None:
    """Say which jobs would run and what they would cost, with intervals learnt from the records of earlier ones."""
    import json
    import os

    from neumix import catalogue
    from neumix.audit.plan import make_plan
    from neumix.audit.plan_text import plan_json, plan_text
    from neumix.settings import read_yaml

    user = read_yaml(Path("config/config.yaml"))
    settings = catalogue.load_settings({**user, "scale": scale, "papers": papers})
    loaded = catalogue.load(Path(), settings, check_modules=False)
    own = cores or os.cpu_count() or 1
    found = make_plan(Path(), loaded, targets or [], cores=own, workers=workers, gpus=gpus, profile=profile)
    typer.echo(json.dumps(plan_json(found), indent=1) if as_json else plan_text(found))
    refusal = found.refusal(max_gpu_hours)
    if refusal is not None:
        typer.echo(f"neumix: {refusal}", err=True)
        raise typer.Exit(1)


@app.command()
def audit(ids: Ids = None, scale: Scale = "laptop", as_json: Json = False, no_cache: NoCache = False) -> None:
    """Recompute every hash and derived value behind the published numbers, tables and figures."""
    import dataclasses
    import json

    found = _audited(_catalogue(scale), ids or [], cached=not no_cache)
    if as_json:
        states = {id_: target.state for id_, target in found.targets.items() if target.known}
        findings = [{**dataclasses.asdict(finding), "concerns": ids} for finding, ids in found.concerned.items()]
        typer.echo(json.dumps({"states": states, "findings": findings, "broken": dict(found.broken)}, indent=1))
    else:
        for path, reason in found.broken.items():
            typer.echo(f"tampered: {path}: {reason}")
        for finding, concerned in found.concerned.items():
            typer.echo(f"{finding}; concerns {', '.join(concerned)}")
        run = [target for target in found.targets.values() if target.known]
        counts = {
            state: sum(target.state == state for target in run) for state in ("ok", "missing", "stale", "tampered")
        }
        summary = ", ".join(f"{count} {state}" for state, count in counts.items())
        typer.echo(f"{scale}: {len(run)} numbers, tables and figures: {summary}")
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def show(id_: Annotated[str, typer.Argument(metavar="ID")], scale: Scale = "laptop", as_json: Json = False) -> None:
    """Show a published value, table or figure, and the chain of jobs, code, parameters and data behind it."""
    import json

    from neumix.audit.explain import describe, show_text

    catalogue = _catalogue(scale)
    target = _audited(catalogue, [id_], compute=False).targets[id_]
    description = describe(catalogue, Path("results") / scale, target)
    typer.echo(json.dumps(description, indent=1) if as_json else show_text(description))


@app.command()
def why(id_: Annotated[str, typer.Argument(metavar="ID")], scale: Scale = "laptop") -> None:
    """Say why a number is not up to date: the first thing behind it that has changed."""
    from neumix.audit.explain import reason_text

    typer.echo(reason_text(_audited(_catalogue(scale), [id_], compute=False).targets[id_]))


@app.command()
def numbers(scale: Scale = "laptop") -> None:
    """Fail if a number in a table, a caption, the README or the report comes from no file; change nothing."""
    from neumix.audit.numbers import unsourced
    from neumix.audit.rendered import Rendered

    counts = Rendered()
    found = list(unsourced(Path(), _catalogue(scale), README, SCOREBOARD, counts))
    for number in found:
        typer.echo(str(number))
    looked = f"{counts.computed} tables and comparisons computed again, {counts.hashed} tables and figures by hash"
    typer.echo(f"{scale}: {looked}; numbers without a source: {len(found) or 'none'}")
    if found:
        raise typer.Exit(1)


@app.command()
def rerun(
    sample: Annotated[int, typer.Option(help="number of runs", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="chooses them")] = 1,
    scale: Scale = "laptop",
    scratch: Annotated[Path | None, typer.Option(help="empty folder to work in; a temporary one by default")] = None,
    cores: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Execute a random sample of runs again, and grade how close they come to what is recorded."""
    import contextlib
    import tempfile

    from neumix.audit.chain import Chain
    from neumix.audit.rerun import choose
    from neumix.audit.rerun import rerun as execute

    runs = choose(Chain(Path(), scale), sample, seed)
    with contextlib.ExitStack() as stack:
        folder = scratch or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = execute(Path(), _catalogue(scale), runs, folder, cores)
    for entry in found:
        typer.echo(f"{entry.grade}: {entry.run}{': ' if entry.detail else ''}{entry.detail}")
    if any(entry.grade in ("divergent", "failed") for entry in found):
        raise typer.Exit(1)


@app.command()
def snapshot(scale: Scale = "laptop") -> None:
    """Pack the weights and arrays of every run, checked against their records, for DVC to track; then `dvc push`."""
    from neumix.audit.snapshot import snapshot as take

    typer.echo(f"{scale}: {len(take(Path(), scale))} files written")


@app.command()
def restore(scale: Scale = "laptop") -> None:
    """Unpack what `dvc pull` brought; a file that is not the one that its record names is refused."""
    from neumix.audit.snapshot import restore as unpack

    typer.echo(f"{scale}: {len(unpack(Path(), scale))} files restored")


export = typer.Typer(no_args_is_help=True, help="Write the results in formats that others read.")
app.add_typer(export, name="export")


@export.command()
def crate(
    scale: Scale = "laptop",
    target: Annotated[Path | None, typer.Option(help="folder to write; results/<scale>/crate by default")] = None,
    link: Annotated[bool, typer.Option("--link", help="hard links instead of copies")] = False,
) -> None:
    """Write a Workflow Run RO-Crate: every job as an action, every file with its hash, and verify.py to check them."""
    from neumix.audit.crate import export_crate

    typer.echo(export_crate(Path(), scale, target or Path("results") / scale / "crate", link=link))


@export.command()
def badges(
    scale: Scale = "laptop",
    to: Annotated[Path | None, typer.Option(help="folder to write; results/<scale>/badges by default")] = None,
) -> None:
    """Write checklists for artifact evaluation (ACM, NeurIPS, ML reproducibility), ticked where a check has passed."""
    from neumix.audit.badges import export_badges

    folder = to or Path("results") / scale / "badges"
    outcomes = export_badges(Path(), _catalogue(scale), folder)
    for name, outcome in outcomes.items():
        typer.echo(f"[{'x' if outcome.passed else ' '}] {name}: {outcome.detail}")
    typer.echo(f"{folder}: {sum(outcome.passed for outcome in outcomes.values())} of {len(outcomes)} checks pass")


def _catalogue(scale: str, papers: str = "all") -> "Catalogue":
    from neumix import catalogue

    return catalogue.load(Path(), catalogue.load_settings({"scale": scale, "papers": papers}), check_modules=False)


def _audited(catalogue: "Catalogue", ids: list[str], *, cached: bool = True, compute: bool = True) -> "Audit":
    from neumix.audit.audit import audit as audit_targets
    from neumix.audit.hashes import Hashes

    with Hashes(Path(), cached=cached) as hashes:
        return audit_targets(Path(), catalogue, hashes, ids, compute=compute)


@app.command()
def report(scale: Scale = "smoke") -> None:
    """Rebuild the HTML report from the results on disk."""
    from neumix.report.collect import build_report

    build_report(Path(), scale)
    typer.echo(f"results/{scale}/report/index.html")


@app.command()
def scoreboard(
    check_only: Annotated[bool, typer.Option("--check", help="change nothing; fail if it is out of date")] = False,
) -> None:
    """Write the scoreboard in README.md from the committed results."""
    from neumix.comparison import read_comparison
    from neumix.files import write_text
    from neumix.scoreboard import render_readme

    text = README.read_text(encoding="utf-8")
    fresh = render_readme(text, read_comparison(SCOREBOARD), SCOREBOARD.as_posix())
    if check_only and fresh != text:
        raise CatalogueError(f"{README}: the scoreboard is out of date with {SCOREBOARD}; run `make scoreboard`")
    if fresh != text:
        write_text(README, fresh)


def run() -> None:
    """Run the command line; errors meant for a reader come without a traceback."""
    try:
        app()
    except (FileNotFoundError, ValueError) as error:
        typer.echo(f"neumix: {error}", err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    run()
