"""The workflow of a crate: its tools and steps, its one run, and the engine that organized it."""

import graphlib
from collections.abc import Sequence

import neumix
from neumix.audit.crate_actions import Actions, outcome, step_id, tool_id
from neumix.audit.crate_executions import Execution
from neumix.audit.crate_files import CrateFiles
from neumix.audit.crate_graph import Graph, Reference, fragment

__all__ = ["add_workflow"]

_WORKFLOW = "workflow"
_SNAKEFILE = "Snakefile"
_PROFILE = "https://bioschemas.org/profiles/ComputationalWorkflow/1.0-RELEASE"
_INSTRUCTIONS = {
    "environment.yml": "https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html",
    "requirements.lock": "https://pip.pypa.io/en/stable/reference/requirements-file-format/",
}
"""Files that the environment is built from, and what defines their formats."""


def add_workflow(
    graph: Graph, files: CrateFiles, actions: Actions, executions: Sequence[Execution], scale: str
) -> Reference:
    """Describe the workflow and its run, and return the reference to the file that defines it.

    Arguments:
        graph: metadata of the crate.
        files: of the crate.
        actions: of all executions.
        executions: jobs and their attempts, by the time they were started.
        scale: of the results.
    """
    workflow = files.today(_SNAKEFILE)
    _add_run(graph, actions, executions, scale, workflow)
    kinds = _ordered(actions)
    files.describe(
        workflow,
        **{"@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"]},
        description=neumix.__doc__,
        version=neumix.__version__,
        url={"@id": "README.md"},
        conformsTo={"@id": _PROFILE},
        programmingLanguage=graph.add_snakemake([*actions.engines][-1]),
        buildInstructions=[_instructions(graph, files, path, page) for path, page in _INSTRUCTIONS.items()],
        hasPart=[_tool(graph, files, actions, kind) for kind in kinds],
        step=[_step(graph, actions, kind, position) for position, kind in enumerate(kinds)],
        input=actions.parameters.of(_WORKFLOW, "input", "setting"),
        output=actions.parameters.of(_WORKFLOW, "output"),
    )
    return workflow


def _add_run(graph: Graph, actions: Actions, executions: Sequence[Execution], scale: str, workflow: Reference) -> None:
    """Add the run of the workflow: from what no job made to what no job read."""
    read = [file for path, file in sorted(actions.read.items()) if path not in actions.made]
    made = [file for path, file in sorted(actions.made.items()) if path not in actions.read]
    actions.parameters.note_files(_WORKFLOW, "input", "inputs", read)
    actions.parameters.note_files(_WORKFLOW, "output", "results", made)
    attempts = [attempt for execution in executions for attempt in execution.attempts]
    errors = [f"{execution.kind} {execution.id}: {execution.error}" for execution in executions if execution.error]
    ended = outcome(
        min(attempt.started for attempt in attempts),
        max(attempt.ended for attempt in attempts),
        "\n".join(errors) or None,
    )
    run = graph.add(
        fragment(_WORKFLOW, scale),
        "CreateAction",
        name=f"Run of the workflow at scale {scale}",
        description=f"{len(executions)} jobs; each is an action of its own.",
        instrument=workflow,
        agent=actions.agent,
        object=[*actions.parameters.note_values(_WORKFLOW, {"scale": scale}), *read],
        result=made,
        **ended,
    )
    graph.mention(run)
    graph.add(
        fragment("engine", scale),
        "OrganizeAction",
        name="Run of Snakemake",
        agent=actions.agent,
        instrument=[*actions.engines.values()],
        object=actions.controls,
        result=run,
        **ended,
    )


def _ordered(actions: Actions) -> list[str]:
    """Return the rules, each after those whose files it reads."""
    before = {kind: actions.parameters.before(kind) & actions.software.keys() for kind in sorted(actions.software)}
    return [*graphlib.TopologicalSorter(before).static_order()]


def _tool(graph: Graph, files: CrateFiles, actions: Actions, kind: str) -> Reference:
    software, script = actions.software[kind], f"workflow/scripts/{kind}.py"
    return graph.add(
        tool_id(kind),
        "SoftwareApplication",
        name=f"neumix {kind}",
        description=f"What rule {kind} of the workflow executes.",
        softwareVersion=neumix.__version__,
        url=files.today(script if (files.root / script).exists() else _SNAKEFILE),
        softwareRequirements=[software[id_] for id_ in sorted(software)],
        input=actions.parameters.of(kind, "input", "setting"),
        output=actions.parameters.of(kind, "output"),
    )


def _step(graph: Graph, actions: Actions, kind: str, position: int) -> Reference:
    connections = actions.parameters.connections(kind)
    of = {"@id": tool_id(kind)}
    return graph.add(
        step_id(kind), "HowToStep", name=kind, position=str(position), workExample=of, connection=connections
    )


def _instructions(graph: Graph, files: CrateFiles, path: str, page: str) -> Reference:
    file = files.today(path)
    files.describe(file, conformsTo=graph.add(page, "WebPage", name=f"Format of {path}"))
    return file
