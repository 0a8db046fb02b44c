"""The density that an image is: where its points fall, logit coordinates, the highest score of any model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from scipy import stats
from test_dvc import mirror

from neumix.data import euler, image_density
from neumix.data.dataset import Dataset, Field, Split
from neumix.data.image_density import from_logit, log_densities, mean_log_density, to_logit
from neumix.settings import CatalogueError, parse

ALPHA = 0.01
TINY = np.array([[0.9, 0.0, 0.3], [0.1, 0.5, 0.2]], np.float32)

GREYS = arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.floats(0, 1, width=32))
ALPHAS = st.floats(1e-4, 0.4)
UNIT = arrays.arrays(np.float64, (5, 2), elements=st.floats(0, 1))


def load(seeds: tuple[int, ...] = (0,), root: Path = Path("nowhere"), **content: Any) -> Dataset:
    content = {"source": "sample_image", "train": 500, "test": 300, **content}
    return image_density.load(root, parse(image_density.Config, content, "paper.yaml: data"), seeds)


def load_from(image: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, **content: Any) -> Dataset:
    """Return points of an image of ours in place of the portrait."""
    origin = Dataset({"image": Split({"x": Field(image[None])})}, "toy")
    monkeypatch.setattr(euler, "load", lambda root, config, seeds: origin)
    return load(source="euler", **content)


def unit_points(dataset: Dataset, split: str = "train") -> NDArray[np.float64]:
    return from_logit(dataset[split]["x"].of_seed(0), ALPHA)


def pixels_of(u: NDArray[np.float64], image: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of points, after the definition of the coordinates."""
    height, width = image.shape
    return np.floor((1 - u[:, 1]) * height).astype(np.int64), np.floor(u[:, 0] * width).astype(np.int64)


