"""Exhaustive search for the univariate models of greatest likelihood on a grid of parameters."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass
from torch import Tensor

from neumix.batching import DeviceSplit
from neumix.data.toy_models import LARGEST, Grid, check_on_grid, decoders, kinks, priors
from neumix.models.base import BatchedModel
from neumix.settings import STRICT

__all__ = ["Config", "Loss", "Model", "component_densities", "cross_entropy", "densities", "observations"]

Count = Annotated[int, Setting(gt=0)]

_REACH = 8.0  # standard deviations; a normal law has a mass of 6e-16 further out
_CHUNK = 4_000_000  # densities held at once; 32 MB
_FARTHEST = 6.0  # standard deviations from a mean to a kink; beyond lies a mass of 1e-9, which densities still show
_TINY = 1e-300  # smaller densities would have no logarithm; raising them to this cannot make a model the best one


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the search.

    Arguments:
        grid: values of the parameters; the true ones have to be among them.
        simulations: true models for each seed.
        kept: models with the lowest negative log-likelihood that are kept for each true model.
        resolution: points of the quadrature over x for each standard deviation of the noise.
    """

    grid: Grid
    simulations: Count
    kept: Count = 512
    resolution: Annotated[int, Setting(ge=2)] = 3


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """Negative log-likelihood, minimised over all models of the grid."""

    name: Literal["exhaustive"]


def observations(grid: Grid, resolution: int) -> Tensor:
    """Return evenly spaced x, (X,), so wide that no model of the grid has mass beyond them.

    Arguments:
        grid: the models.
        resolution: points for each standard deviation of the noise; two are enough for sums over the points to be
            integrals of the densities up to rounding, since these are smooth on that scale.
    """
    ends = np.array([min(grid.means), max(grid.means)]) + _REACH * grid.component_sd * np.array([-1, 1])
    alpha, beta, pi, z = np.meshgrid(grid.alpha, grid.beta, grid.pi, ends)
    neuron = alpha * np.maximum(beta * z + pi, 0)
    step = grid.noise_sd / resolution
    reach = _REACH * resolution
    first = math.floor(2 * min(neuron.min(), 0) / step) - reach
    last = math.ceil(2 * max(neuron.max(), 0) / step) + reach
    return torch.arange(first, last + 1, dtype=torch.float64) * step


def component_densities(x: Tensor, decoder: Tensor, means: Tensor, component_sd: float, noise_sd: float) -> Tensor:
    r"""Return the density of X for a latent component at each mean, $\int N(z; \mu, s^2) N(x; f(z), \sigma^2) dz$.

    The integral is exact: on a piece where $f(z) = a z + c$, it is $N(x; a \mu + c, a^2 s^2 + \sigma^2)$ times the
    probability that the posterior of z given x, a normal law, has on the piece.

    References:
        Identifiability, Eq. (3), with the decoder of Appendix J.3.1.

    Arguments:
        x: points, (X,).
        decoder: alpha, beta and pi of both neurons, (..., 3, 2).
        means: of the components, (..., A).
        component_sd: standard deviation of every component.
        noise_sd: standard deviation of the noise.

    Returns:
        Densities (..., A, X).
    """
    slopes, intercepts, edges = _pieces(decoder)
    means = means[..., None]  # (..., A, 1)
    parts = []
    for piece in range(3):
        slope, intercept = (values[..., piece, None, None] for values in (slopes, intercepts))  # (..., 1, 1)
        variance = slope**2 * component_sd**2 + noise_sd**2
        residual = x - (slope * means + intercept)  # (..., A, X)
        posterior = means + slope * component_sd**2 / variance * residual
        posterior_sd = component_sd * noise_sd / variance.sqrt()
        low, high = ((edges[..., side, None, None] - posterior) / posterior_sd for side in (piece, piece + 1))
        normal = torch.exp(residual**2 / (-2 * variance)) / (2 * math.pi * variance).sqrt()
        parts.append(normal * _between(low, high))
    return parts[0] + parts[1] + parts[2]


