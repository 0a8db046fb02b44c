"""When two univariate models are the same up to what nobody can tell apart."""

import dataclasses
import itertools
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["CASES", "Relation", "ToyModel", "relation"]

Floats = NDArray[np.float64]
Relation = Literal["same", "affine", "constant", "different"]

CASES = ("fewer components", "idle neuron", "constant decoder", "even decoder")
"""What can be special about a true model; the flags of `ToyModel.cases` in this order."""

_EQUAL = 1e-9  # difference up to which numbers are the same combination of grid values


@dataclasses.dataclass(frozen=True)
class ToyModel:
    """A mixture of components with equal variance, and a decoder of two neurons.

    Arguments:
        weights, means: of the components, (J,).
        decoder: alpha, beta and pi of both neurons, (3, 2).
    """

    weights: Floats
    means: Floats
    decoder: Floats

    @property
    def parameters(self) -> tuple[Floats, Floats, Floats]:
        """Decoder, weights and means."""
        return self.decoder, self.weights, self.means

    def __call__(self, z: Floats) -> Floats:
        """Return the decoder's values at points (Z,)."""
        alpha, beta, pi = self.decoder
        values: Floats = alpha @ np.maximum(beta[:, None] * z + pi[:, None], 0)
        return values

    @property
    def kinks(self) -> Floats:
        """Points where a neuron can switch; one is made up where none can, so that there always is one."""
        _, beta, pi = self.decoder
        return -pi[beta != 0] / beta[beta != 0] if beta.any() else np.zeros(1)

    @property
    def measure(self) -> Floats:
        """Different means with positive weight, increasing, and their weights, (2, M)."""
        means = np.unique(self.means[self.weights > 0])
        return np.stack([means, np.array([self.weights[self.means == mean].sum() for mean in means])])

    @property
    def is_constant(self) -> bool:
        """Whether the decoder does not depend on z."""
        return bool(np.ptp(self(_probes(self.kinks))) <= _EQUAL)

    @property
    def is_even(self) -> bool:
        """Whether the decoder is its own mirror image about a point and not constant: |z| is."""
        kinks = self.kinks
        axes = {float(first + second) / 2 for first, second in itertools.product(kinks, kinks)}
        return not self.is_constant and any(_same_function(self, self, -1, 2 * axis) for axis in axes)

    @property
    def cases(self) -> tuple[bool, bool, bool, bool]:
        """Whether each of `CASES` applies."""
        idle = bool((self.decoder[:2] == 0).any())
        return self.measure.shape[1] < len(self.weights), idle, self.is_constant, self.is_even


def relation(true: ToyModel, other: ToyModel) -> Relation:
    r"""Return how a model relates to the true one, by comparing laws and functions, not parameters.

    Components have the same known variance, so that an affine map that takes the prior P of the one to the prior P'
    of the other is $A(z) = \pm z + b$, and P and P' have the same density exactly if weights and means are the same.

    - `same`: P = P', f = f';
    - `affine`: A takes P to P', and f' = f after the inverse of A;
    - `constant`: f and f' are the same constant, whose prior cannot be told;
    - `different`: none of these.

    References:
        Identifiability, Sec 2 (affine equivalence) and Appendix J.3.1 (vanishing parameters).

    Arguments:
        true: P and f.
        other: P' and f'.
    """
    if true.is_constant:
        return "constant" if _same_function(true, other, 1, 0) else "different"
    for sign in (1, -1):
        shift = float(other.measure.prod(0).sum() - sign * true.measure.prod(0).sum())
        if _same_prior(true, other, sign, shift) and _same_function(true, other, sign, shift):
            return "same" if sign == 1 and abs(shift) <= _EQUAL else "affine"
    return "different"


def _same_prior(true: ToyModel, other: ToyModel, sign: int, shift: float) -> bool:
    """Return whether z -> sign z + shift takes the one prior to the other."""
    image, wanted = true.measure[:, ::sign], other.measure
    mapped = np.stack([sign * image[0] + shift, image[1]])
    return mapped.shape == wanted.shape and bool(np.abs(mapped - wanted).max() <= _EQUAL)


def _same_function(true: ToyModel, other: ToyModel, sign: int, shift: float) -> bool:
    """Return whether f'(sign z + shift) = f(z) everywhere: both sides are affine between the points compared."""
    z = _probes(np.concatenate([true.kinks, sign * (other.kinks - shift)]))
    return bool(np.abs(other(sign * z + shift) - true(z)).max() <= _EQUAL)


def _probes(kinks: Floats) -> Floats:
    """Return points whose values determine a function that is affine between the kinks."""
    return np.concatenate([kinks, [kinks.min() - 1, kinks.max() + 1]])
