"""Costs of InClass nets: functions of log pseudo classifiers, one value per seed, with closed-form gradients."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = [
    "MovingAverages",
    "cross_entropy",
    "known_density_log_beta",
    "known_weights",
    "log_softmax",
    "mixture_weights",
    "moving_estimate",
    "neg_cmi",
    "neg_ctc",
    "neg_mi",
    "neg_shannon",
    "neg_tc",
    "tikhonov",
    "unnorm_neg_cmi",
    "unnorm_neg_ctc",
    "update_averages",
]

_LOG_ZERO = -1e4
"""Stands in for log 0, so that a component without support in a batch keeps every cost finite."""


@dataclasses.dataclass(frozen=True)
class MovingAverages:
    """Estimates kept between mini-batches for the moving-estimate gradient.

    `E[x] <- E[x] + (1 - decay) / weight (x - E[x])` with `weight = 1 - decay^t` after t batches, which
    removes the bias towards the start: the first batch counts fully.

    Arguments:
        phi: estimated pseudo weights, (S, V, C).
        aux: estimated expectations of the aggregate classifiers, (S, C).
        weight: weight of all batches seen so far, a scalar; 0 before the first.

    References:
        InClass nets, Appendix B, Eq. (B.8).
    """

    phi: Tensor
    aux: Tensor
    weight: Tensor

    @classmethod
    def start(cls, seeds: int, variates: int, components: int) -> "MovingAverages":
        """Return averages that have seen no batch."""
        phi, aux = torch.zeros(seeds, variates, components), torch.zeros(seeds, components)
        return cls(phi=phi, aux=aux, weight=torch.zeros(()))


def log_softmax(logits: Tensor) -> Tensor:
    """Return log pseudo classifiers in the memory layout that the costs work in.

    The values are those of an ordinary log-softmax over the last axis. The batch lies innermost in memory,
    because kernels over a last axis of two or four components leave most of the processor idle.

    Arguments:
        logits: (S, B, V, C).

    Returns:
        log_beta, (S, B, V, C), a view of memory ordered (S, V, C, B).

    References:
        InClass nets, Eq. (8).
    """
    return torch.log_softmax(_batch_last(logits), dim=2).permute(0, 3, 1, 2)


def neg_ctc(log_beta: Tensor) -> Tensor:
    """Return the negative cross total correlation of each seed.

    The formula is `-mean log(N / D)`, `N = sum_i prod_v beta_v^i (phi_v^i)^((1-V)/V)`,
    `D = sum_i prod_v (phi_v^i)^(1/V)`, where phi_v^i is the batch mean of beta_v^i.

    Arguments:
        log_beta: finite log pseudo classifiers, (S, B, V, C).

    Returns:
        Costs in nats, (S,).

    Raises:
        ValueError: `log_beta` has the wrong number of axes or an empty one.

    References:
        InClass nets, Eq. (24b) and (25).
    """
    return _evaluate(log_beta, lambda x: _cross_total_correlation(x, normalised=True))


def unnorm_neg_ctc(log_beta: Tensor) -> Tensor:
    """Return the unnormalised surrogate `-mean log N`, an upper bound of `neg_ctc`.

    Arguments:
        log_beta: finite log pseudo classifiers, (S, B, V, C).

    Returns:
        Costs in nats, (S,).

    Raises:
        ValueError: `log_beta` has the wrong number of axes or an empty one.

    References:
        InClass nets, Eq. (C.1).
    """
    return _evaluate(log_beta, lambda x: _cross_total_correlation(x, normalised=False))


def neg_cmi(log_beta: Tensor) -> Tensor:
    """Return the negative cross mutual information, the bivariate `neg_ctc`.

    Arguments:
        log_beta: finite log pseudo classifiers, (S, B, 2, C).

    Returns:
        Costs in nats, (S,).

    Raises:
        ValueError: the number of variates is not 2.

    References:
        InClass nets, Eq. (29).
    """
    return neg_ctc(_bivariate(log_beta))


def unnorm_neg_cmi(log_beta: Tensor) -> Tensor:
    """Return the bivariate unnormalised surrogate.

    Arguments:
        log_beta: finite log pseudo classifiers, (S, B, 2, C).

    Returns:
        Costs in nats, (S,).

    Raises:
        ValueError: the number of variates is not 2.

    References:
        InClass nets, Eq. (C.3).
    """
    return unnorm_neg_ctc(_bivariate(log_beta))


def neg_tc(log_alpha: Sequence[Tensor]) -> Tensor:
    """Return the negative total correlation between the classes of the variates (multi-label nets).

    Arguments:
        log_alpha: log classifiers of each variate, (S, B, C_v), normalised over the last axis.

    Returns:
        Costs in nats, (S,).

    Raises:
        ValueError: fewer than two variates, or their numbers of seeds or points differ.

    References:
        InClass nets, Eq. (45a).
    """
    if len(log_alpha) < 2 or len({tuple(item.shape[:2]) for item in log_alpha}) != 1:
        shapes = [tuple(item.shape) for item in log_alpha]
        raise ValueError(f"neg_tc needs two or more variates of shapes (S, B, C_v) with equal S, B; found {shapes}")
    alpha = [item.exp() for item in log_alpha]
    points, count = alpha[0].shape[1], len(alpha)
    combined = alpha[0]
    for classifier in alpha[1:-1]:
        combined = (combined[..., None] * classifier[:, :, None]).flatten(2)  # (S, B, C_1 * ... * C_v)
    joint = combined.transpose(1, 2) @ alpha[-1] / points
    joint = joint.reshape(len(joint), *[classifier.shape[2] for classifier in alpha])  # (S, C_1, ..., C_V)
    log_ratio = _log(joint)
    for position, classifier in enumerate(alpha):
        shape = [len(classifier)] + [1] * count
        shape[1 + position] = classifier.shape[2]
        log_ratio = log_ratio - _log(classifier.mean(1)).view(shape)
    return (joint * log_ratio).flatten(1).sum(1).neg()


def neg_mi(log_alpha: Sequence[Tensor]) -> Tensor:
    """Return the negative mutual information between the classes of two variates.

    Arguments:
        log_alpha: log classifiers (S, B, C_x) and (S, B, C_y), normalised over the last axis.

    Returns:
        Costs in nats, (S,).

    Raises:
        ValueError: the number of variates is not 2.

    References:
        InClass nets, Eq. (45b).
    """
    if len(log_alpha) != 2:
        raise ValueError(f"mutual information is between two variates, found {len(log_alpha)}; use neg_tc")
    return neg_tc(log_alpha)


def mixture_weights(log_beta: Tensor) -> Tensor:
    """Return the mixture weights that the pseudo classifiers imply on this batch, differentiable.

    Arguments:
        log_beta: finite log pseudo classifiers, (S, B, V, C).

    Returns:
        Weights, (S, C), adding up to 1.

    Raises:
        ValueError: `log_beta` has the wrong number of axes or an empty one.

    References:
        InClass nets, Eq. (15) and (16).
    """
    _check(log_beta)
    return torch.softmax(torch.logsumexp(log_beta, dim=1).mean(1), dim=-1)


def tikhonov(weights: Tensor, strength: float) -> Tensor:
    """Return `strength * sum_i w_i^2`, (S,), which evens the weights out for positive strength.

    Arguments:
        weights: mixture weights, (S, C).
        strength: factor of the term; may be negative.

    References:
        InClass nets, Eq. (44a).
    """
    return strength * weights.square().sum(-1)


def neg_shannon(weights: Tensor, strength: float) -> Tensor:
    """Return `strength * sum_i w_i log w_i`, (S,), which evens the weights out for positive strength.

    Arguments:
        weights: mixture weights, (S, C).
        strength: factor of the term; may be negative.

    References:
        InClass nets, Eq. (44b).
    """
    return strength * (weights * _log(weights)).sum(-1)


def known_weights(weights: Tensor, true: Tensor, strength: float) -> Tensor:
    """Return `-strength * sum_i w_i^true log w_i`, (S,), which pulls the weights to known values.

    Arguments:
        weights: mixture weights, (S, C).
        true: known weights, (C,) or (S, C), in the order of the learned components.
        strength: factor of the term.

    References:
        InClass nets, Eq. (43).
    """
    return -strength * (true * _log(weights)).sum(-1)


def update_averages(averages: MovingAverages, log_beta: Tensor, decay: float) -> MovingAverages:
    """Return the averages after one more mini-batch.

    Arguments:
        averages: the averages so far.
        log_beta: finite log pseudo classifiers of the batch, (S, B, V, C).
        decay: share of the past kept by each update, in [0, 1); 0 keeps the last batch only.

    Raises:
        ValueError: `decay` is outside [0, 1).

    References:
        InClass nets, Appendix B, after Eq. (B.8).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay of the moving averages must lie in [0, 1), found {decay}")
    with torch.no_grad():
        x = _batch_last(log_beta)
        weight = decay * averages.weight + (1 - decay)
        step = (1 - decay) / weight
        phi = averages.phi + step * (x.exp().mean(3) - averages.phi)
        responsibilities, _ = _shares(_log_terms(x, _log(phi)[..., None]), dim=1)
        aux = averages.aux + step * (responsibilities.mean(2) - averages.aux)
        return MovingAverages(phi=phi, aux=aux, weight=weight)


