"""Training data made from another run's measured arrays: what the DAG asks for, what a job reads, real Snakemake."""

import dataclasses
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
import yaml
from workflow_copy import Pipeline, reverse_times, tiny_pipeline

from neumix import catalogue, dag, jobs
from neumix.catalogue import Catalogue
from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset
from neumix.files import sha256
from neumix.records import read_record
from neumix.run import Run, Training
from neumix.settings import CatalogueError, parse

REPOSITORY = Path(__file__).parents[1]
TEACHER, STUDENT = "curves/flows/teacher", "curves/mixtures/student"
RECORD = f"results/smoke/runs/{TEACHER}/evaluation.json"
ARRAYS = f"results/smoke/arrays/{TEACHER}.safetensors"
SPIRAL: dict[str, Any] = {"name": "plane_curves", "shape": "spiral", "size": 40}
SPACES = 3

PAPER = {
    "title": "Curves",
    "authors": "A Painter",
    "venue": "Nowhere",
    "year": 2000,
    "url": "https://example.org",
    "experiments": {
        "flows": {
            "title": "Flows",
            "section": "Sec 1",
            "dataset": "a spiral",
            "settings": {
                "data": SPIRAL,
                "model": {"name": "mfa", "clusters": 1, "components": 1, "rank": 1},
                "stages": {"main": {"loss": {"name": "nll"}, "epochs": 1, "batch_size": 20}},
                "seeds": 1,
                "measure": {"name": "lines", "spaces": SPACES},
            },
            "runs": {"teacher": {}},
            "scales": {"smoke": {"budget": "full"}},
        },
        "mixtures": {
            "title": "Mixtures",
            "section": "Sec 2",
            "dataset": "a spiral",
            "settings": {
                "data": {"name": "flow_spaces", "base": SPIRAL, "teacher": "flows/teacher"},
                "model": {"name": "cpmm", "clusters": 2, "components": 3, "rank": 1, "width": 4, "augment": 0},
                "stages": {
                    "curriculum": {
                        "loss": {"name": "nll", "start": "kmeans"},
                        "split": "spaces",
                        "epochs": SPACES + 1,
                        "batch_size": 20,
                    },
                    "tuning": {"loss": {"name": "nll"}, "epochs": 1, "batch_size": 20},
                },
                "seeds": 2,
                "measure": {"name": "likelihood"},
            },
            "runs": {"student": {}},
            "scales": {"smoke": {"budget": "full"}},
        },
    },
}

FILES = {
    "src/neumix/papers/curves/__init__.py": '"""Curves."""\n',
    "src/neumix/papers/curves/evaluation.py": '''
"""What is measured of curves."""

import numpy as np
import torch
from pydantic.dataclasses import dataclass

from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.trained import TrainedRun


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Lines:
    """Spaces on straight lines from the origin to the data."""

    spaces: int

    def __call__(self, trained: TrainedRun) -> Measurement:
        x = trained.dataset["train"]["x"].values
        spaces = x[:, None] * np.linspace(0, 1, self.spaces)[:, None]
        return Measurement({"n_points": [len(x)]}, {"spaces": spaces.astype(np.float16)})


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Likelihood:
    """Mean log-likelihood."""

    def __call__(self, trained: TrainedRun) -> Measurement:
        x = torch.from_numpy(trained.dataset["train"]["x"].values)
        return Measurement({"log_likelihood": trained.model().log_prob(x.expand(2, -1, -1)).mean(1).tolist()}, {})


MEASURES = {"likelihood": Likelihood, "lines": Lines}
''',
    "config/published/curves.csv": """\
id,paper,where,experiment,dataset,model,setting,metric,value,std,unit,better,kind,note
curves.sec1.n,curves,Sec 1,curves.flows,a spiral,none,,n_points,40,,points,match,count,
""",
}


def add_curves(root: Path) -> None:
    """Add the paper `curves` to a copy of the repository."""
    for name, content in {**FILES, "config/papers/curves.yaml": yaml.safe_dump(PAPER)}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content.lstrip(), encoding="utf-8")


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """A catalogue that has the paper `curves` alone."""
    root = tmp_path_factory.mktemp("catalogue")
    (root / "config" / "papers").mkdir(parents=True)
    for name in ("datasets.yaml", "margins.yaml"):
        shutil.copy(REPOSITORY / "config" / name, root / "config")
    add_curves(root)
    return catalogue.load(root, catalogue.Settings(scale="smoke"), check_modules=False)


