"""Points in the plane and shuffled labels: one scale, which seed sees which draw, shapes of the clusters."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier

from neumix.data import digits, parallelograms, pinwheel, shuffled_labels
from neumix.data.dataset import Dataset
from neumix.data.planar import Draws, planar_dataset
from neumix.settings import CatalogueError, parse

NOWHERE = Path("nowhere")
MODULES = pytest.mark.parametrize("module", [pinwheel, parallelograms], ids=["pinwheel", "parallelograms"])


def load(module: ModuleType, seeds: tuple[int, ...] = (0,), **content: Any) -> Dataset:
    dataset = module.load(NOWHERE, parse(module.Config, content, "paper.yaml: data"), seeds)
    assert isinstance(dataset, Dataset)
    return dataset


def draw(module: ModuleType, **content: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return points (N, 2) in float64 and clusters (N,)."""
    split = load(module, **content)["train"]
    return split["x"].of_seed(0).astype(np.float64), split["component"].of_seed(0)


def of(dataset: Dataset, position: int) -> bytes:
    return b"".join(dataset["train"][name].of_seed(position).tobytes() for name in ("x", "component"))


@MODULES
class TestBoth:
    def test_points_and_clusters_have_their_shapes_and_scale(self, module):
        dataset = load(module, size=500)
        split = dataset["train"]
        assert list(dataset.splits) == ["train"]
        assert dataset.shapes == {"x": (2,), "component": ()}
        assert split["x"].values.shape == (500, 2)
        assert split["x"].values.dtype == np.float32
        assert split["component"].values.dtype == np.int64
        x = split["x"].values.astype(np.float64)
        np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
        assert np.square(x).sum(1).mean() == pytest.approx(2, rel=1e-6)

    def test_clusters_are_equally_likely(self, module):
        _, component = draw(module, size=30_000)
        assert stats.chisquare(np.bincount(component, minlength=3)).pvalue > 0.001

    def test_it_needs_no_other_dataset(self, module):
        assert module.sources(module.Config()) == ()
        assert len(load(module)["train"]) == 5000

    def test_draws_differ(self, module):
        assert len({of(load(module, size=50, draw=number), 0) for number in range(5)}) == 5

    def test_all_seeds_see_the_same_draw_unless_told_otherwise(self, module):
        dataset = load(module, (0, 1, 7), size=50, draw=2)
        assert dataset["train"]["x"].values.shape == (50, 2)
        assert of(dataset, 0) == of(dataset, 2) == of(load(module, (3,), size=50, draw=2), 0)

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.integers(0, 20), min_size=1, max_size=5), st.integers(1, 6), st.integers(0, 3))
    def test_a_seed_s_draw_is_its_own_whatever_other_seeds_there_are(self, module, seeds, fits, first):
        dataset = load(module, tuple(seeds), size=20, draw=first, fits_per_draw=fits)
        for position, seed in enumerate(seeds):
            fixed = load(module, size=20, draw=first + seed // fits)
            assert of(dataset, position) == of(fixed, 0)
            assert of(load(module, (seed,), size=20, draw=first, fits_per_draw=fits), 0) == of(fixed, 0)
        found = {of(dataset, position) for position in range(len(seeds))}
        assert len(found) == len({seed // fits for seed in seeds})

    @pytest.mark.parametrize(
        ("content", "said"),
        [({"size": 1}, "key 'size'"), ({"fits_per_draw": 0}, "key 'fits_per_draw'"), ({"fit": 2}, "unknown key 'fit'")],
    )
    def test_bad_settings_are_refused_by_name(self, module, content, said):
        with pytest.raises(CatalogueError) as caught:
            parse(module.Config, content, "paper.yaml: data")
        assert said in str(caught.value)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 100), st.floats(-50, 50), st.integers(0, 1000))
def test_standardisation_forgets_place_and_size_but_not_shape(scale, shift, seed):
    points = np.random.default_rng(seed).normal(size=(40, 2)) * [3, 1]
    labels = np.arange(40)
    found = [
        planar_dataset(Draws(0, None), [0], lambda _, moved=moved: (moved, labels))["train"]["x"].values
        for moved in (points, shift + scale * points)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    ratio = np.sqrt(np.linalg.eigvalsh(np.cov(found[0].T)))
    np.testing.assert_allclose(
        ratio[0] / ratio[1], np.divide(*np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))), rtol=1e-4
    )


def rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


class TestPinwheel:
    @pytest.mark.parametrize("arms", [2, 3, 5])
    def test_turning_by_an_arm_maps_each_to_the_next(self, arms):
        x, arm = draw(pinwheel, arms=arms, size=30_000)
        back = [x[arm == k] @ rotation(2 * np.pi * k / arms) for k in range(arms)]  # rows turned by minus the angle
        for points in back[1:]:
            np.testing.assert_allclose(points.mean(0), back[0].mean(0), atol=0.05)
            np.testing.assert_allclose(np.cov(points.T), np.cov(back[0].T), atol=0.02)
            third = [((part - part.mean(0)) ** 3).mean(0) for part in (points, back[0])]
            np.testing.assert_allclose(*third, atol=0.05)
        assert np.linalg.norm(x[arm == 0].mean(0) - x[arm == 1].mean(0)) > 0.5

    def test_thin_arms_are_spirals(self):
        x, arm = draw(pinwheel, tangential_sd=1e-6, size=100_000)
        x *= np.sqrt((1 + 0.3**2) / 2)  # back to the wheel's own unit, in which radii are normal around 1
        radius, angle = np.linalg.norm(x, axis=1), np.arctan2(x[:, 1], x[:, 0])
        outer = radius > 0.5  # near the hub, the small error of the centre turns points by much
        left = angle - 2 * np.pi * arm / 3 - 0.25 * np.exp(radius)
        error = np.angle(np.exp(1j * left))[outer]
        assert np.abs(error).max() < 0.05
        assert radius.mean() == pytest.approx(1, abs=0.01)
        assert radius.std() == pytest.approx(0.3, abs=0.01)

    def test_straight_arms_have_their_two_widths(self):
        x, arm = draw(pinwheel, rate=0, radial_sd=0.4, tangential_sd=0.05, size=60_000)
        x *= np.sqrt((1 + 0.4**2 + 0.05**2) / 2)
        for k in range(3):
            along, across = (x[arm == k] @ rotation(2 * np.pi * k / 3)).T
            assert stats.kstest(along[:2000], stats.norm(1, 0.4).cdf).pvalue > 0.001
            assert stats.kstest(across[:2000], stats.norm(0, 0.05).cdf).pvalue > 0.001
            assert abs(np.corrcoef(along, across)[0, 1]) < 0.03

    @pytest.mark.parametrize("key", ["arms", "radial_sd", "tangential_sd"])
    def test_sizes_need_to_be_positive(self, key):
        with pytest.raises(CatalogueError, match=f"key '{key}'"):
            parse(pinwheel.Config, {key: 0}, "paper.yaml: data")


