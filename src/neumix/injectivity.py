"""How far a decoder is injective, and the laws that it makes of Gaussian mixtures on the line."""

import dataclasses
import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.special import ndtr

from neumix.gaussian_mixture import GaussianMixture
from neumix.intervals import Interval, Number, exact, union
from neumix.metrics.mixture_alignment import l2_discrepancy, moments
from neumix.piecewise_affine import Piece, PiecewiseAffine, Vector

__all__ = [
    "Injectivity",
    "affine_maps_between",
    "continued_density",
    "has_full_image_dimension",
    "injectivity",
    "leaky_relu_network_injectivity",
    "preimage_count",
    "pushforward_cdf",
    "relu_network_injectivity",
]

Floats = NDArray[np.float64]

_SAME_LAW = 1e-6  # discrepancy of two mixtures up to which they count as one; rounding leaves about 1e-8
_REACH = 12.0  # standard deviations from a mean beyond which a Gaussian has no mass in floating point


@dataclasses.dataclass(frozen=True)
class Injectivity:
    """Which of the assumptions on the decoder hold; each implies those above it.

    References:
        Kivva et al. 2022, Definition 3.1, Remark 3.1.

    Arguments:
        weakly_injective: (F2), some open part of the image has one preimage for each point, and almost no point of
            the image has infinitely many.
        observably_injective: (F3), almost every point of the image has one preimage.
        injective: (F4), every point of the image has one preimage.
    """

    weakly_injective: bool
    observably_injective: bool
    injective: bool


def injectivity(function: PiecewiseAffine) -> Injectivity:
    """Decide the assumptions for a function of one variable, without rounding.

    "Almost" refers to length within the image. An image that is a finite set of points has no length; there points are
    counted, so that a function constant on every piece satisfies none of the assumptions.

    References:
        Kivva et al. 2022, Definition 3.1.
    """
    pieces = function.pieces
    moving = [index for index, piece in enumerate(pieces) if not piece.is_constant]
    repeated = {
        index: union(
            part
            for other, piece in enumerate(pieces)
            if other != index and (part := _shared(pieces[index], piece)) is not None
        )
        for index in moving
    }
    return Injectivity(
        weakly_injective=any(not _covers(parts, pieces[index].domain) for index, parts in repeated.items()),
        observably_injective=bool(moving) and all(part.is_point for parts in repeated.values() for part in parts),
        injective=len(moving) == len(pieces) and not any(repeated.values()),
    )


def leaky_relu_network_injectivity(weights: Sequence[ArrayLike]) -> Literal["injective", "unknown"]:
    """Return what follows from the weights of a leaky ReLU network alone.

    Weights of full column rank make every layer injective, and so is the activation. Almost all weights have it
    if no layer is narrower than the one before.

    References:
        Kivva et al. 2022, Corollary H.4.

    Arguments:
        weights: of each layer, (n_i, n_(i-1)); their rank is decided in floating point. Biases play no role.

    Raises:
        ValueError: there is no layer, or shapes do not fit.
    """
    return "injective" if all(_has_full_column_rank(weight) for weight in _layers(weights)) else "unknown"


def relu_network_injectivity(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], rng: np.random.Generator, draws: int = 1000
) -> Literal["injective", "observably injective", "unknown"]:
    """Return what can be concluded of a ReLU network whose image has the full dimension m of its input.

    The network is observably injective if every hidden layer but the last has m units and the weight of the output
    has full column rank. Up to the last hidden layer only points with all units active keep the dimension; there the
    pattern of active units tells pieces of full dimension apart; the output is injective.

    Corollary H.2 asks only that no layer be narrower than the one before. That is not enough: with h1(x) = (x, -x),
    h2(u, v) = (u + v, -u - 2v) and h3 the identity the network is x -> (|x|, 0), not even weakly injective. Nor is
    it an exception: no network with weights and biases near these is observably injective.

    References:
        Kivva et al. 2022, Corollary H.2 (with the stronger condition on the widths given above).

    Arguments:
        weights: of each layer, (n_i, n_(i-1)); ranks are decided in floating point.
        biases: of each layer, (n_i,).
        rng: for the search described at `has_full_image_dimension`.
        draws: number of points tried.

    Raises:
        ValueError: there is no layer, or shapes do not fit.
    """
    layers = _layers(weights)
    if len(layers) == 1:
        return "injective" if _has_full_column_rank(layers[0]) else "unknown"
    inputs = layers[0].shape[1]
    keeps_dimension = all(len(layer) == inputs for layer in layers[:-2]) and _has_full_column_rank(layers[-1])
    found = keeps_dimension and has_full_image_dimension(weights, biases, rng, draws)
    return "observably injective" if found else "unknown"


