"""What is measured on a trained run, with models that give exact or useless answers."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import mutual_info_score
from torch import Tensor

from neumix.data import image_pairs, paired_clusters
from neumix.data.dataset import Dataset, Field, Split
from neumix.data.product_mixture import Config, load, mixture
from neumix.mixtures import ProductMixture
from neumix.models.inclass import costs, theory
from neumix.papers.inclass import evaluation
from neumix.run import Run
from neumix.settings import parse
from neumix.trained import TrainedRun

Array = NDArray[np.float64]

NOWHERE = Path("nowhere")
WAVES = [{"family": "uniform", "intervals": [[a, a + 1], [a + 2, a + 3]]} for a in (0, 1)]
GAUSSIANS: dict[str, Any] = {
    "weights": [0.4, 0.6],
    "components": [
        [{"family": "normal", "mean": -1, "sd": 1.5}, {"family": "normal", "mean": 2, "sd": 1}],
        [{"family": "normal", "mean": 1, "sd": 1.5}, {"family": "normal", "mean": 0, "sd": 0.8}],
    ],
    "size": 20_000,
    "held_out": 20_000,
}
CHECKERBOARD = {"weights": [0.5, 0.5], "components": [[wave, wave] for wave in WAVES], "size": 4000}
TRIVARIATE = {
    "weights": [0.2, 0.5, 0.3],
    "components": [
        [{"family": "normal", "mean": m, "sd": 1}, {"family": "normal", "mean": -m, "sd": 1.5}, part]
        for m, part in zip((-2, 0, 2), [{"family": "linear", "slope": s} for s in (1, -1, 0)], strict=True)
    ],
    "size": 20_000,
}
LINEAR = {
    "weights": [0.4, 0.6],
    "components": [[{"family": "linear", "slope": slope}] * 2 for slope in (0.8, -0.8)],
    "size": 100,
}


def posterior(truth: ProductMixture) -> Callable[[int, Array], Array]:
    """Return the function that gives the exact classifiers (..., C) of a variate."""

    def at(variate: int, t: Array) -> Array:
        weights = np.asarray(truth.weights).reshape(-1, *[1] * t.ndim)
        return np.moveaxis(weights * truth.densities(variate, t) / truth.marginal(variate, t), 0, -1)

    return at


class Oracle:
    """Stands in for a trained model; each seed gives given classifiers, with components in an order of its own."""

    n_parameters = 4484

    def __init__(self, at: Callable[[int, Array], Array], orders: list[list[int]], known: int | None = None) -> None:
        self.at, self.orders, self.known = at, orders, known
        self.n_seeds = len(orders)
        self.config = SimpleNamespace(components=len(orders[0]))
        self.log_weights: Tensor | None = None

    def log_beta(self, batch: Mapping[str, Tensor]) -> Tensor:
        x = batch["x"].double().numpy()
        beta = np.stack([self.at(v, x[:, :, v]) for v in range(x.shape[2])], 2)
        beta = np.stack([mine[..., order] for mine, order in zip(beta, self.orders, strict=True)])
        with np.errstate(divide="ignore"):
            logs = torch.from_numpy(np.log(beta))
        if self.known is not None and self.log_weights is not None:
            known = costs.known_density_log_beta(batch["log_density_ratio"].double(), self.log_weights)
            logs[:, :, self.known] = known
        return logs


@dataclasses.dataclass(frozen=True)
class Fabricated(TrainedRun):
    """A trained run whose models are given, by stage."""

    models: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def model(self, stage: str | None = None) -> Any:
        return self.models[stage or list(self.run.stages)[-1]]


def fabricate(model: Any, dataset: Dataset, data: dict[str, Any]) -> Fabricated:
    """Return a run of `model`, or of one model for each stage."""
    models = model if isinstance(model, dict) else {"main": model}
    content = {
        "paper": "inclass",
        "experiment": "test",
        "name": "main",
        "data": data,
        "model": {"name": "inclass", "components": 2},
        "stages": {name: {"loss": {"name": "neg_ctc"}, "epochs": 1, "batch_size": 10} for name in models},
        "seeds": getattr(next(iter(models.values())), "n_seeds", 2),
        "budget": "full",
        "dataset": "simulated",
        "measure": {"name": "mixture_recovery"},
    }
    return Fabricated(parse(Run, content, "test"), dataset, {}, models=models)


def quantiles(truth: ProductMixture, variate: int, points: int) -> Array:
    """Return midpoints of equal shares of a variate's marginal, so that means over them are nearly integrals."""
    t = truth.grid(variate, 200_000)
    cdf = np.cumsum(truth.marginal(variate, t))
    return np.interp((np.arange(points) + 0.5) / points, cdf / cdf[-1], t)


