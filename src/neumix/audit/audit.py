"""The audit: every chain behind published numbers, tables and figures, checked and summed up."""

import contextlib
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from neumix.audit.chain import Chain, JobRecord
from neumix.audit.checks import Checks
from neumix.audit.findings import STATES, Finding, State, worst
from neumix.audit.hashes import Hashes
from neumix.catalogue import Catalogue

__all__ = ["MERGED", "Audit", "Target", "audit", "targets_of"]


MERGED = "comparison.csv"
"""What the README and the report read; checked whenever everything is."""
_NEAREST = 3
"""Ids that are offered for an unknown one."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A published number, a table or a figure, and what was found behind it.

    Arguments:
        id: of the published value, or `paper.item`.
        jobs: behind it, each after those that it needs; none if it was not run, or if the last record cannot be read.
        findings: of those jobs, first causes first.
    """

    id: str
    jobs: tuple[JobRecord, ...]
    findings: tuple[Finding, ...]

    @property
    def state(self) -> State:
        """Worst finding; `missing` if it was never run."""
        return worst(self.findings) if self.known else "missing"

    @property
    def known(self) -> bool:
        """Whether there is a record of it, readable or not."""
        return bool(self.jobs or self.findings)


@dataclasses.dataclass(frozen=True)
class Audit:
    """Result of an audit.

    Arguments:
        targets: by id.
        broken: records that cannot be read, with the reason.
    """

    targets: Mapping[str, Target]
    broken: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether everything that was run is as its records say."""
        return not self.broken and all(target.state == "ok" for target in self.targets.values() if target.known)

    @property
    def concerned(self) -> dict[Finding, list[str]]:
        """What hangs on each finding, worst and most concerned first."""
        found: dict[Finding, list[str]] = {}
        for target in self.targets.values():
            for finding in target.findings:
                found.setdefault(finding, []).append(target.id)
        return dict(sorted(found.items(), key=lambda pair: (-STATES.index(pair[0].state), -len(pair[1]))))


def targets_of(catalogue: Catalogue, ids: Sequence[str] = ()) -> list[str]:
    """Return the published values, tables and figures of the selected papers, or those that are asked for.

    Raises:
        ValueError: an id is unknown; names the nearest ones.
    """
    every = [value.id for slug in catalogue.selected for value in catalogue.papers[slug].published]
    every += [item for slug in catalogue.selected for item in catalogue.items(slug)]
    for id_ in ids:
        if id_ not in every:
            near = ", ".join(difflib.get_close_matches(id_, every, n=_NEAREST))
            elsewhere = "the ids are those of config/published/*.csv, and `paper.item`"
            hint = f"the nearest are {near}" if near else elsewhere
            raise ValueError(f"'{id_}' is no published value, table or figure; {hint}")
    return list(ids) or every


def audit(root: Path, catalogue: Catalogue, hashes: Hashes, ids: Sequence[str] = (), *, compute: bool = True) -> Audit:
    """Check the chains behind some or all published values, tables and figures.

    Arguments:
        root: folder of the repository.
        catalogue: for the scale.
        hashes: of files.
        ids: of what to check; none for everything.
        compute: also compute verdicts and tables again; without, only hashes and settings are compared, which is fast.

    Raises:
        ValueError: an id is unknown.
    """
    chain = Chain(root, catalogue.settings.scale)
    checks = Checks(chain, catalogue, hashes)
    derived = _Derived(chain, checks, hashes) if compute else None
    targets = {}
    for id_ in [*targets_of(catalogue, ids), *([] if ids else [MERGED])]:
        jobs = chain.of_file(MERGED) if id_ == MERGED else chain.of_value(id_) or chain.of_item(id_)
        findings = [finding for job in jobs for finding in checks.of(job)] if jobs else _unreadable(chain, id_)
        if jobs and derived is not None:
            findings += derived.of(jobs[-1])
        targets[id_] = Target(id_, tuple(jobs), tuple(dict.fromkeys(findings)))
    return Audit(targets, chain.broken)


def _unreadable(chain: Chain, id_: str) -> list[Finding]:
    """Return a finding if there is a last record, but one that cannot be read."""
    found = [record for record in chain.last_records(id_) if record in chain.broken]
    return [Finding("tampered", "record", id_, record, chain.broken[record]) for record in found]


class _Derived:
    """Findings on values that were computed again, each once."""

    def __init__(self, chain: Chain, checks: Checks, hashes: Hashes) -> None:
        self._chain, self._checks, self._hashes = chain, checks, hashes
        self._known: dict[str, tuple[Finding, ...]] = {}

    def of(self, job: JobRecord) -> tuple[Finding, ...]:
        from neumix.audit.derived import recomputed

        if job.path not in self._known:
            found: tuple[Finding, ...] = ()
            if self._can_be_computed(job):
                with contextlib.suppress(FileNotFoundError):  # reported as missing
                    found = tuple(recomputed(self._chain, job, self._hashes))
            self._known[job.path] = found
        return self._known[job.path]

    def _can_be_computed(self, job: JobRecord) -> bool:
        """Return whether everything that is here of what a job reads, its code and its configuration is as recorded."""
        above = (finding for other in self._chain.upstream(job) for finding in self._checks.of(other))
        own = (finding.state == "missing" for finding in self._checks.of(job))
        return all(own) and all(finding.state != "tampered" for finding in above)