def _pieces(decoder: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return slopes and intercepts (..., 3) of the affine pieces, and their edges (..., 4) with infinite ends."""
    alpha, beta, pi = decoder.unbind(-2)  # (..., 2)
    bends = torch.where(beta != 0, -pi / torch.where(beta != 0, beta, 1), 0).sort(-1).values
    edges = torch.nn.functional.pad(bends, (1, 0), value=-math.inf)
    edges = torch.nn.functional.pad(edges, (0, 1), value=math.inf)
    outer = 1 + bends.abs()  # in proportion, so that it is a step even from a bend far out
    inside = torch.stack([bends[..., 0] - outer[..., 0], bends.mean(-1), bends[..., 1] + outer[..., 1]], -1)[..., None]
    active = beta[..., None, :] * inside + pi[..., None, :] > 0  # (..., 3, 2)
    return (active * (alpha * beta)[..., None, :]).sum(-1), (active * (alpha * pi)[..., None, :]).sum(-1), edges


def _between(low: Tensor, high: Tensor) -> Tensor:
    """Return the standard normal probability between two points, accurate in both tails."""
    upper = low + high > 0
    low, high = torch.where(upper, -high, low), torch.where(upper, -low, high)
    # torch.special.ndtr loses all digits in the lower tail
    probability: Tensor = (torch.special.erfc(-high / math.sqrt(2)) - torch.special.erfc(-low / math.sqrt(2))) / 2
    return probability


def densities(grid: Grid, x: Tensor, decoder: Tensor, weights: Tensor, means: Tensor) -> Tensor:
    """Return the density of X under models, (..., X).

    Arguments:
        grid: gives the standard deviations of components and noise.
        x: points, (X,).
        decoder: alpha, beta and pi of both neurons, (..., 3, 2).
        weights, means: of the components, (..., J).
    """
    components = component_densities(x, decoder, means, grid.component_sd, grid.noise_sd)
    return (weights[..., None] * components).sum(-2)


def cross_entropy(true: Tensor, model: Tensor, step: float) -> Tensor:
    r"""Return $-\int p(x) \log q(x) dx$ for every pair of densities, (T, M).

    Arguments:
        true: p at evenly spaced points, (T, X).
        model: q, (M, X).
        step: distance of the points.
    """
    return -step * true @ model.clamp_min(_TINY).log().T


class Model(BatchedModel):
    r"""The models of a grid with the lowest negative log-likelihood for each true model.

    The likelihood is that of the true law, $-\int p_{true}(x) \log p(x) dx$. Models with three components compete for
    a truth with three, those with two for a truth with two. Parameter lists that give the same function or the same
    mixture are one model, see `decoders` and `priors`.

    References:
        Identifiability, Sec 4 and Appendix J.3.1.

    Arguments:
        config: settings.
        shapes: of one point of each field of the data.
        generators: one for each seed; nothing is drawn.

    Raises:
        ValueError: more models are to be kept than there are, or the grid has different models that floating point
            numbers do not tell apart.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        _check_resolvable(config.grid)
        self.config = config
        self.priors, self.decoders = priors(config.grid), decoders(config.grid)
        if config.kept > self.n_models(2):
            raise ValueError(f"kept is {config.kept}, but the grid has only {self.n_models(2)} models of 2 components")
        self.x = observations(config.grid, config.resolution)
        size = (self.n_seeds, config.simulations)
        self.entropy: Tensor
        self.likelihood: Tensor
        self.decoder: Tensor
        self.prior: Tensor
        self.register_buffer("entropy", torch.full(size, math.nan, dtype=torch.float64))
        self.register_buffer("likelihood", torch.full((*size, config.kept), math.inf, dtype=torch.float64))
        self.register_buffer("decoder", torch.full((*size, config.kept), -1))
        self.register_buffer("prior", torch.full((*size, config.kept), -1))

    def n_models(self, components: int) -> int:
        """Return how many models compete for a truth with this number of components."""
        return int((self.priors.lists[components] > 0).sum()) * len(self.decoders.lists)

    def n_parameter_lists(self, components: int) -> int:
        """Return how many parameter lists these models stand for."""
        return int(self.priors.lists[components].sum()) * int(self.decoders.lists.sum())

    @property
    def step(self) -> float:
        """Distance of the points x."""
        return self.config.grid.noise_sd / self.config.resolution

    def loss(self, batch: Mapping[str, Tensor], loss: Loss, noise: Sequence[torch.Generator]) -> Tensor:
        """Refuse: there is nothing to descend.

        Raises:
            ValueError: always.
        """
        raise ValueError("this model is fitted in one step: give its stage epochs: 0")

    def begin_stage(self, loss: Loss, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Search all models for each true model.

        Raises:
            ValueError: the truths are not as many as the settings say, or not on the grid.
        """
        if len(split) != self.config.simulations:
            raise ValueError(f"simulations is {self.config.simulations}, but the data has {len(split)} models")
        truths = {name: values.flatten(0, 1) for name, values in split.points().items()}  # (T, ...)
        check_on_grid(self.config.grid, {name: values.cpu().numpy() for name, values in truths.items()})
        x = self.x.to(split.device)
        true = densities(self.config.grid, x, truths["decoder"], truths["weights"], truths["means"])
        self.entropy.copy_((-self.step * torch.special.xlogy(true, true)).sum(-1).reshape(self.entropy.shape))
        lowest, decoder, prior = self._search(x, true, truths["components"])
        for buffer, found in ((self.likelihood, lowest), (self.decoder, decoder), (self.prior, prior)):
            buffer.copy_(found.reshape(buffer.shape))

    def _search(self, x: Tensor, true: Tensor, components: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the lowest negative log-likelihoods (T, K) with the models' decoders and priors (T, K)."""
        n_priors, kept = len(self.priors.weights), self.config.kept
        lists = torch.stack([torch.from_numpy(self.priors.lists[number]) for number in range(2, LARGEST + 1)]).to(x)
        barred = torch.where(lists > 0, 0.0, math.inf)[components - 2]  # (T, R)
        lowest = torch.full((len(true), kept), math.inf, dtype=x.dtype, device=x.device)
        index = torch.full((len(true), kept), -1, device=x.device)
        for first, model in self._models(x):
            found = cross_entropy(true, model, self.step).reshape(len(true), -1, n_priors)
            found = (found + barred[:, None]).flatten(1)
            numbers = torch.arange(found.shape[1], device=x.device).expand_as(found) + first * n_priors
            order = torch.cat([lowest, found], 1).topk(kept, largest=False)
            lowest, index = order.values, torch.cat([index, numbers], 1).gather(1, order.indices)
        return lowest, index // n_priors, index % n_priors

    def _models(self, x: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the densities (D * R, X) of some decoders with all priors, and the first decoder's number."""
        grid = self.config.grid
        weights = torch.from_numpy(self.priors.weights).to(x)  # (R, A)
        means = torch.tensor(grid.means).to(x)
        parameters = torch.from_numpy(self.decoders.parameters).to(x)
        at_once = max(1, _CHUNK // (len(x) * len(weights)))
        for first in range(0, len(parameters), at_once):
            chunk = parameters[first : first + at_once]
            components = component_densities(x, chunk, means, grid.component_sd, grid.noise_sd)  # (D, A, X)
            yield first, (weights @ components).flatten(0, 1)


def _check_resolvable(grid: Grid) -> None:
    """Refuse a grid on which decoders may differ only where a prior has next to no mass."""
    for kink in kinks(grid):
        for mean in (min(grid.means), max(grid.means)):
            distance = abs(kink - mean) / grid.component_sd
            if distance > _FARTHEST:
                raise ValueError(
                    f"grid: a kink at {kink:g} is {distance:g} component_sd away from a mean of {mean:g}; beyond "
                    f"{_FARTHEST:g} decoders that differ only there have the same likelihood in floating point; raise "
                    "component_sd, or bring means and kinks closer"
                )
