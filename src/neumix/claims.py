"""Statements about results that the results decide, or not."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = ["Claim", "difference", "every"]

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement about our results and what they say of it.

    Arguments:
        text: the statement.
        evidence: the numbers that decide.
        holds: whether they bear it out; none if they do not decide.
    """

    text: str
    evidence: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """What a reader is told."""
        return {True: "holds", False: "does not hold", None: "not decided"}[self.holds]


def difference(higher: Floats, lower: Floats) -> tuple[float, float]:
    """Return the mean of seed-wise differences and the half-width of its 95% t interval.

    Values of equal seeds belong together. With one seed the half-width is infinite.
    """
    gap = higher - lower
    if len(gap) < 2:
        return float(gap.mean()), math.inf
    return float(gap.mean()), float(stats.t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / math.sqrt(len(gap)))


def every(parts: Sequence[bool | None]) -> bool | None:
    """Return whether every part of a claim holds; one that does not refutes it, whatever is undecided."""
    if False in parts:
        return False
    return None if None in parts else True
