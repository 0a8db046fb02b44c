"""Tables and figures in one style: CSV, Markdown, LaTeX and HTML; SVG and PNG."""

import contextlib
import html
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from neumix.files import atomic_path, write_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ESTIMATED", "NEUTRAL", "SERIES", "TRUE", "save_figure", "save_table", "style"]

ESTIMATED = "#c0392b"
"""Colour of what a network learned."""
TRUE = "#1e8449"
"""Colour of the exact answer."""
NEUTRAL = "#5d6d7e"
"""Colour of bounds and references."""
SERIES = ("#1f618d", "#d68910", "#7d3c98", "#117a65", "#a04000", "#566573")
"""Colours of series that are neither learned nor exact."""

_STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "image.cmap": "viridis",
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "neumix",
    "svg.fonttype": "path",
}


_TEX = str.maketrans({char: f"\\{char}" for char in "&%$#_{}"})


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw in the project's style; figures opened inside are closed on leaving."""
    with mpl.rc_context(_STYLE):
        try:
            yield
        finally:
            plt.close("all")


def save_table(frame: "pd.DataFrame", note: str, outputs: Mapping[str, Path]) -> None:
    """Write a table in every format, with the note below it (in CSV as a last column).

    Arguments:
        frame: cells as they should be read; the index is not written.
        note: see `neumix.run.budget_note`.
        outputs: paths by format: csv, md, tex, html.
    """
    noted = frame.assign(budget=note) if note else frame
    write_text(outputs["csv"], noted.to_csv(index=False, lineterminator="\n"))
    below = f"\n*{note}*\n" if note else ""
    piped = frame.rename(columns=_escape_pipes).map(_escape_pipes)
    write_text(outputs["md"], str(piped.to_markdown(index=False, disable_numparse=True)) + "\n" + below)
    tex = frame.to_latex(index=False, escape=True)
    write_text(outputs["tex"], tex + (f"\\par\\emph{{{note.translate(_TEX)}}}\n" if note else ""))
    table = frame.to_html(index=False, border=0, escape=True, classes="table")
    write_text(outputs["html"], table + (f'\n<p class="note">{html.escape(note)}</p>\n' if note else "\n"))


def _escape_pipes(cell: object) -> str:
    return str(cell).replace("|", "\\|")


def save_figure(figure: Figure, note: str, outputs: Mapping[str, Path]) -> None:
    """Write a figure in every format, with the note below it.

    Arguments:
        figure: drawn within `style`.
        note: see `neumix.run.budget_note`.
        outputs: paths by format: svg, png.
    """
    if note:
        figure.supxlabel(note, fontsize=7, color=NEUTRAL, style="italic")
    metadata: dict[str, dict[str, Any]] = {"svg": {"Date": None, "Creator": "neumix"}, "png": {"Software": "neumix"}}
    for kind, path in outputs.items():
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format=kind, metadata=metadata[kind])
