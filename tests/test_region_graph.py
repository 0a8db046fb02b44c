"""Region graphs: parts are disjoint and complete, regions are there once, Poon-Domingos has all cuts, trees halve."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neumix.region_graph import RegionGraph, poon_domingos, random_binary_trees, region_graph
from neumix.seeding import numpy_rng


def rng(seed: int = 0) -> np.random.Generator:
    return numpy_rng(seed, "halvings")


def partitions(graph: RegionGraph) -> list[tuple[int, int, int]]:
    """Return whole and parts of every partition as indices of regions."""
    return [
        (layer.start + row, left, right)
        for layer in graph.layers
        for row in range(layer.regions)
        for left, right in zip(layer.left[row].tolist(), layer.right[row].tolist(), strict=True)
    ]


def check(graph: RegionGraph, variables: int) -> None:
    """What makes circuits on a graph smooth and decomposable, and their evaluation layer by layer possible."""
    found = partitions(graph)
    assert graph.scopes[-1] == tuple(range(variables))
    assert graph.variables == variables
    assert len(set(graph.scopes)) == len(graph.scopes)
    assert all(scope == tuple(sorted(scope)) for scope in graph.scopes)
    for whole, left, right in found:
        assert sorted(graph.scopes[left] + graph.scopes[right]) == list(graph.scopes[whole])
    assert len({(whole, frozenset(parts)) for whole, *parts in found}) == len(found) == graph.partitions
    sizes = [layer.regions for layer in graph.layers]
    ends = list(itertools.accumulate(sizes, initial=len(graph.leaves)))
    assert [layer.start for layer in graph.layers] == ends[:-1]
    assert graph.layers[-1].start == len(graph.scopes) - 1
    for layer in graph.layers:
        assert layer.left.shape == layer.right.shape == (layer.regions, layer.partitions)
        assert max(layer.left.max(), layer.right.max()) < layer.start
    used = {part for _, *parts in found for part in parts}
    assert used == set(range(len(graph.scopes) - 1)), "every region but the root is part of another"


GRIDS = (
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=3)
    .map(lambda axes: [(size, min(size, pieces)) for size, pieces in axes])
    .filter(lambda axes: 1 < math.prod(pieces for _, pieces in axes) <= 12)
)


class TestPoonDomingos:
    @settings(max_examples=40, deadline=None)
    @given(GRIDS)
    def test_it_has_every_cut_of_every_box_once(self, axes):
        shape, pieces = zip(*axes, strict=True)
        graph = poon_domingos(shape, pieces)
        check(graph, math.prod(shape))
        assert len(graph.leaves) == math.prod(pieces)
        assert sorted(itertools.chain(*graph.leaves)) == list(range(math.prod(shape)))
        assert len(graph.scopes) == math.prod(count * (count + 1) // 2 for count in pieces)
        place = {scope: index for index, scope in enumerate(graph.scopes)}
        every = {
            (place[whole], frozenset((place[one], place[other])))
            for one, other in itertools.combinations(graph.scopes, 2)
            if not set(one) & set(other) and (whole := tuple(sorted(one + other))) in place
        }
        assert {(whole, frozenset(parts)) for whole, *parts in partitions(graph)} == every

    @settings(max_examples=40, deadline=None)
    @given(GRIDS)
    def test_leaves_are_boxes_of_about_equal_sides(self, axes):
        shape, pieces = zip(*axes, strict=True)
        for leaf in poon_domingos(shape, pieces).leaves:
            inside = [np.unique(axis) for axis in np.unravel_index(leaf, shape)]
            assert math.prod(map(len, inside)) == len(leaf)
            for side, (size, count) in zip(inside, axes, strict=True):
                assert np.array_equal(side, np.arange(side[0], side[0] + len(side)))
                assert len(side) in (size // count, -(-size // count))

    @pytest.mark.parametrize(("pieces", "regions", "count"), [(4, 100, 200), (7, 784, 3136)])
    def test_images_of_digits(self, pieces, regions, count):
        graph = poon_domingos((28, 28, 1), (pieces, pieces, 1))
        check(graph, 784)
        assert (len(graph.scopes), graph.partitions) == (regions, count)
        side = 28 // pieces
        assert graph.leaves[0] == tuple(28 * row + column for row in range(side) for column in range(side))

    def test_channels_stay_together(self):
        graph = poon_domingos((2, 1, 3), (2, 1, 1))
        assert graph.scopes == ((0, 1, 2), (3, 4, 5), (0, 1, 2, 3, 4, 5))

    @pytest.mark.parametrize(
        ("shape", "pieces", "said"),
        [
            ((4, 4), (2,), "found \\(2,\\) for \\(4, 4\\)"),
            ((4, 4), (2, 5), "up to as many pieces as it is long"),
            ((4, 4), (0, 2), "up to as many pieces as it is long"),
            ((4, 4), (1, 1), "at least one axis needs to be cut"),
        ],
    )
    def test_refusals(self, shape, pieces, said):
        with pytest.raises(ValueError, match=said):
            poon_domingos(shape, pieces)


class TestRandomBinaryTrees:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 3), st.integers(1, 5), st.integers(0, 12), st.integers(0, 1000))
    def test_they_halve_the_variables(self, depth, repetitions, more, seed):
        variables = 2**depth + more
        graph = random_binary_trees(variables, depth, repetitions, rng(seed))
        check(graph, variables)
        assert graph.partitions <= repetitions * (2**depth - 1)
        for _, left, right in partitions(graph):
            assert abs(len(graph.scopes[left]) - len(graph.scopes[right])) <= 1
        covered = np.bincount(list(itertools.chain(*graph.leaves)), minlength=variables)
        assert covered.min() >= 1
        assert covered.max() <= repetitions

    def test_large_ones_have_nothing_in_common(self):
        graph = random_binary_trees(784, 3, 20, rng())
        check(graph, 784)
        assert (len(graph.scopes), graph.partitions, len(graph.leaves)) == (1 + 20 * 14, 20 * 7, 20 * 8)
        assert {len(leaf) for leaf in graph.leaves} == {98}
        assert [(layer.regions, layer.partitions) for layer in graph.layers] == [(80, 1), (40, 1), (1, 20)]

    def test_small_ones_share_regions(self):
        graph = random_binary_trees(2, 1, 50, rng())
        assert graph.scopes == ((0,), (1,), (0, 1))
        assert graph.partitions == 1
        graph = random_binary_trees(4, 2, 200, rng())
        check(graph, 4)
        assert (len(graph.scopes), graph.partitions) == (4 + 6 + 1, 6 + 3)

    def test_the_generator_decides(self):
        found = [random_binary_trees(16, 2, 2, rng(seed)).scopes for seed in (0, 0, 1)]
        assert found[0] == found[1]
        assert found[0] != found[2]

    @pytest.mark.parametrize(
        ("variables", "depth", "repetitions", "said"),
        [(3, 2, 1, "at least 4 variables, found 3"), (8, 0, 1, "above 0"), (8, 2, 0, "found 2 and 0")],
    )
    def test_refusals(self, variables, depth, repetitions, said):
        with pytest.raises(ValueError, match=said):
            random_binary_trees(variables, depth, repetitions, rng())


class TestRegionGraph:
    def test_layers_are_of_regions_alike(self):
        splits = {
            (0, 1, 2, 3): [((0, 1), (2, 3)), ((0,), (1, 2, 3))],
            (1, 2, 3): [((1,), (2, 3)), ((3,), (1, 2))],
            (2, 3): [((2,), (3,))],
            (1, 2): [((1,), (2,))],
        }
        graph = region_graph(splits)
        check(graph, 4)
        assert graph.leaves == ((0,), (0, 1), (1,), (2,), (3,))
        assert [(layer.regions, layer.partitions) for layer in graph.layers] == [(2, 1), (1, 2), (1, 2)]

    def test_a_partition_given_twice_counts_once(self):
        graph = region_graph({(0, 1): [((0,), (1,)), ((1,), (0,))]})
        assert graph.partitions == 1

    @pytest.mark.parametrize(
        ("splits", "said"),
        [
            ({(0, 1, 2): [((0, 1), (1, 2))]}, "no partition of the region \\(0, 1, 2\\)"),
            ({(0, 1, 2): [((0,), (1,))]}, "no partition of the region"),
            ({(0, 1): [((), (0, 1))]}, "no partition of the region"),
            ({(1, 0): [((0,), (1,))]}, "no partition of the region \\(1, 0\\)"),
            ({(0, 0): [((0,), (0,))]}, "no partition of the region"),
            ({(0, 1): [((0,), (1,))], (2, 3): [((2,), (3,))]}, "exactly one region .* found \\(0, 1\\), \\(2, 3\\)"),
            ({}, "exactly one region .* found none"),
            ({(1, 2): [((1,), (2,))]}, "variables 0 to 1, found \\(1, 2\\)"),
        ],
    )
    def test_refusals(self, splits, said):
        with pytest.raises(ValueError, match=said):
            region_graph(splits)
