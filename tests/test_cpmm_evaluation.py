"""What is measured on CPMM, its circuits and its flows, against dense Gaussian algebra and closed forms."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import expit, log_expit, logsumexp
from scipy.stats import multivariate_normal
from sklearn.metrics import confusion_matrix
from torch import Tensor

from neumix.data import logit_images
from neumix.data.dataset import Dataset
from neumix.factor_analyzers import FactorAnalyzers
from neumix.measured import MeasuredRun
from neumix.ode_flow import Dopri5, RungeKutta
from neumix.papers.cpmm.flows import Flow
from neumix.papers.cpmm.images import Circuit, Clusters, Mixture
from neumix.papers.cpmm.integration import Integration, log_integral
from neumix.papers.cpmm.plane import Plane
from neumix.papers.cpmm.scores import bits_per_dim, density_metrics, outlier_scores
from neumix.results import Measurement
from neumix.run import Run
from neumix.settings import parse
from neumix.trained import TrainedRun, build_model, load_dataset

DIGITS = {"name": "logit_images", "source": "digits", "train": 40, "test": 30, "levels": 17}
CURVES = {"name": "plane_curves", "shape": "crescents", "size": 60}
CPMM = {"name": "cpmm", "clusters": 2, "components": 3, "rank": 2, "width": 4, "augment": 1}
PIXELS, IMAGES = 64, 12

Floats = NDArray[np.float64]


def make_run(model: dict[str, Any], data: dict[str, Any], seeds: int = 1) -> Run:
    content = {
        "paper": "cpmm",
        "experiment": "toy",
        "name": "main",
        "data": data,
        "model": model,
        "stages": {"main": {"loss": {"name": "nll"}, "epochs": 1, "batch_size": 10}},
        "seeds": seeds,
        "budget": "full",
        "dataset": "digits",
        "measure": {"name": "none"},
    }
    return parse(Run, content, "test")


def trained(
    model: dict[str, Any],
    data: dict[str, Any],
    seeds: int = 1,
    needs: Mapping[str, TrainedRun] | None = None,
    **parts: Tensor,
) -> MeasuredRun:
    """Return a run with weights away from their start, or with given ones."""
    run, generator = make_run(model, data, seeds), torch.Generator().manual_seed(3)
    dataset = load_dataset(run, Path())
    weights = {}
    for name, values in build_model(run, dataset).state_dict().items():
        noisy = values + 0.2 * torch.randn(values.shape, generator=generator) if values.is_floating_point() else values
        weights[f"main/{name}"] = parts.get(name, noisy)
    return MeasuredRun(run, dataset, weights, None, needs or {})


def images(**changes: Any) -> Dataset:
    settings = {key: value for key, value in {**DIGITS, **changes}.items() if key != "name"}
    return logit_images.load(Path(), parse(logit_images.Config, settings, "test"), range(1))


def components(found: FactorAnalyzers, seed: int = 0) -> list[tuple[float, Floats, Floats]]:
    """Return log-weight, mean and dense covariance of every component of a seed."""
    parts = zip(*(part[seed].double() for part in vars(found).values()), strict=True)
    return [(w.item(), m.numpy(), (a @ a.T + d.exp().diag()).numpy()) for w, m, a, d in parts]


def log_joint(found: FactorAnalyzers, x: Floats, seed: int = 0) -> Floats:
    """Return log pi_k + log N_k of a seed's components at points (N, M), (N, K), by SciPy."""
    dense = components(found, seed)
    return np.stack([w + multivariate_normal(m, c).logpdf(x) for w, m, c in dense], 1)


def in_bits(log_prob: Floats, dataset: Dataset) -> Floats:
    volume = dataset["test"]["log_volume"].values[: log_prob.shape[-1]]
    return np.asarray((volume - log_prob) / (PIXELS * math.log(2)))


