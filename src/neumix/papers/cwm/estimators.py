"""Estimators of an expectation under a classifier weighted mixture with gradients, and the answer by quadrature."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from neumix.accumulation import mean_in_chunks
from neumix.bases import BASES
from neumix.density_model import Integrand
from neumix.models.cwm.mixture import Model

__all__ = [
    "Estimator",
    "crude",
    "gumbel_softmax",
    "quadrature",
    "rao_blackwell",
    "reinforce",
    "reinforce_leave_one_out",
]

Estimator = Callable[[Model, Integrand, int, Sequence[torch.Generator]], Tensor]
"""Maps a model, h, a number of draws M and one generator for each seed to (S,): the values estimate E[h(X)] and their
gradients its gradient. h maps points (S, N, D) to values (S, N) and may depend on the model's parameters; every
estimator differentiates that dependence too, as training does."""

_REACH = 6.5  # outside lies 1e-10 of a coordinate's standard normal mass


def rao_blackwell(model: Model, h: Integrand, size: int, noise: Sequence[torch.Generator]) -> Tensor:
    r"""Return $\frac{1}{M} \sum_i \sum_k w_k(z_i) h(T_k^{-1}(z_i))$, unbiased with an unbiased gradient.

    References:
        CWM, Eq. (19).
    """
    return model.expectation(h, size, noise)


def crude(model: Model, h: Integrand, size: int, noise: Sequence[torch.Generator]) -> Tensor:
    """Return the mean of h over samples; its gradient takes their labels for constants and is biased.

    References:
        CWM, Eq. (18).
    """
    return _draw(model, h, size, noise)[0].mean(1)


def reinforce(model: Model, h: Integrand, size: int, noise: Sequence[torch.Generator]) -> Tensor:
    r"""Return the mean of h over samples, with the score of each label given z added to the gradient; unbiased.

    Only the label needs the score, $h(x) \nabla \log w_R(z)$; the path from z through the maps is differentiated.

    References:
        CWM, Sec III-B.2; Williams (1992), Simple statistical gradient-following algorithms.
    """
    values, log_weights = _draw(model, h, size, noise)
    return _with_score(values, log_weights, values.detach())


def reinforce_leave_one_out(model: Model, h: Integrand, size: int, noise: Sequence[torch.Generator]) -> Tensor:
    """Return the same as `reinforce`, less a baseline: the mean over the other draws, which keeps it unbiased.

    References:
        Kool et al. (2019), Buy 4 REINFORCE samples, get a baseline for free.

    Raises:
        ValueError: there is a single draw.
    """
    if size < 2:
        raise ValueError(f"the mean over the other draws needs size of at least 2, found {size}")
    values, log_weights = _draw(model, h, size, noise)
    fixed = values.detach()
    others = (fixed.sum(1, keepdim=True) - fixed) / (size - 1)
    return _with_score(values, log_weights, fixed - others)


def gumbel_softmax(
    model: Model, h: Integrand, size: int, noise: Sequence[torch.Generator], *, temperature: float
) -> Tensor:
    r"""Return the mean of h over relaxed samples $\sum_k y_k T_k^{-1}(z)$; value and gradient are biased.

    The relaxed label is $y = \mathrm{softmax}((g + \log w(z)) / \tau)$ with independent standard Gumbel g.

    References:
        CWM, Sec III-B.2; Jang et al. (2017), Categorical reparameterization with Gumbel-softmax.

    Arguments:
        model, h, size, noise: see `Estimator`.
        temperature: tau; towards 0 the sample becomes exact.
    """
    z = model.base_points(size, noise)
    shape = (size, model.components)
    draws = [torch.empty(shape).exponential_(generator=generator) for generator in noise]
    gumbel = -torch.stack(draws).log().to(z)
    relaxed = ((gumbel + model.classifier.log_weights(z)) / temperature).softmax(-1)  # (S, M, K)
    return h((relaxed[..., None] * model.maps.inverse(z)).sum(2)).mean(1)


def quadrature(model: Model, h: Integrand, nodes: int) -> Tensor:
    r"""Return E[h(X)], (S,), by a rule over the base points, up to its error.

    The rule weighs $E[h(X) | Z = z]$ on an even grid by the base density. For smooth functions its error falls
    exponentially with the number of nodes; where a trained classifier changes abruptly it needs fewer of them than
    the rule of Gauss and Hermite, whose nodes lie farther apart. The gradients are summed chunk by chunk.

    Arguments:
        model: with a normal base; in float64, as its parameters' precision is the rule's.
        h: maps points (S, N, D) to values (S, N).
        nodes: along each coordinate.

    Raises:
        ValueError: the base is not normal, so that the grid may miss mass.
    """
    if not isinstance(model.base, type(BASES["normal"])):
        raise ValueError("the grid of the quadrature is made for the base 'normal', found another one")
    parameters = list(model.parameters())
    axis = torch.linspace(-_REACH, _REACH, nodes).to(parameters[0])
    z = torch.cartesian_prod(*[axis] * model.dimension).view(-1, model.dimension)
    mass = model.base.log_prob(z).softmax(0)
    # The weights travel as one more coordinate, times the number of points since a mean over these is taken.
    weighted = torch.cat([z, len(z) * mass[:, None]], 1).expand(model.n_seeds, -1, -1)

    def terms(part: Tensor) -> Tensor:
        return model.conditional_means(h, part[..., :-1]) * part[..., -1]

    return mean_in_chunks(terms, weighted, max(1, model.chunk // model.components), parameters)


def _draw(model: Model, h: Integrand, size: int, noise: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
    """Return h at samples and the log weight that each one's label was drawn with, (S, M) each."""
    z = model.base_points(size, noise)
    log_weights = model.classifier.log_weights(z)  # (S, M, K)
    pairs = zip(log_weights.detach().exp().cpu(), noise, strict=True)
    labels = torch.stack([torch.multinomial(w, 1, generator=generator) for w, generator in pairs]).to(z.device)
    chosen = labels[..., None].expand(-1, -1, -1, model.dimension)
    x = model.maps.inverse(z).gather(2, chosen)[:, :, 0]
    return h(x), log_weights.gather(2, labels)[..., 0]


def _with_score(values: Tensor, log_weights: Tensor, signal: Tensor) -> Tensor:
    """Return the mean of values, whose gradient gets that of the log weights times a signal, (S, M) each."""
    return (values + signal * (log_weights - log_weights.detach())).mean(1)
