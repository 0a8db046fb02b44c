"""The classifiers of an InClass net and what they are trained to minimise."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from neumix.batching import DeviceSplit
from neumix.models.base import BatchedModel
from neumix.models.inclass import costs
from neumix.nn import BatchedMLP
from neumix.settings import STRICT

__all__ = ["Config", "Loss", "Model"]

Count = Annotated[int, Field(gt=0)]
_MULTI_LABEL_COSTS = ("neg_tc", "neg_mi")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the classifiers.

    Arguments:
        components: number of components C, or one number for each variate (multi-label nets only).
        hidden: widths of the hidden layers.
        shared: whether all variates use one classifier; they then need one shape.
        known_variate: a variate whose component densities are known; its classifier has one trainable factor for
            each component and nothing else (Sec 4.5).
    """

    components: Count | tuple[Count, ...]
    hidden: tuple[Count, ...] = (32, 32, 32)
    shared: bool = False
    known_variate: Annotated[int, Field(ge=0)] | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Loss:
    """A cost and the terms added to it.

    Arguments:
        name: the cost; `moving_estimate` is neg_ctc with the gradient of Eq. (B.8), `hybrid` is neg_ctc plus
            `supervision` times the cross-entropy of labelled images (Sec 5.3).
        supervision: weight of the cross-entropy in `hybrid`.
        decay: decay rate of the moving averages of `moving_estimate`.
        known_weights: true mixture weights, in any order of the components (Eq. 43).
        known_weights_strength: lambda of that term.
        tikhonov: lambda of Eq. (44a).
        neg_shannon: lambda of Eq. (44b).
    """

    name: Literal[
        "neg_ctc",
        "neg_cmi",
        "unnorm_neg_ctc",
        "unnorm_neg_cmi",
        "neg_tc",
        "neg_mi",
        "moving_estimate",
        "cross_entropy",
        "hybrid",
    ]
    supervision: Annotated[float, Field(ge=0)] = 1.0
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    known_weights: tuple[float, ...] | None = None
    known_weights_strength: float = 0.0
    tikhonov: float = 0.0
    neg_shannon: float = 0.0

    def __post_init__(self) -> None:
        if (self.known_weights is None) != (self.known_weights_strength == 0):
            raise ValueError("known_weights and known_weights_strength go together; give both or neither")
        terms = self.known_weights_strength or self.tikhonov or self.neg_shannon
        if terms and self.name in ("cross_entropy", *_MULTI_LABEL_COSTS):
            raise ValueError(
                f"known_weights, tikhonov and neg_shannon need mixture weights, which '{self.name}' has not"
            )