class TestScores:
    @pytest.mark.parametrize("squeeze", [1e-6, 0.05])
    def test_images_of_noise_take_the_bits_of_their_levels(self, squeeze: float) -> None:
        split = images(squeeze=squeeze)["train"]
        x = split["x"].values.astype(np.float64).reshape(-1, PIXELS)
        logistic = log_expit(x).sum(1) + log_expit(-x).sum(1)  # of logits of numbers that are uniform on (0, 1)
        found = bits_per_dim(torch.from_numpy(np.stack([logistic, logistic - math.log(2)])), split)
        np.testing.assert_allclose(found[0], math.log2(17 / (1 - 2 * squeeze)), rtol=1e-6)
        np.testing.assert_allclose(found[1] - found[0], 1 / PIXELS)
        np.testing.assert_array_equal(bits_per_dim(torch.from_numpy(logistic[None, :5]), split), found[:1, :5])

    def test_probabilities_of_levels_need_no_volume(self) -> None:
        uniform = torch.full((2, 7), -PIXELS * math.log(17), dtype=torch.float64)
        np.testing.assert_allclose(bits_per_dim(uniform, images()["test"], levels=True), math.log2(17))

    def test_equal_scores_tell_nothing(self) -> None:
        found = outlier_scores(np.ones((2, 6)), np.ones((2, 3)))
        np.testing.assert_allclose(found["auroc"], [50, 50])
        np.testing.assert_allclose(found["aupr"], [200 / 3, 200 / 3])  # the share of own images

    def test_own_images_with_fewer_bits_are_told_and_with_more_are_mistaken(self) -> None:
        low, high = np.linspace(1, 2, 4)[None], np.linspace(3, 5, 4)[None]
        assert outlier_scores(low, high) == {"auroc": [100], "aupr": [100]}
        mistaken = outlier_scores(high, low)
        assert mistaken["auroc"] == [0]
        np.testing.assert_allclose(mistaken["aupr"], 100 * np.mean([i / (4 + i) for i in (1, 2, 3, 4)]))

    def test_seeds_are_scored_alone(self) -> None:
        both = outlier_scores(np.array([[1.0, 2], [3, 4]]), np.array([[3.0, 4], [1, 2]]))
        np.testing.assert_array_equal(both["auroc"], [100, 0])

    def test_outliers_are_scored_where_there_are_any(self) -> None:
        bits = {"train": np.array([[1.0, 3]]), "test": np.array([[2.0, 4]])}
        assert density_metrics(bits) == {"bits_per_dim": [3], "train_bits_per_dim": [2]}
        assert density_metrics({**bits, "other": np.array([[5.0]])})["auroc"] == [100]


@dataclasses.dataclass(frozen=True)
class Measured:
    """A run, what was measured on it, and its components."""

    run: MeasuredRun
    found: Measurement
    mixtures: FactorAnalyzers
    x: Floats

    @property
    def joint(self) -> Floats:
        return np.stack([log_joint(self.mixtures, self.x, seed) for seed in range(2)])


@pytest.fixture(scope="module")
def measured() -> Measured:
    """A CPMM of two seeds, measured on the first images."""
    run = trained(CPMM, {**DIGITS, "other": "digits"}, seeds=2)
    with torch.no_grad():
        found, mixtures = Mixture(images=IMAGES)(run), run.model().mixtures()
    x = run.dataset["test"]["x"].values[:IMAGES].reshape(IMAGES, -1).astype(np.float64)
    return Measured(run, found, mixtures, x)


