"""Tuples with one example of every class: nothing lost, nothing counted twice, scale, stereo pairs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_dvc import mirror
from test_loaders import matrix_bytes, write_letter

from neumix.data import class_tuples, digits, satimage, smallnorb
from neumix.data.dataset import DataError, Dataset, Field, Split
from neumix.settings import CatalogueError, parse

NOWHERE = Path("nowhere")
MIRRORED = pytest.mark.skipif(mirror() is None, reason="no mirror of the raw data; NEUMIX_DATA_MIRROR can name one")


def load(source: str, root: Path = NOWHERE, seeds: tuple[int, ...] = (0, 1), **content: Any) -> Dataset:
    content = {"source": source, **content}
    return class_tuples.load(root, parse(class_tuples.Config, content, "paper.yaml: data"), seeds)


def values(dataset: Dataset, split: str, name: str) -> NDArray[Any]:
    return dataset[split][name].of_seed(0)


def load_soil(labels: list[int], monkeypatch: pytest.MonkeyPatch, **content: Any) -> Dataset:
    """Return tuples of points of ours in place of Satimage; the first feature is the point's row, all differ."""
    x = np.arange(len(labels))[:, None] + np.arange(36, dtype=np.float32) / 64
    split = Split({"x": Field(x), "y": Field(np.array(labels, np.int64))})
    monkeypatch.setattr(satimage, "load", lambda root, config, seeds: Dataset({"train": split, "test": split}, "Soil"))
    return load("satimage", **content)


def rows(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the rows that points of `load_soil` come from."""
    return np.rint((x[..., 0, 0, 0] + 0.5) * 255).astype(np.int64)


def write_norb(folder: Path, labels: list[int]) -> dict[str, NDArray[np.uint8]]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    images = {}
    for prefix in (smallnorb.TRAIN, smallnorb.TEST):
        images[prefix] = rng.integers(256, size=(len(labels), 2, 96, 96), dtype=np.uint8)
        (folder / f"{prefix}-dat.mat").write_bytes(matrix_bytes(images[prefix]))
        (folder / f"{prefix}-cat.mat").write_bytes(matrix_bytes(np.array(labels, "<i4")))
    return images


def stereo(pairs: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return images side by side (M, 32, 64), from the definition."""
    blocks = pairs.reshape(len(pairs), 2, 32, 3, 32, 3).mean((3, 5)) / 255 - 0.5
    return np.concatenate([blocks[:, 0], blocks[:, 1]], -1)


class TestTuples:
    def test_splits_fields_and_types(self):
        dataset = load("digits")
        assert dataset.label == "scikit-learn digits"
        assert {name: set(split.fields) for name, split in dataset.splits.items()} == {
            "train": {"by_class", "present", "index"},
            "train_points": {"x", "y"},
            "test": {"x", "y"},
        }
        assert dataset.shapes == {"by_class": (10, 8, 8, 1), "present": (10,), "index": (), "x": (8, 8, 1), "y": ()}
        kinds = {name: f.values.dtype.name for split in dataset.splits.values() for name, f in split.fields.items()}
        assert kinds == {"by_class": "float32", "present": "float32", "index": "int64", "x": "float32", "y": "int64"}

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.integers(0, 5), max_size=40).flatmap(lambda more: st.permutations([*range(6), *more])))
    def test_every_example_is_present_once_in_its_class(self, labels):
        with pytest.MonkeyPatch.context() as monkeypatch:
            dataset = load_soil(labels, monkeypatch)
        present = values(dataset, "train", "present")
        origin = rows(values(dataset, "train", "by_class"))
        counts = np.bincount(labels, minlength=6)
        assert len(dataset["train"]) == counts.max()
        assert set(np.unique(present)) <= {0.0, 1.0}
        np.testing.assert_array_equal(present.sum(0), counts)
        for label, count in enumerate(counts):
            members = np.flatnonzero(np.array(labels) == label)
            np.testing.assert_array_equal(present[:, label], np.arange(len(present)) < count)
            np.testing.assert_array_equal(origin[:, label], members[np.arange(len(present)) % count])
        np.testing.assert_array_equal(values(dataset, "train", "index"), np.arange(len(present)))

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(st.integers(0, 5), max_size=40).flatmap(lambda more: st.permutations([*range(6), *more])),
        st.integers(1, 5) | st.none(),
    )
    def test_points_are_the_examples_that_are_present(self, labels, limit):
        with pytest.MonkeyPatch.context() as monkeypatch:
            dataset = load_soil(labels, monkeypatch, limit=limit)
        x, y = values(dataset, "train_points", "x"), values(dataset, "train_points", "y")
        expected = sorted(row for label in range(6) for row in np.flatnonzero(np.array(labels) == label)[:limit])
        assert sorted(rows(x)) == expected
        np.testing.assert_array_equal(y, np.array(labels)[rows(x)])
        there = values(dataset, "train", "present") == 1
        np.testing.assert_array_equal(values(dataset, "train", "by_class")[there], x)

    def test_limit_keeps_the_first_examples_of_each_class(self, monkeypatch):
        dataset = load_soil([0, 1, 0, 2, 3, 4, 5, 0, 1], monkeypatch, limit=2)
        np.testing.assert_array_equal(
            rows(values(dataset, "train", "by_class")), [[0, 1, 3, 4, 5, 6], [2, 8, 3, 4, 5, 6]]
        )
        np.testing.assert_array_equal(values(dataset, "train", "present"), [[1, 1, 1, 1, 1, 1], [1, 1, 0, 0, 0, 0]])

    def test_a_limit_beyond_the_largest_class_changes_nothing(self):
        everything, limited = load("digits"), load("digits", limit=10_000)
        for name in ("by_class", "present"):
            np.testing.assert_array_equal(values(limited, "train", name), values(everything, "train", name))

    def test_classes_of_one_size_share_their_memory_with_the_points(self, monkeypatch):
        for labels, shared in (([5, 4, 3, 2, 1, 0], True), ([0, 1, 2, 3, 4, 5, 0], False)):
            dataset = load_soil(labels, monkeypatch)
            by_class, x = values(dataset, "train", "by_class"), values(dataset, "train_points", "x")
            assert np.shares_memory(by_class, x) == shared

    def test_digits_are_all_there_in_their_classes(self):
        dataset = load("digits")
        origin = digits.load(NOWHERE, digits.Config(), (0,))
        for split, name in (("train", "train_points"), ("test", "test")):
            x, y = values(dataset, name, "x"), values(dataset, name, "y")
            images, labels = origin[split]["x"].values, origin[split]["y"].values
            assert (x.min(), x.max()) == (-0.5, 0.5)
            for digit in range(10):
                np.testing.assert_array_equal(x[y == digit][..., 0], images[labels == digit] - np.float32(0.5))

    def test_all_seeds_see_the_same_tuples(self):
        first, second = load("digits", seeds=(0,)), load("digits", seeds=(3, 4, 5))
        for name, split in first.splits.items():
            for key, field in split.fields.items():
                np.testing.assert_array_equal(second[name][key].of_seed(2), field.of_seed(0))
                assert field.rows is None
                assert not second[name][key].per_seed