def even_split(truth: ProductMixture, points: int = 20_000, known: int | None = None) -> Dataset:
    """Return a training split whose pseudo weights are exact up to quadrature."""
    columns = [quantiles(truth, v, points) for v in range(truth.n_variates)]
    fields = {"x": Field(np.stack(columns, -1))}
    if known is not None:
        t = columns[known]
        fields["log_density_ratio"] = Field(np.log(truth.densities(known, t) / truth.marginal(known, t)).T)
    return Dataset({"train": Split(fields)}, "even")


def exact_run(content: dict[str, Any], orders: list[list[int]], **settings: Any) -> tuple[ProductMixture, Fabricated]:
    config = parse(Config, {**content, **settings}, "test")
    truth, known = mixture(config), config.known_variate
    model = Oracle(posterior(truth), orders, known)
    if known is not None:
        model.log_weights = torch.tensor(truth.weights).log()[torch.tensor(orders)].double()
    return truth, fabricate(model, even_split(truth, known=known), {"name": "product_mixture", **content, **settings})


class TestMixtureRecovery:
    @pytest.mark.parametrize("content", [GAUSSIANS, CHECKERBOARD], ids=["gaussians", "checkerboard"])
    def test_exact_classifiers_give_the_exact_mixture(self, content):
        truth, run = exact_run(content, [[0, 1], [1, 0]])
        metrics, arrays = self._measured(run)
        for component, weight in enumerate(truth.weights):
            np.testing.assert_allclose(metrics[f"weight_{component + 1}"], [weight] * 2, atol=1e-5)
            for variate in "xy":
                found = metrics[f"pseudo_weight_{variate}{component + 1}"]
                np.testing.assert_allclose(found, [weight] * 2, atol=1e-5)
            assert metrics[f"true_weight_{component + 1}"] == [weight]
        assert metrics["density_error"].max() < 1e-5
        assert metrics["weight_error"].max() < 1e-5
        assert metrics["n_parameters"] == [4484]
        np.testing.assert_allclose(arrays["classifiers"][0], arrays["true_classifiers"], atol=1e-5)
        # Both seeds give the same, although their components come in different orders.
        np.testing.assert_allclose(arrays["classifiers"][0], arrays["classifiers"][1], atol=1e-12)
        np.testing.assert_allclose(arrays["densities"][1], arrays["true_densities"], atol=1e-5)
        np.testing.assert_allclose(arrays["aggregate"], arrays["true_aggregate"], atol=1e-5)

    @staticmethod
    def _measured(run: Fabricated, **settings: Any) -> tuple[Any, Any]:
        found = evaluation.MixtureRecovery(**{"grid_points": 300, "heatmap_points": 40, **settings})(run)
        return found.metrics, found.arrays

    def test_equal_marginals_give_classifiers_exact_to_single_precision(self):
        content = {**GAUSSIANS, "components": [[part[0], part[0]] for part in GAUSSIANS["components"]]}
        _, run = exact_run(content, [[1, 0]])
        arrays = self._measured(run)[1]
        np.testing.assert_allclose(arrays["classifiers"][0], arrays["true_classifiers"], atol=1e-6)

    def test_weights_of_sampled_points_are_within_the_sampling_error(self):
        config = parse(Config, TRIVARIATE, "test")
        truth, orders = mixture(config), [[2, 0, 1], [0, 1, 2], [1, 0, 2], [2, 1, 0]]
        dataset = load(NOWHERE, config, range(4))
        metrics, arrays = self._measured(
            fabricate(Oracle(posterior(truth), orders), dataset, {"name": "product_mixture", **TRIVARIATE})
        )
        for component, weight in enumerate(truth.weights):
            error = metrics[f"weight_{component + 1}"] - weight
            # A mean of classifiers spreads less than a share of labels does.
            assert np.abs(error).max() < 4 * math.sqrt(weight * (1 - weight) / 20_000)
            assert np.abs(error).max() > 0
        assert metrics["n_component_distributions"] == [9]
        assert arrays["densities"].shape == (4, 3, 3, 300)
        assert "aggregate" not in arrays  # for two variates only

    def test_the_aggregate_classifier_has_x_first(self):
        truth, run = exact_run(GAUSSIANS, [[0, 1]])
        arrays = self._measured(run)[1]
        x, y = arrays["axes"][:, [10, 30]]
        joint = truth.joint(np.array([x[0], y[1]]))
        assert arrays["true_aggregate"][1, 10, 30] == pytest.approx(joint[1] / joint.sum(), rel=1e-9)
        assert arrays["aggregate"][1, 10, 30] == pytest.approx(joint[1] / joint.sum(), abs=1e-5)

    def test_the_true_aggregate_is_not_defined_where_there_is_no_mass(self):
        arrays = self._measured(exact_run(CHECKERBOARD, [[0, 1]])[1])[1]
        assert np.isnan(arrays["true_aggregate"]).mean() == pytest.approx(0.5)

    def test_useless_classifiers_find_equal_weights_and_no_structure(self):
        config = parse(Config, GAUSSIANS, "test")
        model = Oracle(lambda variate, t: np.full((*t.shape, 2), 0.5), [[0, 1]])
        metrics, arrays = self._measured(
            fabricate(model, even_split(mixture(config)), {"name": "product_mixture", **GAUSSIANS})
        )
        assert metrics["weight_1"] == pytest.approx([0.5])
        assert metrics["weight_error"] == pytest.approx([0.1])
        assert metrics["cost"] == pytest.approx([0], abs=1e-12)
        np.testing.assert_allclose(arrays["densities"][0, 0], arrays["marginal"])
        assert metrics["density_error"][0] > 0.2

    def test_the_cost_is_minus_the_total_correlation(self):
        config = parse(Config, GAUSSIANS, "test")
        truth, dataset = mixture(config), load(NOWHERE, config, range(2))
        run = fabricate(Oracle(posterior(truth), [[0, 1]] * 2), dataset, {"name": "product_mixture", **GAUSSIANS})
        check_cost(self._measured(run)[0]["cost"], truth, dataset["train"])

    @pytest.mark.parametrize("known", [0, 1])
    def test_a_known_variate_is_told_its_density_ratio_on_points_and_grid(self, known):
        _, run = exact_run(GAUSSIANS, [[0, 1]] * 2, known_variate=known)  # the knowledge decides the order
        run.model().at = mask(run.model().at, known)
        metrics, arrays = self._measured(run)
        np.testing.assert_allclose(metrics["weight_1"], [0.4] * 2, atol=1e-5)
        np.testing.assert_allclose(arrays["classifiers"][1], arrays["true_classifiers"], atol=1e-5)
        np.testing.assert_allclose(arrays["aggregate"], arrays["true_aggregate"], atol=1e-5)

    @pytest.mark.parametrize(("content", "regions"), [(CHECKERBOARD, 4), (GAUSSIANS, 1)])
    def test_regions_of_a_component_are_counted(self, content, regions):
        _, run = exact_run(content, [[0, 1]])
        assert self._measured(run)[0]["regions_per_component"] == [regions]

    def test_regions_multiply_over_the_variates(self):
        mixed = [[WAVES[0], GAUSSIANS["components"][0][0], WAVES[0]]]
        truth = mixture(parse(Config, {"weights": [1.0], "components": mixed, "size": 1}, "test"))
        assert evaluation._regions(truth) == 4

    def test_settings_choose_the_resolution(self):
        arrays = self._measured(exact_run(GAUSSIANS, [[0, 1]])[1], grid_points=50, heatmap_points=7)[1]
        assert arrays["grid"].shape == (2, 50)
        assert arrays["aggregate"].shape == (2, 7, 7)


