"""Identifiability of bivariate mixtures: the two theorems, the family of equivalent instances, its bounds."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

__all__ = [
    "Mixture",
    "equivalent_family",
    "gamma_bounds",
    "mu",
    "necessary_condition",
    "sufficient_condition",
    "total_correlation",
    "weight_ratio_bounds",
]

Floats = NDArray[np.float64]

_ROUNDING = 1e-12


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A bivariate conditional-independence mixture on a grid.

    Arguments:
        weights: mixture weights, (C,).
        densities_x: densities of x in each component, (C, G).
        densities_y: densities of y in each component, (C, H).

    References:
        InClass nets, Eq. (28).
    """

    weights: Floats
    densities_x: Floats
    densities_y: Floats

    @property
    def allowed(self) -> bool:
        """Whether no weight and no density is negative, beyond what rounding explains."""
        parts = (self.weights, self.densities_x, self.densities_y)
        return all(bool(part.min() >= -_ROUNDING * np.abs(part).max()) for part in parts)

    def joint(self) -> Floats:
        """Return the joint density on the product of the grids, (G, H)."""
        return (self.weights[:, None] * self.densities_x).T @ self.densities_y


def mu(weights: Floats, densities: Floats) -> Floats:
    """Return the essential supremum of each component's classifier in one variate, (C,).

    The supremum is the maximum over the grid points where the mixture has density. On a continuous variate it
    approaches the truth from below: a supremum reached only in a tail or between points is missed by as much
    as the grid stops short of it. A single point counts here, although it has measure 0.

    Arguments:
        weights: mixture weights, (C,).
        densities: density of the variate in each component on a grid, (C, G), in any unit.

    Returns:
        Values between the weight and 1, if the grid covers the densities.

    Raises:
        ValueError: weights are not positive with sum 1, or densities are negative, not finite or zero throughout.

    References:
        InClass nets, Eq. (37) and (A.5).
    """
    weights, densities = _weights(weights), _densities(densities, len(weights))
    shares = weights[:, None] * densities
    total = shares.sum(axis=0)
    return np.asarray((shares[:, total > 0] / total[total > 0]).max(axis=1))


def necessary_condition(weights: Floats, densities_x: Floats, densities_y: Floats) -> Floats:
    """Return how far each component dominates each other one; unique only if all are 1.

    Element [t, i, j] is `ess sup w_i f_t^i / (w_i f_t^i + w_j f_t^j)` for t = x, y. The limits of a grid are
    those of `mu`.

    Arguments:
        weights: mixture weights, (C,).
        densities_x: densities of x on a grid, (C, G).
        densities_y: densities of y on a grid, (C, H).

    Returns:
        Essential suprema, (2, C, C), NaN on the diagonal.

    Raises:
        ValueError: weights are not positive with sum 1, or densities are negative, not finite or zero throughout.

    References:
        InClass nets, theorem 1, Eq. (36).
    """
    weights = _weights(weights)
    components = len(weights)
    suprema = np.full((2, components, components), np.nan)
    for variate, densities in enumerate((densities_x, densities_y)):
        checked = _densities(densities, components)
        for pair in itertools.permutations(range(components), 2):
            chosen = list(pair)
            suprema[variate, *pair] = mu(weights[chosen] / weights[chosen].sum(), checked[chosen])[0]
    return suprema


def sufficient_condition(weights: Floats, densities_x: Floats, densities_y: Floats) -> Floats:
    """Return how far each component dominates the mixture; unique if all are 1.

    Element [t, i] is `ess sup w_i f_t^i / P_t` for t = x, y. The limits of a grid are those of `mu`.

    Arguments:
        weights: mixture weights, (C,).
        densities_x: densities of x on a grid, (C, G).
        densities_y: densities of y on a grid, (C, H).

    Returns:
        Essential suprema, (2, C).

    Raises:
        ValueError: weights are not positive with sum 1, or densities are negative, not finite or zero throughout.

    References:
        InClass nets, theorem 2, Eq. (37).
    """
    return np.stack([mu(weights, densities_x), mu(weights, densities_y)])


def equivalent_family(weights: Floats, fx: Floats, fy: Floats, gamma: float, w1: float) -> Mixture:
    """Return one of the two-component mixtures with the same joint density.

    Arguments:
        weights: mixture weights, (2,).
        fx: densities of x on a grid, (2, G).
        fy: densities of y on a grid, (2, H).
        gamma: first parameter of the family, positive; 1 at the original.
        w1: second parameter, the weight of the first component in the new mixture, in (0, 1).

    Returns:
        The member of the family. Its joint is always that of the original, but it is a mixture only where
        `allowed` holds.

    Raises:
        ValueError: a parameter is out of range, or there are not two components.

    References:
        InClass nets, Eq. (A.2) and (A.3).
    """
    weights = _pair(weights)
    fx, fy = _densities(fx, 2), _densities(fy, 2)
    if not (gamma > 0 and np.isfinite(gamma) and 0 < w1 < 1):
        raise ValueError(f"the family needs gamma > 0 and 0 < w1 < 1, found gamma = {gamma}, w1 = {w1}")
    new = np.array([w1, 1 - w1])
    signs = np.array([[1.0], [-1.0]]) * new[::-1, None] * np.sqrt(weights.prod() / new.prod())
    gx = weights @ fx + gamma * signs * (fx[0] - fx[1])
    gy = weights @ fy + signs / gamma * (fy[0] - fy[1])
    return Mixture(weights=new, densities_x=gx, densities_y=gy)


