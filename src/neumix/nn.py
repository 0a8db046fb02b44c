"""Building blocks that hold the parameters of several independent networks and run them at once."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["BatchedMLP"]


class BatchedMLP(nn.Module):
    r"""Independent multilayer perceptrons of equal shape, evaluated together.

    $$ h_{l+1} = \mathrm{ReLU}(h_l W_l + b_l), $$ without the ReLU after the last layer. Weights start Glorot uniform,
    biases at zero, the defaults of keras' `Dense`. Each network draws from a generator of its own, so its start does
    not depend on which others it is trained with.

    Arguments:
        sizes: widths of input, hidden and output layers.
        generators: one for each network.
    """

    def __init__(self, sizes: Sequence[int], generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, outputs in itertools.pairwise(sizes):
            bound = math.sqrt(6 / (inputs + outputs))
            draws = [torch.rand(inputs, outputs, generator=generator) for generator in generators]
            self.weights.append(nn.Parameter((2 * torch.stack(draws) - 1) * bound))
            self.biases.append(nn.Parameter(torch.zeros(len(generators), 1, outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (networks, batch, inputs) to (networks, batch, outputs)."""
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if layer != last:
                x = x.relu_()
        return x
