"""Piecewise affine functions of one variable, exact in rational numbers."""

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neumix.intervals import Interval, Number, exact, union

__all__ = [
    "Piece",
    "PiecewiseAffine",
    "Vector",
    "affine_function",
    "fully_connected",
    "piecewise_affine",
]

Vector = tuple[Fraction, ...]
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Piece:
    """Affine map z -> slope z + offset on an interval.

    Arguments:
        domain: where it holds.
        slope: (n,).
        offset: (n,).
    """

    domain: Interval
    slope: Vector
    offset: Vector

    @property
    def is_constant(self) -> bool:
        """Whether the slope vanishes."""
        return not any(self.slope)

    def at(self, z: Fraction) -> Vector:
        """Return the value at `z`, which need not lie in the domain."""
        return tuple(a * z + b for a, b in zip(self.slope, self.offset, strict=True))

    def solve(self, value: Vector) -> Interval | None:
        """Return the part of the domain that is mapped to `value`: a point, the domain or nothing."""
        if self.is_constant:
            return self.domain if self.offset == value else None
        k = next(k for k, a in enumerate(self.slope) if a)
        z = (value[k] - self.offset[k]) / self.slope[k]
        return Interval(z, z, True, True) if z in self.domain and self.at(z) == value else None


@dataclasses.dataclass(frozen=True)
class PiecewiseAffine:
    r"""Function of one variable that is affine on each of finitely many intervals, continuous or not.

    $$ f : \mathbb{R} \to \mathbb{R}^n, \quad f(z) = a_i z + b_i \text{ on the interval } I_i $$

    All arithmetic is in fractions, so nothing here has a tolerance: floats that come in are taken for the binary
    fractions that they are. Two functions are equal as objects exactly if they are equal as functions.

    References:
        Kivva et al. 2022, assumption (F1).

    Arguments:
        pieces: from left to right; their domains are a partition of the line into intervals longer than a point.
            Neighbours with the same map are merged, and a knot where the function is continuous goes to the right.

    Raises:
        ValueError: the domains are no such partition, or the values differ in dimension.
    """

    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        _check_partition(self.pieces)
        object.__setattr__(self, "pieces", _canonical(self.pieces))

    @property
    def knots(self) -> Vector:
        """Points where the function is not affine, from left to right."""
        return tuple(piece.domain.low for piece in self.pieces[1:] if isinstance(piece.domain.low, Fraction))

    @property
    def dimension(self) -> int:
        """Dimension n of the values."""
        return len(self.pieces[0].slope)

    @property
    def knot_values(self) -> frozenset[Vector]:
        """Limits of the function at its knots, from the left and from the right."""
        neighbours = zip(pairwise(self.pieces), self.knots, strict=True)
        return frozenset(piece.at(knot) for both, knot in neighbours for piece in both)

    @property
    def is_continuous(self) -> bool:
        """Whether the limits from the left and from the right agree at every knot."""
        return all(
            left.at(knot) == right.at(knot)
            for (left, right), knot in zip(pairwise(self.pieces), self.knots, strict=True)
        )

    def at(self, z: Number) -> Vector:
        """Return the exact value (n,) at one point."""
        point = exact(z)
        return next(piece.at(point) for piece in self.pieces if point in piece.domain)

    def __call__(self, z: ArrayLike) -> Floats:
        """Return the values (..., n) at points (...), in floating point."""
        points = np.asarray(z, dtype=np.float64)
        values = np.full((*points.shape, self.dimension), np.nan)
        for piece in self.pieces:
            low, high = float(piece.domain.low), float(piece.domain.high)
            inside = (points > low) & (points < high)
            inside |= (piece.domain.low_closed & (points == low)) | (piece.domain.high_closed & (points == high))
            values[inside] = points[inside, None] * _floats(piece.slope) + _floats(piece.offset)
        return values

    def preimage(self, value: Number | Sequence[Number]) -> tuple[Interval, ...]:
        """Return all points that are mapped to `value`, as disjoint intervals; a single point is one too.

        Arguments:
            value: a number where n = 1, otherwise (n,).

        Raises:
            ValueError: the value has another dimension than the function.
        """
        wanted = _vector(value)
        if len(wanted) != self.dimension:
            raise ValueError(f"value has dimension {len(wanted)}, the function's values have {self.dimension}")
        return union(part for piece in self.pieces if (part := piece.solve(wanted)))

    def preimage_size(self, value: Number | Sequence[Number]) -> float:
        """Return the number of points that are mapped to `value`, infinity where a whole interval is."""
        preimage = self.preimage(value)
        return len(preimage) if all(part.is_point for part in preimage) else math.inf

    def transformed(self, weight: ArrayLike, bias: ArrayLike) -> "PiecewiseAffine":
        """Return z -> W f(z) + b.

        Arguments:
            weight: W, (k, n).
            bias: b, (k,).

        Raises:
            ValueError: the shapes do not fit.
        """
        matrix, shift = np.asarray(weight, dtype=object), np.asarray(bias, dtype=object)
        if matrix.ndim != 2 or matrix.shape[1] != self.dimension or shift.shape != matrix.shape[:1]:
            raise ValueError(
                f"need a weight (k, {self.dimension}) and a bias (k,), found {matrix.shape}, {shift.shape}"
            )
        rows, shifts = [_vector(row) for row in matrix], _vector(shift)
        return PiecewiseAffine(
            tuple(
                Piece(
                    piece.domain,
                    tuple(_dot(row, piece.slope) for row in rows),
                    tuple(_dot(row, piece.offset) + b for row, b in zip(rows, shifts, strict=True)),
                )
                for piece in self.pieces
            )
        )

    def reparametrised(self, slope: Number, offset: Number) -> "PiecewiseAffine":
        """Return z -> f(slope z + offset).

        Raises:
            ValueError: the slope is zero.
        """
        a, b = exact(slope), exact(offset)
        if a == 0:
            raise ValueError("slope is zero; a change of variable needs one that is not")
        pieces = [
            Piece(piece.domain.image(1 / a, -b / a), tuple(a * s for s in piece.slope), piece.at(b))
            for piece in self.pieces
        ]
        return PiecewiseAffine(tuple(pieces if a > 0 else reversed(pieces)))

    def rectified(self, leak: Number = 0) -> "PiecewiseAffine":
        """Return the function with every coordinate x of its value replaced by x for x > 0 and by leak x otherwise.

        References:
            Kivva et al. 2022, Eq. (31).
        """
        return PiecewiseAffine(tuple(part for piece in self.pieces for part in _rectify(piece, exact(leak))))


