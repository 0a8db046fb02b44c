"""Tables and figures as they are shown, and the copies of their files."""

import csv
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neumix.report.inputs import ItemInput
from neumix.report.records import safe_name

__all__ = ["ItemView", "TableView", "view"]

MAX_ROWS = 200
NUMBER = re.compile(r"[-+−±]?\s*[\d.,]+(e[-+]?\d+)?\s*%?(\s*(±|\(|to\b|\[).*)?", re.IGNORECASE)
IMAGES = ("svg", "png")


@dataclass(frozen=True)
class TableView:
    """A table read from its CSV file; `hidden` rows were left out."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[bool, ...]
    hidden: int


@dataclass(frozen=True)
class ItemView:
    """One table or figure with links relative to the report's folder."""

    item: ItemInput
    image: str | None
    table: TableView | None
    files: tuple[tuple[str, str], ...]

    @property
    def produced(self) -> bool:
        """Whether there is something to show."""
        return self.image is not None or self.table is not None


def view(item: ItemInput, folder: Path) -> ItemView:
    """Copy the files of an item that exist into `folder` and describe what can be shown.

    Raises:
        ValueError: the id is no file name or is taken, or the table cannot be read.
    """
    name = safe_name(item.id, "item")
    shelf = "tables" if item.kind == "table" else "figures"
    files: dict[str, str] = {}
    for suffix, path in item.paths.items():
        if path.is_file() and path.stat().st_size:
            files[suffix] = f"{shelf}/{name}.{safe_name(suffix, 'suffix')}"
            if (folder / files[suffix]).exists():
                raise ValueError(f"item '{item.id}' is listed twice; rename one")
            shutil.copyfile(path, folder / files[suffix])
    image = next((files[suffix] for suffix in IMAGES if suffix in files), None)
    shows_table = item.kind == "table" and "csv" in files
    return ItemView(
        item=item,
        image=None if shows_table else image,
        table=_read(item.paths["csv"]) if shows_table else None,
        files=tuple((suffix.upper(), link) for suffix, link in files.items()),
    )


def _read(path: Path) -> TableView:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = [tuple(line) for line in csv.reader(stream, strict=True) if line]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a readable CSV table: {error}; render it again") from None
    header, *body = lines
    uneven = next((number for number, row in enumerate(body, 2) if len(row) != len(header)), None)
    if uneven is not None:
        raise ValueError(f"{path}: line {uneven}: expected {len(header)} cells; render the table again")
    shown = body[:MAX_ROWS]
    return TableView(
        header=header,
        rows=tuple(tuple(_shorten(cell) for cell in row) for row in shown),
        numeric=tuple(_numeric([row[column] for row in shown]) for column in range(len(header))),
        hidden=len(body) - len(shown),
    )


def _numeric(cells: Sequence[str]) -> bool:
    filled = [cell.strip() for cell in cells if cell.strip() not in ("", "-", "–", "nan")]
    return bool(filled) and all(NUMBER.fullmatch(cell) for cell in filled)


def _shorten(cell: str) -> str:
    """Cut a bare float to six significant digits; the CSV file keeps them all."""
    if not re.fullmatch(r"-?\d*\.\d{5,}(e[-+]?\d+)?", cell.strip(), re.IGNORECASE):
        return cell
    return f"{float(cell):.6g}"
