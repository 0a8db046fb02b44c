"""Datasets that are drawn: what each seed gets, statistics of the draws, bad settings."""

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neumix.data import digits, image_pairs, paired_clusters, product_mixture
from neumix.data.dataset import Dataset
from neumix.settings import CatalogueError, parse

NOWHERE = Path("nowhere")
GAUSSIANS: dict[str, Any] = {
    "weights": [0.4, 0.6],
    "components": [
        [{"family": "normal", "mean": -1, "sd": 1.5}, {"family": "linear", "slope": 0.8}],
        [{"family": "normal", "mean": 1, "sd": 1.5}, {"family": "linear", "slope": -0.8}],
    ],
    "size": 400,
}
PAIRS: dict[str, Any] = {"source": "digits", "pairs": 20_000, "seeding_images": 1300}
CLUSTERS: dict[str, Any] = {"table": [[0.2, 0.05, 0.0, 0.1], [0.05, 0.3, 0.2, 0.1]], "size": 20_000}


def load(module: ModuleType, content: dict[str, Any], seeds: list[int], **changes: Any) -> Dataset:
    dataset = module.load(NOWHERE, parse(module.Config, {**content, **changes}, "paper.yaml: data"), seeds)
    assert isinstance(dataset, Dataset)
    return dataset


def refusal(module: ModuleType, content: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(CatalogueError) as caught:
        parse(module.Config, {**content, **changes}, "paper.yaml: data")
    return str(caught.value)


def same(first: Dataset, position: int, second: Dataset, other: int) -> bool:
    """Whether two datasets give two of their seeds the same points in every field of every split."""
    return all(
        np.array_equal(field.of_seed(position), second[name][key].of_seed(other))
        for name, split in first.splits.items()
        for key, field in split.fields.items()
    )


@pytest.mark.parametrize(
    ("module", "content"),
    [
        (product_mixture, {**GAUSSIANS, "held_out": 50}),
        (product_mixture, {**GAUSSIANS, "draw": "bootstrap"}),
        (image_pairs, {**PAIRS, "pairs": 300}),
        (paired_clusters, {**CLUSTERS, "size": 300}),
    ],
    ids=["fresh", "bootstrap", "image_pairs", "paired_clusters"],
)
def test_a_seed_decides_its_draw_whatever_other_seeds_are_drawn(module, content):
    several, alone = load(module, content, [0, 1, 2]), load(module, content, [2])
    assert same(several, 2, alone, 0)
    assert same(several, 1, load(module, content, [5, 1]), 1)
    assert not same(several, 0, several, 1)


@pytest.fixture(scope="module")
def dataset():
    return load(image_pairs, PAIRS, [0, 1])


@pytest.fixture(scope="module")
def origin():
    return digits.load(NOWHERE, digits.Config(), [0])


@pytest.fixture(scope="module")
def clusters():
    return load(paired_clusters, CLUSTERS, [0, 1])["train"]


class TestProductMixture:
    def test_fresh_draws_differ_by_seed_and_split(self):
        dataset = load(product_mixture, GAUSSIANS, [0, 1], held_out=400)
        x = [dataset[split]["x"].of_seed(seed) for split in ("train", "held_out") for seed in (0, 1)]
        assert all(points.shape == (400, 2) and points.dtype == np.float32 for points in x)
        assert len({points.tobytes() for points in x}) == 4

    def test_held_out_points_are_optional_and_leave_the_training_points_alone(self):
        without, with_them = load(product_mixture, GAUSSIANS, [0]), load(product_mixture, GAUSSIANS, [0], held_out=7)
        assert list(without.splits) == ["train"]
        assert len(with_them["held_out"]) == 7
        assert same(without, 0, with_them, 0)

    def test_a_fixed_draw_is_one_for_all_seeds(self):
        dataset = load(product_mixture, GAUSSIANS, [0, 1, 2], draw="fixed")
        assert dataset["train"]["x"].values.shape == (400, 2)
        assert same(dataset, 0, dataset, 2)
        assert same(dataset, 0, load(product_mixture, GAUSSIANS, [9], draw="fixed"), 0)

    def test_bootstrap_rows_index_the_fixed_draw(self):
        fixed = load(product_mixture, GAUSSIANS, [0], draw="fixed", size=5000)["train"]
        split = load(product_mixture, GAUSSIANS, [0, 1, 2], draw="bootstrap", size=5000)["train"]
        np.testing.assert_array_equal(split["x"].values, fixed["x"].values)
        for position, rows in enumerate(split["x"].rows):
            np.testing.assert_array_equal(split["x"].of_seed(position), fixed["x"].values[rows])
            np.testing.assert_array_equal(split["component"].of_seed(position), fixed["component"].values[rows])
            # A draw with replacement keeps 1 - 1/e of the points, with a standard deviation of about 22 of 5000.
            assert len(np.unique(rows)) / 5000 == pytest.approx(1 - np.exp(-1), abs=0.02)
        assert not np.array_equal(split["x"].rows[0], split["x"].rows[1])

    def test_points_follow_the_mixture(self):
        split = load(product_mixture, GAUSSIANS, [3], size=20_000)["train"]
        x, component = split["x"].of_seed(0), split["component"].of_seed(0)
        assert stats.binomtest(int(component.sum()), 20_000, 0.6).pvalue > 0.001
        assert stats.kstest(x[component == 0, 0], stats.norm(-1, 1.5).cdf).pvalue > 0.001
        assert stats.kstest(x[component == 1, 1], lambda t: t * (1 - 0.8 * (1 - t))).pvalue > 0.001

    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 1), st.integers(0, 1000), st.sampled_from(["fresh", "fixed", "bootstrap"]))
    def test_log_density_ratio_is_its_formula(self, variate, seed, draw):
        split = load(product_mixture, GAUSSIANS, [seed], known_variate=variate, draw=draw, size=50)["train"]
        x, ratio = split["x"].of_seed(0), split["log_density_ratio"].of_seed(0)
        assert ratio.shape == (50, 2)
        t = x[:, variate].astype(np.float64)
        if variate == 0:
            densities = np.stack([stats.norm(-1, 1.5).pdf(t), stats.norm(1, 1.5).pdf(t)], -1)
        else:
            densities = np.stack([1 + 0.8 * (1 - 2 * t), 1 - 0.8 * (1 - 2 * t)], -1)
        expected = np.log(densities / (densities @ [0.4, 0.6])[:, None])
        np.testing.assert_allclose(ratio, expected, atol=2e-6)
        np.testing.assert_allclose(np.exp(ratio) @ [0.4, 0.6], 1, rtol=1e-5)

    def test_log_density_ratio_is_minus_infinity_where_a_component_has_no_density(self):
        waves = [[{"family": "uniform", "intervals": [[i, i + 1]]}] * 2 for i in range(2)]
        split = load(product_mixture, GAUSSIANS, [0], components=waves, known_variate=1)["train"]
        ratio, component = split["log_density_ratio"].of_seed(0), split["component"].of_seed(0)
        rows = np.arange(400)
        np.testing.assert_allclose(ratio[rows, component], -np.log(np.array([0.4, 0.6])[component]), rtol=1e-6)
        assert np.all(ratio[rows, 1 - component] == -np.inf)

    def test_the_ratio_is_there_only_for_a_known_variate(self):
        assert set(load(product_mixture, GAUSSIANS, [0])["train"].fields) == {"x", "component"}

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"size": 0}, "key 'size'"),
            ({"held_out": -1}, "key 'held_out'"),
            ({"draw": "bootstap"}, "key 'draw': unknown value 'bootstap'; did you mean 'bootstrap'"),
            ({"weights": [0.4, 0.4]}, "weights need to be non-negative and sum to 1"),
            ({"weights": [1.0]}, "1 weights for 2 components"),
            ({"wieghts": [1.0]}, "unknown key 'wieghts'; did you mean 'weights'"),
            ({"components": [GAUSSIANS["components"][0], GAUSSIANS["components"][1][:1]]}, "number of variates"),
            ({"components": [[{"family": "normal", "mean": 0, "sd": 0}]] * 2}, "sd': Input should be greater than 0"),
        ],
    )
    def test_bad_settings_are_refused_by_name(self, changes, said):
        assert said in refusal(product_mixture, GAUSSIANS, **changes)

    @pytest.mark.parametrize("variate", [2, -1])
    def test_a_known_variate_that_is_not_there_is_refused(self, variate):
        assert "known_variate" in refusal(product_mixture, GAUSSIANS, known_variate=variate)


