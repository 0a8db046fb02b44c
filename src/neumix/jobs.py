"""What each rule of the workflow does; scripts unpack `snakemake` and call one function each."""

import contextlib
import dataclasses
import importlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from neumix.closure import closure_hash, read_list
from neumix.provenance import Recorder
from neumix.writer import sole_writer

if TYPE_CHECKING:
    from neumix.data.dataset import Dataset
    from neumix.run import Run, Training
    from neumix.trained import TrainedRun

__all__ = ["Job", "compare", "evaluate", "fetch", "merge", "render_figure", "render_table", "report", "train"]

log = logging.getLogger("neumix")


@dataclasses.dataclass(frozen=True)
class Job:
    """One job of the workflow, in plain types.

    Arguments:
        kind: name of the rule.
        id: what it makes.
        scale: of the pipeline.
        inputs: files by name.
        outputs: files by name.
        parameters: as given to the rule.
        log: log file.
        threads: CPU threads to use.
    """

    kind: str
    id: str
    scale: str
    inputs: Mapping[str, Sequence[Path]]
    outputs: Mapping[str, Path]
    parameters: Mapping[str, Any]
    log: Path
    threads: int

    @classmethod
    def of(cls, snakemake: Any) -> Self:
        """Read the object that Snakemake gives to a script."""
        inputs = {name: _paths(value) for name, value in snakemake.input.items()}
        if "code" in inputs:
            inputs["code"] = read_list(*inputs["code"])
        outputs = {name: Path(value) for name, value in snakemake.output.items()}
        parameters = dict(snakemake.params.items())
        return cls(
            snakemake.rule,
            "/".join(snakemake.wildcards) or snakemake.rule,
            snakemake.config["scale"],
            inputs,
            outputs,
            parameters,
            Path(snakemake.log[0]),
            snakemake.threads,
        )

    @property
    def root(self) -> Path:
        """Folder of the scale's results."""
        return Path("results") / self.scale

    @property
    def made(self) -> dict[str, Path]:
        """Outputs but for the record of the job."""
        return {name: path for name, path in self.outputs.items() if name != "record"}

    @contextlib.contextmanager
    def recorded(self, parameters: Mapping[str, Any] | None = None, seeds: Sequence[int] = ()) -> Iterator[Recorder]:
        """Log to the job's file, be the only one at it, record it in its output `record`, and end on an error."""
        recorder = Recorder(
            kind=self.kind,
            id=self.id,
            record=self.outputs["record"],
            attempts=self.root / "attempts" / self.kind / f"{self.id}.jsonl",
            scale=self.scale,
            parameters=self.parameters if parameters is None else parameters,
            inputs=self.inputs,
            outputs=list(self.made.values()),
            seeds=seeds,
            threads=self.threads,
        )
        with self.logged(), sole_writer(self.log.with_suffix(".lock")), recorder:
            yield recorder

    @contextlib.contextmanager
    def logged(self) -> Iterator[None]:
        """Log to the job's file, and end on an error with its message."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        logging.basicConfig(
            level=logging.INFO,
            format="%(asctime)s %(levelname)s %(message)s",
            handlers=[logging.FileHandler(self.log, mode="a", encoding="utf-8")],
        )
        try:
            yield
        except Exception as error:
            log.exception("%s %s failed", self.kind, self.id)
            sys.exit(f"{self.kind} {self.id}: {error}\n(the traceback is in {self.log})")


def _paths(value: Any) -> list[Path]:
    return [Path(value)] if isinstance(value, str) else [Path(path) for path in value]


def fetch(job: Job, mirrors: Sequence[str]) -> None:
    """Fetch a dataset's files.

    Arguments:
        job: the job.
        mirrors: folders and URLs from the configuration; the one in $NEUMIX_DATA_MIRROR is tried before them. Where the
            bytes come from decides nothing, so it is no parameter of the rule.
    """
    from neumix.data.declarations import load_declarations
    from neumix.data.fetch import fetch as fetch_files

    with job.logged():
        name, mirrors = job.id, [os.environ.get("NEUMIX_DATA_MIRROR", ""), *mirrors]
        declaration = load_declarations(Path("config/datasets.yaml"))[name]
        fetch_files(name, declaration, Path("data"), mirrors)


def train(job: Job, device: str) -> None:
    """Train a run's seeds; write weights, history and record; then drop the checkpoint."""
    import safetensors.torch
    import torch

    from neumix.checkpoint import Checkpointer
    from neumix.files import atomic_path, sha256
    from neumix.results import write_history
    from neumix.run import Training
    from neumix.settings import parse
    from neumix.trained import build_model, phases
    from neumix.training import fit, resolve_device

    run = parse(Training, job.parameters["run"], job.id)
    torch.set_num_threads(job.threads)
    with job.recorded(job.parameters["run"], range(run.seeds)) as recorder:
        made_from = [sha256(arrays) for arrays in job.inputs["needs"][1::2]]
        identity = json.dumps([job.parameters["run"], closure_hash(job.inputs["code"]), *made_from], sort_keys=True)
        checkpointer = Checkpointer(job.root / "checkpoints" / run.id, identity)
        dataset = _training_data(job, run)
        model = build_model(run, dataset)
        trained = fit(
            model, dataset, phases(run), range(run.seeds), checkpointer, name=run.id, device=resolve_device(device)
        )
        recorder.resumes = trained.resumes
        with atomic_path(job.outputs["weights"]) as temporary:
            safetensors.torch.save_file(dict(trained.weights), temporary)
        write_history(trained.history, job.outputs["history"])
    checkpointer.clear()


