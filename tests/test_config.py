"""A mistake in any configuration file stops the pipeline before its first job, with file, key and what to do."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workflow_copy import REPOSITORY, Pipeline, copy_pipeline, edit_yaml

from neumix import catalogue, dag
from neumix.catalogue import Settings
from neumix.settings import CatalogueError, read_yaml

PAPER = "papers/inclass.yaml"
EXPERIMENT = "experiments/two_gaussians"
SETTINGS = f"{EXPERIMENT}/settings"
STAGE = f"{SETTINGS}/stages/main"
SMOKE = f"{EXPERIMENT}/scales/smoke"

Change = Callable[[dict[str, Any]], None]


def put(place: str, **values: Any) -> Change:
    """Return a change that sets keys at a place such as `items/table2`."""

    def change(content: Any) -> None:
        for part in filter(None, place.split("/")):
            content = content[int(part) if part.isdigit() else part]
        content.update(values)

    return change


def drop(place: str, key: str) -> Change:
    def change(content: Any) -> None:
        for part in filter(None, place.split("/")):
            content = content[part]
        del content[key]

    return change


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "config", tmp_path / "config")
    return tmp_path


def load(root: Path, **settings: Any) -> catalogue.Catalogue:
    return catalogue.load(root, Settings(**settings))


def refusal(root: Path, **settings: Any) -> str:
    """Return the one-line error that loading ends with."""
    with pytest.raises(CatalogueError) as caught:
        load(root, **settings)
    (line,) = str(caught.value).splitlines()
    return line


TYPOS: dict[str, tuple[Change, str, str]] = {
    # what is changed, the key that the error names, the nearest valid one
    "top level": (put("", titel="x"), "titel", "title"),
    "experiment": (put(EXPERIMENT, secton="x"), "experiments.two_gaussians.secton", "section"),
    "settings": (put(SETTINGS, sedes=3), "sedes", "seeds"),
    "settings of a run": (put(f"{EXPERIMENT}/runs/main", sedes=3), "sedes", "seeds"),
    "settings of a scale": (put(f"{SMOKE}/settings", sedes=3), "sedes", "seeds"),
    "settings of a run in a scale": (put(SMOKE, runs={"main": {"sedes": 3}}), "sedes", "seeds"),
    "data": (put(f"{SETTINGS}/data", sise=3), "sise", "size"),
    "data name": (put(f"{SETTINGS}/data", name="product_mixtur"), "data.name", "product_mixture"),
    "model": (put(f"{SETTINGS}/model", hiden=[3]), "hiden", "hidden"),
    "model name": (put(f"{SETTINGS}/model", name="inclas"), "model.name", "inclass"),
    "stage": (put(STAGE, epohcs=3), "stages.main.epohcs", "epochs"),
    "loss name": (put(f"{STAGE}/loss", name="neg_cmii"), "name", "neg_cmi"),
    "loss option": (put(f"{STAGE}/loss", tikhonof=1.0), "tikhonof", "tikhonov"),
    "measure name": (put(f"{SETTINGS}/measure", name="mixture_recovry"), "measure.name", "mixture_recovery"),
    "measure setting": (put(f"{SETTINGS}/measure", grid_pionts=3), "grid_pionts", "grid_points"),
    "resources": (put(SETTINGS, resources={"threds": 2}), "resources.threds", "threads"),
    "scale name": (
        put(f"{EXPERIMENT}/scales", smok={"budget": "full"}),
        "experiments.two_gaussians.scales.smok",
        "smoke",
    ),
    "scale": (put(SMOKE, setings={}), "experiments.two_gaussians.scales.smoke.setings", "settings"),
    "budget": (put(SMOKE, budget="reducd"), "experiments.two_gaussians.scales.smoke.budget", "reduced"),
    "run in a scale": (put(SMOKE, runs={"mian": {}}), "experiments.two_gaussians.scales.smoke.runs", "main"),
    "skipped run": (put(SMOKE, skip=["mian"]), "experiments.two_gaussians.scales.smoke.skip", "main"),
    "item": (put("items/table2", titel="x"), "items.table2.titel", "title"),
    "item kind": (put("items/table2", kind="tabel"), "items.table2.kind", "table"),
    "item runs": (put("items/table2", runs=["two_gaussians/mian"]), "items.table2.runs", "two_gaussians/main"),
    "value": (put("values/inclass.table2.w1", metrik="x"), "values.inclass.table2.w1.metrik", "metric"),
    "value id": (
        put("values", **{"inclass.table2.w11": {"run": "two_gaussians/main", "metric": "weight_1"}}),
        "inclass.table2.w11",
        "inclass.table2.w1",
    ),
    "value run": (
        put("values/inclass.table2.w1", run="two_gaussian/main"),
        "values.inclass.table2.w1.run",
        "two_gaussians/main",
    ),
}


@pytest.mark.parametrize(("change", "key", "suggestion"), TYPOS.values(), ids=TYPOS)
def test_a_typo_in_a_paper(root: Path, change: Change, key: str, suggestion: str) -> None:
    edit_yaml(root / "config" / PAPER, change)
    line = refusal(root)
    assert line.startswith(str(root / "config" / PAPER))
    assert key in line
    assert line.endswith(f"; did you mean '{suggestion}'?")


def test_a_typo_in_the_law_of_a_component(root: Path) -> None:
    edit_yaml(root / "config" / PAPER, put(f"{SETTINGS}/data/components/0/0", maen=3))
    line = refusal(root)
    assert "components.0.0.normal.maen" in line
    assert line.endswith("; did you mean 'mean'?")


def test_a_typo_in_the_source_of_a_dataset(root: Path) -> None:
    edit_yaml(root / "config" / PAPER, put("experiments/mnist_pairs/scales/smoke/settings/data", source="digts"))
    line = refusal(root)
    assert "mnist_pairs" in line
    assert line.endswith("there is no neumix.data.digts; did you mean 'digits'?")


def test_an_unknown_law_lists_the_known_ones(root: Path) -> None:
    edit_yaml(root / "config" / PAPER, put(f"{SETTINGS}/data/components/0/0", family="norml"))
    line = refusal(root)
    assert "data: key 'components.0.0'" in line
    assert "'normal', 'uniform', 'linear'" in line


MISTAKES: dict[str, tuple[Change, str]] = {
    "text for a number": (put(SETTINGS, seeds="many") , "key 'seeds'"),
    "negative epochs": (put(f"{SMOKE}/settings/stages/main", epochs=-1), "key 'stages.main.epochs'"),
    "missing key": (drop(STAGE, "batch_size"), "key 'stages.main.batch_size' is missing"),
    "missing loss": (drop(STAGE, "loss"), "key 'stages.main.loss' is missing"),
    "missing loss name": (drop(f"{STAGE}/loss", "name"), "stages.main.loss: key 'name' is missing"),
    "missing model": (drop(SETTINGS, "model"), "key 'model' is missing"),
    "missing measure": (drop(SETTINGS, "measure"), "key 'measure' is missing"),
    "weights that do not sum to one": (put(f"{SETTINGS}/data", weights=[0.4, 0.7]), "data"),
    "patience without validation": (put(STAGE, patience=3), "'patience' needs a 'validation' split"),
    "list for a mapping": (put("", items=[]), "key 'items'"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "text"), MISTAKES.values(), ids=MISTAKES)
def test_another_mistake_in_a_paper(root: Path, change: Change, text: str) -> None:
    edit_yaml(root / "config" / PAPER, drop(f"{SMOKE}/settings", "seeds"))  # it would hide what lies below
    edit_yaml(root / "config" / PAPER, change)
    line = refusal(root)
    assert line.startswith(str(root / "config" / PAPER))
    assert text in line


def test_every_problem_of_a_file_is_told_at_once(root: Path) -> None:
    edit_yaml(root / "config" / PAPER, put("items/table2", titel="x", labl="y"))
    edit_yaml(root / "config" / PAPER, put("values/inclass.table2.w1", metrik="x"))
    with pytest.raises(CatalogueError) as caught:
        load(root)
    assert all(key in str(caught.value) for key in ("items.table2.titel", "items.table2.labl", "metrik"))


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_a_typo_in_another_scale(root: Path, scale: str) -> None:
    edit_yaml(root / "config" / PAPER, put(f"{EXPERIMENT}/scales/{scale}", settings={"sedes": 3}))
    assert refusal(root, scale=scale).endswith("unknown key 'sedes'; did you mean 'seeds'?")


@pytest.mark.parametrize(
    ("path", "change", "key", "suggestion"),
    [
        ("datasets.yaml", put("mnist", homepag="x"), "mnist: unknown key 'homepag'", "homepage"),
        ("datasets.yaml", put("mnist/files/0", urlss=[]), "mnist: unknown key 'files.0.urlss'", "urls"),
        ("margins.yaml", put("accuracy", percent_asb=1.0), "accuracy.percent_asb", "percent_abs"),
        ("margins.yaml", drop("", "mixture_weight"), "no margin for metric 'mixture_weight'", None),
        ("deviations/inclass.yaml", put("deviations", x={"abuot": "a"}), "deviations.x: unknown key 'abuot'", "about"),
    ],
)
def test_a_typo_in_another_file(root: Path, path: str, change: Change, key: str, suggestion: str | None) -> None:
    edit_yaml(root / "config" / path, change)
    with pytest.raises(CatalogueError) as caught:
        load(root)
    line = next(line for line in str(caught.value).splitlines() if key in line)
    assert line.startswith(str(root / "config" / path))
    assert suggestion is None or line.endswith(f"; did you mean '{suggestion}'?")


def test_a_deviation_that_names_no_published_value(root: Path) -> None:
    entry = {"about": "a", "choice": "b", "reason": "c", "source": "ours", "values": ["inclass.table2.w11"]}
    edit_yaml(root / "config" / "deviations" / "inclass.yaml", put("deviations", x=entry))
    line = refusal(root)
    assert line.startswith(f"{root / 'config' / 'deviations' / 'inclass.yaml'}: deviations.x.values: ")
    assert line.endswith("unknown id 'inclass.table2.w11'; did you mean 'inclass.table2.w1'?")


def test_a_published_table_with_a_misspelt_column(root: Path) -> None:
    path = root / "config" / "published" / "cwm.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",value,", ",valeu,", 1), encoding="utf-8")
    assert refusal(root) == f"{path}: line 1: unknown column 'valeu'; did you mean 'value'?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"scael": "smoke"}, "config/config.yaml: unknown key 'scael'; did you mean 'scale'?"),
        ({"scale": "smok"}, "config/config.yaml: key 'scale': unknown value 'smok'; did you mean 'smoke'?"),
        ({"device": "cudda"}, "config/config.yaml: key 'device': unknown value 'cudda'; did you mean 'cuda'?"),
    ],
)
def test_a_typo_in_the_users_settings(content: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogueError) as caught:
        catalogue.load_settings(content)
    assert str(caught.value) == message


def test_an_unknown_paper() -> None:
    with pytest.raises(CatalogueError, match=r"key 'papers': unknown paper 'cwmm'; did you mean 'cwm'\?"):
        catalogue.load(REPOSITORY, Settings(papers="inclass,cwmm"), check_modules=False)


YAML_FILES = ["config.yaml", "datasets.yaml", "margins.yaml", "deviations/inclass.yaml", PAPER]


def read_all(root: Path) -> None:
    """Read every configuration file, as the workflow does before its first job."""
    load(root, **read_yaml(root / "config" / "config.yaml"))


@pytest.mark.parametrize("path", YAML_FILES)
def test_a_key_given_twice(root: Path, path: str) -> None:
    file = root / "config" / path
    key = next(iter(read_yaml(file)))
    lines = len(file.read_text(encoding="utf-8").splitlines())
    file.write_text(file.read_text(encoding="utf-8").rstrip("\n") + f"\n{key}: 1\n", encoding="utf-8")
    with pytest.raises(CatalogueError) as caught:
        read_all(root)
    assert str(caught.value) == f"{file}: line {lines + 1}: key '{key}' is given twice; keep one"


@pytest.mark.parametrize("path", YAML_FILES)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a\n- b\n", "expected a mapping at the top, found list"),
        ("", "expected a mapping at the top, found NoneType"),
        ("a: [1\n", "not valid YAML"),
        ("a:\n\t- b\n", "not valid YAML"),
        ("a: *nowhere\n", "not valid YAML"),
    ],
)
def test_what_is_not_a_yaml_mapping(root: Path, path: str, content: str, message: str) -> None:
    (root / "config" / path).write_text(content)
    with pytest.raises(CatalogueError) as caught:
        read_all(root)
    assert str(caught.value).startswith(f"{root / 'config' / path}: {message}")


@pytest.mark.parametrize("path", YAML_FILES)
def test_yaml_that_would_run_code_is_refused(root: Path, path: str) -> None:
    trap = root / "trap"
    (root / "config" / path).write_text(f"a: !!python/object/apply:os.mkdir ['{trap}']\n")
    with pytest.raises(CatalogueError, match="not valid YAML"):
        read_all(root)
    assert not trap.exists()


@pytest.mark.parametrize("path", ["datasets.yaml", "margins.yaml", "published/cwm.csv"])
def test_a_missing_file(root: Path, path: str) -> None:
    (root / "config" / path).unlink()
    assert refusal(root) == f"{root / 'config' / path}: no such file"


SCALES = ("smoke", "laptop", "paper")


@pytest.mark.parametrize("scale", SCALES)
def test_every_table_and_figure_has_something_to_draw_at_every_scale(scale: str) -> None:
    loaded = load(REPOSITORY, scale=scale)
    for slug in loaded.selected:
        for id_ in loaded.items(slug):
            assert dag.item_runs(loaded, id_) or not loaded.item(id_).runs, id_


def test_the_papers_scale_measures_every_published_number_at_its_budget() -> None:
    loaded = load(REPOSITORY, scale="paper")
    for slug in loaded.selected:
        paper = loaded.papers[slug]
        assert paper.file is not None
        assert {*dag.values(loaded, slug)} == {*paper.file.values}
        assert not [run.id for run in paper.runs.values() if run.budget == "reduced"]


def test_smoke_needs_no_download() -> None:
    loaded = load(REPOSITORY, scale="smoke")
    for paper in loaded.papers.values():
        for run in paper.runs.values():
            assert dag.manifests(loaded, run) == [], run.id


@pytest.mark.parametrize("scale", SCALES)
def test_a_budget_says_when_the_data_are_others(scale: str) -> None:
    """Data other than the paper's own is a stand-in, and a stand-in names its data."""
    loaded = load(REPOSITORY, scale=scale)
    for slug, paper in loaded.papers.items():
        for run in paper.runs.values():
            experiment = loaded.papers[slug].file.experiments[run.experiment]
            assert (run.budget == "stand_in") == (run.dataset != experiment.dataset), run.id


