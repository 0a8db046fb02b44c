"""The example of a classifier weighted mixture as drawn, read back from the figures."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest
from figure_checks import assert_texts_apart
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from scipy.integrate import trapezoid
from scipy.stats import norm

from neumix.closure import sources
from neumix.papers.cwm import illustration
from neumix.rendering import SERIES, save_figure, style
from neumix.results import Results

FIGURES = ("fig1", "fig2", "fig3")


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path, "cwm", [])


@pytest.fixture
def drawn(results, request):
    with style():
        yield getattr(illustration, request.param)(results)


def curves(axes: Axes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the points (N,), the curves of the components (N, K) and the last curve (N,)."""
    lines = [line.get_xydata() for line in axes.lines]
    assert all(np.array_equal(line[:, 0], lines[0][:, 0]) for line in lines)
    return lines[0][:, 0], np.stack([line[:, 1] for line in lines[:-1]], axis=-1), lines[-1][:, 1]


def modes(density: np.ndarray) -> int:
    return int(((density[1:-1] > density[:-2]) & (density[1:-1] > density[2:])).sum())


@pytest.mark.parametrize("drawn", ["fig1", "fig2"], indirect=True)
def test_curves_are_named_and_every_component_has_its_colour(drawn):
    for axes in drawn.axes:
        assert len(axes.lines) == 4
        assert axes.get_title()
        assert axes.get_xlabel()
        assert all(same_color(line.get_color(), SERIES[k]) for k, line in enumerate(axes.lines[:3]))
    assert drawn.axes[0].get_ylabel()
    assert drawn.axes[0].get_ylim() == drawn.axes[1].get_ylim()
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == [line.get_label() for line in drawn.axes[0].lines]


@pytest.mark.parametrize("drawn", ["fig1"], indirect=True)
def test_each_density_is_the_sum_of_its_components_and_lies_within_the_panel(drawn):
    for axes in drawn.axes:
        x, components, density = curves(axes)
        np.testing.assert_allclose(components.sum(axis=-1), density, rtol=1e-12)
        assert trapezoid(density, x) == pytest.approx(1, abs=1e-3)
        assert components.min() >= 0
        assert density.max() < axes.get_ylim()[1]
        assert axes.get_xlim() == (x[0], x[-1])


@pytest.mark.parametrize("drawn", ["fig1"], indirect=True)
def test_the_same_components_with_the_same_probabilities_give_more_modes_with_a_classifier(drawn):
    (x, classical, left), (_, weighted, right) = (curves(axes) for axes in drawn.axes)
    shapes = norm.pdf(x[:, None], illustration.EXAMPLE.means, illustration.EXAMPLE.sds)
    assert np.ptp(classical / shapes, axis=0).max() < 1e-12
    assert np.ptp(weighted / shapes, axis=0).min() > 0.5
    np.testing.assert_allclose(trapezoid(classical, x, axis=0), trapezoid(weighted, x, axis=0), atol=1e-3)
    assert modes(left) == 1
    assert modes(right) > 3
    assert right.max() > 1.5 * left.max()


@pytest.mark.parametrize("drawn", ["fig2"], indirect=True)
def test_the_classifier_sums_to_one_and_the_weights_do_not(drawn):
    (u, alpha, level), (_, weights, total) = (curves(axes) for axes in drawn.axes)
    assert (u[0], u[-1]) == (0, 1)
    np.testing.assert_allclose(alpha.sum(axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(level, 1, rtol=1e-12)
    np.testing.assert_allclose(weights.sum(axis=-1), total, rtol=1e-12)
    assert total.min() < 0.9
    assert total.max() > 1.5
    assert all(axes.lines[-1].get_linestyle() == "--" for axes in drawn.axes)


@pytest.mark.parametrize("drawn", ["fig2"], indirect=True)
def test_the_drawn_weights_are_the_drawn_classifier_at_the_cdfs(drawn):
    (u, alpha, _), (x, weights, _) = (curves(axes) for axes in drawn.axes)
    for component, (mean, sd) in enumerate(zip(illustration.EXAMPLE.means, illustration.EXAMPLE.sds, strict=True)):
        expected = np.interp(norm.cdf(x, mean, sd), u, alpha[:, component])
        np.testing.assert_allclose(weights[:, component], expected, atol=1e-3)


def test_figure_2_belongs_to_the_right_side_of_figure_1(results):
    with style():
        x, weighted, _ = curves(illustration.fig1(results).axes[1])
        _, weights, _ = curves(illustration.fig2(results).axes[1])
    shapes = norm.pdf(x[:, None], illustration.EXAMPLE.means, illustration.EXAMPLE.sds)
    np.testing.assert_allclose(weights * shapes, weighted, rtol=1e-9)


@pytest.mark.parametrize("drawn", ["fig3"], indirect=True)
def test_the_graphs_have_the_edges_of_the_paper(drawn):
    uniform = {("U", "R"), ("U", "X"), ("R", "X")}
    assert [edges(axes) for axes in drawn.axes] == [uniform, uniform | {("Z", "U")}]
    assert all(axes.get_aspect() == 1 for axes in drawn.axes)


def edges(axes: Axes) -> set[tuple[str, str]]:
    """Return the names of the nodes at the ends of each arrow, which must touch their circles."""
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    texts = {tuple(text.get_position()): text.get_text().strip("$") for text in axes.texts}
    found = set()
    for arrow in (patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)):
        touched = []
        for end in arrow._posA_posB:
            (circle,) = (c for c in circles if np.hypot(*np.subtract(end, c.center)) == pytest.approx(c.radius))
            touched.append(texts[tuple(circle.center)])
        found.add(tuple(touched))
    assert len(found) == sum(isinstance(patch, FancyArrowPatch) for patch in axes.patches)
    return found


@pytest.mark.parametrize("drawn", FIGURES, indirect=True)
def test_texts_do_not_overlap_and_stay_inside(drawn: Figure):
    drawn.supxlabel("a note on the budget", fontsize=7)
    drawn.canvas.draw()
    assert_texts_apart(drawn)


@pytest.mark.parametrize("drawn", ["fig3"], indirect=True)
def test_no_text_covers_an_arrow(drawn):
    drawn.canvas.draw()
    for axes in drawn.axes:
        arrows = [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]
        for text, arrow in itertools.product(axes.texts, arrows):
            path = axes.transData.transform(np.linspace(*arrow._posA_posB, 50))
            box = text.get_window_extent()
            assert not any(box.contains(*point) for point in path), text.get_text()


def test_figures_are_saved_in_every_format(results, tmp_path):
    for name in FIGURES:
        with style():
            outputs = {kind: tmp_path / f"{name}.{kind}" for kind in ("svg", "png")}
            save_figure(getattr(illustration, name)(results), "", outputs)
        assert not plt.get_fignums()
    assert len([path for path in tmp_path.iterdir() if path.stat().st_size > 0]) == 6


def test_drawing_needs_no_torch():
    texts = {path.name: path.read_text() for path in sources(illustration.__name__)}
    assert {"illustration.py", "cdf_mixture.py", "rendering.py"} <= set(texts)
    assert not [name for name, text in texts.items() if "\nimport torch" in text or "\nfrom torch" in text]
