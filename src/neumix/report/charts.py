"""Geometry of the small charts: an interval against its margin, and learning curves."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from neumix.report.formatting import words

__all__ = ["Band", "Panel", "band", "learning_curves"]

WIDTH, HEIGHT = 320.0, 148.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 8.0, 8.0, 26.0
MAX_POINTS = 64
LOG_RATIO = 50.0
BAND_WIDTH = 140.0
"""Sizes in the units of the SVG's viewBox."""

FAMILIES = {"loss": "loss", "held_out": "held-out score"}


@dataclass(frozen=True)
class Band:
    """Horizontal positions of a published value, its accepted band, and a measured interval."""

    published: float
    accepted_left: float
    accepted_width: float
    mean: float
    low: float
    high: float
    clipped: bool


@dataclass(frozen=True)
class Panel:
    """One chart: thin lines for the seeds, a thick one for the mean."""

    title: str
    description: str
    seeds: tuple[str, ...]
    mean: tuple[str, ...]
    x_label: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    note: str


def band(published: float, margin: float, mean: float, low: float, high: float) -> Band:
    """Place an interval and the accepted band on one axis centred at the published value.

    The axis reaches at most eight margins, so that the band stays visible; what lies beyond is clipped.
    """
    reach = max(1.6 * margin, *(abs(value - published) for value in (mean, low, high)))
    half = 1.12 * (min(reach, 8 * margin) if margin > 0 else reach) or 1.0

    def place(value: float) -> float:
        position = (value - published) / half
        return round(BAND_WIDTH / 2 * (1 + min(max(position, -0.96), 0.96)), 1)

    left, right = place(published - margin), place(published + margin)
    width = max(round(right - left, 1), 2.0)
    return Band(
        published=place(published),
        accepted_left=round((left + right - width) / 2, 1),
        accepted_width=width,
        mean=place(mean),
        low=place(low),
        high=place(high),
        clipped=reach > half,
    )


def learning_curves(history: pd.DataFrame | None) -> tuple[Panel, ...]:
    """Return one panel per stage of the training and per quantity that the history holds."""
    if history is None or history.empty:
        return ()
    return tuple(_panels(history))


def _panels(history: pd.DataFrame) -> Iterator[Panel]:
    stages = history["stage"].astype(str) if "stage" in history else pd.Series("", index=history.index)
    for stage in dict.fromkeys(stages):
        rows = history[stages == stage]
        for family, label in FAMILIES.items():
            values = _family(rows, family)
            if values is None:
                continue
            axis = next((name for name in ("epoch", "step") if name in rows), "row")
            positions = rows[axis] if axis in rows else pd.Series(range(len(rows)), index=rows.index)
            title = f"{words(stage)}: {label}" if stage and stages.nunique() > 1 else label
            panel = _panel(title, axis, pd.to_numeric(positions, errors="coerce"), values)
            if panel is not None:
                yield panel


def _family(rows: pd.DataFrame, family: str) -> pd.DataFrame | None:
    """Return the columns of one quantity as numbers, without the rows at which it was not measured."""
    names = [name for name in rows.columns if re.fullmatch(rf"{family}(_mean|_\d+)?", str(name))]
    if not names:
        return None
    values = rows[names].apply(pd.to_numeric, errors="coerce").dropna(how="all")
    return None if values.empty else values


def _panel(title: str, axis: str, positions: pd.Series, values: pd.DataFrame) -> Panel | None:
    kept = np.unique(np.linspace(0, len(values) - 1, min(len(values), MAX_POINTS)).round().astype(int))
    x = positions.loc[values.index].to_numpy(float)[kept]
    curves = {str(name): values[name].to_numpy(float)[kept] for name in values}
    seeds = {name: curve for name, curve in curves.items() if name.rsplit("_", 1)[-1].isdigit()}
    broken = int((~np.isfinite(values.to_numpy(float))).sum())
    drawn = np.concatenate(list(curves.values()))
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or not np.isfinite(x).all():
        return None
    mean = next((curve for name, curve in curves.items() if name not in seeds), None)
    if mean is None:
        mean = np.mean(list(seeds.values()), axis=0)
    log = bool(drawn.min() > 0 and drawn.max() > LOG_RATIO * drawn.min())
    x_axis = _Axis(float(x.min()), float(x.max()), LEFT, WIDTH - RIGHT)
    y_axis = _Axis(float(drawn.min()), float(drawn.max()), HEIGHT - BOTTOM, TOP, log=log)
    ends = mean[np.isfinite(mean)]
    summary = f", mean from {ends[0]:.4g} to {ends[-1]:.4g}" if len(ends) else ""
    return Panel(
        title=title,
        description=f"{title} by {axis}, {len(seeds) or 1} seed(s){summary}",
        seeds=tuple(line for curve in seeds.values() for line in _lines(x, curve, x_axis, y_axis)),
        mean=tuple(_lines(x, mean, x_axis, y_axis)),
        x_label=axis,
        x_ticks=x_axis.ticks(4, whole=True),
        y_ticks=y_axis.ticks(5),
        note=_note(log, broken),
    )


def _note(log: bool, broken: int) -> str:
    parts = ["logarithmic scale"] if log else []
    if broken:
        parts.append(f"{broken} non-finite value{'s' if broken > 1 else ''} left out")
    return "; ".join(parts)


def _lines(x: np.ndarray, y: np.ndarray, x_axis: "_Axis", y_axis: "_Axis") -> Iterator[str]:
    """Yield the points of each unbroken stretch; a non-finite value breaks the line."""
    stretch: list[str] = []
    for horizontal, vertical in zip(x, y, strict=True):
        if math.isfinite(vertical):
            stretch.append(f"{x_axis.place(horizontal):.1f},{y_axis.place(vertical):.1f}")
        elif stretch:
            yield " ".join(stretch)
            stretch = []
    if stretch:
        yield " ".join(stretch if len(stretch) > 1 else stretch * 2)


@dataclass(frozen=True)
class _Axis:
    """Maps values between `low` and `high` to positions between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        low, high, position = self._scaled(self.low), self._scaled(self.high), self._scaled(value)
        share = (position - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int, whole: bool = False) -> tuple[tuple[float, str], ...]:
        if self.high <= self.low:
            return ((self.place(self.low), f"{self.low:.4g}"),)
        locator = MaxNLocator(nbins=count, integer=whole, steps=[1, 2, 5, 10])
        scaled = locator.tick_values(self._scaled(self.low), self._scaled(self.high))
        values = [10.0**value if self.log else float(value) for value in scaled]
        inside = [value for value in values if self.low <= value <= self.high]
        labels = [f"{value:.3g}" if self.log else f"{value:g}" for value in inside]
        return tuple(
            (round(self.place(value), 1), label.replace("-", "−")) for value, label in zip(inside, labels, strict=True)
        )

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value