def mask(at: Callable[[int, Array], Array], known: int) -> Callable[[int, Array], Array]:
    """Let the model know nothing of one variate by itself."""
    return lambda variate, t: np.full((*t.shape, 2), 0.5) if variate == known else at(variate, t)


def check_cost(cost: Array, truth: ProductMixture, split: Split) -> None:
    """Compare costs of exact classifiers with -C* by quadrature, within the sampling error."""
    grids = [truth.grid(v, 400) for v in range(truth.n_variates)]
    densities = [truth.densities(v, grid) for v, grid in enumerate(grids)]
    widths = [grid[1] - grid[0] for grid in grids]
    expected = -theory.total_correlation(np.asarray(truth.weights), densities, widths)
    points = split["x"].of_seed(0).astype(np.float64)
    ratio = truth.log_density(points) - sum(np.log(truth.marginal(v, points[:, v])) for v in range(points.shape[1]))
    assert cost == pytest.approx([expected] * len(cost), abs=4 * ratio.std() / math.sqrt(len(ratio)))
    assert cost[0] == pytest.approx(-ratio.mean(), abs=2e-4)  # the same points, so almost no sampling error
    assert expected < -0.05


class TestEquivalentFamily:
    @pytest.mark.parametrize(("gamma", "w1"), [(1.0, 0.4), (1.05, 0.44), (0.93, 0.4), (1.0, 0.47)])
    def test_a_known_member_of_the_family_is_recovered(self, gamma, w1):
        truth = mixture(parse(Config, LINEAR, "test"))
        weights = np.asarray(truth.weights)

        def member(variate: int, t: Array) -> Array:
            f = truth.densities(variate, t.ravel())
            found = theory.equivalent_family(weights, f, f, gamma, w1)
            assert found.allowed
            g = (found.densities_x, found.densities_y)[variate]
            return np.moveaxis((found.weights[:, None] * g / (weights @ f)).reshape(2, *t.shape), 0, -1)

        run = fabricate(Oracle(member, [[0, 1], [1, 0]]), even_split(truth), {"name": "product_mixture", **LINEAR})
        metrics = evaluation.EquivalentFamily()(run).metrics
        np.testing.assert_allclose(metrics["gamma"], [gamma] * 2, rtol=1e-4)
        np.testing.assert_allclose(metrics["weight_1"], [w1] * 2, atol=1e-5)


