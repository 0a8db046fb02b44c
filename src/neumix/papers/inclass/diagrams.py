"""Block diagrams of the InClass nets paper: the architecture, and one evaluation of the cost."""

from matplotlib.figure import Figure

from neumix.diagrams import Point, arrow, box, canvas
from neumix.rendering import NEUTRAL
from neumix.results import Results

__all__ = ["fig1", "fig2"]

_DATA, _NETWORK, _OUTPUT, _STEP = "#eaf2f8", "#fef5e7", "#e9f7ef", "#f4f6f7"

_STEPS: tuple[tuple[Point, Point, str, str, str], ...] = (
    ((2.5, 12.2), (4.2, 1.8), "batch", "$x_{a,v}$", _DATA),
    ((7.6, 12.2), (3.8, 1.8), "InClass net", "$V$ networks", _NETWORK),
    ((13.4, 12.2), (6.0, 1.8), "outputs: pseudo classifiers", r"$\eta_{a,v}^{(i)} = \beta_v^{(i)}(x_{a,v})$", _OUTPUT),
    (
        (5.8, 8.8),
        (7.2, 2.4),
        "batch means: pseudo weights",
        r"$\phi_v^{(i)} = \dfrac{1}{N_{\mathrm{bat}}} \,\sum_a\,\,\eta_{a,v}^{(i)}$",
        _STEP,
    ),
    (
        (12.6, 5.4),
        (7.6, 2.2),
        "numerator",
        r"$N_a = \sum_i \,\prod_v \,\eta_{a,v}^{(i)} (\phi_v^{(i)})^{(1-V)/V}$",
        _STEP,
    ),
    ((4.0, 5.4), (6.6, 2.2), "denominator", r"$D = \sum_i \,\prod_v \,(\phi_v^{(i)})^{1/V}$", _STEP),
    ((5.8, 2.0), (4.8, 2.2), "log ratio", r"$\log\,(N_a / D)$", _STEP),
    (
        (12.8, 2.0),
        (6.0, 2.4),
        "minus the mean: cost (25)",
        r"$-\dfrac{1}{N_{\mathrm{bat}}} \,\sum_a\,\,\log\,(N_a / D)$",
        _OUTPUT,
    ),
)
"""Centre, size, title, formula and colour of each box of the flow chart."""

_FLOW: tuple[tuple[Point, Point], ...] = (
    ((4.6, 12.2), (5.7, 12.2)),
    ((9.5, 12.2), (10.4, 12.2)),
    ((11.6, 11.3), (9.4, 9.4)),
    ((14.6, 11.3), (14.6, 6.5)),
    ((4.6, 7.6), (4.2, 6.5)),
    ((8.2, 7.6), (10.4, 6.5)),
    ((4.4, 4.3), (5.0, 3.1)),
    ((10.4, 4.3), (7.4, 3.1)),
    ((8.2, 2.0), (9.8, 2.0)),
)
"""Start and end of each arrow of the flow chart."""

_INDICES = "points $a = 1, \\ldots, N_{\\mathrm{bat}}$;  variates $v = 1, \\ldots, V$;  components $i = 1, \\ldots, C$"


def fig1(results: Results) -> Figure:
    """Draw the architecture: each variate has its own classifier."""
    figure, axes = canvas((7.0, 3.4), (14, 6.8))
    rows = {"1": 5.8, "2": 4.2, "V": 1.0}
    box(axes, (1.3, 3.4), (1.6, 1.2), "input\n$X$", _DATA)
    for name, y in rows.items():
        box(axes, (4.3, y), (1.4, 0.9), f"$x_{name}$", _DATA)
        box(axes, (7.6, y), (2.6, 1.1), f"classifier\nnetwork {name if name != 'V' else '$V$'}", _NETWORK)
        outputs = rf"$\eta_{name}^{{(1)}}, \ldots, \eta_{name}^{{(C)}}$"
        box(axes, (11.9, y), (3.2, 0.9), outputs, _OUTPUT)
        arrow(axes, (2.1, 3.4), (3.6, y))
        arrow(axes, (5.0, y), (6.3, y))
        arrow(axes, (8.9, y), (10.3, y))
    for x in (4.3, 7.6, 11.9):
        axes.text(x, 2.6, r"$\vdots$", ha="center", va="center", fontsize=14)
    return figure


def fig2(results: Results) -> Figure:
    """Draw the computation of the cost of Eq. (25) for one batch."""
    figure, axes = canvas((8.4, 6.6), (16.8, 13.2))
    for (x, y), (width, height), title, formula, colour in _STEPS:
        box(axes, (x, y), (width, height), "", colour)
        axes.text(x, y + height / 2 - 0.45, title, ha="center", va="center", color=NEUTRAL)
        axes.text(x, y - 0.3, formula, ha="center", va="center", fontsize=10)
    for start, end in _FLOW:
        arrow(axes, start, end)
    axes.text(8.4, 0.3, _INDICES, ha="center", va="center", color=NEUTRAL)
    return figure
