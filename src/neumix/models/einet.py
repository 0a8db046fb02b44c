"""Einsum networks of images or vectors, trained by EM on each batch or by gradients."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from neumix.accumulation import chunked, mean_in_chunks
from neumix.batching import DeviceSplit
from neumix.density_model import Likelihood
from neumix.einsum_network import EinsumNetwork
from neumix.leaf_distributions import Binomial, Normal
from neumix.models.base import BatchedModel
from neumix.region_graph import RegionGraph, poon_domingos, random_binary_trees
from neumix.seeding import numpy_rng
from neumix.settings import STRICT

__all__ = ["BinaryTrees", "Config", "Em", "Loss", "Model", "PoonDomingos"]

Count = Annotated[int, Field(gt=0)]

_VALUES_AT_ONCE = 2**23


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PoonDomingos:
    """All boxes of a grid of cuts; the channels of a pixel stay together.

    Arguments:
        name: `poon_domingos`.
        pieces: that the cuts of each axis make.
    """

    name: Literal["poon_domingos"]
    pieces: Annotated[int, Field(ge=2)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BinaryTrees:
    """Random halvings of the variables, the same for all seeds of a run.

    Arguments:
        name: `binary_trees`.
        depth: halvings from the root to a leaf.
        repetitions: number of trees.
        seed: of the halvings.
    """

    name: Literal["binary_trees"]
    depth: Count
    repetitions: Count
    seed: int = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the circuits.

    References:
        CPMM, Sec 5.2, Table 1.

    Arguments:
        structure: regions and their partitions.
        leaves: family of the distributions of single variables.
        size: components of each region.
        field: what is modelled: the points `x`, or the integers `levels` that they come from.
    """

    structure: Annotated[PoonDomingos | BinaryTrees, Field(discriminator="name")]
    leaves: Annotated[Normal | Binomial, Field(discriminator="name")]
    size: Count = 10
    field: Literal["x", "levels"] = "x"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Em:
    """One step of EM on each batch; a batch of all points and a step of 1 make it EM in the strict sense.

    The optimiser moves nothing, provided its `weight_decay` is 0.

    References:
        Peharz et al. (2020), Einsum networks: fast and scalable learning of tractable probabilistic circuits, Sec 3.5.

    Arguments:
        name: `em`.
        step: share of the way to what maximises the likelihood of the batch.
    """

    name: Literal["em"]
    step: Annotated[float, Field(gt=0, le=1)] = 0.05


Loss = Annotated[Likelihood | Em, Field(discriminator="name")]


class Model(BatchedModel):
    r"""Densities, or probabilities of integers, $p(x)$ by a circuit of sums and products for each seed.

    References:
        CPMM, Sec 5.2; Peharz et al. (2020).

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: (H, W, channels), or (D,).
        generators: one for each seed; they draw the initial parameters.

    Raises:
        ValueError: the data do not have the field, or the structure does not fit the shape of its points.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        if config.field not in shapes:
            raise ValueError(f"'field' is '{config.field}', but the data only have {', '.join(sorted(shapes))}")
        self.config, self.shape = config, tuple(shapes[config.field])
        self.circuit = EinsumNetwork(_graph(config.structure, self.shape), config.leaves, config.size, generators)

    @property
    def dimension(self) -> int:
        """Number of values of a point."""
        return math.prod(self.shape)

    @property
    def n_parameters(self) -> int:
        """Number of trained values of one seed; the weights of a sum count all, although they sum to one."""
        return sum(parameter.numel() for parameter in self.parameters()) // self.n_seeds

    @property
    def chunk(self) -> int:
        """Points of each seed that are evaluated at once."""
        return max(1, _VALUES_AT_ONCE // self.circuit.values_of_a_point)

    def begin_stage(self, loss: Likelihood | Em, split: DeviceSplit, noise: Sequence[torch.Generator]) -> None:
        """Check that what a binomial distribution is to be of is integers in its range."""
        if isinstance(self.config.leaves, Binomial):
            values, top = split.points()[self.config.field], self.config.leaves.levels - 1
            if bool((values < 0).any() or (values > top).any() or (values != values.floor()).any()):
                raise ValueError(
                    f"binomial leaves need integers from 0 to {top}, but the field '{self.config.field}' has others, "
                    f"from {float(values.min()):g} to {float(values.max()):g}: choose another field, other 'levels', "
                    f"or normal leaves"
                )

    def loss(self, batch: Mapping[str, Tensor], loss: Likelihood | Em, noise: Sequence[torch.Generator]) -> Tensor:
        """Return each seed's mean negative log-likelihood in nats, (S,).

        EM takes its step here, so that the loop shuffles, interrupts, resumes and records it as it does any training:
        the parameters are all there is to keep. Its gradient is zero.
        """
        x = self._rows(batch[self.config.field])
        if isinstance(loss, Likelihood):
            return -mean_in_chunks(self.circuit.log_prob, x, self.chunk, list(self.parameters()))
        if not torch.is_grad_enabled():
            return -chunked(self.circuit.log_prob, x, self.chunk).mean(1)
        found = self.circuit.em_step(x, loss.step, self.chunk)
        smallest = min(self.parameters(), key=Tensor.numel)
        return -found.to(x) + 0 * smallest.flatten(1).sum(1)  # a gradient of zero, with which Adam moves nothing

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Return the log-density, of integers the log-probability, of points (S, N, ...) in nats, (S, N).

        Arguments:
            x: values of the field that is modelled.
            observed: which features to take, booleans of the shape of a point; the others are integrated out.
        """
        features = None if observed is None else observed.flatten()
        return chunked(lambda part: self.circuit.log_prob(part, features), self._rows(x), self.chunk)

    def sample(self, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return samples (S, size, ...) of the field that is modelled, as floats."""
        return torch.unflatten(self.circuit.sample(size, noise), 2, self.shape)

    def _rows(self, x: Tensor) -> Tensor:
        """Return points as rows of floats, (S, N, D)."""
        return x.flatten(2).to(next(self.parameters()))


def _graph(structure: PoonDomingos | BinaryTrees, shape: Sequence[int]) -> RegionGraph:
    """Return the regions of points of a shape."""
    if isinstance(structure, PoonDomingos):
        axes = max(1, len(shape) - 1)  # all but the channels
        return poon_domingos(shape, [structure.pieces] * axes + [1] * (len(shape) - axes))
    rng = numpy_rng(structure.seed, "halvings")
    return random_binary_trees(math.prod(shape), structure.depth, structure.repetitions, rng)
