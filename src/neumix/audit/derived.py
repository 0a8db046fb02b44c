"""Computes derived values again: verdicts from the runs' numbers, cells of tables from numbers and arrays."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from neumix.audit.chain import Chain, JobRecord
from neumix.audit.findings import Finding
from neumix.judging import judge_paper
from neumix.results import Results
from neumix.run import module_name

__all__ = ["recomputed"]


def recomputed(chain: Chain, job: JobRecord) -> Iterator[Finding]:
    """Yield a finding if a comparison or a table is not what follows from the numbers that it was made from.

    Arguments:
        chain: records of a scale.
        job: whose inputs are known to be as recorded.
    """
    if job.kind == "compare":
        frame = _comparison(chain, job)
    elif job.kind == "render_table":
        frame = _table(chain, job)
    else:
        return
    file = next(name for name in job.outputs if name.endswith(".csv"))
    fresh = frame.to_csv(index=False, lineterminator="\n")
    if (chain.root / file).read_text(encoding="utf-8") != fresh:
        detail = "is not what follows from the numbers that it was made from; run the job again"
        yield Finding("tampered", "content", job.name, file, detail)


def _comparison(chain: Chain, job: JobRecord) -> pd.DataFrame:
    published, margins = (chain.root / next(iter(job.inputs(role))) for role in ("published", "margins"))
    deviations = [chain.root / file for file in job.inputs("deviations")]
    return judge_paper(chain.results, job.parameters["values"], published, margins, deviations)


def _table(chain: Chain, job: JobRecord) -> pd.DataFrame:
    paper, _, item = job.id.partition(".")
    tables = importlib.import_module(f"{module_name('papers', paper)}.tables")
    frame: pd.DataFrame = getattr(tables, item)(Results(Path(chain.results), paper, job.parameters["runs"]))
    note = job.parameters["note"]
    return frame.assign(budget=note) if note else frame
