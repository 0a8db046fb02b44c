"""Pictures of what a trained mixture VAE has learned: samples and reconstructions by component."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neumix.mixture_vae import MixtureVAE
from neumix.training import generators

__all__ = ["RECONSTRUCTIONS", "component_panels"]

RECONSTRUCTIONS = 4
_FIT = 0  # the fit that is shown: the first seed, chosen before any was trained


def component_panels(model: MixtureVAE, x: torch.Tensor, samples: int) -> dict[str, NDArray[Any]]:
    """Return samples of each component of the first fit, and points assigned to it with their reconstructions.

    Components are in the order of their mean confidence: the mean of p(k|z) over the points for which k is the most
    probable component; one without points comes last.

    References:
        Identifiability, Figs 8 and 9.

    Arguments:
        model: trained, with one facet.
        x: images, (S, N, H, W).
        samples: for each component.

    Returns:
        `samples` (K, samples, H, W), `inputs` and `reconstructions` (K, 4, H, W), NaN where a component has fewer
        points, `confidence` (K,) and `members` (K,), the number of its points.
    """
    codes = model.codes(x)
    responsibilities = model.prior.responsibilities(codes)[_FIT, :, 0].double().numpy()  # (N, K)
    assigned = responsibilities.argmax(-1)
    components = responsibilities.shape[-1]
    members = np.bincount(assigned, minlength=components)
    sums = np.bincount(assigned, responsibilities.max(-1), components)
    confidence = np.divide(sums, members, out=np.zeros(components), where=members > 0)
    order = np.argsort(-confidence, kind="stable")
    decoded = model.autoencoder.decode(codes)[_FIT].numpy()
    shape = (components, RECONSTRUCTIONS, *decoded.shape[1:])
    inputs, outputs = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    for row, component in enumerate(order):
        chosen = np.flatnonzero(assigned == component)[:RECONSTRUCTIONS]
        inputs[row, : len(chosen)] = x[_FIT].numpy()[chosen]
        outputs[row, : len(chosen)] = decoded[chosen]
    return {
        "samples": np.stack([_samples(model, int(component), samples) for component in order]),
        "inputs": inputs,
        "reconstructions": outputs,
        "confidence": confidence[order],
        "members": members[order],
    }


def _samples(model: MixtureVAE, component: int, size: int) -> NDArray[np.float32]:
    """Return decoded samples of a component of the first fit, (size, H, W)."""
    noise = generators(range(model.n_seeds), "samples", component)
    decoded: NDArray[np.float32] = model.autoencoder.decode(model.prior.sample(component, size, noise))[_FIT].numpy()
    return decoded
