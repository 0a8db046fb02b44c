"""Typed settings: one strict dataclass configuration, and errors that name file, key and the nearest valid key."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import pydantic_core
import yaml

__all__ = ["STRICT", "CatalogueError", "nearest", "parse", "read_yaml"]

STRICT = pydantic.ConfigDict(extra="forbid")
"""Configuration of every settings dataclass: unknown keys are errors."""

T = TypeVar("T")

_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


class CatalogueError(ValueError):
    """A configuration file says something that cannot be meant; the text names file, key and remedy."""


def nearest(name: object, valid: Sequence[str]) -> str:
    """Return a hint such as `; did you mean 'epochs'?`, or the list of valid names when none is near."""
    close = difflib.get_close_matches(str(name), valid, n=1, cutoff=0.5)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; valid are: {', '.join(sorted(valid))}" if valid else ""


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe loader that refuses a key given twice instead of silently keeping the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                mark = node.value[position][0].start_mark
                raise CatalogueError(f"{mark.name}: line {mark.line + 1}: key '{key}' is given twice; keep one")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping safely.

    Raises:
        CatalogueError: the file is missing, is not YAML, repeats a key or does not hold a mapping.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            content = yaml.load(stream, Loader=_UniqueKeyLoader)
    except FileNotFoundError:
        raise CatalogueError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise CatalogueError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(content, dict):
        raise CatalogueError(f"{path}: expected a mapping at the top, found {type(content).__name__}")
    return content


def parse(kind: type[T], content: object, where: str) -> T:
    """Turn plain data into `kind`, a pydantic model or strict dataclass.

    Arguments:
        kind: the type to build.
        content: what a YAML file holds at that place.
        where: file and key that `content` came from, for the error.

    Raises:
        CatalogueError: with one line per problem: file, key, what was found, the nearest valid key.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_python(content)
    except pydantic.ValidationError as error:
        lines = [_explain(kind, problem, where) for problem in error.errors()]
        raise CatalogueError("\n".join(dict.fromkeys(lines))) from None


def _explain(kind: type, problem: Any, where: str) -> str:
    location = [part for part in problem["loc"] if not _is_branch(part)]
    key = ".".join(str(part) for part in location)
    if problem["type"] in _UNKNOWN_KEY:
        valid = sorted(set(_fields_at(kind, location[:-1])))
        return f"{where}: unknown key '{key}'{nearest(location[-1], valid)}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{where}: key '{key}' is missing"
    if problem["type"] == "literal_error":
        choices = problem["ctx"]["expected"].replace(" or ", ", ").split(", ")
        hint = nearest(problem["input"], [choice.strip("'") for choice in choices])
        return f"{where}: key '{key}': unknown value {problem['input']!r}{hint}"
    reason = problem["msg"].removeprefix("Value error, ")
    # A rule over several keys says itself what it found; the whole mapping would drown it.
    found = "" if isinstance(problem["input"], Mapping | pydantic_core.ArgsKwargs) else f" (found {problem['input']!r})"
    return f"{where}: key '{key}': {reason}{found}" if key else f"{where}: {reason}{found}"


def _is_branch(part: object) -> bool:
    """Pydantic adds the branch of a union to the location, e.g. `function-plain[f()]` or `Config`."""
    return isinstance(part, str) and ("[" in part or part[:1].isupper())


def _fields_at(kind: object, location: Sequence[Any]) -> Iterator[str]:
    """Yield the valid keys of the settings type found by walking `location` from `kind`."""
    for option in _options(kind):
        if typing.get_origin(option) in (dict, Mapping, list, tuple) or option in (dict, list):
            arguments = typing.get_args(option)
            if location and arguments:
                yield from _fields_at(arguments[-1] if arguments[-1] is not ... else arguments[0], location[1:])
            continue
        fields = _annotations(option)
        if not location:
            yield from fields
        elif location[0] in fields:
            yield from _fields_at(fields[location[0]], location[1:])
        elif any(location[0] in typing.get_args(field) for field in fields.values()):  # the tag of a tagged union
            yield from _fields_at(option, location[1:])


def _options(kind: object) -> Iterator[object]:
    """Yield the members of a union, without `Annotated` wrappers."""
    if typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        for member in typing.get_args(kind):
            yield from _options(member)
    else:
        yield kind


def _annotations(kind: object) -> dict[str, Any]:
    if isinstance(kind, type) and (issubclass(kind, pydantic.BaseModel) or dataclasses.is_dataclass(kind)):
        return typing.get_type_hints(kind, include_extras=True)
    return {}