def has_full_image_dimension(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], rng: np.random.Generator, draws: int = 1000
) -> bool:
    """Return whether a point is found where a ReLU network's Jacobian has the rank m of its input.

    Such a point proves, up to the rounding of the rank, that the image has dimension m. That none is found proves
    nothing: the region may be small or far out.

    Arguments:
        weights: of each layer, (n_i, n_(i-1)).
        biases: of each layer, (n_i,).
        rng: draws points in all directions, at distances of 0.1 to 100 or so.
        draws: number of points tried.

    Raises:
        ValueError: there is no layer, or shapes do not fit.
    """
    layers = _layers(weights)
    shifts = [np.asarray(bias, dtype=np.float64) for bias in biases]
    if [shift.shape for shift in shifts] != [(len(layer),) for layer in layers]:
        raise ValueError(f"need a bias for each unit of each layer, found shapes {[shift.shape for shift in shifts]}")
    inputs = layers[0].shape[1]
    for _ in range(draws):
        point = rng.standard_normal((inputs,)) * 10 ** rng.uniform(-1, 2)
        if np.linalg.matrix_rank(_jacobian(layers, shifts, point)) == inputs:
            return True
    return False


def continued_density(function: PiecewiseAffine, prior: GaussianMixture, x0: Number) -> tuple[GaussianMixture, ...]:
    """Return the terms of the function that continues the density of f(Z) from near x0 to the whole line.

    Near x0 the density is the sum of the prior's images under the affine maps of the pieces through x0, one term for
    each. A sum of Gaussian densities is analytic, so it is its own continuation.

    References:
        Kivva et al. 2022, Eq. (13).

    Arguments:
        function: f, with values of dimension 1.
        prior: law of Z, of dimension 1.
        x0: a generic value: not the limit of f at a knot, where the density may jump, nor the value on a plateau.

    Raises:
        ValueError: x0 is not generic or not a value of the function, or a dimension is not 1.
    """
    _check_line(function, prior)
    value = (exact(x0),)
    plateaus = {piece.offset for piece in function.pieces if piece.is_constant}
    if value in function.knot_values | plateaus:
        raise ValueError(f"x0 = {x0} is not generic: a knot or a plateau has this value; choose another near by")
    pieces = [piece for piece in function.pieces if piece.solve(value)]
    if not pieces:
        raise ValueError(f"x0 = {x0} is not a value of the function; choose one from its image")
    return tuple(prior.pushforward([[float(p.slope[0])]], [float(p.offset[0])]) for p in pieces)


def preimage_count(function: PiecewiseAffine, prior: GaussianMixture, x0: Number) -> float:
    """Return the number of points that are mapped to x0, read off the density of f(Z) near x0.

    It is the mass of the density's continuation from near x0, integrated numerically; `PiecewiseAffine.preimage_size`
    counts the same points one by one.

    References:
        Kivva et al. 2022, Lemma C.5, Eq. (11).

    Arguments:
        function: f, with values of dimension 1.
        prior: law of Z, of dimension 1.
        x0: a generic value, see `continued_density`.

    Raises:
        ValueError: x0 is not generic or not a value of the function, or a dimension is not 1.
    """
    terms = continued_density(function, prior, x0)

    def density(x: float) -> float:
        return float(sum(np.exp(term.log_prob([x])) for term in terms))

    steps = np.array([-_REACH, -3, -1, 0, 1, 3, _REACH])
    edges = np.unique([term.means + np.sqrt(term.covariances[:, 0]) * steps for term in terms])
    return float(sum(quad(density, low, high)[0] for low, high in itertools.pairwise(edges)))


def pushforward_cdf(function: PiecewiseAffine, prior: GaussianMixture, values: ArrayLike) -> Floats:
    """Return the probability of f(Z) <= value, (...), from the intervals that f maps there.

    Arguments:
        function: f, with values of dimension 1.
        prior: law of Z, of dimension 1.
        values: (...).

    Raises:
        ValueError: a dimension is not 1.
    """
    _check_line(function, prior)
    array = np.asarray(values, dtype=np.float64)
    total = np.zeros(array.shape)
    for piece in function.pieces:
        low, high = float(piece.domain.low), float(piece.domain.high)
        slope, offset = float(piece.slope[0]), float(piece.offset[0])
        if slope == 0:
            total += (offset <= array) * (_cdf(prior, high) - _cdf(prior, low))
            continue
        ends = np.clip((array - offset) / slope, low, high)
        total += _cdf(prior, ends) - _cdf(prior, low) if slope > 0 else _cdf(prior, high) - _cdf(prior, ends)
    return total


