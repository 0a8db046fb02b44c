"""Classifier weighted mixture: density, samples, the estimator of expectations, and how it is started and trained."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from neumix.bases import BASES, BaseName
from neumix.batching import DeviceSplit
from neumix.density_model import DensityModel, Integrand, Likelihood, ReverseKL
from neumix.models.cwm.classifier import Classifier, ConstantClassifier, NetworkClassifier
from neumix.models.cwm.gaussian_start import EM, Library
from neumix.models.cwm.maps import MapsConfig, make_maps
from neumix.settings import STRICT

__all__ = ["Config", "Loss", "Model"]

Count = Annotated[int, Field(gt=0)]

# Pairs of a point and a component whose activations are held at once, by kind of device: a processor's cache holds
# those of some ten thousand; a GPU wants large kernels.
_PAIRS_AT_ONCE = {"cpu": 2**14, "cuda": 2**20}
_SAMPLES_AT_ONCE = 10_000


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the mixture.

    Arguments:
        components: number of components K.
        hidden: widths of the classifier's hidden layers; none for weights that are the same everywhere, which makes an
            ordinary mixture.
        maps: from the data to the base.
        base: base distribution.
        spread: standard deviation of the initial means around 0.
    """

    components: Count
    hidden: tuple[Count, ...] | None = (128, 128, 128)
    maps: MapsConfig
    base: BaseName = "normal"
    spread: Annotated[float, Field(ge=0)] = 1.0


Loss = Annotated[Likelihood | ReverseKL | EM | Library, Field(discriminator="name")]


