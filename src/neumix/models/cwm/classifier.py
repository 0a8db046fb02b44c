"""Classifiers of base points: networks of several seeds, and the constant one of ordinary mixtures."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neumix.models.cwm.tanh_network import log_softmax_at, logits
from neumix.nn import BatchedMLP

__all__ = ["Classifier", "ConstantClassifier", "NetworkClassifier"]


class Classifier(nn.Module, ABC):
    """Classifiers $w(z)$ of several seeds: K probabilities at every base point.

    References:
        CWM, Eq. (5), (14).
    """

    @abstractmethod
    def log_weights(self, z: Tensor) -> Tensor:
        """Return log w(z) at base points (S, B, D), (S, B, K)."""

    @abstractmethod
    def log_weight_of(self, seed: int, z: Tensor, component: Tensor) -> Tensor:
        """Return log w_k(z) of one seed at base points (P, D) for one component k each (P,), (P,)."""

    @abstractmethod
    def make_constant(self, log_weights: Tensor) -> None:
        """Make the classifier say the same everywhere: log weights (S, K), normalised."""


class ConstantClassifier(Classifier):
    """The same weights everywhere, which makes an ordinary mixture.

    Arguments:
        components: K.
        n_seeds: number of copies S.
    """

    def __init__(self, components: int, n_seeds: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_seeds, components))

    def log_weights(self, z: Tensor) -> Tensor:
        """Return log w, (S, B, K), without a copy for each point."""
        return self.logits.log_softmax(-1)[:, None].expand(-1, z.shape[1], -1)

    def log_weight_of(self, seed: int, z: Tensor, component: Tensor) -> Tensor:
        """Return log w_k, (P,)."""
        return self.logits[seed].log_softmax(-1)[component]

    @torch.no_grad()
    def make_constant(self, log_weights: Tensor) -> None:
        """Set the weights."""
        self.logits.copy_(log_weights)


class NetworkClassifier(Classifier):
    r"""$w(z) = \mathrm{softmax}(f(z))$ with a fully connected network f whose hidden layers have tanh.

    References:
        CWM, Eq. (14).

    Arguments:
        dimension: D of the base.
        hidden: widths of the hidden layers.
        components: K.
        generators: one for each seed; they draw the initial weights, torch's default ones.
    """

    def __init__(
        self, dimension: int, hidden: Sequence[int], components: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        parameters = BatchedMLP((dimension, *hidden, components), generators, initialisation="fan_in")
        self.weights, self.biases = parameters.weights, parameters.biases

    def log_weights(self, z: Tensor) -> Tensor:
        """Return log w(z) at base points (S, B, D), (S, B, K)."""
        with torch.autocast(z.device.type, enabled=False):
            return logits(z, list(self.weights), list(self.biases)).log_softmax(-1)

    def log_weight_of(self, seed: int, z: Tensor, component: Tensor) -> Tensor:
        """Return log w_k(z) of one seed at base points (P, D) for one component k each (P,), (P,)."""
        weights, biases = ([parameter[seed] for parameter in group] for group in (self.weights, self.biases))
        return log_softmax_at(z, component, weights, biases)

    @torch.no_grad()
    def make_constant(self, log_weights: Tensor) -> None:
        """Set the last layer's weights to zero and its biases to the logarithms of the weights (Sec III-B.1)."""
        self.weights[-1].zero_()
        self.biases[-1].copy_(log_weights[:, None])
