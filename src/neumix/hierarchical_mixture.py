"""Mixtures of mixtures of factor analysers: the density, the clusters, and how they are trained and started."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from neumix.accumulation import chunked
from neumix.batching import DeviceSplit
from neumix.factor_analyzers import FactorAnalyzers
from neumix.models.base import BatchedModel
from neumix.seeding import derive
from neumix.settings import STRICT

__all__ = ["Diagonal", "HierarchicalMixture", "Likelihood", "Start", "Structure", "clustered"]

Count = Annotated[int, Field(gt=0)]
Floats = NDArray[np.float32]
Start = Literal["kmeans", "kmeans_fa"]
Diagonal = Literal["variable", "constant"]

_VALUES_AT_ONCE = 2**25
_FEW_CENTRES = 50  # above, k-means by mini-batches
_POINTS_PER_FACTOR = 5  # fewer decide no factor analyser
_BORROWED = 10  # points' worth of the variances of all that every cluster has
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Structure:
    """How many components there are, of which form, and in which clusters.

    References:
        CPMM, Sec 2.1.1, Sec 3.2, Sec 5.2, Appendix C.

    Arguments:
        clusters: number C of mixtures.
        components: number G of components of each.
        rank: number R of columns of A.
        diagonal: of the covariance: `variable`: an entry for each feature of each component; `constant`: one number
            for all features and components of a cluster.
        least_log_variance: soft lower limit of log d.
    """

    clusters: Count
    components: Count
    rank: Count = 6
    diagonal: Diagonal = "variable"
    least_log_variance: float = -6.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Likelihood:
    """Mean negative log-likelihood in nats, minus a reward for clusters of equal size.

    The data of a stage on split `spaces` are seen through a flow: its first epoch shows them in the flow's latent
    space, every other epoch in the next one.

    References:
        CPMM, Sec 3.3, Sec 5, Appendix B.

    Arguments:
        name: `nll`.
        noise: standard deviation of normal noise that is added to the points.
        balance: weight of the entropy of the clusters' mean responsibilities in a batch, in nats per dimension.
        start: what the stage begins with: k-means, k-means with a factor analyser fitted to each cluster; or, if none,
            what is there: random numbers, or what the stage before has left.
    """

    name: Literal["nll"]
    noise: Annotated[float, Field(ge=0)] = 0.01
    balance: Annotated[float, Field(ge=0)] = 0.0
    start: Start | None = None


class HierarchicalMixture(BatchedModel):
    r"""Mixtures $p(x) = \sum_c \eta_c \sum_j \pi_{cj} N(x; \mu_{cj}, A_{cj} A_{cj}^T + D_{cj})$ of S seeds.

    References:
        CPMM, Eq. (7).

    Arguments:
        structure: number and form of components.
        shape: of a point.
        n_seeds: S.
    """

    space: Tensor

    def __init__(self, structure: Structure, shape: Sequence[int], n_seeds: int) -> None:
        super().__init__(n_seeds)
        self.structure, self.shape, self.dimension = structure, tuple(shape), math.prod(shape)
        self.register_buffer("space", torch.zeros((), dtype=torch.long))

    @abstractmethod
    def mixtures(self) -> FactorAnalyzers:
        """Return the components of the clusters, one cluster after the other."""

    @property
    def n_parameters(self) -> int:
        """Number of trained values of one seed."""
        return sum(parameter.numel() for parameter in self.parameters()) // self.n_seeds

    @property
    def n_extracted(self) -> int:
        """Number of values that the components of one seed have."""
        found = self.mixtures()
        parts = (found.log_weights, found.means, found.factors, found.log_variances)
        return sum(part[0].numel() for part in parts)

    def begin_epoch(self, epoch: int) -> None:
        """Move on to the next space, if the stage shows the data in several."""
        self.space.fill_(epoch)

    def points_to_start(self, split: DeviceSplit) -> Tensor:
        """Return the points that a stage begins with, (S, N, M); of several spaces, those in the first."""
        self.begin_epoch(0)
        return self.points(split.points())

    def points(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the points of a batch in the space at hand, (S, B, M)."""
        if "path" not in batch:
            return batch["x"].flatten(2)
        path = batch["path"]
        space = min(int(self.space), path.shape[2] - 1)
        return path[:, :, space].flatten(2).float()

    def loss(self, batch: Mapping[str, Tensor], loss: Likelihood, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the loss of each seed in nats, (S,)."""
        x = self.points(batch)
        if loss.noise and torch.is_grad_enabled():
            x = x + loss.noise * torch.stack([torch.randn(x.shape[1:], generator=g) for g in noise]).to(x)
        joint = self.mixtures().log_joint(x)  # (S, B, C G)
        value: Tensor = -joint.logsumexp(2).mean(1)
        if not loss.balance:
            return value
        # In logs: the share of a cluster without points is rounded to 0, where the entropy's gradient is infinite.
        log_shares = self._log_clusters(joint).logsumexp(1) - math.log(x.shape[1])  # (S, C)
        entropy = -(log_shares.exp() * log_shares).sum(1)
        return value - loss.balance * self.dimension * entropy

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in nats at points (S, N, ...), (S, N)."""
        found = self.mixtures()
        return chunked(found.log_prob, x.flatten(2), self.chunk)

    def cluster_responsibilities(self, x: Tensor) -> Tensor:
        """Return P(c | x) at points (S, N, ...), (S, N, C)."""
        found = self.mixtures()
        return chunked(lambda part: self._log_clusters(found.log_joint(part)).exp(), x.flatten(2), self.chunk)

    def sample(self, size: int, noise: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Return samples (S, size, ...) and their clusters (S, size)."""
        points, components = self.mixtures().sample(size, noise)
        return torch.unflatten(points, 2, self.shape), components // self.structure.components

    @property
    def chunk(self) -> int:
        """Points of each seed that are evaluated at once."""
        structure = self.structure
        values = self.n_seeds * structure.clusters * structure.components * (structure.rank + 2)
        return max(1, _VALUES_AT_ONCE // values)

    def limited(self, raw: Tensor) -> Tensor:
        """Return log d, which never falls below its limit, from a number without one."""
        least = self.structure.least_log_variance
        return least + torch.nn.functional.softplus(raw - least)

    def unlimited(self, log_variances: Tensor) -> Tensor:
        """Return the numbers whose `limited` is log d; what lies at or below the limit comes out slightly above it."""
        above = (log_variances - self.structure.least_log_variance).clamp(min=1e-3)
        return self.structure.least_log_variance + above + torch.log(-torch.expm1(-above))

    def _log_clusters(self, joint: Tensor) -> Tensor:
        """Return log P(c | x) from log-joints (S, N, C G), (S, N, C)."""
        structure = self.structure
        by_cluster = torch.unflatten(joint, 2, (structure.clusters, structure.components)).logsumexp(3)
        return by_cluster.log_softmax(2)


def clustered(x: Tensor, count: int, rank: int, generator: torch.Generator) -> FactorAnalyzers:
    """Return a start for the components of one seed: the clusters of k-means, with a factor analyser of each.

    A cluster with few points leans on the variances of all points.

    References:
        CPMM, Sec 5; Richardson and Weiss (2018), On GANs and GMMs, Sec 2.2.

    Arguments:
        x: points, (N, M).
        count: of components, K.
        rank: R; 0 gives variances alone, with factors of no columns.
        generator: its seed decides the start of k-means.

    Raises:
        ValueError: there are fewer points than components.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans  # scikit-learn takes seconds to import: only where it is used

    if count > len(x):
        raise ValueError(f"{count} components are asked for, but there are {len(x)} points: give fewer, or more data")
    points = x.cpu().numpy()
    number = derive(generator.initial_seed(), "k-means") % 2**32
    method = (
        KMeans(count, n_init=1, random_state=number)
        if count <= _FEW_CENTRES
        else MiniBatchKMeans(count, batch_size=4096, n_init=1, random_state=number)
    )
    labels = method.fit_predict(points)
    means = np.asarray(method.cluster_centers_, np.float32)
    factors, variances = _analyzers(points, labels, means, rank, number)
    shares = np.bincount(labels, minlength=count) + 1.0
    parts = (np.log(shares / shares.sum()), means, factors, np.log(variances))
    return FactorAnalyzers(*(torch.from_numpy(np.asarray(part, np.float32))[None].to(x.device) for part in parts))


def _analyzers(x: Floats, labels: NDArray[np.int64], means: Floats, rank: int, number: int) -> tuple[Floats, Floats]:
    """Return factors (K, M, R) and variances (K, M) of a factor analyser fitted to each cluster."""
    from sklearn.decomposition import FactorAnalysis

    overall = x.var(0) + _LEAST_VARIANCE
    factors = np.zeros((*means.shape, rank), np.float32)
    variances = np.empty_like(means)
    for component, mean in enumerate(means):
        own = x[labels == component] - mean
        count, found = len(own), overall
        if rank and count > _POINTS_PER_FACTOR * rank:
            columns = min(rank, x.shape[1])
            analyzer = FactorAnalysis(columns, tol=0.1, max_iter=50, random_state=number).fit(own)
            factors[component, :, :columns], found = analyzer.components_.T, analyzer.noise_variance_
        elif count:
            found = np.square(own).mean(0)
        share = count / (count + _BORROWED)
        variances[component] = np.maximum(share * found + (1 - share) * overall, _LEAST_VARIANCE)
    return factors, variances