@pytest.mark.parametrize(("scale", "budget"), [("smoke", "stand_in"), ("laptop", "full"), ("paper", "full")])
def test_a_reduced_budget_has_no_bearing_on_what_is_not_learned(scale: str, budget: str) -> None:
    loaded = load(REPOSITORY, scale=scale)
    found = dag.values(loaded, "cwm")
    assert found["cwm.table1.cwm_n_params"]["budget"] == budget
    learned = loaded.papers["cwm"].runs["image_density/cwm"].budget
    assert found["cwm.table1.cwm_loglik"]["budget"] == learned
    assert (learned == "reduced") == (scale == "laptop")


def test_settings_are_laid_over_each_other_in_order(root: Path) -> None:
    change = put(
        "experiments",
        layers={
            "title": "Layers",
            "section": "none",
            "dataset": "simulated",
            "settings": {**read_yaml(root / "config" / PAPER)["experiments"]["two_gaussians"]["settings"], "seeds": 1},
            "runs": {
                "plain": {},
                "own": {"seeds": 2, "stages": {"main": {"epochs": 22, "batch_size": 222}}},
                "other_loss": {"stages": {"main": {"loss": {"name": "cross_entropy"}}}},
                "other_model": {"model": {"name": "density_ratio", "hidden": [5]}},
            },
            "scales": {
                "smoke": {
                    "budget": "reduced",
                    "settings": {"seeds": 3, "stages": {"main": {"epochs": 33}}},
                    "runs": {"own": {"seeds": 4}},
                },
                "paper": {"budget": "full"},
            },
        },
    )
    edit_yaml(root / "config" / PAPER, change)
    smoke = catalogue.load(root, Settings(), check_modules=False).papers["inclass"].runs
    paper = catalogue.load(root, Settings(scale="paper"), check_modules=False).papers["inclass"].runs
    laptop = catalogue.load(root, Settings(scale="laptop"), check_modules=False).papers["inclass"].runs
    assert not [run for run in laptop if run.startswith("layers/")], "a scale that is not named has no runs"
    assert (paper["layers/plain"].seeds, paper["layers/own"].seeds) == (1, 2)
    assert (smoke["layers/plain"].seeds, smoke["layers/own"].seeds) == (3, 4)
    stage = smoke["layers/own"].stages["main"]
    assert (stage.epochs, stage.batch_size, stage.epsilon) == (33, 222, 1e-7)
    # Another component replaces the one below with all its settings.
    assert smoke["layers/other_model"].model.settings == {"hidden": [5]}
    assert smoke["layers/plain"].model.settings == {"components": 2, "hidden": [32, 32, 32]}
    assert smoke["layers/other_loss"].stages["main"].loss == {"name": "cross_entropy"}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    return copy_pipeline(tmp_path_factory.mktemp("config") / "pipeline")


