"""Weights and arrays of all runs, as archives that DVC keeps, and back again."""

import hashlib
import json
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from neumix.audit.archives import pack, unpack
from neumix.audit.tracked import md5, outputs
from neumix.files import write_text
from neumix.records import read_record
from neumix.results import RunFiles, read_metrics

__all__ = ["note_means", "restore", "snapshot"]

_TRACKED = """\
# Weights and arrays, one archive for each run, so that DVC names the run that something is wrong with. Written by
# `neumix snapshot`; after `dvc pull`, `neumix restore` unpacks them.
outs:
"""

_METRICS = """\
# No stages: Snakemake runs everything. This is for `dvc metrics diff`, which prints each mean that has changed.
metrics:
- metrics.json
"""


def snapshot(root: Path, scale: str) -> list[Path]:
    """Pack weights and arrays of every run into an archive each, track the archives with DVC, and note every mean.

    Writes archives/, weights.dvc, metrics.json and dvc.yaml below results/<scale>; what is right already is left alone.
    Whoever has run one paper need not fetch the others' weights: a run whose files are not here stays tracked as it
    is, as long as the archive was made of the files that its records name.

    Arguments:
        root: folder of the repository.
        scale: of the results.

    Returns:
        The archives that were written.

    Raises:
        FileNotFoundError: there are no runs, or a run's file is not there and no tracked archive holds it.
        ValueError: git ignores the scale's results, a file differs from its record, or DVC refuses.
    """
    runs = _runs(root, scale)
    _check_kept(root, runs[0].root / "weights.dvc")
    folder = runs[0].root
    tracked = _tracked(folder / "weights.dvc")
    written, entries = [], {}
    for run in runs:
        archive, members = _archive(run), _recorded(root, run)
        entry = tracked.get(archive.name)
        if entry is None or not _stays(archive, entry, members):
            if pack(archive, folder, members):
                written.append(archive)
            entry = _entry(archive, members)
        entries[archive.name] = entry
    for path in (folder / "archives").glob("*.tar"):
        if path.name not in entries:  # of a run that is gone, or what a kill left behind
            path.unlink()
    text = yaml.safe_dump([entries[name] for name in sorted(entries)], sort_keys=False)
    _write_changed(folder / "weights.dvc", _TRACKED + text)
    _note_means(runs)
    _commit(root, folder / "weights.dvc")
    return written


def restore(root: Path, scale: str) -> list[Path]:
    """Unpack the archives that `dvc pull` brought into weights/ and arrays/, as far as they are what the records say.

    Arguments:
        root: folder of the repository.
        scale: of the results.

    Returns:
        The files that were written; one that was right already is left alone.

    Raises:
        FileNotFoundError: there are no runs or no archives.
        ValueError: some archives or files are wrong; all others were restored.
    """
    known = {_archive(run): run for run in _runs(root, scale)}
    folder = root / "results" / scale
    archives = sorted((folder / "archives").glob("[!.]*.tar"))
    if not archives:
        raise FileNotFoundError(f"{folder / 'archives'}: no archives; `dvc pull {folder / 'weights.dvc'}` brings them")
    restored: list[Path] = []
    problems: list[str] = []
    for archive in archives:
        try:
            if archive not in known:
                raise ValueError(f"{archive}: no run of {folder / 'runs'} has this name; nothing was written")
            written, wrong = unpack(archive, folder, _recorded(root, known[archive]))
            restored += written
            problems += wrong
        except ValueError as error:
            problems.append(str(error))
    if problems:
        done = f"{len(restored)} files were restored, others are wrong:"
        raise ValueError("\n  ".join([done, *problems]))
    return restored


def _runs(root: Path, scale: str) -> list[RunFiles]:
    folder = root / "results" / scale
    records = sorted((folder / "runs").glob("*/*/*/run.json"))
    if not records:
        raise FileNotFoundError(f"{folder / 'runs'}: no records of runs; run the pipeline first")
    return [RunFiles(folder, record.parent.relative_to(folder / "runs").as_posix()) for record in records]


def _check_kept(root: Path, tracked: Path) -> None:
    """Refuse early what DVC refuses in the end."""
    command = ["git", "check-ignore", "--quiet", str(tracked.relative_to(root))]
    if subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0:
        raise ValueError(f"{tracked}: git ignores the results of this scale, so no commit would name what DVC keeps")


def _archive(run: RunFiles) -> Path:
    return run.root / "archives" / f"{run.id.replace('/', '.')}.tar"


def _recorded(root: Path, run: RunFiles) -> dict[str, str]:
    """Return the hashes of a run's weights and, if it was measured, arrays, by name below results/<scale>."""
    members = {}
    for record, file in ((run.record, run.weights), (run.evaluation, run.arrays)):
        if record == run.evaluation and not record.exists():
            continue
        name = file.relative_to(root).as_posix()
        outputs = read_record(record).get("outputs", {})
        if name not in outputs:
            raise ValueError(f"{record}: its outputs do not name {name}; run the job again")
        members[file.relative_to(run.root).as_posix()] = str(outputs[name])
    return members


def _tracked(path: Path) -> dict[str, dict[str, Any]]:
    """Return what DVC tracks, by name of the archive."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return {Path(entry["path"]).name: entry for entry in outputs(text)}


def _stays(archive: Path, entry: Mapping[str, Any], members: Mapping[str, str]) -> bool:
    """Return whether a run's files are not here and the tracked archive was made of them; it may be here itself."""
    if all((archive.parents[1] / name).exists() for name in members) or entry.get("meta") != _meta(members):
        return False
    return not archive.exists() or entry == _entry(archive, members)


def _entry(archive: Path, members: Mapping[str, str]) -> dict[str, Any]:
    size, path = archive.stat().st_size, f"{archive.parent.name}/{archive.name}"
    return {"md5": md5(archive), "size": size, "hash": "md5", "path": path, "meta": _meta(members)}


def _meta(members: Mapping[str, str]) -> dict[str, str]:
    """Return the hash of what a run's records say of its files: DVC's own is of the archive, which need not be here."""
    return {"members": hashlib.sha256(json.dumps(members, sort_keys=True).encode()).hexdigest()}


def note_means(root: Path, scale: str) -> None:
    """Write the mean of every metric of every run where `dvc metrics show` and `dvc metrics diff` find it.

    Arguments:
        root: folder of the repository.
        scale: of the results.

    Raises:
        FileNotFoundError: there are no runs.
        ValueError: a run's metrics cannot be read.
    """
    _note_means(_runs(root, scale))


def _note_means(runs: Sequence[RunFiles]) -> None:
    _write_changed(runs[0].root / "metrics.json", json.dumps(_means(runs), indent=1) + "\n")
    _write_changed(runs[0].root / "dvc.yaml", _METRICS)


def _means(runs: Sequence[RunFiles]) -> dict[str, Any]:
    """Return the mean of every metric over seeds, by paper, run and name; DVC reads no lists."""
    means: dict[str, Any] = {}
    for run in runs:
        if run.metrics.exists():
            paper, _, name = run.id.partition("/")
            metrics = read_metrics(run.metrics)
            means.setdefault(paper, {})[name] = {key: statistics.fmean(metrics[key]) for key in sorted(metrics)}
    return means


def _write_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _commit(root: Path, tracked: Path) -> None:
    """Have DVC take the tracked files that are here into its cache, from where `dvc push` sends them."""
    # The command has no word for files that are not here; and importing DVC takes a second.
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repository:
            repository.commit(str(tracked), force=True, allow_missing=True)
    except DvcException as error:
        raise ValueError(f"{tracked}: DVC did not take it: {error}") from error