class TestMixture:
    def test_extracted_components_have_the_bits_of_the_model(self, measured: Measured) -> None:
        expected = in_bits(logsumexp(measured.joint, 2), measured.run.dataset)
        np.testing.assert_allclose(measured.found.metrics["bits_per_dim"], expected.mean(1), rtol=1e-4)
        np.testing.assert_allclose(measured.found.arrays["bits_test"], expected, rtol=1e-4)
        x = torch.from_numpy(measured.run.dataset["train"]["x"].values[:IMAGES]).expand(2, -1, -1, -1, -1)
        with torch.no_grad():
            own = bits_per_dim(measured.run.model().log_prob(x), measured.run.dataset["train"])
        np.testing.assert_allclose(measured.found.metrics["train_bits_per_dim"], own.mean(1), rtol=1e-6)

    def test_the_same_images_are_no_outliers(self, measured: Measured) -> None:
        np.testing.assert_allclose(measured.found.metrics["auroc"], 50)

    def test_images_are_counted_in_clusters_and_components(self, measured: Measured) -> None:
        arrays, joint = measured.found.arrays, measured.joint
        labels = measured.run.dataset["test"]["y"].values[:IMAGES]
        clusters = logsumexp(joint.reshape(2, IMAGES, 2, 3), 3).argmax(2)
        np.testing.assert_array_equal(arrays["confusion"].sum(1), np.bincount(labels))
        np.testing.assert_array_equal(arrays["confusion"].sum(0), np.bincount(clusters[0]))
        np.testing.assert_array_equal(arrays["usage"].ravel(), np.bincount(joint[0].argmax(1), minlength=6))
        assert arrays["usage"].shape == (2, 3)
        np.testing.assert_array_equal(arrays["groups"], [0, 0, 0, 1, 1, 1])
        used = [len(set(row)) for row in joint.argmax(2)]
        np.testing.assert_array_equal(measured.found.metrics["used_components"], used)
        best = arrays["confusion"][linear_sum_assignment(-arrays["confusion"])].sum()
        assert measured.found.metrics["clustering_accuracy"][0] == pytest.approx(100 * best / IMAGES)

    def test_first_components_are_left_out_with_their_weight(self, measured: Measured) -> None:
        joint, metrics = measured.joint, measured.found.metrics
        share = [np.mean([place in (0, 3) for place in row]) for row in joint.argmax(2)]
        np.testing.assert_allclose(metrics["first_component_share"], share)
        kept = logsumexp(joint[..., [1, 2, 4, 5]], 2) - math.log(2 / 3)  # pseudotimes weigh the same
        change = in_bits(kept, measured.run.dataset) - in_bits(logsumexp(joint, 2), measured.run.dataset)
        np.testing.assert_allclose(metrics["bits_without_first"], change.mean(1), rtol=1e-3, atol=1e-6)

    def test_missing_pixels_have_the_density_of_conditioned_gaussians(self, measured: Measured) -> None:
        known, missing = np.arange(32), np.arange(32, PIXELS)
        values, pixels = measured.x[:, known], measured.x[:, missing]
        weights, densities, means = [], [], []
        for w, mean, c in components(measured.mixtures):
            slope = np.linalg.solve(c[:32, :32], c[:32, 32:]).T
            shifted = mean[32:] + (values - mean[:32]) @ slope.T
            rest = c[32:, 32:] - slope @ c[:32, 32:]
            weights.append(w + multivariate_normal(mean[:32], c[:32, :32]).logpdf(values))
            densities.append(multivariate_normal(np.zeros(32), rest).logpdf(pixels - shifted))
            means.append(shifted)
        posterior = np.array(weights) - logsumexp(weights, 0)
        nats = -logsumexp(posterior + np.array(densities), 0)
        squeezed = (log_expit(pixels) + log_expit(-pixels)).sum(1) - 32 * math.log1p(-2e-6) + 32 * math.log(17)
        expected = ((nats + squeezed) / (32 * math.log(2))).mean()
        assert measured.found.metrics["missing_bits_per_dim"][0] == pytest.approx(expected, rel=1e-4)
        filled, originals = (measured.found.arrays[name].astype(int) for name in ("filled", "originals"))
        np.testing.assert_array_equal(filled[:, :4], originals[:, :4])
        mean = np.einsum("kn,knm->nm", np.exp(posterior), np.array(means))[:10]
        np.testing.assert_allclose(filled[:, 4:].reshape(10, -1), 255 * expit(mean), atol=0.51)
        np.testing.assert_allclose(originals.reshape(10, -1), 255 * expit(measured.x[:10]), atol=0.51)

    def test_values_are_counted_and_means_are_shown(self, measured: Measured) -> None:
        metrics, model = measured.found.metrics, measured.run.model()
        np.testing.assert_array_equal(metrics["n_components"], [6])
        np.testing.assert_array_equal(metrics["n_extracted"], [6 * (1 + PIXELS * (1 + 2 + 1))])
        np.testing.assert_array_equal(metrics["n_parameters"], [sum(p.numel() for p in model.parameters()) / 2])
        shown = 255 * expit(measured.mixtures.means[0].double().numpy()).reshape(6, 8, 8)
        np.testing.assert_allclose(measured.found.arrays["means"], shown, atol=0.51)

    @torch.no_grad()
    def test_components_are_joined_by_their_distances(self) -> None:
        side = torch.tensor([1.0, -1, 1, -1, -1, 1])
        means = 3 * side[None, :, None] + 0.1 * torch.randn(1, 6, PIXELS, generator=torch.Generator().manual_seed(0))
        run = trained({"name": "mfa", "clusters": 6, "components": 1, "rank": 1}, DIGITS, means=means)
        found = Mixture(images=IMAGES, groups=2)(run)
        groups = found.arrays["groups"]
        np.testing.assert_array_equal(groups == groups[0], side.numpy() > 0)
        assert found.arrays["usage"].shape == (6, 1)
        by_group = [found.arrays["usage"][groups == group].sum() for group in (0, 1)]
        filled = found.arrays["confusion"].sum(0)
        np.testing.assert_array_equal(filled, by_group[: len(filled)])
        assert "first_component_share" not in found.metrics and "auroc" not in found.metrics


