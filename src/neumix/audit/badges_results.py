"""Checks of a scale's results: records, seeds, spread, commands, time, disk, verdicts."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from neumix import dag
from neumix.audit.badges_claims import claims
from neumix.audit.badges_project import Outcome, Project, few
from neumix.audit.plan_jobs import ask
from neumix.audit.tracked import md5, outputs
from neumix.comparison import JUDGED, missing_deviations
from neumix.report.formatting import duration

__all__ = ["RESULT_CHECKS"]

_UNPROVEN = ("worse", "inconclusive")


def audited(project: Project) -> Outcome:
    """Check that the audit finds everything as recorded."""
    found = project.audit
    states = Counter(target.state for target in found.targets.values() if target.jobs)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "nothing was run"
    first = next((f"; {finding}" for finding in found.concerned), "")
    return Outcome(found.ok and bool(states), f"`neumix audit --scale {project.scale}`: {counts}{first}")


def rendered(project: Project) -> Outcome:
    """Check that every table, figure and comparison of the catalogue is there."""
    wanted = [path for path in dag.expected_outputs(project.catalogue) if "/report/" not in path]
    absent = [path for path in wanted if not (project.root / path).is_file()]
    detail = f"{len(absent)} of {len(wanted)} files are missing: {few(absent)}" if absent else f"{len(wanted)} files"
    return Outcome(not absent, detail, project.results.as_posix())


def code_identified(project: Project) -> Outcome:
    """Check that every record names a commit, without local changes."""
    states = {job.path: job.content.get("git") or {} for job in project.chain.jobs.values()}
    unknown = [path for path, git in states.items() if not git.get("commit") or git.get("dirty") is not False]
    if unknown or not states:
        return Outcome(False, f"no clean commit in {few(unknown)}" if states else "there are no records")
    commits = {git["commit"] for git in states.values()}
    return Outcome(True, f"{len(states)} records of {len(commits)} commits, without local changes")


def environment_recorded(project: Project) -> Outcome:
    """Check that every record names Python, packages, lock file, processor, memory and system."""
    wanted = {"environment": ("lock_sha256", "python", "packages"), "machine": ("cpu", "cores", "memory_gib", "os")}
    jobs = project.chain.jobs.values()
    lacking = [
        job.path
        for job in jobs
        if any(not (job.content.get(part) or {}).get(key) for part, keys in wanted.items() for key in keys)
    ]
    if lacking or not jobs:
        return Outcome(False, f"incomplete: {few(lacking)}" if jobs else "there are no records")
    machines = Counter(_machine(job.content["machine"]) for job in jobs)
    return Outcome(True, "; ".join(f"{count} jobs on {name}" for name, count in machines.most_common()))


def _machine(machine: dict[str, object]) -> str:
    gpu = machine.get("gpu") or "no GPU"
    return f"{machine['cpu']}, {machine['cores']} cores, {gpu}, {machine['memory_gib']} GiB, {machine['os']}"


def settings_recorded(project: Project) -> Outcome:
    """Check that the settings of every training, as resolved, are in its record and are those of the catalogue."""
    runs = project.catalogue.selected_runs
    records = (project.chain.jobs.get(f"{project.results.as_posix()}/runs/{run.id}/run.json") for run in runs)
    known = {run.id: record.parameters if record else None for run, record in zip(runs, records, strict=True)}
    other = [run.id for run in runs if known[run.id] != dag.training_settings(run)]
    if other or not runs:
        return Outcome(False, f"not run, or with other settings than the catalogue's: {few(other)}")
    return Outcome(
        True, f"{len(runs)} trainings; see `parameters` in each run.json", f"{project.results.as_posix()}/runs"
    )


def commands_work(project: Project) -> Outcome:
    """Check that Snakemake knows how to make what the command of every claim asks for."""
    found = claims(project)
    files = sorted({file for claim in found for file in claim.files})
    if not files:
        return Outcome(False, "no value was measured")
    papers = ",".join(project.catalogue.selected)
    ask(project.root, project.scale, papers, files, cores=1, profile=None)
    return Outcome(True, f"one for each of {len(found)} values; Snakemake's dry run accepts their {len(files)} targets")


def time_told(project: Project) -> Outcome:
    """Check that the records tell the time behind every claim."""
    found = claims(project)
    silent = [claim.id for claim in found if claim.seconds is None]
    if silent or not found:
        return Outcome(False, f"no time in the records behind {few(silent)}" if found else "no value was measured")
    longest = max(found, key=lambda claim: claim.seconds or 0.0)
    return Outcome(True, f"for {len(found)} values; {duration(longest.seconds)} for {longest.id}, the longest")


def disk_told(project: Project) -> Outcome:
    """Check that all files behind every claim are here, so that their sizes are known."""
    found = claims(project)
    silent = [claim.id for claim in found if claim.size is None]
    if silent or not found:
        wrong = f"files behind {few(silent)} are not here; `dvc pull` and `neumix restore` bring them"
        return Outcome(False, wrong if found else "no value was measured")
    most = max(claim.size or 0 for claim in found)
    return Outcome(True, f"for {len(found)} values, at most {most / 1e6:.2f} MB each")


def seeds_recorded(project: Project) -> Outcome:
    """Check that every training's record names its seeds, as many different ones as its settings say."""
    trainings = [job for job in project.chain.jobs.values() if job.kind == "train"]
    seeds = {job.id: list(job.content.get("seeds", ())) for job in trainings}
    wrong = [
        job.id
        for job in trainings
        if not seeds[job.id] or not len(seeds[job.id]) == len({*seeds[job.id]}) == job.parameters.get("seeds")
    ]
    if wrong or not trainings:
        return Outcome(False, f"missing, repeated or too few: {few(wrong)}" if trainings else "nothing was trained")
    total = sum(map(len, seeds.values()))
    return Outcome(True, f"{total} fits in {len(trainings)} trainings, each with its seed")