def edges_of(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return edges (2, 2) and affine coordinates (N, 2) of points that fill a parallelogram.

    Whitening makes it a square of side sqrt(12); its turn is the one whose bounding box is least.
    """
    centred = points - points.mean(0)
    factor = np.linalg.cholesky(np.cov(centred.T))
    square = centred @ np.linalg.inv(factor).T
    turns = [rotation(angle) for angle in np.linspace(0, np.pi / 2, 361)[:-1]]
    turn = min(turns, key=lambda each: np.abs(square @ each).max())
    return np.sqrt(12) * (factor @ turn).T, square @ turn / np.sqrt(12)


class TestParallelograms:
    @pytest.mark.parametrize("number", range(4))
    def test_points_without_noise_fill_parallelograms(self, number):
        x, component = draw(parallelograms, noise_sd=0, size=12_000, draw=number)
        for k in range(3):
            edges, coordinates = edges_of(x[component == k])
            assert np.abs(coordinates).max() == pytest.approx(0.5, abs=0.015)
            for coordinate in coordinates.T:
                assert stats.kstest(coordinate[:1000], stats.uniform(-0.5, 1).cdf).pvalue > 0.001
            lengths = np.linalg.norm(edges, axis=1)
            assert lengths.max() / lengths.min() < 2 * 1.03
            assert abs(edges[0] @ edges[1] / lengths.prod()) < np.cos(np.pi / 4) * 1.03

    def test_edges_and_centres_differ(self):
        x, component = draw(parallelograms, noise_sd=0, count=4, size=12_000)
        found = [edges_of(x[component == k])[0] for k in range(4)]
        assert len({tuple(np.round(np.linalg.norm(edges, axis=1), 2)) for edges in found}) == 4
        assert len({tuple(np.round(x[component == k].mean(0), 2)) for k in range(4)}) == 4

    def test_lengths_are_settings(self):
        x, component = draw(parallelograms, noise_sd=0, shortest=1.5, longest=1.5, size=12_000)
        lengths = [np.linalg.norm(edges_of(x[component == k])[0], axis=1) for k in range(3)]
        np.testing.assert_allclose(lengths, np.full((3, 2), np.mean(lengths)), rtol=0.03)

    def test_noise_is_normal_and_of_the_given_size(self):
        clean, component = draw(parallelograms, noise_sd=0)
        rests = {}
        for sd in (0.05, 0.1):
            noisy, same = draw(parallelograms, noise_sd=sd)
            np.testing.assert_array_equal(same, component)
            scale = (clean * noisy).sum() / np.square(clean).sum()
            rests[sd] = noisy / scale - clean  # in the unit of the points without noise
            standardised = (rests[sd] / rests[sd].std()).ravel()
            assert stats.kstest(standardised, stats.norm.cdf).pvalue > 0.001
        assert rests[0.1].std() / rests[0.05].std() == pytest.approx(2, rel=0.02)
        # A known length gives the unit: edges of one.
        clean, component = draw(parallelograms, noise_sd=0, shortest=1, longest=1)
        noisy, _ = draw(parallelograms, noise_sd=0.05, shortest=1, longest=1)
        unit = np.linalg.norm(edges_of(clean[component == 0])[0], axis=1).mean()
        scale = (clean * noisy).sum() / np.square(clean).sum()
        assert (noisy / scale - clean).std() / unit == pytest.approx(0.05, rel=0.05)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ({"shortest": 3}, "shortest is 3.0, more than longest, 2.0"),
            ({"count": 0}, "key 'count'"),
            ({"half_width": 0}, "key 'half_width'"),
            ({"noise_sd": -0.1}, "key 'noise_sd'"),
        ],
    )
    def test_bad_settings_are_refused_by_name(self, content, said):
        with pytest.raises(CatalogueError) as caught:
            parse(parallelograms.Config, content, "paper.yaml: data")
        assert said in str(caught.value)


@pytest.fixture(scope="module")
def origin():
    return digits.load(NOWHERE, digits.Config(), [0, 1])


@pytest.fixture(scope="module")
def shuffled():
    return load(shuffled_labels, (0, 1), source="digits")


class TestShuffledLabels:
    def test_points_and_counts_stay(self, origin, shuffled):
        before, after = origin["train"], shuffled["train"]
        np.testing.assert_array_equal(after["x"].values, before["x"].values)
        np.testing.assert_array_equal(np.bincount(after["y"].values), np.bincount(before["y"].values))
        assert after["y"].values.dtype == before["y"].values.dtype
        assert shuffled.shapes == origin.shapes

    def test_labels_tell_nothing_about_the_points(self, origin, shuffled):
        before, after = origin["train"]["y"].values, shuffled["train"]["y"].values
        table = np.zeros((10, 10))
        np.add.at(table, (before, after), 1)
        assert stats.chi2_contingency(table).pvalue > 0.001
        x, test = shuffled["train"]["x"].values.reshape(len(after), -1), shuffled["test"]
        held_out = test["x"].values.reshape(len(test), -1)
        scores = [KNeighborsClassifier().fit(x, y).score(held_out, test["y"].values) for y in (before, after)]
        assert scores[0] > 0.95
        assert scores[1] < 0.2

    def test_the_test_split_stays(self, origin, shuffled):
        for name in ("x", "y"):
            np.testing.assert_array_equal(shuffled["test"][name].values, origin["test"][name].values)

    def test_the_order_is_always_the_same(self, shuffled):
        again = load(shuffled_labels, (5,), source="digits")
        np.testing.assert_array_equal(again["train"]["y"].of_seed(0), shuffled["train"]["y"].of_seed(1))

    def test_the_source_is_named(self, origin, shuffled):
        assert shuffled.label == f"{origin.label}, labels shuffled"
        assert shuffled_labels.sources(shuffled_labels.Config(source="digits")) == ("digits",)
        with pytest.raises(CatalogueError, match="key 'source' is missing"):
            parse(shuffled_labels.Config, {}, "paper.yaml: data")
