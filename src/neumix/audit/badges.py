"""Files for artifact evaluation and reproducibility checklists, ticked where a check has passed."""

from collections.abc import Callable, Mapping
from pathlib import Path

import jinja2

from neumix.audit.badges_claims import Claim, claims
from neumix.audit.badges_documents import DOCUMENTS, Document
from neumix.audit.badges_project import Outcome, Project
from neumix.audit.badges_repository import REPOSITORY_CHECKS
from neumix.audit.badges_results import RESULT_CHECKS
from neumix.catalogue import Catalogue
from neumix.files import write_text
from neumix.report.formatting import duration

__all__ = ["CHECKS", "check", "export_badges"]

CHECKS: Mapping[str, Callable[[Project], Outcome]] = {
    function.__name__: function for function in (*REPOSITORY_CHECKS, *RESULT_CHECKS)
}
"""Every check by its name; the first line of its docstring says what it checks."""

_CLAIMS = "claims.md"


def check(project: Project, name: str) -> Outcome:
    """Run a check; what it cannot read has not passed.

    Arguments:
        project: to look at.
        name: of the check.
    """
    try:
        return CHECKS[name](project)
    except (OSError, ValueError, LookupError) as error:
        return Outcome(False, " ".join(str(error).split()))


def export_badges(root: Path, catalogue: Catalogue, folder: Path) -> Mapping[str, Outcome]:
    """Run all checks and write a checklist for each kind of committee, and what each claim costs to check.

    Arguments:
        root: folder of the repository.
        catalogue: for the scale.
        folder: to write to.

    Returns:
        What was found, by check.

    Raises:
        ValueError: there is no comparison at this scale.
    """
    project = Project(root, catalogue)
    listed = claims(project)
    outcomes = {name: check(project, name) for name in CHECKS}
    environment = _environment(project, folder)
    for document in DOCUMENTS:
        text = environment.get_template("document.md.j2").render(_content(project, document, outcomes))
        write_text(folder / f"{document.name}.md", text)
    write_text(folder / _CLAIMS, environment.get_template(_CLAIMS + ".j2").render(claims=listed, scale=project.scale))
    return outcomes


def _content(project: Project, document: Document, outcomes: Mapping[str, Outcome]) -> dict[str, object]:
    asked = dict.fromkeys(name for question in document.questions for name in question.checks)
    return {
        "document": document,
        "scale": project.scale,
        "outcomes": outcomes,
        "purposes": {name: _purpose(CHECKS[name]) for name in asked},
        "passed": sum(outcomes[name].passed for name in asked),
        "asked": len(asked),
        "claims_file": _CLAIMS,
    }


def _purpose(function: Callable[[Project], Outcome]) -> str:
    """Return what a check says that it checks."""
    first = (function.__doc__ or "").partition("\n")[0].removesuffix(".")
    words = first.removeprefix("Check that ")
    return words[:1].upper() + words[1:]


def _environment(project: Project, folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "badges_templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["place"] = lambda link: project.relative(link, folder)
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|") or "–"
    environment.filters["seconds"] = duration
    environment.filters["megabytes"] = lambda size: "not here" if size is None else f"{size / 1e6:.2f} MB"
    environment.filters["command"] = _command(project)
    return environment


def _command(project: Project) -> Callable[[Claim], str]:
    return lambda claim: claim.command(project.scale)