def runs_repeated(project: Project) -> Outcome:
    """Check that no random quantity was measured on one seed only; what no seed bears on is measured once."""
    single = []
    for row in project.measured[project.measured["n"] == 1].to_dict("records"):
        paper, _, name = str(row["runs"]).partition("/")
        run = project.catalogue.papers[paper].runs.get(name)
        exact = project.catalogue.papers[paper].file.values[str(row["id"])].exact
        if not exact and (run is None or run.seeds == 1):
            single.append(row["id"])
    if single or project.measured.empty:
        return Outcome(False, f"a single run: {few(single)}" if single else "no value was measured")
    numbers = Counter(int(number) for number in project.measured["n"])
    counts = ", ".join(f"{count} values on {number} runs" for number, count in sorted(numbers.items(), reverse=True))
    return Outcome(True, f"{counts}; one run means that the seed plays no role", _comparison(project))


def spread_told(project: Project) -> Outcome:
    """Check that every value of several runs has a standard deviation and a confidence interval."""
    several = project.measured[project.measured["n"] > 1]
    bare = several[several[["std", "ci_low", "ci_high"]].isna().any(axis=1)]
    if several.empty or not bare.empty:
        return Outcome(False, f"without: {few(bare['id'])}" if len(several) else "no value has several runs")
    return Outcome(True, f"{len(several)} values with SD and 90% t interval of the mean", _comparison(project))


def compute_told(project: Project) -> Outcome:
    """Check that the records tell every attempt, those that failed included, and how long all of them took."""
    unclear = [
        execution.job.path
        for execution in project.executions
        if execution.job is not None and execution.attempts[-1].state != "finished"
    ]
    if unclear:
        return Outcome(False, f"attempts after the last success, or none that succeeded: {few(unclear)}")
    total = project.compute
    lost = f"; {total.untold} were killed and noted no end: their time is not in it" if total.untold else ""
    return Outcome(
        True,
        f"{total.core_hours:.3g} core-hours in {total.attempts} attempts at {len(project.executions)} jobs, "
        f"{total.wasted_core_hours:.3g} of them in {total.unfinished} that failed or were interrupted{lost}",
    )


def weights_kept(project: Project) -> Outcome:
    """Check that DVC keeps an archive of every run's weights and arrays, and every archive on disk is the one kept."""
    path = project.results / "weights.dvc"
    text = project.text(path.as_posix())
    if not text:
        return Outcome(False, f"there is no {path}; `make snapshot SCALE={project.scale}` writes it")
    kept = {Path(output["path"]).stem: output for output in outputs(text)}
    runs = [job.id.replace("/", ".") for job in project.chain.jobs.values() if job.kind == "train"]
    absent = [run for run in runs if run not in kept]
    if absent or not runs:
        return Outcome(False, f"not kept: {few(absent)}" if runs else "nothing was trained", path.as_posix())
    changed = [run for run in runs if not _is_tracked(project.root / project.results / kept[run]["path"], kept[run])]
    if changed:
        return Outcome(False, f"archives differ from what is kept: {few(changed)}", path.as_posix())
    return Outcome(True, f"{len(runs)} archives", path.as_posix())


def _is_tracked(archive: Path, output: dict[str, object]) -> bool:
    """Return whether an archive is the tracked one; one that is not here is with the remote."""
    return not archive.exists() or md5(archive) == output["md5"]


def all_measured(project: Project) -> Outcome:
    """Check that every published value that is not quoted from elsewhere was measured at full budget."""
    frame = project.comparison[project.comparison["verdict"] != "cited"]
    short = frame[(frame["n"] == 0) | (frame["budget"] != "full")]
    if frame.empty or not short.empty:
        wrong = f"{len(short)} of {len(frame)} values were not: {few(short['id'])}"
        return Outcome(False, wrong, _comparison(project))
    return Outcome(True, f"{len(frame)} values", _comparison(project))


def all_reproduced(project: Project) -> Outcome:
    """Check that every value that was measured at full budget and judged is equivalent or better."""
    judged = _judged(project)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in judged["verdict"].value_counts().items())
    short = judged[judged["verdict"].isin(_UNPROVEN)]
    if judged.empty or not short.empty:
        wrong = f"{counts}; {few(short['id'])}" if counts else "no value was judged at full budget"
        return Outcome(False, wrong, _comparison(project))
    return Outcome(True, counts, _comparison(project))


def differences_explained(project: Project) -> Outcome:
    """Check that every value that was measured at full budget and not reproduced has a documented deviation."""
    bare = missing_deviations(project.comparison)
    if bare or project.comparison.empty:
        return Outcome(False, f"no deviation explains {few(bare)}", "config/deviations")
    explained = int(_judged(project)["verdict"].isin(_UNPROVEN).sum())
    return Outcome(True, f"{explained} values were not reproduced, each has its deviation", "config/deviations")


def _judged(project: Project) -> pd.DataFrame:
    """Return the values that were measured at full budget and judged."""
    frame = project.comparison
    return frame[(frame["budget"] == "full") & frame["verdict"].isin(JUDGED)]


def _comparison(project: Project) -> str:
    return (project.results / "comparison.csv").as_posix()


RESULT_CHECKS: tuple[Callable[[Project], Outcome], ...] = (
    audited,
    rendered,
    code_identified,
    environment_recorded,
    settings_recorded,
    commands_work,
    time_told,
    disk_told,
    seeds_recorded,
    runs_repeated,
    spread_told,
    compute_told,
    weights_kept,
    all_measured,
    all_reproduced,
    differences_explained,
)
