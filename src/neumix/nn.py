"""Building blocks that hold the parameters of several independent networks and run them at once."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["LEAKY_SLOPE", "Activation", "BatchedMLP", "Initialisation"]

Activation = Literal["relu", "leaky_relu"]
Initialisation = Literal["glorot", "fan_in", "small_normal"]

LEAKY_SLOPE = 0.01
"""Slope of the leaky ReLU below zero, torch's default."""

_SMALL = 0.02


class BatchedMLP(nn.Module):
    r"""Independent multilayer perceptrons of equal shape, evaluated together.

    $$ h_{l+1} = \sigma(h_l W_l + b_l), $$ without the activation after the last layer. Each network draws from a
    generator of its own, so its start does not depend on which others it is trained with.

    Arguments:
        sizes: widths of input, hidden and output layers.
        generators: one for each network.
        activation: of the hidden layers.
        initialisation: `glorot`: uniform weights and zero biases, the defaults of keras' `Dense`; `fan_in`: weights and
            biases uniform within 1 / sqrt(inputs), the defaults of torch's `Linear`; `small_normal`: weights normal
            with standard deviation 0.02, zero biases.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        generators: Sequence[torch.Generator],
        activation: Activation = "relu",
        initialisation: Initialisation = "glorot",
    ) -> None:
        super().__init__()
        self.activation = activation
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, outputs in itertools.pairwise(sizes):
            draws = [_initial(inputs, outputs, generator, initialisation) for generator in generators]
            weights, biases = zip(*draws, strict=True)
            self.weights.append(nn.Parameter(torch.stack(weights)))
            self.biases.append(nn.Parameter(torch.stack(biases)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (networks, batch, inputs) to (networks, batch, outputs), of the parameters' dtype under autocast too."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer != last:
                x = x.relu_() if self.activation == "relu" else functional.leaky_relu_(x, LEAKY_SLOPE)
        return x.to(self.biases[last].dtype)  # so that what is summed over the outputs keeps it


def _initial(
    inputs: int, outputs: int, generator: torch.Generator, initialisation: Initialisation
) -> tuple[Tensor, Tensor]:
    """Return weights (inputs, outputs) and biases (1, outputs) of a layer."""
    if initialisation == "small_normal":
        return _SMALL * torch.randn(inputs, outputs, generator=generator), torch.zeros(1, outputs)
    bound = math.sqrt(6 / (inputs + outputs)) if initialisation == "glorot" else 1 / math.sqrt(inputs)
    weights = (2 * torch.rand(inputs, outputs, generator=generator) - 1) * bound
    if initialisation == "glorot":
        return weights, torch.zeros(1, outputs)
    return weights, (2 * torch.rand(1, outputs, generator=generator) - 1) * bound
