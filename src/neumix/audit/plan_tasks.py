"""What decides how much a job costs, as far as its settings and the records of others tell."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

__all__ = ["Sizes", "Task", "task_of", "work_ratio"]

_SIZE_OF = {"data": "points", "model": "parameters", "stages": "epochs"}
"""The factor that says how much a block of settings matters."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A job as far as it bears on time and sizes.

    Arguments:
        rule: of the workflow.
        id: what the job makes.
        group: jobs of one experiment, or the tables or figures of one paper.
        method: jobs that do the same kind of thing, e.g. train one model with the same losses.
        blocks: settings as text, by what they are about.
        factors: what the cost is proportional to, as far as it is known.
    """

    rule: str
    id: str
    group: str
    method: str
    blocks: Mapping[str, str]
    factors: Mapping[str, float]

    def same_as(self, other: "Task") -> bool:
        """Return whether the other one is the same job with the same settings."""
        return (self.rule, self.id, self.blocks, self.factors) == (other.rule, other.id, other.blocks, other.factors)

    def unknown(self, other: "Task") -> int:
        """Return how many blocks of settings differ from another job's and have no factor that says how much."""
        return sum(
            self.blocks[block] != other.blocks.get(block)
            and not {_SIZE_OF.get(block, "")} <= self.factors.keys() & other.factors.keys()
            for block in self.blocks
        )


@dataclasses.dataclass
class Sizes:
    """Sizes that settings do not tell and that records do.

    Arguments:
        points: points that an epoch sees, by data settings and split.
        parameters: trained values of one seed, by data and model settings.
    """

    points: dict[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    parameters: dict[tuple[str, str], float] = dataclasses.field(default_factory=dict)


def task_of(rule: str, id_: str, parameters: Mapping[str, Any], sizes: Sizes) -> Task:
    """Return what is known of a job's cost.

    Arguments:
        rule: of the workflow.
        id_: what the job makes.
        parameters: as the rule is told, in plain types.
        sizes: learnt from records.
    """
    if rule not in ("train", "evaluate"):
        drawn = rule.startswith("render")
        blocks = {"parameters": _text(parameters)} if drawn else {}
        return Task(rule, id_, id_.partition(".")[0] if drawn else rule, rule, blocks, {})
    data, model = _text(parameters["data"]), _text(parameters["model"])
    stages = parameters["stages"]
    factors = {"seeds": float(parameters["seeds"])}
    if (data, model) in sizes.parameters:
        factors["parameters"] = sizes.parameters[data, model]
    group = f"{parameters['paper']}/{parameters['experiment']}"
    if rule == "evaluate":
        blocks = {"data": data, "model": model, "measure": _text(parameters["measure"])}
        method = f"{parameters['measure']['name']} of {parameters['model']['name']}"
        known = [points for (settings, _), points in sizes.points.items() if settings == data]
        return Task(rule, id_, group, method, blocks, factors | ({"points": max(known)} if known else {}))
    blocks = {"data": data, "model": model, "stages": _text(stages)}
    losses = "+".join(stage["loss"]["name"] for stage in stages.values())
    return Task(
        rule, id_, group, f"{parameters['model']['name']} by {losses}", blocks, factors | _passes(data, stages, sizes)
    )


def _passes(data: str, stages: Mapping[str, Any], sizes: Sizes) -> dict[str, float]:
    """Return the number of epochs and, if it is known, of points that one sees on average.

    A stage without epochs fits itself, and counts as one.
    """
    epochs = [max(1, stage["epochs"]) for stage in stages.values()]
    points = [sizes.points.get((data, stage["split"])) for stage in stages.values()]
    total = float(sum(epochs))
    if any(number is None for number in points):
        return {"epochs": total}
    seen = math.fsum(count * (number or 0.0) for count, number in zip(epochs, points, strict=True))
    return {"epochs": total, "points": seen / total}


def work_ratio(task: Task, reference: Task, *, names: frozenset[str] | None = None) -> float:
    """Return the logarithm of how many times a reference's work a task is: the product of what is known of both.

    Arguments:
        task: to be estimated.
        reference: that was recorded.
        names: of the factors that count; all if none.
    """
    common = [name for name in task.factors if name in reference.factors and (names is None or name in names)]
    return math.fsum(math.log(task.factors[name] / reference.factors[name]) for name in common)


def _text(settings: object) -> str:
    return json.dumps(settings, sort_keys=True)