def _training_data(job: Job, run: "Training") -> "Dataset":
    """Return the run's data, with what its data module makes of other runs' arrays."""
    import safetensors.numpy

    from neumix.run import module_name
    from neumix.trained import data_settings, load_dataset

    dataset = load_dataset(run, Path("data"))
    if not job.inputs["needs"]:
        return dataset
    module, settings = importlib.import_module(module_name("data", run.data.name)), data_settings(run)
    files = zip(module.needs(settings), job.inputs["needs"][1::2], strict=True)
    arrays = {name: safetensors.numpy.load_file(file) for name, file in files}
    extended: Dataset = module.extend(dataset, settings, arrays)
    return extended


def evaluate(job: Job) -> None:
    """Measure a trained run as its paper does."""
    import safetensors.torch
    import torch

    from neumix.measured import MeasuredRun
    from neumix.results import write_measurement
    from neumix.run import Run, module_name
    from neumix.settings import parse
    from neumix.trained import load_dataset

    run = parse(Run, job.parameters["run"], job.id)
    torch.set_num_threads(job.threads)
    with job.recorded(job.parameters["run"], range(run.seeds)), torch.no_grad():
        weights = safetensors.torch.load_file(job.inputs["weights"][0])
        measures = importlib.import_module(f"{module_name('papers', run.paper)}.evaluation").MEASURES
        measure = parse(measures[run.measure.name], dict(run.measure.settings), f"{run.id}: measure")
        history = next(iter(job.inputs["history"]), None)
        trained = MeasuredRun(run, load_dataset(run, Path("data")), weights, history, _needed(job, run))
        write_measurement(measure(trained), job.outputs["metrics"], job.outputs["arrays"])


def _needed(job: Job, run: "Run") -> "dict[str, TrainedRun]":
    """Return the trained runs that a measure needs, by `experiment/run`, from their records and weights."""
    import safetensors.torch

    from neumix.records import read_record
    from neumix.run import Run
    from neumix.settings import parse
    from neumix.trained import TrainedRun, load_dataset

    needed = {}
    for record, weights in zip(job.inputs["needs"][::2], job.inputs["needs"][1::2], strict=True):
        parameters = read_record(record)["parameters"]
        judged = {"budget": run.budget, "dataset": run.dataset, "measure": dataclasses.asdict(run.measure)}
        other = parse(Run, {**parameters, **judged}, str(record))
        trained = TrainedRun(other, load_dataset(other, Path("data")), safetensors.torch.load_file(weights))
        needed[f"{other.experiment}/{other.name}"] = trained
    return needed


def render_table(job: Job) -> None:
    """Render one table in every format."""
    from neumix import rendering

    with job.recorded():
        frame = _draw(job, "tables")
        rendering.save_table(frame, job.parameters["note"], job.made)


def render_figure(job: Job) -> None:
    """Render one figure or diagram in every format."""
    from neumix import rendering

    with job.recorded(), rendering.style():
        figure = _draw(job, "figures")
        rendering.save_figure(figure, job.parameters["note"], job.made)


def _draw(job: Job, kind: str) -> Any:
    """Call the function of the paper's tables or figures module that has the item's name."""
    from neumix.results import Results
    from neumix.run import module_name

    paper, _, item = job.id.partition(".")
    module = importlib.import_module(f"{module_name('papers', paper)}.{kind}")
    return getattr(module, item)(Results(job.root, paper, job.parameters["runs"]))


def compare(job: Job) -> None:
    """Compare a paper's published values with what was measured."""
    from neumix.comparison import write_comparison
    from neumix.judging import judge_paper

    with job.recorded():
        published, margins = job.inputs["published"][0], job.inputs["margins"][0]
        frame = judge_paper(job.root, job.parameters["values"], published, margins, job.inputs["deviations"])
        write_comparison(frame, job.outputs["comparison"])


def merge(job: Job) -> None:
    """Join the papers' comparisons into one.

    A paper that is not selected now keeps the comparison on disk; without one, its values are listed as not run.
    """
    import pandas as pd

    from neumix.comparison import read_comparison, write_comparison
    from neumix.judging import judge_paper

    with job.recorded():
        margins = job.inputs["margins"][0]
        parts = []
        for published in job.inputs["published"]:
            part = job.root / "comparison" / published.name
            if published.stem in job.parameters["papers"]:
                parts.append(read_comparison(part))
            else:
                parts.append(judge_paper(job.root, {}, published, margins, job.inputs["deviations"]))
        write_comparison(pd.concat(parts, ignore_index=True), job.outputs["comparison"])


def report(job: Job) -> None:
    """Build the HTML report from the results on disk."""
    from neumix.report.collect import build_report

    with job.logged():
        build_report(Path.cwd(), job.scale)