class Model(BatchedModel):
    r"""One classifier for each variate, $\beta_v^{(i)}(x_v)$, for every seed.

    Classifiers of equal shape run as one batched network over seeds and variates.

    References:
        InClass nets, Sec 2.1, Fig 1.

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x` is (V, ...).
        generators: one for each seed; they draw the initial weights.
    """

    phi: Tensor
    aux: Tensor
    seen: Tensor

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        n_variates, *shape = shapes["x"]
        if config.known_variate is not None and config.known_variate >= n_variates:
            raise ValueError(f"known_variate is {config.known_variate}, but variates are 0 to {n_variates - 1}")
        self.config = config
        self.learned = [v for v in range(n_variates) if v != config.known_variate]
        self.n_variates = n_variates
        counts = config.components
        self.components = (counts,) * n_variates if isinstance(counts, int) else counts
        if len(self.components) != n_variates:
            raise ValueError(f"components has {len(self.components)} numbers for {n_variates} variates")
        self.grouped = len({self.components[v] for v in self.learned}) == 1
        if config.shared and not self.grouped:
            raise ValueError("a shared classifier needs the same number of components for every variate")
        self.copies = 1 if config.shared else len(self.learned)
        inputs = math.prod(shape)
        sizes = (inputs, *config.hidden)
        if self.grouped:
            each = [generator for generator in generators for _ in range(self.copies)]
            self.networks = nn.ModuleList([BatchedMLP((*sizes, self.components[self.learned[0]]), each)])
        else:
            self.networks = nn.ModuleList([BatchedMLP((*sizes, self.components[v]), generators) for v in self.learned])
        if config.known_variate is not None:
            self.log_factor = nn.Parameter(torch.zeros(self.n_seeds, self.components[config.known_variate]))
        if isinstance(counts, int):
            self.register_buffer("phi", torch.zeros(self.n_seeds, n_variates, counts))
            self.register_buffer("aux", torch.zeros(self.n_seeds, counts))
            self.register_buffer("seen", torch.zeros(()))

    @property
    def n_parameters(self) -> int:
        """Number of trainable parameters of one seed."""
        return sum(parameter.numel() for parameter in self.parameters()) // self.n_seeds

    def begin_stage(self, loss: Loss, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Forget the moving averages of the stage before."""
        if isinstance(self.config.components, int):
            for buffer in (self.phi, self.aux, self.seen):
                buffer.zero_()

    def log_beta(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return log beta of every variate, (S, B, V, C), for fields `x` (and `log_density_ratio`)."""
        x = batch["x"]
        if self.config.known_variate is None:
            return self._grouped(x)
        logs = list(self._grouped(x[:, :, self.learned]).unbind(2))
        known = costs.known_density_log_beta(batch["log_density_ratio"], self.log_factor)
        logs.insert(self.config.known_variate, known)
        return torch.stack(logs, 2)

    def log_beta_by_variate(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Return log alpha of each variate, (S, B, C_v), where the numbers of classes may differ."""
        if self.grouped:
            return list(self.log_beta(batch).unbind(2))
        inputs = (batch["x"][:, :, v].reshape(*batch["x"].shape[:2], -1) for v in self.learned)
        return [network(x).log_softmax(-1) for network, x in zip(self.networks, inputs, strict=True)]

    def log_beta_single(self, images: Tensor) -> Tensor:
        """Return log beta of single inputs (S, B, ...) to a shared classifier, (S, B, C)."""
        if not self.config.shared:
            raise ValueError("single inputs need a shared classifier: set model.shared to true")
        logits: Tensor = self.networks[0](images.flatten(2))
        return logits.log_softmax(-1)

    def _grouped(self, x: Tensor) -> Tensor:
        """Map (S, B, V, ...) to log-softmax outputs (S, B, V, C) by one batched network."""
        seeds, points, variates = x.shape[:3]
        if self.config.shared:
            logits = self.networks[0](x.reshape(seeds, points * variates, -1))
            return costs.log_softmax(logits.view(seeds, points, variates, -1))
        inputs = x.transpose(1, 2).reshape(seeds * variates, points, -1)
        logits = self.networks[0](inputs).view(seeds, variates, points, -1)
        return costs.log_softmax(logits.transpose(1, 2))

    def loss(self, batch: Mapping[str, Tensor], loss: Loss, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the cost of each seed, (S,)."""
        if loss.name == "cross_entropy":
            return costs.cross_entropy(self.log_beta_single(batch["image"]), batch["y"])
        if loss.name in _MULTI_LABEL_COSTS:
            return _MULTI_LABEL[loss.name](self.log_beta_by_variate(batch))
        if not isinstance(self.config.components, int):
            raise ValueError(
                f"'{loss.name}' needs one number of components for all variates: set model.components to it"
            )
        log_beta = self.log_beta(batch)
        if loss.name == "moving_estimate":
            cost = self._moving_estimate(log_beta, loss.decay)
        else:
            cost = _COSTS[loss.name](log_beta)
        if loss.name == "hybrid":
            cost = cost + loss.supervision * costs.cross_entropy(self.log_beta_single(batch["image"]), batch["y"])
        return cost + self._terms(log_beta, loss)

    def _moving_estimate(self, log_beta: Tensor, decay: float) -> Tensor:
        averages = costs.MovingAverages(self.phi, self.aux, self.seen)
        if torch.is_grad_enabled():
            averages = costs.update_averages(averages, log_beta.detach(), decay)
            self.phi, self.aux, self.seen = averages.phi, averages.aux, averages.weight
        return costs.moving_estimate(log_beta, averages)

    @staticmethod
    def _terms(log_beta: Tensor, loss: Loss) -> Tensor | float:
        """Return the sum of the terms (43) and (44) that the loss asks for."""
        if not (loss.known_weights_strength or loss.tikhonov or loss.neg_shannon):
            return 0.0
        weights = costs.mixture_weights(log_beta)
        total = costs.tikhonov(weights, loss.tikhonov) + costs.neg_shannon(weights, loss.neg_shannon)
        if loss.known_weights is not None:
            true = weights.new_tensor(loss.known_weights)
            total = total + costs.known_weights(weights, true, loss.known_weights_strength)
        return total


_COSTS = {
    "neg_ctc": costs.neg_ctc,
    "neg_cmi": costs.neg_cmi,
    "unnorm_neg_ctc": costs.unnorm_neg_ctc,
    "unnorm_neg_cmi": costs.unnorm_neg_cmi,
    "hybrid": costs.neg_ctc,
}
_MULTI_LABEL = {"neg_tc": costs.neg_tc, "neg_mi": costs.neg_mi}