def moving_estimate(log_beta: Tensor, averages: MovingAverages) -> Tensor:
    """Return the `neg_ctc` of the batch, with the gradient that moving averages estimate.

    The gradient of `neg_ctc` holds expectations inside a non-linear function, which a small batch estimates with
    a bias. Here those come from `averages`, and the batch only estimates the outer expectation. The factors
    (1-V)/V and 1/V of the two inner terms are kept, without which it is not the gradient of the cost.

    Arguments:
        log_beta: finite log pseudo classifiers, (S, B, V, C).
        averages: moving averages, already updated with this batch.

    Returns:
        Costs in nats, (S,).

    Raises:
        ValueError: `log_beta` has the wrong number of axes or an empty one.

    References:
        InClass nets, Eq. (B.8).
    """

    def evaluate(x: Tensor) -> tuple[Tensor, Tensor]:
        value, _ = _cross_total_correlation(x, normalised=True)
        log_phi = _log(averages.phi)[..., None]  # (S, V, C, 1)
        share = (x - log_phi).exp_().div_(x.shape[3])
        responsibilities, _ = _shares(_log_terms(x, log_phi), dim=1)
        prior, _ = _shares(log_phi.mean(1), dim=1)
        return value, _gradient(share, responsibilities, averages.aux[..., None], prior)

    return _evaluate(log_beta, evaluate)


