"""Expectation-maximisation of mixtures of any densities: responsibilities, expected log-likelihood, weights, bound."""

from typing import Protocol

from torch import Tensor

__all__ = [
    "Components",
    "em_step",
    "expected_log_likelihood",
    "log_joint",
    "lower_bound",
    "responsibilities",
    "updated_log_weights",
]

_LEAST_WEIGHT = 1e-12


class Components(Protocol):
    """Densities that a mixture is made of."""

    def log_densities(self, x: Tensor) -> Tensor:
        """Return the log-density of every component at points (..., N, D), (..., N, K)."""

    def maximise(self, x: Tensor, responsibilities: Tensor) -> None:
        """Raise (or maximise) the sum of log-densities weighted by responsibilities (..., N, K)."""


def log_joint(log_weights: Tensor, log_densities: Tensor) -> Tensor:
    r"""Return $\log \pi_k + \log p_k(x_i)$ for log-weights (..., K) and log-densities (..., N, K)."""
    return log_weights[..., None, :] + log_densities


def responsibilities(log_weights: Tensor, log_densities: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Return $\gamma_{ik} \propto \pi_k p_k(x_i)^{1/T}$, (..., N, K).

    References:
        GenMM, Eq. (3), (13); the temperature T is the dimension of x where GenMM scales log-densities (Sec II-B.2).

    Arguments:
        log_weights: (..., K).
        log_densities: (..., N, K).
        temperature: T, above 0; 1 gives the posterior.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature needs to be above 0, found {temperature}")
    return log_joint(log_weights, log_densities / temperature).softmax(-1)


def expected_log_likelihood(responsibilities: Tensor, log_joint: Tensor) -> Tensor:
    """Return each point's part of Q, (..., N), from responsibilities and log-joint densities (..., N, K).

    References:
        GenMM, Eq. (6), (14).
    """
    return (responsibilities * log_joint).sum(-1)


def lower_bound(responsibilities: Tensor, log_joint: Tensor) -> Tensor:
    r"""Return each point's part of $Q - \sum_k \gamma_k \log \gamma_k$, (..., N), which no log-likelihood is below.

    References:
        GenMM, Sec II-C, proof of Proposition 2.
    """
    entropy = -responsibilities.xlogy(responsibilities).sum(-1)
    return expected_log_likelihood(responsibilities, log_joint) + entropy


def updated_log_weights(responsibilities: Tensor) -> Tensor:
    """Return the logarithm of the mean responsibilities, (..., K), of points (..., N, K) that may have none.

    A weight never falls below 1e-12, so that its logarithm is finite.

    References:
        GenMM, Eq. (16).
    """
    mass = responsibilities.sum(-2)
    return (mass / mass.sum(-1, keepdim=True)).clamp(min=_LEAST_WEIGHT).log()


def em_step(components: Components, log_weights: Tensor, x: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Take one full-batch step of EM in place.

    Arguments:
        components: changed by their own maximisation.
        log_weights: before the step, (..., K).
        x: all points, (..., N, D).
        temperature: see `responsibilities`; only with 1 the mean log-likelihood is sure never to fall.

    Returns:
        Log-weights after the step (..., K), and the mean log-likelihood before it (...).
    """
    log_densities = components.log_densities(x)
    gamma = responsibilities(log_weights, log_densities, temperature)
    components.maximise(x, gamma)
    return updated_log_weights(gamma), log_joint(log_weights, log_densities).logsumexp(-1).mean(-1)