class TestPoints:
    def test_splits_fields_and_types(self):
        dataset = load((3, 5, 7))
        assert dataset.label == "scikit-learn flower"
        assert {name: (len(split), set(split.fields)) for name, split in dataset.splits.items()} == {
            "train": (500, {"x"}),
            "test": (300, {"x", "log_jacobian", "log_density"}),
            "image": (1, {"image"}),
        }
        assert dataset["train"]["x"].values.shape == (3, 500, 2)
        assert dataset["test"]["log_jacobian"].values.shape == (3, 300)
        assert dataset.shapes == {"x": (2,), "log_jacobian": (), "log_density": (), "image": (106, 160)}
        assert {f.values.dtype for s in dataset.splits.values() for f in s.fields.values()} == {np.dtype(np.float32)}

    def test_pixels_are_as_frequent_as_they_are_bright(self, monkeypatch):
        u = unit_points(load_from(TINY, monkeypatch, train=60_000))
        counts = np.zeros(TINY.shape)
        np.add.at(counts, pixels_of(u, TINY), 1)
        assert counts[0, 1] == 0, "black"
        bright = TINY > 0
        expected = 60_000 * TINY[bright].astype(np.float64) / TINY.sum(dtype=np.float64)
        assert stats.chisquare(counts[bright], expected, sum_check=False).pvalue > 0.001

    def test_points_are_uniform_within_a_pixel(self, monkeypatch):
        u = unit_points(load_from(TINY, monkeypatch, train=20_000))
        within = (u * TINY.shape[::-1]) % 1
        counts = np.histogramdd(within, bins=(5, 5), range=[(0, 1), (0, 1)])[0]
        assert stats.chisquare(counts.ravel()).pvalue > 0.001

    def test_the_top_left_pixel_is_at_small_u1_and_large_u2(self, monkeypatch):
        corner = np.zeros((4, 5), np.float32)
        corner[0, 0] = 0.2
        u = unit_points(load_from(corner, monkeypatch))
        assert 0 <= u[:, 0].min() < u[:, 0].max() <= 1 / 5 + 1e-6
        assert 3 / 4 - 1e-6 <= u[:, 1].min() < u[:, 1].max() <= 1 + 1e-6

    def test_log_density_and_jacobian_belong_to_the_point(self, monkeypatch):
        test = load_from(TINY, monkeypatch, test=2000)["test"]
        x = test["x"].of_seed(0)
        u = from_logit(x, ALPHA)
        inside = np.all(np.abs((u * TINY.shape[::-1]) % 1 - 0.5) < 0.499, 1)
        found = log_densities(TINY)[pixels_of(u[inside], TINY)]
        assert inside.sum() > 1900
        np.testing.assert_allclose(test["log_density"].of_seed(0)[inside], found, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(test["log_jacobian"].of_seed(0), to_logit(u, ALPHA)[1], rtol=1e-5)

    def test_log_density_averages_to_the_bound(self):
        dataset = load(test=50_000)
        values = dataset["test"]["log_density"].of_seed(0).astype(np.float64)
        bound = mean_log_density(dataset["image"]["image"].values[0])
        assert abs(values.mean() - bound) < 4 * values.std() / np.sqrt(len(values))

    def test_the_shrinking_keeps_coordinates_within_their_logits(self):
        for alpha in (0.01, 0.2):
            assert np.abs(load(alpha=alpha)["train"]["x"].values).max() <= np.log(1 / alpha - 1) + 1e-6

    def test_a_seed_decides_its_draw_whatever_other_seeds_are_drawn(self):
        several, alone = load((0, 1, 2)), load((2,))
        for split, name in (("train", "x"), ("test", "x"), ("test", "log_density")):
            draws = several[split][name]
            np.testing.assert_array_equal(draws.of_seed(2), alone[split][name].of_seed(0))
            assert not np.array_equal(draws.of_seed(0), draws.of_seed(1))

    def test_test_points_are_not_training_points(self):
        dataset = load(train=300)
        assert not np.isin(dataset["train"]["x"].values, dataset["test"]["x"].values).any()

    def test_the_number_of_test_points_does_not_change_the_training_points(self):
        np.testing.assert_array_equal(load(test=7)["train"]["x"].values, load()["train"]["x"].values)


class TestBound:
    def test_uniform_image_has_none_to_gain(self):
        assert mean_log_density(np.full((3, 7), 0.4)) == pytest.approx(0, abs=1e-12)
        np.testing.assert_allclose(log_densities(np.full((3, 7), 0.4)), 0, atol=1e-12)

    def test_half_black_image_has_log_2(self):
        image = np.zeros((4, 6))
        image[:, 3:] = 0.7
        assert mean_log_density(image) == pytest.approx(np.log(2), rel=1e-12)
        np.testing.assert_allclose(log_densities(image)[:, 3:], np.log(2), rtol=1e-12)
        assert np.all(log_densities(image)[:, :3] == -np.inf)

    @given(GREYS.filter(lambda image: image.max() > 1e-3), st.floats(0.1, 10))
    def test_density_integrates_to_one_and_ignores_exposure(self, image, exposure):
        assert np.exp(log_densities(image)).mean() == pytest.approx(1)
        assert mean_log_density(image) >= -1e-12
        assert mean_log_density(exposure * image.astype(np.float64)) == pytest.approx(mean_log_density(image), abs=1e-9)

    def test_entropy_agrees_with_scipy(self):
        p = TINY.astype(np.float64).ravel()
        assert mean_log_density(TINY) == pytest.approx(np.log(TINY.size) - stats.entropy(p), rel=1e-9)

    @pytest.mark.skipif(mirror() is None, reason="no mirror of the raw data; NEUMIX_DATA_MIRROR can name one")
    def test_euler(self):
        dataset = load(source="euler", root=mirror(), train=1, test=100_000)
        assert dataset.label == "Euler portrait"
        assert mean_log_density(dataset["image"]["image"].values[0]) == pytest.approx(0.22445, abs=5e-6)
        values = dataset["test"]["log_density"].of_seed(0).astype(np.float64)
        assert abs(values.mean() - 0.22445) < 4 * values.std() / np.sqrt(len(values))


class TestLogit:
    @given(UNIT, ALPHAS)
    def test_there_and_back(self, u, alpha):
        np.testing.assert_allclose(from_logit(to_logit(u, alpha)[0], alpha), u, rtol=1e-9, atol=1e-9)

    @given(arrays.arrays(np.float64, (5, 2), elements=st.floats(0.01, 0.99)), ALPHAS)
    def test_jacobian_against_finite_differences(self, u, alpha):
        step = 1e-6
        slopes = (to_logit(u + step, alpha)[0] - to_logit(u - step, alpha)[0]) / (2 * step)
        np.testing.assert_allclose(to_logit(u, alpha)[1], np.log(slopes).sum(-1), atol=1e-5)

    def test_known_values(self):
        x, log_jacobian = to_logit([[0.5, 0.5], [0.0, 1.0]], ALPHA)
        np.testing.assert_allclose(x, [[0, 0], [-np.log(99), np.log(99)]], atol=1e-12)
        np.testing.assert_allclose(log_jacobian, 2 * np.log([0.98 * 4, 0.98 / (0.01 * 0.99)]), rtol=1e-12)

    def test_a_density_keeps_its_mass(self):
        """A logistic density at x, brought to the square by the Jacobian, loses what lies outside."""
        grid = (np.arange(2000) + 0.5) / 2000
        x, log_jacobian = to_logit(grid[:, None], 0.05)
        mass = np.exp(stats.logistic.logpdf(x[:, 0]) + log_jacobian).mean()
        assert mass == pytest.approx(0.9, rel=1e-5)

    def test_far_coordinates_stay_finite(self):
        np.testing.assert_allclose(from_logit([-1e6, 0, 1e6], 0.01), [-1 / 98, 0.5, 99 / 98])

    @pytest.mark.parametrize("u", [[[0.5, -0.2]], [[1.2, 0.5]], [[np.nan, 0.5]]])
    def test_a_point_without_a_logit_is_refused(self, u):
        with pytest.raises(ValueError, match=r"u needs to be in the unit cube .* alpha 0\.01"):
            to_logit(u, ALPHA)


class TestRefusals:
    @pytest.mark.parametrize("function", [log_densities, mean_log_density])
    @pytest.mark.parametrize(
        ("image", "message"),
        [
            (np.zeros((3, 4)), "image is black everywhere"),
            (np.ones((1, 3, 4)), r"a matrix of finite non-negative grey values, found shape \(1, 3, 4\)"),
            (np.array([[1.0, -0.1]]), "finite non-negative"),
            (np.array([[1.0, np.nan]]), "finite non-negative"),
        ],
    )
    def test_what_is_no_density(self, function, image, message):
        with pytest.raises(ValueError, match=message):
            function(image)

    def test_black_source(self, monkeypatch):
        with pytest.raises(ValueError, match="image is black everywhere"):
            load_from(np.zeros((3, 4), np.float32), monkeypatch)

    @pytest.mark.parametrize(
        ("key", "value"), [("train", 0), ("test", 0), ("alpha", 0), ("alpha", 0.5), ("source", "mnist")]
    )
    def test_bad_settings_are_named(self, key, value):
        with pytest.raises(CatalogueError, match=rf"paper\.yaml: data: key '{key}'"):
            load(**{key: value})


def test_the_image_comes_from_its_source(tmp_path: Path) -> None:
    config = image_density.Config(source="euler")
    assert (image_density.sources(config), config.train, config.test) == (("euler",), 200_000, 100_000)
    (tmp_path / "euler").mkdir()
    Image.new("RGB", (197, 256), (90, 90, 90)).save(tmp_path / "euler" / "euler.jpg")
    dataset = load(source="euler", root=tmp_path)
    np.testing.assert_allclose(dataset["image"]["image"].values, 90 / 255, atol=0.01)
    np.testing.assert_allclose(dataset["test"]["log_density"].values, 0, atol=1e-3)
