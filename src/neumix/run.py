"""A run as resolved from the catalogue: what is trained, and how it is judged."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field
from pydantic.dataclasses import dataclass

from neumix.schedule import Stage
from neumix.settings import STRICT

__all__ = ["Budget", "Named", "Resources", "Run", "Slug", "Training", "budget_note", "module_name"]

Budget = Literal["full", "reduced", "stand_in"]
Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]

_BUDGETS = {"reduced": "reduced budget", "stand_in": "stand-in data or budget"}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Named:
    """A component found by name, and its settings."""

    name: Slug
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _flat(cls, content: Any) -> Any:
        """Accept `{name: x, key: value}`, the way it reads best in YAML."""
        if isinstance(content, Mapping) and "settings" not in content:
            return {
                "name": content.get("name"),
                "settings": {k: v for k, v in content.items() if k != "name"},
            }
        return content


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Resources:
    """What one job needs.

    Arguments:
        threads: CPU threads; results are bit-identical for equal numbers of threads.
        mem_mb: memory in MiB.
        runtime: minutes.
        gpu: number of GPUs.
    """

    threads: Annotated[int, Field(gt=0)] = 1
    mem_mb: Annotated[int, Field(gt=0)] = 2000
    runtime: Annotated[int, Field(gt=0)] = 60
    gpu: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Training:
    """What decides a run's weights.

    Arguments:
        paper, experiment, name: its place in the catalogue.
        data: dataset module and settings.
        model: model module and settings.
        stages: training schedule, in order.
        seeds: number of repetitions; seeds 0, 1, ... are trained together.
    """

    paper: Slug
    experiment: Slug
    name: Slug
    data: Named
    model: Named
    stages: Mapping[Slug, Stage]
    seeds: Annotated[int, Field(gt=0)] = 10

    @property
    def id(self) -> str:
        """Path-like name, `paper/experiment/run`."""
        return f"{self.paper}/{self.experiment}/{self.name}"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Run(Training):
    """A training, and how it is judged.

    Arguments:
        budget: how its budget and data compare with the paper's.
        dataset: what a reader should call its data.
        measure: function of the paper's `evaluation` module and its settings.
        resources: what its training needs.
    """

    budget: Budget
    dataset: str
    measure: Named
    resources: Resources = Resources()


def budget_note(budgets: Sequence[Budget], datasets: Sequence[str], scale: str) -> str:
    """Return what a reader must know of the budget behind an item; empty if every run had the paper's."""
    labels = sorted({_BUDGETS[budget] for budget in budgets if budget != "full"})
    if not labels:
        return ""
    return f"Scale {scale}: {', '.join(labels)} ({', '.join(sorted(set(datasets)))}); not a reproduction."


def module_name(kind: Literal["data", "models", "papers"], name: str) -> str:
    """Return the module that a name in the catalogue stands for."""
    return f"neumix.{kind}.{name.replace('-', '_')}"
