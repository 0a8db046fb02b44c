"""What the workflow's rules ask of the catalogue: files, code and settings of each job, in plain types."""

import dataclasses
import functools
import hashlib
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from neumix import catalogue as catalogues
from neumix.catalogue import Catalogue, Value
from neumix.closure import sources, write_list
from neumix.files import sha256, write_text
from neumix.results import RunFiles
from neumix.run import Run, Training, module_name
from neumix.settings import CatalogueError, nearest, parse

__all__ = [
    "code",
    "content",
    "deviation_files",
    "evaluation_code",
    "evaluation_history",
    "evaluation_needs",
    "expected_outputs",
    "item_arrays",
    "item_records",
    "item_runs",
    "kept",
    "list_code",
    "listed",
    "manifests",
    "open_catalogue",
    "rendering_code",
    "report_assets",
    "report_config",
    "selected_items",
    "selected_records",
    "settings_of",
    "training_code",
    "training_needs",
    "training_settings",
    "value_records",
    "values",
]

_LISTS, _CHECKED = Path(".neumix/code"), Path(".neumix/checked")


def open_catalogue(root: Path, config: Mapping[str, Any], *, checked: bool = True) -> Catalogue:
    """Read the catalogue for the settings in Snakemake's `config`.

    Arguments:
        root: folder of the repository.
        config: of Snakemake.
        checked: against the code. That imports every model, which takes seconds, so it is noted below `root`/.neumix
            and done again when the code or the settings of a run have changed.

    Raises:
        CatalogueError: one line for each problem.
        OSError: the note cannot be written.
    """
    settings = catalogues.load_settings(config)
    catalogue = catalogues.load(root, settings, check_modules=False)
    note, state = root / _CHECKED / f"{settings.scale}.json", _state(catalogue)
    histories = _histories(note, state)
    if checked and histories is None:
        catalogues.check_against_code(root, catalogue)
        histories = frozenset(run.id for run in catalogue.runs if _reads_history(run))
        write_text(note, json.dumps({"state": state, "histories": sorted(histories)}, indent=1) + "\n")
    return dataclasses.replace(catalogue, histories=histories)


def _state(catalogue: Catalogue) -> str:
    """Return a hash of everything that decides whether a catalogue fits the code."""
    state, package = hashlib.sha256(), Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        state.update(f"{path.relative_to(package).as_posix()} {sha256(path)}\n".encode())
    for run in catalogue.runs:
        state.update(repr((run.id, run.data, run.model, run.stages, run.measure)).encode())
    return state.hexdigest()


def _histories(note: Path, state: str) -> frozenset[str] | None:
    """Return what a note says, if it can be read and is of this state."""
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
        return frozenset(map(str, content["histories"])) if content["state"] == state else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _reads_history(run: Run) -> bool:
    evaluation = importlib.import_module(f"{module_name('papers', run.paper)}.evaluation")
    return getattr(evaluation.MEASURES[run.measure.name], "reads_history", False)


def code(*modules: str) -> list[str]:
    """Return the source files behind modules."""
    return list(_code(Path.cwd(), frozenset(modules)))


def listed(files: Sequence[str]) -> str:
    """Return one file that stands for source files in a job's inputs: Snakemake takes minutes for 60 each of thousands.

    Raises:
        OSError: it cannot be written.
    """
    return _listed(Path.cwd(), tuple(files))


def list_code(catalogue: Catalogue) -> None:
    """Write the lists of the source files behind every job, before Snakemake first looks for one.

    It takes stock of a folder only once: a list that a job's inputs bring about later would be missing to it.

    Raises:
        CatalogueError: the code that runs is not that of the working folder, or a run names another that this scale
            does not have.
        OSError: a list cannot be written.
    """
    package = Path(__file__).resolve().parent
    if not package.is_relative_to(Path.cwd()):
        raise CatalogueError(
            f"{package} would run, which is not the code of this folder and would not be found by those who check its "
            "records: install this one, `pip install --editable .` in an environment of its own, or set PYTHONPATH=src"
        )
    for run in catalogue.runs:
        listed(training_code(run))
        listed(evaluation_code(catalogue, run))
    for slug in catalogue.papers:
        for id_ in catalogue.items(slug):
            listed(rendering_code(id_, catalogue.item(id_).folder))


@functools.cache
def _listed(folder: Path, files: tuple[str, ...]) -> str:
    return write_list([Path(file) for file in files], _LISTS).as_posix()


