"""Extraction of the mixture model from trained pseudo classifiers, on arrays with any leading seed axes."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

__all__ = [
    "aggregate_classifier",
    "classifiers",
    "component_densities",
    "joint_ratio",
    "marginal_ratio",
    "mixture_weights",
    "pseudo_weights",
    "unnormalised_weights",
]

Floats = NDArray[np.float64]


def pseudo_weights(beta: Floats) -> Floats:
    """Return the mean pseudo classifiers `phi_v^i`, (..., V, C).

    Arguments:
        beta: pseudo classifiers on the points of the data, (..., N, V, C); single precision is added up in double.

    Raises:
        ValueError: `beta` has too few axes, an empty one, or values that are no probabilities.

    References:
        InClass nets, Eq. (16) and (30).
    """
    _check(beta, "beta", "(..., points, variates, components)", 3)
    return np.asarray(beta.mean(axis=-3, dtype=np.float64))


def unnormalised_weights(phi: Floats) -> Floats:
    """Return the geometric means over variates `wt_i = (prod_v phi_v^i)^(1/V)`, (..., C).

    Arguments:
        phi: pseudo weights, (..., V, C).

    Raises:
        ValueError: `phi` has too few axes, an empty one, or values that are no probabilities.

    References:
        InClass nets, Eq. (16).
    """
    phi = _pseudo_weights(phi)
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(phi).mean(axis=-2)))


def mixture_weights(phi: Floats) -> Floats:
    """Return the mixture weights `w_i`, (..., C).

    Arguments:
        phi: pseudo weights, (..., V, C).

    Raises:
        ValueError: `phi` is no set of pseudo weights, or every component has a zero in some variate.

    References:
        InClass nets, Eq. (15) and (32).
    """
    weights = unnormalised_weights(phi)
    return np.asarray(weights / _total(weights))


def classifiers(beta_v: Floats, phi: Floats, v: int) -> Floats:
    """Return the classifiers of one variate `alpha_v^i`, (..., N, C), which obey the common-weights constraint.

    Arguments:
        beta_v: pseudo classifiers of variate `v` at any points, (..., N, C).
        phi: pseudo weights of all variates, (..., V, C).
        v: the variate.

    Returns:
        Probabilities, NaN at points that the model gives density 0.

    Raises:
        ValueError: `beta_v` or `phi` has a wrong shape or values that are no probabilities.

    References:
        InClass nets, Eq. (19b) and (31).
    """
    terms = _scaled(beta_v, phi, v)
    total = terms.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(terms, total, out=np.full_like(terms, np.nan), where=total > 0))


def marginal_ratio(beta_v: Floats, phi: Floats, v: int) -> Floats:
    """Return the model's marginal over the data's, `P_v / Q_v`, (..., N).

    Arguments:
        beta_v: pseudo classifiers of variate `v` at any points, (..., N, C).
        phi: pseudo weights of all variates, (..., V, C).
        v: the variate.

    Raises:
        ValueError: `beta_v` or `phi` has a wrong shape or values that are no probabilities.

    References:
        InClass nets, Eq. (19a).
    """
    terms = _scaled(beta_v, phi, v)
    return np.asarray(terms.sum(axis=-1) / _total(unnormalised_weights(phi)))


def component_densities(beta_v: Floats, phi_v: Floats, marginal: Floats) -> Floats:
    """Return the density of one variate in each component, (..., C, N).

    Arguments:
        beta_v: pseudo classifiers of the variate at N points, (..., N, C).
        phi_v: pseudo weights of the variate, (..., C).
        marginal: density of the data in that variate at the points, (N,) or (..., N).

    Returns:
        Densities in the units of `marginal`; 0 for a component of pseudo weight 0.

    Raises:
        ValueError: shapes do not fit or values are no probabilities.

    References:
        InClass nets, Eq. (17) and (33).
    """
    beta_v = _probabilities(beta_v, "beta_v", "(..., points, components)", 2)
    phi_v = _probabilities(phi_v, "phi_v", "(..., components)", 1)
    if marginal.shape[-1:] != beta_v.shape[-2:-1]:
        raise ValueError(f"marginal must have {beta_v.shape[-2]} points like beta_v, found {marginal.shape}")
    ratio = beta_v * _reciprocal(phi_v)[..., None, :]
    return np.swapaxes(ratio, -1, -2) * marginal[..., None, :]


def joint_ratio(beta: Floats, phi: Floats) -> Floats:
    """Return the model's joint density over the product of the data's marginals, (..., N).

    Arguments:
        beta: pseudo classifiers of all variates at N points, (..., N, V, C).
        phi: pseudo weights, (..., V, C).

    Raises:
        ValueError: `beta` or `phi` has a wrong shape or values that are no probabilities.

    References:
        InClass nets, Eq. (18b) and (34).
    """
    total = _total(unnormalised_weights(phi))
    return np.asarray(np.exp(logsumexp(_log_terms(beta, phi), axis=-1)) / total)


def aggregate_classifier(beta: Floats, phi: Floats) -> Floats:
    """Return the probability of each component given all variates, (..., N, C).

    Arguments:
        beta: pseudo classifiers of all variates at N points, (..., N, V, C).
        phi: pseudo weights, (..., V, C).

    Returns:
        Responsibilities, NaN at points that the model gives density 0.

    Raises:
        ValueError: `beta` or `phi` has a wrong shape or values that are no probabilities.

    References:
        InClass nets, Eq. (26) and (35).
    """
    terms = _log_terms(beta, phi)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.exp(terms - logsumexp(terms, axis=-1, keepdims=True)))


def _scaled(beta_v: Floats, phi: Floats, v: int) -> Floats:
    """Return `beta_v^i wt_i / phi_v^i`, (..., N, C)."""
    beta_v = _probabilities(beta_v, "beta_v", "(..., points, components)", 2)
    phi = _pseudo_weights(phi)
    if not 0 <= v < phi.shape[-2]:
        raise ValueError(f"variate {v} is not one of 0 to {phi.shape[-2] - 1}")
    return np.asarray(beta_v * (unnormalised_weights(phi) * _reciprocal(phi[..., v, :]))[..., None, :])


def _log_terms(beta: Floats, phi: Floats) -> Floats:
    """Return log of `wt_i^(1-V) prod_v beta_v^i`, (..., N, C); -inf for a component of weight 0."""
    beta = _probabilities(beta, "beta", "(..., points, variates, components)", 3)
    phi = _pseudo_weights(phi)
    if beta.shape[-2:] != phi.shape[-2:]:
        raise ValueError(f"beta and phi must agree in (variates, components), found {beta.shape} and {phi.shape}")
    weights = unnormalised_weights(phi)
    alive = weights > 0
    scale = (1 - beta.shape[-2]) * np.log(weights, out=np.zeros_like(weights), where=alive)
    with np.errstate(divide="ignore"):
        products = np.log(beta).sum(axis=-2)
    return np.where(alive[..., None, :], products + scale[..., None, :], -np.inf)


def _reciprocal(phi: Floats) -> Floats:
    """Return 1 / phi, and 0 for a component that no point belongs to."""
    return np.asarray(np.divide(1.0, phi, out=np.zeros_like(phi), where=phi > 0))


def _total(weights: Floats) -> Floats:
    total = weights.sum(axis=-1, keepdims=True)
    if not np.all(total > 0):
        raise ValueError("every component has pseudo weight 0 in some variate; the mixture is undefined")
    return np.asarray(total)


def _pseudo_weights(phi: Floats) -> Floats:
    return _probabilities(phi, "phi", "(..., variates, components)", 2)


def _probabilities(values: Floats, name: str, axes: str, least: int) -> Floats:
    """Return `values` in double precision once they are probabilities with enough axes."""
    _check(values, name, axes, least)
    return np.asarray(values, dtype=np.float64)


def _check(values: Floats, name: str, axes: str, least: int) -> None:
    if values.ndim < least or 0 in values.shape:
        raise ValueError(f"{name} must be {axes}, found shape {values.shape}")
    if not (values.min() >= 0 and values.max() <= 1 + 1e-5):
        raise ValueError(f"{name} must hold probabilities, found {values.min()} to {values.max()}")
