"""What every dataset, model and paper must offer, over all that are discovered: adding one needs no test of its own."""

import dataclasses
import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydantic
import pytest
import torch

import neumix
from neumix import catalogue, data, models, papers
from neumix.batching import DeviceSplit
from neumix.data.dataset import Dataset
from neumix.data.declarations import load_declarations
from neumix.models.base import BatchedModel
from neumix.run import Run
from neumix.settings import parse
from neumix.trained import build_model, data_settings, load_dataset, phases
from neumix.training import Phase, generators

REPOSITORY = Path(__file__).parents[1]
SOURCE = Path(neumix.__file__).parents[1]
CATALOGUE = catalogue.load(REPOSITORY, catalogue.Settings(scale="smoke"), check_modules=False)
RUNS = {run.id: run for paper in CATALOGUE.papers.values() for run in paper.runs.values()}
# A paper without experiments has only its published values here.
FILES = {slug: paper.file for slug, paper in CATALOGUE.papers.items() if paper.file and paper.file.experiments}
DECLARED = load_declarations(REPOSITORY / "config" / "datasets.yaml")


def children(package: ModuleType) -> Iterator[tuple[str, ModuleType]]:
    for info in pkgutil.iter_modules(package.__path__):
        yield info.name, importlib.import_module(f"{package.__name__}.{info.name}")


DATA = dict(children(data))
DATASETS = {name: module for name, module in DATA.items() if hasattr(module, "load")}
MODELS = {name: module for name, module in children(models) if name != "base"}
DISCOVERED = [name for name, module in children(papers)]


def assert_strict(kind: Any) -> None:
    """A settings class is frozen, takes keywords only and refuses keys that it does not know."""
    assert kind.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(kind))
    assert kind.__pydantic_config__["extra"] == "forbid"
    with pytest.raises(pydantic.ValidationError, match="no_such_key"):
        pydantic.TypeAdapter(kind).validate_python({"no_such_key": 1})


def is_documented(kind: Any) -> bool:
    """Whether docstrings have a line for every setting, inherited ones too, but a `name` among closed values."""
    text = "\n".join(base.__doc__ or "" for base in kind.__mro__ if base is not object)
    names = [field.name for field in dataclasses.fields(kind)]
    return all(f"{name}:" in text or f"{name}," in text for name in names if name != "name")


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_has_settings_sources_and_a_loader(name: str) -> None:
    module = DATASETS[name]
    assert_strict(module.Config)
    assert is_documented(module.Config)
    assert list(inspect.signature(module.load).parameters) == ["root", "config", "seeds"]
    assert list(inspect.signature(module.sources).parameters) == ["config"]
    assert {"Config", "load", "sources"} <= set(module.__all__)


def has_defaults(kind: Any) -> bool:
    return all(
        dataclasses.MISSING is not field.default or dataclasses.MISSING is not field.default_factory
        for field in dataclasses.fields(kind)
    )


@pytest.mark.parametrize("name", [name for name, module in DATASETS.items() if has_defaults(module.Config)])
def test_the_sources_of_a_dataset_are_known(name: str) -> None:
    module = DATASETS[name]
    for origin in module.sources(module.Config()):
        assert origin.replace("-", "_") in DATASETS or origin in DECLARED


def test_every_declared_dataset_has_a_module() -> None:
    assert {name.replace("-", "_") for name in DECLARED} <= set(DATASETS)


def members(kind: Any) -> tuple[Any, ...]:
    """Return the settings classes among which the `name` of a tagged union chooses, or a class itself."""
    if dataclasses.is_dataclass(kind):
        return (kind,)
    union, tag = typing.get_args(kind)
    assert tag.discriminator == "name"
    return typing.get_args(union)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_settings_losses_and_a_module(name: str) -> None:
    module = MODELS[name]
    losses = members(module.Loss)
    for kind in (module.Config, *losses):
        assert_strict(kind)
        assert is_documented(kind)
    choices = [choice for loss in losses for choice in typing.get_args(typing.get_type_hints(loss)["name"])]
    assert all(typing.get_origin(typing.get_type_hints(loss)["name"]) is typing.Literal for loss in losses)
    assert choices, "the name of a loss is a closed choice"
    assert len(set(choices)) == len(choices), "a name chooses one loss"
    assert issubclass(module.Model, BatchedModel)
    assert list(inspect.signature(module.Model).parameters) == ["config", "shapes", "generators"]
    for method in ("loss", "begin_stage", "begin_epoch"):
        given, asked = (inspect.signature(getattr(kind, method)).parameters for kind in (module.Model, BatchedModel))
        assert list(given) == list(asked), method
    assert {"Config", "Loss", "Model"} <= set(module.__all__)


