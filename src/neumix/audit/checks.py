"""Compares what a record says with what is on disk and in the configuration today."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from neumix import dag
from neumix.audit import digest
from neumix.audit.chain import Chain, JobRecord
from neumix.audit.findings import Finding
from neumix.audit.hashes import Hashes
from neumix.audit.history import History
from neumix.catalogue import Catalogue
from neumix.run import Run

__all__ = ["Checks", "differences"]

_UNTRACKED = ("weights", "arrays")  # folders below results/<scale> that DVC keeps and git does not


class Checks:
    """Checks of jobs, each done once.

    Arguments:
        chain: records of a scale.
        catalogue: configuration of today, for that scale.
        hashes: of files.
    """

    def __init__(self, chain: Chain, catalogue: Catalogue, hashes: Hashes) -> None:
        self.chain, self.catalogue, self.hashes = chain, catalogue, hashes
        self._lock = _locked(chain.root / "requirements.lock")
        self._history = History(chain.root)
        self._known: dict[str, tuple[Finding, ...]] = {}
        self._same: dict[tuple[str, str], bool] = {}

    def of(self, job: JobRecord) -> tuple[Finding, ...]:
        """Return what is not as a job's record says, causes that come first first."""
        if job.path not in self._known:
            self._known[job.path] = tuple(self._found(job))
        return self._known[job.path]

    def _found(self, job: JobRecord) -> Iterator[Finding]:
        yield from self._record(job)
        yield from self._data(job)
        yield from self._code(job)
        yield from self._parameters(job)
        yield from self._environment(job)
        yield from self._inputs(job)
        yield from self._outputs(job)

    def _record(self, job: JobRecord) -> Iterator[Finding]:
        if digest.check(self.chain.root / job.path) == "wrong":
            detail = "its text is not the one that its digest was made from; restore it, or run the job again"
            yield Finding("tampered", "record", job.name, job.path, detail)
        place = self._place(job)
        if job.path != place:
            yield Finding("tampered", "record", job.name, job.path, f"it belongs to {place}; run the job again")
        for file in job.outputs:
            if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
                detail = f"it names {file}, which no job may write; run the job again"
                yield Finding("tampered", "record", job.name, job.path, detail)

    def _place(self, job: JobRecord) -> str:
        """Return where the record of a job of this kind and id lies."""
        places = {
            "train": f"runs/{job.id}/run",
            "evaluate": f"runs/{job.id}/evaluation",
            "compare": f"comparison/{job.id}",
            "merge": "comparison",
            "render_table": f"tables/{job.id}",
            "render_figure": f"figures/{job.id}",
        }
        return f"results/{self.chain.scale}/{places[job.kind]}.json" if job.kind in places else job.path

    def _data(self, job: JobRecord) -> Iterator[Finding]:
        for manifest, expected in job.inputs("data").items():
            yield from self._compared(job, "data", manifest, expected)
            yield from self._raw_files(job, manifest)

    def _raw_files(self, job: JobRecord, manifest: str) -> Iterator[Finding]:
        """Compare raw files with their manifest, which the record holds the hash of."""
        path = self.chain.root / manifest
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        for line in lines:
            expected, _, name = line.partition("  ")
            file = f"{Path(manifest).parent.as_posix()}/{name}"
            found = self.hashes.of(file)
            if found is None:
                yield Finding("missing", "data", job.name, file, "not there; the pipeline fetches it")
            elif found != expected:
                yield Finding(
                    "tampered", "data", job.name, file, f"{_short(found)}, its manifest says {_short(expected)}"
                )

    def _code(self, job: JobRecord) -> Iterator[Finding]:
        for file, expected in job.inputs("code").items():
            found = self.hashes.of(file)
            if found is None:
                yield Finding("stale", "code", job.name, file, f"module {_module(file)} is gone since")
            elif found != expected and not self._same_program(job, file, expected):
                yield Finding("stale", "code", job.name, file, f"module {_module(file)} has changed since")

    def _same_program(self, job: JobRecord, file: str, expected: str) -> bool:
        """Return whether a file differs from the recorded one in comments and docstrings alone, as far as git knows."""
        if (file, expected) not in self._same:
            commit = (job.content.get("git") or {}).get("commit")
            old = self._history.content(file, expected, commit) if file.endswith(".py") else None
            new = (self.chain.root / file).read_bytes()
            self._same[file, expected] = old is not None and _program(old) == _program(new)
        return self._same[file, expected]

    def _parameters(self, job: JobRecord) -> Iterator[Finding]:
        today = self._today(job)
        if today is None:
            return
        for key, old, new in differences(job.parameters, today):
            yield Finding("stale", "parameter", job.name, job.path, f"{key}: {old!r} -> {new!r}")

    def _today(self, job: JobRecord) -> Mapping[str, Any] | None:
        """Return the parameters that the job would be given today; none if the catalogue does not decide them."""
        if job.kind in ("train", "evaluate"):
            paper, _, run_id = job.id.partition("/")
            run: Run | None = self.catalogue.papers[paper].runs.get(run_id) if paper in self.catalogue.papers else None
            if run is None:
                return {}
            return dag.training_settings(run) if job.kind == "train" else dag.settings_of(run)
        if job.kind == "compare":
            return {"values": dag.values(self.catalogue, job.id)}
        if job.kind in ("render_table", "render_figure"):
            return {"runs": dag.item_runs(self.catalogue, job.id), "note": self.catalogue.item_note(job.id)}
        return None

    def _environment(self, job: JobRecord) -> Iterator[Finding]:
        """Compare the packages that a record names with those that are locked today."""
        environment = job.content.get("environment") or {}
        for package, old in (environment.get("packages") or {}).items():
            new = self._lock.get(package)
            if new is not None and new != old.partition("+")[0]:
                detail = f"package {package}: {old} -> {new}"
                yield Finding("stale", "environment", job.name, "requirements.lock", detail)

    def _inputs(self, job: JobRecord) -> Iterator[Finding]:
        known = {*job.inputs("data"), *job.inputs("code")}
        for file, expected in job.inputs().items():
            if file in self.chain.broken:
                yield Finding("tampered", "record", job.name, file, self.chain.broken[file])
            elif file not in known:
                yield from self._compared(job, _cause(file), file, expected)

    def _compared(self, job: JobRecord, cause: Any, file: str, expected: str) -> Iterator[Finding]:
        found = self.hashes.of(file)
        if found == expected:
            return
        if found is None:
            yield Finding("missing", cause, job.name, file, self._remedy(file))
            return
        above = self.chain.source_of(file)
        made_again = above is not None and str(above.content.get("started")) > str(job.content.get("started"))
        state: Any = "stale" if cause in {"configuration", "data"} or made_again else "tampered"
        said = "has changed since" if state == "stale" else "is not what the job read"
        yield Finding(state, cause, job.name, file, f"{said}: {_short(found)}, recorded {_short(expected)}")

    def _outputs(self, job: JobRecord) -> Iterator[Finding]:
        for file, expected in job.outputs.items():
            found = self.hashes.of(file)
            if found is None:
                yield Finding("missing", "content", job.name, file, self._remedy(file))
            elif found != expected:
                detail = f"{_short(found)}, its record says {_short(expected)}; restore it, or run the job again"
                yield Finding("tampered", "content", job.name, file, detail)

    def _remedy(self, file: str) -> str:
        kept = any(file.startswith(f"results/{self.chain.scale}/{folder}/") for folder in _UNTRACKED)
        if kept:
            pull = f"`dvc pull results/{self.chain.scale}/weights.dvc` brings it"
            return f"not there; {pull}, or the pipeline makes it again"
        return "not there; the pipeline makes it again"


def differences(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield every place where two nested values differ, as `a.b.c`, old and new; what is absent is None.

    A setting that came later and is none or empty is no difference: that is what it was before.
    """
    if old is None and new in (None, [], {}):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in dict.fromkeys([*old, *new]):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else str(name))
    elif (list(old) if isinstance(old, tuple) else old) != (list(new) if isinstance(new, tuple) else new):
        yield key, old, new


def _cause(file: str) -> str:
    return "configuration" if file.startswith("config/") else "upstream"


def _module(file: str) -> str:
    return file.removeprefix("src/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def _short(digest_: str) -> str:
    return f"sha256 {digest_[:12]}"


def _program(source: bytes) -> str:
    """Return a module's syntax tree as text, without docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = body[1:]
    return ast.dump(tree)


def _locked(path: Path) -> dict[str, str]:
    """Return the versions that a lock file pins."""
    if not path.exists():
        return {}
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {name.lower(): version.partition("+")[0] for name, version in pins}
