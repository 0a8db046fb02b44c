"""A paper's tables and figures drawn from results that are made up: what the tests of every paper's rendering share."""

import dataclasses
import importlib
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from figure_checks import assert_texts_apart, assert_texts_in_cells
from matplotlib.figure import Figure

from neumix import dag, rendering
from neumix.catalogue import Catalogue, Item, Scale, Settings, load
from neumix.results import Measurement, Results, RunFiles, write_measurement
from neumix.run import Run

ROOT = Path(__file__).parent.parent
NOTE = "Scale smoke: stand-in data or budget (digits 8x8 (scikit-learn)); not a reproduction."

Measure = Callable[[Run, np.random.Generator], Measurement]


@pytest.fixture(autouse=True)
def drawing_style() -> Iterator[None]:
    """Draw in the project's style; a test module takes this up by naming it."""
    with rendering.style():
        yield


@dataclasses.dataclass(frozen=True)
class DrawnPaper:
    """A paper at one scale, its items, and its functions that draw them.

    Arguments:
        slug: of the paper.
        scale: whose runs have results.
    """

    slug: str
    scale: Scale = "paper"

    @cached_property
    def catalogue(self) -> Catalogue:
        return load(ROOT, Settings(scale=self.scale, papers=self.slug), check_modules=False)

    @property
    def runs(self) -> Mapping[str, Run]:
        return self.catalogue.papers[self.slug].runs

    @property
    def items(self) -> Mapping[str, Item]:
        return self.catalogue.papers[self.slug].file.items

    @property
    def tables(self) -> list[str]:
        return [name for name, item in self.items.items() if item.kind == "table"]

    @property
    def figures(self) -> list[str]:
        return [name for name, item in self.items.items() if item.kind != "table"]

    def module(self, kind: str) -> ModuleType:
        return importlib.import_module(f"neumix.papers.{self.slug}.{kind}")

    def write(self, root: Path, measures: Mapping[str, Measure], seed: int, seeds: int | None = None) -> Path:
        """Write made-up results of every run that has one of some measures.

        Arguments:
            root: where to, in place of results/<scale>.
            measures: functions that make them up, by the name of the measure.
            seed: of what they draw.
            seeds: number of seeds that the records tell, if not the catalogue's.
        """
        rng = np.random.default_rng(seed)
        for run in self.runs.values():
            if run.measure.name in measures:
                files = RunFiles(root, run.id)
                write_measurement(measures[run.measure.name](run, rng), files.metrics, files.arrays)
                settings = dag.training_settings(run)
                parameters = settings if seeds is None else {**settings, "seeds": seeds}
                files.record.write_text(json.dumps({"format": 1, "parameters": parameters}))
        return root

    def results(self, root: Path, item: str) -> Results:
        """Return what an item's function gets: those of its runs that the scale has."""
        return Results(root, self.slug, [run for run in self.items[item].runs if run in self.runs])

    def table(self, root: Path, item: str) -> pd.DataFrame:
        return getattr(self.module("tables"), item)(self.results(root, item))

    def figure(self, root: Path, item: str) -> Figure:
        return getattr(self.module("figures"), item)(self.results(root, item))

    def assert_torch_is_not_imported(self) -> None:
        """Tables and figures can be imported without torch."""
        names = ", ".join(f"neumix.papers.{self.slug}.{kind}" for kind in ("tables", "figures"))
        code = f"import sys, {names}; sys.exit('torch' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "src")

    def assert_complete(self, root: Path, item: str) -> None:
        """A table is drawn without warnings and has text in every cell."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            frame = self.table(root, item)
        assert_texts_in_cells(frame)

    def assert_legible(self, root: Path, item: str) -> None:
        """A figure is drawn without warnings; its texts, with the note on the budget, are apart and inside."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = self.figure(root, item)
            drawn.supxlabel(NOTE, fontsize=7)  # where the budget's note is written
            drawn.canvas.draw()
        assert_texts_apart(drawn)
