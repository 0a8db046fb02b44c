"""What tables and figures show for a run that the scale does not have."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NOT_RUN", "say_not_run"]

NOT_RUN = "not run"
"""What stands in a cell."""


def say_not_run(panel: "Axes") -> None:
    """Write it into an empty panel."""
    panel.text(0.5, 0.5, NOT_RUN, transform=panel.transAxes, ha="center", va="center", color="#5d6d7e")
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
