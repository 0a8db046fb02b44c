"""The actions of a crate: every attempt at a job, and the steps that these attempts belong to."""

from collections.abc import Iterator
from typing import Any

from neumix.audit.chain import Chain, JobRecord
from neumix.audit.crate_context import circumstances, packages, resources
from neumix.audit.crate_executions import Execution
from neumix.audit.crate_files import CrateFiles
from neumix.audit.crate_graph import Graph, Reference, fragment
from neumix.audit.crate_parameters import Parameters

__all__ = ["Actions", "outcome", "step_id", "tool_id"]

_LOCK = "requirements.lock"


class Actions:
    """Actions of a crate, and what they tell of the workflow as a whole.

    References:
        Provenance Run Crate 0.5: a tool run is a `CreateAction`, or an `ActivateAction` where it made nothing; the step
        that it belongs to is executed by a `ControlAction`.

    Arguments:
        chain: records of the scale.
        graph: metadata of the crate.
        files: of the crate.
        agent: who ran the workflow.
    """

    def __init__(self, chain: Chain, graph: Graph, files: CrateFiles, agent: Reference) -> None:
        self._chain, self._graph, self._files, self.agent = chain, graph, files, agent
        self.parameters = Parameters(graph, files)
        self.software: dict[str, dict[str, Reference]] = {}
        self.engines: dict[str, Reference] = {}
        self.controls: list[Reference] = []
        self.read: dict[str, Reference] = {}
        self.made: dict[str, Reference] = {}

    def add(self, execution: Execution) -> None:
        """Add the attempts at a job and the step that controls them."""
        self.software.setdefault(execution.kind, {})
        self.controls.append(
            self._graph.add(
                fragment("control", execution.kind, execution.id),
                "ControlAction",
                name=f"step {execution.kind} for {execution.id}",
                instrument={"@id": step_id(execution.kind)},
                object=list(self._attempts(execution)),
                **outcome(execution.attempts[0].started, execution.attempts[-1].ended, execution.error),
            )
        )

    def _attempts(self, execution: Execution) -> Iterator[Reference]:
        kind, id_, count = execution.kind, execution.id, len(execution.attempts)
        for number, attempt in enumerate(execution.attempts, start=1):
            done = execution.job is not None and attempt.state == "finished"
            details = self._details(execution.job) if execution.job is not None and done else {}
            action = self._graph.add(
                fragment(kind, id_, str(number)),
                "CreateAction" if done else "ActivateAction",
                name=f"{kind} {id_}",
                description=f"Attempt {number} of {count} at {id_}, by rule {kind} of the workflow.",
                instrument={"@id": tool_id(kind)},
                agent=self.agent,
                **outcome(attempt.started, attempt.ended, attempt.error),
                **details,
            )
            yield self._graph.mention(action)

    def _details(self, job: JobRecord) -> dict[str, Any]:
        """Return what the record of a job tells of the attempt that finished."""
        record = job.content
        used = packages(self._graph, record)
        self.software[job.kind].update({package["@id"]: package for package in used.values()})
        self.engines[record["environment"]["packages"]["snakemake"]] = used["snakemake"]
        told = {**job.parameters, "job": {"seeds": record["seeds"], "threads": record["threads"]}}
        values = self.parameters.note_values(job.kind, told)
        return {
            "object": [*self._inputs(job), *values],
            "result": self._outputs(job),
            "resourceUsage": resources(self._graph, record),
            "additionalProperty": circumstances(self._graph, record),
        }

    def _inputs(self, job: JobRecord) -> list[Reference]:
        """Add the files that a job read, each in the version that it read, and the locked environment."""
        found: dict[str, Reference] = {}
        lock = job.content["environment"]["lock_sha256"]
        roles = {**job.content["inputs"], "environment": {_LOCK: lock} if lock else {}}
        for role, files in roles.items():
            references = {path: self._version(job, path, digest) for path, digest in files.items()}
            self.parameters.note_files(job.kind, "input", role, [*references.values()])
            found.update({file["@id"]: file for file in references.values()})
            for path, file in references.items():
                above = self._chain.source_of(path)
                if above is not None:
                    self.parameters.connect(above.kind, job.kind, role)
                if role not in ("code", "environment"):
                    self.read[path] = file
        return [*found.values()]

    def _outputs(self, job: JobRecord) -> list[Reference]:
        """Add the files that a job made, its record among them."""
        made = {path: self._version(job, path, digest) for path, digest in job.outputs.items()}
        made[job.path] = self._files.today(job.path)
        self.made.update(made)
        self.parameters.note_files(job.kind, "output", "outputs", [*made.values()])
        return [*made.values()]

    def _version(self, job: JobRecord, path: str, digest: str) -> Reference:
        return self._files.recorded(path, digest, job.content["git"]["commit"])


def outcome(started: str, ended: str, error: str | None) -> dict[str, str | None]:
    """Return the properties of an action that say when it was and how it ended."""
    status = "http://schema.org/CompletedActionStatus" if error is None else "http://schema.org/FailedActionStatus"
    return {"startTime": started, "endTime": ended, "actionStatus": status, "error": error}


def tool_id(kind: str) -> str:
    """Return the identifier of the tool behind a rule."""
    return fragment("tool", kind)


def step_id(kind: str) -> str:
    """Return the identifier of a rule as a step of the workflow."""
    return fragment("step", kind)