def run_of(curves: Catalogue, id_: str = STUDENT) -> Run:
    return curves.run(*id_.split("/"))


def with_data(run: Run, **changes: Any) -> Run:
    """Return a run with other settings of its data."""
    data = dataclasses.replace(run.data, settings={**run.data.settings, **changes})
    return dataclasses.replace(run, data=data)


class TestDag:
    def test_a_student_needs_the_measured_arrays_of_its_teacher_and_their_record(self, curves):
        assert dag.training_needs(curves, run_of(curves)) == [RECORD, ARRAYS]

    def test_other_runs_need_nothing(self, curves):
        assert dag.training_needs(curves, run_of(curves, TEACHER)) == []
        assert dag.evaluation_needs(curves, run_of(curves)) == []
        loaded = catalogue.load(REPOSITORY, catalogue.Settings(scale="smoke"), check_modules=False)
        runs = [run for paper in loaded.papers.values() for run in paper.runs.values()]
        for run in runs:
            assert bool(dag.training_needs(loaded, run)) == (run.data.name == "flow_spaces"), run.id

    def test_a_teacher_that_is_not_there_is_named_with_the_nearest(self, curves):
        run = with_data(run_of(curves), teacher="flows/taecher")
        said = f"{STUDENT}: key 'data': this scale has no run 'flows/taecher'; did you mean 'flows/teacher'"
        with pytest.raises(CatalogueError, match=said):
            dag.training_needs(curves, run)

    def test_bad_settings_of_the_data_are_named(self, curves):
        with pytest.raises(CatalogueError, match=f"{STUDENT}: data: unknown key 'techer'; did you mean 'teacher'"):
            dag.training_needs(curves, with_data(run_of(curves), techer="flows/teacher"))

    def test_the_data_and_their_own_origins_are_in_the_closure_but_not_the_teacher(self, curves):
        code = {Path(path).as_posix().partition("neumix/")[2] for path in dag.training_code(run_of(curves))}
        assert code >= {"data/flow_spaces.py", "data/plane_curves.py", "data/planar.py", "models/cpmm.py"}
        assert code >= {"trajectories.py", "hierarchical_mixture.py", "factor_analyzers.py"}
        assert not code & {"models/mfa.py", "data/logit_images.py", "jobs.py", "dag.py"}
        images = with_data(run_of(curves), base={"name": "logit_images", "source": "fashion_mnist"})
        code = {Path(path).as_posix().partition("neumix/")[2] for path in dag.training_code(images)}
        assert code >= {"data/flow_spaces.py", "data/logit_images.py", "data/fashion_mnist.py", "data/idx.py"}

    @pytest.mark.parametrize(
        ("base", "files"),
        [
            (SPIRAL, []),
            ({"name": "logit_images", "source": "digits"}, []),
            (
                {"name": "logit_images", "source": "fashion_mnist", "other": "mnist"},
                ["data/fashion-mnist/SHA256SUMS", "data/mnist/SHA256SUMS"],
            ),
            ({"name": "fashion_mnist"}, ["data/fashion-mnist/SHA256SUMS"]),
        ],
    )
    def test_files_of_the_data_are_asked_for(self, curves, base, files):
        assert dag.manifests(curves, with_data(run_of(curves), base=base)) == files

    def test_another_teacher_is_another_training(self, curves):
        run = run_of(curves)
        other = with_data(run, teacher="flows/other")
        assert dag.training_settings(other) != dag.training_settings(run)


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Leave the handlers of the root logger as they were."""
    before = list(logging.getLogger().handlers)
    yield
    for handler in set(logging.getLogger().handlers) - set(before):
        logging.getLogger().removeHandler(handler)
        handler.close()


def spaces_in(folder: Path, size: int = 40, shift: float = 0.0) -> Path:
    """Write the arrays of a teacher and return their path."""
    data = parse(Training, {**plain_student(), "data": {**SPIRAL, "size": size}}, "test")
    x = jobs._training_data(job_of(data, []), data)["train"]["x"].values
    spaces = (x[:, None] * np.linspace(0, 1, SPACES, dtype=np.float32)[:, None]) + np.float32(shift)
    path = folder / f"spaces_{size}_{shift}.safetensors"
    safetensors.numpy.save_file({"spaces": np.ascontiguousarray(spaces)}, path)
    return path


def plain_student() -> dict[str, Any]:
    settings = PAPER["experiments"]["mixtures"]["settings"]  # type: ignore[index]
    plain = {key: settings[key] for key in ("data", "model", "stages", "seeds")}
    return {"paper": "curves", "experiment": "mixtures", "name": "student", **plain}


def job_of(run: Training, needs: list[Path], folder: Path = Path()) -> jobs.Job:
    inputs = {"data": [], "code": [Path(jobs.__file__)], "needs": needs}
    outputs = {name: folder / name for name in ("weights", "history", "record")}
    return jobs.Job("train", run.id, "smoke", inputs, outputs, {"run": plain_student()}, folder / "log" / "file", 1)


class TestJob:
    def test_a_student_is_given_the_spaces(self, tmp_path):
        run = parse(Training, plain_student(), "test")
        arrays = spaces_in(tmp_path)
        dataset = jobs._training_data(job_of(run, [tmp_path / "evaluation.json", arrays]), run)
        assert isinstance(dataset, Dataset)
        found = dataset["spaces"]["path"].values
        np.testing.assert_array_equal(found, safetensors.numpy.load_file(arrays)["spaces"])
        np.testing.assert_array_equal(found[:, -1], dataset["train"]["x"].values)

    @pytest.mark.parametrize("other", [{"size": 50}, {"shift": 0.1}])
    def test_spaces_of_other_data_end_the_job(self, other, tmp_path):
        run = parse(Training, plain_student(), "test")
        with pytest.raises(ValueError, match="give both"):
            jobs._training_data(job_of(run, [tmp_path / "evaluation.json", spaces_in(tmp_path, **other)]), run)

    def test_a_checkpoint_of_other_spaces_is_not_resumed(self, tmp_path, monkeypatch, unlogged):
        run = parse(Training, plain_student(), "test")
        identities = []

        def fit(model: Any, dataset: Any, phases: Any, seeds: Any, checkpointer: Checkpointer, **named: Any) -> None:
            identities.append(checkpointer.identity)
            raise RuntimeError("enough")

        monkeypatch.setattr("neumix.training.fit", fit)
        monkeypatch.chdir(tmp_path)
        threads = torch.get_num_threads()
        for shift in (0.0, 1e-3, 0.0):
            with pytest.raises(SystemExit, match="enough"):
                jobs.train(job_of(run, [spaces_in(tmp_path), spaces_in(tmp_path, shift=shift)], tmp_path), "cpu")
        torch.set_num_threads(threads)
        assert identities[0] == identities[2] != identities[1]
        assert json.loads(identities[0])[2] == sha256(spaces_in(tmp_path))


TARGET = f"results/smoke/runs/{STUDENT}/metrics.json"


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A pipeline that has trained a student and all that it needs."""
    pipeline = tiny_pipeline(tmp_path_factory.mktemp("taught") / "pipeline")
    add_curves(pipeline.root)
    pipeline.run(TARGET)
    return pipeline


