"""Early stopping of seeds that stop one by one, against a literal account of each seed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neumix.early_stopping import EarlyStopping
from neumix.models.base import BatchedModel
from neumix.schedule import Stage


class Toy(BatchedModel):
    """Parameters with one and with two rows for each seed, and a buffer that belongs to no seed."""

    step: Tensor

    def __init__(self, n_seeds: int) -> None:
        super().__init__(n_seeds)
        self.one = nn.Parameter(torch.zeros(n_seeds, 3))
        self.two = nn.Parameter(torch.zeros(2 * n_seeds, 1, 2))
        self.register_buffer("step", torch.zeros(()))

    def loss(self, batch: Mapping[str, Tensor], loss: Any, noise: Sequence[torch.Generator]) -> Tensor:
        raise NotImplementedError

    def train_to(self, version: int) -> None:
        """Set every number to the epoch, so that weights tell when they were taken."""
        with torch.no_grad():
            for tensor in self.state_dict().values():
                tensor.fill_(version)

    def versions(self) -> list[float]:
        """Return the epoch that each seed's weights are from, once they agree on it."""
        rows = torch.cat([self.one, self.two.reshape(self.n_seeds, -1)], 1)
        assert torch.equal(rows, rows[:, :1].expand_as(rows))
        return rows[:, 0].tolist()


def literal(scores: Sequence[float], patience: int) -> tuple[int, int, float]:
    """Return best epoch (0 for the start), epochs waited and best score of one seed."""
    best, waited, score = 0, 0, math.inf
    for epoch, found in enumerate(scores, start=1):
        if waited >= patience:
            break
        if found < score:
            best, waited, score = epoch, 0, found
        else:
            waited += 1
    return best, waited, score


def follow(stopping: EarlyStopping, model: Toy, table: Sequence[Sequence[float]], first: int = 1) -> None:
    """Show the scores (epochs, seeds) of epochs from `first` on."""
    for epoch, scores in enumerate(table, start=first):
        model.train_to(epoch)
        stopping.update(torch.tensor(scores, dtype=torch.float64), model)


scores = st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.0, math.inf, math.nan])
tables = st.integers(1, 3).flatmap(
    lambda seeds: st.lists(st.lists(scores, min_size=seeds, max_size=seeds), min_size=1, max_size=9)
)


@settings(max_examples=80, deadline=None)
@given(tables, st.integers(1, 3))
def test_each_seed_keeps_its_best_weights(table, patience):
    model = Toy(len(table[0]))
    stopping = EarlyStopping(patience, model)
    follow(stopping, model, table)
    expected = [literal(column, patience) for column in zip(*table, strict=True)]
    assert stopping.waited.tolist() == [waited for _, waited, _ in expected]
    assert stopping.score.tolist() == [score for _, _, score in expected]
    assert stopping.exhausted == all(waited >= patience for _, waited, _ in expected)
    stopping.restore(model)
    assert model.versions() == [best for best, _, _ in expected]


def test_a_seed_out_of_patience_never_changes():
    model = Toy(2)
    stopping = EarlyStopping(2, model)
    follow(stopping, model, [[1.0, 9.0], [2.0, 8.0], [2.0, 7.0], [0.0, 6.0], [-5.0, 5.0]])
    assert stopping.waited.tolist() == [2, 0]
    assert stopping.score.tolist() == [1.0, 5.0]
    assert not stopping.exhausted
    stopping.restore(model)
    assert model.versions() == [1, 5]


def test_an_equal_score_is_not_a_better_one():
    model = Toy(1)
    stopping = EarlyStopping(2, model)
    follow(stopping, model, [[1.0], [1.0], [1.0]])
    assert stopping.exhausted
    stopping.restore(model)
    assert model.versions() == [1]


def test_kept_weights_are_copies():
    model = Toy(1)
    stopping = EarlyStopping(1, model)
    follow(stopping, model, [[1.0]])
    model.train_to(99)
    stopping.restore(model)
    assert model.versions() == [1]
    model.train_to(50)  # and the model does not share memory with them afterwards
    stopping.restore(model)
    assert model.versions() == [1]


@settings(max_examples=40, deadline=None)
@given(tables, st.data())
def test_a_checkpoint_in_between_changes_nothing(table, data):
    cut = data.draw(st.integers(0, len(table)))
    seeds = len(table[0])
    model, other = Toy(seeds), Toy(seeds)
    stopping = EarlyStopping(2, model)
    follow(stopping, model, table[:cut])
    saved = {key: tensor.clone() for key, tensor in stopping.tensors().items()}
    other.train_to(-7)  # the weights of the model when the run is taken up do not matter
    resumed = EarlyStopping(2, other)
    resumed.load(saved)
    follow(stopping, model, table[cut:], cut + 1)
    follow(resumed, other, table[cut:], cut + 1)
    assert stopping.tensors().keys() == resumed.tensors().keys()
    for key, tensor in stopping.tensors().items():
        torch.testing.assert_close(resumed.tensors()[key], tensor, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("patience", [None, 4])
def test_a_stage_decides_whether_there_is_early_stopping(patience):
    stage = Stage(loss={"name": "x"}, epochs=1, batch_size=1, validation="held_out", patience=patience)
    found = EarlyStopping.of(stage, Toy(1))
    assert (found and found.patience) == patience
