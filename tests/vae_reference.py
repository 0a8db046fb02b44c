"""Autoencoders once more, one seed and one point at a time, in float64 and by torch.distributions; small networks."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal
from torch.nn import functional

from neumix.autoencoder import Network

Weights = dict[str, Tensor]

BERNOULLI = Network(encoder=(5,), decoder=(4,))
GAUSSIAN = Network(encoder=(5,), decoder=(4,), activation="leaky_relu", likelihood="gaussian", noise_sd=0.4)
LINEAR = Network(encoder=(), decoder=(), likelihood="gaussian", noise_sd=0.5)
NETWORKS = pytest.mark.parametrize("network", [BERNOULLI, GAUSSIAN], ids=["bernoulli", "gaussian"])


def weights(model: nn.Module) -> Weights:
    """Return the parameters in float64, apart from the model."""
    return {name: parameter.detach().double() for name, parameter in model.named_parameters()}


def scatter(model: nn.Module, scale: float = 0.5) -> None:
    """Move every parameter by some noise, so that none has a special value."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def perceptron(values: Weights, name: str, seed: int, x: Tensor, activation: str) -> Tensor:
    layers = sum(key.startswith(f"{name}.weights.") for key in values)
    for layer in range(layers):
        x = values[f"{name}.weights.{layer}"][seed].T @ x + values[f"{name}.biases.{layer}"][seed, 0]
        if layer < layers - 1:
            x = functional.relu(x) if activation == "relu" else functional.leaky_relu(x, 0.01)
    return x


def posterior(values: Weights, prefix: str, network: Network, seed: int, x: Tensor) -> Normal:
    """Return q(z|x) of one point, a batch of D normals."""
    outputs = perceptron(values, f"{prefix}encoder", seed, x.double().flatten(), network.activation)
    half = len(outputs) // 2
    return Normal(outputs[:half], (outputs[half:] / 2).exp())


def likelihood(values: Weights, prefix: str, network: Network, seed: int, z: Tensor) -> Distribution:
    """Return p(x|z) of one flattened point."""
    outputs = perceptron(values, f"{prefix}decoder", seed, z, network.activation)
    if network.likelihood == "gaussian":
        return Independent(Normal(outputs, math.inf if network.noise_sd is None else network.noise_sd), 1)
    return Independent(Bernoulli(logits=outputs, validate_args=False), 1)


def draws(noise: Sequence[torch.Generator], points: int, dimension: int) -> Tensor:
    """Return what each seed's generator gives for a batch, (S, B, D), in float64."""
    return torch.stack([torch.randn(points, dimension, generator=generator) for generator in noise]).double()


def slopes(
    function: Callable[[Weights], Tensor], values: Weights, step: float = 1e-6
) -> dict[str, tuple[Tensor, float]]:
    """Return for each parameter a random direction and the function's slope along it by central differences."""
    generator = torch.Generator().manual_seed(11)
    found = {}
    for name, value in values.items():
        direction = torch.randn(value.shape, generator=generator).double()
        ends = [function({**values, name: value + sign * step * direction}) for sign in (1, -1)]
        found[name] = (direction, ((ends[0] - ends[1]) / (2 * step)).item())
    return found


def linear_gaussian(
    model: nn.Module, prior_mean: Tensor, prior_variance: Tensor, noise_sd: float, values: int
) -> tuple[Tensor, Tensor]:
    """Give a model of one seed a linear decoder and the encoder of its exact posterior; return the decoder.

    Its weights (D, values) have orthogonal rows, so that the posterior is diagonal; its biases are (values,).

    Arguments:
        model: an `Autoencoder` with `encoder=()` and `decoder=()`.
        prior_mean, prior_variance: (D,), of a diagonal Gaussian prior.
        noise_sd: of the likelihood.
        values: of a point.
    """
    generator = torch.Generator().manual_seed(3)
    dimension = len(prior_mean)
    directions = torch.linalg.qr(torch.randn(values, dimension, generator=generator)).Q.T
    slope = directions * torch.linspace(0.5, 1.5, dimension)[:, None]
    offset = torch.randn(values, generator=generator)
    precision = 1 / prior_variance + slope.square().sum(1) / noise_sd**2
    to_mean = slope / noise_sd**2 / precision[:, None]
    with torch.no_grad():
        model.decoder.weights[0][0], model.decoder.biases[0][0, 0] = slope, offset
        model.encoder.weights[0][0] = torch.cat([to_mean.T, torch.zeros(values, dimension)], 1)
        model.encoder.biases[0][0, 0] = torch.cat(
            [prior_mean / prior_variance / precision - to_mean @ offset, -precision.log()]
        )
    return slope, offset