def affine_maps_between(p: GaussianMixture, q: GaussianMixture) -> tuple[tuple[float, float], ...]:
    """Return all z -> a z + b, as pairs (a, b), that take one mixture on the line to another.

    Mean and variance leave two candidates, one increasing and one decreasing; each is taken or not.

    Raises:
        ValueError: a mixture is not of dimension 1.
    """
    (mean_p, sd_p), (mean_q, sd_q) = _mean_and_sd(p), _mean_and_sd(q)
    candidates = [(slope, mean_q - slope * mean_p) for slope in (sd_q / sd_p, -sd_q / sd_p)]
    return tuple((a, b) for a, b in candidates if l2_discrepancy(p.pushforward([[a]], [b]), q) < _SAME_LAW)


def _shared(piece: Piece, other: Piece) -> Interval | None:
    """Return the points of a piece that is not constant whose value another piece takes too."""
    k = next(k for k, slope in enumerate(piece.slope) if slope)
    ratio = other.slope[k] / piece.slope[k]
    shift = (other.offset[k] - piece.offset[k]) / piece.slope[k]
    if all(b == ratio * a for a, b in zip(piece.slope, other.slope, strict=True)):
        aligned = piece.at(shift) == other.offset
        return other.domain.image(ratio, shift).intersection(piece.domain) if aligned else None
    z = _crossing(piece, other, k)
    return Interval(z, z, True, True) if z in piece.domain and other.solve(piece.at(z)) else None


def _crossing(piece: Piece, other: Piece, first: int) -> Fraction:
    """Return where the line of a piece meets the other's, which is not parallel, in two of the coordinates."""

    def turn(vector: Vector, k: int) -> Fraction:
        return vector[first] * other.slope[k] - vector[k] * other.slope[first]

    second = next(k for k in range(len(piece.slope)) if turn(piece.slope, k))
    gap = tuple(b - a for a, b in zip(piece.offset, other.offset, strict=True))
    return turn(gap, second) / turn(piece.slope, second)


def _covers(parts: Sequence[Interval], domain: Interval) -> bool:
    """Return whether disjoint parts of an interval leave at most finitely many of its points."""
    longer = [part for part in parts if not part.is_point]
    ends = [domain.low, *(end for part in longer for end in (part.low, part.high)), domain.high]
    return all(ends[index] == ends[index + 1] for index in range(0, len(ends), 2))


def _layers(weights: Sequence[ArrayLike]) -> list[Floats]:
    layers = [np.asarray(weight, dtype=np.float64) for weight in weights]
    if not layers or any(layer.ndim != 2 for layer in layers):
        raise ValueError(f"need a matrix for each layer, found shapes {[layer.shape for layer in layers]}")
    for before, after in itertools.pairwise(layers):
        if after.shape[1] != len(before):
            raise ValueError(f"a layer has {len(before)} units, the weight of the next has shape {after.shape}")
    return layers


def _has_full_column_rank(weight: ArrayLike) -> bool:
    matrix = np.asarray(weight, dtype=np.float64)
    return bool(np.linalg.matrix_rank(matrix) == matrix.shape[1])


def _jacobian(layers: Sequence[Floats], shifts: Sequence[Floats], point: Floats) -> Floats:
    """Return the Jacobian (n, m) of a ReLU network at a point (m,)."""
    values, jacobian = point, np.eye(len(point))
    for index, (layer, shift) in enumerate(zip(layers, shifts, strict=True)):
        active = values > 0 if index else np.ones(len(values), dtype=bool)
        values, jacobian = layer @ (values * active) + shift, layer @ (jacobian * active[:, None])
    return jacobian


def _check_line(function: PiecewiseAffine, prior: GaussianMixture) -> None:
    if function.dimension != 1 or prior.dimension != 1:
        raise ValueError(f"need values and a prior of dimension 1, found {function.dimension} and {prior.dimension}")


def _cdf(mixture: GaussianMixture, z: ArrayLike) -> Floats:
    standardised = (np.asarray(z)[..., None] - mixture.means[:, 0]) / np.sqrt(mixture.covariances[:, 0, 0])
    cdf: Floats = ndtr(standardised) @ mixture.weights
    return cdf


def _mean_and_sd(mixture: GaussianMixture) -> tuple[float, float]:
    if mixture.dimension != 1:
        raise ValueError(f"need mixtures of dimension 1, found {mixture.dimension}")
    mean, covariance = moments(mixture)
    return float(mean[0]), float(np.sqrt(covariance[0, 0]))
