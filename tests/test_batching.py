"""Batches and all points of several seeds against naive indexing: every point once, in order, from any batch on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neumix import batching
from neumix.batching import DeviceSplit
from neumix.data.dataset import Field, Split

CPU = torch.device("cpu")


def make_split(seed: int, seeds: int, points: int) -> Split:
    """Return a split with a field of every layout."""
    rng = np.random.default_rng(seed)
    fields = {
        "shared": Field(rng.normal(size=(points, 2)).astype(np.float32)),
        "per_seed": Field(rng.integers(9, size=(seeds, points)), per_seed=True),
        "pool": Field(rng.normal(size=(5, 3)), rng.integers(5, size=(seeds, points))),
        "pairs": Field(rng.normal(size=(5, 2, 2)), rng.integers(5, size=(seeds, points, 2))),
    }
    return Split(fields)


def make_order(seed: int, seeds: int, points: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(points, generator=generator) for _ in range(seeds)])


def naive(split: Split, order: torch.Tensor, size: int) -> list[dict[str, np.ndarray]]:
    """Return all batches by indexing each seed's points one after the other."""
    batches = []
    for start in range(0, len(split), size):
        rows = order[:, start : start + size].tolist()
        batches.append(
            {
                name: np.stack([[field.of_seed(s)[row] for row in mine] for s, mine in enumerate(rows)])
                for name, field in split.fields.items()
            }
        )
    return batches


def check(split: Split, order: torch.Tensor, size: int, start: int = 0) -> None:
    found = list(DeviceSplit(split, len(order), CPU).batches(order, size, start))
    expected = naive(split, order, size)[start:]
    assert len(found) == len(expected)
    for batch, wanted in zip(found, expected, strict=True):
        assert batch.keys() == wanted.keys()
        for name, values in wanted.items():
            assert torch.from_numpy(values).dtype == batch[name].dtype
            np.testing.assert_array_equal(batch[name].numpy(), values)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 20), st.integers(1, 25), st.data())
def test_batches_equal_naive_indexing_in_every_layout_from_any_batch_on(seed, seeds, points, size, data):
    start = data.draw(st.integers(0, math.ceil(points / size) - 1))
    check(make_split(seed, seeds, points), make_order(seed, seeds, points), size, start)


@pytest.mark.parametrize("chunk", [1, 300, 1000, 2**25])
def test_where_chunks_end_makes_no_difference(chunk, monkeypatch):
    monkeypatch.setattr(batching, "_CHUNK_BYTES", chunk)
    for size, start in [(2, 0), (2, 3), (3, 1), (5, 4), (24, 0), (23, 0), (40, 0)]:
        check(make_split(0, 2, 23), make_order(1, 2, 23), size, start)


def test_chunks_hold_as_many_batches_as_fit(monkeypatch):
    sizes = []
    take = batching.DeviceField.take
    monkeypatch.setattr(batching.DeviceField, "take", lambda self, index: sizes.append(len(index)) or take(self, index))
    split = Split({"x": Field(np.zeros((100, 4), dtype=np.float32))})  # 16 bytes a point
    monkeypatch.setattr(batching, "_CHUNK_BYTES", 16 * 10 * 2 * 3)  # batches of 10 for 2 seeds, three at once
    assert len(list(DeviceSplit(split, 2, CPU).batches(make_order(0, 2, 100), 10, 0))) == 10
    assert sizes == [3, 3, 3, 1]


@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 40), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_an_epoch_shows_every_point_once(seed, seeds, points, size):
    split = Split({"row": Field(np.arange(points))})
    order = make_order(seed, seeds, points)
    device_split = DeviceSplit(split, seeds, CPU)
    assert len(device_split) == points
    batches = [batch["row"] for batch in device_split.batches(order, size, 0)]
    assert [batch.shape[1] for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert torch.equal(torch.cat(batches, 1), order)  # so every point once, as the order has it
    assert torch.equal(torch.cat(batches, 1).sort(1).values, torch.arange(points).expand(seeds, -1))


@pytest.mark.parametrize("points", [10, 12])
def test_the_last_batch_holds_what_is_left(points):
    split = Split({"row": Field(np.arange(points))})
    lengths = [batch["row"].shape[1] for batch in DeviceSplit(split, 1, CPU).batches(make_order(0, 1, points), 4, 0)]
    assert lengths == {10: [4, 4, 2], 12: [4, 4, 4]}[points]


def test_an_expanded_order_is_accepted():
    check(make_split(0, 3, 7), torch.arange(7).expand(3, -1), 3)


@pytest.mark.parametrize("points", [10, 12])
def test_nothing_is_left_after_the_last_batch(points):
    split = Split({"row": Field(np.arange(points))})
    assert list(DeviceSplit(split, 1, CPU).batches(make_order(0, 1, points), 4, math.ceil(points / 4))) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 20))
def test_all_points_equal_those_that_each_seed_sees(seed, seeds, points):
    split = make_split(seed, seeds, points)
    found = DeviceSplit(split, seeds, CPU).points()
    assert found.keys() == split.fields.keys()
    for name, field in split.fields.items():
        expected = np.stack([field.of_seed(s) for s in range(seeds)])
        assert expected.shape == (seeds, points, *field.shape)
        assert torch.from_numpy(expected).dtype == found[name].dtype
        np.testing.assert_array_equal(found[name].numpy(), expected)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_all_points_have_the_shape_of_one(shape):
    rows = np.zeros((2, 5), dtype=np.int64)
    fields = {
        "shared": Field(np.zeros((5, *shape))),
        "per_seed": Field(np.zeros((2, 5, *shape)), per_seed=True),
        "pool": Field(np.zeros((4, *shape)), rows),
    }
    for values in DeviceSplit(Split(fields), 2, CPU).points().values():
        assert values.shape == (2, 5, *shape)


def test_points_that_all_seeds_share_are_held_once():
    split = DeviceSplit(make_split(0, 3, 11), 3, CPU)
    shared, per_seed = (split.points()[name] for name in ("shared", "per_seed"))
    assert shared.untyped_storage().nbytes() == 11 * 2 * 4  # one copy of 11 points of two float32
    assert shared.data_ptr() == split.fields["shared"].pool.data_ptr()
    assert shared[0].data_ptr() == shared[2].data_ptr()
    assert per_seed.data_ptr() == split.fields["per_seed"].pool.data_ptr()


def test_all_points_are_those_of_the_batches_in_order():
    split = DeviceSplit(make_split(3, 2, 13), 2, CPU)
    batches = list(split.batches(torch.arange(13).expand(2, -1), 4, 0))
    for name, values in split.points().items():
        assert torch.equal(torch.cat([batch[name] for batch in batches], 1), values)
