"""The catalogue: typed configuration of papers, experiments, runs, tables and figures, resolved for a scale."""

import dataclasses
import importlib
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from neumix.data.declarations import DatasetDeclaration, load_declarations
from neumix.published import (
    Deviation,
    Margin,
    PublishedValue,
    margin_for,
    read_deviations,
    read_margins,
    read_published,
)
from neumix.run import Budget, Run, Slug, budget_note, module_name
from neumix.settings import STRICT, CatalogueError, nearest, parse, read_yaml

__all__ = ["Catalogue", "Item", "Paper", "Settings", "Value", "check_against_code", "load", "load_settings"]

Scale = Literal["smoke", "laptop", "paper"]

TABLE_FORMATS = ("csv", "md", "tex", "html")
FIGURE_FORMATS = ("svg", "png")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settings:
    """What a user chooses in config/config.yaml or with `--config`."""

    scale: Scale = "smoke"
    papers: str | tuple[str, ...] = "all"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    mirrors: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Item:
    """A table, figure or diagram.

    Arguments:
        label: what the paper calls it, or a title of our own.
        kind: how it is rendered; a diagram is a figure without data.
        title: caption headline.
        shows: what a reader should see in it.
        differs: how ours differs from the paper's.
        runs: `experiment/run` names whose results it draws.
        beyond_paper: whether the paper has no such item.
        exact: whether it shows what the data is drawn from and nothing learned, so that no budget bears on it.
    """

    label: str
    kind: Literal["table", "figure", "diagram"]
    title: str
    shows: str
    differs: str = ""
    runs: tuple[str, ...] = ()
    beyond_paper: bool = False
    exact: bool = False

    @property
    def folder(self) -> Literal["tables", "figures"]:
        """Where it is drawn: the module of its paper, and the folder of the results."""
        return "tables" if self.kind == "table" else "figures"

    def paths(self, root: Path, id_: str) -> dict[str, Path]:
        """Return the rendered files by format.

        Arguments:
            root: results/<scale>.
            id_: `paper.item`.
        """
        formats = TABLE_FORMATS if self.folder == "tables" else FIGURE_FORMATS
        return {name: root / self.folder / f"{id_}.{name}" for name in formats}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Value:
    """Where the reproduction of a published value is found.

    Arguments:
        run: `experiment/run`.
        metric: key of that run's metrics.
        exact: whether it depends on nothing learned, such as a number of parameters, so that a reduced budget has no
            bearing on it.
    """

    run: str
    metric: str
    exact: bool = False


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Variant:
    """What a scale changes in an experiment.

    Arguments:
        budget: how the budget and the data compare with the paper's.
        dataset: what a reader should call the data, if it is other data than the experiment's.
        settings: laid over the settings of every run.
        runs: laid over those of single runs.
        skip: runs that this scale leaves out.
    """

    budget: Budget
    dataset: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    runs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    skip: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Experiment:
    """An experiment: settings that its runs share, what each run changes, what each scale changes."""

    title: str
    section: str
    dataset: str
    settings: Mapping[str, Any]
    runs: Mapping[Slug, Mapping[str, Any]]
    scales: Mapping[Scale, Variant]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PaperFile:
    """Content of config/papers/<slug>.yaml; a paper may begin as a citation with published values alone."""

    title: str
    authors: str
    venue: str
    year: int
    url: str
    experiments: Mapping[Slug, Experiment] = dataclasses.field(default_factory=dict)
    items: Mapping[Slug, Item] = dataclasses.field(default_factory=dict)
    values: Mapping[str, Value] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Paper:
    """A paper, resolved for one scale."""

    slug: str
    file: PaperFile
    runs: Mapping[str, Run]
    published: tuple[PublishedValue, ...]
    deviations: tuple[Deviation, ...]


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """All configuration, checked and resolved for one scale.

    Arguments:
        settings: what the user chose.
        datasets: by name.
        margins: by metric.
        papers: by slug.
        histories: ids of the runs whose measures read the history of training; none if that has not been looked up.
    """

    settings: Settings
    datasets: Mapping[str, DatasetDeclaration]
    margins: Mapping[str, Margin]
    papers: Mapping[str, Paper]
    histories: frozenset[str] | None = None

    @property
    def selected(self) -> tuple[str, ...]:
        """Slugs of the papers that the user asked for."""
        chosen = self.settings.papers
        names = chosen.replace(" ", "").split(",") if isinstance(chosen, str) else list(chosen)
        if names == ["all"]:
            return tuple(self.papers)
        for name in names:
            if name not in self.papers:
                raise CatalogueError(f"config: key 'papers': unknown paper '{name}'{nearest(name, [*self.papers])}")
        return tuple(slug for slug in self.papers if slug in names)

    @property
    def runs(self) -> tuple[Run, ...]:
        """Runs of all papers, selected or not."""
        return tuple(run for paper in self.papers.values() for run in paper.runs.values())

    @property
    def selected_runs(self) -> tuple[Run, ...]:
        """Runs of the selected papers."""
        return tuple(run for slug in self.selected for run in self.papers[slug].runs.values())

    def run(self, paper: str, experiment: str, run: str) -> Run:
        """Return one run; wildcard values of a rule are its arguments."""
        return self.papers[paper].runs[f"{experiment}/{run}"]

    def item(self, id_: str) -> Item:
        """Return a table or figure by `paper.item`."""
        slug, _, name = id_.partition(".")
        file = self.papers[slug].file
        if name not in file.items:
            raise CatalogueError(f"'{id_}' is not a table or figure of the catalogue")
        return file.items[name]

    def item_note(self, id_: str) -> str:
        """Return what a reader must know of the budget behind a table or figure; empty if it is the paper's."""
        item, available = self.item(id_), self.papers[id_.partition(".")[0]].runs
        runs = [] if item.exact else [available[run] for run in item.runs if run in available]
        datasets = [name for run in runs for name in run.dataset.split(", ")]
        return budget_note([run.budget for run in runs], datasets, self.settings.scale)

    def items(self, paper: str) -> tuple[str, ...]:
        """Return the ids, `paper.item`, of a paper's tables and figures."""
        return tuple(f"{paper}.{name}" for name in self.papers[paper].file.items)


