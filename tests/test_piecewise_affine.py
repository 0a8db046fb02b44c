"""Exact piecewise affine functions: intervals, knots, preimages, changes of variable, networks of one input."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neumix.intervals import Interval, exact, union
from neumix.piecewise_affine import Piece, PiecewiseAffine, affine_function, fully_connected, piecewise_affine

INF = math.inf
RELU = piecewise_affine([0], [0, 1], [0, 0])
JUMP = piecewise_affine([0, 2], [1, 0, 1], [0, 5, 3])  # z, then 5, then z + 3, which is 5 at 2

fractions = st.fractions(-5, 5, max_denominator=6)
nonzero = fractions.filter(lambda number: number != 0)


@st.composite
def functions(draw, dimension=1):
    knots = sorted(draw(st.sets(fractions, max_size=4)))
    vector = st.lists(fractions, min_size=dimension, max_size=dimension)
    maps = st.lists(vector, min_size=len(knots) + 1, max_size=len(knots) + 1)
    return piecewise_affine(knots, draw(maps), draw(maps))


def interval(low, high, ends="[]"):
    low, high = (end if end in (-INF, INF) else Fraction(end) for end in (low, high))
    return Interval(low, high, ends[0] == "[", ends[1] == "]")


def test_numbers_are_taken_at_their_exact_value():
    assert exact(0.5) == exact(np.float32(0.5)) == Fraction(1, 2)
    assert exact(0.1) != Fraction(1, 10)
    assert type(exact(np.int64(3)).numerator) is int
    for number in (math.nan, INF):
        with pytest.raises(ValueError, match="finite"):
            exact(number)


def test_intervals_intersect_and_move_with_their_ends():
    assert interval(0, 2, "[)").intersection(interval(1, 3, "(]")) == interval(1, 2, "()")
    assert interval(0, 1).intersection(interval(1, 2)) == interval(1, 1)
    assert interval(0, 1, "[)").intersection(interval(1, 2)) is None
    assert interval(0, 1).intersection(interval(2, 3)) is None
    assert interval(-INF, 1, "(]").image(Fraction(-2), Fraction(1)) == interval(-1, INF, "[)")
    assert interval(0, 1, "()").image(Fraction(0), Fraction(7)) == interval(7, 7)
    assert Fraction(1) in interval(0, 1)
    assert Fraction(1) not in interval(0, 1, "[)")
    for ends in (interval(3, 5, "()"), interval(-INF, 5, "()"), interval(3, INF, "()"), interval(-INF, INF, "()")):
        assert ends.inner in ends


def test_a_union_joins_what_touches_and_nothing_else():
    parts = [interval(2, 3, "[)"), interval(0, 1, "[)"), interval(1, 1), interval(3, 4, "(]")]
    assert union(parts) == (interval(0, 1), interval(2, 3, "[)"), interval(3, 4, "(]"))
    assert union([interval(0, 5), interval(1, 2)]) == (interval(0, 5),)
    assert union([interval(0, 1, "()"), interval(0, 1)]) == (interval(0, 1),)
    assert union([]) == ()


@pytest.mark.parametrize("ends", [(1, 0, "[]"), (0, 0, "[)")])
def test_empty_intervals_are_refused(ends):
    with pytest.raises(ValueError, match="empty"):
        interval(*ends)
    with pytest.raises(ValueError, match="cannot contain its end"):
        Interval(-INF, Fraction(0), True, True)


def test_a_jump_belongs_to_the_right_until_the_line_is_mirrored():
    assert not JUMP.is_continuous
    assert RELU.is_continuous
    assert (JUMP.at(-1), JUMP.at(0), JUMP.at(1), JUMP.at(2), JUMP.at(3)) == ((-1,), (5,), (5,), (5,), (6,))
    assert JUMP.knot_values == {(0,), (5,)}
    mirrored = JUMP.reparametrised(-1, 0)
    assert mirrored.knots == (-2, 0)
    assert [mirrored.at(z) for z in (1, 0, -1, -2, -3)] == [JUMP.at(-z) for z in (1, 0, -1, -2, -3)]
    np.testing.assert_array_equal(mirrored([0.0, 0.5, -2.0])[:, 0], [5, -0.5, 5])


def test_equal_functions_are_equal_objects():
    assert piecewise_affine([-1, 0, 3], [0, 0, 1, 1], [0, 0, 0, 0]) == RELU
    assert piecewise_affine([1], [2, 2], [3, 3]) == affine_function(2, 3)
    absolute = piecewise_affine([0], [-1, 1], [0, 0])
    assert absolute.reparametrised(-1, 0) == absolute
    assert RELU.transformed([[1], [0.5]], [0, 1]) == piecewise_affine([0], [[0, 0], [1, 0.5]], [[0, 1], [0, 1]])
    assert JUMP.reparametrised(-1, 0) != JUMP


def test_preimages_are_points_and_intervals():
    assert RELU.preimage(0) == (interval(-INF, 0, "(]"),)
    assert RELU.preimage(0.5) == (interval(0.5, 0.5),)
    assert RELU.preimage(-1) == ()
    assert [RELU.preimage_size(value) for value in (-1, 0, 0.5)] == [0, INF, 1]
    assert JUMP.preimage(5) == (interval(0, 2),)
    assert JUMP.preimage(0) == ()
    assert piecewise_affine([0], [-1, 1], [0, 0]).preimage_size(3) == 2
    curve = affine_function(1, 0).transformed([[1], [2]], [0, 0])
    assert curve.preimage((3, 6)) == (interval(3, 3),)
    assert curve.preimage((3, 5)) == ()
    with pytest.raises(ValueError, match="value has dimension 1, the function's values have 2"):
        curve.preimage(3)


@settings(max_examples=60, deadline=None)
@given(functions(), fractions)
def test_every_point_lies_in_the_preimage_of_its_value(function, z):
    for point in (z, *function.knots):
        parts = function.preimage(function.at(point))
        assert sum(point in part for part in parts) == 1
        for part in parts:
            assert function.at(part.inner) == function.at(point)


@settings(max_examples=60, deadline=None)
@given(functions(dimension=2), nonzero, fractions, fractions)
def test_changes_of_variable_and_of_value(function, slope, offset, z):
    changed = function.reparametrised(slope, offset)
    assert changed.at(z) == function.at(slope * z + offset)
    assert changed.reparametrised(1 / slope, -offset / slope) == function
    assert len(changed.knots) == len(function.knots)
    first, second = function.at(z)
    assert function.transformed([[slope, 1], [0, 2], [offset, 0]], [0, 0, 1]).at(z) == (
        slope * first + second,
        2 * second,
        offset * first + 1,
    )
    assert function.rectified(Fraction(1, 3)).at(z) == tuple(x if x > 0 else x / 3 for x in (first, second))


@settings(max_examples=40, deadline=None)
@given(functions(dimension=2))
def test_floating_point_values_agree_with_exact_ones(function):
    function = function.reparametrised(-1, 0)
    points = [*np.linspace(-6, 6, 25), *(float(knot) for knot in function.knots if float(knot) == knot)]
    expected = [[float(x) for x in function.at(z)] for z in points]
    np.testing.assert_allclose(function(points), expected, rtol=1e-12, atol=1e-12)
    assert function(np.zeros((3, 4))).shape == (3, 4, 2)


def forward(weights, biases, leak, z):
    """Run a network on points (N,)."""
    values = np.asarray(z)[:, None]
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        values = np.where(values > 0, values, leak * values) if index else values
        values = values @ weight.T + bias
    return values


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([(1, 1), (1, 5, 2), (1, 3, 4, 2, 1)]), st.sampled_from([0.0, 0.01, 0.5]))
def test_a_network_is_the_function_that_it_computes(seed, widths, leak):
    rng = np.random.default_rng(seed)
    weights = [rng.normal(size=(after, before)) for before, after in itertools.pairwise(widths)]
    biases = [rng.normal(size=width) for width in widths[1:]]
    function = fully_connected(weights, biases, leak)
    points = np.concatenate([rng.normal(size=50) * 5, [float(knot) for knot in function.knots]])
    np.testing.assert_allclose(function(points), forward(weights, biases, leak, points), atol=1e-9)
    assert function.is_continuous
    for low, high in itertools.pairwise(function.knots):
        middle = function(float(low + high) / 2)
        np.testing.assert_allclose(middle, (function(float(low)) + function(float(high))) / 2, atol=1e-9)


def test_knots_of_known_networks():
    tent = ([[1], [1], [1]], [[2, -4, 2]])
    shifts = ([0, Fraction(-1, 2), -1], [0])
    assert fully_connected(tent, shifts).knots == (0, Fraction(1, 2), 1)
    # A tent of a tent of a tent: the input of each is the output of the one before.
    folded = np.array(tent[0]) @ np.array(tent[1])
    sawtooth = fully_connected([tent[0], folded, folded, tent[1]], [shifts[0], shifts[0], shifts[0], shifts[1]])
    assert sawtooth.knots == tuple(Fraction(k, 8) for k in range(9))
    assert [sawtooth.at(Fraction(k, 8)) for k in range(9)] == [(k % 2,) for k in range(9)]
    assert sawtooth.preimage_size(Fraction(1, 3)) == 8
    assert fully_connected([[[1], [-1]], [[1, -1]]], [[0, 0], [0]]) == affine_function(1, 0)
    assert fully_connected([[[1]], [[3]]], [[0], [1]], leak=1) == affine_function(3, 1)


def test_wrong_functions_are_refused():
    with pytest.raises(ValueError, match="knots need to increase"):
        piecewise_affine([1, 1], [0, 0, 0], [0, 0, 0])
    with pytest.raises(ValueError, match="1 knots make 2 pieces, found 1 slopes"):
        piecewise_affine([1], [0], [0, 0])
    with pytest.raises(ValueError, match="same dimension"):
        piecewise_affine([0], [[1, 1], [1]], [[0, 0], [0]])
    with pytest.raises(ValueError, match="slope is zero"):
        RELU.reparametrised(0, 1)
    with pytest.raises(ValueError, match=r"need a weight \(k, 1\) and a bias \(k,\), found \(1, 2\), \(1,\)"):
        RELU.transformed([[1, 2]], [0])
    with pytest.raises(ValueError, match="weight and a bias for each layer"):
        fully_connected([[[1]]], [])
    with pytest.raises(ValueError, match="leak is -1"):
        fully_connected([[[1]]], [[0]], leak=-1)


@pytest.mark.parametrize(
    ("domains", "message"),
    [
        ([interval(0, INF, "[)")], "do not cover the line"),
        ([interval(-INF, 0, "(]"), interval(0, INF, "[)")], "overlap or leave a gap"),
        ([interval(-INF, 0, "()"), interval(1, INF, "[)")], "overlap or leave a gap"),
        ([interval(-INF, 0, "()"), interval(0, 0), interval(0, INF, "()")], "single point"),
    ],
)
def test_pieces_that_do_not_share_the_line_are_refused(domains, message):
    with pytest.raises(ValueError, match=message):
        PiecewiseAffine(tuple(Piece(domain, (Fraction(k),), (Fraction(0),)) for k, domain in enumerate(domains)))