def edit_paper(pipeline: Pipeline) -> None:
    pipeline.edit(put(STAGE, epohcs=3))


def edit_datasets(pipeline: Pipeline) -> None:
    pipeline.edit(put("mnist/files/0", urlss=[]), "config/datasets.yaml")


def edit_settings(pipeline: Pipeline) -> None:
    pipeline.append("config/config.yaml", "scael: laptop\n")


def edit_nothing(pipeline: Pipeline) -> None:
    pass


def assert_stops(pipeline: Pipeline, message: str, *arguments: str) -> str:
    """Run and assert that it ends with a message before anything is done; return what was printed."""
    output = pipeline.fail(*arguments)
    assert message in output
    assert "Traceback" not in output
    assert "Job " not in output
    assert not (pipeline.root / "results").exists()
    assert not (pipeline.root / "data").exists()
    return output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            edit_paper,
            [],
            "inclass.yaml: experiments.two_gaussians (run main, scale smoke): "
            "unknown key 'stages.main.epohcs'; did you mean 'epochs'?",
        ),
        (edit_datasets, [], "datasets.yaml: mnist: unknown key 'files.0.urlss'; did you mean 'urls'?"),
        (edit_settings, [], "config.yaml: unknown key 'scael'; did you mean 'scale'?"),
        (edit_nothing, ["--config", "scael=laptop"], "unknown key 'scael'; did you mean 'scale'?"),
    ],
    ids=["paper", "datasets", "settings", "option"],
)
def test_snakemake_stops_before_the_first_job(
    pipeline: Pipeline, tmp_path: Path, change: Callable[[Pipeline], None], arguments: list[str], message: str
) -> None:
    copy = pipeline.copy(tmp_path / "pipeline")
    change(copy)
    output = assert_stops(copy, message, *arguments)
    assert output.count('File "') <= 1, "Snakemake adds the line of the workflow; no other code is shown"