class TestCircuit:
    MODEL = {"name": "einet", "structure": {"name": "poon_domingos", "pieces": 2}, "size": 3}

    @torch.no_grad()
    def test_bits_of_densities_and_of_levels(self) -> None:
        other = trained(CPMM, DIGITS)
        leaves = {"x": {"name": "normal"}, "levels": {"name": "binomial", "levels": 17}}
        for field, family in leaves.items():
            model = {**self.MODEL, "leaves": family, "field": field}
            run = trained(model, DIGITS, seeds=2, needs={"students/cpmm": other})
            found = Circuit(images=IMAGES, needs=("students/cpmm",))(run)
            split, circuit = run.dataset["test"], run.model()
            x = torch.from_numpy(split[field].values[:IMAGES]).expand(2, -1, -1, -1, -1)
            volume = split["log_volume"].values[:IMAGES] if field == "x" else 0
            expected = (volume - circuit.log_prob(x).double().numpy()) / (PIXELS * math.log(2))
            np.testing.assert_allclose(found.arrays["bits_test"], expected, rtol=1e-5)
            np.testing.assert_allclose(found.metrics["bits_per_dim"], expected.mean(1))
            assert found.arrays["bits_train"].shape == (2, IMAGES)
            values = sum(parameter.numel() for parameter in circuit.parameters()) / 2
            ratio = values / sum(parameter.numel() for parameter in other.model().parameters())
            np.testing.assert_allclose(found.metrics["parameter_ratio"], [ratio])


class TestClusters:
    VADE = {"name": "vade", "latent": 2, "components": 3, "network": {"encoder": [8], "decoder": [8]}}

    @torch.no_grad()
    def test_accuracy_of_the_prior_s_most_likely_components_at_the_codes(self) -> None:
        """Against scikit-learn's confusion matrix and SciPy's assignment of clusters to classes."""
        run = trained(self.VADE, {"name": "digits"}, seeds=2)
        model, split = run.model(), run.dataset["test"]
        codes = model.codes(torch.from_numpy(split["x"].values).expand(2, -1, -1, -1)).double().numpy()
        expected = []
        for seed, z in enumerate(codes):
            weights, means, log_variances = (
                part[seed, 0].double().numpy()
                for part in (model.prior.log_weights, model.prior.means, model.prior.log_variances)
            )
            joint = [
                w + multivariate_normal(m, np.diag(np.exp(v))).logpdf(z)
                for w, m, v in zip(weights, means, log_variances, strict=True)
            ]
            table = confusion_matrix(split["y"].values, np.argmax(joint, 0), labels=range(10))
            expected.append(100 * table[linear_sum_assignment(-table)].sum() / table.sum())
        np.testing.assert_allclose(Clusters()(run).metrics["clustering_accuracy"], expected)


