"""Mean correlation coefficients of the codes of two fits, and statistics over all pairs of fits."""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

__all__ = [
    "CanonicalCorrelation",
    "bootstrap_interval",
    "canonical_correlations",
    "fit_cca",
    "jackknife",
    "ordered_pair_values",
    "pair_values",
    "pairwise",
    "strong_mcc",
    "weak_mcc",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.floating]
CodePair = tuple[Codes, Codes]
Fit = TypeVar("Fit")


@dataclasses.dataclass(frozen=True, eq=False)
class CanonicalCorrelation:
    """A fitted canonical correlation analysis; variates of the fitted points have mean zero and unit variance.

    Arguments:
        first_mean, second_mean: (M1,), (M2,).
        first_projection, second_projection: to the variates, (M1, K), (M2, K).
        correlations: of the pairs of variates on the fitted points, largest first, (K,).
    """

    first_mean: Floats
    second_mean: Floats
    first_projection: Floats
    second_projection: Floats
    correlations: Floats

    def transform(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return the variates, (N, K) each, of points (N, M1) and (N, M2)."""
        return (
            (np.asarray(first, dtype=np.float64) - self.first_mean) @ self.first_projection,
            (np.asarray(second, dtype=np.float64) - self.second_mean) @ self.second_projection,
        )


def strong_mcc(first: ArrayLike, second: ArrayLike) -> float:
    """Return the mean absolute Pearson correlation of matched coordinates, without any alignment.

    The first half of the points (N // 2) decides the one-to-one matching, the other half is scored. If one fit has
    more coordinates than the other, the ones left over count for nothing.

    References:
        Kivva et al. 2022, Appendix J.1.

    Arguments:
        first: codes (N, M1) of one fit.
        second: codes (N, M2) of the other fit, of the same points in the same order.

    Raises:
        ValueError: codes do not fit together, are not finite, are too few, or have a constant coordinate in a half.
    """
    fitted, scored = _halves(first, second)
    rows, columns = _match(_absolute_correlations(*fitted, "the first half"))
    return float(_absolute_correlations(*scored, "the second half")[rows, columns].mean())


def weak_mcc(first: ArrayLike, second: ArrayLike, dimension: int | None = None) -> float:
    """Return the mean absolute Pearson correlation of matched canonical variates.

    The analysis is fitted on the first half of the points (N // 2) and transforms the other half, on which the
    variates are matched and scored. An invertible affine map of either fit changes nothing.

    References:
        Kivva et al. 2022, Appendix J.1 (alignment by CCA).

    Arguments:
        first: codes (N, M1) of one fit.
        second: codes (N, M2) of the other fit, of the same points in the same order.
        dimension: number of canonical variates, 1 to min(M1, M2), which is the default.

    Raises:
        ValueError: as for `strong_mcc`; the coordinates of a fit are linearly dependent in the first half, or the
            dimension is out of range.
    """
    fitted, scored = _halves(first, second)
    for codes, half in ((fitted, "the first half"), (scored, "the second half")):
        for name, values in zip(("first", "second"), codes, strict=True):
            _unit_columns(values, name, half)
    variates = fit_cca(*fitted, dimension).transform(*scored)
    correlations = _absolute_correlations(*variates, "the second half, after CCA")
    return float(correlations[_match(correlations)].mean())


def canonical_correlations(first: ArrayLike, second: ArrayLike) -> Floats:
    """Return all canonical correlations, largest first, (min(M1, M2),).

    Arguments:
        first: (N, M1).
        second: (N, M2).

    Raises:
        ValueError: as for `fit_cca`.
    """
    return fit_cca(first, second).correlations


def fit_cca(first: ArrayLike, second: ArrayLike, dimension: int | None = None) -> CanonicalCorrelation:
    r"""Fit a canonical correlation analysis in closed form.

    With thin factorisations $X_i = Q_i R_i$ of the centred codes and $Q_1^\top Q_2 = U S V^\top$, the correlations
    are S and the variates $Q_1 U$ and $Q_2 V$.

    References:
        Bjoerck and Golub 1973, Numerical methods for computing angles between linear subspaces.

    Arguments:
        first: (N, M1).
        second: (N, M2).
        dimension: number of variates, 1 to min(M1, M2), which is the default.

    Raises:
        ValueError: codes do not fit together, are not finite, are too few, have a constant or linearly dependent
            coordinate, or the dimension is out of range.
    """
    x, y = _codes(first, second)
    _require_points(len(x), x, y, "points")
    largest = min(x.shape[1], y.shape[1])
    dimension = largest if dimension is None else dimension
    if not 1 <= dimension <= largest:
        raise ValueError(
            f"dimension must be between 1 and {largest}, the smaller number of coordinates, found {dimension}"
        )
    (q1, whiten1), (q2, whiten2) = _orthonormal(x, "first"), _orthonormal(y, "second")
    u, correlations, vt = np.linalg.svd(q1.T @ q2)
    scale = np.sqrt(len(x) - 1)
    return CanonicalCorrelation(
        first_mean=x.mean(axis=0, dtype=np.float64),
        second_mean=y.mean(axis=0, dtype=np.float64),
        first_projection=whiten1 @ u[:, :dimension] * scale,
        second_projection=whiten2 @ vt[:dimension].T * scale,
        correlations=np.minimum(correlations[:dimension], 1.0),
    )


def pairwise(score: Callable[[Fit, Fit], float], fits: Sequence[Fit] | Codes, *, symmetric: bool = True) -> Floats:
    """Return the score of every pair of fits, (S, S), NaN on the diagonal.

    Arguments:
        score: of two fits.
        fits: S of them, e.g. their codes (N, M), or all codes as one array (S, N, M).
        symmetric: score each unordered pair once; otherwise [i, j] is `score(fits[i], fits[j])`.

    Raises:
        ValueError: there are fewer than two fits, or two fits cannot be scored; the message names them.
    """
    if len(fits) < 2:
        raise ValueError(f"need at least 2 fits to form a pair, found {len(fits)}")
    matrix = np.full((len(fits), len(fits)), np.nan)
    pairs = itertools.combinations if symmetric else itertools.permutations
    for i, j in pairs(range(len(fits)), 2):
        try:
            matrix[i, j] = score(fits[i], fits[j])
        except ValueError as error:
            raise ValueError(f"fits {i} and {j} (counted from 0) cannot be scored: {error}") from error
        if symmetric:
            matrix[j, i] = matrix[i, j]
    return matrix


def pair_values(matrix: ArrayLike) -> Floats:
    """Return the values over unordered pairs, (S (S - 1) / 2,), row by row of the upper triangle.

    Raises:
        ValueError: the matrix is not square and finite off the diagonal, or not symmetric.
    """
    values = _pair_matrix(matrix, 2)
    if not np.array_equal(values, values.T):
        raise ValueError("the matrix is not symmetric, so an unordered pair has two values; use ordered_pair_values")
    return np.asarray(values[np.triu_indices(len(values), 1)])


def ordered_pair_values(matrix: ArrayLike) -> Floats:
    """Return the values over ordered pairs, (S (S - 1),), row by row.

    Raises:
        ValueError: the matrix is not square and finite off the diagonal.
    """
    values = _pair_matrix(matrix, 2)
    return np.asarray(values[~np.eye(len(values), dtype=bool)])


def jackknife(matrix: ArrayLike) -> Floats:
    """Return Tukey's pseudo-values of the mean over pairs, one for each fit, (S,).

    Their mean is the mean over pairs. Pairs that share a fit are dependent, so the t interval over pairs is too
    narrow; the one over pseudo-values takes the fits as what is independent.

    References:
        Arvesen 1969, Jackknifing U-statistics.

    Arguments:
        matrix: (S, S), value of each pair; the diagonal is not read. An unordered pair counts with the mean of its
            two values.

    Raises:
        ValueError: there are fewer than three fits, or the matrix is not square and finite off the diagonal.
    """
    values = _pair_matrix(matrix, 3)
    fits = len(values)
    share = ((values + values.T) / 2).sum(axis=1)  # of the pairs that hold the fit
    total = share.sum() / 2
    mean = total / (fits * (fits - 1) / 2)
    without = (total - share) / ((fits - 1) * (fits - 2) / 2)
    return np.asarray(fits * mean - (fits - 1) * without)


def bootstrap_interval(
    matrix: ArrayLike, rng: np.random.Generator, draws: int = 2000, level: float = 0.9
) -> tuple[float, float]:
    """Return the percentile interval of the mean over pairs when fits are resampled with replacement.

    Pairs of a fit with its own copy are left out; a draw of one fit alone has no pair and is drawn again.

    Arguments:
        matrix: (S, S), value of each pair; the diagonal is not read.
        rng: source of the draws.
        draws: number of bootstrap samples.
        level: nominal coverage, between 0 and 1.

    Raises:
        ValueError: there are fewer than three fits, the matrix is not square and finite off the diagonal, or `draws`
            or `level` is out of range.
    """
    values = _pair_matrix(matrix, 3)
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws must be at least 1 and level between 0 and 1, found {draws} and {level}")
    fits = len(values)
    counts = rng.multinomial(fits, np.full(fits, 1 / fits), draws)
    while (lonely := counts.max(axis=1) == fits).any():
        counts[lonely] = rng.multinomial(fits, np.full(fits, 1 / fits), int(lonely.sum()))
    pairs = fits**2 - (counts**2).sum(axis=1)
    means = np.sum((counts @ values) * counts, axis=1) / pairs
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _pair_matrix(matrix: ArrayLike, fewest: int) -> Floats:
    """Return a copy with zeros on the diagonal."""
    values = np.array(matrix, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"matrix must have a row and a column for each fit, found shape {values.shape}")
    if len(values) < fewest:
        raise ValueError(f"matrix must compare at least {fewest} fits, found {len(values)}")
    np.fill_diagonal(values, 0.0)
    if not np.all(np.isfinite(values)):
        i, j = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"matrix must be finite off the diagonal, found {values[i, j]} at [{i}, {j}]")
    return values


def _codes(first: ArrayLike, second: ArrayLike) -> CodePair:
    """Return both as floating-point arrays of their own precision, which tells rounding from variation."""
    arrays = []
    for name, codes in (("first", np.asarray(first)), ("second", np.asarray(second))):
        if codes.ndim != 2 or codes.shape[1] == 0:
            raise ValueError(f"{name} codes must be (points, coordinates), found shape {codes.shape}")
        floats = codes if np.issubdtype(codes.dtype, np.floating) else codes.astype(np.float64)
        if not np.all(np.isfinite(floats)):
            point, coordinate = np.argwhere(~np.isfinite(floats))[0]
            raise ValueError(
                f"{name} codes must be finite, found {floats[point, coordinate]} at point {point}, "
                f"coordinate {coordinate} (counted from 0)"
            )
        arrays.append(floats)
    x, y = arrays
    if len(x) != len(y):
        raise ValueError(f"first and second codes must be of the same points, found {len(x)} and {len(y)} of them")
    return x, y


def _halves(first: ArrayLike, second: ArrayLike) -> tuple[CodePair, CodePair]:
    """Return both codes on the half that fits and on the half that scores."""
    x, y = _codes(first, second)
    half = len(x) // 2
    _require_points(half, x, y, "points in each half")
    return (x[:half], y[:half]), (x[half:], y[half:])


def _require_points(points: int, x: Codes, y: Codes, what: str) -> None:
    for name, codes in (("first", x), ("second", y)):
        if points <= codes.shape[1]:
            raise ValueError(
                f"{name} codes need more {what} than coordinates, found {points} for {codes.shape[1]}; "
                "codes are (points, coordinates)"
            )


def _unit_columns(codes: Codes, name: str, where: str) -> tuple[Floats, Floats]:
    """Return the centred coordinates at unit length, and the length of each before."""
    spread, size = np.ptp(codes, axis=0), np.abs(codes).max(axis=0)
    constant = np.flatnonzero(spread <= np.finfo(codes.dtype).eps * size)
    if len(constant):
        raise ValueError(
            f"{name} codes are constant in coordinate {', '.join(map(str, constant))} (counted from 0) on {where}; "
            "a correlation needs variation"
        )
    centred = codes.astype(np.float64) - codes.mean(axis=0, dtype=np.float64)
    lengths = spread * np.linalg.norm(centred / spread, axis=0)
    return centred / lengths, lengths


def _absolute_correlations(first: Codes, second: Codes, where: str) -> Floats:
    """Return |Pearson correlation| of every pair of coordinates, (M1, M2)."""
    x, _ = _unit_columns(first, "first", where)
    y, _ = _unit_columns(second, "second", where)
    return np.asarray(np.minimum(np.abs(x.T @ y), 1.0))


def _match(correlations: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of the one-to-one matching with the largest sum."""
    rows, columns = linear_sum_assignment(correlations, maximize=True)
    return rows.astype(np.int64), columns.astype(np.int64)


def _orthonormal(codes: Codes, name: str) -> tuple[Floats, Floats]:
    """Return an orthonormal basis Q (N, M) of the centred coordinates X and the map T (M, M) with Q = X T."""
    unit, lengths = _unit_columns(codes, name, "the points that CCA is fitted on")
    q, r = np.linalg.qr(unit)
    left, singular, rightt = np.linalg.svd(r)
    # Rounding of the codes alone moves a unit column by this much; a smaller singular value is no variation.
    rounding = np.finfo(codes.dtype).eps * np.linalg.norm(codes / lengths, axis=0).max()
    rank = int(np.sum(singular > 10 * codes.shape[1] * rounding))
    if rank < codes.shape[1]:
        raise ValueError(
            f"{name} codes are linearly dependent: rank {rank} in {codes.shape[1]} coordinates; CCA needs full rank, "
            "leave out the dependent coordinates"
        )
    return q @ left, rightt.T / singular / lengths[:, None]
