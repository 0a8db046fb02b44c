"""Tables, figures and the report as they lie in the results, against what they come from."""

import dataclasses
import tempfile
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from neumix.audit.chain import Chain, JobRecord
from neumix.audit.derived import ArraysMissingError, computed, csv_of, csv_text
from neumix.audit.hashes import Hashes
from neumix.audit.numerals import numerals
from neumix.files import sha256
from neumix.report.build import SUMS

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Rendered", "in_rendered", "in_report"]

_FORMATS = ("md", "tex", "html")
_NOTE = "budget"
"""Column of a table's CSV file that holds the note below the others."""


@dataclasses.dataclass
class Rendered:
    """What was looked at, in numbers.

    Arguments:
        computed: tables and comparisons that were computed again.
        hashed: tables and figures that were compared with the hashes in their records alone.
    """

    computed: int = 0
    hashed: int = 0


def in_rendered(chain: Chain, hashes: Hashes, counts: Rendered) -> Iterator[tuple[str, str, str]]:
    """Yield file, number and fault of comparisons, tables and figures that their sources do not give.

    What can be computed is computed again, from metrics, arrays and what was published; figures, and tables whose
    arrays are not here, are compared with the hashes in their records.

    Arguments:
        chain: records of a scale.
        hashes: of files.
        counts: to be added to.
    """
    for job in chain.jobs.values():
        if job.kind in ("compare", "merge", "render_table"):
            yield from _of_table(chain, job, hashes, counts)
        elif job.kind == "render_figure":
            counts.hashed += 1
            yield from _unlike_record(job, hashes)


def _of_table(chain: Chain, job: JobRecord, hashes: Hashes, counts: Rendered) -> Iterator[tuple[str, str, str]]:
    path = chain.root / csv_of(job)
    if not path.exists():
        return
    try:
        frame = computed(chain, job, hashes)
    except ArraysMissingError:
        counts.hashed += 1
        yield from _unlike_record(job, hashes)
        frame = _read(path)
    except (AttributeError, LookupError, OSError, ValueError) as error:
        yield csv_of(job), "table", f"it cannot be computed again: {error}"
        return
    else:
        counts.computed += 1
    if frame is not None:
        yield from _differences(csv_of(job), path.read_text(encoding="utf-8"), csv_text(frame))
        if job.kind == "render_table":
            yield from _other_formats(chain, job, frame)


def _unlike_record(job: JobRecord, hashes: Hashes) -> Iterator[tuple[str, str, str]]:
    for file, expected in job.outputs.items():
        if hashes.of(file) not in (None, expected):
            yield file, "file", f"it is not what {job.name} wrote; restore it, or run the job again"


def _read(path: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_csv(path, dtype=str, keep_default_na=False)


def _other_formats(chain: Chain, job: JobRecord, frame: "pd.DataFrame") -> Iterator[tuple[str, str, str]]:
    """Compare a table's other files with what is written for its cells."""
    from neumix.rendering import save_table

    note = job.parameters["note"]
    with tempfile.TemporaryDirectory() as folder:
        outputs = {name: Path(folder) / f"table.{name}" for name in ("csv", *_FORMATS)}
        save_table(frame.drop(columns=_NOTE) if note else frame, note, outputs)
        for name in _FORMATS:
            file = csv_of(job).removesuffix("csv") + name
            if (chain.root / file).exists():
                written = (chain.root / file).read_text(encoding="utf-8")
                yield from _differences(file, written, outputs[name].read_text(encoding="utf-8"))


def _differences(file: str, written: str, right: str) -> Iterator[tuple[str, str, str]]:
    """Yield the first line that differs, and the numbers that do."""
    for line, (old, new) in enumerate(zip_longest(written.splitlines(), right.splitlines(), fillvalue=""), 1):
        if old != new:
            wrong = [number.text for number in numerals(old) if number.text not in {n.text for n in numerals(new)}]
            yield f"{file}:{line}", ", ".join(wrong) or "line", f"its sources give: {new.strip()}"
            return


def in_report(root: Path, scale: str) -> Iterator[tuple[str, str, str]]:
    """Yield file, number and fault where the report on disk, if there is one, is not as it was built.

    What it is built from may have changed since: then it is old, and its numbers still are those of its sources.

    Arguments:
        root: folder of the repository.
        scale: of the results.
    """
    folder = root / "results" / scale / "report"
    sums = folder / SUMS
    for line in sums.read_text(encoding="utf-8").splitlines() if sums.exists() else ():
        expected, _, name = line.partition("  ")
        file = folder / name
        if not file.is_file() or sha256(file) != expected:
            yield f"{folder}/{name}", "file", f"it is not as it was built; `make report SCALE={scale}` builds it again"
