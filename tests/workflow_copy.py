"""A copy of the pipeline with one tiny paper, and a sixth paper to add to it, for tests that run the real Snakemake."""

import dataclasses
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

REPOSITORY = Path(__file__).parents[1]
PARTS = ("Snakefile", "profiles", "workflow", "config", "src", "requirements.lock", "environment.yml")
RUNS = ("two_gaussians", "checkerboard")
ITEMS = ("table2", "fig5", "fig10")
VALUES = ("inclass.table2.w1", "inclass.sec3_2.w1")

_JOB = re.compile(r"^(?:Job \d+: (.+)|(?:local)?rule (\w+):)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """A copy of the repository in a folder of its own."""

    root: Path

    @property
    def results(self) -> Path:
        """Folder of the results."""
        return self.root / "results" / "smoke"

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which the copy's code is the one that is imported."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("NEUMIX_", "SNAKEMAKE_"))}
        own = {"PYTHONPATH": str(self.root / "src"), "XDG_CACHE_HOME": str(self.root.parent / "cache")}
        return {**kept, **own, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(self.root.parent / "matplotlib")}

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start Snakemake in the copy, in a process group of its own."""
        command = [sys.executable, "-m", "snakemake", "-c2", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **variables: str) -> str:
        """Run Snakemake in the copy to its end, assert that all went well, and return what it printed."""
        return self._finish(0, *arguments, **variables)

    def fail(self, *arguments: str, **variables: str) -> str:
        """Run Snakemake in the copy to its end, assert that it says it failed, and return what it printed."""
        return self._finish(1, *arguments, **variables)

    def _finish(self, expected: int, /, *arguments: str, **variables: str) -> str:
        process = self.start(*arguments, **variables)
        output = process.communicate(timeout=300)[0]
        assert process.returncode == expected, output
        return output

    def plan(self, *arguments: str, **variables: str) -> set[str]:
        """Return the messages of the jobs that would run, e.g. `Training inclass/checkerboard/main`."""
        output = self.run("--dry-run", *arguments, **variables)
        jobs = {message or rule for message, rule in _JOB.findall(output)} - {"all"}
        assert bool(jobs) != ("Nothing to be done" in output), output
        return jobs

    def copy(self, folder: Path) -> "Pipeline":
        """Return a copy with the same files and times."""
        shutil.copytree(self.root, folder, symlinks=True)
        return Pipeline(folder)

    def append(self, path: str, text: str) -> None:
        """Append to a file of the copy."""
        with (self.root / path).open("a", encoding="utf-8") as stream:
            stream.write(text)

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace a text that occurs once in a file of the copy."""
        content = (self.root / path).read_text(encoding="utf-8")
        assert content.count(old) == 1, f"{old!r} occurs {content.count(old)} times in {path}"
        (self.root / path).write_text(content.replace(old, new), encoding="utf-8")

    def edit(self, change: Callable[[dict[str, Any]], None], path: str = "config/papers/inclass.yaml") -> None:
        """Edit a YAML file of the copy."""
        edit_yaml(self.root / path, change)

    def numbers(self, *folders: str) -> dict[str, bytes]:
        """Return the contents of the results below some folders, but for what holds times: records and histories."""
        paths = (path for folder in folders for path in sorted((self.results / folder).rglob("*")) if path.is_file())
        return {
            str(path.relative_to(self.results)): path.read_bytes()
            for path in paths
            if path.name == "metrics.json" or not (path.suffix == ".json" or path.name == "history.csv")
        }


def edit_yaml(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit the content of a YAML file; anchors become plain copies, so that an edit has one place."""
    content = _plain(yaml.safe_load(path.read_text(encoding="utf-8")))
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


def _plain(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _plain(value) for key, value in content.items()}
    return [_plain(value) for value in content] if isinstance(content, list) else content


def copy_pipeline(root: Path) -> Pipeline:
    """Copy what the pipeline needs, without results."""
    root.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in PARTS:
        source = REPOSITORY / name
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, root / name, ignore=ignore)
        else:
            shutil.copy2(source, root / name, follow_symlinks=False)
    return Pipeline(root)


def tiny_pipeline(root: Path) -> Pipeline:
    """Copy the pipeline and reduce it to one paper with two runs of seconds, three items and two values."""
    pipeline = copy_pipeline(root)
    for path in (root / "config" / "papers").iterdir():
        pipeline.edit(_reduce if path.stem == "inclass" else _empty, f"config/papers/{path.name}")
    return pipeline


def _empty(paper: dict[str, Any]) -> None:
    for key in ("experiments", "items", "values"):
        paper.pop(key, None)