@pytest.mark.slow
def test_snakemake_stops_at_an_unknown_paper(pipeline: Pipeline) -> None:
    assert_stops(pipeline, "key 'papers': unknown paper 'inclas'; did you mean 'inclass'?", "--config", "papers=inclas")


@pytest.mark.slow
def test_the_error_of_an_unknown_paper_shows_no_code(pipeline: Pipeline) -> None:
    output = assert_stops(pipeline, "unknown paper 'inclas'", "--config", "papers=inclas")
    assert output.count('File "') <= 1


@pytest.mark.slow
def test_snakemake_runs_no_code_but_that_of_its_folder(pipeline: Pipeline) -> None:
    output = pipeline.fail("--dry-run", PYTHONPATH=str(REPOSITORY / "src"))
    assert f"{REPOSITORY / 'src' / 'neumix'} would run, which is not the code of this folder" in output


@pytest.mark.slow
def test_snakemake_refuses_configuration_that_would_run_code(pipeline: Pipeline, tmp_path: Path) -> None:
    copy = pipeline.copy(tmp_path / "pipeline")
    trap = tmp_path / "trap"
    copy.append("config/config.yaml", f"a: !!python/object/apply:os.mkdir ['{trap}']\n")
    copy.fail("--dry-run")
    assert not trap.exists()


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["smoke", "paper"])
def test_the_whole_pipeline_can_be_planned(pipeline: Pipeline, scale: str) -> None:
    planned = pipeline.plan("--config", f"scale={scale}")
    loaded = load(REPOSITORY, scale=scale)
    runs = [run.id for slug in loaded.selected for run in loaded.papers[slug].runs.values()]
    assert {f"{verb} {run}" for run in runs for verb in ("Training", "Measuring")} <= planned
    items = [item for slug in loaded.selected for item in loaded.items(slug)]
    assert {f"Rendering {item}" for item in items} <= planned
    assert "Building the report" in planned


