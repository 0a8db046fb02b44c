"""Checkpoints that survive a kill at any moment: checked, atomic, with the one before as a fall-back."""

import dataclasses
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from neumix.files import write_bytes

__all__ = ["Checkpoint", "Checkpointer"]

log = logging.getLogger(__name__)

_DIGEST_BYTES = 32


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """State of a training: tensors by name, and everything else as JSON."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]


class Checkpointer:
    """Keeps the two newest checkpoints of one training in a folder.

    A file is the SHA-256 of what follows, then a safetensors payload; a file cut short or altered is never read
    as if it were whole.

    Arguments:
        folder: where the files go; nothing else may write there.
        identity: hash of everything that decides the result; a checkpoint of another identity is not resumed.
        seconds: a checkpoint is due when the last one is older.
        epochs: a checkpoint is due after this many epochs, if none was due before.
    """

    def __init__(self, folder: Path, identity: str, *, seconds: float = 60.0, epochs: int = 10) -> None:
        self.folder = folder
        self.identity = identity
        self.seconds = seconds
        self.epochs = epochs
        self._last = time.monotonic()
        self._epochs_since = 0

    @property
    def newest(self) -> Path:
        """The newest checkpoint."""
        return self.folder / "checkpoint"

    @property
    def previous(self) -> Path:
        """The one before."""
        return self.folder / "checkpoint.previous"

    def due(self, *, epoch_ended: bool = False) -> bool:
        """Return whether it is time for a checkpoint."""
        self._epochs_since += epoch_ended
        return time.monotonic() - self._last >= self.seconds or (epoch_ended and self._epochs_since >= self.epochs)

    def save(self, checkpoint: Checkpoint) -> bool:
        """Write a checkpoint; on failure keep the one before, say so, and return false.

        A full disk costs the progress since the last checkpoint if the job dies, never the job itself.
        """
        self._last = time.monotonic()
        self._epochs_since = 0
        metadata = {"identity": self.identity, "state": json.dumps(checkpoint.state)}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
        payload = safetensors.torch.save(tensors, metadata)
        try:
            if self.newest.exists():
                self.newest.replace(self.previous)
            write_bytes(self.newest, hashlib.sha256(payload).digest() + payload)
        except OSError as error:
            log.warning(
                "checkpoint of %d bytes not written to %s: %s; training goes on",
                len(payload),
                self.folder,
                error,
            )
            if not self.newest.exists() and self.previous.exists():
                self.previous.replace(self.newest)
            return False
        return True

    def load(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole and of this identity, or none."""
        for path in (self.newest, self.previous):
            if not path.exists():
                continue
            try:
                return self._read(path)
            except ValueError as error:
                log.warning("%s: %s; trying the one before", path, error)
        return None

    def _read(self, path: Path) -> Checkpoint:
        content = path.read_bytes()
        digest, payload = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() != digest:
            raise ValueError("cut short or altered: its SHA-256 does not match its content")
        try:
            tensors = safetensors.torch.load(payload)
        except SafetensorError as error:
            raise ValueError(f"not a checkpoint: {error}") from None
        header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])["__metadata__"]
        if header["identity"] != self.identity:
            raise ValueError("belongs to other settings or code than these")
        return Checkpoint(tensors, json.loads(header["state"]))

    def clear(self) -> None:
        """Remove the checkpoints; called once the results are safe."""
        for path in (self.newest, self.previous):
            path.unlink(missing_ok=True)
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()