def affine_function(slope: Number, offset: Number) -> PiecewiseAffine:
    """Return z -> slope z + offset."""
    return piecewise_affine([], [slope], [offset])


def piecewise_affine(
    knots: Sequence[Number],
    slopes: Sequence[Number | Sequence[Number]],
    offsets: Sequence[Number | Sequence[Number]],
) -> PiecewiseAffine:
    """Return the function with the given maps between its knots; a knot belongs to the piece on its right.

    Arguments:
        knots: K increasing numbers.
        slopes: K + 1 numbers or vectors (n,).
        offsets: K + 1 numbers or vectors (n,); values are slope z + offset.

    Raises:
        ValueError: the knots do not increase, or there are not as many pieces as they make.
    """
    ends: list[Fraction | float] = [-math.inf, *(exact(knot) for knot in knots), math.inf]
    if any(low >= high for low, high in pairwise(ends)):
        raise ValueError(f"knots need to increase, found {[str(knot) for knot in knots]}")
    if not len(slopes) == len(offsets) == len(knots) + 1:
        raise ValueError(
            f"{len(knots)} knots make {len(knots) + 1} pieces, found {len(slopes)} slopes and {len(offsets)} offsets"
        )
    domains = [Interval(low, high, isinstance(low, Fraction), False) for low, high in pairwise(ends)]
    maps = zip(domains, map(_vector, slopes), map(_vector, offsets), strict=True)
    return PiecewiseAffine(tuple(Piece(*parts) for parts in maps))