@functools.cache
def _code(folder: Path, modules: frozenset[str]) -> tuple[str, ...]:
    """Return the files as seen from the working folder, once for all runs of a kind."""
    return tuple(path.as_posix() for path in sources(*modules))


def training_settings(run: Run) -> dict[str, Any]:
    """Return what decides a run's weights; a change in how it is judged or scheduled does not retrain it."""
    fields = {name: getattr(run, name) for name in Training.__dataclass_fields__}
    plain: dict[str, Any] = TypeAdapter(Training).dump_python(Training(**fields), mode="json")
    return plain


def settings_of(run: Run) -> dict[str, Any]:
    """Return a run's settings but for its resources, which do not decide its numbers."""
    plain: dict[str, Any] = TypeAdapter(Run).dump_python(run, mode="json")
    del plain["resources"]
    return plain


def training_code(run: Run) -> list[str]:
    """Return the source files that decide a run's weights."""
    return code(*_modules_of(run))


def training_needs(catalogue: Catalogue, run: Run) -> list[str]:
    """Return record and arrays of the measures of every run whose arrays a run's training data are made from."""
    module = importlib.import_module(module_name("data", run.data.name))
    if not hasattr(module, "needs"):
        return []
    names = module.needs(parse(module.Config, dict(run.data.settings), f"{run.id}: data"))
    files = (_files(catalogue, other.id) for other in _named(catalogue, run, names, "data"))
    return [path.as_posix() for file in files for path in (file.evaluation, file.arrays)]


def evaluation_code(catalogue: Catalogue, run: Run) -> list[str]:
    """Return the source files that decide a run's metrics."""
    needed = (module for other in _needed(catalogue, run) for module in _modules_of(other))
    return code(f"{module_name('papers', run.paper)}.evaluation", "neumix.results", *_modules_of(run), *needed)


def evaluation_history(catalogue: Catalogue, run: Run) -> list[str]:
    """Return the history of a run's training, if its measure reads it."""
    reads = _reads_history(run) if catalogue.histories is None else run.id in catalogue.histories
    return [_files(catalogue, run.id).history.as_posix()] if reads else []


def evaluation_needs(catalogue: Catalogue, run: Run) -> list[str]:
    """Return record and weights of every run whose network a run's measure needs."""
    files = (_files(catalogue, other.id) for other in _needed(catalogue, run))
    return [path.as_posix() for file in files for path in (file.record, file.weights)]


def rendering_code(item: str, kind: str) -> list[str]:
    """Return the source files that decide how a table or figure looks."""
    return code("neumix.rendering", f"{module_name('papers', item.partition('.')[0])}.{kind}")


def manifests(catalogue: Catalogue, run: Run) -> list[str]:
    """Return the manifests of the raw datasets that a run needs; none where the data is simulated or embedded."""
    names = dict.fromkeys((run.data.name.replace("_", "-"), *_origins(run)))
    return [f"data/{name}/SHA256SUMS" for name in names if name in catalogue.datasets]


def content(catalogue: Catalogue, dataset: str) -> dict[str, dict[str, Any]]:
    """Return what decides the content of a dataset's files; not where they come from or what is said of them."""
    files = catalogue.datasets[dataset].files
    return {file.name: {key: getattr(file, key) for key in ("size", "sha256", "md5", "wrapper_md5")} for file in files}


def item_runs(catalogue: Catalogue, item: str) -> list[str]:
    """Return `experiment/run` of the runs that a table or figure draws and that this scale has."""
    paper = catalogue.papers[item.partition(".")[0]]
    return [run for run in catalogue.item(item).runs if run in paper.runs]


def item_records(catalogue: Catalogue, item: str) -> list[str]:
    """Return the records of the measures that a table or figure draws."""
    return [_evaluation(catalogue, run_id) for run_id in _item_run_ids(catalogue, item)]


def item_arrays(catalogue: Catalogue, item: str) -> list[str]:
    """Return the arrays that a table or figure draws."""
    return [_files(catalogue, run_id).arrays.as_posix() for run_id in _item_run_ids(catalogue, item)]


def values(catalogue: Catalogue, slug: str) -> dict[str, dict[str, str]]:
    """Return where each published value's reproduction is found, for the values that this scale measures."""
    paper = catalogue.papers[slug]
    found = {id_: value for id_, value in paper.file.values.items() if value.run in paper.runs}
    return {id_: _value(paper.runs[value.run], value) for id_, value in found.items()}


