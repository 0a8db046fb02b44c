"""Statements that results decide: seed-wise differences, and claims of several parts."""

import numpy as np
import pytest

from neumix.claims import Claim, difference, every


def test_the_difference_is_seed_by_seed() -> None:
    mean, half = difference(np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.5, 2.5]))
    assert (mean, half) == (0.5, 0.0)
    assert difference(np.array([1.0]), np.array([0.5])) == (0.5, np.inf)
    _, half = difference(np.array([1.0, 2.0]), np.zeros(2))
    assert half == pytest.approx(12.7062 * np.std([1, 2], ddof=1) / np.sqrt(2), rel=1e-4)


def test_one_part_that_does_not_hold_refutes_a_claim() -> None:
    assert (every([True, None]), every([True, None, False]), every([True])) == (None, False, True)


@pytest.mark.parametrize(("holds", "verdict"), [(True, "holds"), (False, "does not hold"), (None, "not decided")])
def test_a_verdict_says_whether_a_claim_holds(holds: bool | None, verdict: str) -> None:
    assert Claim("text", "evidence", holds).verdict == verdict
