"""Distance of Gaussian mixtures up to an affine map, and the maps that align them."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from neumix.gaussian_mixture import GaussianMixture, log_inner, log_normal, log_sum, log_weights, require_same_dimension
from neumix.metrics.matching import assign
from neumix.seeding import numpy_rng

__all__ = [
    "Alignment",
    "align",
    "align_means",
    "dist_aff_l2",
    "l2_discrepancy",
    "moments",
]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ALL_PERMUTATIONS = 8  # components up to which every permutation is tried
ROTATIONS = 200  # starts of the search beyond that
REFINED_STARTS = 16  # most promising maps that are refined, by few steps
FEW_STEPS = 20
POLISHED = 3  # best of those that are refined until nothing changes
NEGLIGIBLE = 1e-9  # relative size below which a singular value is rounding


@dataclasses.dataclass(frozen=True, eq=False)
class Alignment:
    """An affine map z -> A z + b that takes one mixture near to another.

    Arguments:
        matrix: A, (M, M), invertible.
        offset: b, (M,).
        permutation: for each component of the first mixture the one of the second that it goes to, (J,).
        distance: discrepancy of the mapped first mixture from the second.
    """

    matrix: Floats
    offset: Floats
    permutation: Integers
    distance: float


def l2_discrepancy(p: GaussianMixture, q: GaussianMixture) -> float:
    r"""Return $\|p - q\|_2 / (\|p\|_2 \|q\|_2)^{1/2}$.

    The same affine map applied to both mixtures changes nothing. The value is 0 for equal mixtures, $\sqrt 2$ for
    mixtures without overlap whose norms are equal, and larger without bound where the norms differ.

    References:
        Kivva et al. 2022, Eq. (34).

    Raises:
        ValueError: the dimensions differ.
    """
    squared = float(_squared_discrepancy(log_inner(p, p), log_inner(q, q), log_inner(p, q)))
    return float(np.sqrt(max(squared, 0.0)))


def align_means(p: GaussianMixture, q: GaussianMixture) -> Alignment:
    """Return the affine map that matches means best, of all permutations the one with the least discrepancy.

    For each permutation the map is the least-squares one for the means, each counting alike whatever its weight. Where
    means leave directions open (fewer than M + 1 of them, or all in a space of lower dimension), or send directions
    to nothing, that map is not invertible and the image has no density. In such directions it is completed by a
    rotation between coordinates in which the average covariance of the components is the identity: the nearest to no
    rotation, or the nearest that mirrors, whichever leaves the least discrepancy.

    Beyond 8 components not every permutation is tried, but those found by turns of assignment and least squares from
    201 fixed starts, which assume that one mixture is nearly an affine image of the other.

    References:
        Kivva et al. 2022, Appendix J.1, "Alignment".

    Raises:
        ValueError: the mixtures differ in dimension or in the number of components.
    """
    pair = _Pair.of(p, q)
    return pair.matched(_candidate_permutations(pair.p, pair.q))


def align(p: GaussianMixture, q: GaussianMixture) -> tuple[Alignment, Alignment]:
    """Return the alignment by matched means and the one with the least discrepancy that was found.

    The second minimises over all affine maps by gradient. It starts from the maps of `align_means` and from the maps
    that equate mean and covariance of the whole mixtures and turn the means to match, one for each permutation; the
    16 best of these if there are more. The exact minimum does not depend on which mixture is mapped to the other; the
    first alignment's distance does.

    References:
        Kivva et al. 2022, Eq. (34) and Appendix J.1.

    Raises:
        ValueError: the mixtures differ in dimension or in the number of components.
    """
    pair = _Pair.of(p, q)
    permutations = _candidate_permutations(pair.p, pair.q)
    matched = pair.matched(permutations)
    refined = pair.refined(permutations)
    return matched, min(refined, matched, key=lambda alignment: alignment.distance)


def dist_aff_l2(p: GaussianMixture, q: GaussianMixture, refine: bool = False) -> float:
    """Return the discrepancy of the mixtures up to an affine map of the first.

    Arguments:
        p, q: of the same dimension and number of components.
        refine: minimise over all affine maps, as `align` does, where the paper matches means only; the latter gives
            an upper bound of the minimum in the definition.

    References:
        Kivva et al. 2022, Eq. (34) and Appendix J.1.

    Raises:
        ValueError: the mixtures differ in dimension or in the number of components.
    """
    return align(p, q)[1].distance if refine else align_means(p, q).distance


def moments(mixture: GaussianMixture) -> tuple[Floats, Floats]:
    """Return mean (M,) and covariance (M, M) of the whole mixture."""
    mean = mixture.weights @ mixture.means
    centred = mixture.means - mean
    within = np.tensordot(mixture.weights, mixture.covariances, 1)
    return mean, within + (mixture.weights[:, None] * centred).T @ centred


class _Maps(NamedTuple):
    """Affine maps z -> A z + b: matrices (K, M, M), offsets (K, M), permutations they were made for (K, J)."""

    matrices: Floats
    offsets: Floats
    permutations: Integers


class _Frame(NamedTuple):
    """Coordinates in which the average covariance of the components is the identity and their mean is zero."""

    mixture: GaussianMixture
    root: Floats  # (M, M)
    centre: Floats  # (M,)

    @classmethod
    def of(cls, mixture: GaussianMixture) -> "_Frame":
        centre = mixture.means.mean(axis=0)
        root, inverse = _roots(np.tensordot(mixture.weights, mixture.covariances, 1))
        standardised = GaussianMixture(
            mixture.weights, (mixture.means - centre) @ inverse, inverse @ mixture.covariances @ inverse
        )
        return cls(standardised, root, centre)


class _Pair(NamedTuple):
    """Two mixtures, each in its own frame; the discrepancy up to an affine map is the same there."""

    p: GaussianMixture
    q: GaussianMixture
    source: _Frame
    target: _Frame
    log_norms: tuple[float, float]  # log <p, p>, log <q, q>

    @classmethod
    def of(cls, p: GaussianMixture, q: GaussianMixture) -> "_Pair":
        require_same_dimension(p, q)
        if p.n_components != q.n_components:
            raise ValueError(
                f"mixtures must have as many components to be aligned, found {p.n_components} and {q.n_components}"
            )
        source, target = _Frame.of(p), _Frame.of(q)
        p, q = source.mixture, target.mixture
        return cls(p, q, source, target, (log_inner(p, p), log_inner(q, q)))

    def matched(self, permutations: Integers) -> Alignment:
        """Return the best of the maps that match means."""
        maps = _least_squares(self.p, self.q, permutations)
        distances = self.distances(maps)
        best = int(distances.argmin())
        return self.alignment(maps.matrices[best], maps.offsets[best], maps.permutations[best], distances[best])

    def refined(self, permutations: Integers) -> Alignment:
        """Return the best map that gradient descent finds from the most promising starts."""
        parts = zip(*(build(self.p, self.q, permutations) for build in (_least_squares, _equal_moments)), strict=True)
        maps = _Maps(*(np.concatenate(part) for part in parts))
        order = self.distances(maps).argsort(kind="stable")[:REFINED_STARTS]
        starts = [np.append(maps.matrices[i], maps.offsets[i]) for i in order]
        screened = sorted((self._descend(start, FEW_STEPS) for start in starts), key=lambda result: float(result.fun))
        polished = (self._descend(result.x, 1000) for result in screened[:POLISHED])
        best = min(polished, key=lambda result: float(result.fun))
        matrix, offset = _unpack(best.x, self.p.dimension)
        permutation = assign(_squared_gaps(self.p.means @ matrix.T + offset, self.q.means))
        return self.alignment(matrix, offset, permutation, np.sqrt(max(best.fun, 0.0)))

    def _descend(self, start: Floats, steps: int) -> Any:
        return minimize(
            _squared_distance,
            start,
            args=(self.p, self.q, self.log_norms),
            jac=True,
            method="L-BFGS-B",
            options={"ftol": 1e-12, "gtol": 1e-7, "maxiter": steps},
        )

    def distances(self, maps: _Maps) -> Floats:
        """Return the discrepancy that each map leaves, (K,)."""
        found = [self._distances(*(part[i : i + 1024] for part in maps[:2])) for i in range(0, len(maps[0]), 1024)]
        return np.concatenate(found)

    def _distances(self, matrices: Floats, offsets: Floats) -> Floats:
        means = self.p.means @ matrices.swapaxes(1, 2) + offsets[:, None]  # (K, J, M)
        covariances = matrices[:, None] @ self.p.covariances @ matrices[:, None].swapaxes(2, 3)  # (K, J, M, M)
        gaps = means[:, :, None] - self.q.means  # (K, J, J, M)
        log_density = log_normal(gaps, covariances[:, :, None] + self.q.covariances)[0]
        cross = log_sum(log_density + log_weights(self.p, self.q))
        log_norm = self.log_norms[0] - np.linalg.slogdet(matrices)[1]
        return np.sqrt(np.maximum(_squared_discrepancy(log_norm, self.log_norms[1], cross), 0.0))

    def alignment(self, matrix: Floats, offset: Floats, permutation: Integers, distance: float) -> Alignment:
        """Return a map between the frames as one between the mixtures."""
        outer = self.target.root @ matrix @ np.linalg.inv(self.source.root)
        shift = self.target.root @ offset + self.target.centre - outer @ self.source.centre
        return Alignment(outer, shift, permutation, float(distance))


def _candidate_permutations(p: GaussianMixture, q: GaussianMixture) -> Integers:
    """Return the permutations to try, (K, J)."""
    if p.n_components <= ALL_PERMUTATIONS:
        return np.array(list(itertools.permutations(range(p.n_components))), dtype=np.int64)
    return _searched_permutations(p, q)


def _searched_permutations(p: GaussianMixture, q: GaussianMixture) -> Integers:
    """Return the permutations at which turns of assignment and least squares come to rest, (K, J)."""
    slope = np.linalg.pinv(_without_rounding(p.means), rcond=NEGLIGIBLE)  # (M, J)
    found = set()
    for start in _first_permutations(p, q):
        permutation = start
        for _ in range(100):
            before = permutation
            permutation = assign(_squared_gaps(p.means @ (slope @ q.means[before]), q.means))
            if np.array_equal(before, permutation):
                break
        found.add(tuple(permutation.tolist()))
    return np.array(sorted(found), dtype=np.int64)


def _first_permutations(p: GaussianMixture, q: GaussianMixture) -> Iterator[Integers]:
    """Yield assignments of means, both mixtures turned to mean zero and unit covariance.

    There an affine image is a rotation. The first assignment compares what no rotation changes, the inner products of
    a mean with all others; each further one compares the means under a rotation drawn at random.
    """
    source, target = _whitened_means(p), _whitened_means(q)
    yield assign(_squared_gaps(np.sort(source @ source.T), np.sort(target @ target.T)))
    rng = numpy_rng(0, "mixture_alignment", "rotations")
    for _ in range(ROTATIONS):
        rotation, upper = np.linalg.qr(rng.normal(size=(p.dimension, p.dimension)))
        yield assign(_squared_gaps(source @ (rotation * np.sign(np.diag(upper))), target))


def _whitened_means(mixture: GaussianMixture) -> Floats:
    mean, covariance = moments(mixture)
    return (mixture.means - mean) @ _roots(covariance)[1]


def _least_squares(p: GaussianMixture, q: GaussianMixture, permutations: Integers) -> _Maps:
    """Return the maps that match means, completed where they are singular; mixtures are in their frames."""
    source, target = _without_rounding(p.means), _without_rounding(q.means)
    slopes = (np.linalg.pinv(source, rcond=NEGLIGIBLE) @ target[permutations]).swapaxes(1, 2)  # (K, M, M)
    left, singular, rightt = np.linalg.svd(slopes)
    ranks = (singular > NEGLIGIBLE * singular[:, :1]).sum(axis=1)
    matrices, chosen = [], []
    for rank in np.unique(ranks):
        group = np.flatnonzero(ranks == rank)
        for rotation in _completions(left[group][:, :, rank:], rightt[group][:, rank:]):
            matrices.append(slopes[group] + rotation)
            chosen.append(permutations[group])
    stacked = np.concatenate(matrices)
    return _Maps(stacked, np.zeros(stacked.shape[:2]), np.concatenate(chosen))


def _completions(left: Floats, rightt: Floats) -> list[Floats]:
    """Return maps from the null space onto what the image lacks: the nearest to the identity and the nearest mirrored.

    Arguments:
        left: basis of what the image lacks, (K, M, D).
        rightt: basis of the null space, (K, D, M).
    """
    if left.shape[2] == 0:
        return [np.zeros((len(left), left.shape[1], left.shape[1]))]
    u, _, vt = np.linalg.svd(left.swapaxes(1, 2) @ rightt.swapaxes(1, 2))
    mirrored = u.copy()
    mirrored[:, :, -1] *= -1
    return [left @ factor @ vt @ rightt for factor in (u, mirrored)]


def _equal_moments(p: GaussianMixture, q: GaussianMixture, permutations: Integers) -> _Maps:
    """Return the maps that equate mean and covariance of the whole mixtures and turn the means nearest to each other.

    References:
        Schoenemann 1966, A generalized solution of the orthogonal Procrustes problem.
    """
    (mean_p, covariance_p), (mean_q, covariance_q) = moments(p), moments(q)
    inverse, root = _roots(covariance_p)[1], _roots(covariance_q)[0]
    source, target = _whitened_means(p), _whitened_means(q)[permutations]
    u, _, vt = np.linalg.svd(target.swapaxes(1, 2) @ (p.weights[:, None] * source))  # (K, M, M)
    matrices = root @ (u @ vt) @ inverse
    return _Maps(matrices, mean_q - matrices @ mean_p, permutations)


def _squared_distance(
    parameters: Floats, p: GaussianMixture, q: GaussianMixture, log_norms: tuple[float, float]
) -> tuple[float, Floats]:
    """Return the squared discrepancy that an affine map leaves, and its gradient.

    Arguments:
        parameters: A row by row, then b, (M * M + M,).
        p, q: the mixtures.
        log_norms: log <p, p> and log <q, q>.
    """
    matrix, offset = _unpack(parameters, p.dimension)
    covariances = matrix @ p.covariances @ matrix.T
    gaps = (p.means @ matrix.T + offset)[:, None] - q.means  # (J, J, M)
    log_density, precision, pull = log_normal(gaps, covariances[:, None] + q.covariances)
    terms = log_density + log_weights(p, q)
    cross = float(log_sum(terms))
    share = np.exp(terms - cross)  # (J, J)
    pulled = share[..., None] * pull
    bend = pulled.swapaxes(1, 2) @ pull - (share[..., None, None] * precision).sum(axis=1)  # (J, M, M)
    by_offset = -pulled.sum(axis=(0, 1))
    by_matrix = (bend @ matrix @ p.covariances).sum(axis=0) - pulled.sum(axis=1).T @ p.means
    inverse = np.linalg.inv(matrix).T  # gradient of log |det A|
    log_norm = log_norms[0] - float(np.linalg.slogdet(matrix)[1])
    value = float(_squared_discrepancy(log_norm, log_norms[1], cross))
    overlap = 2 * np.exp(cross - (log_norm + log_norms[1]) / 2)
    by_log_norm = np.sinh((log_norm - log_norms[1]) / 2) + overlap / 2
    return value, np.append(-overlap * by_matrix - by_log_norm * inverse, -overlap * by_offset)


def _unpack(parameters: Floats, dimension: int) -> tuple[Floats, Floats]:
    return parameters[:-dimension].reshape(dimension, dimension), parameters[-dimension:]


def _squared_discrepancy(log_pp: Floats | float, log_qq: Floats | float, log_pq: Floats | float) -> Floats:
    """Return (<p,p> + <q,q> - 2 <p,q>) / sqrt(<p,p> <q,q>) from logarithms, which neither overflow nor cancel early."""
    gap = np.asarray(log_pp) - log_qq
    return np.asarray(4 * np.sinh(gap / 4) ** 2 - 2 * np.expm1(log_pq - (np.asarray(log_pp) + log_qq) / 2))


def _roots(covariance: Floats) -> tuple[Floats, Floats]:
    """Return the symmetric square root and its inverse."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T


def _squared_gaps(first: Floats, second: Floats) -> Floats:
    """Return the squared distance of every pair of points, (J, J)."""
    return np.asarray(((first[:, None] - second) ** 2).sum(axis=-1))


def _without_rounding(means: Floats) -> Floats:
    """Return means, given in standard deviations, that lie exactly in the space they lie in up to rounding."""
    left, singular, rightt = np.linalg.svd(means, full_matrices=False)
    singular[singular <= NEGLIGIBLE * max(1.0, singular[0])] = 0
    return np.asarray((left * singular) @ rightt)