class TestImagePairs:
    def test_sizes_and_shapes(self, dataset, origin):
        sizes = {name: len(split) for name, split in dataset.splits.items()}
        n_train, n_test = len(origin["train"]), len(origin["test"])
        kept = round(0.1 * n_train)
        assert sizes == {
            "pairs": 18_000,
            "pairs_held_out": 2_000,
            "seeding": 1300,
            "hybrid": 18_000,
            "clean": n_train - kept,
            "clean_held_out": kept,
            "test": n_test,
        }
        assert dataset.shapes == {"x": (2, 8, 8), "image": (8, 8), "y": ()}
        assert dataset.label == origin.label
        assert image_pairs.sources(parse(image_pairs.Config, PAIRS, "")) == ("digits",)

    def test_the_test_split_is_the_source_s(self, dataset, origin):
        np.testing.assert_array_equal(dataset["test"]["image"].values, origin["test"]["x"].values)
        np.testing.assert_array_equal(dataset["test"]["y"].values, origin["test"]["y"].values)

    @pytest.mark.parametrize("split", ["pairs", "pairs_held_out", "hybrid"])
    def test_the_images_of_a_pair_share_a_class_and_classes_are_uniform(self, dataset, origin, split):
        labels = origin["train"]["y"].values[dataset[split]["x"].rows]  # (S, N, 2)
        assert np.all(labels[..., 0] == labels[..., 1])
        for seed in range(2):
            assert stats.chisquare(np.bincount(labels[seed, :, 0], minlength=10)).pvalue > 0.001

    def test_images_of_a_pair_are_drawn_uniformly_and_with_replacement(self, dataset, origin):
        rows, labels = dataset["pairs"]["x"].rows[0], origin["train"]["y"].values
        sizes = np.bincount(labels)
        same_image = rows[:, 0] == rows[:, 1]
        expected = (1 / sizes[labels[rows[:, 0]]]).sum()
        assert stats.poisson(expected).cdf(same_image.sum()) > 0.001
        assert stats.poisson(expected).sf(same_image.sum() - 1) > 0.001
        for position in range(2):
            members = rows[labels[rows[:, position]] == 3, position]
            counts = np.array([np.count_nonzero(members == row) for row in np.flatnonzero(labels == 3)])
            assert stats.chisquare(counts).pvalue > 0.001

    def test_the_first_image_says_nothing_of_the_second_within_a_class(self, dataset, origin):
        rows, labels = dataset["pairs"]["x"].rows[0], origin["train"]["y"].values
        zeros = rows[labels[rows[:, 0]] == 0]
        assert stats.spearmanr(zeros[:, 0], zeros[:, 1]).pvalue > 0.001

    def test_held_out_pairs_are_draws_of_their_own(self, dataset):
        other = load(image_pairs, PAIRS, [0, 1], held_out=0.3)
        together = [
            np.concatenate([each["pairs_held_out"]["x"].rows, each["pairs"]["x"].rows], 1) for each in (dataset, other)
        ]
        np.testing.assert_array_equal(*together)  # one sequence of draws, cut in two
        assert len(other["pairs_held_out"]) == 6_000

    def test_noisy_labels_are_right_six_times_in_ten_and_otherwise_uniform(self, origin):
        labels, seeds = origin["train"]["y"].values, list(range(12))
        seeding = load(image_pairs, PAIRS, seeds, pairs=10)["seeding"]
        true = labels[seeding["image"].rows].ravel()
        noisy = np.stack([seeding["y"].of_seed(seed) for seed in seeds]).ravel()
        right = noisy == true
        assert stats.binomtest(int(right.sum()), len(true), 0.6).pvalue > 0.001
        shifts = np.bincount((noisy - true)[~right] % 10, minlength=10)[1:]
        assert stats.chisquare(shifts).pvalue > 0.001
        assert set(np.unique(noisy)) == set(range(10))

    def test_seeding_images_are_distinct(self, dataset):
        for rows in dataset["seeding"]["image"].rows:
            assert len(np.unique(rows)) == 1300

    def test_clean_images_are_split_into_two_parts_with_their_true_labels(self, dataset, origin):
        n, labels = len(origin["train"]), origin["train"]["y"].values
        for seed in range(2):
            parts = [dataset[name]["image"].rows[seed] for name in ("clean", "clean_held_out")]
            np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))
            for name, rows in zip(("clean", "clean_held_out"), parts, strict=True):
                np.testing.assert_array_equal(dataset[name]["y"].of_seed(seed), labels[rows])

    def test_hybrid_points_are_the_pairs_with_labelled_images_of_the_seeding_set(self, dataset):
        np.testing.assert_array_equal(dataset["hybrid"]["x"].rows, dataset["pairs"]["x"].rows)
        for seed in range(2):
            rows = dataset["seeding"]["image"].rows[seed]
            given = dict(zip(rows.tolist(), dataset["seeding"]["y"].of_seed(seed).tolist(), strict=True))
            hybrid = dataset["hybrid"]["image"].rows[seed].tolist()
            assert [given.get(row) for row in hybrid] == dataset["hybrid"]["y"].of_seed(seed).tolist()
            counts = np.bincount(hybrid, minlength=max(rows) + 1)[rows]
            assert stats.chisquare(counts).pvalue > 0.001

    def test_label_accuracy_is_a_setting(self, origin):
        seeding = load(image_pairs, PAIRS, [0], label_accuracy=0.9, pairs=100)["seeding"]
        true = origin["train"]["y"].values[seeding["image"].rows[0]]
        assert (seeding["y"].of_seed(0) == true).mean() == pytest.approx(0.9, abs=0.03)

    @pytest.mark.parametrize("key", ["pairs", "seeding_images"])
    def test_counts_need_to_be_positive(self, key):
        assert f"key '{key}'" in refusal(image_pairs, PAIRS, **{key: 0})

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("held_out", value) for value in (0, 1, -0.1, 1.5)),
            *(("label_accuracy", value) for value in (0, -0.1, 1.5)),
        ],
    )
    def test_fractions_lie_between_zero_and_one(self, key, value):
        assert f"key '{key}'" in refusal(image_pairs, PAIRS, **{key: value})

    def test_more_seeding_images_than_there_are_is_refused(self):
        with pytest.raises(ValueError, match="seeding_images is 2000, but digits has 1347"):
            load(image_pairs, PAIRS, [0], seeding_images=2000)


