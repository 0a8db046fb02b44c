"""What the report is made of, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd

__all__ = ["DeviationInput", "ItemInput", "PaperInput", "ReportInputs", "RunInput"]


@dataclass(frozen=True, kw_only=True)
class ItemInput:
    """A table, figure or diagram and where its rendered files are.

    Arguments:
        id: paper and name, e.g. `inclass.table2`.
        label: what the paper calls it, e.g. `Table 2`.
        kind: decides whether it is shown as a table or as an image.
        title: caption in a few words.
        shows: what a reader sees in it.
        differs: how ours differs from the printed one; empty when it does not.
        beyond_paper: True for one that the paper does not have.
        stand_in: what stands in for the paper's data, or None.
        runs: ids of the runs it is drawn from.
        paths: file per suffix, e.g. `{"csv": ...}` or `{"svg": ..., "png": ...}`; they need not exist.
    """

    id: str
    label: str
    kind: Literal["table", "figure", "diagram"]
    title: str
    shows: str
    differs: str = ""
    beyond_paper: bool = False
    stand_in: str | None = None
    runs: tuple[str, ...] = ()
    paths: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DeviationInput:
    """A choice that the paper leaves open or that is made differently, and why.

    Arguments:
        id: name that the comparison's `deviations` column refers to.
        about: the subject in a few words.
        choice: what is done here.
        reason: why.
        source: where the paper or its code says something about it.
        values: ids of the published numbers it bears on.
        tried: what was tried to close a gap.
        cause: what is believed to cause it.
    """

    id: str
    about: str
    choice: str
    reason: str
    source: str = ""
    values: tuple[str, ...] = ()
    tried: str | None = None
    cause: str | None = None


@dataclass(frozen=True, kw_only=True)
class PaperInput:
    """One paper with its tables, figures and deviations, in the order in which they are shown."""

    slug: str
    title: str
    authors: str
    year: int
    url: str
    items: tuple[ItemInput, ...] = ()
    deviations: tuple[DeviationInput, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RunInput:
    """One run: its record, its history and its metrics.

    Arguments:
        id: `<paper>/<experiment>/<run>`.
        record: the parsed `run.json`.
        history: one row per epoch; columns that start with `loss` or `held_out` are drawn.
        metrics: per name one value per seed.
    """

    id: str
    record: Mapping[str, Any]
    history: pd.DataFrame | None = None
    metrics: Mapping[str, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """Everything that one report shows.

    Arguments:
        scale: `smoke`, `laptop` or `paper`.
        generated_from: git commit of the code.
        version: version of the package.
        comparison: one row per published number, with the columns of `neumix.comparison.COLUMNS`.
        papers: papers in the order in which they are shown.
        runs: runs that the comparison and the items refer to.
        chains: what stands behind each published number and each item that has a page of its own, by id; see
            `neumix.audit.explain.describe`.
    """

    scale: str
    generated_from: str
    version: str
    comparison: pd.DataFrame
    papers: tuple[PaperInput, ...]
    runs: tuple[RunInput, ...] = ()
    chains: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
