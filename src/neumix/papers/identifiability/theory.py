"""What the identifiability paper proves: the hierarchy of its results, and its examples decided and drawn."""

import dataclasses
import itertools
import math
from fractions import Fraction

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from neumix.formatting import format_number
from neumix.gaussian_mixture import GaussianMixture
from neumix.injectivity import affine_maps_between, injectivity, preimage_count, pushforward_cdf
from neumix.intervals import Number
from neumix.piecewise_affine import PiecewiseAffine, affine_function, fully_connected, piecewise_affine
from neumix.rendering import NEUTRAL, SERIES
from neumix.results import Results

__all__ = ["fig3", "fig4", "table1", "table_examples", "table_laws"]

Floats = NDArray[np.float64]

_DASH = format_number(math.nan)
_BLACK, _RED, _BLUE = "black", "#c0392b", SERIES[0]
"""Colours of the paper's Figures 3 and 4."""

RELU = piecewise_affine([0], [0, 1], [0, 0])
ABSOLUTE = piecewise_affine([0], [-1, 1], [0, 0])
ZERO = affine_function(0, 0)
EXAMPLE_4_F = piecewise_affine([-4, -2, 2], [Fraction(1, 5), 1, -1, 1], [Fraction(4, 5), 4, 0, -4])
EXAMPLE_4_G = piecewise_affine([-4, -2, 2, 4], [Fraction(1, 5), -1, 1, -1, 1], [Fraction(4, 5), -4, 0, 4, -4])
EXAMPLE_5_WEIGHTS = ([[1], [-1]], [[1, -1], [1, 1]], [[0, 1]])
EXAMPLE_5_LEAK = Fraction(1, 2)
FOLDING_WEIGHTS = ([[1], [-1]], [[1, 1], [-1, -2]], [[1, 0], [0, 1]])
"""Weights of a ReLU network whose layers have 1, 2, 2, 2 units and that is x -> (|x|, 0); biases are zero."""


def example_5(layers: int) -> PiecewiseAffine:
    """Return the first layers of the network of Example 5, without an activation after the last of them."""
    weights = EXAMPLE_5_WEIGHTS[:layers]
    return fully_connected(weights, [[0] * len(weight) for weight in weights], EXAMPLE_5_LEAK)


def folding_network() -> PiecewiseAffine:
    """Return the network of `FOLDING_WEIGHTS`."""
    return fully_connected(FOLDING_WEIGHTS, [[0] * len(weight) for weight in FOLDING_WEIGHTS])


def mixture_on_the_line(means: tuple[float, ...], sd: float = 1.0) -> GaussianMixture:
    """Return a mixture of Gaussians that have equal weights and the same standard deviation."""
    count = len(means)
    return GaussianMixture(
        np.full(count, 1 / count), np.array(means)[:, None], np.full((count, 1, 1), sd**2, dtype=np.float64)
    )


@dataclasses.dataclass(frozen=True)
class _Example:
    """Function of the paper, and a generic value of it if it has one."""

    source: str
    formula: str
    function: PiecewiseAffine
    value: tuple[Number, ...] | None


@dataclasses.dataclass(frozen=True)
class _Pair:
    """Two models, each a prior and a decoder, that give x the same law."""

    source: str
    priors: tuple[GaussianMixture, GaussianMixture]
    decoders: tuple[PiecewiseAffine, PiecewiseAffine]
    description: str


_HIERARCHY = (
    (
        "Gaussian mixture (P1)",
        "piecewise affine (F1), weakly injective (F2)",
        "F1, F2",
        "law of z",
        "an affine map",
        "3.2(a), 3.3(a)",
    ),
    (
        "P1",
        "F1, injective (F4)",
        "F1; F2 for z; F4, continuity for f",
        "law of z; f",
        "an affine map",
        "3.2(c), 3.3(d)",
    ),
    (
        "P1; coordinates of z independent given u, two states with distinct variance ratios (P2)",
        "F1, F4",
        "F1; F2 for z; F4, continuity for f",
        "law of z; f",
        "order, scale and shift of the coordinates of z",
        "3.2(b), 3.3(b) for z; 3.2(c), 3.3(d) for f",
    ),
    (
        "P1, P2; states of u differ in z, as many parts of u as possible, no part's neighbours in z all another's (P3)",
        "F1, F4",
        "F1; F2 for u, z; F4, continuity for f",
        "law of u, z; f",
        "order, scale and shift of the coordinates of z; order of the parts of u and of their states",
        "3.3(c) for u, z; 3.3(d) for f",
    ),
)
"""Rows of Table 1."""

