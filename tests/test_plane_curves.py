"""Curves in the plane: shapes recovered by fits to points with hardly any noise; noise, outliers, draws, settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import least_squares

from neumix.data import plane_curves
from neumix.data.dataset import Dataset
from neumix.settings import CatalogueError, parse

NOWHERE = Path("nowhere")
SHAPES = ["circles", "spiral", "crescents"]
EVERY = pytest.mark.parametrize("shape", SHAPES)
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def load(shape: str, seeds: tuple[int, ...] = (0,), **content: Any) -> Dataset:
    return plane_curves.load(
        NOWHERE, parse(plane_curves.Config, {"shape": shape, **content}, "paper.yaml: data"), seeds
    )


def draw(shape: str, noise: float = 1e-9, **content: Any) -> tuple[Floats, Labels]:
    """Return points (N, 2) with hardly any noise unless told otherwise, and clusters (N,)."""
    split = load(shape, noise=noise, **content)["train"]
    return split["x"].values.astype(np.float64), split["component"].values


def circle(points: Floats) -> tuple[Floats, float, Floats]:
    """Return centre, radius and the points' distances from the circle that fits best, by linear least squares."""
    design = np.column_stack([2 * points, np.ones(len(points))])
    solution = np.linalg.lstsq(design, np.square(points).sum(1), rcond=None)[0]
    centre = solution[:2]
    radius = float(np.sqrt(solution[2] + centre @ centre))
    return centre, radius, np.linalg.norm(points - centre, axis=1) - radius


def angles(points: Floats, centre: Floats) -> Floats:
    found: Floats = np.arctan2(points[:, 1] - centre[1], points[:, 0] - centre[0])
    return found


class TestAll:
    @EVERY
    def test_points_and_clusters_have_their_shapes_and_scale(self, shape):
        dataset = load(shape, size=500)
        split = dataset["train"]
        assert list(dataset.splits) == ["train"]
        assert dataset.shapes == {"x": (2,), "component": ()}
        assert (split["x"].values.shape, split["x"].values.dtype) == ((500, 2), np.float32)
        assert split["component"].values.dtype == np.int64
        x = split["x"].values.astype(np.float64)
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
        assert np.square(x).sum(1).mean() == pytest.approx(2, rel=1e-6)

    @EVERY
    def test_it_needs_no_other_dataset(self, shape):
        assert plane_curves.sources(plane_curves.Config(shape=shape)) == ()
        assert len(load(shape)["train"]) == 5000

    @EVERY
    def test_draws_differ_and_seeds_share_them(self, shape):
        draws = [load(shape, size=50, draw=number)["train"]["x"].values.tobytes() for number in range(4)]
        assert len(set(draws)) == 4
        several = load(shape, (3, 8), size=50, draw=2)["train"]
        for position in range(2):
            assert several["x"].of_seed(position).tobytes() == draws[2]

    def test_shapes_do_not_share_their_numbers(self):
        labels = [draw(shape, size=200)[1] % 2 for shape in SHAPES]
        assert not np.array_equal(labels[0], labels[1])
        assert not np.array_equal(labels[0], labels[2])

    @settings(max_examples=15, deadline=None)
    @given(st.sampled_from(SHAPES), st.floats(0.001, 0.2), st.integers(2, 300), st.integers(0, 1000))
    def test_any_settings_give_finite_points(self, shape, noise, size, number):
        x, labels = draw(shape, noise, size=size, draw=number)
        assert np.isfinite(x).all()
        assert labels.min() >= 0
        assert labels.max() < {"circles": 2, "spiral": 6, "crescents": 3}[shape]

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ({"shape": "square"}, "key 'shape': unknown value 'square'"),
            ({"noise": 0}, "key 'noise'"),
            ({"outliers": 1}, "key 'outliers'"),
            ({"outliers": -0.1}, "key 'outliers'"),
            ({"size": 1}, "key 'size'"),
            ({"seed": 1}, "unknown key 'seed'"),
        ],
    )
    def test_bad_settings_are_refused_by_name(self, content, said):
        with pytest.raises(CatalogueError) as caught:
            parse(plane_curves.Config, {"shape": "circles", **content}, "paper.yaml: data")
        assert said in str(caught.value)


