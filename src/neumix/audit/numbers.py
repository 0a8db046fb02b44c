"""Whether every number that a reader meets comes from a file: tables, captions, README, report, and their code."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from neumix.audit.chain import Chain
from neumix.audit.hashes import Hashes
from neumix.audit.literals import in_code, in_template
from neumix.audit.numerals import Known
from neumix.audit.prose import in_captions, in_deviations, in_readme
from neumix.audit.rendered import Rendered, in_rendered, in_report
from neumix.catalogue import Catalogue
from neumix.closure import sources

__all__ = ["Unsourced", "unsourced"]

_SHOWING = ("audit.explain", "claims", "comparison", "diagrams", "formatting", "judging", "rendering", "scoreboard")
"""Modules beside those of papers and of the report whose texts and numbers readers see."""


@dataclasses.dataclass(frozen=True)
class Unsourced:
    """A number that no file gives.

    Arguments:
        place: file, with line or key.
        number: as it is written.
        fault: why it has no source, and what to do.
    """

    place: str
    number: str
    fault: str

    def __str__(self) -> str:
        return f"{self.place}: {self.number}: {self.fault}"


def unsourced(
    root: Path, catalogue: Catalogue, readme: Path, scoreboard: Path, counts: Rendered
) -> Iterator[Unsourced]:
    """Yield the numbers without a source; nothing is written.

    Tables and comparisons are computed again, and the code that computes them must hold no results: then every
    number of theirs comes from a run's metrics, its arrays or what was published.

    Arguments:
        root: folder of the repository, and the working folder.
        catalogue: for the scale.
        readme: whose scoreboard is generated.
        scoreboard: the comparison that it is generated from.
        counts: of what was looked at, to be added to.
    """
    results = root / "results" / catalogue.settings.scale
    known = Known.load(catalogue, results / "comparison.csv")
    total = sum(len(paper.published) for paper in catalogue.papers.values())
    yield from (Unsourced(*found) for found in in_rendered(Chain(root, results.name), Hashes(root), counts))
    yield from _in_configuration(catalogue, known)
    yield from (Unsourced(f"{readme}:{line}", *found) for line, *found in in_readme(readme, scoreboard, total, known))
    yield from _in_sources(root, catalogue, known)
    yield from (Unsourced(*found) for found in in_report(root, results.name))


def _in_configuration(catalogue: Catalogue, known: Known) -> Iterator[Unsourced]:
    for slug, paper in catalogue.papers.items():
        for key, *found in in_captions(paper, known):
            yield Unsourced(f"config/papers/{slug}.yaml: {key}", *found)
        for key, *found in in_deviations(paper, known):
            yield Unsourced(f"config/deviations/{slug}.yaml: {key}", *found)


def _in_sources(root: Path, catalogue: Catalogue, known: Known) -> Iterator[Unsourced]:
    """Look through the modules that draw a paper's tables and figures, and those that show all papers'."""
    package = root / "src" / "neumix"
    for slug in catalogue.papers:
        for path in _drawing(package, slug):
            yield from (Unsourced(f"{path}:{line}", *found) for line, *found in in_code(path, known, slug))
    shared = [package / f"{name.replace('.', '/')}.py" for name in _SHOWING]
    for path in [*shared, *sorted((package / "report").glob("*.py"))]:
        yield from (Unsourced(f"{path}:{line}", *found) for line, *found in in_code(path, known, None))
    for path in sorted((package / "report" / "templates").iterdir()):
        template = path.read_text(encoding="utf-8")
        yield from (Unsourced(f"{path}:{line}", *found) for line, *found in in_template(template, known))


def _drawing(package: Path, slug: str) -> list[Path]:
    """Return the modules of a paper that its tables and figures are drawn by."""
    folder = package / "papers" / slug
    modules = [f"neumix.papers.{slug}.{kind}" for kind in ("tables", "figures") if (folder / f"{kind}.py").exists()]
    return [path for path in sources(*modules) if f"/papers/{slug}/" in path.as_posix()]