def fully_connected(weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], leak: Number = 0) -> PiecewiseAffine:
    """Return a fully connected network of one input as a function, with the exact points where it bends.

    Arguments:
        weights: of each layer, (n_i, n_(i-1)) with n_0 = 1; every layer but the last is followed by the activation.
        biases: of each layer, (n_i,).
        leak: slope of the activation for negative numbers; 0 for ReLU, positive for leaky ReLU.

    Raises:
        ValueError: there is no layer, shapes do not fit, or the leak is negative.

    References:
        Kivva et al. 2022, Definition H.2.
    """
    if not weights or len(weights) != len(biases):
        raise ValueError(f"need a weight and a bias for each layer, found {len(weights)} and {len(biases)}")
    if exact(leak) < 0:
        raise ValueError(f"leak is {leak}; need zero (ReLU) or a positive slope (leaky ReLU)")
    function = affine_function(1, 0)
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        hidden = function.rectified(leak) if index else function
        function = hidden.transformed(weight, bias)
    return function


def _vector(value: Any) -> Vector:
    """Return a number as (1,) and a sequence as (n,)."""
    return tuple(exact(item) for item in value) if np.ndim(value) else (exact(value),)


def _floats(vector: Vector) -> Floats:
    return np.array([float(item) for item in vector])


def _dot(row: Vector, column: Vector) -> Fraction:
    return sum((a * b for a, b in zip(row, column, strict=True)), Fraction(0))


def _check_partition(pieces: Sequence[Piece]) -> None:
    if not pieces or len({len(part) for piece in pieces for part in (piece.slope, piece.offset)}) != 1:
        raise ValueError("need pieces whose slopes and offsets all have the same dimension")
    if pieces[0].domain.low != -math.inf or pieces[-1].domain.high != math.inf:
        raise ValueError("the domains of the pieces do not cover the line; the outer two need to be unbounded")
    for left, right in pairwise(piece.domain for piece in pieces):
        if left.high != right.low or left.high_closed == right.low_closed:
            raise ValueError(f"the domains of two neighbours overlap or leave a gap at {left.high} or {right.low}")
    if any(piece.domain.is_point for piece in pieces):
        raise ValueError("the domain of a piece is a single point; need intervals that are longer")


def _canonical(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """Merge neighbours with the same map and give every knot without a jump to the piece on its right."""
    result = [pieces[0]]
    for piece in pieces[1:]:
        last, domain = result[-1], piece.domain
        if (last.slope, last.offset) == (piece.slope, piece.offset):
            wider = Interval(last.domain.low, domain.high, last.domain.low_closed, domain.high_closed)
            result[-1] = dataclasses.replace(last, domain=wider)
            continue
        closed = domain.low_closed
        if isinstance(domain.low, Fraction) and last.at(domain.low) == piece.at(domain.low):
            closed = True
            result[-1] = dataclasses.replace(last, domain=dataclasses.replace(last.domain, high_closed=False))
        result.append(dataclasses.replace(piece, domain=dataclasses.replace(domain, low_closed=closed)))
    return tuple(result)


def _rectify(piece: Piece, leak: Fraction) -> list[Piece]:
    """Cut a piece where a coordinate changes sign and multiply the negative coordinates by `leak`."""
    roots = {-b / a for a, b in zip(piece.slope, piece.offset, strict=True) if a}
    cuts = sorted(root for root in roots if piece.domain.low < root < piece.domain.high)
    ends = [piece.domain.low, *cuts, piece.domain.high]
    parts = []
    for index, (low, high) in enumerate(pairwise(ends)):
        first, last = index == 0, index == len(cuts)
        domain = Interval(low, high, piece.domain.low_closed or not first, piece.domain.high_closed and last)
        factors = [Fraction(1) if x > 0 else leak for x in piece.at(domain.inner)]
        slope = tuple(factor * a for factor, a in zip(factors, piece.slope, strict=True))
        offset = tuple(factor * b for factor, b in zip(factors, piece.offset, strict=True))
        parts.append(Piece(domain, slope, offset))
    return parts