class TestFlow:
    PLANE = {
        "name": "cnf",
        "field": {"name": "mlp", "hidden": [8], "activation": "tanh"},
        "solver": {"name": "rk4", "steps": 8},
        "trace": {"name": "exact"},
    }

    @pytest.mark.parametrize(("precision", "error"), [("float32", 1e-5), ("float16", 2e-3)])
    @torch.no_grad()
    def test_spaces_lead_from_the_latent_to_the_data(self, precision: Any, error: float) -> None:
        run = trained(self.PLANE, CURVES, seeds=2)
        found = Flow(images=20, spaces=5, precision=precision)(run)
        model, x = run.model(), torch.from_numpy(run.dataset["train"]["x"].values).expand(2, -1, -1)
        spaces = found.arrays["spaces"]
        assert spaces.shape == (60, 5, 2) and spaces.dtype == precision
        latent = model.latent(x)[0].numpy()
        np.testing.assert_allclose(spaces[:, -1], x[0], atol=error)
        np.testing.assert_allclose(spaces[:, 0], latent, atol=error)
        between = model.spaces(x, [0.75, 0.5, 0.25])[0].numpy()
        np.testing.assert_allclose(spaces[:, 1:4], between, atol=error)
        np.testing.assert_allclose(found.metrics["latent_mean_square"], [np.square(latent).mean()], rtol=1e-5)
        expected = -model.log_prob(x[:, :20]).mean(1).numpy()
        np.testing.assert_allclose(found.metrics["nll"], expected, rtol=1e-5)
        finer = -model.log_prob(x[:, :100], solver=RungeKutta(name="rk4", steps=32)).mean(1).numpy()
        coarse = -model.log_prob(x[:, :100]).mean(1).numpy()
        np.testing.assert_allclose(found.metrics["finer_nll"], finer - coarse, atol=1e-6)
        np.testing.assert_array_equal(found.metrics["evaluations"], [32, 32])
        assert (found.metrics["inverse_error"] < 1e-4).all()

    @torch.no_grad()
    def test_an_adaptive_solver_has_a_finer_one_too(self) -> None:
        run = trained({**self.PLANE, "solver": {"name": "dopri5"}}, CURVES)
        model, x = run.model(), torch.from_numpy(run.dataset["train"]["x"].values[None, :100])
        finer = -model.log_prob(x, solver=Dopri5(name="dopri5", tolerance=1e-6)).mean().item()
        found = Flow(images=20, spaces=0)(run).metrics["finer_nll"][0]
        assert found == pytest.approx(finer + model.log_prob(x).mean().item(), abs=1e-6)
        assert abs(found) < 1e-3

    @torch.no_grad()
    def test_images_have_bits_and_samples(self) -> None:
        model = {"name": "cnf", "field": {"name": "cnn", "hidden": [4]}, "solver": {"name": "rk4", "steps": 2}}
        run = trained(model, {**DIGITS, "other": "digits"})
        found = Flow(images=IMAGES, spaces=0)(run)
        assert "spaces" not in found.arrays and "nll" not in found.metrics
        x = torch.from_numpy(run.dataset["test"]["x"].values[None, :IMAGES])
        expected = in_bits(run.model().log_prob_of(x).double().numpy(), run.dataset)
        np.testing.assert_allclose(found.metrics["bits_per_dim"], expected.mean(1), rtol=1e-5)
        np.testing.assert_allclose(found.arrays["bits_test"], found.arrays["bits_other"])
        x = torch.from_numpy(run.dataset["train"]["x"].values[None, :100])
        finer = run.model().log_prob(x, solver=RungeKutta(name="rk4", steps=8)) - run.model().log_prob(x)
        np.testing.assert_allclose(found.metrics["finer_bits"], -finer.mean(1) / 64 / math.log(2), rtol=1e-4)
        assert abs(found.metrics["finer_bits"][0]) > 1e-6
        assert found.arrays["samples"].shape == (100, 8, 8) and found.arrays["samples"].dtype == np.uint8