class TestPairedClusters:
    def test_labels_have_the_frequencies_of_the_table(self, clusters):
        table = np.array(CLUSTERS["table"])
        for seed in range(2):
            labels = clusters["labels"].of_seed(seed)
            counts = np.zeros(table.shape)
            np.add.at(counts, tuple(labels.T), 1)
            assert counts[table == 0].sum() == 0
            assert stats.chisquare(counts[table > 0], table[table > 0] * len(labels)).pvalue > 0.001

    def test_points_surround_their_centres(self, clusters):
        assert clusters["x"].shape == (2, 2)
        x, labels = clusters["x"].of_seed(0), clusters["labels"].of_seed(0)
        for variate, classes in enumerate((2, 4)):
            angle = 2 * np.pi * labels[:, variate] / classes
            rest = x[:, variate] - 3 * np.stack([np.cos(angle), np.sin(angle)], -1)
            assert stats.kstest(rest.ravel(), stats.norm(0, 0.5).cdf).pvalue > 0.001
        assert clusters["x"].of_seed(0).dtype == np.float32

    def test_radius_and_sd_are_settings(self):
        split = load(paired_clusters, CLUSTERS, [0], radius=7, sd=0.01, size=500)["train"]
        distances = np.linalg.norm(split["x"].of_seed(0), axis=-1)
        np.testing.assert_allclose(distances, 7, atol=0.06)

    def test_mutual_information_equals_a_direct_sum(self):
        table = CLUSTERS["table"]
        rows = [sum(row) for row in table]
        columns = [sum(row[j] for row in table) for j in range(4)]
        direct = sum(
            p * np.log(p / (rows[i] * columns[j])) for i, row in enumerate(table) for j, p in enumerate(row) if p
        )
        config = parse(paired_clusters.Config, CLUSTERS, "")
        assert paired_clusters.mutual_information(config) == pytest.approx(direct, rel=1e-12)

    @pytest.mark.parametrize(
        ("table", "expected"),
        [([[0.25, 0.25], [0.25, 0.25]], 0), ([[0.5, 0], [0, 0.5]], np.log(2)), ([[1.0]], 0), ([[0.3, 0.7]], 0)],
    )
    def test_mutual_information_of_independent_and_identical_labels(self, table, expected):
        config = parse(paired_clusters.Config, {"table": table, "size": 1}, "")
        assert paired_clusters.mutual_information(config) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"table": [[0.5, 0.4]]}, "table needs non-negative entries that sum to 1"),
            ({"table": [[1.5, -0.5]]}, "table needs non-negative entries"),
            ({"radius": 0}, "key 'radius'"),
            ({"sd": -1}, "key 'sd'"),
            ({"size": 0}, "key 'size'"),
        ],
    )
    def test_bad_settings_are_refused_by_name(self, changes, said):
        assert said in refusal(paired_clusters, CLUSTERS, **changes)

    @pytest.mark.parametrize("table", [[[0.5, 0.3], [0.2]], [], [[float("nan"), 0.5]]])
    def test_a_table_that_is_no_table_is_refused_by_name(self, table):
        assert "table" in refusal(paired_clusters, CLUSTERS, table=table).split("(found")[0]
