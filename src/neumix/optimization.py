"""What a stage asks of the optimiser: Adam, its learning rate at each step, clipped gradients."""

from collections.abc import Iterable

import torch
from torch import Tensor

from neumix.schedule import Stage

__all__ = ["clip_gradients", "make_optimizer", "set_learning_rate"]


def make_optimizer(parameters: Iterable[Tensor], stage: Stage) -> torch.optim.Adam:
    """Return the optimiser of a stage, without moments yet."""
    return torch.optim.Adam(
        parameters,
        lr=stage.learning_rate,
        betas=stage.betas,
        eps=stage.epsilon,
        weight_decay=stage.weight_decay,
        fused=True,
    )


def set_learning_rate(optimizer: torch.optim.Adam, rate: float) -> None:
    """Give the next step its learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_gradients(parameters: Iterable[Tensor], n_seeds: int, value: float | None, norm: float | None) -> None:
    """Cut the gradients' entries, then shorten each seed's gradient, in place.

    Arguments:
        parameters: of a batched model, the seed being (part of) their first axis.
        n_seeds: number of seeds S.
        value: largest magnitude of an entry, or none.
        norm: largest L2 norm of one seed's gradient over all parameters, or none.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if value is not None:
        for gradient in gradients:
            gradient.clamp_(-value, value)
    if norm is not None and gradients:
        by_seed = [gradient.view(n_seeds, -1) for gradient in gradients]
        length = torch.stack([part.square().sum(1) for part in by_seed]).sum(0).sqrt()  # (S,)
        factor = (norm / length.clamp(min=norm))[:, None]
        for part in by_seed:
            part.mul_(factor)