@pytest.mark.slow
class TestSnakemake:
    def test_the_student_learned_from_what_was_measured_of_the_teacher(self, taught):
        results = taught.results
        measured = read_record(results / "runs" / TEACHER / "evaluation.json")
        trained = read_record(results / "runs" / STUDENT / "run.json")
        assert trained["inputs"]["needs"] == {
            RECORD: sha256(taught.root / RECORD),
            ARRAYS: measured["outputs"][ARRAYS],
        }
        assert "src/neumix/data/plane_curves.py" in trained["inputs"]["code"]
        assert read_record(results / "runs" / TEACHER / "run.json")["inputs"].get("needs", {}) == {}
        weights = safetensors.numpy.load_file(results / "weights" / f"{STUDENT}.safetensors")
        assert int(weights["curriculum/space"]) == SPACES, "one more epoch than there are spaces, from 0"
        assert len(json.loads((taught.root / TARGET).read_text())["metrics"]["log_likelihood"]) == 2

    def test_another_measure_of_the_teacher_trains_the_student_again_and_new_times_train_nothing(self, taught):
        reverse_times(taught.root, 1_000_000_000)
        taught.replace("config/papers/curves.yaml", f"spaces: {SPACES}", f"spaces: {SPACES + 2}")
        assert taught.plan(TARGET) == {f"Measuring {TEACHER}", f"Training {STUDENT}", f"Measuring {STUDENT}"}