def load_settings(content: Mapping[str, Any], where: str = "config/config.yaml") -> Settings:
    """Read the user's settings; unknown keys are errors.

    Raises:
        CatalogueError: names the key and the nearest valid one.
    """
    return parse(Settings, dict(content), where)


def load(root: Path, settings: Settings, *, check_modules: bool = True) -> Catalogue:
    """Read and check every file under `root`/config.

    Arguments:
        root: folder of the repository.
        settings: what the user chose.
        check_modules: also check the settings against the code.

    Raises:
        CatalogueError: one line for each problem, with file, key and the nearest valid key.
    """
    config = root / "config"
    margins = read_margins(config / "margins.yaml")
    slugs = sorted(path.stem for path in (config / "papers").glob("*.yaml"))
    papers = {slug: _load_paper(config, slug, settings.scale, margins) for slug in slugs}
    catalogue = Catalogue(settings, load_declarations(config / "datasets.yaml"), margins, papers)
    catalogue.selected  # noqa: B018 (an unknown paper is an error now, not when a rule asks)
    if check_modules:
        check_against_code(root, catalogue)
    return catalogue


def check_against_code(root: Path, catalogue: Catalogue) -> None:
    """Check the settings of datasets, models and measures against the code, which imports the models (and torch).

    Raises:
        CatalogueError: one line for each problem, with file, key and the nearest valid key.
    """
    for run in catalogue.runs:
        _check_modules(run, str(root / "config" / "papers" / f"{run.paper}.yaml"))


def _load_paper(config: Path, slug: str, scale: Scale, margins: Mapping[str, Margin]) -> Paper:
    published = read_published(config / "published" / f"{slug}.csv")
    for value in published:
        margin_for(value, margins, str(config / "margins.yaml"))
    deviations = _load_deviations(config / "deviations" / f"{slug}.yaml", published)
    path = config / "papers" / f"{slug}.yaml"
    file = parse(PaperFile, read_yaml(path), str(path))
    runs = {
        f"{name}/{run}": _resolve(slug, name, run, experiment, scale, str(path))
        for name, experiment in file.experiments.items()
        if scale in experiment.scales
        for run in experiment.runs
        if run not in experiment.scales[scale].skip
    }
    _check_references(file, published, str(path))
    return Paper(slug, file, runs, published, deviations)


