"""GenMM, LatMM and what lies between, trained by EM with two copies of the parameters."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from neumix.batching import DeviceSplit
from neumix.em import expected_log_likelihood, log_joint, responsibilities, updated_log_weights
from neumix.flow_mixture import Architecture, FlowComponents
from neumix.glow import Shape
from neumix.models.base import BatchedModel
from neumix.settings import STRICT

__all__ = ["Config", "Em", "Loss", "Model"]

Count = Annotated[int, Field(gt=0)]
Floats = Annotated[float, Field(ge=0)]

_CACHED = 2**23  # values of hidden layers of the mixtures that are evaluated at once: those of small flows fit a cache
_HELD = 2**27  # values of hidden layers that are kept for the gradient
_HELD_ON_GPU = 2**31
_ROWS = 1000  # points of each mixture that are evaluated at once without gradients
_INITIAL_POINTS = 512  # that the actnorm layers are fitted to


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config(Architecture):
    """Settings of the mixtures.

    References:
        GenMM, Algorithm 1, Sec II-B.2, Sec IV.A.

    Arguments:
        update_every: epochs between two updates of the weights and of the old parameters.
        tempered: whether responsibilities are made from log-densities divided by the dimension, as for GenMM.
        levels: the data are multiples of 1/levels; noise of that width is added to them, and densities are given for
            data in units of a level. 0: the data are used as they are.
        noise: `normal`: standard deviation of one level, as in the public code; `uniform`: within one level.
    """

    update_every: Count = 5
    tempered: bool = True
    levels: Annotated[int, Field(ge=0)] = 256
    noise: Literal["normal", "uniform"] = "normal"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Em:
    """M-step by gradients: minus Q is what is descended, the negative log-likelihood is what is reported.

    References:
        GenMM, Eq. (14), (25), (26), (27).

    Arguments:
        name: `em`.
        prior: of the scales of latent Gaussians.
        strength: of the prior `l2`.
    """

    name: Literal["em"]
    prior: Literal["gamma", "l2"] | None = None
    strength: Floats = 1.0


Loss = Em


class Model(BatchedModel):
    r"""Mixtures $p(x) = \sum_k \pi_k p_k(x)$, one for each seed, or one for each seed and class.

    Classes are trained at once if the data have the field `by_class`, (C, H, W, channels), and `present`, (C,).

    References:
        GenMM, Eq. (1), (21), Algorithm 1, Sec IV.D.

    Arguments:
        config: settings.
        shapes: of one point of each field of the data.
        generators: one for each seed; they draw the initial weights.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        self.config = config
        classes, shape = _classes_and_shape(shapes)
        self.classes, self.shape = classes, shape
        mixtures = len(generators) * classes
        per_mixture = [generator for generator in generators for _ in range(classes)]
        self.components = FlowComponents(config, shape, per_mixture)
        self.log_weights = nn.Buffer(torch.full((mixtures, config.components), -math.log(config.components)))
        self.frozen = copy.deepcopy(self.components).requires_grad_(False)
        self.epoch = nn.Buffer(torch.zeros((), dtype=torch.int64))
        self.responsibilities = torch.zeros(0)  # (S, C, N, K) of the training points under the old parameters

    def get_extra_state(self) -> Tensor:
        """Return the responsibilities, whose size depends on the data."""
        return self.responsibilities

    def set_extra_state(self, state: Tensor) -> None:
        """Take up the responsibilities."""
        self.responsibilities = state.to(self.log_weights.device)

    @property
    def dimension(self) -> int:
        """Number of values of a point."""
        return math.prod(self.shape)

    @property
    def n_parameters(self) -> int:
        """Number of trained values of one mixture."""
        return sum(parameter.numel() for parameter in self.components.parameters()) // len(self.log_weights)

    @property
    def latent_share(self) -> float:
        """Dimension of the latent that passes through every block over that of the data."""
        return self.components.flows.top_dimension / self.dimension

    def begin_stage(self, loss: Any, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Fit the actnorm layers to some of the points, and start with equal weights."""
        fields = split.points()
        x = fields["by_class" if "by_class" in fields else "x"]
        count = min(_INITIAL_POINTS, x.shape[1])
        order = [torch.randperm(x.shape[1], generator=generator)[:count] for generator in noise]
        some = torch.stack([points[rows.to(x.device)] for points, rows in zip(x, order, strict=True)])
        self.components.initialise(self._by_mixture(self._with_noise(some, noise)))
        self.frozen.load_state_dict(self.components.state_dict())
        self.log_weights.fill_(-math.log(self.config.components))
        self.responsibilities = x.new_zeros(self.n_seeds, self.classes, x.shape[1], self.config.components)

    def begin_epoch(self, epoch: int) -> None:
        """Update the weights and the old parameters every so many epochs."""
        self.epoch.fill_(epoch)
        if epoch and self._refreshes and self.config.components > 1:
            self.log_weights.copy_(updated_log_weights(self.responsibilities).flatten(0, 1))
            self.frozen.load_state_dict(self.components.state_dict())

    @property
    def _refreshes(self) -> bool:
        """Whether the responsibilities of this epoch's points are not known yet."""
        return int(self.epoch) % self.config.update_every == 0

    def loss(self, batch: Mapping[str, Tensor], loss: Em, noise: Sequence[torch.Generator]) -> Tensor:
        """Return each seed's negative log-likelihood, (S,), nats per dimension, with the gradient of -Q in nats."""
        x = self._by_mixture(self._with_noise(batch["by_class" if "by_class" in batch else "x"], noise))
        present = batch["present"].transpose(1, 2).flatten(0, 1) if "present" in batch else x.new_ones(x.shape[:2])
        if not torch.is_grad_enabled():
            log_prob = log_joint(self.log_weights, self._log_densities_in_parts(self.components, x)).logsumexp(2)
            return self._per_dimension(-(log_prob * present).sum(1) / present.sum(1).clamp(min=1))
        gamma = self._expect(x, present, batch["index"])
        if "present" in batch:
            # Present points come first, so that the others need not be computed.
            order = present.argsort(stable=True, dim=1, descending=True)
            mixture = torch.arange(len(x), device=x.device)[:, None]
            x, present, gamma = x[mixture, order], present[mixture, order], gamma[mixture, order]
        return self._maximise(x, present, gamma, loss)

    @torch.no_grad()
    def _expect(self, x: Tensor, present: Tensor, index: Tensor) -> Tensor:
        """Return the responsibilities (G, B, K) under the old parameters, which stay the same for some epochs."""
        if self.config.components == 1:
            return x.new_ones(*x.shape[:2], 1)
        seeds = torch.arange(self.n_seeds, device=index.device)[:, None]
        if not self._refreshes:
            return self.responsibilities[seeds, :, index].transpose(1, 2).flatten(0, 1)
        log_densities = self._log_densities_in_parts(self.frozen, x)
        gamma = responsibilities(self.log_weights, log_densities, self.dimension if self.config.tempered else 1.0)
        known = torch.unflatten(gamma * present[:, :, None], 0, (self.n_seeds, self.classes))  # (S, C, B, K)
        self.responsibilities[seeds, :, index] = known.transpose(1, 2)
        return gamma

    def _maximise(self, x: Tensor, present: Tensor, gamma: Tensor, loss: Em) -> Tensor:
        """Return the negative log-likelihood of each seed with the gradient of each mixture's -Q."""
        learned = dict(self.components.named_parameters())
        gradients = {name: torch.zeros_like(parameter) for name, parameter in learned.items()}
        share = present / present.sum(1, keepdim=True).clamp(min=1)  # of each point in its mixture's mean
        nll = x.new_zeros(len(x))
        for mixtures in self._mixture_parts(x):
            part = {name: self._of(mixtures, p.detach()).requires_grad_() for name, p in learned.items()}
            fixed = {name: self._of(mixtures, buffer) for name, buffer in self.components.named_buffers()}
            count = int(present[mixtures].sum(1).max())
            for rows in self._row_parts(x[mixtures, :count]):
                log_densities = torch.func.functional_call(self.components, {**part, **fixed}, (x[mixtures, rows],))
                joint = log_joint(self.log_weights[mixtures], log_densities)
                q = expected_log_likelihood(gamma[mixtures, rows], joint) * share[mixtures, rows]
                for name, gradient in zip(part, torch.autograd.grad(-q.sum(), list(part.values())), strict=True):
                    self._of(mixtures, gradients[name]).add_(gradient)
                nll[mixtures] -= (joint.detach().logsumexp(2) * share[mixtures, rows]).sum(1)
        if loss.prior is not None and self.config.sources > 1:  # a single source is the standard Gaussian
            log_prior = self.components.log_prior(loss.prior, loss.strength)
            self._add_gradients(-log_prior.sum(), learned, gradients)
        value: Tensor = _Known.apply(  # type: ignore[no-untyped-call]
            self._per_dimension(nll), list(gradients.values()), *learned.values()
        )
        return value

    def _add_gradients(self, value: Tensor, learned: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Add the gradient of a value that not all parameters decide."""
        found = torch.autograd.grad(value, list(learned.values()), allow_unused=True)
        for total, gradient in zip(gradients.values(), found, strict=True):
            if gradient is not None:
                total.add_(gradient)

    def _of(self, mixtures: slice, values: Tensor) -> Tensor:
        """Return the part of a parameter or of its gradient that belongs to some mixtures."""
        each = len(values) // len(self.log_weights)
        return values[mixtures.start * each : mixtures.stop * each]

    def _log_densities_in_parts(self, components: FlowComponents, x: Tensor) -> Tensor:
        """Return the log-densities (G, B, K) of points x (G, B, H, W, C), without gradients."""
        found = x.new_empty(*x.shape[:2], self.config.components)
        named = {**dict(components.named_parameters()), **dict(components.named_buffers())}
        for mixtures in self._mixture_parts(x[:, :_ROWS]):
            part = {name: self._of(mixtures, values) for name, values in named.items()}
            for start in range(0, x.shape[1], _ROWS):
                for rows in self._row_parts(x[mixtures, start : start + _ROWS], start):
                    found[mixtures, rows] = torch.func.functional_call(components, part, (x[mixtures, rows],))
        return found

    def _mixture_parts(self, x: Tensor) -> Iterator[slice]:
        """Yield the mixtures whose points x (G, B, ...) are evaluated at once."""
        at_once = max(1, self._budget(x, _CACHED) // max(1, x.shape[1] * self.components.hidden_values))
        return _even_parts(len(x), at_once)

    def _row_parts(self, x: Tensor, offset: int = 0) -> Iterator[slice]:
        """Yield the points of x (g, B, ...), counted from an offset, that are evaluated at once."""
        at_once = max(1, self._budget(x, _HELD) // (len(x) * self.components.hidden_values))
        return (slice(offset + part.start, offset + part.stop) for part in _even_parts(x.shape[1], at_once))

    def _budget(self, x: Tensor, values: int) -> int:
        return values if x.device.type == "cpu" else _HELD_ON_GPU

    def _with_noise(self, x: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """Return data (S, B, ...) with noise of the width of a level."""
        if not self.config.levels:
            return x
        draws = [self._draw(x.shape[1:], generator) for generator in noise]
        return x + torch.stack(draws).to(x) / self.config.levels

    def _draw(self, size: Sequence[int], generator: torch.Generator) -> Tensor:
        """Return noise for a level of width 1."""
        return (
            torch.randn(*size, generator=generator)
            if self.config.noise == "normal"
            else torch.rand(*size, generator=generator)
        )

    def _by_mixture(self, x: Tensor) -> Tensor:
        """Return points of seeds (S, B, H, W, channels), or of seeds and classes, as points of mixtures (G, B, ...)."""
        return x if x.dim() == 5 else x.transpose(1, 2).flatten(0, 1)

    def _per_dimension(self, nll: Tensor) -> Tensor:
        """Return means of each seed's mixtures (S,), nats per dimension of data in levels, of values in nats (G,)."""
        return torch.unflatten(nll, 0, (self.n_seeds, self.classes)).mean(1) / self.dimension + self.offset

    @property
    def offset(self) -> float:
        """What a negative log-density gains for each dimension, in nats, when data are measured in levels."""
        return math.log(self.config.levels) if self.config.levels else 0.0

    def noisy(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return points (B, H, W, channels) with the noise that the model is trained with."""
        return self._with_noise(x[None], [generator])[0]

    @torch.no_grad()
    def log_joint(self, x: Tensor) -> Tensor:
        """Return log pi_k + log p_k at points (B, H, W, channels) under all mixtures, (S, C, B, K)."""
        log_densities = self._log_densities_in_parts(self.components, x.expand(len(self.log_weights), *x.shape))
        return torch.unflatten(log_joint(self.log_weights, log_densities), 0, (self.n_seeds, self.classes))

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in nats, data as they are, at points (B, H, W, channels), (S, C, B)."""
        return self.log_joint(x).logsumexp(3)

    def nats_per_dimension(self, x: Tensor) -> Tensor:
        """Return the mean negative log-density of points (B, H, W, channels), data in levels, (S, C)."""
        return -self.log_prob(x).mean(2) / self.dimension + self.offset

    def responsibilities_of(self, x: Tensor) -> Tensor:
        """Return responsibilities at points (B, H, W, channels), tempered as in training, (S, C, B, K)."""
        joint = self.log_joint(x)
        weights = torch.unflatten(self.log_weights, 0, joint.shape[:2])
        log_densities = joint - weights[:, :, None]
        return responsibilities(weights, log_densities, self.dimension if self.config.tempered else 1.0)

    def encode(self, x: Tensor, component: Tensor) -> Tensor:
        """Return the latents (S, C, B, D) of points (B, H, W, channels) by components (S, C, B) of all mixtures."""
        latents = self.components.encode(x.expand(len(self.log_weights), *x.shape), component.flatten(0, 1))
        return torch.unflatten(latents, 0, (self.n_seeds, self.classes))

    def decode(self, z: Tensor, component: Tensor) -> Tensor:
        """Return the points (S, C, B, H, W, channels) of latents (S, C, B, D) by components (S, C, B)."""
        x = self.components.decode(z.flatten(0, 1), component.flatten(0, 1))
        return torch.unflatten(x, 0, (self.n_seeds, self.classes))

    def sample(self, size: int, noise: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Return samples (S, C, size, H, W, channels) and the components (S, C, size) that they come from."""
        weights = torch.unflatten(self.log_weights.exp(), 0, (self.n_seeds, self.classes)).cpu()
        labels = [
            torch.multinomial(w, size, replacement=True, generator=g) for w, g in zip(weights, noise, strict=True)
        ]
        normal = [torch.randn(self.classes, size, self.dimension, generator=generator) for generator in noise]
        component = torch.cat(labels).to(self.log_weights.device)
        z = self.components.latents(torch.cat(normal).to(self.log_weights), component)
        parts = zip(torch.split(z, _ROWS, 1), torch.split(component, _ROWS, 1), strict=True)
        x = torch.cat([self.components.decode(latent, which) for latent, which in parts], 1)
        return torch.unflatten(x, 0, (self.n_seeds, -1)), torch.unflatten(component, 0, (self.n_seeds, -1))


def _classes_and_shape(shapes: Mapping[str, Sequence[int]]) -> tuple[int, Shape]:
    """Return the number of classes that are trained at once, and the shape of a point."""
    *classes, height, width, channels = shapes["by_class"] if "by_class" in shapes else shapes["x"]
    return (classes[0] if classes else 1), (height, width, channels)


def _even_parts(count: int, at_most: int) -> Iterator[slice]:
    """Yield parts of about equal size."""
    parts = math.ceil(count / at_most)
    return (slice(count * part // parts, count * (part + 1) // parts) for part in range(parts))


class _Known(torch.autograd.Function):
    """Values of seeds with gradients that are known already."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, gradients: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = outer  # (S,)
        scaled = ((part.reshape(len(scale), -1) * scale[:, None]).view_as(part) for part in ctx.gradients)
        return (None, None, *scaled)
