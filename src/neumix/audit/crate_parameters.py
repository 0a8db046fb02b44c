"""The formal parameters of a workflow's rules, and the values and files that stand for them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from neumix.audit.crate_files import CrateFiles
from neumix.audit.crate_graph import Graph, Reference, fragment, label

__all__ = ["Parameters"]

_Side = Literal["input", "output", "setting"]
_Key = tuple[str, _Side, str]  # rule, side, name

_PROFILE = "https://bioschemas.org/profiles/FormalParameter/1.0-RELEASE"


class Parameters:
    """Formal parameters of rules, collected from what jobs read, were told and made.

    Arguments:
        graph: metadata of the crate.
        files: of the crate.
    """

    def __init__(self, graph: Graph, files: CrateFiles) -> None:
        self._graph, self._files = graph, files
        self._types: dict[_Key, set[str]] = {}
        self._connections: set[tuple[_Key, _Key]] = set()

    def note_files(self, kind: str, side: _Side, name: str, files: Sequence[Reference]) -> None:
        """Note that a rule read or made files; those that are not in the crate stand for nothing."""
        if self._files.exemplify(files, _id(kind, side, name)):
            self._types.setdefault((kind, side, name), set()).add("File")

    def note_values(self, kind: str, values: Mapping[str, object]) -> list[Reference]:
        """Note what a rule was told, and return the values, each of which all jobs with that value share."""
        return [self._value(kind, name, value) for name, value in _leaves(values)]

    def _value(self, kind: str, name: str, value: object) -> Reference:
        text = value if isinstance(value, str) else json.dumps(value)
        self._types.setdefault((kind, "setting", name), set()).add(_type(value))
        id_ = fragment("value", kind, name, label(text))
        of = {"@id": _id(kind, "setting", name)}
        return self._graph.add(id_, "PropertyValue", name=name, value=text, exampleOfWork=of)

    def connect(self, source: str, target: str, role: str) -> None:
        """Note that a rule reads what another one makes."""
        self._connections.add(((source, "output", "outputs"), (target, "input", role)))

    def of(self, kind: str, *sides: _Side) -> list[Reference]:
        """Add and return the formal parameters of a rule."""
        found = ((key, types) for key, types in sorted(self._types.items()) if key[0] == kind and key[1] in sides)
        return [self._formal(key, types) for key, types in found]

    def _formal(self, key: _Key, types: set[str]) -> Reference:
        type_ = next(iter(types)) if len(types) == 1 else "Number" if types == {"Integer", "Float"} else "Text"
        of = {"@id": _PROFILE}
        return self._graph.add(_id(*key), "FormalParameter", name=key[2], additionalType=type_, conformsTo=of)

    def connections(self, kind: str) -> list[Reference]:
        """Add and return the connections that end at a rule."""
        ends = [(one, other) for one, other in sorted(self._connections) if other[0] == kind]
        return [self._connection(one, other) for one, other in ends if one in self._types and other in self._types]

    def _connection(self, source: _Key, target: _Key) -> Reference:
        ends = {"sourceParameter": {"@id": _id(*source)}, "targetParameter": {"@id": _id(*target)}}
        return self._graph.add(fragment("connection", source[0], target[0], target[2]), "ParameterConnection", **ends)

    def before(self, kind: str) -> set[str]:
        """Return the rules whose files a rule reads."""
        return {source[0] for source, target in self._connections if target[0] == kind and source[0] != kind}


def _id(kind: str, side: _Side, name: str) -> str:
    return fragment("parameter", kind, side, name)


def _leaves(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield nested settings as `a.b.c`; a table that is keyed by identifiers stays whole, and none is left out."""
    for key, value in values.items():
        if isinstance(value, Mapping) and not any("." in name or "/" in name for name in value):
            yield from _leaves(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def _type(value: object) -> str:
    """Return what schema.org calls the type of a value."""
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, int):
        return "Integer"
    if isinstance(value, float):
        return "Float"
    return "Text"
