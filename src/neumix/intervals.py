"""Intervals of the line whose ends are exact rational numbers."""

import dataclasses
import math
import numbers
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

__all__ = ["Interval", "Number", "exact", "union"]

Number = int | float | Fraction


def exact(number: Any) -> Fraction:
    """Return a number as a fraction; a float stands for the binary fraction that it is, 0.1 not for one tenth.

    Raises:
        ValueError: the number is infinite or NaN.
    """
    if isinstance(number, numbers.Rational):
        return Fraction(int(number.numerator), int(number.denominator))
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"need a finite number, found {number}")
    return Fraction(value)


@dataclasses.dataclass(frozen=True)
class Interval:
    """Interval of the line that is not empty; a point where both ends agree.

    Arguments:
        low: left end, minus infinity where there is none.
        high: right end, infinity where there is none.
        low_closed: whether the left end belongs to the interval.
        high_closed: whether the right end belongs to the interval.
    """

    low: Fraction | float
    high: Fraction | float
    low_closed: bool
    high_closed: bool

    def __post_init__(self) -> None:
        if self.low > self.high or (self.low == self.high and not (self.low_closed and self.high_closed)):
            raise ValueError(f"an interval from {self.low} to {self.high} is empty; give it a point at least")
        for end, closed in ((self.low, self.low_closed), (self.high, self.high_closed)):
            if closed and not isinstance(end, Fraction):
                raise ValueError(f"an interval cannot contain its end {end}; ends that belong to it are fractions")

    def __contains__(self, z: Fraction) -> bool:
        after = self.low < z or (self.low_closed and self.low == z)
        return after and (z < self.high or (self.high_closed and z == self.high))

    @property
    def is_point(self) -> bool:
        """Whether the interval is a single point."""
        return self.low == self.high

    @property
    def inner(self) -> Fraction:
        """A point inside, the midpoint of a bounded interval."""
        low, high = self.low, self.high
        if isinstance(low, Fraction):
            return (low + high) / 2 if isinstance(high, Fraction) else low + 1
        return high - 1 if isinstance(high, Fraction) else Fraction(0)

    def intersection(self, other: "Interval") -> "Interval | None":
        """Return what both intervals share, `None` for nothing."""
        low = max(self.low, other.low)
        high = min(self.high, other.high)
        low_closed = all(item.low_closed or item.low < low for item in (self, other))
        high_closed = all(item.high_closed or item.high > high for item in (self, other))
        if low > high or (low == high and not (low_closed and high_closed)):
            return None
        return Interval(low, high, low_closed, high_closed)

    def image(self, slope: Fraction, offset: Fraction) -> "Interval":
        """Return the image under z -> slope z + offset."""
        if slope == 0:
            return Interval(offset, offset, True, True)
        low, high = (_affine(end, slope, offset) for end in (self.low, self.high))
        if slope > 0:
            return Interval(low, high, self.low_closed, self.high_closed)
        return Interval(high, low, self.high_closed, self.low_closed)


def union(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Return the union as disjoint intervals from left to right, none of which touches the next."""
    merged: list[Interval] = []
    for item in sorted(intervals, key=lambda item: (item.low, not item.low_closed)):
        last = merged[-1] if merged else None
        joins = last and (item.low < last.high or (item.low == last.high and (item.low_closed or last.high_closed)))
        if last is None or not joins:
            merged.append(item)
            continue
        high = max(last.high, item.high)
        closed = any(part.high_closed and part.high == high for part in (last, item))
        merged[-1] = Interval(last.low, high, last.low_closed, closed)
    return tuple(merged)


def _affine(end: Fraction | float, slope: Fraction, offset: Fraction) -> Fraction | float:
    """Return the image of an end of an interval; an infinite one stays infinite."""
    if isinstance(end, Fraction):
        return slope * end + offset
    return end if slope > 0 else -end
