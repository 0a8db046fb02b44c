"""What a job will probably cost, with an interval learnt from what scaling one record to another would have missed."""

import dataclasses
import functools
import math
from collections.abc import Iterable, Sequence
from typing import Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from neumix.audit.plan_records import Evidence, Observed
from neumix.audit.plan_tasks import Task, work_ratio

__all__ = ["BASES", "COVERAGE", "Basis", "Estimate", "Estimator", "Range"]

Basis = Literal["same", "experiment", "method", "limit"]
BASES: tuple[Basis, ...] = get_args(Basis)
"""What an estimate rests on: a record of the same job and settings; of the same experiment and method, scaled; of the
same method elsewhere, scaled; or nothing but the time that the workflow allows."""

Quantity = Literal["core_seconds", "output_bytes"]
Floats = NDArray[np.float64]

COVERAGE = 0.9
"""Share of the recorded pairs that an interval covers."""

_FACTORS: dict[Quantity, frozenset[str] | None] = {
    "core_seconds": None,
    "output_bytes": frozenset({"seeds", "parameters", "bytes"}),
}
_FLOOR: dict[Quantity, float] = {"core_seconds": 1.0, "output_bytes": 1000.0}
"""What is less counts as much: nothing depends on it, and in proportion it differs most."""
_NEIGHBOURS, _FEWEST = 60, 10
_ASSUMED: dict[Basis, float] = {"same": math.log(2), "experiment": math.log(4), "method": math.log(10)}
"""Half-widths where fewer pairs than that have been recorded."""
_LEAST: dict[Quantity, float] = {"core_seconds": math.log(1.5), "output_bytes": math.log(1.1)}
"""No half-width is smaller: the load of a machine alone moves times that much."""
_EXPONENT = 0.3
"""Beyond the ratios that were recorded, cost may grow with the 0.7th to the 1.3th power of work."""
_OTHER_MACHINE = math.log(2)
"""Added to both half-widths if the record is of another processor or GPU."""
_GPU_GAIN = math.log(50)
"""How many times faster than a processor a GPU may be: what a record without one tells of a job with one is a bound."""


@dataclasses.dataclass(frozen=True)
class Range:
    """A quantity that is not known exactly.

    Arguments:
        low: lower end of the interval.
        likely: best guess.
        high: upper end.
    """

    low: float = 0.0
    likely: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the range that three values span, in any order."""
        return cls(*sorted(values))

    def __add__(self, other: "Range") -> "Range":
        """Return the sum; the ends are added, because what makes one job slower makes others slower."""
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)

    def __mul__(self, factor: float) -> "Range":
        return Range(self.low * factor, self.likely * factor, self.high * factor)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An estimate and what it rests on.

    Arguments:
        range: in seconds of one core, or bytes.
        basis: how near the nearest record is.
        source: that record, and the ratio of work; or why there is none.
    """

    range: Range
    basis: Basis
    source: str


