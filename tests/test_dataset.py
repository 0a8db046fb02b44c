"""Fields, splits and datasets: the three layouts say the same, and what does not fit is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neumix.data.dataset import DataError, Dataset, Field, Split

LAYOUTS = ["shared", "per_seed", "pool", "pairs"]
sizes = st.integers(1, 4)


def make(layout: str, seed: int, seeds: int, points: int, shape: tuple[int, ...]) -> tuple[Field, np.ndarray]:
    """Return a field and what each seed must see, (S, N, ...)."""
    rng = np.random.default_rng(seed)
    if layout == "shared":
        values = rng.normal(size=(points, *shape))
        return Field(values), np.stack([values] * seeds)
    if layout == "per_seed":
        values = rng.normal(size=(seeds, points, *shape))
        return Field(values, per_seed=True), values
    pool = rng.normal(size=(6, *shape))
    rows = rng.integers(6, size=(seeds, points) if layout == "pool" else (seeds, points, 2))
    seen = np.array([[pool[row] for row in mine] for mine in rows])
    return Field(pool, rows), seen


@given(st.sampled_from(LAYOUTS), st.integers(0, 1000), sizes, st.integers(1, 9), st.lists(sizes, max_size=2).map(tuple))
def test_every_layout_gives_each_seed_its_points(layout, seed, seeds, points, shape):
    field, seen = make(layout, seed, seeds, points, shape)
    assert len(field) == points
    assert field.shape == seen.shape[2:]
    for position in range(seeds):
        np.testing.assert_array_equal(field.of_seed(position), seen[position])


def test_pairs_of_rows_add_an_axis_for_the_variate():
    images = np.arange(5 * 8 * 8).reshape(5, 8, 8)
    field = Field(images, np.array([[[0, 4], [2, 2], [1, 3]]]))
    assert (len(field), field.shape) == (3, (2, 8, 8))
    np.testing.assert_array_equal(field.of_seed(0)[0, 1], images[4])


def test_a_shared_field_is_not_copied_for_each_seed():
    field = Field(np.arange(4.0))
    assert field.of_seed(0) is field.of_seed(7)


def test_a_field_is_either_pooled_or_per_seed():
    with pytest.raises(ValueError, match="not both"):
        Field(np.zeros((2, 3)), np.zeros((2, 3), dtype=np.int64), per_seed=True)


@given(st.lists(st.tuples(st.sampled_from(LAYOUTS), st.integers(1, 3)), min_size=1, max_size=4))
def test_fields_of_a_split_have_the_same_number_of_points(parts):
    fields = {f"f{i}": make(layout, i, 2, points, ())[0] for i, (layout, points) in enumerate(parts)}
    if len({points for _, points in parts}) == 1:
        assert len(Split(fields)) == parts[0][1]
    else:
        with pytest.raises(ValueError, match=r"same number of points.*'f0'"):
            Split(fields)


def test_a_split_without_fields_is_refused():
    with pytest.raises(ValueError, match="fields"):
        Split({})


def test_dataset_finds_splits_by_name_and_says_which_there_are():
    train, test = Split({"x": Field(np.zeros((3, 2)))}), Split({"x": Field(np.zeros((5, 2)))})
    dataset = Dataset({"train": train, "test": test}, "Toy")
    assert dataset["test"] is test
    assert dataset["train"]["x"] is train.fields["x"]
    with pytest.raises(ValueError, match="Toy has no split 'tets'; it has train, test"):
        dataset["tets"]


def test_shapes_cover_all_splits():
    pairs = Split({"x": make("pairs", 0, 2, 3, (4, 4))[0]})
    labelled = Split({"image": make("pool", 0, 2, 5, (4, 4))[0], "y": make("per_seed", 0, 2, 5, ())[0]})
    assert Dataset({"pairs": pairs, "seeding": labelled}, "Toy").shapes == {"x": (2, 4, 4), "image": (4, 4), "y": ()}


def test_a_data_error_is_a_value_error():
    assert issubclass(DataError, ValueError)
