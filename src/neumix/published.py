"""What a paper printed, how close counts as the same result, and which of our choices differ from the paper."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
from pydantic.dataclasses import dataclass

from neumix.settings import STRICT, CatalogueError, nearest, parse, read_yaml

__all__ = [
    "Better",
    "Deviation",
    "Kind",
    "Margin",
    "PublishedValue",
    "margin_for",
    "read_deviations",
    "read_margins",
    "read_published",
    "rounding_half_width",
]

Better = Literal["higher", "lower", "match"]
Kind = Literal["experiment", "count", "cited"]

_HEADER = (
    "id",
    "paper",
    "where",
    "experiment",
    "dataset",
    "model",
    "setting",
    "metric",
    "value",
    "std",
    "unit",
    "better",
    "kind",
    "note",
)
_NUMBER = r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"

_Text = Annotated[str, pydantic.StringConstraints(min_length=1)]
_Printed = Annotated[str, pydantic.StringConstraints(pattern=f"^{_NUMBER}$")]
_Slug = Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
_Width = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False, strict=True)]


def rounding_half_width(printed: str) -> float:
    """Return half a unit of the last printed digit: how far rounding can have moved the number.

    Arguments:
        printed: the number as printed, e.g. "0.4055" (which gives 5e-5), "50" (0.5) or "1.6e-3" (5e-5).

    Raises:
        ValueError: `printed` is not a finite decimal number.
    """
    if not re.fullmatch(_NUMBER, printed):
        raise ValueError(f"'{printed}' is not a number as a paper prints it, such as 0.4055 or 1.6e-3")
    exponent = Decimal(printed).as_tuple().exponent
    return float(Decimal(5).scaleb(int(exponent) - 1))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PublishedValue:
    """One number that a paper printed.

    Arguments:
        id: unique name, which starts with the paper's slug and a dot.
        paper: slug of the paper.
        where: table, figure or section that prints it.
        experiment: what produced it.
        dataset: data it was measured on, in the paper's words.
        model: model it was measured on.
        setting: what else defines the experiment.
        metric: key into the margins.
        printed: the number exactly as printed; its last digit says how it was rounded.
        printed_std: the spread printed with it, or empty.
        unit: unit of the number; "%" values stay in percent.
        better: which direction is good; "match" where neither is.
        kind: a measured result, a number that can be counted exactly, or somebody else's number.
        note: what a reader should know about the number.
    """

    id: _Text
    paper: _Text
    where: _Text
    experiment: _Text
    dataset: _Text
    model: _Text
    setting: str = ""
    metric: _Text
    printed: _Printed
    printed_std: _Printed | Literal[""] = ""
    unit: _Text
    better: Better
    kind: Kind
    note: str = ""

    @property
    def value(self) -> float:
        """The number, in `unit`."""
        return float(self.printed)

    @property
    def std(self) -> float | None:
        """The printed spread in `unit`, if there is one."""
        return float(self.printed_std) if self.printed_std else None

    @property
    def rounding(self) -> float:
        """How far rounding can have moved the number, in `unit`; counts are not rounded."""
        return 0.0 if self.kind == "count" else rounding_half_width(self.printed)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Margin:
    """The largest difference that still counts as the same result; it is fixed before any run.

    Arguments:
        abs: width in the unit of the value.
        rel: width as a fraction of the published value; the larger of the widths given holds.
        percent_abs: takes the place of `abs` where the unit is "%".
        judge: false for quantities that are shown and never judged.
    """

    abs: _Width | None = None
    rel: _Width | None = None
    percent_abs: _Width | None = None
    judge: bool = True

    @property
    def exact(self) -> bool:
        """Whether only the very same number counts as the same result."""
        return self.abs == 0 and self.rel is None and self.percent_abs is None

    def width(self, value: PublishedValue) -> float:
        """Return the margin of one published value, in its unit and without the rounding half-width.

        Raises:
            CatalogueError: no width is given for the unit of the value.
        """
        relative = None if self.rel is None else self.rel * max(value.value, -value.value)
        key, absolute = ("percent_abs", self.percent_abs) if value.unit == "%" else ("abs", self.abs)
        widths = [width for width in (absolute, relative) if width is not None]
        if not widths:
            raise CatalogueError(
                f"the margin of metric '{value.metric}' has no '{key}', "
                f"which '{value.id}' (unit '{value.unit}') needs; add it"
            )
        return max(widths)


_EXACT = Margin(abs=0.0)


def read_margins(path: Path) -> Mapping[str, Margin]:
    """Read the margins, by metric.

    Arguments:
        path: a YAML file that maps each metric to a `Margin`.

    Raises:
        CatalogueError: an entry is not a margin, or gives no width and does not say `judge: false`.
    """
    margins = parse(dict[str, Margin], read_yaml(path), str(path))
    for metric, margin in margins.items():
        if margin.judge and margin.abs is None and margin.rel is None and margin.percent_abs is None:
            raise CatalogueError(f"{path}: '{metric}' has no width; give abs, rel or percent_abs, or judge: false")
    return margins


def margin_for(
    value: PublishedValue, margins: Mapping[str, Margin], source: str = "config/margins.yaml"
) -> Margin | None:
    """Return the margin of one published value; counts without their own must match exactly, cited ones have none.

    Arguments:
        value: the published value.
        margins: by metric.
        source: file that the margins came from, for the error.

    Raises:
        CatalogueError: the metric of a measured result has no margin (in its unit), or a count has a wide one.
    """
    if value.kind == "cited":
        return None
    if value.kind == "count":
        margin = margins.get(value.metric, margins.get("default_count", _EXACT))
        if not margin.exact:
            raise CatalogueError(f"{source}: '{value.metric}' must have 'abs: 0': '{value.id}' is a count")
        return margin
    if value.metric not in margins:
        hint = nearest(value.metric, list(margins))
        raise CatalogueError(f"{source}: no margin for metric '{value.metric}' of '{value.id}'{hint}")
    margin = margins[value.metric]
    if margin.judge:
        try:
            margin.width(value)
        except CatalogueError as error:
            raise CatalogueError(f"{source}: {error}") from None
    return margin


def read_published(path: Path) -> tuple[PublishedValue, ...]:
    """Read what one paper printed, in file order.

    Arguments:
        path: `<slug>.csv` with one row per number and exactly the columns of the table.

    Raises:
        CatalogueError: file, line and column of what is wrong, and the nearest valid name.
    """
    rows = _rows(path)
    _check_header(next(rows, (1, []))[1], path)
    values: list[PublishedValue] = []
    lines: dict[str, int] = {}
    for line, cells in rows:
        value = _published(cells, path, line)
        if value.id in lines:
            raise CatalogueError(f"{path}: line {line}: column 'id': '{value.id}' is taken by line {lines[value.id]}")
        lines[value.id] = line
        values.append(value)
    return tuple(values)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        # Spreadsheet programs put a byte order mark in front of the first column's name.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=True)
            for cells in reader:
                yield reader.line_num, cells
    except FileNotFoundError:
        raise CatalogueError(f"{path}: no such file") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise CatalogueError(f"{path}: not a CSV file in UTF-8: {error}") from None


def _check_header(header: Sequence[str], path: Path) -> None:
    for name in header:
        if name not in _HEADER:
            raise CatalogueError(f"{path}: line 1: unknown column '{name}'{nearest(name, _HEADER)}")
    if tuple(header) != _HEADER:
        raise CatalogueError(
            f"{path}: line 1: expected the columns {','.join(_HEADER)}, found {','.join(header) or 'nothing'}"
        )


def _published(cells: Sequence[str], path: Path, line: int) -> PublishedValue:
    where = f"{path}: line {line}"
    if len(cells) != len(_HEADER):
        raise CatalogueError(
            f"{where}: expected {len(_HEADER)} cells, found {len(cells)}; quote cells that hold a comma"
        )
    row: dict[str, Any] = dict(zip(_HEADER, cells, strict=True))
    for column in ("value", "std"):
        if not re.fullmatch(_NUMBER, row[column]) and (column == "value" or row[column]):
            raise CatalogueError(
                f"{where}: column '{column}': '{row[column]}' is not a number; give it as printed, such as 0.4055"
            )
    row["printed"], row["printed_std"] = row.pop("value"), row.pop("std")
    value = parse(PublishedValue, row, where)
    if value.paper != path.stem:
        raise CatalogueError(f"{where}: column 'paper': expected '{path.stem}' as the file, found '{value.paper}'")
    if not value.id.startswith(f"{value.paper}."):
        raise CatalogueError(f"{where}: column 'id': '{value.id}' must start with '{value.paper}.'")
    return value


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Deviation:
    """One choice that the paper leaves open or that we make differently.

    Arguments:
        id: unique name.
        about: short title.
        choice: what we do.
        reason: why.
        source: where the first reading came from: the paper, the authors' code, or us.
        values: ids of the published values it bears on.
        tried: attempts at closing a difference.
        cause: what we believe causes a difference that remains.
    """

    id: _Slug
    about: _Text
    choice: _Text
    reason: _Text
    source: Literal["paper", "code", "ours"]
    values: tuple[_Text, ...] = ()
    tried: tuple[_Text, ...] = ()
    cause: _Text | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _DeviationFile:
    deviations: dict[str, dict[str, Any]]


def read_deviations(path: Path) -> tuple[Deviation, ...]:
    """Read the deviations from one paper, in file order; a missing file means that there are none.

    Arguments:
        path: a YAML file with one mapping, `deviations`, from id to entry.

    Raises:
        CatalogueError: file and key of what is wrong, and the nearest valid key.
    """
    if not path.exists():
        return ()
    entries = parse(_DeviationFile, read_yaml(path), str(path)).deviations
    for name, entry in entries.items():
        if "id" in entry:
            raise CatalogueError(f"{path}: deviations.{name}: remove the key 'id'; '{name}' is the id")
    return tuple(
        parse(Deviation, {"id": name, **entry}, f"{path}: deviations.{name}") for name, entry in entries.items()
    )
