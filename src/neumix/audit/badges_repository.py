"""Checks of the repository: licences, environment, documentation, data, tests."""

import re
from collections.abc import Callable

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from neumix.audit.badges_project import Outcome, Project, few
from neumix.audit.tracked import outputs
from neumix.settings import CatalogueError, read_yaml

__all__ = ["REPOSITORY_CHECKS"]

_SECTIONS = ("Two commands", "Data", "Do not trust us, check", "Where things are", "Adding a paper", "Licence")
_COMMANDS = ("reproduce", "test")
_DATA = "config/datasets.yaml"


def licence_file(project: Project) -> Outcome:
    """Check that the licence files that pyproject.toml names are there."""
    names = project.metadata.get("project", {}).get("license-files", [])
    absent = [name for name in names if not project.text(name).strip()]
    if not names or absent:
        wrong = f"missing or empty: {few(absent)}" if names else "pyproject.toml names no license-files"
        return Outcome(False, wrong, "pyproject.toml")
    return Outcome(True, f"{few(names)}", names[0])


def licence_id(project: Project) -> Outcome:
    """Check that the licence in pyproject.toml is an SPDX expression."""
    expression = project.metadata.get("project", {}).get("license", "")
    try:
        canonical = canonicalize_license_expression(expression)
    except (InvalidLicenseExpression, TypeError):
        return Outcome(False, f"the licence in pyproject.toml, {expression!r}, is no SPDX expression", "pyproject.toml")
    return Outcome(True, f"SPDX: {canonical}", "pyproject.toml")


def environment_locked(project: Project) -> Outcome:
    """Check that a fitting version of everything that pyproject.toml asks for is pinned in requirements.lock."""
    wanted = project.metadata.get("project", {}).get("dependencies", [])
    lines = (line.partition(";")[0].strip().partition("==") for line in project.text("requirements.lock").splitlines())
    pins = {str(canonicalize_name(name)): version for name, _, version in lines if version}
    loose = [text for text in wanted if not _pinned(Requirement(text), pins)]
    if not wanted or loose:
        wrong = f"not pinned in a fitting version: {few(loose)}" if wanted else "pyproject.toml names no dependencies"
        return Outcome(False, f"{wrong}; `make lock` resolves anew", "requirements.lock")
    return Outcome(True, f"{len(pins)} packages with their versions", "requirements.lock")


def _pinned(requirement: Requirement, pins: dict[str, str]) -> bool:
    version = pins.get(canonicalize_name(requirement.name))
    return version is not None and requirement.specifier.contains(version, prereleases=True)


def archived(project: Project) -> Outcome:
    """Check that CITATION.cff names a DOI under which the artifact is archived."""
    path = "CITATION.cff"
    if not project.text(path):
        return Outcome(False, f"there is no {path}; archive a release and put its DOI there")
    try:
        content = read_yaml(project.root / path)
    except CatalogueError as error:
        return Outcome(False, str(error), path)
    found = [content.get("doi"), *(entry.get("value") for entry in content.get("identifiers", []))]
    doi = next((str(name) for name in found if re.fullmatch(r"10\.\d{4,9}/\S+", str(name))), None)
    return Outcome(doi is not None, f"https://doi.org/{doi}" if doi else f"{path} has no DOI", path)


def documented(project: Project) -> Outcome:
    """Check that the README has the sections that a reader needs."""
    headings = set(re.findall(r"^## (.+)$", project.text("README.md"), re.MULTILINE))
    absent = [name for name in _SECTIONS if name not in headings]
    detail = f"no section {few(absent)}" if absent else f"sections {few(_SECTIONS)}"
    return Outcome(not absent, detail, "README.md")


def commands_documented(project: Project) -> Outcome:
    """Check that the README names the commands to reproduce and to test, and the Makefile has all that it names."""
    named = set(re.findall(r"(?:`|^    (?:\S+=\S+ )?)make ([a-z]+)\b", project.text("README.md"), re.MULTILINE))
    absent = sorted(({*_COMMANDS} - named) | (named - project.targets()))
    known = ", ".join(f"`make {name}`" for name in absent or sorted(named))
    return Outcome(not absent, f"not in README and Makefile: {known}" if absent else known, "README.md")


def tests_there(project: Project) -> Outcome:
    """Check that there are tests and .ci/run runs them."""
    files = sorted((project.root / "tests").glob("test_*.py"))
    tests = sum(len(re.findall(r"^def test_", file.read_text(encoding="utf-8"), re.MULTILINE)) for file in files)
    runs = re.search(r"^make test$", project.text(".ci/run"), re.MULTILINE)
    if not tests or not runs:
        return Outcome(False, "there are no tests" if not tests else "`.ci/run` does not run `make test`", ".ci/run")
    return Outcome(True, f"{tests} tests in {len(files)} files, all run by `.ci/run`", "tests")


def data_licensed(project: Project) -> Outcome:
    """Check that every declared dataset states a licence."""
    declared = project.catalogue.datasets
    unclear = [
        f"{name} ({entry.licence})"
        for name, entry in declared.items()
        if re.match(r"none|no licence|not stated|unknown|unclear", entry.licence, re.IGNORECASE)
    ]
    if unclear or not declared:
        return Outcome(False, f"no licence stated: {few(unclear)}" if declared else "no dataset is declared", _DATA)
    return Outcome(True, "; ".join(f"{name}: {entry.licence}" for name, entry in declared.items()), _DATA)


def data_public(project: Project) -> Outcome:
    """Check that every file of every declared dataset has a public address."""
    declared = project.catalogue.datasets
    files = [(f"{name}/{file.name}", file) for name, entry in declared.items() for file in entry.files]
    unreachable = [path for path, file in files if not file.urls]
    if unreachable or not files:
        return Outcome(False, f"without: {few(unreachable)}" if files else "no dataset is declared", _DATA)
    return Outcome(True, f"{len(files)} files, each with size and hash", _DATA)


def data_tracked(project: Project) -> Outcome:
    """Check that DVC tracks the raw files of every dataset that a run has read."""
    text = project.text("data.dvc")
    tracked = {str(output["path"]).split("/")[1] for output in outputs(text) if str(output["path"]).count("/") == 2}
    read = {file.split("/")[1] for job in project.chain.jobs.values() for file in job.inputs("data")}
    absent = sorted(read - tracked)
    if not text:
        return Outcome(False, "there is no data.dvc")
    if absent:
        return Outcome(False, f"not tracked: {few(absent)}", "data.dvc")
    return Outcome(True, f"{few(sorted(read)) or 'no raw data was read'}", "data.dvc")


REPOSITORY_CHECKS: tuple[Callable[[Project], Outcome], ...] = (
    licence_file,
    licence_id,
    environment_locked,
    archived,
    documented,
    commands_documented,
    tests_there,
    data_licensed,
    data_public,
    data_tracked,
)