class Estimator:
    """Estimates jobs from earlier ones.

    The nearest record is scaled by the ratio of work, the product of all factors that are known of both. How far such a
    guess goes astray is learnt: every pair of records that are as near to each other is scaled alike, and the quantiles
    of what that misses, among the pairs whose ratios are nearest, give the interval, and its median a correction.

    Arguments:
        observed: earlier jobs.
        cpu: processor of this machine.
        gpu: its GPU, if it has one.
        limits: seconds that the workflow allows the recorded jobs, with the seconds that they took.
    """

    def __init__(
        self,
        observed: Observed,
        cpu: str | None,
        gpu: str | None = None,
        limits: Sequence[tuple[float, float]] = (),
    ) -> None:
        self.evidence, self.cpu, self.gpu, self.limits = observed.evidence, cpu, gpu, limits

    def seconds(self, task: Task, *, threads: int, startup: Range, limit: float | None, gpu: bool) -> Estimate:
        """Return the wall time of a job.

        Arguments:
            task: the job.
            threads: that it takes; time is taken to go down in proportion.
            startup: seconds from the start of its process to that of its record.
            limit: seconds that the workflow allows it.
            gpu: whether it will run on a GPU.
        """
        found = self.nearest(task, "core_seconds", gpu=gpu)
        if found is None:
            return self._within(limit)
        estimate = dataclasses.replace(found, range=found.range * (1 / threads) + startup)
        return estimate if limit is None or not (gpu and self._no_gpu(task)) else _bounded(estimate, limit)

    def size(self, task: Task) -> Estimate | None:
        """Return the bytes that a job will write; none if no such files are on disk."""
        return self.nearest(task, "output_bytes", gpu=False)

    def nearest(self, task: Task, quantity: Quantity, *, gpu: bool) -> Estimate | None:
        """Return an estimate from the nearest record, or none.

        Arguments:
            task: the job.
            quantity: that is estimated.
            gpu: whether the job will run on a GPU.
        """
        for basis in BASES[:-1]:
            records = [record for record in self._of(quantity) if related(task, record.task, basis)]
            records = [record for record in records if bool(record.gpu) == gpu] or records
            if records:
                return self._scaled(task, records, basis, quantity, gpu=gpu)
        return None

    def _of(self, quantity: Quantity) -> list[Evidence]:
        return [record for record in self.evidence if getattr(record, quantity) is not None]

    def _no_gpu(self, task: Task) -> bool:
        return not any(record.gpu for record in self.evidence if related(task, record.task, "method"))

    def _scaled(
        self, task: Task, records: Sequence[Evidence], basis: Basis, quantity: Quantity, *, gpu: bool
    ) -> Estimate:
        def distance(record: Evidence) -> tuple[bool, float]:
            ratio = work_ratio(task, record.task, names=_FACTORS[quantity])
            return self._foreign(record), abs(ratio) + task.unknown(record.task) + (record.task.id != task.id)

        record = min(records, key=distance)
        ratio = work_ratio(task, record.task, names=_FACTORS[quantity])
        low, middle, high = self._spread(task, record.task, basis, quantity)
        if quantity == "core_seconds":
            foreign = _OTHER_MACHINE if self._foreign(record) else 0.0
            low -= foreign + (_GPU_GAIN if gpu and not record.gpu else 0.0)
            high += foreign + (_GPU_GAIN if record.gpu and not (gpu or self.gpu) else 0.0)
        guess = math.log(max(getattr(record, quantity), _FLOOR[quantity])) + ratio
        times = "" if ratio == 0 else f" x {math.exp(ratio):.3g}"
        return Estimate(Range.of(math.exp(guess + part) for part in (low, middle, high)), basis, record.source + times)

    def _foreign(self, record: Evidence) -> bool:
        """Return whether a record is of another machine; a file without a machine is not in git, so it is from here."""
        return record.cpu is not None and (record.cpu, record.gpu) != (self.cpu, self.gpu)

    def _spread(self, task: Task, reference: Task, basis: Basis, quantity: Quantity) -> tuple[float, float, float]:
        """Return lower end, median and upper end of what pairs of records miss, as logarithms."""
        ratio, unknown = work_ratio(task, reference, names=_FACTORS[quantity]), task.unknown(reference)
        pairs = self._misses(task.rule, basis, quantity)
        pairs = pairs[np.abs(pairs[:, 2] - unknown) <= np.abs(pairs[:, 2] - unknown).min(initial=np.inf)]
        if len(pairs) < _FEWEST:
            assumed = -_ASSUMED[basis], 0.0, _ASSUMED[basis]
            known = [self._spread(task, reference, "experiment", quantity)] if basis == "same" else []
            return min([assumed, *known], key=lambda spread: spread[2] - spread[0])
        away = np.abs(pairs[:, 0] - ratio)
        near = pairs[away <= np.sort(away)[:_NEIGHBOURS][-1]]  # with all that are as near as the last one
        beyond = _EXPONENT * float(away.min())
        weights = 1 / np.bincount(near[:, 3].astype(int))[near[:, 3].astype(int)]  # large experiments count no more
        ends = ((1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2)
        low, middle, high = np.quantile(near[:, 1], ends, weights=weights, method="inverted_cdf")
        least = _LEAST[quantity]
        return min(low, middle - least) - beyond, float(middle), max(high, middle + least) + beyond

    @functools.cache  # noqa: B019 (an estimator lives as long as the plan that it makes)
    def _misses(self, rule: str, basis: Basis, quantity: Quantity) -> Floats:
        """Return ratio of work, miss, unknown blocks and number of a record, a row for each pair as near as that."""
        found = []
        records = [record for record in self._of(quantity) if record.task.rule == rule]
        for reference in records:
            for number, record in enumerate(records):
                after, before = (max(getattr(one, quantity), _FLOOR[quantity]) for one in (record, reference))
                paired = record is not reference and _paired(record.task, reference.task, basis)
                if not paired or record.gpu != reference.gpu or max(after, before) <= _FLOOR[quantity]:
                    continue
                ratio = work_ratio(record.task, reference.task, names=_FACTORS[quantity])
                found.append((ratio, math.log(after / before) - ratio, record.task.unknown(reference.task), number))
        return np.array(found, dtype=np.float64).reshape(-1, 4)

    def _within(self, limit: float | None) -> Estimate:
        """Return what is left where nothing is known: the time that the workflow allows, of which jobs use a share."""
        if limit is None:
            return Estimate(Range(), "limit", "nothing comparable was recorded, and the workflow sets no limit")
        shares = [took / allowed for took, allowed in self.limits]
        low, likely = np.quantile(shares, [(1 - COVERAGE) / 2, 0.5]) if shares else (0.0, 1.0)
        source = "nothing comparable was recorded: at most what the workflow allows"
        return Estimate(Range.of((min(low, 1) * limit, min(likely, 1) * limit, limit)), "limit", source)


def _bounded(estimate: Estimate, limit: float) -> Estimate:
    ends = (estimate.range.low, estimate.range.likely, estimate.range.high)
    source = f"{estimate.source}, without a GPU; at most what the workflow allows"
    return Estimate(Range.of(min(end, limit) for end in ends), estimate.basis, source)


def related(task: Task, reference: Task, basis: Basis) -> bool:
    """Return whether a record may stand for a job.

    Arguments:
        task: to be estimated.
        reference: that was recorded.
        basis: how near it must be.
    """
    if basis == "same":
        return task.same_as(reference)
    near = (task.rule, task.method) == (reference.rule, reference.method)
    return near and (basis == "method" or task.group == reference.group)


def _paired(task: Task, reference: Task, basis: Basis) -> bool:
    """Return whether two records show what an estimate on a basis misses.

    Where all that is known of the cost is the same, two runs of an experiment stand for repeats of one.
    """
    if basis != "same":
        return related(task, reference, basis)
    alike = not task.unknown(reference) and work_ratio(task, reference) == 0
    return related(task, reference, "experiment") and alike and bool(task.factors or task.id == reference.id)
