"""What a classifier weighted mixture is: an example on the line, and its directed graph."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from numpy.typing import NDArray

from neumix.cdf_mixture import CDFMixture, SoftmaxClassifier
from neumix.rendering import NEUTRAL, SERIES
from neumix.results import Results

__all__ = ["fig1", "fig2", "fig3"]

Floats = NDArray[np.float64]
Point = tuple[float, float]

CLASSIFIER = SoftmaxClassifier(
    np.array([0.1, -0.5, 0.2]),
    np.array([[-0.2, 0.6, -0.6, 0.5], [-1.2, 2.1, -3.1, -1.5], [0.3, 2.6, 0.5, -0.4]]),
)
EXAMPLE = CDFMixture(np.array([-1.6, 0.0, 1.6]), np.array([1.0, 1.0, 1.0]), CLASSIFIER)
"""Mixture of Figures 1 and 2; the paper does not state the parameters of its own."""
_PROBABILITIES = CLASSIFIER((np.arange(1000) + 0.5) / 1000).mean(axis=0)
CLASSICAL = CDFMixture(EXAMPLE.means, EXAMPLE.sds, SoftmaxClassifier.constant(_PROBABILITIES))
"""Ordinary mixture of the same components that draws each of them with the same probability."""

_X = np.linspace(-5, 5, 1001)
_U = np.linspace(0, 1, 501)

_RADIUS = 0.5
_POSITIONS: dict[str, Point] = {"Z": (-3.2, 2.8), "U": (0.0, 2.8), "R": (4.4, 2.8), "X": (2.2, 0.6)}
_LAWS = {
    "Z": r"$Z \sim P_0$",
    "U": r"$U = P_0(Z)$",
    "R": r"$R \sim \mathrm{Categorical}(\alpha(U))$",
    "X": r"$X = P_R^{-1}(U)$",
}
"""Law of each node of a graph given its parents."""
_UNIFORM_LAWS = {"U": r"$U \sim \mathrm{Uniform}([0, 1])$", "R": _LAWS["R"], "X": _LAWS["X"]}
"""The same where the graph starts at U."""
_EDGES = (("U", "R"), ("U", "X"), ("R", "X"))
_LATENT, _OBSERVED = "white", "#d5dbdb"


def fig1(results: Results) -> Figure:
    """Draw the density and the weighted components of an ordinary mixture and of a classifier weighted one."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.2), sharex=True, sharey=True)
    for axes, mixture in zip(panels, (CLASSICAL, EXAMPLE), strict=True):
        _draw_components(axes, _X, mixture.weighted_components(_X))
        axes.plot(_X, np.exp(mixture.log_prob(_X)), color="black", label="density $p(x)$")
        axes.set_xlabel("$x$")
    panels[0].set_title(r"classical mixture, $\pi_k \, p_k(x)$")
    panels[1].set_title(r"classifier weighted mixture, $\pi_k(x) \, p_k(x)$")
    panels[0].set(ylabel="density", xlim=(_X[0], _X[-1]))
    panels[0].set_ylim(bottom=0)
    figure.legend(handles=panels[0].lines, loc="outside upper center", ncols=4)
    return figure


def fig2(results: Results) -> Figure:
    """Draw the classifier of the right side of Figure 1 and the weights that it makes, which do not sum to one."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 3.2), sharey=True)
    pairs = ((_U, EXAMPLE.classifier(_U)), (_X, EXAMPLE.weights(_X)))
    for axes, (points, values) in zip(panels, pairs, strict=True):
        _draw_components(axes, points, values, shaded=False)
        axes.plot(points, values.sum(axis=-1), color=NEUTRAL, linestyle="--", label="sum over $k$")
        axes.set_xlim(points[0], points[-1])
    panels[0].set(title=r"classifier $\alpha_k(u)$", xlabel="$u$", ylabel="weight", yticks=np.arange(0, 2.1, 0.5))
    panels[1].set(title=r"weights $\pi_k(x) = \alpha_k(P_k(x))$", xlabel="$x$")
    panels[0].set_ylim(bottom=0)
    figure.legend(handles=panels[0].lines, loc="outside upper center", ncols=4)
    return figure


def fig3(results: Results) -> Figure:
    """Draw the directed graph of U, R and X, and the one of Sec II.C where U comes from a base variable Z."""
    figure, panels = plt.subplots(1, 2, figsize=(7.2, 2.2), width_ratios=(8.4, 10.9))
    _draw_graph(panels[0], _UNIFORM_LAWS, _EDGES)
    _draw_graph(panels[1], _LAWS, (("Z", "U"), *_EDGES))
    panels[0].set(title="uniform variable $U$ (Figure 3)", xlim=(-1.8, 6.6))
    panels[1].set(title="base variable $Z$ (Sec. II.C)", xlim=(-4.3, 6.6))
    return figure


def _draw_components(axes: Axes, points: Floats, values: Floats, shaded: bool = True) -> None:
    """Draw the columns of values (N, K) over points (N,), one colour for each component."""
    for component, colour in enumerate(SERIES[: values.shape[-1]]):
        if shaded:
            axes.fill_between(points, values[:, component], color=colour, alpha=0.2, linewidth=0)
        axes.plot(points, values[:, component], color=colour, label=f"$k = {component + 1}$")


def _draw_graph(axes: Axes, laws: dict[str, str], edges: tuple[tuple[str, str], ...]) -> None:
    """Draw nodes with their laws beside them, and an arrow from parent to child for each edge; X is observed."""
    for name, law in laws.items():
        x, y = _POSITIONS[name]
        colour = _OBSERVED if name == "X" else _LATENT
        axes.add_patch(Circle((x, y), _RADIUS, facecolor=colour, edgecolor=NEUTRAL, linewidth=1.2))
        axes.text(x, y, f"${name}$", ha="center", va="center", fontsize=11)
        if name == "X":
            axes.text(x + _RADIUS + 0.3, y, law, ha="left", va="center")
        else:
            axes.text(x, y + _RADIUS + 0.2, law, ha="center", va="bottom")
    for parent, child in edges:
        start, end = np.array(_POSITIONS[parent]), np.array(_POSITIONS[child])
        step = (end - start) / np.linalg.norm(end - start) * _RADIUS
        tail, head = tuple(start + step), tuple(end - step)
        arrow = FancyArrowPatch(tail, head, arrowstyle="-|>", mutation_scale=12, shrinkA=0, shrinkB=0, color=NEUTRAL)
        axes.add_patch(arrow)
    axes.set(ylim=(0, 4.4), aspect="equal")
    axes.axis("off")
