"""Raw files on disk: reading them, and the one error for a file that is missing or damaged."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from neumix.data.dataset import DataError

__all__ = ["damaged", "integers", "read_bytes", "read_rows"]


def damaged(dataset: str, where: Path | str, expected: str, found: object) -> DataError:
    """Return the error that a raw file is not what it should be.

    Arguments:
        dataset: what a reader calls the dataset.
        where: the file, with line or position where that helps.
        expected: what should be there.
        found: what is there.
    """
    return DataError(
        f"{dataset}: {where}: expected {expected}, found {found}. "
        "Delete the dataset's folder and run again; the pipeline fetches its files anew."
    )


def integers(dataset: str, place: str, fields: Sequence[str], largest: int) -> list[int]:
    """Return fields as whole numbers from 0 to `largest`.

    Raises:
        DataError: a field is something else.
    """
    for position, field in enumerate(fields, start=1):
        if not re.fullmatch(r"[0-9]{1,9}", field) or int(field) > largest:
            raise damaged(dataset, f"{place}, number {position}", f"a whole number from 0 to {largest}", repr(field))
    return [int(field) for field in fields]


def read_bytes(dataset: str, path: Path) -> bytes:
    """Return the content of a raw file.

    Raises:
        DataError: there is no such file, or it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{dataset}: {path}: no such file. The pipeline fetches it (delete {path.parent} and run again), "
            "or put the uncompressed file there yourself."
        ) from None
    except OSError as error:
        raise DataError(f"{dataset}: {path}: cannot be read: {error.strerror}") from error


def read_rows(
    dataset: str, path: Path, separator: str | None, columns: int, rows: int
) -> Iterator[tuple[str, list[str]]]:
    """Yield place (file and line) and fields of each line of a text table without header.

    Arguments:
        dataset: what a reader calls the dataset.
        path: the file.
        separator: between fields; none stands for any run of blanks.
        columns: number of fields in each line.
        rows: number of lines.

    Raises:
        DataError: a line has another number of fields, or the table another number of lines.
    """
    lines = read_bytes(dataset, path).decode("ascii", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        fields = line.strip().split(separator)
        place = f"{path}: line {number}"
        if len(fields) != columns:
            raise damaged(dataset, place, f"{columns} fields", f"{len(fields)}: {line[:80]!r}")
        yield place, fields
    if len(lines) != rows:
        raise damaged(dataset, path, f"{rows} lines", len(lines))
