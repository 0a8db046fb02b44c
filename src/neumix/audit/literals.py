"""Numbers that stand in code and in templates where only computed ones should."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from neumix.audit.numerals import Known, Numeral, numerals

__all__ = ["in_code", "in_template", "in_text"]

Found = tuple[int, str, str]
"""Line, number and what is wrong with it."""

_LAYOUT = {
    *("alpha", "arrowprops", "arrowstyle", "aspect", "bbox", "bbox_to_anchor", "bottom", "boxstyle", "capsize"),
    *("connectionstyle", "dpi", "figsize", "fontsize", "gridspec_kw", "h_pad", "height", "height_ratios", "hspace"),
    *("left", "length", "linespacing", "linewidth", "linewidths", "lw", "markersize", "mutation_scale", "ncols"),
    *("nrows", "pad", "radius", "right", "rotation", "s", "shrink", "shrinkA", "shrinkB", "size", "sizes", "style"),
    *("subplot_kw", "top", "vmax", "vmin", "w_pad", "width", "width_ratios", "wspace", "xlim", "xytext", "ylim"),
    "zorder",
}
"""Arguments and variables that say where and how something is drawn, never what."""
_PLACING = {
    *("add_axes", "annotate", "arange", "geomspace", "linspace", "logspace", "margins", "set_position", "subplots"),
    *("subplots_adjust", "text"),
}
"""Calls whose numbers are places or grids."""
_LAYOUT_MODULE = "diagrams.py"
"""Modules of this name draw boxes and arrows: their numbers are coordinates, their texts are not."""

_WRITE = "compute it, or read it from where it was measured"
_NAME = "give it a name in capitals at the top of the module if it is a choice and no result"
_TAG = re.compile(r"<[^<>]*>")
_SPOKEN = re.compile(r"""\b(?:alt|title|aria-label|content)=("[^"]*"|'[^']*')""")
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


def in_text(text: str, known: Known, paper: str | None) -> Iterator[tuple[str, str]]:
    """Yield the numbers of a text for readers that were typed, and why each looks so.

    Arguments:
        text: without numbers that are put in later.
        known: numbers that are printed or measured somewhere.
        paper: slug of the paper that it belongs to; none for all.
    """
    for number in numerals(text):
        equal = known.published(number, paper) or known.measured(number, paper)
        if equal:
            yield number.text, f"it is {equal}; {_WRITE}"
        elif number.resembles_result:
            yield number.text, f"it looks like a result; {_WRITE}"


def in_template(source: str, known: Known) -> Iterator[Found]:
    """Yield the typed numbers of a template for HTML: in its text, in attributes that are read out, in expressions."""
    expressions = _EXPRESSION.findall(source)
    for line, text in enumerate(_EXPRESSION.sub(_as_lines, source).splitlines(), 1):
        spoken = " ; ".join(_SPOKEN.findall(text))
        for number, why in in_text(f"{_TAG.sub(' ', text)} ; {spoken}", known, None):
            yield line, number, why
    for expression in expressions:
        line = source[: source.index(expression)].count("\n") + 1
        for number, why in in_text(expression, known, None):
            yield line, number, why


def _as_lines(match: re.Match[str]) -> str:
    return " " + "\n" * match[0].count("\n")


def in_code(path: Path, known: Known, paper: str | None) -> Iterator[Found]:
    """Yield the numbers of a module that may be typed results: in strings, and as literals that are no layout.

    A number is a typed result if it equals one that the paper printed or that was measured, in so many digits that this
    is hardly chance. One that equals none is suspicious if it has two decimals or more, unless it is named by a
    constant of the module, takes part in arithmetic or in a comparison, or says where and how something is drawn.

    Arguments:
        path: of the module.
        known: numbers that are printed or measured somewhere.
        paper: slug of the paper that it belongs to; none for all.
    """
    source = path.read_text(encoding="utf-8")
    tree, lines = ast.parse(source, str(path)), source.encode().splitlines()
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or _is_documentation(node, parents):
            continue
        if isinstance(node.value, str):
            if not _is_layout(node, parents) and not isinstance(parents.get(parents[node]), ast.FormattedValue):
                yield from ((node.lineno, number, why) for number, why in in_text(node.value, known, paper))
        elif isinstance(node.value, int | float) and not isinstance(node.value, bool):
            literal = _literal(lines, node)
            why = _suspicion(literal, node, parents, known, paper)
            if why and path.name != _LAYOUT_MODULE and not _is_layout(node, parents):
                yield node.lineno, literal.text, why


def _literal(lines: Sequence[bytes], node: ast.Constant) -> Numeral:
    """Return a literal with the digits that it is written with."""
    written = lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()
    return Numeral.of(written if re.fullmatch(r"[\d._]+(?:[eE][-+]?\d+)?", written) else str(node.value))


def _suspicion(
    number: Numeral, node: ast.Constant, parents: Mapping[ast.AST, ast.AST], known: Known, paper: str | None
) -> str | None:
    equal = known.published(number, paper) or known.measured(number, paper)
    if equal:
        return f"it is {equal}; {_WRITE}"
    if number.resembles_result and not _is_named(node, parents) and not _is_operand(node, parents):
        return f"it looks like a result; {_WRITE}, or {_NAME}"
    return None


def _above(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    """Yield what a node is part of, up to its statement."""
    while node in parents and not isinstance(node, ast.stmt):
        node = parents[node]
        yield node


def _is_documentation(node: ast.Constant, parents: Mapping[ast.AST, ast.AST]) -> bool:
    return isinstance(parents.get(node), ast.Expr)


def _is_operand(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    return any(isinstance(above, ast.BinOp | ast.Compare | ast.AugAssign) for above in _above(node, parents))


def _is_named(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    """Return whether a node is part of the value of a constant of the module."""
    statement = list(_above(node, parents))[-1]
    targets = _targets(statement)
    return bool(targets) and all(name.isupper() for name in targets) and isinstance(parents[statement], ast.Module)


def _is_layout(node: ast.AST, parents: Mapping[ast.AST, ast.AST]) -> bool:
    for below, above in zip([node, *_above(node, parents)], _above(node, parents), strict=False):
        if isinstance(above, ast.keyword) and above.arg in _LAYOUT:
            return True
        if isinstance(above, ast.Call) and _name(above.func) in _PLACING and below in above.args:
            return not isinstance(node, ast.Constant) or not isinstance(node.value, str)
        if isinstance(above, ast.stmt) and any(name in _LAYOUT for name in _targets(above)):
            return True
    return False


def _targets(statement: ast.AST) -> list[str]:
    """Return the names that a statement gives a value to."""
    if isinstance(statement, ast.AnnAssign):
        return [_name(statement.target)]
    return [_name(target) for target in statement.targets] if isinstance(statement, ast.Assign) else []


def _name(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
