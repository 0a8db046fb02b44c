"""A plan for readers and for programs."""

import dataclasses
from collections.abc import Callable
from typing import Any

from neumix.audit.plan import Cost, Plan
from neumix.audit.plan_estimate import BASES, COVERAGE, Basis, Range
from neumix.report.formatting import duration

__all__ = ["plan_json", "plan_text"]

_LONGEST = 5
_BASES: dict[Basis, str] = {
    "same": "from a record of the same job and settings",
    "experiment": "scaled from the nearest record of the same experiment and method",
    "method": "scaled from the nearest record of the same method in another experiment",
    "limit": "nothing comparable was recorded; the upper end is the time that the workflow allows",
}


def plan_text(plan: Plan) -> str:
    """Return a plan as text: what runs, what it costs, what the estimates rest on."""
    if not plan.costs:
        return f"{plan.scale}: nothing to be done"
    rules = ", ".join(f"{rule} {count}" for rule, count in plan.rules.items())
    shared = f"{plan.slots} {plan.slot_name}" + ("" if plan.gpus is None else f", {plan.gpus} GPU at a time")
    lines = [
        f"{plan.scale}: {len(plan.costs)} jobs: {rules}",
        _line("core-hours", plan.core_hours, _hours),
        _line("GPU-hours", plan.gpu_hours, _hours),
        _line(f"wall time with {shared}", plan.wall, duration),
        f"{_disk(plan)}; {_bytes(plan.replaced)} of outputs are there now, {_bytes(plan.free)} are free",
        _line("download", plan.download, _bytes) + (f"; {', '.join(plan.datasets)}" if plan.datasets else ""),
        f"Likely value and interval; that covers {COVERAGE:.0%} of what estimates of recorded jobs would have missed.",
        *_foundations(plan),
        "Longest jobs:",
        *(_job_line(cost) for cost in _longest(plan)),
    ]
    return "\n".join(lines)


def _foundations(plan: Plan) -> list[str]:
    lines = ["Times are"]
    for basis in BASES:
        costs = plan.on(basis)
        if costs:
            hours = sum(cost.time.range.high for cost in costs) / 3600
            lines.append(f"  {len(costs):4} {_BASES[basis]} (up to {_hours(hours)} h)")
    unsized = sum(cost.size is None for cost in plan.costs)
    if unsized:
        lines.append(f"  Disk leaves out {unsized} jobs: nothing comparable is on disk.")
    if plan.disk.high > plan.free:
        lines.append("  The disk may not suffice.")
    exceeding = [cost.job.name for cost in plan.costs if cost.may_exceed]
    if exceeding:
        named = ", ".join(exceeding[:_LONGEST]) + (", ..." if len(exceeding) > _LONGEST else "")
        lines.append(f"  A cluster may end {len(exceeding)} of them before they are done: {named}")
    return lines


def _disk(plan: Plan) -> str:
    return _line("disk", plan.disk, _bytes) if any(cost.size for cost in plan.costs) else "  disk: not known"


def _longest(plan: Plan) -> list[Cost]:
    return sorted(plan.costs, key=lambda cost: -cost.time.range.likely)[:_LONGEST]


def _job_line(cost: Cost) -> str:
    return f"{_line(cost.job.name, cost.time.range, duration)}; {cost.time.source}"


def _line(name: str, quantity: Range, form: Callable[[float], str]) -> str:
    if quantity.low == quantity.high:
        return f"  {name}: {form(quantity.likely)}"
    return f"  {name}: {form(quantity.likely)} ({form(quantity.low)} to {form(quantity.high)})"


def _hours(hours: float) -> str:
    return f"{hours:.3g}" if hours < 1000 else f"{hours:,.0f}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return a plan in plain types: totals, and every job with what its estimate rests on."""
    totals = ("core_hours", "gpu_hours", "wall", "disk", "download")
    names = {"wall": "wall_seconds", "disk": "disk_bytes", "download": "download_bytes"}
    return {
        "scale": plan.scale,
        "rules": dict(plan.rules),
        plan.slot_name: plan.slots,
        "gpus": plan.gpus,
        **{names.get(total, total): dataclasses.asdict(getattr(plan, total)) for total in totals},
        "replaced_bytes": plan.replaced,
        "free_bytes": plan.free,
        "datasets": list(plan.datasets),
        "coverage": COVERAGE,
        "bases": {basis: len(plan.on(basis)) for basis in BASES},
        "unknown_sizes": [cost.job.name for cost in plan.costs if cost.size is None],
        "may_exceed_runtime": [cost.job.name for cost in plan.costs if cost.may_exceed],
        "jobs": [_job_json(cost) for cost in plan.costs],
    }


def _job_json(cost: Cost) -> dict[str, Any]:
    job = cost.job
    return {
        "rule": job.rule,
        "id": job.id,
        "threads": job.threads,
        "gpu": job.gpu,
        "runtime_minutes": job.runtime,
        "reason": job.reason,
        "seconds": dataclasses.asdict(cost.time.range),
        "basis": cost.time.basis,
        "source": cost.time.source,
        "bytes": None if cost.size is None else dataclasses.asdict(cost.size.range),
    }
