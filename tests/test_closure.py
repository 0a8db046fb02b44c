"""A result's code closure holds the files that decide it, all of them and no other."""

import dataclasses
import json
import modulefinder
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import neumix
from neumix import catalogue, closure, dag
from neumix.closure import closure_hash, read_list, sources, write_list
from neumix.files import sha256
from neumix.run import Run
from neumix.settings import CatalogueError

SOURCE = Path(neumix.__file__).parents[1]
REPOSITORY = Path(__file__).parents[1]
CATALOGUE = catalogue.load(REPOSITORY, catalogue.Settings(scale="smoke"), check_modules=False)
RUNS = {run.id: run for paper in CATALOGUE.papers.values() for run in paper.runs.values()}
PAPERS = {slug: paper.file for slug, paper in CATALOGUE.papers.items() if paper.file and paper.file.experiments}
ITEMS = {
    f"{slug}.{name}": "tables" if item.kind == "table" else "figures"
    for slug, file in PAPERS.items()
    for name, item in file.items.items()
}
KINDS = list({(run.paper, run.data.name, run.model.name): run for run in RUNS.values()}.values())

OWN_NETWORKS = ("toy_grid", "mfa", "genmm", "cnf", "cpmm", "einet")  # without a network, or with one of their own
Package = Callable[[dict[str, str]], None]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Return a function that writes a package `toy` and makes it the one whose imports are followed."""
    root = tmp_path / "toy"
    monkeypatch.setattr(closure, "_ROOT", root)
    monkeypatch.setattr(closure, "_PACKAGE", "toy")
    monkeypatch.chdir(tmp_path)

    def write(files: dict[str, str]) -> None:
        closure._imports.cache_clear()
        for name, content in {"__init__.py": "", **files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)

    yield write
    closure._imports.cache_clear()


def found(*modules: str) -> set[str]:
    return {path.relative_to("toy").as_posix() for path in sources(*modules)} - {"__init__.py"}


@pytest.mark.parametrize(
    "statement",
    [
        "import toy.b",
        "import toy.b as other",
        "import os, toy.b",
        "from toy import b",
        "from toy import b as other",
        "from toy.b import name",
        "from toy.b import (\n    name,\n    another,\n)",
        "from toy.b import *",
        "def f():\n    import toy.b",
        "class A:\n    def f(self):\n        from toy.b import name",
        "try:\n    import toy.b\nexcept ImportError:\n    pass",
        "if True:\n    from toy import b",
        "async def f():\n    from toy import b",
    ],
)
def test_follows_every_way_to_import(package: Package, statement: str) -> None:
    package({"a.py": statement, "b.py": "name = another = 1\nimport toy.c", "c.py": "", "d.py": ""})
    assert found("toy.a") == {"a.py", "b.py", "c.py"}


@pytest.mark.parametrize("text", ["# import toy.b", "'''import toy.b'''", "x = 'toy.b'", "import toyb", "import json"])
def test_follows_nothing_else(package: Package, text: str) -> None:
    package({"a.py": text, "b.py": "", "json.py": ""})
    assert found("toy.a") == {"a.py"}


def test_a_module_brings_the_packages_that_hold_it(package: Package) -> None:
    files = {"one/__init__.py": "", "one/two/__init__.py": "import toy.used", "one/two/three.py": ""}
    package({**files, "used.py": "", "one/beside.py": ""})
    assert found("toy.one.two.three") == {"one/__init__.py", "one/two/__init__.py", "one/two/three.py", "used.py"}


def test_a_name_that_is_no_module_brings_its_package_only(package: Package) -> None:
    package({"a.py": "from toy.one import name", "one/__init__.py": "name = 1", "one/other.py": ""})
    assert found("toy.a") == {"a.py", "one/__init__.py"}


def test_modules_that_import_each_other(package: Package) -> None:
    package({"a.py": "import toy.b", "b.py": "import toy.a"})
    assert found("toy.a") == found("toy.b") == {"a.py", "b.py"}


def test_several_modules_give_the_union_sorted(package: Package) -> None:
    package({"a.py": "import toy.c", "b.py": "import toy.c", "c.py": ""})
    assert sources("toy.b", "toy.a") == tuple(Path("toy", name) for name in ("__init__.py", "a.py", "b.py", "c.py"))


@pytest.mark.parametrize("name", ["toy.bb", "toy.b.c", "json", "toyb", ""])
def test_an_unknown_module_is_an_error(package: Package, name: str) -> None:
    package({"b.py": ""})
    with pytest.raises(ValueError, match=f"there is no module {name}"):
        sources(name)


@pytest.mark.parametrize("statement", ["from . import b", "from .b import name", "from .. import b"])
def test_a_relative_import_is_refused(package: Package, statement: str) -> None:
    package({"a.py": f"\n{statement}", "b.py": ""})
    with pytest.raises(ValueError, match="line 2: relative import; write the full name"):
        sources("toy.a")


def test_a_refused_import_names_its_file(package: Package) -> None:
    package({"a.py": "from . import b", "b.py": ""})
    with pytest.raises(ValueError, match=r"toy/a\.py"):
        sources("toy.a")


def test_paths_are_seen_from_the_working_folder(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package({"a.py": ""})
    assert sources("toy.a")[-1] == Path("toy/a.py")
    monkeypatch.chdir(tmp_path / "toy")
    assert sources("toy.a")[-1] == Path("a.py")


@settings(max_examples=60, deadline=None)
@given(edges=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=20), start=st.integers(0, 7))
def test_reaches_what_a_walk_over_the_graph_reaches(
    tmp_path_factory: pytest.TempPathFactory, edges: set[tuple[int, int]], start: int
) -> None:
    root = tmp_path_factory.mktemp("graph") / "toy"
    root.mkdir()
    (root / "__init__.py").write_text("")
    for module in range(8):
        lines = [
            f"import toy.m{to}" if (module + to) % 2 else f"from toy import m{to}" for at, to in edges if at == module
        ]
        (root / f"m{module}.py").write_text("\n".join(lines))
    reached, pending = set(), [start]
    while pending:
        module = pending.pop()
        if module not in reached:
            reached.add(module)
            pending += [to for at, to in edges if at == module]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closure, "_ROOT", root)
        patch.setattr(closure, "_PACKAGE", "toy")
        closure._imports.cache_clear()
        names = {path.stem for path in sources(f"toy.m{start}")} - {"__init__"}
    closure._imports.cache_clear()
    assert names == {f"m{module}" for module in reached}


def test_agrees_with_the_modules_that_the_interpreters_own_finder_sees() -> None:
    """`modulefinder` follows the import instructions of compiled code."""
    roots = [*(f"neumix.papers.{slug}.{part}" for slug in PAPERS for part in ("evaluation", "tables", "figures"))]
    roots += ["neumix.jobs", "neumix.dag", "neumix.trained"]
    for root in roots:
        finder = modulefinder.ModuleFinder([str(SOURCE)])
        finder.import_hook(root)
        seen: dict[str, Any] = finder.modules
        expected = {Path(module.__file__).resolve() for name, module in seen.items() if name.split(".")[0] == "neumix"}
        assert {path.resolve() for path in sources(root)} == expected, root


LOADED = """
import json, sys
from pathlib import Path
from pydantic import TypeAdapter
from neumix.run import Run
from neumix.settings import CatalogueError