class TestHeldOutCost:
    def test_exact_classifiers_cost_minus_the_total_correlation_of_unseen_points(self):
        config = parse(Config, GAUSSIANS, "test")
        truth, dataset = mixture(config), load(NOWHERE, config, range(2))
        model = Oracle(posterior(truth), [[0, 1], [1, 0]])
        found = evaluation.HeldOutCost()(fabricate(model, dataset, {"name": "product_mixture", **GAUSSIANS}))
        check_cost(found.metrics["held_out_cost"], truth, dataset["held_out"])
        assert found.metrics["components"] == [2]
        assert found.arrays["pseudo_weights"].shape == (2, 2, 2)

    def test_it_is_the_cost_of_training(self):
        config = parse(Config, {**GAUSSIANS, "held_out": 25_000}, "test")  # more than one chunk
        truth, dataset = mixture(config), load(NOWHERE, config, range(2))
        model = Oracle(lambda v, t: posterior(truth)(v, 0.7 * t + 0.2), [[0, 1], [1, 0]])
        found = evaluation.HeldOutCost()(fabricate(model, dataset, {"name": "product_mixture", **GAUSSIANS}))
        batch = {"x": torch.from_numpy(dataset["held_out"]["x"].values)}
        expected = costs.neg_ctc(model.log_beta(batch))
        np.testing.assert_allclose(found.metrics["held_out_cost"], expected, rtol=1e-6)


