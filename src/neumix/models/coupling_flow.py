"""RealNVP and neural spline flows: one coupling flow for each seed."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from neumix.bases import BASES
from neumix.coupling import CouplingFlow, Univariate
from neumix.density_model import DensityModel, Integrand, Likelihood, ReverseKL
from neumix.settings import STRICT

__all__ = ["Config", "Loss", "Model"]

Count = Annotated[int, Field(gt=0)]

_CHUNK = 20_000
_NORMAL = BASES["normal"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """Settings of the flow.

    Arguments:
        univariate: `affine` is RealNVP, `spline` a neural spline flow with couplings.
        transforms: number of couplings.
        hidden: widths of the hidden layers of each coupling's network.
        bins: of each spline.
        bound: the splines are the identity outside [-bound, bound].
    """

    univariate: Univariate
    transforms: Count
    hidden: tuple[Count, ...] = (64, 64, 64)
    bins: Annotated[int, Field(ge=2)] = 8
    bound: Annotated[float, Field(gt=0)] = 5.0


Loss = Annotated[Likelihood | ReverseKL, Field(discriminator="name")]


class Model(DensityModel):
    r"""Density $p(x) = N(T(x); 0, I) |\det J_T(x)|$ with a coupling flow T.

    References:
        CWM, Sec III.C, Table I; Dinh et al. (2017); Durkan et al. (2019).

    Arguments:
        config: settings.
        shapes: of one point of each field of the data: `x` is (D,).
        generators: one for each seed; they draw the initial weights.
    """

    def __init__(
        self, config: Config, shapes: Mapping[str, Sequence[int]], generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__(len(generators))
        (self.dimension,) = shapes["x"]
        self.flow = CouplingFlow(
            self.dimension,
            config.transforms,
            config.hidden,
            config.univariate,
            generators,
            bins=config.bins,
            bound=config.bound,
        )

    @property
    def chunk(self) -> int:
        """Points of each seed that are evaluated at once."""
        return _CHUNK

    @property
    def n_mask_entries(self) -> int:
        """Number of entries of the couplings' masks, which some programs list among the parameters."""
        return len(self.flow.given) * self.dimension

    def loss(
        self, batch: Mapping[str, Tensor], loss: Likelihood | ReverseKL, noise: Sequence[torch.Generator]
    ) -> Tensor:
        """Return the loss of each seed in nats, (S,)."""
        if isinstance(loss, ReverseKL):
            return self.reverse_kl(loss, batch["x"].shape[1], noise)
        return self.negative_log_likelihood(batch["x"], self.log_prob)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density at points (S, B, D), (S, B)."""
        z, log_det = self.flow(x)
        log_prob: Tensor = _NORMAL.log_prob(z) + log_det
        return log_prob

    def sample(self, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return samples (S, size, D)."""
        z = torch.stack([_NORMAL.sample((size, self.dimension), generator) for generator in noise])
        x: Tensor = self.flow.inverse(z.to(next(self.parameters())))[0]
        return x

    def expectation(self, h: Integrand, size: int, noise: Sequence[torch.Generator]) -> Tensor:
        """Return the mean of h over reparameterised samples, (S,)."""
        return h(self.sample(size, noise)).mean(1)