def gamma_bounds(weights: Floats, mu_x: Floats, mu_y: Floats, w1: float) -> tuple[float, float]:
    """Return the smallest and largest gamma for which no density of the family is negative.

    Arguments:
        weights: mixture weights, (2,).
        mu_x: essential suprema of the classifiers of x, (2,), from `mu`.
        mu_y: the same for y, (2,).
        w1: weight of the first component in the new mixture, in (0, 1).

    Returns:
        Lower and upper bound; no gamma is allowed if they cross. The upper one may be infinite.

    Raises:
        ValueError: a parameter is out of range, or there are not two components.

    References:
        InClass nets, Eq. (A.4).
    """
    if not 0 < w1 < 1:
        raise ValueError(f"the family needs 0 < w1 < 1, found {w1}")
    weights = _pair(weights)
    root = np.sqrt(np.array([(1 - w1) / w1, w1 / (1 - w1)]))  # sqrt(w2'/w1'), sqrt(w1'/w2')
    scale = np.sqrt(weights.prod())
    with np.errstate(divide="ignore"):
        upper = root * scale / _excess(weights, mu_x)
    lower = _excess(weights, mu_y) / (root * scale)
    return float(lower.max()), float(upper.min())


def weight_ratio_bounds(mu_x: Floats, mu_y: Floats, weights: Floats) -> tuple[float, float]:
    """Return the smallest and largest ratio w1'/w2' among all mixtures with the same joint density.

    Arguments:
        mu_x: essential suprema of the classifiers of x, (2,), from `mu`.
        mu_y: the same for y, (2,).
        weights: mixture weights, (2,).

    Returns:
        Lower and upper bound, which meet at w1/w2 only if all suprema are 1. The upper one may be infinite.

    Raises:
        ValueError: a supremum lies outside [weight, 1], or there are not two components.

    References:
        InClass nets, Eq. (A.6).
    """
    weights = _pair(weights)
    excess = _excess(weights, mu_x) * _excess(weights, mu_y) / weights.prod()
    return float(excess[1]), float(1 / excess[0]) if excess[0] > 0 else float("inf")


def total_correlation(weights: Floats, densities: Sequence[Floats], widths: Sequence[Floats | float]) -> float:
    """Return the total correlation of a mixture by quadrature on the product of the grids, in nats.

    It is the largest value that `-neg_ctc` can reach. The number of terms is the product of the grid lengths.

    Arguments:
        weights: mixture weights, (C,).
        densities: for each variate, the densities of the components on its grid, (C, G_v).
        widths: for each variate, the quadrature weights of its grid, (G_v,), or one width for all points.

    Raises:
        ValueError: weights or densities are not valid, or `widths` does not fit.

    References:
        InClass nets, Eq. (23) and (41).
    """
    weights = _weights(weights)
    if len(densities) < 2 or len(densities) != len(widths):
        raise ValueError(f"expected widths for two or more variates, found {len(widths)} for {len(densities)}")
    ratio, measure = weights, np.ones(())
    for variate, width in zip(densities, widths, strict=True):
        checked = _densities(variate, len(weights))
        marginal = weights @ checked
        relative = np.divide(checked, marginal, out=np.zeros_like(checked), where=marginal > 0)
        ratio = ratio[..., None] * relative.reshape(len(weights), *[1] * (ratio.ndim - 1), -1)
        measure = measure[..., None] * (marginal * width)
    ratio = ratio.sum(axis=0)
    return float((measure * xlogy(ratio, ratio)).sum())


def _excess(weights: Floats, suprema: Floats) -> Floats:
    """Return `mu^i - w_i`, which lies in [0, 1 - w_i]."""
    suprema = np.asarray(suprema, dtype=np.float64)
    if suprema.shape != (2,) or not np.all((suprema >= weights - 1e-9) & (suprema <= 1 + 1e-9)):
        raise ValueError(f"essential suprema must be two numbers from {weights} to 1, found {suprema}")
    return np.maximum(suprema - weights, 0.0)


def _pair(weights: Floats) -> Floats:
    weights = _weights(weights)
    if len(weights) != 2:
        raise ValueError(f"the family of equivalent mixtures is known for 2 components, found {len(weights)}")
    return weights


def _weights(weights: Floats) -> Floats:
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 1 or not np.all(weights > 0) or abs(weights.sum() - 1) > 1e-6:
        raise ValueError(f"mixture weights must be positive and add up to 1, found {weights}")
    return weights


def _densities(densities: Floats, components: int) -> Floats:
    densities = np.asarray(densities, dtype=np.float64)
    if densities.ndim != 2 or len(densities) != components:
        raise ValueError(f"densities must be ({components} components, grid points), found {densities.shape}")
    if not (np.all(np.isfinite(densities)) and np.all(densities >= 0)):
        raise ValueError("densities must be finite and not negative")
    empty = np.flatnonzero(~densities.any(axis=1))
    if empty.size:
        raise ValueError(f"component {empty[0]} has density 0 on the whole grid; the grid must cover every component")
    return densities
