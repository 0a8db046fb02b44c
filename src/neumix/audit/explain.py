"""What stands behind a number, for a reader and for programs."""

import csv
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neumix.audit.audit import Target
from neumix.audit.chain import JobRecord
from neumix.catalogue import Catalogue

__all__ = ["describe", "reason_text", "show_text"]

_SHOWN = ("where", "metric", "budget", "dataset", "deviations")
_NEEDED = ("published", "unit", "verdict")
_NUMBERS: Mapping[str, Callable[[str], int | float]] = {
    "n": int,
    **dict.fromkeys(("mean", "std", "ci_low", "ci_high", "margin"), float),
}
"""Columns of a comparison that are no text; `neumix.comparison` takes long to load, and a reader waits for this."""


def describe(catalogue: Catalogue, results: Path, target: Target) -> dict[str, Any]:
    """Return everything about a target in plain types: the number and its verdict, its state, the chain behind it.

    Arguments:
        catalogue: for the scale.
        results: folder of the scale's results.
        target: as audited.
    """
    return {
        "id": target.id,
        "scale": catalogue.settings.scale,
        "value": _value(results, target.id),
        "state": target.state if target.known else "not run",
        "findings": [dataclasses.asdict(finding) for finding in target.findings],
        "chain": [_job(catalogue, job) for job in target.jobs],
    }


def _value(results: Path, id_: str) -> dict[str, Any] | None:
    """Return a published value's row of the comparison, without what is empty; none for tables and figures."""
    path = results / "comparison.csv"
    if not path.exists():
        return None
    with path.open(encoding="utf-8", newline="") as stream:
        row = next((row for row in csv.DictReader(stream) if row.get("id") == id_), None)
    if row is None:
        return None
    absent = [name for name in _NEEDED if row.get(name) is None]
    if absent:
        raise ValueError(f"{path}: {id_}: no cell for {', '.join(absent)}; run the pipeline again")
    try:
        return {name: _NUMBERS.get(name, str)(cell) for name, cell in row.items() if name and cell}
    except ValueError as error:
        raise ValueError(f"{path}: {id_}: not a number: {error}; run the pipeline again") from None


def _job(catalogue: Catalogue, job: JobRecord) -> dict[str, Any]:
    content = job.content
    return {
        "kind": job.kind,
        "id": job.id,
        "record": job.path,
        "commit": (content.get("git") or {}).get("commit"),
        "uncommitted_changes": (content.get("git") or {}).get("dirty"),
        "started": content.get("started"),
        "ended": content.get("ended"),
        "wall_seconds": content.get("wall_seconds"),
        "peak_memory_mb": content.get("peak_memory_mb"),
        "resumes": content.get("resumes"),
        "threads": content.get("threads"),
        "machine": content.get("machine"),
        "placement": content.get("placement"),
        "environment": content.get("environment"),
        "seeds": content.get("seeds"),
        "parameters": job.parameters,
        "code": job.inputs("code"),
        "data": {file: _source(catalogue, file, digest) for file, digest in job.inputs("data").items()},
        "inputs": {file: digest for file, digest in job.inputs().items() if file not in job.inputs("code", "data")},
        "outputs": job.outputs,
        "attempts": content.get("attempts"),
    }


def _source(catalogue: Catalogue, manifest: str, digest: str) -> dict[str, Any]:
    """Return where a dataset comes from."""
    name = manifest.split("/")[1]
    declaration = catalogue.datasets.get(name)
    if declaration is None:
        return {"sha256": digest}
    files = [{"name": file.name, "sha256": file.sha256, "urls": list(file.urls)} for file in declaration.files]
    return {"sha256": digest, "dataset": name, "licence": declaration.licence, "files": files}


def show_text(description: Mapping[str, Any]) -> str:
    """Return a description as text, the number first, then its chain from the end to the data."""
    lines = [f"{description['id']} at scale {description['scale']}: {description['state']}"]
    value = description["value"]
    if value:
        measured = f"{value['mean']:.6g} (n = {value['n']})" if "mean" in value else "not measured"
        lines.append(
            f"  published {value['published']} {value.get('unit', '')}, measured {measured}, verdict {value['verdict']}"
        )
        lines += [f"  {key}: {value[key]}" for key in _SHOWN if key in value]
    for job in reversed(description["chain"]):
        lines += _job_lines(job)
    found = [f"! {finding['state']}: {finding['file']}: {finding['detail']}" for finding in description["findings"]]
    return "\n".join([*lines, *dict.fromkeys(found)])


def _job_lines(job: Mapping[str, Any]) -> list[str]:
    machine = job["machine"] or {}
    changed = " with local changes" if job["uncommitted_changes"] else ""
    lines = [
        f"<- {job['kind']} {job['id']}",
        f"   record {job['record']}",
        f"   commit {str(job['commit'])[:12]}{changed}, {job['ended']}, {job['wall_seconds']} s",
        f"   {machine.get('cpu')}, {machine.get('gpu') or 'no GPU'}, {machine.get('os')}",
        f"   code: {len(job['code'])} files",
    ]
    place = job["placement"]
    if place:
        lines.append(f"   {place['scheduler']} job {place['job']} on {place['node']}, partition {place['partition']}")
    lines += [f"   wrote {file}  sha256 {digest[:12]}" for file, digest in job["outputs"].items()]
    for manifest, source in job["data"].items():
        lines.append(f"   data {manifest}  sha256 {source['sha256'][:12]}  {source.get('licence', '')}".rstrip())
        for file in source.get("files", []):
            lines.append(
                f"     {file['name']}  sha256 {file['sha256'][:12]}  {file['urls'][0] if file['urls'] else ''}"
            )
    return lines


def reason_text(target: Target) -> str:
    """Return why a target is not as its records say: the first cause in the order of the chain."""
    if not target.known:
        return f"{target.id}: was not run at this scale"
    if not target.findings:
        return f"{target.id}: nothing behind it has changed"
    changed = [finding for finding in target.findings if finding.state != "missing"]
    first = (changed or list(target.findings))[0]
    return f"{target.id}: {first.state}, because of {first.cause}: {first.file} ({first.job}): {first.detail}"