def value_records(catalogue: Catalogue, slug: str) -> list[str]:
    """Return the records of the measures that a paper's values come from."""
    runs = dict.fromkeys(value["run"] for value in values(catalogue, slug).values())
    return [_evaluation(catalogue, run) for run in runs]


def deviation_files(slug: str) -> list[str]:
    """Return the paper's file of deviations, if it has one."""
    path = Path("config/deviations") / f"{slug}.yaml"
    return [path.as_posix()] if path.exists() else []


def kept(catalogue: Catalogue) -> dict[str, str]:
    """Return the hash of the comparison on disk of each paper that is not selected now."""
    return {
        slug: sha256(path)
        for slug in catalogue.papers
        if slug not in catalogue.selected and (path := _root(catalogue) / "comparison" / f"{slug}.csv").exists()
    }


def selected_items(catalogue: Catalogue) -> list[str]:
    """Return every format of every table and figure of the selected papers."""
    root = _root(catalogue)
    ids = (id_ for slug in catalogue.selected for id_ in catalogue.items(slug))
    return [path.as_posix() for id_ in ids for path in catalogue.item(id_).paths(root, id_).values()]


def expected_outputs(catalogue: Catalogue) -> list[str]:
    """Return everything that a reader of the selected papers expects to find."""
    root = _root(catalogue).as_posix()
    comparisons = [f"{root}/comparison/{slug}.csv" for slug in catalogue.selected]
    return [*selected_items(catalogue), *comparisons, f"{root}/comparison.csv", f"{root}/report/index.html"]


def selected_records(catalogue: Catalogue) -> list[str]:
    """Return the records of every measure of the selected papers."""
    return [_evaluation(catalogue, run.id) for run in catalogue.selected_runs]


def report_config(catalogue: Catalogue) -> list[str]:
    """Return the configuration that the report quotes."""
    return [path for slug in catalogue.papers for path in (f"config/papers/{slug}.yaml", *deviation_files(slug))]


def report_assets() -> list[str]:
    """Return the report's templates and static files."""
    folder = Path(str(importlib.import_module("neumix.report").__path__[0]))
    files = (path for name in ("templates", "static") for path in sorted((folder / name).rglob("*")) if path.is_file())
    return [os.path.relpath(path) for path in files]


def _needed(catalogue: Catalogue, run: Run) -> list[Run]:
    """Return the runs that a measure's setting `needs` names."""
    return _named(catalogue, run, run.measure.settings.get("needs", ()), "measure.needs")


def _named(catalogue: Catalogue, run: Run, names: Sequence[str], key: str) -> list[Run]:
    """Return other runs of the same paper that a setting of a run names, `experiment/run`."""
    available = catalogue.papers[run.paper].runs
    for name in names:
        if name not in available:
            hint = nearest(name, [*available])
            raise CatalogueError(f"{run.id}: key '{key}': this scale has no run '{name}'{hint}")
    return [available[name] for name in names]


def _value(run: Run, value: Value) -> dict[str, str]:
    budget = "full" if value.exact and run.budget == "reduced" else run.budget
    return {"run": run.id, "metric": value.metric, "budget": budget, "dataset": run.dataset}


def _root(catalogue: Catalogue) -> Path:
    return Path("results") / catalogue.settings.scale


def _files(catalogue: Catalogue, run_id: str) -> RunFiles:
    return RunFiles(_root(catalogue), run_id)


def _evaluation(catalogue: Catalogue, run_id: str) -> str:
    return _files(catalogue, run_id).evaluation.as_posix()


def _item_run_ids(catalogue: Catalogue, item: str) -> list[str]:
    paper = item.partition(".")[0]
    return [f"{paper}/{run}" for run in item_runs(catalogue, item)]


def _origins(run: Run) -> Sequence[str]:
    """Return the datasets that a run's dataset is made from."""
    module = importlib.import_module(module_name("data", run.data.name))
    found: Sequence[str] = module.sources(parse(module.Config, dict(run.data.settings), f"{run.id}: data"))
    return found


def _data_modules(run: Run) -> list[str]:
    return [module_name("data", name) for name in (run.data.name, *_origins(run))]


def _modules_of(run: Run) -> list[str]:
    return ["neumix.trained", module_name("models", run.model.name), *_data_modules(run)]
