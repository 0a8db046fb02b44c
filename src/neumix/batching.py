"""Batches for several seeds at once, from data that is resident on the device."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from neumix.data.dataset import Field, Split

__all__ = ["DeviceField", "DeviceSplit"]

_CHUNK_BYTES = 32 * 2**20  # batches are gathered in chunks of this size, which costs far less than one by one


class DeviceField:
    """A field on the device, gathered for many batches at once."""

    def __init__(self, field: Field, n_seeds: int, device: torch.device) -> None:
        self.n_seeds, self.per_seed = n_seeds, field.per_seed
        values = torch.from_numpy(field.values).to(device)
        self.pool = values.flatten(0, 1) if field.per_seed else values
        self.rows = None if field.rows is None else torch.from_numpy(field.rows).to(device).flatten(0, 1)
        per_seed = field.per_seed or field.rows is not None
        offsets = torch.arange(n_seeds, device=device) * len(field) if per_seed else torch.zeros(n_seeds, device=device)
        self.offsets = offsets.long()[None, :, None]
        self.point_bytes = math.prod(field.shape) * values.element_size()

    @property
    def points(self) -> Tensor:
        """All points, (S, N, ...); shared ones are not copied."""
        if self.rows is None and not self.per_seed:
            return self.pool.expand(self.n_seeds, *self.pool.shape)
        points = self.pool if self.rows is None else self.pool[self.rows]
        return points.view(self.n_seeds, -1, *points.shape[1:])

    def take(self, index: Tensor) -> Tensor:
        """Map indices (K, S, B) to points (K, S, B, ...)."""
        index = index + self.offsets
        return self.pool[index] if self.rows is None else self.pool[self.rows[index]]


class DeviceSplit:
    """A split resident on the device."""

    def __init__(self, split: Split, n_seeds: int, device: torch.device) -> None:
        self.length = len(split)
        self.device = device
        self.fields = {name: DeviceField(field, n_seeds, device) for name, field in split.fields.items()}

    def __len__(self) -> int:
        return self.length

    def points(self) -> dict[str, Tensor]:
        """Return all points of every field, (S, N, ...)."""
        return {name: field.points for name, field in self.fields.items()}

    def batches(self, order: Tensor, size: int, start: int) -> Iterator[dict[str, Tensor]]:
        """Yield batches of fields (S, B, ...) in the given order of points (S, N), from batch `start` on."""
        point_bytes = sum(field.point_bytes for field in self.fields.values())
        at_once = max(1, _CHUNK_BYTES // (point_bytes * size * len(order)))
        whole = self.length // size
        order = order.to(self.device)
        while start < whole:
            count = min(at_once, whole - start)
            index = order[:, start * size : (start + count) * size].reshape(len(order), count, size).transpose(0, 1)
            chunk = {name: field.take(index) for name, field in self.fields.items()}
            for position in range(count):
                yield {name: values[position] for name, values in chunk.items()}
            start += count
        if self.length % size and start == whole:
            index = order[None, :, whole * size :]
            yield {name: field.take(index)[0] for name, field in self.fields.items()}