@pytest.mark.parametrize("slug", FILES)
def test_a_paper_has_a_function_for_every_item_and_an_item_for_every_function(slug: str) -> None:
    for part, kinds in {"tables": ("table",), "figures": ("figure", "diagram")}.items():
        module = importlib.import_module(f"neumix.papers.{slug}.{part}")
        items = [name for name, item in FILES[slug].items.items() if item.kind in kinds]
        assert sorted(module.__all__) == sorted(items)
        for name in items:
            assert len(inspect.signature(getattr(module, name)).parameters) == 1
            assert inspect.getdoc(getattr(module, name))


@pytest.mark.parametrize("slug", FILES)
def test_a_paper_has_strict_measures_that_are_all_used(slug: str) -> None:
    measures = importlib.import_module(f"neumix.papers.{slug}.evaluation").MEASURES
    for measure in measures.values():
        assert_strict(measure)
        assert is_documented(measure)
        assert list(inspect.signature(measure.__call__).parameters) == ["self", "trained"]
    used = set()
    for scale in typing.get_args(catalogue.Scale):
        loaded = catalogue.load(REPOSITORY, catalogue.Settings(scale=scale), check_modules=False)
        used |= {run.measure.name for run in loaded.papers[slug].runs.values()}
    assert used == set(measures)


def test_every_paper_in_the_code_is_in_the_catalogue_and_the_other_way_round() -> None:
    assert set(DISCOVERED) == set(FILES)


@pytest.mark.parametrize("slug", FILES)
def test_every_published_number_of_a_paper_is_measured_somewhere(slug: str) -> None:
    wanted = {value.id for value in CATALOGUE.papers[slug].published if value.kind != "cited"}
    assert wanted == set(FILES[slug].values)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_the_sources_of_a_runs_data_are_known(run: Run) -> None:
    module = DATASETS[run.data.name]
    origins = module.sources(parse(module.Config, dict(run.data.settings), run.id))
    assert isinstance(origins, tuple)
    for origin in origins:
        assert origin.replace("-", "_") in DATASETS or origin in DECLARED


@pytest.fixture(scope="module")
def datasets() -> dict[str, Dataset]:
    """Data of the runs' first two seeds, loaded once for each setting."""
    return {}


def form(settings: Any) -> Any:
    """Return settings with their numbers taken out: what is left decides which code runs."""
    if dataclasses.is_dataclass(settings):
        return form({field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)})
    if isinstance(settings, Mapping):
        return tuple((key, form(value)) for key, value in sorted(settings.items()))
    if isinstance(settings, (list, tuple)):
        return tuple(dict.fromkeys(form(value) for value in settings))
    return type(settings) if type(settings) in (int, float) else settings


FORMS: dict[Any, Run] = {}
for candidate in RUNS.values():
    FORMS.setdefault(form((candidate.data.name, candidate.model, candidate.stages)), candidate)
FORMED = {run.id: run for run in FORMS.values()}
"""The first run of each form; those that differ in numbers alone are trained, all of them, by the smoke pipeline."""


def two_seeds(run: Run, datasets: dict[str, Dataset]) -> tuple[Run, Dataset]:
    two = dataclasses.replace(run, seeds=2)
    key = repr(data_settings(run))
    if key not in datasets:
        datasets[key] = training_data(two)
    return two, datasets[key]


def training_data(run: Run) -> Dataset:
    """Return a run's data; of the arrays of other runs that they are made from, each space is made up as the data."""
    dataset, module, settings = load_dataset(run, Path("data")), DATASETS[run.data.name], data_settings(run)
    if not hasattr(module, "needs"):
        return dataset
    x = dataset["train"]["x"].values
    arrays = {name: {"spaces": np.stack([x, x], 1)} for name in module.needs(settings)}
    extended: Dataset = module.extend(dataset, settings, arrays)
    return extended


def begin(model: BatchedModel, run: Run, dataset: Dataset, seeds: range) -> Iterator[tuple[Phase, DeviceSplit]]:
    """Yield each stage and its points once the model has begun it."""
    for phase in phases(run):
        split = DeviceSplit(dataset[phase.stage.split], len(seeds), torch.device("cpu"))
        with torch.no_grad():
            model.begin_stage(phase.loss, split, generators(seeds, "begin", phase.name))
        yield phase, split


def first_loss(model: BatchedModel, phase: Phase, split: DeviceSplit, seeds: range) -> torch.Tensor:
    """Return the loss of each seed on a first batch of 8 points."""
    order = torch.arange(len(split)).expand(len(seeds), -1)
    batch = next(iter(split.batches(order, 8, 0)))
    model.begin_epoch(0)
    return model.loss(batch, phase.loss, generators(seeds, "noise", phase.name, 0))