class TestTest:
    def test_first_examples_in_the_order_of_the_source(self):
        origin = digits.load(NOWHERE, digits.Config(), (0,))["test"]
        for count in (1, 9, 450, None):
            dataset = load("digits", test=count)
            assert len(dataset["test"]) == (450 if count is None else count)
            np.testing.assert_array_equal(values(dataset, "test", "y"), origin["y"].values[:count])
            np.testing.assert_array_equal(values(dataset, "test", "x")[..., 0], origin["x"].values[:count] - 0.5)

    def test_it_changes_nothing_of_the_training_split(self):
        np.testing.assert_array_equal(
            values(load("digits", test=1), "train", "by_class"), values(load("digits"), "train", "by_class")
        )

    def test_more_than_there_are(self):
        with pytest.raises(ValueError, match="test is 451, but the split 'test' of scikit-learn digits has 450"):
            load("digits", test=451)


class TestLetter:
    def test_sizes_scale_and_order_of_the_features(self, tmp_path):
        write_letter(tmp_path / "letter")
        dataset = load("letter", tmp_path)
        assert (len(dataset["train_points"]), len(dataset["test"])) == (16_000, 4_000)
        by_class = values(dataset, "train", "by_class")
        assert by_class.shape == (616, 26, 4, 4, 1), "16000 is 615 times 26 and 10 more"
        np.testing.assert_array_equal(values(dataset, "train", "present")[-1], [1] * 10 + [0] * 16)
        assert (by_class.min(), by_class.max()) == (-0.5, 0.5)
        expected = (16_000 + np.arange(16)) % 16 / 15 - 0.5
        np.testing.assert_allclose(values(dataset, "test", "x")[0].ravel(), expected, atol=1e-7)
        expected = (26 * 7 + 3 + np.arange(16)) % 16 / 15 - 0.5
        np.testing.assert_allclose(by_class[7, 3, :, :, 0], expected.reshape(4, 4), atol=1e-7)

    def test_the_other_usual_split(self, tmp_path):
        write_letter(tmp_path / "letter")
        dataset = load("letter", tmp_path, train_size=15_000, limit=20)
        assert (len(dataset["train"]), len(dataset["train_points"]), len(dataset["test"])) == (20, 520, 5_000)

    def test_classes_without_examples_are_named(self, tmp_path):
        write_letter(tmp_path / "letter")
        with pytest.raises(ValueError, match=r"Letter has no training example of class 23, 24, 25 among 23"):
            load("letter", tmp_path, train_size=23)

    @MIRRORED
    def test_published_table(self):
        dataset = load("letter", mirror())
        counts = values(dataset, "train", "present").sum(0)
        assert (counts.sum(), counts.max(), len(dataset["train"])) == (16_000, 648, 648)
        assert np.abs(values(dataset, "train", "by_class")).max() == 0.5


