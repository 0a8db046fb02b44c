"""Expectation-maximisation of Gaussian mixtures in the form of sufficient statistics: two matrix products a step."""

import dataclasses
import math
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Covariance", "GaussianParameters", "em_step", "fit", "random_start"]

Covariance = Literal["diag", "full"]

_CHUNK_BYTES = 64 * 2**20  # of the responsibilities held at once


@dataclasses.dataclass(frozen=True)
class GaussianParameters:
    """Parameters of a mixture of Gaussians.

    Arguments:
        weights: (K,), positive, summing to one.
        means: (K, D).
        covariances: (K, D, D).
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor


def random_start(
    points: Tensor, components: int, spread: float, generator: torch.Generator, floor: float = 1e-6
) -> GaussianParameters:
    """Return equal weights, different points as means, and one diagonal covariance.

    Arguments:
        points: (N, D).
        components: K.
        spread: the covariance is that of the points, off-diagonals dropped, times this.
        generator: chooses the points.
        floor: least entry of the covariance's diagonal.

    Raises:
        ValueError: there are fewer points than components.
    """
    if len(points) < components:
        raise ValueError(f"{components} components cannot be fitted to {len(points)} points; lower `components`")
    points = points.double()
    chosen = torch.randperm(len(points), generator=generator)[:components].to(points.device)
    covariance = (spread * points.var(0, correction=0)).clamp(min=floor).diag()
    weights = torch.full((components,), 1 / components, dtype=torch.float64, device=points.device)
    return GaussianParameters(weights, points[chosen], covariance.expand(components, -1, -1))


def em_step(
    points: Tensor, parameters: GaussianParameters, covariance: Covariance, floor: float = 1e-6
) -> tuple[GaussianParameters, float]:
    r"""Return the parameters after a step of EM, and the mean log-likelihood in nats before it.

    $\log \pi_k N(x; \mu_k, \Sigma_k)$ is linear in $\Phi(x) = (1, x, x x^T)$, so the E-step is a product of features
    and natural parameters, and the M-step needs nothing but $\sum_i r_{ik} \Phi(x_i)$.

    Squares are taken around the mixture's mean; a component whose distance from there is more than 1e5 times its
    standard deviation loses its digits.

    References:
        Dempster, Laird and Rubin (1977); CWM, Sec III-B.1 uses it to start from.

    Arguments:
        points: (N, D); computed with in float64.
        parameters: before the step.
        covariance: `diag` keeps the covariances diagonal.
        floor: added to the diagonal of every covariance.
    """
    centre = parameters.weights @ parameters.means  # the features are squares: far from 0 they would cancel
    natural = _natural(parameters, centre)  # (F, K)
    statistics = torch.zeros_like(natural)
    log_likelihood = torch.zeros((), dtype=torch.float64, device=points.device)
    for part in torch.split(points, max(1, _CHUNK_BYTES // (8 * natural.shape[1]))):
        features = _features(part.double() - centre)  # (n, F)
        joint = features @ natural  # (n, K)
        log_prob = joint.logsumexp(1, keepdim=True)
        statistics += features.T @ joint.sub_(log_prob).exp_()
        log_likelihood += log_prob.sum()
    return _maximise(statistics, len(points), centre, covariance, floor), log_likelihood.item() / len(points)


def fit(
    points: Tensor,
    start: GaussianParameters,
    *,
    covariance: Covariance,
    iterations: int,
    tolerance: float = 0.0,
    floor: float = 1e-6,
) -> tuple[GaussianParameters, list[float]]:
    """Return the parameters after EM, and the mean log-likelihood before each step.

    Arguments:
        points: (N, D).
        start: parameters to begin with.
        covariance: `diag` keeps the covariances diagonal.
        iterations: largest number of steps.
        tolerance: stop once a step gains less mean log-likelihood than this; 0 takes all steps.
        floor: added to the diagonal of every covariance.
    """
    parameters, curve = start, list[float]()
    for _ in range(iterations):
        parameters, log_likelihood = em_step(points, parameters, covariance, floor)
        curve.append(log_likelihood)
        if tolerance and len(curve) > 1 and curve[-1] - curve[-2] < tolerance:
            break
    return parameters, curve


def _features(x: Tensor) -> Tensor:
    """Return (1, x, x x^T) of points (n, D), (n, 1 + D + D^2)."""
    squares = (x[:, :, None] * x[:, None]).flatten(1)
    return torch.cat([torch.ones_like(x[:, :1]), x, squares], 1)


def _natural(parameters: GaussianParameters, centre: Tensor) -> Tensor:
    """Return the coefficients of the features of x - centre in log pi_k + log N_k, (1 + D + D^2, K)."""
    means = parameters.means - centre
    precisions = torch.linalg.inv(parameters.covariances)
    linear = (precisions @ means[:, :, None])[..., 0]  # (K, D)
    log_volume = torch.linalg.slogdet(parameters.covariances)[1] + means.shape[1] * math.log(2 * math.pi)
    constant = parameters.weights.log() - 0.5 * (log_volume + (linear * means).sum(1))
    return torch.cat([constant[:, None], linear, -0.5 * precisions.flatten(1)], 1).T.contiguous()


def _maximise(
    statistics: Tensor, points: int, centre: Tensor, covariance: Covariance, floor: float
) -> GaussianParameters:
    dimension = len(centre)
    mass = statistics[0] + 10 * torch.finfo(torch.float64).eps  # a component without points must not divide by 0
    means = (statistics[1 : 1 + dimension] / mass).T  # (K, D), from the centre
    squares = (statistics[1 + dimension :] / mass).T.reshape(-1, dimension, dimension)
    covariances = squares - means[:, :, None] * means[:, None]
    if covariance == "diag":
        covariances = covariances.diagonal(dim1=1, dim2=2).diag_embed()
    eye = torch.eye(dimension, dtype=torch.float64, device=statistics.device)
    return GaussianParameters(mass / mass.sum(), means + centre, covariances + floor * eye)