class Model(DensityModel):
    r"""Mixture whose weights are a classifier of the base point,
    $p(x) = \sum_k w_k(T_k(x)) \, p_0(T_k(x)) \, |\det J_{T_k}(x)|$.

    Every component asks the same classifier at its own $T_k(x)$, so the density needs the k-th output at the k-th
    point and nothing else.

    References:
        CWM, Eq. (12) to (17).

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x` is (D,).
        generators: one for each seed; they draw the initial means, then the networks' weights.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        self.components = config.components
        (self.dimension,) = shapes["x"]
        self.base = BASES[config.base]
        shape = (config.components, self.dimension)
        means = torch.stack([config.spread * torch.randn(shape, generator=generator) for generator in generators])
        self.maps = make_maps(config.maps, means, generators)
        self.classifier: Classifier = (
            ConstantClassifier(config.components, self.n_seeds)
            if config.hidden is None
            else NetworkClassifier(self.dimension, config.hidden, config.components, generators)
        )

    @property
    def chunk(self) -> int:
        """Points of each seed that are evaluated at once."""
        return max(1, _PAIRS_AT_ONCE[next(self.parameters()).device.type] // self.components)

    def begin_stage(self, loss: Any, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Start from a Gaussian mixture before a stage `em` or `scikit_learn` of 0 epochs."""
        if not isinstance(loss, EM | Library):
            return
        log_weights = []
        for seed, (points, generator) in enumerate(zip(split.points()["x"], noise, strict=True)):
            found = loss.fit(points, self.components, self.maps.covariance, generator)
            self.maps.start_from(seed, found.means, found.covariances)
            log_weights.append(found.weights.log())
        self.classifier.make_constant(torch.stack(log_weights).float())

    def loss(self, batch: Mapping[str, Tensor], loss: Any, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the loss of each seed in nats, (S,).

        Raises:
            ValueError: a stage that fits a Gaussian mixture has epochs.
        """
        if isinstance(loss, ReverseKL):
            return self.reverse_kl(loss, batch["x"].shape[1], noise)
        if not isinstance(loss, Likelihood):
            raise ValueError(f"a stage with the loss '{loss.name}' fits itself; give it epochs: 0")
        return self.negative_log_likelihood(batch["x"], lambda x: self.log_joint(x, loss.tolerance).logsumexp(-1))

    def log_joint(self, x: Tensor, tolerance: float = 0.0) -> Tensor:
        r"""Return $\log w_k(T_k(x)) p_0(T_k(x)) |\det J|$ at points (S, B, D), (S, B, K).

        Arguments:
            x: points.
            tolerance: components whose $p_0(T_k(x)) |\det J|$ is no more than this share of the sum over components
                are left out, as minus infinity, but never the largest one. Since weights are at most 1, what is left
                out of the density is known to be at most K times this share of that sum.
        """
        z, log_det = self.maps(x)  # (S, B, K, D), (S, B, K)
        log_density = self.base.log_prob(z) + log_det
        kept = _within(log_density, tolerance) if tolerance else None
        joint = [
            self._weighted(seed, z[seed], log_density[seed], None if kept is None else kept[seed])
            for seed in range(self.n_seeds)
        ]
        return torch.stack(joint)

    def _weighted(self, seed: int, z: Tensor, log_density: Tensor, kept: Tensor | None) -> Tensor:
        """Add one seed's log weights at base points (B, K, D) to log-densities (B, K), where they are kept."""
        labels = torch.arange(self.components, device=z.device).expand(len(z), -1)
        if kept is None:
            return log_density + self.classifier.log_weight_of(seed, z.flatten(0, 1), labels.flatten()).view_as(labels)
        values = log_density[kept] + self.classifier.log_weight_of(seed, z[kept], labels[kept])
        return torch.full_like(log_density, -math.inf).masked_scatter(kept, values)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density at points (S, B, D), (S, B)."""
        return self.log_joint(x).logsumexp(-1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Return P(R = k | x) at points (S, B, D), (S, B, K)."""
        return self.log_joint(x).softmax(-1)

    def base_points(self, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return draws of the base, (S, size, D)."""
        z = torch.stack([self.base.sample((size, self.dimension), generator) for generator in noise])
        return z.to(next(self.parameters()))

    def sample(self, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return samples (S, size, D), by Eq. (17)."""
        return self.sample_with_labels(size, noise)[0]

    def sample_with_labels(self, size: int, noise: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Return samples (S, size, D) and the components (S, size) that they come from."""
        starts = range(0, max(1, size), _SAMPLES_AT_ONCE)
        parts = [self._sample(min(_SAMPLES_AT_ONCE, size - start), noise) for start in starts]
        points, labels = zip(*parts, strict=True)
        return torch.cat(points, 1), torch.cat(labels, 1)

    def _sample(self, size: int, noise: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        z = self.base_points(size, noise)
        weights = self.classifier.log_weights(z).exp().expand(-1, size, -1)
        draws = [torch.multinomial(w.cpu(), 1, generator=g) for w, g in zip(weights, noise, strict=True)]
        labels = torch.stack(draws).to(z.device)  # (S, size, 1)
        chosen = labels[..., None].expand(-1, -1, -1, self.dimension)
        return self.maps.inverse(z).gather(2, chosen)[:, :, 0], labels[..., 0]

    def expectation(self, h: Integrand, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        r"""Return the estimate $\frac{1}{M} \sum_i \sum_k w_k(z_i) h(T_k^{-1}(z_i))$ of E[h(X)], (S,).

        The label is summed over instead of drawn, so nothing stands in the way of the gradient.

        References:
            CWM, Eq. (19).

        Arguments:
            h: maps points (S, N, D) to values (S, N).
            size: draws M of the base.
            noise: one generator for each seed.
        """
        return self.conditional_means(h, self.base_points(size, noise)).mean(1)

    def conditional_means(self, h: Integrand, z: Tensor) -> Tensor:
        """Return E[h(X) | Z = z] at base points (S, M, D), (S, M)."""
        points = self.maps.inverse(z)  # (S, M, K, D)
        values = h(points.flatten(1, 2)).view(points.shape[:3])
        return (self.classifier.log_weights(z).exp() * values).sum(-1)


def _within(log_density: Tensor, tolerance: float) -> Tensor:
    """Return where a value (..., K) is more than a share of the sum over the last axis, or is the largest."""
    threshold = log_density.logsumexp(-1, keepdim=True) + math.log(tolerance)
    return log_density >= torch.minimum(threshold, log_density.amax(-1, keepdim=True))