class TestCircles:
    def test_two_concentric_circles_whose_radii_differ_by_a_tenth(self):
        x, label = draw("circles")
        (inner, small, off_inner), (outer, large, off_outer) = (circle(x[label == k]) for k in (0, 1))
        assert max(np.abs(off_inner).max(), np.abs(off_outer).max()) < 1e-5
        np.testing.assert_allclose(inner, outer, atol=1e-5)
        assert large / small == pytest.approx(1.1, rel=1e-5)

    def test_each_has_two_gaps_of_a_tenth_opposite_and_away_from_those_of_the_other(self):
        x, label = draw("circles", size=20_000)
        edges = []
        for k in (0, 1):
            centre, _, _ = circle(x[label == k])
            angle = np.sort(angles(x[label == k], centre))
            steps = np.diff(np.append(angle, angle[0] + 2 * np.pi))
            wide = np.flatnonzero(steps > 0.1)
            assert len(wide) == 2, "two gaps"
            np.testing.assert_allclose(steps[wide], 0.2 * np.pi, atol=0.02)
            middle = (angle[wide] + steps[wide] / 2) % (2 * np.pi)
            assert abs(middle[0] - middle[1]) == pytest.approx(np.pi, abs=0.02)
            edges.append(middle[0] % np.pi)
            half = angle[(angle > angle[wide[0]] + steps[wide[0]]) & (angle < angle[wide[1]] + 1e-9)]
            assert stats.kstest((half - half[0]) / np.ptp(half), stats.uniform.cdf).pvalue > 0.001
        turned = abs(edges[0] - edges[1]) % np.pi
        assert min(turned, np.pi - turned) == pytest.approx(np.pi / 2, abs=0.02)

    def test_circles_are_equally_likely(self):
        assert stats.binomtest(int(draw("circles", size=20_000)[1].sum()), 20_000).pvalue > 0.001

    @pytest.mark.parametrize("noise", [0.005, 0.015])
    def test_noise_across_is_that_of_the_settings_in_units_of_the_outer_radius(self, noise):
        x, label = draw("circles", noise, size=20_000)
        _, radius, off = circle(x[label == 1])
        assert off.std() / radius == pytest.approx(noise, rel=0.03)
        assert stats.kstest(off[:3000] / off.std(), stats.norm.cdf).pvalue > 0.001


def spiral(x: Floats, arm: Labels) -> tuple[Floats, float, Floats]:
    """Return centre, scale and what is left of the points on arms when an arithmetic spiral is fitted."""
    kept = arm < 5

    def residuals(parameters: Floats) -> Floats:
        moved = (x[kept] - parameters[:2]) / parameters[2]
        radius = np.linalg.norm(moved, axis=1)
        angle = 2 * np.pi * arm[kept] / 5 + 2.5 * radius
        return (moved - radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])).ravel()

    found = least_squares(residuals, [0, 0, np.linalg.norm(x[kept], axis=1).max()], xtol=1e-14, ftol=1e-14)
    return found.x[:2], float(found.x[2]), found.fun


class TestSpiral:
    def test_arms_are_an_arithmetic_spiral_each(self):
        x, arm = draw("spiral")
        centre, scale, left = spiral(x, arm)
        assert np.abs(left).max() < 1e-5
        radius = np.linalg.norm(x - centre, axis=1)[arm < 5] / scale
        assert stats.kstest(radius, stats.uniform(0.15, 0.85).cdf).pvalue > 0.001
        assert radius.max() <= 1 + 1e-5
        assert radius.min() >= 0.15 - 1e-5
        assert stats.chisquare(np.bincount(arm[arm < 5], minlength=5)).pvalue > 0.001

    @pytest.mark.parametrize("share", [0.05, 0.5])
    def test_outliers_are_a_cluster_that_fills_the_disc(self, share):
        x, arm = draw("spiral", outliers=share, size=20_000)
        assert stats.binomtest(int((arm == 5).sum()), 20_000, share).pvalue > 0.001
        centre, scale, _ = spiral(x, arm)
        outliers = (x[arm == 5] - centre) / scale
        radius = np.linalg.norm(outliers, axis=1)
        assert stats.kstest(np.square(radius), stats.uniform.cdf).pvalue > 0.001
        assert stats.kstest(angles(outliers, np.zeros(2)), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 0.001

    def test_without_outliers_there_is_no_such_cluster(self):
        assert set(draw("spiral", outliers=0)[1]) == {0, 1, 2, 3, 4}


class TestCrescents:
    def test_three_equal_arcs_around_the_origin_turned_by_thirds(self):
        x, label = draw("crescents", size=20_000)
        found = [circle(x[label == k]) for k in range(3)]
        radii = np.array([radius for _, radius, _ in found])
        assert max(np.abs(off).max() for _, _, off in found) < 1e-5
        np.testing.assert_allclose(radii, radii[0], rtol=1e-4)
        centres = np.stack([centre for centre, _, _ in found])
        middle = centres.mean(0)
        away = np.linalg.norm(centres - middle, axis=1)
        np.testing.assert_allclose(away / radii, 0.4 / 0.6, rtol=1e-4)
        turns = angles(centres, middle)
        np.testing.assert_allclose(np.cos(3 * (turns - turns[0])), 1, atol=1e-6)
        assert len(np.unique(np.round(turns, 3))) == 3
        for k in range(3):
            along = angles(x[label == k], centres[k]) - turns[k]
            along = np.angle(np.exp(1j * along))
            assert stats.kstest(along, stats.uniform(-0.75 * np.pi, 1.5 * np.pi).cdf).pvalue > 0.001
        assert stats.chisquare(np.bincount(label)).pvalue > 0.001

    def test_noise_is_in_units_of_the_outer_radius(self):
        x, label = draw("crescents", 0.01, size=20_000)
        _, radius, off = circle(x[label == 0])
        assert off.std() / (radius / 0.6) == pytest.approx(0.01, rel=0.03)