class TestSatimage:
    def test_a_class_without_examples_is_named(self, monkeypatch):
        with pytest.raises(ValueError, match=r"Soil has no training example of class 3 among 6; .* 0 to 5 needs one"):
            load_soil([0, 1, 2, 4, 5, 5], monkeypatch)

    def test_features_row_by_row(self, monkeypatch):
        dataset = load_soil([0, 1, 2, 3, 4, 5], monkeypatch)
        expected = (4 + np.arange(36) / 64).reshape(6, 6) / 255 - 0.5
        np.testing.assert_allclose(values(dataset, "train", "by_class")[0, 4, :, :, 0], expected, atol=1e-6)
        np.testing.assert_allclose(values(dataset, "test", "x")[4, :, :, 0], expected, atol=1e-6)

    @MIRRORED
    def test_published_tables(self):
        dataset = load("satimage", mirror())
        np.testing.assert_array_equal(values(dataset, "train", "present").sum(0), [1072, 479, 961, 415, 470, 1038])
        np.testing.assert_array_equal(np.bincount(values(dataset, "test", "y")), [461, 224, 397, 211, 237, 470])
        origin = satimage.load(mirror(), satimage.Config(), (0,))["train"]
        members = origin["x"].values[origin["y"].values == 2].reshape(-1, 6, 6)
        column = values(dataset, "train", "by_class")[:, 2, :, :, 0]
        np.testing.assert_allclose((column[:961] + 0.5) * 255, members, atol=1e-4)
        np.testing.assert_array_equal(column[961:], column[: 1072 - 961])


class TestSmallNorb:
    def test_the_pair_lies_side_by_side(self, tmp_path):
        labels = [4, 0, 1, 2, 3, 0, 1, 0]
        images = write_norb(tmp_path / "smallnorb", labels)
        dataset = load("smallnorb", tmp_path)
        by_class = values(dataset, "train", "by_class")
        assert by_class.shape == (3, 5, 32, 64, 1)
        order = [[1, 2, 3, 4, 0], [5, 6, 3, 4, 0], [7, 2, 3, 4, 0]]
        np.testing.assert_allclose(by_class[..., 0], stereo(images[smallnorb.TRAIN])[np.array(order)], atol=1e-6)
        np.testing.assert_array_equal(
            values(dataset, "train", "present"), [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]
        )
        np.testing.assert_allclose(values(dataset, "test", "x")[..., 0], stereo(images[smallnorb.TEST]), atol=1e-6)
        np.testing.assert_array_equal(values(dataset, "test", "y"), labels)
        np.testing.assert_array_equal(values(dataset, "train_points", "y"), [0, 1, 2, 3, 4, 0, 1, 0])

    def test_the_first_image_is_on_the_left(self, tmp_path):
        folder = tmp_path / "smallnorb"
        write_norb(folder, [0, 1, 2, 3, 4])
        pairs = np.zeros((5, 2, 96, 96), np.uint8)
        pairs[:, 0, :3] = 255
        (folder / f"{smallnorb.TRAIN}-dat.mat").write_bytes(matrix_bytes(pairs))
        x = values(load("smallnorb", tmp_path, test=2), "train_points", "x")
        assert np.all(x[:, 0, :32] == 0.5), "the top row of the first image is white"
        assert np.all(x[:, 0, 32:] == -0.5)
        assert np.all(x[:, 1:] == -0.5)

    def test_missing_file(self, tmp_path):
        with pytest.raises(DataError, match=r"Small NORB: .*/smallnorb/.*: no such file"):
            load("smallnorb", tmp_path)


class TestSettings:
    def test_defaults_and_sources(self):
        config = class_tuples.Config(source="letter")
        assert (config.train_size, config.limit, config.test) == (16_000, None, None)
        for source in ("letter", "satimage", "smallnorb", "digits"):
            assert class_tuples.sources(class_tuples.Config(source=source)) == (source,)

    @pytest.mark.parametrize(
        ("key", "value"), [("source", "mnist"), ("train_size", 0), ("train_size", 20_000), ("limit", 0), ("test", 0)]
    )
    def test_bad_settings_are_named(self, key, value):
        with pytest.raises(CatalogueError, match=rf"paper\.yaml: data: key '{key}'"):
            load(**{"source": "letter", key: value})

    def test_only_letter_is_cut_in_two_here(self):
        with pytest.raises(CatalogueError, match="train_size is 15000, but only letter has one"):
            load("satimage", train_size=15_000)
