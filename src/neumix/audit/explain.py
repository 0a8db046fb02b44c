"""What stands behind a number, for a reader and for programs."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neumix.audit.audit import Target
from neumix.audit.chain import JobRecord
from neumix.catalogue import Catalogue
from neumix.comparison import read_comparison

__all__ = ["describe", "reason_text", "show_text"]

_SHOWN = ("where", "metric", "budget", "dataset", "deviations")


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
        "state": target.state if target.jobs else "not run",
        "findings": [dataclasses.asdict(finding) for finding in target.findings],
        "chain": [_job(catalogue, job) for job in target.jobs],
    }


def _value(results: Path, id_: str) -> dict[str, Any] | None:
    """Return a published value's row of the comparison, without what is empty; none for tables and figures."""
    path = results / "comparison.csv"
    if not path.exists():
        return None
    frame = read_comparison(path)
    rows = frame[frame["id"] == id_]
    if rows.empty:
        return None
    row = rows.iloc[0].to_dict()
    return {str(key): value for key, value in row.items() if value != "" and value == value}  # noqa: PLR0124 (NaN)


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
        "machine": content.get("machine"),
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
            f"  published {value['published']} {value['unit']}, measured {measured}, verdict {value['verdict']}"
        )
        lines += [
            f"  {key}: {value[key]}" for key in ("where", "metric", "budget", "dataset", "deviations") if key in value
        ]
    for job in reversed(description["chain"]):
        lines += _job_lines(job)
    lines += [f"! {finding['state']}: {finding['file']}: {finding['detail']}" for finding in description["findings"]]
    return "\n".join(lines)


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
    if not target.jobs:
        return f"{target.id}: was not run at this scale"
    if not target.findings:
        return f"{target.id}: nothing behind it has changed"
    changed = [finding for finding in target.findings if finding.state != "missing"]
    first = (changed or list(target.findings))[0]
    return f"{target.id}: {first.state}, because of {first.cause}: {first.file} ({first.job}): {first.detail}"