@pytest.mark.parametrize("run", FORMED.values(), ids=FORMED)
def test_every_stage_of_a_run_trains_every_parameter_it_reaches(run: Run, datasets: dict[str, Dataset]) -> None:
    two, dataset = two_seeds(run, datasets)
    for stage in two.stages.values():
        assert len(dataset[stage.split]) >= (8 if stage.epochs else 1)
        assert stage.validation is None or len(dataset[stage.validation]) > 0
    model = build_model(two, dataset)
    parameters = list(model.parameters())
    assert all(parameter.dtype == torch.float32 for parameter in parameters)
    alike = [torch.equal(*parameter.chunk(2)) for parameter in parameters]
    assert not parameters or not all(alike), "seeds have their own weights"
    for phase, split in begin(model, two, dataset, range(2)):
        if not phase.stage.epochs:  # fitted by now
            assert not any(values.isnan().any() for values in model.state_dict().values()), phase.name
            continue
        loss = first_loss(model, phase, split, range(2))
        assert loss.shape == (2,), phase.name
        assert torch.isfinite(loss).all(), phase.name
        model.zero_grad()
        loss.sum().backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        assert gradients, phase.name
        assert all(torch.isfinite(gradient).all() for gradient in gradients), phase.name


def of_first_seed(model: BatchedModel) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the first seed's numbers in a model's state; whole ones may name either of two equals, so they stay out."""
    for name, values in model.state_dict().items():
        if values.is_floating_point():
            yield name, values.chunk(model.n_seeds)[0] if values.ndim else values


@pytest.mark.parametrize("run", FORMED.values(), ids=FORMED)
def test_a_seed_does_not_depend_on_the_seeds_trained_beside_it(run: Run, datasets: dict[str, Dataset]) -> None:
    two, together = two_seeds(run, datasets)
    one = dataclasses.replace(run, seeds=1)
    alone = training_data(one)
    both, single = build_model(two, together), build_model(one, alone)
    pairs = zip(begin(both, two, together, range(2)), begin(single, one, alone, range(1)), strict=True)
    for (phase, points), (_, own_points) in pairs:
        for (name, mine), (_, own) in zip(of_first_seed(both), of_first_seed(single), strict=True):
            torch.testing.assert_close(mine, own, equal_nan=True, msg=f"stage {phase.name}: {name}")
        if phase.stage.epochs:
            loss = first_loss(both, phase, points, range(2))
            own_loss = first_loss(single, phase, own_points, range(1))
            torch.testing.assert_close(loss[:1], own_loss, msg=f"stage {phase.name}")


TORCHLESS = ["neumix", "neumix.catalogue", "neumix.comparison", "neumix.dag", "neumix.jobs", "neumix.results"]
TORCHLESS += ["neumix.report.collect", "neumix.settings", "neumix.provenance", "neumix.published"]
TORCHLESS += [f"neumix.data.{name}" for name in DATA]

IMPORT = """
import importlib, json, sys
before = set(sys.modules)
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is not wanted here")
if "--refuse" in sys.argv:
    sys.meta_path.insert(0, Refuse())
failed = {}
for name in sys.argv[1].split(","):
    try:
        importlib.import_module(name)
    except ImportError as error:
        failed[name] = str(error)
print(json.dumps([failed, sorted(set(sys.modules) - before)]))
"""


def imported(names: list[str], *options: str) -> tuple[dict[str, str], list[str]]:
    """Return what could not be imported in a fresh interpreter, and the modules that came."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", IMPORT, ",".join(names), *options]
    child = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    failed, loaded = json.loads(child.stdout)
    return failed, loaded


def test_importing_the_package_loads_nothing_else() -> None:
    assert imported(["neumix"]) == ({}, ["neumix"])


def test_what_needs_no_torch_does_not_load_it() -> None:
    failed, loaded = imported(TORCHLESS, "--refuse")
    assert failed == {}
    assert not [name for name in loaded if name.partition(".")[0] == "torch"]


def test_settings_are_read_without_plotting_or_data_frames() -> None:
    """`neumix plan` and tab completion should not wait for what they do not use."""
    failed, loaded = imported(["neumix.settings", "neumix.run", "neumix.schedule"])
    assert failed == {}
    assert not {name.partition(".")[0] for name in loaded} & {"torch", "matplotlib", "pandas", "scipy", "sklearn"}


MODULES = [info.name for info in pkgutil.walk_packages(neumix.__path__, "neumix.")]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_in_one_line_what_it_is_and_has_what_it_offers(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    assert len(module.__doc__.strip().splitlines()) == 1
    assert all(hasattr(module, offered) for offered in getattr(module, "__all__", []))
