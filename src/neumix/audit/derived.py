"""Computes derived values again: verdicts from the runs' numbers, cells of tables from numbers and arrays."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from neumix.audit.chain import Chain, JobRecord
from neumix.audit.findings import Finding
from neumix.audit.hashes import Hashes
from neumix.records import read_record
from neumix.results import Results, RunFiles, RunResult, read_metrics
from neumix.run import module_name

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ArraysMissingError", "computed", "csv_of", "csv_text", "recomputed"]


class ArraysMissingError(FileNotFoundError):
    """Arrays that a table shows are not here, or not those that it was made from."""


class _Arrays(Mapping[str, NDArray[Any]]):
    """A run's arrays, read when one is asked for, if they are those that a record names."""

    def __init__(self, path: Path, expected: str | None, hashes: Hashes) -> None:
        self._path, self._expected, self._hashes = path, expected, hashes
        self._read: Mapping[str, NDArray[Any]] | None = None

    def _content(self) -> Mapping[str, NDArray[Any]]:
        if self._read is None:
            import safetensors.numpy

            if self._expected is None or self._hashes.of(self._path) != self._expected:
                raise ArraysMissingError(f"{self._path}: not there, or not the arrays that the record names")
            self._read = safetensors.numpy.load_file(self._hashes.root / self._path)
        return self._read

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._content()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content())

    def __len__(self) -> int:
        return len(self._content())


class _RecordedResults(Results):
    """Results of runs as the record of a table tells them; what it makes of metrics alone needs no arrays."""

    def __init__(self, chain: Chain, job: JobRecord, hashes: Hashes) -> None:
        super().__init__(chain.results, job.id.partition(".")[0], job.parameters["runs"])
        self._recorded, self._hashes = job.inputs("arrays"), hashes

    def __getitem__(self, run: str) -> RunResult:
        if run not in self.runs:
            raise KeyError(f"'{run}' is not among the runs of the record: {', '.join(self.runs)}")
        files = RunFiles(self.root, f"{self.paper}/{run}")
        path = files.arrays.relative_to(self._hashes.root)
        arrays = _Arrays(path, self._recorded.get(path.as_posix()), self._hashes)
        return RunResult(read_metrics(files.metrics), arrays, read_record(files.record)["parameters"])


def recomputed(chain: Chain, job: JobRecord, hashes: Hashes) -> Iterator[Finding]:
    """Yield a finding if a comparison or a table is not what follows from the numbers that it was made from.

    Arguments:
        chain: records of a scale.
        job: whose inputs are known to be as recorded.
        hashes: of files.
    """
    frame = computed(chain, job, hashes)
    if frame is not None and (chain.root / csv_of(job)).read_text(encoding="utf-8") != csv_text(frame):
        detail = "is not what follows from the numbers that it was made from; run the job again"
        yield Finding("tampered", "content", job.name, csv_of(job), detail)


def computed(chain: Chain, job: JobRecord, hashes: Hashes) -> "pd.DataFrame | None":
    """Return what a job's CSV file must hold, from metrics, arrays and today's code; none if it writes no CSV.

    Raises:
        ArraysMissingError: it needs arrays that are not here.
    """
    makers: Mapping[str, Callable[[Chain, JobRecord, Hashes], pd.DataFrame]] = {
        "compare": _comparison,
        "merge": _merged,
        "render_table": _table,
    }
    return makers[job.kind](chain, job, hashes) if job.kind in makers else None


def csv_of(job: JobRecord) -> str:
    """Return the CSV file that a comparison or a table was written to."""
    return next(name for name in job.outputs if name.endswith(".csv"))


def csv_text(frame: "pd.DataFrame") -> str:
    """Return the text of a comparison's or a table's CSV file."""
    return str(frame.to_csv(index=False, lineterminator="\n"))


def _comparison(chain: Chain, job: JobRecord, hashes: Hashes) -> "pd.DataFrame":
    from neumix.judging import judge_paper

    published, margins = (chain.root / next(iter(job.inputs(role))) for role in ("published", "margins"))
    deviations = [chain.root / file for file in job.inputs("deviations")]
    return judge_paper(chain.results, job.parameters["values"], published, margins, deviations)


def _merged(chain: Chain, job: JobRecord, hashes: Hashes) -> "pd.DataFrame":
    import pandas as pd

    from neumix.comparison import read_comparison
    from neumix.judging import judge_paper

    margins = chain.root / next(iter(job.inputs("margins")))
    deviations = [chain.root / file for file in job.inputs("deviations")]
    parts = []
    for published in job.inputs("published"):
        path = chain.root / published
        if path.stem in job.parameters["papers"]:
            parts.append(read_comparison(chain.results / "comparison" / path.name))
        else:
            parts.append(judge_paper(chain.results, {}, path, margins, deviations))
    return pd.concat(parts, ignore_index=True)


def _table(chain: Chain, job: JobRecord, hashes: Hashes) -> "pd.DataFrame":
    paper, _, item = job.id.partition(".")
    tables = importlib.import_module(f"{module_name('papers', paper)}.tables")
    frame: pd.DataFrame = getattr(tables, item)(_RecordedResults(chain, job, hashes))
    note = job.parameters["note"]
    return frame.assign(budget=note) if note else frame
