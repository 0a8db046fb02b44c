"""Random numbers that depend on nothing but a seed and what they are for."""

import hashlib
import json

import numpy as np

__all__ = ["derive", "numpy_rng"]


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed for one purpose, e.g. `derive(3, "shuffle", "main", 7)`.

    Two purposes never share a stream, and no stream depends on how many numbers another one has used.
    """
    name = json.dumps([seed, *purpose])
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def numpy_rng(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a NumPy generator for one purpose."""
    return np.random.default_rng(derive(seed, *purpose))