_HALF = Fraction(1, 2)
_EXAMPLES = (
    _Example("Example 1", "ReLU(x)", RELU, (1,)),
    _Example("Example 1", "ReLU(-ReLU(x))", RELU.transformed([[-1]], [0]).rectified(), None),
    _Example("Example 1, Remark 3.6", "|x|", ABSOLUTE, (1,)),
    _Example("Example 1", "0", ZERO, None),
    _Example("Example 4", "f", EXAMPLE_4_F, (1,)),
    _Example("Example 4", "g", EXAMPLE_4_G, (1,)),
    _Example("Example 5", "network up to h1", example_5(1), (1, -1)),
    _Example("Example 5", "network up to h2", example_5(2), (3, 1)),
    _Example("Example 5", "network, |x|/2", example_5(3), (1,)),
    _Example("ours, against Corollary H.2", "ReLU network 1-2-2-2, (|x|, 0)", folding_network(), (1, 0)),
)
_PRIOR = mixture_on_the_line((-2.0, 2.0))  # Eq. (14)
_LEAKY = piecewise_affine([0], [_HALF, 1], [0, 0])
_PAIRS = (
    _Pair(
        "Remark 3.6",
        (mixture_on_the_line((-2.0, -1.0, 3.0)), mixture_on_the_line((-2.0, 1.0, 3.0))),
        (ABSOLUTE, ABSOLUTE),
        "f = g = |x|; means -2, -1, 3 and -2, 1, 3",
    ),
    _Pair("Example 4", (_PRIOR, _PRIOR), (EXAMPLE_4_F, EXAMPLE_4_G), "f and g; same prior"),
    _Pair(
        "Remark 3.7",
        (_PRIOR, _PRIOR.pushforward([[2.0]], [-1.0])),
        (_LEAKY, _LEAKY.reparametrised(_HALF, _HALF)),
        "leaky ReLU f and f((z + 1) / 2); z and 2 z - 1",
    ),
)


def table1(results: Results) -> pd.DataFrame:
    """Return which assumptions determine what, as the paper's table has it and as its theorems state it."""
    columns = ["Prior", "Decoder f, as printed", "Decoder f, as proved", "The law of x determines", "Up to", "Theorems"]
    return pd.DataFrame(_HIERARCHY, columns=columns)


def table_examples(results: Results) -> pd.DataFrame:
    """Return which assumptions the paper's example functions satisfy, and the preimages of a generic value."""
    return pd.DataFrame(_decided(example) for example in _EXAMPLES)


def table_laws(results: Results) -> pd.DataFrame:
    """Return the pairs of models that give x the same law, and whether an affine map explains it."""
    return pd.DataFrame(_compared(pair) for pair in _PAIRS)


