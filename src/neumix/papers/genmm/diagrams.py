"""Diagrams of the GenMM paper: both models, and how GenMM is trained."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch

from neumix.diagrams import Point, arrow, box, canvas
from neumix.rendering import NEUTRAL
from neumix.results import Results

__all__ = ["alg1", "fig1", "fig2"]

_LATENT, _NETWORK, _OUTPUT, _STEP, _COPY = "#eaf2f8", "#fef5e7", "#e9f7ef", "#f4f6f7", "#f5eef8"

_ROWS = {"1": 5.6, "2": 4.1, "K": 1.1}
"""Height of the rows of K alike boxes, of which three are drawn."""
_MIDDLE = 3.35

_SWITCH = "$s \\sim \\mathrm{Categorical}(\\pi_1, \\ldots, \\pi_K)$"

_BOXES: tuple[tuple[Point, Point, str, str], ...] = (
    (
        (8.2, 10.6),
        (14.0, 1.3),
        r"start:  $\pi_k = 1/K$,  random $\theta_1, \ldots, \theta_K$,  $\Phi^{\mathrm{old}} = \Phi$",
        _STEP,
    ),
    ((8.0, 8.3), (5.4, 1.3), "old copy of the parameters\n$\\Phi^{\\mathrm{old}}$, fixed", _COPY),
    ((14.0, 8.3), (5.0, 1.3), "new copy of the parameters\n$\\Phi$, trained", _COPY),
    ((2.3, 5.4), (3.2, 1.9), "batch\n$x^{(1)}, \\ldots, x^{(n_b)}$", _LATENT),
    (
        (8.0, 5.4),
        (5.4, 1.9),
        "E-step (13): responsibilities\n"
        r"$\gamma_k^{(i)} \propto \pi_k^{\mathrm{old}}\, p_k^{\mathrm{old}}(x^{(i)})$",
        _STEP,
    ),
    (
        (14.0, 5.4),
        (5.0, 1.9),
        "gradient step on $Q$ (14)\n$\\theta_k \\leftarrow \\theta_k + \\eta\\, \\nabla_{\\theta_k} Q / n_b$",
        _STEP,
    ),
    (
        (8.2, 1.5),
        (14.0, 1.5),
        "every $t_{\\mathrm{EM}}$ epochs:  $\\pi_k \\leftarrow$ mean of $\\gamma_k^{(i)}$ over the epoch (16),  "
        "then  $\\Phi^{\\mathrm{old}} \\leftarrow \\Phi$",
        _OUTPUT,
    ),
)
"""Centre, size, text and colour of each box of Algorithm 1."""

_ARROWS: tuple[tuple[Point, Point], ...] = (
    ((8.0, 9.95), (8.0, 8.95)),
    ((14.0, 9.95), (14.0, 8.95)),
    ((8.0, 7.65), (8.0, 6.35)),
    ((13.6, 7.65), (13.6, 6.35)),
    ((14.4, 6.35), (14.4, 7.65)),
    ((3.9, 5.4), (5.3, 5.4)),
    ((10.7, 5.4), (11.5, 5.4)),
    ((8.2, 3.2), (8.2, 2.25)),
)
"""Start and end of each arrow of Algorithm 1."""


def fig1(results: Results) -> Figure:
    """Draw GenMM: one latent for all generators, and a switch that chooses whose output is the data point."""
    figure, axes = canvas((7.0, 3.5), (14, 7.0))
    box(axes, (1.7, _MIDDLE), (2.8, 1.4), "common latent\n$z \\sim N(0, I)$", _LATENT)
    for name, y in _ROWS.items():
        box(axes, (6.0, y), (2.9, 1.0), f"generator $g_{name}(z; \\theta_{name})$", _NETWORK)
        arrow(axes, (3.1, _MIDDLE), (4.55, y))
        axes.plot([7.45, 9.3], [y, y], color=NEUTRAL, linewidth=1.2)
    _dots(axes, 6.0)
    _switch(axes, 9.3, 11.2)
    box(axes, (12.7, _MIDDLE), (1.8, 1.0), "data $x$", _OUTPUT)
    arrow(axes, (11.2, _MIDDLE), (11.8, _MIDDLE))
    return figure


def alg1(results: Results) -> Figure:
    """Draw the training of GenMM: E-step by the old copy, gradient steps on the new one, now and then an update."""
    figure, axes = canvas((8.4, 5.9), (16.8, 11.8))
    for centre, size, text, colour in _BOXES:
        box(axes, centre, size, text, colour)
    for start, end in _ARROWS:
        arrow(axes, start, end)
    axes.add_patch(
        FancyBboxPatch((0.4, 3.2), 16.2, 3.5, boxstyle="round,pad=0", fill=False, edgecolor=NEUTRAL, linestyle="--")
    )
    axes.text(0.7, 3.75, "for every batch of every epoch", ha="left", va="center", color=NEUTRAL)
    # The update ends where the old copy is: around the left of everything.
    axes.plot([1.2, 0.15, 0.15], [1.5, 1.5, 8.3], color=NEUTRAL, linewidth=1.2)
    arrow(axes, (0.15, 8.3), (5.3, 8.3))
    axes.text(2.7, 8.6, "copied", ha="center", va="center", color=NEUTRAL)
    return figure


def fig2(results: Results) -> Figure:
    """Draw LatMM: a switch chooses one of K Gaussian sources, whose draw is the latent of the one generator."""
    figure, axes = canvas((7.0, 3.5), (14, 7.0))
    for name, y in _ROWS.items():
        box(axes, (2.0, y), (3.2, 1.0), f"source $N(\\mu_{name}, C_{name})$", _LATENT)
        axes.plot([3.6, 5.0], [y, y], color=NEUTRAL, linewidth=1.2)
    _dots(axes, 2.0)
    _switch(axes, 5.0, 6.9)
    box(axes, (8.0, _MIDDLE), (1.2, 1.0), "$z$", _LATENT)
    box(axes, (10.6, _MIDDLE), (2.4, 1.0), "generator $g(z; \\theta)$", _NETWORK)
    box(axes, (13.0, _MIDDLE), (1.4, 1.0), "data $x$", _OUTPUT)
    for start, end in ((6.9, 7.4), (8.6, 9.4), (11.8, 12.3)):
        arrow(axes, (start, _MIDDLE), (end, _MIDDLE))
    return figure


def _dots(axes: Axes, x: float) -> None:
    axes.text(x, (_ROWS["2"] + _ROWS["K"]) / 2, r"$\vdots$", ha="center", va="center", fontsize=14)


def _switch(axes: Axes, start: float, end: float) -> None:
    """Draw contacts at the end of every row, a lever at one of them, and what throws it."""
    axes.plot([start, end], [_ROWS["2"], _MIDDLE], color=NEUTRAL, linewidth=2.2)
    for point in (*((start, y) for y in _ROWS.values()), (end, _MIDDLE)):
        axes.add_patch(Circle(point, 0.13, facecolor="white", edgecolor=NEUTRAL, zorder=3))
    x = (start + end) / 2
    axes.text(x + 0.6, 0.35, _SWITCH, ha="center", va="center")
    arrow(axes, (x, 0.7), (x, (_ROWS["2"] + _MIDDLE) / 2 - 0.1))
