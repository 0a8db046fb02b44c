"""Invertible maps from the data to the base, one for each seed and component."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from neumix.coupling import CouplingFlow
from neumix.gaussian_em import Covariance
from neumix.settings import STRICT

__all__ = ["Affine", "DiagonalAffine", "FullAffine", "Maps", "MapsConfig", "Spline", "SplineMaps", "make_maps"]

Count = Annotated[int, Field(gt=0)]
Width = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Affine:
    """Affine maps: Gaussian components, where the base is normal.

    Arguments:
        name: `diagonal` scales each coordinate, `full` multiplies by a matrix.
    """

    name: Literal["diagonal", "full"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Spline:
    """A diagonal affine map followed by a neural spline flow, which starts as the identity.

    Arguments:
        name: `spline`.
        transforms: couplings of each flow.
        hidden: widths of the hidden layers of each coupling's network.
        bins: of each spline.
        bound: the splines are the identity outside [-bound, bound].
    """

    name: Literal["spline"]
    transforms: Count = 2
    hidden: tuple[Width, ...] = (16,)
    bins: Annotated[int, Field(ge=2)] = 8
    bound: Annotated[float, Field(gt=0)] = 5.0


MapsConfig = Annotated[Affine | Spline, Field(discriminator="name")]


class Maps(nn.Module, ABC):
    """Invertible maps $T_k$ of several seeds and components.

    References:
        CWM, Eq. (12).
    """

    covariance: Covariance
    """Of the Gaussian mixture that can be started from."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return T_k(x) (S, B, K, D) and log|det J| (S, B, K) at points (S, B, D)."""

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Return the inverse of every T_k at base points (S, B, D), (S, B, K, D)."""

    @abstractmethod
    def start_from(self, seed: int, means: Tensor, covariances: Tensor) -> None:
        """Make the components of one seed Gaussians with moments (K, D) and (K, D, D)."""


class DiagonalAffine(Maps):
    r"""$T_k(x) = e^{-\lambda_k / 2} (x - \mu_k)$ with log-variances $\lambda_k$.

    References:
        CWM, Eq. (15) with diagonal covariances.

    Arguments:
        means: initial ones, (S, K, D).
    """

    covariance: Covariance = "diag"

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(means)
        self.log_variances = nn.Parameter(torch.zeros_like(means))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return T_k(x) (S, B, K, D) and log|det J| (S, B, K)."""
        z = (x[:, :, None] - self.means[:, None]) * (-0.5 * self.log_variances).exp()[:, None]
        return z, (-0.5 * self.log_variances).sum(-1)[:, None].expand(z.shape[:-1])

    def inverse(self, z: Tensor) -> Tensor:
        """Return the inverse of every T_k, (S, B, K, D)."""
        return z[:, :, None] * (0.5 * self.log_variances).exp()[:, None] + self.means[:, None]

    @torch.no_grad()
    def start_from(self, seed: int, means: Tensor, covariances: Tensor) -> None:
        """Take means and the diagonals of the covariances."""
        self.means[seed] = means
        self.log_variances[seed] = covariances.diagonal(dim1=-2, dim2=-1).log()


class FullAffine(Maps):
    r"""$T_k(x) = A_k (x - \mu_k)$ with any invertible matrix, so that $\Sigma_k = (A_k^T A_k)^{-1}$.

    An ordinary mixture does not feel a rotation of $A_k$; a classifier weighted one does, since it classifies $T_k(x)$.

    References:
        CWM, Eq. (15).

    Arguments:
        means: initial ones, (S, K, D).
    """

    covariance: Covariance = "full"

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(means)
        self.matrices = nn.Parameter(torch.eye(means.shape[-1]).expand(*means.shape, -1).clone())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return T_k(x) (S, B, K, D) and log|det J| (S, B, K)."""
        centred = x[:, :, None] - self.means[:, None]
        z = (self.matrices[:, None] * centred[..., None, :]).sum(-1)
        return z, torch.linalg.slogdet(self.matrices)[1][:, None].expand(z.shape[:-1])

    def inverse(self, z: Tensor) -> Tensor:
        """Return the inverse of every T_k, (S, B, K, D)."""
        inverses = torch.linalg.inv(self.matrices)
        turned: Tensor = (inverses[:, None] * z[:, :, None, None]).sum(-1)
        return turned + self.means[:, None]

    @torch.no_grad()
    def start_from(self, seed: int, means: Tensor, covariances: Tensor) -> None:
        """Take means, and inverses of the covariances' Cholesky factors."""
        self.means[seed] = means
        self.matrices[seed] = torch.linalg.inv(torch.linalg.cholesky(covariances.double()))


class SplineMaps(Maps):
    """A neural spline flow after a diagonal affine map, for every component.

    References:
        CWM, Sec III-A.3, which leaves the maps open; Durkan et al. (2019), Neural spline flows.

    Arguments:
        config: settings.
        means: initial ones of the affine maps, (S, K, D).
        generators: one for each seed; they draw the flows' initial weights.
    """

    covariance: Covariance = "diag"

    def __init__(self, config: Spline, means: Tensor, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.affine = DiagonalAffine(means)
        of_components = [generator for generator in generators for _ in range(means.shape[1])]
        self.flows = CouplingFlow(
            means.shape[-1],
            config.transforms,
            config.hidden,
            "spline",
            of_components,
            bins=config.bins,
            bound=config.bound,
            identity=True,
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return T_k(x) (S, B, K, D) and log|det J| (S, B, K)."""
        scaled, affine = self.affine(x)
        z, spline = self.flows(scaled.transpose(1, 2).flatten(0, 1))  # (S K, B, D), (S K, B)
        return self._by_component(z, len(x)), affine + self._by_component(spline, len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Return the inverse of every T_k, (S, B, K, D)."""
        components = self.affine.means.shape[1]
        x, _ = self.flows.inverse(z[:, None].expand(-1, components, -1, -1).flatten(0, 1))
        scaled = self._by_component(x, len(z))
        return scaled * (0.5 * self.affine.log_variances).exp()[:, None] + self.affine.means[:, None]

    def _by_component(self, of_copies: Tensor, n_seeds: int) -> Tensor:
        """Map (S K, B, ...) to (S, B, K, ...)."""
        return of_copies.view(n_seeds, -1, *of_copies.shape[1:]).transpose(1, 2)

    def start_from(self, seed: int, means: Tensor, covariances: Tensor) -> None:
        """Set the affine maps; the flows stay as they are."""
        self.affine.start_from(seed, means, covariances)


def make_maps(config: Affine | Spline, means: Tensor, generators: Sequence[torch.Generator]) -> Maps:
    """Return maps as configured.

    Arguments:
        config: settings.
        means: initial ones, (S, K, D).
        generators: one for each seed; they draw initial weights.
    """
    if isinstance(config, Spline):
        return SplineMaps(config, means, generators)
    return DiagonalAffine(means) if config.name == "diagonal" else FullAffine(means)