def fig3(results: Results) -> Figure:
    """Draw the two functions of Example 4, which share the pieces on the outside."""
    figure, axes = plt.subplots(figsize=(6.0, 3.1))
    knots = [float(knot) for knot in sorted({*EXAMPLE_4_F.knots, *EXAMPLE_4_G.knots})]
    for z in map(np.array, itertools.pairwise([-7.0, *knots, 7.0])):
        f, g = EXAMPLE_4_F(z), EXAMPLE_4_G(z)
        if np.array_equal(f, g):
            axes.plot(z, f, color=_BLACK)
        else:
            axes.plot(z, f, color=_RED)
            axes.plot(z, g, color=_BLUE, linestyle="--")
    for knot in knots:
        axes.axvline(knot, color=NEUTRAL, linewidth=0.5, linestyle=":", zorder=0)
    axes.axhline(0, color=NEUTRAL, linewidth=0.5, zorder=0)
    axes.set(xlabel="$x$", ylabel="$f(x)$, $g(x)$", xticks=range(-6, 7, 2), xlim=(-7, 7), aspect="equal")
    handles = [
        Line2D([], [], color=_BLACK, label="$f$ and $g$"),
        Line2D([], [], color=_RED, label="$f$"),
        Line2D([], [], color=_BLUE, linestyle="--", label="$g$"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def fig4(results: Results) -> Figure:
    """Draw the curves that the first two layers of Example 5 make of the line; numbers beside them are values of x."""
    figure, axes = plt.subplots(figsize=(6.4, 3.7))
    _trace(axes, example_5(1).rectified(EXAMPLE_5_LEAK), _BLACK, "o", r"$\sigma(h_1(x))$", (8, 7))
    _trace(axes, example_5(2), _BLUE, "s", r"$h_2(\sigma(h_1(x)))$", (0, 9))
    for line in (axes.axhline, axes.axvline):
        line(0, color=NEUTRAL, linewidth=0.5, zorder=0)
    axes.set(xlabel="first coordinate", ylabel="second coordinate", aspect="equal")
    axes.margins(0.08)
    figure.legend(loc="outside upper center", ncols=2, title="numbers on the curves: $x$")
    return figure


def _decided(example: _Example) -> dict[str, str]:
    """Return a row of `table_examples`."""
    decided = injectivity(example.function)
    counted = integral = _DASH
    if example.value is not None:
        counted = f"{example.function.preimage_size(example.value):g}"
    if example.value is not None and example.function.dimension == 1:
        integral = f"{preimage_count(example.function, _PRIOR, example.value[0]):.6f}"
    return {
        "From": example.source,
        "Function": example.formula,
        "Weakly injective (F2)": _yes(decided.weakly_injective),
        "Observably injective (F3)": _yes(decided.observably_injective),
        "Injective (F4)": _yes(decided.injective),
        "Generic value": _DASH if example.value is None else _point(example.value),
        "Preimages, counted": counted,
        "Preimages, by Lemma C.5": integral,
    }


def _compared(pair: _Pair) -> dict[str, str]:
    """Return a row of `table_laws`."""
    (p, q), (f, g) = pair.priors, pair.decoders
    grid = np.linspace(-12, 12, 2401)
    difference = np.abs(pushforward_cdf(f, p, grid) - pushforward_cdf(g, q, grid)).max()
    maps = affine_maps_between(p, q)
    also = any(np.allclose(f(grid), g(a * grid + b), rtol=0, atol=1e-9) for a, b in maps)
    return {
        "From": pair.source,
        "Decoders; priors": pair.description,
        "Weakly injective (F2)": _yes(all(injectivity(decoder).weakly_injective for decoder in pair.decoders)),
        "Injective (F4)": _yes(all(injectivity(decoder).injective for decoder in pair.decoders)),
        "Largest difference of the CDFs of x": "below 1e-12" if difference < 1e-12 else f"{difference:.1e}",
        "Affine maps from prior to prior": "; ".join(_map(a, b) for a, b in maps) or "none",
        "One of them relates the decoders": _yes(also),
    }


def _trace(
    axes: Axes, function: PiecewiseAffine, colour: str, marker: str, label: str, offset: tuple[int, int]
) -> None:
    """Draw the curve of x -> f(x) in the plane for x from -3 to 3, with the integers x beside it; it bends at 0 only.

    Arguments:
        axes: the panel.
        function: f, with values in the plane.
        colour: of the curve.
        marker: of the points.
        label: in the legend.
        offset: from a point to its number, in points of the font.
    """
    marks = np.arange(-3, 4)
    corners = function(marks)
    axes.plot(*corners.T, marker=marker, color=colour, markersize=3.5, label=label)
    for x, point in zip(marks[marks != 0], corners[marks != 0], strict=True):
        axes.annotate(f"${x}$", point, offset, textcoords="offset points", color=colour, ha="center", va="center")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _point(value: tuple[Number, ...]) -> str:
    return f"{value[0]}" if len(value) == 1 else f"({', '.join(str(item) for item in value)})"


def _map(slope: float, offset: float) -> str:
    """Return z -> slope z + offset as text."""
    linear = {1.0: "z", -1.0: "-z"}.get(round(slope, 9), f"{slope:g} z")
    shift = round(offset, 9)
    return linear if shift == 0 else f"{linear} {'+' if shift > 0 else '-'} {abs(shift):g}"
