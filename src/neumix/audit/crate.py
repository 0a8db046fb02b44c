"""Writes a Workflow Run RO-Crate: the records of a scale, all that they tell of, and a verifier that needs nothing."""

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from neumix.audit import verify
from neumix.audit.chain import Chain
from neumix.audit.crate_actions import Actions
from neumix.audit.crate_executions import Execution, executions
from neumix.audit.crate_files import CrateFiles
from neumix.audit.crate_graph import Graph, Reference
from neumix.audit.crate_workflow import add_workflow

__all__ = ["export_crate"]

_README = "README.md"
_LICENCES = {"LICENSE": "Licence of code and results", "LICENSE-DATA.md": "Licences of data and published numbers"}
_FILES = ("Snakefile", "environment.yml", "pyproject.toml", "requirements.lock", _README, *_LICENCES)
_FOLDERS = ("config", "src/neumix", "workflow")
"""What every crate needs from the repository."""


def export_crate(
    root: Path, scale: str, target: Path, runs: Collection[str] | None = None, *, link: bool = False
) -> Path:
    """Write the crate of a scale's results, and return its folder.

    The same records and files give the same crate. It holds what the records tell of, in the versions that they tell
    of, as far as these are on disk or known to git; what is neither is listed with its hash.

    References:
        Provenance Run Crate 0.5 (https://w3id.org/ro/wfrun/provenance/0.5) on RO-Crate 1.1.

    Arguments:
        root: folder of the repository.
        scale: of the results.
        target: folder of the crate; a crate that is there already is replaced.
        runs: `paper/experiment/run` of the runs to export, with all that they need; all jobs if none.
        link: hard-link files rather than copy them; then nobody may change them in place.

    Raises:
        FileNotFoundError: a file that every crate needs is not there.
        ValueError: a record cannot be read, or is of a newer format, or there is none; there is no such run; a file is
            a symbolic link or outside the repository; or `target` is something else than a crate.
    """
    chain = Chain(root, scale)
    done = executions(chain, runs)
    with _whole(target) as folder:
        graph, files = Graph(), CrateFiles(root, folder, link=link)
        _add_project(root, files)
        agent = _add_agent(graph)
        actions = Actions(chain, graph, files, agent)
        for execution in done:
            actions.add(execution)
        workflow = add_workflow(graph, files, actions, done, scale)
        verifier = files.add("verify.py", Path(verify.__file__).read_bytes())
        files.describe(verifier, description=verify.__doc__)
        files.write(graph)
        graph.finish(folder, mainEntity=workflow, **_description(scale, done, agent))
    return target


@contextlib.contextmanager
def _whole(target: Path) -> Iterator[Path]:
    """Yield a temporary sibling of a folder that takes its place if the block succeeds, and is removed if not."""
    if target.exists() and not (target / verify.METADATA).is_file():
        raise ValueError(f"{target}: there already, and not a crate; expected a new folder, or a crate to replace")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
        folder = Path(temporary) / "new"
        folder.mkdir()
        yield folder
        if target.exists():
            target.rename(Path(temporary) / "old")
        folder.rename(target)


def _add_project(root: Path, files: CrateFiles) -> None:
    """Put what defines the workflow into the crate: rules, configuration, code, environment, licences."""
    for path in _FILES:
        files.today(path)
    for folder in _FOLDERS:
        for file in sorted((root / folder).rglob("*")):
            place = file.relative_to(root)
            hidden = any(part.startswith((".", "__pycache__")) for part in place.parts)
            if not hidden and (file.is_symlink() or file.is_file()):
                files.today(place.as_posix())
    files.describe({"@id": _README}, about={"@id": "./"})
    for path, name in _LICENCES.items():
        files.describe({"@id": path}, **{"@type": ["File", "CreativeWork"]}, name=name)


def _add_agent(graph: Graph) -> Reference:
    return graph.add("#authors", "Organization", name="The neumix authors", url={"@id": _README})


def _description(scale: str, done: Sequence[Execution], agent: Reference) -> dict[str, object]:
    """Return what the crate says of itself; its date is that of the last job, so that it depends on records alone."""
    attempts = [attempt for execution in done for attempt in execution.attempts]
    unfinished = sum(attempt.error is not None for attempt in attempts)
    return {
        "name": f"neumix: results at scale {scale}",
        "description": (
            f"Results at scale {scale} with the provenance of each file: {len(done)} jobs in {len(attempts)} attempts, "
            f"of which {unfinished} did not finish. `python verify.py` checks every file against its hash and size."
        ),
        "datePublished": max(attempt.ended for attempt in attempts),
        "license": [{"@id": path} for path in _LICENCES],
        "author": agent,
        "publisher": agent,
    }