class TestTotalCorrelation:
    def test_the_exact_log_ratio_gives_the_exact_value(self, monkeypatch):
        monkeypatch.setattr(evaluation, "_EXACT_DRAWS", 50_000)
        config = parse(Config, GAUSSIANS, "test")
        truth, dataset = mixture(config), load(NOWHERE, config, range(2))

        def log_ratio(x: Tensor) -> Tensor:
            t = x.double().numpy()
            return torch.from_numpy(truth.log_density(t) - sum(np.log(truth.marginal(v, t[..., v])) for v in range(2)))

        model = SimpleNamespace(log_ratio=log_ratio, n_seeds=2)
        metrics = evaluation.TotalCorrelation()(
            fabricate(model, dataset, {"name": "product_mixture", **GAUSSIANS})
        ).metrics
        exact = metrics["exact_total_correlation"][0]
        check_cost(-metrics["total_correlation"], truth, dataset["held_out"])
        grids = [truth.grid(v, 400) for v in range(2)]
        densities = [truth.densities(v, grid) for v, grid in enumerate(grids)]
        widths = [grid[1] - grid[0] for grid in grids]
        by_quadrature = theory.total_correlation(np.asarray(truth.weights), densities, widths)
        assert exact == pytest.approx(by_quadrature, abs=4 * metrics["exact_standard_error"][0])
        # Odds of the exact ratio have mean one on independent variates, so both estimates agree.
        np.testing.assert_allclose(metrics["donsker_varadhan_bound"], metrics["total_correlation"], atol=0.03)

    def test_a_classifier_that_knows_nothing_finds_none(self, monkeypatch):
        monkeypatch.setattr(evaluation, "_EXACT_DRAWS", 1000)
        dataset = load(NOWHERE, parse(Config, GAUSSIANS, "test"), range(2))
        model = SimpleNamespace(log_ratio=lambda x: torch.full(x.shape[:2], 0.7), n_seeds=2)
        run = fabricate(model, dataset, {"name": "product_mixture", **GAUSSIANS})
        metrics = evaluation.TotalCorrelation()(run).metrics
        assert metrics["total_correlation"] == pytest.approx([0.7, 0.7])
        assert metrics["donsker_varadhan_bound"] == pytest.approx([0, 0], abs=1e-6)  # a constant is no evidence


PAIRS = {"source": "digits", "pairs": 200, "seeding_images": 50}


class Reader:
    """Stands in for a digit classifier; `answer` gives the probabilities of true labels."""

    n_parameters = 27562
    config = SimpleNamespace(components=10)

    def __init__(self, labels: NDArray[np.int64], answer: Callable[[NDArray[np.int64]], Array]) -> None:
        self.labels, self.answer = labels, answer

    def log_beta_single(self, images: Tensor) -> Tensor:
        assert images.shape[1:] == (len(self.labels), 8, 8)
        return torch.from_numpy(self.answer(self.labels)).log().expand(len(images), -1, -1)