def loaded(run, stage):
    for name in [name for name in sys.modules if name.partition(".")[0] == "neumix"]:
        del sys.modules[name]
    import neumix.trained
    run = TypeAdapter(neumix.run.Run).validate_python(run)
    dataset = neumix.trained.load_dataset(run, Path("data"))
    neumix.trained.build_model(run, dataset)
    neumix.trained.phases(run)
    if stage == "evaluation":
        import importlib
        import neumix.results
        importlib.import_module(f"neumix.papers.{run.paper}.evaluation")
    return sorted(module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "neumix")

runs = json.load(sys.stdin)
print(json.dumps([[loaded(run, stage) for stage in ("training", "evaluation")] for run in runs]))
"""


def test_whatever_a_job_loads_is_in_its_closure() -> None:
    """Modules that are loaded by name (data, models, sources of data) must not be missed."""
    plain = [{**dag.settings_of(run), "seeds": 1} for run in KINDS]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOADED]
    child = subprocess.run(
        command, input=json.dumps(plain), capture_output=True, text=True, env=environment, check=True
    )
    for run, loaded in zip(KINDS, json.loads(child.stdout), strict=True):
        for code, files in zip((dag.training_code(run), dag.evaluation_code(CATALOGUE, run)), loaded, strict=True):
            missing = {Path(file).resolve() for file in files} - {Path(path).resolve() for path in code}
            assert not missing, run.id


def modules(paths: list[str]) -> set[str]:
    """Return names below the package, e.g. `models.inclass.costs`."""
    parts = [Path(path).resolve().relative_to(SOURCE / "neumix").with_suffix("").parts for path in paths]
    return {".".join(part for part in names if part != "__init__") for names in parts}


def parts_of(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_what_decides_weights_and_only_that(run: Run) -> None:
    code = modules(dag.training_code(run))
    assert code >= {
        "training",
        "checkpoint",
        "batching",
        "optimization",
        "seeding",
        "schedule",
        "trained",
        "models.base",
    }
    assert ("nn" in code) == (run.model.name not in OWN_NETWORKS)
    assert code >= {f"data.{run.data.name}", f"models.{run.model.name}"}
    forbidden = {"rendering", "report", "papers", "comparison", "published", "catalogue", "dag", "jobs", "provenance"}
    assert not parts_of(code) & (forbidden | {"results", "closure", "metrics", "cli", "scoreboard", "audit"})
    others = {name for name in code if name.startswith("models.") and name.partition(".")[2] != "base"}
    assert {name.split(".")[1] for name in others} == {run.model.name}


def test_the_costs_of_a_net_decide_its_weights() -> None:
    code = modules(dag.training_code(RUNS["inclass/two_gaussians/main"]))
    assert code >= {"models.inclass.costs", "models.inclass.network", "mixtures", "early_stopping"}
    assert "models.inclass.extraction" not in code


@pytest.mark.parametrize("run", KINDS, ids=lambda run: run.id)
def test_what_decides_metrics_and_only_that(run: Run) -> None:
    code = modules(dag.evaluation_code(CATALOGUE, run))
    assert code > modules(dag.training_code(run))
    assert f"papers.{run.paper}.evaluation" in code
    assert not parts_of(code) & {"rendering", "report", "comparison", "published", "catalogue", "dag", "jobs"}
    assert not {name for name in code if name.endswith((".tables", ".figures"))}


@pytest.mark.parametrize(("item", "kind"), ITEMS.items(), ids=ITEMS)
def test_what_decides_a_table_or_figure_and_only_that(item: str, kind: str) -> None:
    code = modules(dag.rendering_code(item, kind))
    slug = item.partition(".")[0]
    assert code >= {"rendering", "results", f"papers.{slug}.{kind}"}
    assert f"papers.{slug}.{'figures' if kind == 'tables' else 'tables'}" not in code
    assert f"papers.{slug}.evaluation" not in code
    assert not parts_of(code) & {
        "training",
        "trained",
        "checkpoint",
        "optimization",
        "report",
        "catalogue",
        "dag",
        "jobs",
    }


@pytest.mark.parametrize("root", ["neumix.comparison", "neumix.report.collect"])
def test_verdicts_and_report_do_not_depend_on_models(root: str) -> None:
    assert not parts_of(modules(dag.code(root))) & {"models", "training", "trained", "papers", "metrics", "jobs"}


def test_verdicts_do_not_depend_on_the_workflow() -> None:
    assert not parts_of(modules(dag.code("neumix.comparison"))) & {"dag", "audit", "report"}


def test_a_network_that_a_measure_needs_is_in_its_closure() -> None:
    run = RUNS["genmm/sample_quality/genmm_mnist_k1"]
    assert "models.resnet" in modules(dag.evaluation_code(CATALOGUE, run))
    assert "models.resnet" in modules(dag.evaluation_code(CATALOGUE, RUNS["genmm/features/mnist"]))
    assert dag.evaluation_needs(CATALOGUE, run) == [
        "results/smoke/runs/genmm/features/mnist/run.json",
        "results/smoke/weights/genmm/features/mnist.safetensors",
    ]
    assert dag.evaluation_needs(CATALOGUE, RUNS["inclass/two_gaussians/main"]) == []


def test_only_a_measure_that_reads_it_gets_the_history() -> None:
    history = ["results/smoke/runs/genmm/nll/genmm_mnist_k1/history.csv"]
    assert dag.evaluation_history(CATALOGUE, RUNS["genmm/nll/genmm_mnist_k1"]) == history
    assert dag.evaluation_history(CATALOGUE, RUNS["genmm/features/mnist"]) == []


def test_a_run_that_is_needed_and_not_there_is_named_with_the_nearest() -> None:
    run = RUNS["genmm/sample_quality/genmm_mnist_k1"]
    measure = dataclasses.replace(run.measure, settings={"needs": ["features/mnits"]})
    with pytest.raises(CatalogueError, match=r"measure.needs.*'features/mnits'.*features/mnist"):
        dag.evaluation_needs(CATALOGUE, dataclasses.replace(run, measure=measure))


def test_every_file_of_a_closure_exists_once() -> None:
    code = dag.evaluation_code(CATALOGUE, KINDS[0])
    assert len(code) == len(set(code))
    assert all(Path(path).is_file() for path in code)


def files(folder: Path, **contents: str) -> list[Path]:
    for name, content in contents.items():
        (folder / name).write_text(content)
    return [folder / name for name in contents]


def test_the_hash_follows_contents_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path()
    before = closure_hash(files(here, a="1", b="2"))
    assert closure_hash(files(here, a="1", b="3")) != before
    assert closure_hash(files(here, a="2", b="1")) != before  # contents swapped
    assert closure_hash(files(here, a="1", c="2")) != before  # another name
    assert closure_hash(files(here, a="1")) != before
    assert closure_hash(files(here, a="1", b="2", c="")) != before
    assert closure_hash(files(here, a="1", b="2")) == before
    assert len(before) == 64


def test_the_hash_does_not_follow_times_or_order(tmp_path: Path) -> None:
    paths = files(tmp_path, a="1", b="2")
    before = closure_hash(paths)
    os.utime(paths[0], (1, 1))
    assert closure_hash(reversed(paths)) == before


def test_the_hash_is_the_same_in_every_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        hashes.add(closure_hash(files(Path(), a="1", b="2")))
    assert len(hashes) == 1


class TestList:
    def test_it_names_the_files(self, tmp_path: Path) -> None:
        parts = files(tmp_path, b="2", a="1")
        path = write_list(parts, tmp_path / "lists")
        assert read_list(path) == sorted(parts)

    def test_its_hash_is_that_of_the_closure(self, tmp_path: Path) -> None:
        parts = files(tmp_path, b="2", a="1")
        assert sha256(write_list(parts, tmp_path / "lists")) == closure_hash(parts)

    def test_it_is_as_new_as_the_newest_file(self, tmp_path: Path) -> None:
        parts = files(tmp_path, b="2", a="1")
        os.utime(parts[0], ns=(5, 7_000_000_000))
        os.utime(parts[1], ns=(5, 3_000_000_000))
        assert write_list(parts, tmp_path / "lists").stat().st_mtime_ns == 7_000_000_000

    def test_new_times_leave_it_alone_and_new_contents_do_not(self, tmp_path: Path) -> None:
        parts = files(tmp_path, b="2", a="1")
        path = write_list(parts, tmp_path / "lists")
        before = path.read_bytes(), path.stat().st_mtime_ns
        os.utime(parts[0], ns=(0, time.time_ns() + 10**12))
        write_list(parts, tmp_path / "lists")
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
        parts[0].write_text("3")
        assert write_list(parts, tmp_path / "lists") == path
        assert path.read_bytes() != before[0]

    def test_other_files_have_another_list(self, tmp_path: Path) -> None:
        parts = files(tmp_path, a="1", b="2")
        assert write_list(parts, tmp_path / "lists") != write_list(parts[:1], tmp_path / "lists")
        assert len([*(tmp_path / "lists").iterdir()]) == 2