def _load_deviations(path: Path, published: Sequence[PublishedValue]) -> tuple[Deviation, ...]:
    deviations = read_deviations(path)
    ids = [value.id for value in published]
    for deviation in deviations:
        for id_ in deviation.values:
            if id_ not in ids:
                raise CatalogueError(f"{path}: deviations.{deviation.id}.values: unknown id '{id_}'{nearest(id_, ids)}")
    return deviations


def _resolve(slug: str, name: str, run: str, experiment: Experiment, scale: Scale, path: str) -> Run:
    where = f"{path}: experiments.{name}"
    variant = experiment.scales[scale]
    for key, others in (("runs", variant.runs), ("skip", variant.skip)):
        for other in others:
            if other not in experiment.runs:
                hint = nearest(other, [*experiment.runs])
                raise CatalogueError(f"{where}.scales.{scale}.{key}: unknown run '{other}'{hint}")
    layers = (experiment.settings, experiment.runs[run], variant.settings, variant.runs.get(run, {}))
    content: dict[str, Any] = {}
    for layer in layers:
        content = _merge(content, layer)
    fixed = {"paper": slug, "experiment": name, "name": run}
    shared = {"budget": variant.budget, "dataset": variant.dataset or experiment.dataset}
    return parse(Run, {**shared, **content, **fixed}, f"{where} (run {run}, scale {scale})")


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another; mappings merge (unless another component is named), the rest replaces."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if (
            isinstance(old, Mapping)
            and isinstance(value, Mapping)
            and value.get("name", old.get("name")) == old.get("name")
        ):
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _check_references(file: PaperFile, published: Sequence[PublishedValue], path: str) -> None:
    runs = [f"{name}/{run}" for name, experiment in file.experiments.items() for run in experiment.runs]
    ids = [value.id for value in published]
    for name, item in file.items.items():
        for run in item.runs:
            if run not in runs:
                raise CatalogueError(f"{path}: items.{name}.runs: unknown run '{run}'{nearest(run, runs)}")
    for id_, value in file.values.items():
        if id_ not in ids:
            raise CatalogueError(f"{path}: values: unknown published id '{id_}'{nearest(id_, ids)}")
        if value.run not in runs:
            raise CatalogueError(f"{path}: values.{id_}.run: unknown run '{value.run}'{nearest(value.run, runs)}")


def _check_modules(run: Run, path: str) -> None:
    where = f"{path}: experiments.{run.experiment} (run {run.name})"
    data = _module("data", run.data.name, f"{where}: key 'data.name'")
    for origin in data.sources(parse(data.Config, dict(run.data.settings), f"{where}: data")):
        _module("data", origin, f"{where}: data")
    model = _module("models", run.model.name, f"{where}: key 'model.name'")
    parse(model.Config, dict(run.model.settings), f"{where}: model")
    for name, stage in run.stages.items():
        parse(model.Loss, dict(stage.loss), f"{where}: stages.{name}.loss")
    evaluation = importlib.import_module(f"neumix.papers.{run.paper}.evaluation")
    if run.measure.name not in evaluation.MEASURES:
        hint = nearest(run.measure.name, [*evaluation.MEASURES])
        raise CatalogueError(f"{where}: key 'measure.name': unknown measure '{run.measure.name}'{hint}")
    parse(evaluation.MEASURES[run.measure.name], dict(run.measure.settings), f"{where}: measure")


def _module(kind: Literal["data", "models"], name: str, where: str) -> Any:
    module = module_name(kind, name)
    if importlib.util.find_spec(module) is None:
        folder = Path(str(importlib.import_module(f"neumix.{kind}").__path__[0]))
        valid = [path.stem for path in folder.iterdir() if re.fullmatch(r"[a-z][a-z0-9_]*", path.stem)]
        raise CatalogueError(f"{where}: there is no {module}{nearest(name, valid)}")
    return importlib.import_module(module)
