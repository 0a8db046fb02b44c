"""What every figure and table must satisfy: texts that do not overlap and stay inside, words in every cell."""

import itertools
import re

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox


def assert_texts_apart(drawn: Figure) -> None:
    """Every text of a drawn figure lies inside it, and no two overlap."""
    boxes = text_boxes(drawn)
    assert len(boxes) > 3
    for name, box in boxes:
        assert drawn.bbox.x0 - 1 <= box.x0 <= box.x1 <= drawn.bbox.x1 + 1, f"{name!r} leaves the figure"
        assert drawn.bbox.y0 - 1 <= box.y0 <= box.y1 <= drawn.bbox.y1 + 1, f"{name!r} leaves the figure"
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(width, height) <= 1.5, f"{one!r} and {other!r} overlap by {width:.1f} x {height:.1f} pixels"


def assert_texts_in_cells(frame: pd.DataFrame) -> None:
    """A table has rows, columns of different names, and text in every cell, which is neither NaN nor minus zero."""
    assert len(frame) and frame.columns.is_unique
    for cell in [*frame.columns, *frame.to_numpy().ravel()]:
        assert isinstance(cell, str) and cell.strip(), f"{cell!r} is no text"
        assert not any(re.fullmatch(r"nan|-0(\.0*)?", word) for word in cell.split()), f"{cell!r} is no number"


def is_colourbar(axes: Axes) -> bool:
    return hasattr(axes, "_colorbar")


def text_boxes(drawn: Figure) -> list[tuple[str, Bbox]]:
    """Return the extents of all texts that can be seen, a legend as one."""
    texts = [drawn._supxlabel]
    boxes = [("legend", legend.get_window_extent()) for legend in drawn.legends]
    for axes in drawn.axes:
        texts += axes.texts
        legend = axes.get_legend()
        boxes += [("legend", legend.get_window_extent())] if legend else []
        if not axes.axison:
            continue
        texts += [axes.title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            inside = [tick for tick in ticks if low - 1e-9 <= tick.get_loc() <= high + 1e-9]
            texts += [label for tick in inside for label in (tick.label1, tick.label2)]
    shown = [text for text in texts if text.get_visible() and text.get_text().strip()]
    return boxes + [(text.get_text(), text.get_window_extent()) for text in shown]