def cross_entropy(log_beta: Tensor, labels: Tensor) -> Tensor:
    """Return the supervised cost of one classifier, for seeding, supervised and hybrid training.

    Arguments:
        log_beta: log classifier of one variate, (S, B, C).
        labels: class of each point, (S, B), integers below C.

    Returns:
        Mean costs in nats, (S,).

    References:
        InClass nets, Sec 3.3 and 5.3.
    """
    return -log_beta.gather(-1, labels[..., None]).mean((1, 2))


def known_density_log_beta(log_density_ratio: Tensor, log_factor: Tensor) -> Tensor:
    """Return the log pseudo classifier of a variate whose density is known in every component.

    `beta^i` is proportional to `factor_i f^i(x) / P*(x)`. The normalisation over components cancels P*, so log f^i
    serves as well as the log ratio.

    Arguments:
        log_density_ratio: log of f^i / P*, (S, B, C); -inf where f^i is 0, but not in all components of a point.
        log_factor: the trainable part, (S, C).

    Returns:
        Finite log pseudo classifier, (S, B, C).

    References:
        InClass nets, Sec 4.5.
    """
    return torch.log_softmax(log_density_ratio + log_factor[:, None], dim=-1).clamp_min(_LOG_ZERO)


class _WithGradient(torch.autograd.Function):
    """A value that comes with its gradient: about half the kernels of automatic differentiation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        value, gradient = evaluate(x)
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return grad_output[:, None, None, None] * gradient, None


def _evaluate(log_beta: Tensor, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
    """Apply a function from (S, V, C, B) to costs (S,) and their gradient."""
    return cast(Tensor, _WithGradient.apply(_batch_last(log_beta), evaluate))  # type: ignore[no-untyped-call]


def _cross_total_correlation(x: Tensor, normalised: bool) -> tuple[Tensor, Tensor]:
    """Return Eq. (24b) or (C.1) and the gradient with respect to x = log_beta as (S, V, C, B).

    With r_i = n_i / N and d_i = w_i, the gradient at point b is
    `-r_i / B + beta_v^i / (B phi_v^i) ((V-1)/V mean r_i + d_i / V)`, the last term only if normalised.
    """
    share, log_total = _shares(x, dim=3)  # beta / (B phi), (S, V, C, B)
    log_phi = log_total.sub_(math.log(x.shape[3]))  # (S, V, C, 1)
    responsibilities, log_numerator = _shares(_log_terms(x, log_phi), dim=1)
    expected = responsibilities.mean(2, keepdim=True)  # (S, C, 1)
    if not normalised:
        gradient = _gradient(share, responsibilities, expected, torch.zeros_like(expected))
        return -log_numerator.mean((1, 2)), gradient
    weights, log_denominator = _shares(log_phi.mean(1), dim=1)
    value = log_denominator[:, 0, 0] - log_numerator.mean((1, 2))
    return value, _gradient(share, responsibilities, expected, weights)


def _gradient(share: Tensor, responsibilities: Tensor, expected: Tensor, weights: Tensor) -> Tensor:
    """Assemble the gradient in place of `share`; `expected` and `weights` are (S, C, 1)."""
    through_phi = torch.lerp(expected, weights, 1 / share.shape[1])
    return share.mul_(through_phi[:, None]).sub_(responsibilities[:, None], alpha=1 / share.shape[3])


def _log_terms(x: Tensor, log_phi: Tensor) -> Tensor:
    """Return the logs of the summands of N, (S, C, B), from x (S, V, C, B) and log_phi (S, V, C, 1)."""
    variates = x.shape[1]
    return torch.add(x.sum(1), log_phi.sum(1), alpha=(1 - variates) / variates)


def _shares(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return exp(x) divided by its sum over `dim`, and the log of that sum, without overflow or underflow."""
    peak = x.amax(dim, keepdim=True)
    share = (x - peak).exp_()
    total = share.sum(dim, keepdim=True)
    return share.div_(total), total.log_().add_(peak)


def _batch_last(log_beta: Tensor) -> Tensor:
    """Return (S, B, V, C) as contiguous (S, V, C, B), free of cost for what `log_softmax` made."""
    _check(log_beta)
    return log_beta.permute(0, 2, 3, 1).contiguous()


def _check(log_beta: Tensor) -> None:
    if log_beta.ndim != 4 or 0 in log_beta.shape:
        raise ValueError(f"log_beta must be (seeds, batch, variates, components), found {tuple(log_beta.shape)}")


def _bivariate(log_beta: Tensor) -> Tensor:
    _check(log_beta)
    if log_beta.shape[2] != 2:
        raise ValueError(f"cross mutual information is between 2 variates, found {log_beta.shape[2]}; use neg_ctc")
    return log_beta


def _log(probabilities: Tensor) -> Tensor:
    """Return a finite log, so that 0 log 0 is 0 and so is its gradient."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
