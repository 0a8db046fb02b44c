"""Speed of the variational autoencoders and of weak MCC, each against the plain way of doing the same."""

import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from fitting import fit_seconds
from sklearn.cross_decomposition import CCA
from torch import nn
from torch.nn import functional

from neumix.autoencoder import Network
from neumix.data import pinwheel
from neumix.data.dataset import Dataset, Field, Split
from neumix.metrics.correlation import weak_mcc
from neumix.models import mfcvae, vade
from neumix.schedule import Precision, Stage
from neumix.training import Phase, generators

__all__ = ["library_cca", "neumix_mfcvae", "neumix_vade", "neumix_weak_mcc", "plain_mfcvae", "plain_vade"]

MNIST_STEPS, MNIST_BATCH = 6, 512  # of the 118 steps of an epoch
ARCH1 = ((500, 1000), (500, 500))
SYNTHETIC = ((64, 512, 64), (64, 512, 512))
POINTS, CODES, VARIATES = 5000, 50, 20
VADE_EPOCHS = 5  # of 20, so that the mixture fitted at the start has no more than its share


def neumix_mfcvae(fits: int, precision: Precision) -> float:
    """Return seconds for one step of one fit, Arch1 with 25 components on images of 28 x 28, `fits` together."""
    images = np.random.default_rng(0).random((MNIST_STEPS * MNIST_BATCH, 28, 28), np.float32)
    dataset = Dataset({"train": Split({"x": Field(images)})}, "random images")
    network = Network(encoder=ARCH1[0], decoder=ARCH1[1], activation="leaky_relu")
    config = mfcvae.Config(network=network, latent=5, components=25, initial_points=100)
    model = mfcvae.Model(config, dataset.shapes, generators(range(fits), "init"))
    stage = Stage(loss={}, epochs=1, batch_size=MNIST_BATCH, learning_rate=5e-4, precision=precision)
    return fit_seconds(model, dataset, [Phase("main", stage, mfcvae.Loss(name="elbo"))], fits) / MNIST_STEPS / fits


def plain_mfcvae() -> float:
    """Return seconds for the same step of one fit written as a plain PyTorch loop."""
    images = torch.rand(MNIST_STEPS * MNIST_BATCH, 784)
    networks = (_plain((784, *ARCH1[0], 10)), _plain((5, *ARCH1[1], 784)), _PlainPrior(25, 5))
    return _plain_epoch(images, MNIST_BATCH, 5e-4, networks, _bernoulli) / MNIST_STEPS


def neumix_vade(fits: int, precision: Precision) -> float:
    """Return seconds for an epoch of one fit of VaDE on 5000 points of the plane, `fits` together."""
    dataset = pinwheel.load(Path(), pinwheel.Config(size=POINTS), range(fits))
    network = Network(
        encoder=SYNTHETIC[0], decoder=SYNTHETIC[1], activation="leaky_relu", likelihood="gaussian", noise_sd=0.1
    )
    model = vade.Model(vade.Config(network=network, latent=2, components=3), dataset.shapes, generators(range(fits)))
    stage = Stage(loss={}, epochs=VADE_EPOCHS, batch_size=100, learning_rate=2e-3, precision=precision)
    return fit_seconds(model, dataset, [Phase("main", stage, vade.Loss(name="elbo"))], fits) / fits / VADE_EPOCHS


def plain_vade() -> float:
    """Return seconds for the same epoch of one fit written as a plain PyTorch loop."""
    points = torch.from_numpy(pinwheel.load(Path(), pinwheel.Config(size=POINTS), range(1))["train"]["x"].values)
    networks = (_plain((2, *SYNTHETIC[0], 4)), _plain((2, *SYNTHETIC[1], 2)), _PlainPrior(3, 2))
    return _plain_epoch(points, 100, 2e-3, networks, lambda decoded, x: 50 * (decoded - x).square())


def neumix_weak_mcc() -> float:
    """Return seconds for the weak MCC of one pair of codes, 5000 x 50 for the fit and as many for the score."""
    first, second = _codes()
    started = time.perf_counter()
    weak_mcc(first, second, VARIATES)
    return time.perf_counter() - started


def library_cca() -> float:
    """Return seconds for scikit-learn's iterative CCA with as many variates on the same points, fit and transform."""
    first, second = _codes()
    started = time.perf_counter()
    cca = CCA(VARIATES, max_iter=500).fit(first[:POINTS], second[:POINTS])
    cca.transform(first[POINTS:], second[POINTS:])
    return time.perf_counter() - started


def _codes() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(2 * POINTS, CODES))
    mixed = [shared @ rng.normal(size=(CODES, CODES)) for _ in range(2)]
    return mixed[0], mixed[1] + rng.normal(size=mixed[1].shape)


def _bernoulli(decoded: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(decoded, x, reduction="none")


def _plain_epoch(
    points: torch.Tensor,
    batch: int,
    rate: float,
    networks: tuple[nn.Module, nn.Module, "_PlainPrior"],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> float:
    """Return seconds for one pass of Adam over the points with minus the ELBO, as one would first write it."""
    encoder, decoder, prior = networks
    optimizer = torch.optim.Adam([p for network in networks for p in network.parameters()], lr=rate)
    started = time.perf_counter()
    for rows in torch.split(torch.randperm(len(points)), batch):
        x = points[rows]
        mean, log_variance = encoder(x).chunk(2, -1)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        loss = (loss_of(decoder(z), x).sum(-1) + prior.divergence(z, mean, log_variance)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return time.perf_counter() - started


def _plain(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU()]
    return nn.Sequential(*layers[:-1])


class _PlainPrior(nn.Module):
    """Mixture of diagonal Gaussians with the divergence of the ELBO, as one would first write it."""

    def __init__(self, components: int, dimension: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, dimension))
        self.log_variances = nn.Parameter(torch.zeros(components, dimension))

    def divergence(self, z: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        """Return the part of minus the ELBO that is not the reconstruction, (B,)."""
        log_weights = self.logits.log_softmax(-1)
        components = torch.distributions.Normal(self.means, (0.5 * self.log_variances).exp())
        joint: torch.Tensor = components.log_prob(z[:, None]).sum(-1)  # type: ignore[no-untyped-call]
        log_clusters = (joint + log_weights).log_softmax(-1)
        squared = (mean[:, None] - self.means).square() + log_variance[:, None].exp()
        gaussian = 0.5 * (squared / self.log_variances.exp() + self.log_variances - log_variance[:, None] - 1).sum(-1)
        return (log_clusters.exp() * (gaussian + log_clusters - log_weights)).sum(-1)