def test_settings_alone_do_not_load_the_models() -> None:
    """Completing a command line should not wait for torch."""
    code = "import sys; from pathlib import Path; from neumix import catalogue\n"
    code += f"catalogue.load(Path({str(REPOSITORY)!r}), catalogue.Settings(), check_modules=False)\n"
    code += "sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


OPENING = """
import sys
from pathlib import Path
from neumix import dag
from neumix.settings import CatalogueError
try:
    catalogue = dag.open_catalogue(Path(), {"scale": "smoke"})
except CatalogueError as error:
    sys.exit(f"refused: {error}")
runs = [run for paper in catalogue.papers.values() for run in paper.runs.values()]
print([history for run in runs for history in dag.evaluation_history(catalogue, run)], "torch" in sys.modules)
"""


def opened(pipeline: Pipeline) -> str:
    """Return the histories that measures of a copy read, and whether torch was needed to know."""
    command = [sys.executable, "-c", OPENING]
    done = subprocess.run(
        command, cwd=pipeline.root, env=pipeline.environment, check=False, capture_output=True, text=True
    )
    return done.stdout + done.stderr


def expected(*, imported: bool) -> str:
    loaded = load(REPOSITORY)
    runs = [run for paper in loaded.papers.values() for run in paper.runs.values()]
    histories = [history for run in runs for history in dag.evaluation_history(loaded, run)]
    assert "results/smoke/runs/genmm/nll/genmm_mnist_k1/history.csv" in histories
    assert len(histories) < len(runs)
    return f"{histories} {imported}\n"