class TestPlane:
    MODEL = {**CPMM, "rank": 1}

    @torch.no_grad()
    def test_components_and_samples(self) -> None:
        run = trained(self.MODEL, CURVES, seeds=2)
        found, mixtures = Plane(samples=50)(run), run.model().mixtures()
        x = run.dataset["train"]["x"].values.astype(np.float64)
        expected = [-logsumexp(log_joint(mixtures, x, seed), 1).mean() for seed in (0, 1)]
        np.testing.assert_allclose(found.metrics["nll"], expected, rtol=1e-5)
        np.testing.assert_allclose(found.arrays["means"].reshape(6, 2), mixtures.means[0])
        dense = np.stack([covariance for _, _, covariance in components(mixtures)])
        np.testing.assert_allclose(found.arrays["covariances"], dense.reshape(2, 3, 2, 2), rtol=1e-5, atol=1e-6)
        assert [found.arrays[name].shape for name in ("points", "samples", "clusters")] == [(50, 2), (50, 2), (50,)]
        np.testing.assert_array_equal(found.arrays["labels"], run.dataset["train"]["component"].values[:50])
        assert set(found.arrays["clusters"]) <= {0, 1}
        clusters = logsumexp(log_joint(mixtures, x).reshape(60, 2, 3), 2).argmax(1)
        table = np.zeros((2, 3), int)
        np.add.at(table, (clusters, run.dataset["train"]["component"].values), 1)
        accuracy = 100 * table[linear_sum_assignment(-table)].sum() / 60
        assert found.metrics["clustering_accuracy"][0] == pytest.approx(accuracy)

    @torch.no_grad()
    def test_samples_far_from_the_data_are_counted(self) -> None:
        model = {"name": "mfa", "clusters": 1, "components": 60, "rank": 1}
        x = torch.from_numpy(load_dataset(make_run(model, CURVES), Path())["train"]["x"].values)[None]
        still = {"factors": torch.zeros(1, 60, 2, 1), "raw_log_variances": torch.full((1, 60, 2), -30.0)}
        far = {**still, "means": torch.cat([x[:, :15] + 50, x[:, 15:]], 1), "logits": torch.zeros(1, 60)}
        near = Plane()(trained(model, CURVES, **{**far, "means": x})).metrics["far_share"]
        # The least variance allowed, e^-6, leaves most samples within the usual distance of 60 points in the plane.
        assert near[0] < 0.1
        assert Plane()(trained(model, CURVES, **far)).metrics["far_share"][0] == pytest.approx(0.25, abs=0.05)


class TestIntegral:
    @pytest.mark.parametrize("slope", [-30.0, -1.0, 0.5, 40.0])
    @pytest.mark.parametrize("level", [-5000.0, 0.0, 900.0])
    def test_is_the_closed_form_of_an_exponential(self, slope: float, level: float) -> None:
        def log_density(times: Tensor) -> Tensor:
            return (level + slope * times)[None, :, None].double()

        found, count, change = log_integral(log_density, 1e-4)
        assert found.shape == (1, 1)
        assert found.item() == pytest.approx(level + math.log(math.expm1(slope) / slope), abs=1e-3)
        assert count >= 33
        assert change <= 1e-4

    def test_every_point_has_its_own(self) -> None:
        powers = torch.tensor([0.0, 1, 2, 3])
        found, _, _ = log_integral(lambda times: (powers * (times[:, None] + 1e-30).log())[None], 1e-5)
        torch.testing.assert_close(found, -(powers[None] + 1).log(), atol=1e-4, rtol=0)

    def test_says_so_if_it_does_not_settle(self) -> None:
        _, count, change = log_integral(lambda times: -1e9 * (times - 0.1234567).square()[None, :, None], 1e-3)
        assert count == 4097
        assert change > 1e-3


@torch.no_grad()
def test_the_continuous_mixture_is_integrated_in_logs_alone() -> None:
    run = trained({**CPMM, "rank": 1, "augment": 0, "solver": "dopri5"}, DIGITS)
    metrics = Integration(images=6, settled=1e-3)(run)
    assert metrics["integration_missing_direct"] == [1], "every density is rounded to 0"
    assert "integration_error_direct" not in metrics
    assert metrics["integration_missing_scaled"] == metrics["integration_missing_logs"] == [0]
    assert metrics["integration_error_logs"] == [0]
    assert metrics["integration_error_scaled"] < 0.1
    model, x = run.model(), torch.from_numpy(run.dataset["test"]["x"].values[None, :6]).flatten(2)
    fine = model.extract(torch.linspace(0, 1, 2001)).log_joint(x)[0].double().unflatten(1, (2, 2001))
    fine[:, :, [0, -1]] -= math.log(2)  # the rule of trapezoids
    expected = (model.log_prob(x)[0] - fine.logsumexp((1, 2)) + math.log(2000 / 2001)).abs().max().item()
    assert expected > 0.1, "three components are not the limit"
    assert metrics["integration_error_sum"] == pytest.approx([expected], abs=0.02)
    assert metrics["integration_evaluations_scaled"] >= metrics["integration_evaluations_alone"]
    assert metrics["integration_grid"] >= 33
    assert metrics["integration_change"] <= 1e-3
    exact = Mixture(images=6, integration=Integration(images=6, settled=1e-3))(run).metrics
    assert exact["integration_error_sum"] == metrics["integration_error_sum"]
