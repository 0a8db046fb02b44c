"""Images for flows: which split is trained on, scale, shrinking, the black frame."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_loaders import idx_bytes

from neumix.data import digits, flow_images
from neumix.data.dataset import DataError, Dataset
from neumix.settings import CatalogueError, parse

NOWHERE = Path("nowhere")
SIZES = {"train": 7, "t10k": 4}


def load(root: Path = NOWHERE, seeds: tuple[int, ...] = (0, 1), **content: Any) -> Dataset:
    """Load digits unless told otherwise, of which there are too few for the default test size."""
    content = {"source": "digits", "test": None, **content}
    return flow_images.load(root, parse(flow_images.Config, content, "paper.yaml: data"), seeds)


def write(folder: Path, seed: int = 0) -> dict[str, NDArray[np.uint8]]:
    """Write few random images in the format of MNIST; label and position belong together."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    images = {prefix: rng.integers(256, size=(size, 28, 28), dtype=np.uint8) for prefix, size in SIZES.items()}
    for prefix, pixels in images.items():
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
        labels = (np.arange(len(pixels)) * 3 % 10).astype(np.uint8)
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return images


def unframed(x: NDArray[np.float32], pad: int) -> NDArray[np.float32]:
    return x[:, pad : x.shape[1] - pad, pad : x.shape[2] - pad, 0]


def test_splits_fields_and_types() -> None:
    dataset = load()
    assert dataset.label == "scikit-learn digits"
    assert {name: set(split.fields) for name, split in dataset.splits.items()} == {
        "train": {"x", "y", "index"},
        "test": {"x", "y", "index"},
    }
    assert dataset.shapes == {"x": (8, 8, 1), "y": (), "index": ()}
    for split in dataset.splits.values():
        assert {name: field.values.dtype for name, field in split.fields.items()} == {
            "x": np.dtype(np.float32),
            "y": np.dtype(np.int64),
            "index": np.dtype(np.int64),
        }
        np.testing.assert_array_equal(split["index"].values, np.arange(len(split)))


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("origin", ["train", "test"])
def test_origin_is_trained_on_and_the_other_split_held_out(source: str, origin: str, tmp_path: Path) -> None:
    images = write(tmp_path / source.replace("_", "-"))
    dataset = load(tmp_path, source=source, origin=origin)
    prefixes = ("train", "t10k") if origin == "train" else ("t10k", "train")
    for name, prefix in zip(("train", "test"), prefixes, strict=True):
        x = dataset[name]["x"].values
        assert x.shape == (SIZES[prefix], 28, 28, 1)
        np.testing.assert_array_equal(np.rint((x[..., 0] + 0.5) * 255), images[prefix])
        np.testing.assert_array_equal(dataset[name]["y"].values, np.arange(SIZES[prefix]) * 3 % 10)


def test_first_images_are_taken(tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    everything = load(tmp_path, source="mnist", origin="test")
    some = load(tmp_path, source="mnist", origin="test", train=3, test=6)
    assert (len(some["train"]), len(some["test"])) == (3, 6)
    for name, size in (("train", 3), ("test", 6)):
        for key in ("x", "y", "index"):
            np.testing.assert_array_equal(some[name][key].values, everything[name][key].values[:size])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"train": 8}, "train is 8, but the split 'train' of MNIST has 7 images"),
        ({"test": 5}, "test is 5, but the split 'test' of MNIST has 4 images"),
        ({"train": 5, "origin": "test"}, "train is 5, but the split 'test' of MNIST has 4 images"),
        ({"test": 8, "origin": "test"}, "test is 8, but the split 'train' of MNIST has 7 images"),
    ],
)
def test_more_images_than_there_are(wanted: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    with pytest.raises(ValueError, match=message):
        load(tmp_path, source="mnist", **wanted)


def test_exactly_as_many_as_there_are(tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    dataset = load(tmp_path, source="mnist", train=7, test=4)
    assert (len(dataset["train"]), len(dataset["test"])) == (7, 4)


def test_the_default_takes_10000_test_images() -> None:
    config = flow_images.Config(source="digits")
    assert (config.origin, config.train, config.test, config.shrink, config.pad) == ("train", None, 10_000, 1, 0)
    with pytest.raises(ValueError, match=r"test is 10000, but .* of scikit-learn digits has 450 images"):
        flow_images.load(NOWHERE, config, (0,))


@pytest.mark.parametrize(("shrink", "pad", "side"), [(1, 2, 32), (2, 1, 16), (2, 0, 14), (1, 0, 28)])
def test_shapes_of_mnist(shrink: int, pad: int, side: int, tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    dataset = load(tmp_path, source="mnist", shrink=shrink, pad=pad)
    assert dataset.shapes["x"] == (side, side, 1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 5), st.sampled_from([1, 2]), st.sampled_from(["train", "test"]), st.integers(1, 400))
def test_the_frame_is_black_and_the_inside_untouched(pad: int, shrink: int, origin: str, train: int) -> None:
    x = load(pad=pad, shrink=shrink, origin=origin, train=train)["train"]["x"].values
    grey = digits.load(NOWHERE, digits.Config(), (0,))[origin]["x"].values[:train].astype(np.float64)
    means = sum(grey[:, row::shrink, column::shrink] for row in range(shrink) for column in range(shrink)) / shrink**2
    assert x.shape == (train, 8 // shrink + 2 * pad, 8 // shrink + 2 * pad, 1)
    np.testing.assert_allclose(unframed(x, pad), means - 0.5, atol=1e-6)
    frame = np.ones(x.shape[1:3], bool)
    frame[pad : x.shape[1] - pad, pad : x.shape[2] - pad] = False
    assert np.all(x[:, frame] == -0.5)


def test_black_and_white_are_exact_half() -> None:
    x = load(pad=1)["train"]["x"].values
    assert (x.min(), x.max()) == (-0.5, 0.5)
    assert np.all(x[..., 0][:, 0] == x.min()), "the frame is as black as a black pixel"


def test_all_seeds_see_the_same_images() -> None:
    first, second = load(seeds=(0,)), load(seeds=(5, 6, 7))
    for name, split in first.splits.items():
        for key, field in split.fields.items():
            np.testing.assert_array_equal(second[name][key].of_seed(2), field.of_seed(0))
            assert field.rows is None
            assert not second[name][key].per_seed


@pytest.mark.parametrize(
    ("source", "origin"), [("mnist", "mnist"), ("fashion_mnist", "fashion-mnist"), ("digits", "digits")]
)
def test_the_source_is_named_as_the_catalogue_names_its_files(source: str, origin: str) -> None:
    assert flow_images.sources(flow_images.Config(source=source)) == (origin,)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Fashion-MNIST: .*/fashion-mnist/train-images.*: no such file"):
        load(tmp_path, source="fashion_mnist")


@pytest.mark.parametrize(
    ("key", "value"),
    [("source", "letter"), ("origin", "both"), ("train", 0), ("test", -1), ("shrink", 3), ("pad", -1)],
)
def test_bad_settings_are_named(key: str, value: object) -> None:
    with pytest.raises(CatalogueError, match=rf"paper\.yaml: data: key '{key}'"):
        load(**{key: value})