@pytest.fixture(scope="module")
def in_order(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A copy whose settings were checked against its code."""
    pipeline = copy_pipeline(tmp_path_factory.mktemp("in_order") / "pipeline")
    assert opened(pipeline) == expected(imported=True)
    return pipeline


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "imported"),
    [
        (lambda copy: None, False),
        (lambda copy: copy.edit(put(EXPERIMENT, title="Other")), False),
        (lambda copy: copy.edit(put(STAGE, learning_rate=0.5)), True),
        (lambda copy: copy.append("src/neumix/models/inclass/network.py", "# comment\n"), True),
        (lambda copy: (copy.root / ".neumix/checked/smoke.json").write_text("{"), True),
    ],
    ids=["nothing", "title", "setting", "code", "damaged note"],
)
def test_models_are_imported_when_code_or_settings_have_changed(
    in_order: Pipeline, tmp_path: Path, change: Callable[[Pipeline], None], imported: bool
) -> None:
    copy = in_order.copy(tmp_path / "pipeline")
    change(copy)
    assert opened(copy) == expected(imported=imported)
    assert opened(copy) == expected(imported=False)


@pytest.mark.slow
def test_what_was_refused_is_refused_again(in_order: Pipeline, tmp_path: Path) -> None:
    copy = in_order.copy(tmp_path / "pipeline")
    copy.edit(put(f"{STAGE}/loss", colour="red"))
    for _ in range(2):
        refused = opened(copy)
        assert refused.startswith("refused: ")
        assert "colour" in refused
