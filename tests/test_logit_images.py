"""Images in logit coordinates: change of variables, bits per dimension, levels that survive, splits, errors."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit
from sklearn.datasets import load_digits
from test_flow_images import SIZES, write

from neumix.data import digits, logit_images
from neumix.data.dataset import DataError, Dataset, Split
from neumix.settings import CatalogueError, parse

NOWHERE = Path("nowhere")
Floats = NDArray[np.float64]


def load(root: Path = NOWHERE, seeds: tuple[int, ...] = (0, 1), **content: Any) -> Dataset:
    """Load digits with their own 17 levels unless told otherwise."""
    content = {"source": "digits", "levels": 17, **content}
    return logit_images.load(root, parse(logit_images.Config, content, "paper.yaml: data"), seeds)


def shares(split: Split, squeeze: float = 1e-6) -> Floats:
    """Return the dequantised grey values y in [0, 1] that x stands for, (N, H, W, 1)."""
    found: Floats = (expit(split["x"].values.astype(np.float64)) - squeeze) / (1 - 2 * squeeze)
    return found


def bits(log_density: Floats, split: Split) -> Floats:
    """Return bits per dimension from log-densities at x in nats, (N,)."""
    dimension = split["x"].values[0].size
    found: Floats = (split["log_volume"].values - log_density) / (dimension * math.log(2))
    return found


def log_density_of_uniform(split: Split, squeeze: float) -> Floats:
    """Return the log-density at x of y that is uniform, by the slope of y(x) = (expit(x) - a) / (1 - 2 a)."""
    x = torch.from_numpy(split["x"].values).double().requires_grad_()
    y = (torch.sigmoid(x) - squeeze) / (1 - 2 * squeeze)
    (slope,) = torch.autograd.grad(y.sum(), x)
    found: Floats = slope.log().flatten(1).sum(1).numpy()
    return found


def test_splits_fields_and_types() -> None:
    dataset = load()
    assert dataset.label == "scikit-learn digits"
    assert list(dataset.splits) == ["train", "test"]
    assert dataset.shapes == {"x": (8, 8, 1), "levels": (8, 8, 1), "log_volume": (), "y": ()}
    for split in dataset.splits.values():
        assert {name: field.values.dtype for name, field in split.fields.items()} == {
            "x": np.dtype(np.float32),
            "levels": np.dtype(np.uint8),
            "log_volume": np.dtype(np.float64),
            "y": np.dtype(np.int64),
        }
    published = digits.load(NOWHERE, digits.Config(), (0,))
    for name in ("train", "test"):
        np.testing.assert_array_equal(dataset[name]["y"].values, published[name]["y"].values)


def test_digits_have_their_seventeen_levels() -> None:
    dataset = load()
    images = {image.tobytes() for image in load_digits().images.astype(np.uint8)}
    found = np.concatenate([dataset[name]["levels"].values[..., 0] for name in ("train", "test")])
    assert set(np.unique(found)) == set(range(17))
    assert len(found) == len(load_digits().images)
    assert {image.tobytes() for image in found} == images


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 256), st.floats(1e-6, 0.3), st.sampled_from([1, 2]))
def test_a_uniform_density_takes_exactly_the_bits_of_the_levels(levels: int, squeeze: float, shrink: int) -> None:
    split = load(levels=levels, squeeze=squeeze, shrink=shrink, train=20, test=1)["train"]
    found = bits(log_density_of_uniform(split, squeeze), split)
    np.testing.assert_allclose(found, math.log2(levels), atol=1e-5)


def test_the_volume_is_that_of_the_change_of_variables() -> None:
    """Between x and the level q + u, by finite differences in float64."""
    squeeze, levels = 0.05, 17
    split = load(squeeze=squeeze, train=5)["train"]

    def level(x: Floats) -> Floats:
        found: Floats = (expit(x) - squeeze) / (1 - 2 * squeeze) * levels
        return found

    x, step = split["x"].values.astype(np.float64), 1e-5
    slope = (level(x + step) - level(x - step)) / (2 * step)
    np.testing.assert_allclose(split["log_volume"].values, np.log(slope).sum((1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize("squeeze", [1e-6, 0.01])
def test_a_density_of_levels_costs_its_cross_entropy(squeeze: float) -> None:
    """Levels drawn at random with known shares need the entropy, not a bit more, in logit coordinates too."""
    split = load(squeeze=squeeze)["train"]
    levels = split["levels"].values
    share = np.bincount(levels.ravel(), minlength=17) / levels.size
    log_density = log_density_of_uniform(split, squeeze) + np.log(share[levels] * 17).sum((1, 2, 3))
    assert bits(log_density, split).mean() == pytest.approx(stats.entropy(share, base=2), abs=1e-5)


@pytest.mark.parametrize("squeeze", [1e-6, 0.05])
def test_levels_are_recovered_from_x(squeeze: float, tmp_path: Path) -> None:
    images = write(tmp_path / "mnist")
    dataset = load(tmp_path, source="mnist", levels=256, squeeze=squeeze)
    for name, prefix in (("train", "train"), ("test", "t10k")):
        split = dataset[name]
        np.testing.assert_array_equal(split["levels"].values[..., 0], images[prefix])
        within = 256 * shares(split, squeeze) - split["levels"].values
        assert within.min() > -1e-3
        assert within.max() < 1 + 1e-3
        np.testing.assert_array_equal(split["y"].values, np.arange(SIZES[prefix]) * 3 % 10)


def test_noise_is_uniform_on_a_level_and_independent() -> None:
    split = load()["train"]
    noise = 17 * shares(split) - split["levels"].values
    some = noise.ravel()[:: noise.size // 5000]
    assert stats.kstest(some, stats.uniform.cdf).pvalue > 0.001
    flat = noise.reshape(len(noise), -1)
    assert abs(np.corrcoef(flat[:, :-1].ravel(), flat[:, 1:].ravel())[0, 1]) < 0.02, "neighbouring pixels"
    assert abs(np.corrcoef(flat[:-1].ravel(), flat[1:].ravel())[0, 1]) < 0.02, "neighbouring images"


def test_the_logit_is_bounded_by_the_squeeze() -> None:
    for squeeze in (1e-6, 0.01):
        x = load(squeeze=squeeze)["train"]["x"].values
        assert np.abs(x).max() <= math.log1p(-squeeze) - math.log(squeeze) + 1e-4
        assert np.isfinite(x).all()


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60))
def test_an_image_does_not_depend_on_how_many_others_are_loaded(few: int, more: int) -> None:
    one, other = load(train=few, test=3), load(train=more, test=7)
    for name, size in (("train", min(few, more)), ("test", 3)):
        for key in ("x", "levels", "log_volume", "y"):
            np.testing.assert_array_equal(one[name][key].values[:size], other[name][key].values[:size])


def test_images_of_two_splits_have_noise_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    write(tmp_path / "fashion-mnist")  # the same images under another name
    dataset = load(tmp_path, source="mnist", other="fashion_mnist", squeeze=0.05, levels=256)
    noise = {name: 256 * shares(split, 0.05) - split["levels"].values for name, split in dataset.splits.items()}
    np.testing.assert_array_equal(dataset["test"]["levels"].values, dataset["other"]["levels"].values)
    for one, two in (("train", "test"), ("test", "other")):
        assert np.abs(noise[one][:4] - noise[two][:4]).mean() > 0.2


def test_counts_and_the_third_split(tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    write(tmp_path / "fashion-mnist", seed=1)
    content = {"source": "mnist", "levels": 256}
    assert {name: len(split) for name, split in load(tmp_path, **content).splits.items()} == {"train": 7, "test": 4}
    dataset = load(tmp_path, **content, train=5, test=2, other="fashion_mnist")
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 5, "test": 2, "other": 2}
    assert dataset.label == "MNIST"
    own = load(tmp_path, source="fashion_mnist", levels=256)["test"]
    for key in ("x", "levels", "log_volume", "y"):
        np.testing.assert_array_equal(dataset["other"][key].values, own[key].values[:2])


def test_patches_stand_in_for_other_images() -> None:
    other = load(other="patches", test=30)["other"]
    assert other["x"].values.shape == (30, 8, 8, 1)
    assert other["levels"].values.max() <= 16
    np.testing.assert_allclose(bits(log_density_of_uniform(other, 1e-6), other), math.log2(17), atol=1e-5)


def test_a_third_split_is_no_larger_than_its_own_dataset(tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    assert len(load(tmp_path, source="digits", other="mnist")["other"]) == 4
    assert len(load(tmp_path, source="mnist", other="digits")["other"]) == 4


@pytest.mark.parametrize("levels", [256, 17])
def test_shrunk_images_are_block_means_rounded_to_a_level(levels: int) -> None:
    split = load(shrink=2, levels=levels)["train"]
    grey = digits.load(NOWHERE, digits.Config(), (0,))["train"]["x"].values.astype(np.float64)
    means = grey.reshape(-1, 4, 2, 4, 2).mean((2, 4)) * (levels - 1)
    assert split["x"].values.shape[1:] == (4, 4, 1)
    assert np.abs(split["levels"].values[..., 0] - means).max() <= 0.5 + 1e-4


def test_all_seeds_see_the_same_images() -> None:
    first, second = load(seeds=(0,), train=9), load(seeds=(5, 6, 7), train=9)
    for name, split in first.splits.items():
        for key, field in split.fields.items():
            np.testing.assert_array_equal(second[name][key].of_seed(2), field.of_seed(0))
            assert not second[name][key].per_seed


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"train": 8}, "8 images of split train of MNIST are asked for, but it has 7"),
        ({"test": 5}, "5 images of split test of MNIST are asked for, but it has 4"),
    ],
)
def test_more_images_than_there_are(wanted: dict[str, Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "mnist")
    with pytest.raises(ValueError, match=message):
        load(tmp_path, source="mnist", levels=256, **wanted)
    assert len(load(tmp_path, source="mnist", levels=256, train=7, test=4)["train"]) == 7


@pytest.mark.parametrize(
    ("content", "origins"),
    [
        ({"source": "mnist"}, ("mnist",)),
        ({"source": "fashion_mnist", "other": "mnist"}, ("fashion-mnist", "mnist")),
        ({"source": "digits", "other": "fashion_mnist"}, ("digits", "fashion-mnist")),
    ],
)
def test_the_sources_are_named_as_the_catalogue_names_their_files(
    content: dict[str, Any], origins: tuple[str, ...]
) -> None:
    assert logit_images.sources(logit_images.Config(**content)) == origins


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Fashion-MNIST: .*/fashion-mnist/train-images.*: no such file"):
        load(tmp_path, source="digits", other="fashion_mnist")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", "letter"),
        ("other", "letter"),
        ("train", 0),
        ("test", -1),
        ("shrink", 3),
        ("levels", 1),
        ("levels", 257),
        ("squeeze", 0),
        ("squeeze", 0.5),
    ],
)
def test_bad_settings_are_named(key: str, value: object) -> None:
    with pytest.raises(CatalogueError, match=rf"paper\.yaml: data: key '{key}'"):
        load(**{key: value})
