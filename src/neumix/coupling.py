"""Coupling flows of several independent copies at once: zuko's transforms driven by batched networks."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from zuko.transforms import (
    ComposedTransform,
    CouplingTransform,
    DependentTransform,
    MonotonicAffineTransform,
    MonotonicRQSTransform,
)

from neumix.nn import BatchedMLP

__all__ = ["CouplingFlow", "Univariate"]

Univariate = Literal["affine", "spline"]


class CouplingFlow(nn.Module):
    r"""Composition of coupling transforms $z = T(x)$, each of which moves every other coordinate given the rest.

    References:
        Dinh et al. (2017), Density estimation using Real NVP (`affine`); Durkan et al. (2019), Neural spline flows
        (`spline`).

    Arguments:
        dimension: D, at least 2.
        transforms: number of couplings; which coordinates move alternates.
        hidden: widths of the hidden layers of each coupling's network.
        univariate: what moves a coordinate.
        bins: of a spline.
        bound: a spline is the identity outside [-bound, bound].
        generators: one for each copy; they draw the initial weights.
        identity: whether to start as the identity, with last layers of zero, instead of torch's default weights.
    """

    def __init__(
        self,
        dimension: int,
        transforms: int,
        hidden: Sequence[int],
        univariate: Univariate,
        generators: Sequence[torch.Generator],
        *,
        bins: int = 8,
        bound: float = 5.0,
        identity: bool = False,
    ) -> None:
        super().__init__()
        if dimension < 2:
            raise ValueError(f"a coupling needs at least 2 coordinates, found {dimension}")
        self.univariate, self.bins, self.bound = univariate, bins, bound
        self.outputs = 2 if univariate == "affine" else 3 * bins - 1
        even = torch.arange(dimension) % 2 == 0
        self.given = [even if layer % 2 else ~even for layer in range(transforms)]
        sizes = [(int(given.sum()), *hidden, int((~given).sum()) * self.outputs) for given in self.given]
        networks = [BatchedMLP(widths, generators, "relu", initialisation="fan_in") for widths in sizes]
        if identity:
            for network in networks:
                nn.init.zeros_(network.weights[-1])
                nn.init.zeros_(network.biases[-1])
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (C, B, D) and log|det dz/dx| (C, B) at points x (C, B, D) of C copies."""
        z, log_det = self._transform().call_and_ladj(x)
        return z, log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return x (C, B, D) and log|det dz/dx| (C, B) at z (C, B, D)."""
        x, log_det = self._transform().inv.call_and_ladj(z)
        return x, -log_det

    def _transform(self) -> ComposedTransform:
        device = next(self.parameters()).device
        return ComposedTransform(
            *(
                CouplingTransform(self._driven_by(network), given.to(device))
                for network, given in zip(self.networks, self.given, strict=True)
            )
        )

    def _driven_by(self, network: nn.Module) -> Callable[[Tensor], Any]:
        """Return the map from the coordinates that stay to the transform of the others."""
        make = self._affine if self.univariate == "affine" else self._spline
        return lambda given: DependentTransform(make(torch.unflatten(network(given), -1, (-1, self.outputs))), 1)

    def _affine(self, parameters: Tensor) -> Any:
        return MonotonicAffineTransform(*parameters.unbind(-1))

    def _spline(self, parameters: Tensor) -> Any:
        sizes = [self.bins, self.bins, self.bins - 1]
        return MonotonicRQSTransform(*torch.split(parameters, sizes, -1), bound=self.bound)
