"""Region graphs: the sets of variables that a circuit has distributions of, and how each is split in two."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layer", "RegionGraph", "Scope", "poon_domingos", "random_binary_trees", "region_graph"]

Scope = tuple[int, ...]
"""Variables in ascending order."""

Split = tuple[Scope, Scope]


@dataclasses.dataclass(frozen=True)
class Layer:
    """Regions of consecutive indices that are split in equally many ways into regions of lower indices.

    Arguments:
        start: index of the first region.
        left: for each region and each of its partitions the index of one part, (regions, partitions).
        right: of the other part.
    """

    start: int
    left: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def regions(self) -> int:
        """Number of regions."""
        return len(self.left)

    @property
    def partitions(self) -> int:
        """Number of partitions of each region."""
        return int(self.left.shape[1])


@dataclasses.dataclass(frozen=True)
class RegionGraph:
    """Regions in an order in which parts come before wholes: first the leaves, at the end the root.

    Arguments:
        scopes: variables of each region; no two are equal.
        layers: all regions but for the leaves.
    """

    scopes: tuple[Scope, ...]
    layers: tuple[Layer, ...]

    @property
    def variables(self) -> int:
        """Number of variables."""
        return len(self.scopes[-1])

    @property
    def leaves(self) -> tuple[Scope, ...]:
        """Variables of the regions that are not split."""
        return self.scopes[: self.layers[0].start]

    @property
    def partitions(self) -> int:
        """Number of partitions of all regions."""
        return sum(layer.left.size for layer in self.layers)


def region_graph(splits: Mapping[Scope, Iterable[Split]]) -> RegionGraph:
    """Arrange regions in layers; each region is there once, however many partitions it is a part of.

    References:
        Peharz et al. (2020), Einsum networks: fast and scalable learning of tractable probabilistic circuits, Sec 3.3.

    Arguments:
        splits: pairs of disjoint regions that together make up a region; what is not a key is a leaf.

    Raises:
        ValueError: a split is no partition of its region, there is not exactly one root, or it has not all variables.
    """
    partitions = {whole: sorted({_checked(whole, split) for split in found}) for whole, found in splits.items()}
    parts = set(itertools.chain.from_iterable(itertools.chain.from_iterable(partitions.values())))
    roots = sorted(partitions.keys() - parts)
    if len(roots) != 1:
        found = ", ".join(map(str, roots)) or "none"
        raise ValueError(f"a region graph needs exactly one region that is no part of another, found {found}")
    if roots[0] != tuple(range(len(roots[0]))):
        raise ValueError(f"the root needs to have the variables 0 to {len(roots[0]) - 1}, found {roots[0]}")

    @functools.cache
    def height(scope: Scope) -> int:
        return 1 + max((height(part) for split in partitions.get(scope, ()) for part in split), default=-1)

    def rank(scope: Scope) -> tuple[int, int]:
        return height(scope), len(partitions.get(scope, ()))

    scopes = sorted({*parts, *partitions}, key=lambda scope: (*rank(scope), scope))
    place = {scope: index for index, scope in enumerate(scopes)}
    layers = []
    for (high, _), regions in itertools.groupby(scopes, rank):
        if high:
            own = list(regions)
            pairs = np.array([[[place[part] for part in split] for split in partitions[scope]] for scope in own])
            layers.append(Layer(place[own[0]], pairs[..., 0], pairs[..., 1]))
    return RegionGraph(tuple(scopes), tuple(layers))


def _checked(whole: Scope, split: Split) -> Split:
    """Return the two parts of a region in order."""
    first, second = sorted(split)
    if not first or not second or sorted(first + second) != list(whole) or len(set(whole)) != len(whole):
        raise ValueError(f"{first} and {second} are no partition of the region {whole} into two parts")
    return first, second


def poon_domingos(shape: Sequence[int], pieces: Sequence[int]) -> RegionGraph:
    """Return all boxes within a grid whose sides are on its cuts, split at every cut that goes through them.

    References:
        Poon and Domingos (2011), Sum-product networks: a new deep architecture, Sec 4.

    Arguments:
        shape: of the grid; the last axis runs fastest through the variables.
        pieces: number of about equal pieces that the cuts of an axis make; 1 where it is not cut.

    Raises:
        ValueError: an axis has no number of pieces, fewer than one or more than it is long, or no axis is cut.
    """
    if len(pieces) != len(shape) or any(not 1 <= count <= size for size, count in zip(shape, pieces, strict=True)):
        raise ValueError(f"an axis is cut into 1 up to as many pieces as it is long, found {pieces} for {shape}")
    if max(pieces) == 1:
        raise ValueError(f"at least one axis needs to be cut into 2 pieces or more, found {pieces} for {shape}")
    cuts = [[-(-size * cut // count) for cut in range(count + 1)] for size, count in zip(shape, pieces, strict=True)]
    grid = np.arange(math.prod(shape)).reshape(shape)

    def scope(sides: Iterable[tuple[int, int]]) -> Scope:
        inside = tuple(slice(own[start], own[stop]) for own, (start, stop) in zip(cuts, sides, strict=True))
        return tuple(grid[inside].ravel().tolist())

    sides = [list(itertools.combinations(range(count + 1), 2)) for count in pieces]
    scopes = {box: scope(box) for box in itertools.product(*sides)}
    splits: dict[Scope, list[Split]] = {}
    for box, whole in scopes.items():
        for axis, (start, stop) in enumerate(box):
            for cut in range(start + 1, stop):
                low, high = ((*box[:axis], side, *box[axis + 1 :]) for side in ((start, cut), (cut, stop)))
                splits.setdefault(whole, []).append((scopes[low], scopes[high]))
    return region_graph(splits)


def random_binary_trees(variables: int, depth: int, repetitions: int, rng: np.random.Generator) -> RegionGraph:
    """Return random halvings of the variables; what two trees have in common is there once.

    References:
        Peharz et al. (2019), Random sum-product networks: a simple and effective approach to probabilistic deep
        learning, Sec 3.

    Arguments:
        variables: number of variables.
        depth: halvings from the root to a leaf.
        repetitions: number of trees.
        rng: draws the halves.

    Raises:
        ValueError: depth or repetitions is not above 0, or there are too few variables for so many halvings.
    """
    if depth < 1 or repetitions < 1:
        raise ValueError(f"depth and repetitions need to be above 0, found {depth} and {repetitions}")
    if variables < 2**depth:
        raise ValueError(f"trees of depth {depth} need at least {2**depth} variables, found {variables}")
    splits: dict[Scope, list[Split]] = {}
    for _ in range(repetitions):
        level: list[Scope] = [tuple(range(variables))]
        for _ in range(depth):
            halves = [_halves(scope, rng) for scope in level]
            for scope, split in zip(level, halves, strict=True):
                splits.setdefault(scope, []).append(split)
            level = [half for split in halves for half in split]
    return region_graph(splits)


def _halves(scope: Scope, rng: np.random.Generator) -> Split:
    """Return two random halves; the first is smaller where the number is odd."""
    order = rng.permutation(scope).tolist()
    return tuple(sorted(order[: len(order) // 2])), tuple(sorted(order[len(order) // 2 :]))
