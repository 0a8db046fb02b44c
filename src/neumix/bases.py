"""Parameter-free base distributions with independent coordinates."""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

__all__ = ["BASES", "Base", "BaseName"]

BaseName = Literal["normal", "laplace", "logistic"]


class Base(Protocol):
    """What a mixture needs of its base distribution $P_0$."""

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density at z (..., D), (...)."""

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return samples of a shape (..., D)."""


class _Normal:
    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * z.square().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator)


class _Laplace:
    def log_prob(self, z: Tensor) -> Tensor:
        return -z.abs().sum(-1) - z.shape[-1] * math.log(2)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        uniform = _open_uniform(shape, generator) - 0.5
        return -uniform.sign() * torch.log1p(-2 * uniform.abs())


class _Logistic:
    def log_prob(self, z: Tensor) -> Tensor:
        return -(z + 2 * torch.nn.functional.softplus(-z)).sum(-1)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return _open_uniform(shape, generator).logit()


def _open_uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return numbers strictly between 0 and 1, whose quantiles are finite."""
    smallest = torch.finfo(torch.float32).eps / 2
    return torch.rand(shape, generator=generator).clamp(smallest, 1 - smallest)


BASES: dict[BaseName, Base] = {"normal": _Normal(), "laplace": _Laplace(), "logistic": _Logistic()}
"""Standard distributions by name."""