def _reduce(paper: dict[str, Any]) -> None:
    for key, names in {"experiments": RUNS, "items": ITEMS, "values": VALUES}.items():
        paper[key] = {name: paper[key][name] for name in names}
    for experiment in paper["experiments"].values():
        experiment["runs"] = {"main": {}}
        experiment["settings"]["data"]["size"] = 500
        experiment["settings"]["seeds"] = 2
        experiment["settings"]["stages"]["main"]["epochs"] = 2
        experiment["scales"] = {"smoke": {"budget": "reduced"}}


def script_of(process: psutil.Process, rule: str) -> psutil.Process | None:
    """Return the process that runs a rule's script below Snakemake, if there is one now."""
    try:
        children = process.children(recursive=True)
        return next((child for child in children if any(f".{rule}.py" in part for part in child.cmdline())), None)
    except psutil.NoSuchProcess:
        return None


SIXTH = {
    "src/neumix/data/dice_rolls.py": '''
"""Rolls of two dice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic.dataclasses import dataclass

from neumix.data.dataset import Dataset, Field, Split
from neumix.settings import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """No settings."""


def sources(config: Config) -> tuple[str, ...]:
    return ()


def load(root: Path, config: Config, seeds: Sequence[int]) -> Dataset:
    rolls = np.loadtxt(root / "dice-rolls" / "rolls.csv", delimiter=",", dtype=np.float32)
    return Dataset({"train": Split({"x": Field(rolls)})}, "dice")
''',
    "src/neumix/papers/dice/__init__.py": '"""Dice."""\n',
    "src/neumix/papers/dice/evaluation.py": '''
"""What is measured of dice."""

from pydantic.dataclasses import dataclass

from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.trained import TrainedRun


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rolls:
    """Number of rolls."""

    def __call__(self, trained: TrainedRun) -> Measurement:
        x = trained.dataset["train"]["x"].values
        return Measurement({"n_rolls": [len(x)]}, {"x": x})


MEASURES = {"rolls": Rolls}
''',
    "src/neumix/papers/dice/tables.py": '''
"""Tables of dice."""

import pandas as pd

from neumix.results import Results


def table1(results: Results) -> pd.DataFrame:
    return pd.DataFrame({"Rolls": [int(results["rolls/main"].values("n_rolls")[0])]})
''',
    "config/papers/dice.yaml": """
title: Dice
authors: A Player
venue: Nowhere
year: 2000
url: https://example.org
experiments:
  rolls:
    title: Rolls
    section: Sec 1
    dataset: dice
    settings:
      data: {name: dice_rolls}
      model: {name: inclass, components: 2, hidden: [4]}
      stages: {main: {loss: {name: neg_ctc}, epochs: 1, batch_size: 10}}
      seeds: 1
      measure: {name: rolls}
    runs: {main: {}}
    scales: {smoke: {budget: full}}
items:
  table1: {label: Table 1, kind: table, title: Rolls, shows: How many., runs: [rolls/main]}
values:
  dice.sec1.n_rolls: {run: rolls/main, metric: n_rolls}
""",
    "config/published/dice.csv": """\
id,paper,where,experiment,dataset,model,setting,metric,value,std,unit,better,kind,note
dice.sec1.n_rolls,dice,Sec 1,dice.rolls,dice,none,,n_rolls,40,,rolls,match,count,
""",
}
"""Files of a sixth paper with a dataset of its own; nothing else is needed to add it."""

ROLLS = "".join(f"{row % 6 + 1},{row * 5 % 6 + 1}\n" for row in range(40)).encode()


def add_sixth_paper(pipeline: Pipeline, mirror: Path) -> None:
    """Add the paper `dice`, whose data can be fetched from a mirror only."""
    for name, content in SIXTH.items():
        (pipeline.root / name).parent.mkdir(parents=True, exist_ok=True)
        (pipeline.root / name).write_text(content.lstrip(), encoding="utf-8")
    declared = {
        "title": "Dice",
        "homepage": "https://example.org",
        "licence": "none",
        "citation": "none",
        "files": [
            {
                "name": "rolls.csv",
                "size": len(ROLLS),
                "sha256": hashlib.sha256(ROLLS).hexdigest(),
                "urls": ["http://127.0.0.1:9/rolls.csv"],
            }
        ],
    }
    pipeline.edit(lambda datasets: datasets.update({"dice-rolls": declared}), "config/datasets.yaml")
    (mirror / "dice-rolls").mkdir(parents=True)
    (mirror / "dice-rolls" / "rolls.csv.gz").write_bytes(gzip.compress(ROLLS))


def reverse_times(root: Path, base: float) -> None:
    """Give every file a new time, so that what was written last is now the oldest."""
    own = root / ".snakemake"
    files = [path for path in root.rglob("*") if path.is_file() and own not in path.parents]
    for position, path in enumerate(sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)):
        os.utime(path, (base + position, base + position))
