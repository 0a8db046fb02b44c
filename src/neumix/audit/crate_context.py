"""What a crate says of the circumstances of a job: software, machine, commit, resources."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from neumix.audit.crate_graph import Graph, Reference, fragment, label

__all__ = ["circumstances", "packages", "resources"]

_HOMES = {
    "matplotlib": "https://matplotlib.org/",
    "numpy": "https://numpy.org/",
    "pandas": "https://pandas.pydata.org/",
    "python": "https://www.python.org/",
    "safetensors": "https://github.com/huggingface/safetensors",
    "scikit-learn": "https://scikit-learn.org/",
    "scipy": "https://scipy.org/",
    "snakemake": "https://snakemake.github.io/",
    "torch": "https://pytorch.org/",
}
_UNITS = {
    "wall_seconds": ("https://en.wikipedia.org/wiki/Elapsed_real_time", "https://qudt.org/vocab/unit/SEC"),
    "peak_memory_mb": ("https://en.wikipedia.org/wiki/Resident_set_size", "https://qudt.org/vocab/unit/MebiBYTE"),
}
"""What is measured, and in which unit."""


def packages(graph: Graph, record: Mapping[str, Any]) -> dict[str, Reference]:
    """Return Python and the packages that a job ran with, by name."""
    environment = record["environment"]
    versions = {"python": environment["python"], **environment["packages"]}
    return {name: _package(graph, name, version) for name, version in versions.items()}


def _package(graph: Graph, name: str, version: str) -> Reference:
    home = _HOMES.get(name)
    id_ = f"{home}#{version}" if home else fragment("package", name, version)
    return graph.add(
        id_, "SoftwareApplication", name=name, softwareVersion=version, url={"@id": home} if home else None
    )


def circumstances(graph: Graph, record: Mapping[str, Any]) -> list[Reference]:
    """Return the properties of a job that are neither its input nor its output: machine, environment, commit."""
    return [*_machine(graph, record["machine"]), *_environment(graph, record["environment"]), *_commit(graph, record)]


def _machine(graph: Graph, machine: Mapping[str, Any]) -> Iterator[Reference]:
    known = {name: value for name, value in machine.items() if value is not None}
    yield _property(graph, "machine", ", ".join(f"{name} {value}" for name, value in known.items()), known)


def _environment(graph: Graph, environment: Mapping[str, Any]) -> Iterator[Reference]:
    lock = environment["lock_sha256"]
    known = {"python": environment["python"], **environment["packages"], "requirements.lock sha256": lock}
    said = f"Python {environment['python']}, requirements.lock with SHA-256 {lock}"
    yield _property(graph, "software environment", said, {name: value for name, value in known.items() if value})


def _commit(graph: Graph, record: Mapping[str, Any]) -> Iterator[Reference]:
    git = record["git"]
    if git["commit"]:
        said = f"{git['commit']}{' with changes that were not committed' if git['dirty'] else ''}"
        yield _property(graph, "git commit", said, {})


def _property(graph: Graph, name: str, said: str, parts: Mapping[str, object]) -> Reference:
    """Add a property, with its parts as properties of their own."""
    id_ = fragment(name, label(json.dumps([said, parts])))
    details = [
        graph.add(f"{id_}{fragment('', part).removeprefix('#')}", "PropertyValue", name=part, value=value)
        for part, value in parts.items()
    ]
    return graph.add(id_, "PropertyValue", name=name, value=said, valueReference=details)


def resources(graph: Graph, record: Mapping[str, Any]) -> list[Reference]:
    """Return what a job used."""
    used = []
    for name, (quantity, unit) in _UNITS.items():
        id_ = fragment("usage", record["kind"], record["id"], name)
        value = record[name]
        used.append(
            graph.add(id_, "PropertyValue", name=name, propertyID=quantity, unitCode={"@id": unit}, value=str(value))
        )
    return used
