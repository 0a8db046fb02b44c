"""The audit: every chain behind published numbers, tables and figures, checked and summed up."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from neumix.audit.chain import Chain, JobRecord
from neumix.audit.checks import Checks
from neumix.audit.derived import recomputed
from neumix.audit.findings import STATES, Finding, State, worst
from neumix.audit.hashes import Hashes
from neumix.catalogue import Catalogue
from neumix.settings import nearest

__all__ = ["MERGED", "Audit", "Target", "audit", "targets_of"]


MERGED = "comparison.csv"
"""What the README and the report read; checked whenever everything is."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A published number, a table or a figure, and what was found behind it.

    Arguments:
        id: of the published value, or `paper.item`.
        jobs: behind it, each after those that it needs; none if it was not run.
        findings: of those jobs, first causes first.
    """

    id: str
    jobs: tuple[JobRecord, ...]
    findings: tuple[Finding, ...]

    @property
    def state(self) -> State:
        """Worst finding; `missing` if it was never run."""
        return worst(self.findings) if self.jobs else "missing"


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
        return not self.broken and all(target.state == "ok" for target in self.targets.values() if target.jobs)

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
            raise ValueError(f"'{id_}' is no published value, table or figure{nearest(id_, every)}")
    return list(ids) or every


def audit(root: Path, catalogue: Catalogue, hashes: Hashes, ids: Sequence[str] = ()) -> Audit:
    """Check the chains behind some or all published values, tables and figures.

    Arguments:
        root: folder of the repository.
        catalogue: for the scale.
        hashes: of files.
        ids: of what to check; none for everything.

    Raises:
        ValueError: an id is unknown.
    """
    chain = Chain(root, catalogue.settings.scale)
    checks = Checks(chain, catalogue, hashes)
    derived: dict[str, tuple[Finding, ...]] = {}
    targets = {}
    for id_ in [*targets_of(catalogue, ids), *([] if ids else [MERGED])]:
        jobs = chain.of_file(MERGED) if id_ == MERGED else chain.of_value(id_) or chain.of_item(id_)
        findings = [finding for job in jobs for finding in checks.of(job)]
        if jobs:
            last = jobs[-1]
            if last.path not in derived:
                derived[last.path] = tuple(recomputed(chain, last)) if _can_be_computed(chain, checks, last) else ()
            findings += derived[last.path]
        targets[id_] = Target(id_, tuple(jobs), tuple(dict.fromkeys(findings)))
    return Audit(targets, chain.broken)


def _can_be_computed(chain: Chain, checks: Checks, job: JobRecord) -> bool:
    """Return whether everything that a job reads, its code and its configuration are as recorded."""
    above = (finding for other in chain.upstream(job) for finding in checks.of(other))
    return not checks.of(job) and all(finding.state != "tampered" for finding in above)