class TestClassification:
    @staticmethod
    def _measured(**answers: Callable[[NDArray[np.int64]], Array]) -> tuple[Any, Any, NDArray[np.int64]]:
        dataset = image_pairs.load(NOWHERE, parse(image_pairs.Config, PAIRS, "test"), [0, 1])
        labels = dataset["test"]["y"].values
        models = {stage: Reader(labels, answer) for stage, answer in answers.items()}
        found = evaluation.Classification()(fabricate(models, dataset, {"name": "image_pairs", **PAIRS}))
        return found.metrics, found.arrays, labels

    def test_a_perfect_classifier_and_a_useless_one_each_at_its_stage(self):
        metrics, arrays, labels = self._measured(
            seeding=lambda y: np.eye(10)[np.full_like(y, 3)], pairs=lambda y: np.eye(10)[y]
        )
        assert metrics["accuracy_pairs"] == pytest.approx([100, 100])
        np.testing.assert_allclose(arrays["confusion_pairs"], np.stack([np.eye(10)] * 2))
        share = 100 * np.mean(labels == 3)
        assert metrics["accuracy_seeding"] == pytest.approx([share, share])
        np.testing.assert_allclose(arrays["confusion_seeding"], np.eye(10)[[3] * 10][None].repeat(2, 0))

    def test_rows_of_the_confusion_matrix_are_true_classes(self):
        metrics, arrays, _ = self._measured(
            pairs=lambda y: 0.75 * np.eye(10)[y] + 0.25 * np.eye(10)[np.where(y == 2, 7, y)]
        )
        expected = np.eye(10)
        expected[2, [2, 7]] = 0.75, 0.25
        np.testing.assert_allclose(arrays["confusion_pairs"][1], expected, atol=1e-12)
        assert metrics["accuracy_pairs"] == pytest.approx([100, 100])

    def test_counts_of_images_are_those_of_the_data(self):
        metrics, arrays, labels = self._measured(pairs=lambda y: np.eye(10)[y])
        assert metrics["n_parameters"] == [27562]
        assert metrics["n_test"] == [len(labels)] == [450]
        assert metrics["n_images_drawn"] == [400]
        assert metrics["n_images_pool"] == [1347]
        assert arrays["examples"].shape == (5, 2, 8, 8)


CLUSTERS = {"table": [[0.3, 0.1, 0.1], [0.05, 0.25, 0.2]], "size": 3000}


class TestMultiLabel:
    def test_permuted_classes_are_matched(self):
        dataset = paired_clusters.load(NOWHERE, parse(paired_clusters.Config, CLUSTERS, "test"), [1, 4])
        labels = np.stack([dataset["train"]["labels"].of_seed(seed) for seed in range(2)])
        names = [np.array([1, 0]), np.array([2, 0, 1])]

        def by_variate(batch: Mapping[str, Tensor]) -> list[Tensor]:
            return [torch.from_numpy(np.eye(len(n))[n[labels[..., v]]]).log() for v, n in enumerate(names)]

        model = SimpleNamespace(log_beta_by_variate=by_variate, n_seeds=2, n_parameters=11)
        found = evaluation.MultiLabel()(fabricate(model, dataset, {"name": "paired_clusters", **CLUSTERS}))
        assert found.metrics["accuracy_x"] == found.metrics["accuracy_y"] == [100, 100]
        reached = [mutual_info_score(*mine.T) for mine in labels]
        np.testing.assert_allclose(found.metrics["mutual_information"], reached, rtol=1e-9)
        table = np.array(CLUSTERS["table"])
        entropy = lambda p: -(p * np.log(p)).sum()  # noqa: E731
        expected = entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table)
        assert found.metrics["true_mutual_information"] == pytest.approx([expected])
        assert found.arrays["classes"].shape == (2000, 2)
        best = int(np.argmax(reached))  # the seed that is shown
        assert best == 1
        np.testing.assert_array_equal(found.arrays["classes"][:, 1], names[1][labels[best, :2000, 1]])
        np.testing.assert_array_equal(found.arrays["points"], dataset["train"]["x"].of_seed(best)[:2000])


def test_every_measure_of_the_catalogue_is_callable_with_its_defaults():
    assert set(evaluation.MEASURES) == {
        "classification",
        "equivalent_family",
        "held_out_cost",
        "mixture_recovery",
        "multi_label",
        "total_correlation",
    }
    for name, measure in evaluation.MEASURES.items():
        assert callable(parse(measure, {}, name))
