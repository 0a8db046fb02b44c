"""Mixtures of factor analysers with free parameters: starts, EM, gradient training, diagonals, seeds."""

import dataclasses
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
import vae_reference
from scipy.stats import multivariate_normal
from torch import Tensor

from neumix.batching import DeviceSplit
from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.factor_analyzers import FactorAnalyzers, em_step
from neumix.hierarchical_mixture import Likelihood
from neumix.models import mfa
from neumix.models.mfa import Config, Em, Model
from neumix.schedule import Stage
from neumix.seeding import numpy_rng
from neumix.settings import CatalogueError, parse
from neumix.training import Phase, Trained, fit, generators

CPU = torch.device("cpu")
SMALL = Config(clusters=2, components=2, rank=1)
CONSTANT = dataclasses.replace(SMALL, diagonal="constant")
NLL = Likelihood(name="nll")


def blobs(seed: int = 0) -> np.ndarray:
    """Return points (180, 3) of four elongated clusters that overlap a little."""
    rng = numpy_rng(seed, "points")
    centres = np.array([[0, 0, 0], [3, 0, 1], [0, 3, -1], [3, 3, 0]])
    parts = [
        centre + rng.normal(size=(45, 1)) @ rng.normal(size=(1, 3)) + 0.4 * rng.normal(size=(45, 3))
        for centre in centres
    ]
    return rng.permutation(np.concatenate(parts)).astype(np.float32)


POINTS = np.stack([blobs(seed) for seed in range(2)])


def dataset(seeds=(0, 1), shape=(3,)) -> Dataset:
    return Dataset({"train": Split({"x": Field(POINTS[list(seeds)].reshape(-1, 180, *shape), per_seed=True)})}, "toy")


def build(config: Config = SMALL, seeds=(0, 1), shape=(3,)) -> Model:
    return Model(config, {"x": shape}, generators(seeds, "init"))


def begun(loss: Any, config: Config = SMALL, seeds=(0, 1)) -> Model:
    """Return a model after the beginning of a stage."""
    model = build(config, seeds)
    with torch.no_grad():
        split = DeviceSplit(dataset(seeds)["train"], len(seeds), CPU)
        model.begin_stage(loss, split, generators(seeds, "begin", "main"))
    return model


def train(
    tmp_path, losses: dict[str, Any], config: Config = SMALL, seeds=(0, 1), **stage: Any
) -> tuple[Model, Trained]:
    """Train through stages; those of EM have 0 epochs."""
    content = {"batch_size": 30, "learning_rate": 0.02, **stage}
    phases = [
        Phase(name, Stage(loss={"name": loss.name}, epochs=0 if isinstance(loss, Em) else 8, **content), loss)
        for name, loss in losses.items()
    ]
    model = build(config, seeds)
    checkpointer = Checkpointer(tmp_path / "checkpoint", "toy")
    return model, fit(model, dataset(seeds), phases, seeds, checkpointer, name="toy", device=CPU)


def x_of(seeds=(0, 1)) -> Tensor:
    return torch.from_numpy(POINTS[list(seeds)])


def score(model: Model, seeds=(0, 1)) -> list[float]:
    with torch.no_grad():
        return model.log_prob(x_of(seeds)).mean(1).tolist()


class TestComponents:
    @pytest.mark.parametrize("config", [SMALL, CONSTANT], ids=["variable", "constant"])
    def test_density_is_that_of_the_parameters(self, config):
        model = build(config, shape=(3, 1, 1))
        vae_reference.scatter(model)
        x = x_of().view(2, -1, 3, 1, 1)[:, :5]
        found = model.log_prob(x).detach()
        for seed in range(2):
            weights = model.logits[seed].detach().softmax(0).numpy()
            limited = model.limited(model.raw_log_variances[seed]).detach().exp()
            density = np.zeros(5)
            for k in range(4):
                a = model.factors[seed, k].detach()
                diagonal = limited[k] if config is SMALL else limited[k // 2].expand(3)
                covariance = (a @ a.T + diagonal.diag()).numpy().astype(np.float64)
                normal = multivariate_normal(model.means[seed, k].detach().numpy(), covariance)
                density += weights[k] * normal.pdf(x[seed].flatten(1).numpy())
            np.testing.assert_allclose(found[seed], np.log(density), rtol=1e-4, atol=1e-4)

    def test_starts_as_a_perturbed_standard_gaussian(self):
        model = build(Config(clusters=5, components=10, rank=3), shape=(20,))
        found = model.mixtures()
        torch.testing.assert_close(found.log_weights, torch.full((2, 50), -math.log(50)))
        torch.testing.assert_close(found.log_variances, torch.zeros(2, 50, 20), atol=1e-5, rtol=0)
        for part in (found.means, found.factors):
            assert part.std().item() == pytest.approx(0.1, rel=0.05)
            assert abs(part.mean().item()) < 0.01

    def test_a_constant_diagonal_is_one_number_for_each_cluster(self):
        model = build(Config(clusters=3, components=2, rank=1, diagonal="constant"))
        assert model.raw_log_variances.shape == (2, 3, 1)
        with torch.no_grad():
            model.raw_log_variances.copy_(torch.arange(6.0).view(2, 3, 1))
        found = model.mixtures().log_variances
        assert found.shape == (2, 6, 3)
        for seed in range(2):
            for k in range(6):
                expected = model.limited(torch.tensor(3.0 * seed + k // 2))
                torch.testing.assert_close(found[seed, k], expected.expand(3))

    def test_numbers_of_parameters(self):
        variable, constant = build(), build(CONSTANT)
        assert variable.n_parameters == variable.n_extracted == 4 * (1 + 3 + 3 + 3)
        assert constant.n_parameters == 4 * (1 + 3 + 3) + 2
        assert constant.n_extracted == variable.n_extracted

    def test_state_dict_round_trip(self):
        model, other = begun(Em(name="em", iterations=3)), build(seeds=(8, 9))
        model.begin_epoch(2)
        other.load_state_dict(model.state_dict())
        assert score(other) == score(model)
        assert int(other.space) == 2


class TestStart:
    def test_centres_of_k_means_without_factors(self):
        before, model = build(), begun(Likelihood(name="nll", start="kmeans"))
        assert torch.equal(model.factors, before.factors)
        for seed in range(2):
            distance = torch.cdist(x_of()[seed], model.means[seed]).square()
            own = distance.argmin(1)
            centres = torch.stack([x_of()[seed][own == k].mean(0) for k in range(4)])
            torch.testing.assert_close(model.means[seed].detach(), centres, atol=1e-4, rtol=0)
            counts = torch.bincount(own, minlength=4) + 1
            torch.testing.assert_close(model.mixtures().log_weights[seed].exp(), counts / counts.sum())

    def test_with_factors_the_start_is_likelier(self):
        plain, analysed = (begun(Likelihood(name="nll", start=start)) for start in ("kmeans", "kmeans_fa"))
        assert torch.equal(plain.means, analysed.means)
        assert not torch.equal(plain.factors, analysed.factors)
        assert all(np.greater(score(analysed), np.add(score(plain), 0.1)))

    def test_a_constant_diagonal_starts_at_the_clusters_mean_variance(self):
        start = Likelihood(name="nll", start="kmeans")
        constant, variable = begun(start, CONSTANT), begun(start)
        wanted = variable.mixtures().log_variances.exp().view(2, 2, 2 * 3).mean(2)
        found = constant.mixtures().log_variances.exp().view(2, 2, 6)
        torch.testing.assert_close(found, wanted[..., None].expand(-1, -1, 6), rtol=1e-4, atol=1e-5)

    def test_no_start_leaves_what_there_is(self):
        before, model = build(), begun(Likelihood(name="nll"))
        for name, values in before.state_dict().items():
            assert torch.equal(model.state_dict()[name], values)

    def test_of_several_spaces_the_first_one_is_started_in(self):
        spaces = np.stack([POINTS[0] / 10, POINTS[0]], 1)
        found, wanted = build(seeds=(0,)), build(seeds=(0,))
        with torch.no_grad():
            for model, split in ((found, Split({"path": Field(spaces)})), (wanted, Split({"x": Field(spaces[:, 0])}))):
                loss = Likelihood(name="nll", start="kmeans")
                model.begin_stage(loss, DeviceSplit(split, 1, CPU), generators((0,), "begin"))
        torch.testing.assert_close(found.means, wanted.means)
        assert found.means.abs().max() < 0.5

    def test_too_few_points(self):
        with pytest.raises(ValueError, match="200 components are asked for, but there are 180 points"):
            begun(Likelihood(name="nll", start="kmeans"), Config(clusters=20, components=10))


class TestEm:
    def test_never_lowers_the_likelihood(self):
        scores = [score(begun(Likelihood(name="nll", start="kmeans")))]
        scores += [score(begun(Em(name="em", start="kmeans", iterations=n, tolerance=0))) for n in range(1, 10)]
        gains = np.diff(np.array(scores), axis=0)
        assert (gains > -1e-5).all()
        assert (np.array(scores)[-1] > np.array(scores)[0] + 0.1).all()

    def test_takes_the_steps_of_factor_analysers(self):
        mixtures = begun(Likelihood(name="nll", start="kmeans_fa")).mixtures()
        for _ in range(3):
            mixtures, _ = em_step(mixtures, x_of(), math.exp(-6))
        found = begun(Em(name="em", iterations=3, tolerance=0)).mixtures()
        for part in dataclasses.fields(FactorAnalyzers):
            torch.testing.assert_close(getattr(found, part.name), getattr(mixtures, part.name), rtol=1e-4, atol=1e-4)

    def test_ends_with_the_first_step_that_gains_too_little(self, caplog):
        caplog.set_level(logging.INFO, mfa.__name__)
        begun(Em(name="em", iterations=50, tolerance=0.002), seeds=(0,))
        scores = [record.args[3] for record in caplog.records]
        gains = np.diff(scores)
        assert 3 < len(scores) < 50
        assert gains[-1] < 0.002
        assert (gains[:-1] >= 0.002).all()

    def test_a_seed_ends_when_it_is_done_whatever_others_do(self, caplog):
        caplog.set_level(logging.INFO, mfa.__name__)
        loss = Em(name="em", start="kmeans", iterations=60, tolerance=0.005)
        together, counts = begun(loss), []
        for seed in (0, 1):
            caplog.clear()
            alone = begun(loss, seeds=(seed,))
            counts.append(len(caplog.records))
            for name in ("logits", "means", "factors", "raw_log_variances"):
                assert torch.equal(getattr(together, name)[seed], getattr(alone, name)[0])
        assert counts[0] != counts[1], "seeds that need equally many steps test nothing"

    def test_diagonals_keep_to_their_limit(self):
        flat = np.concatenate([POINTS[0][:, :2], np.zeros((180, 1), np.float32)], 1)
        model = build(seeds=(0,))
        split = DeviceSplit(Split({"x": Field(flat)}), 1, CPU)
        with torch.no_grad():
            model.begin_stage(Em(name="em"), split, generators((0,), "begin"))
        found = model.mixtures().log_variances
        assert found.min() >= -6
        torch.testing.assert_close(found[..., 2], torch.full((1, 4), -6.0), atol=0.01, rtol=0)
        assert torch.isfinite(model.log_prob(torch.from_numpy(flat)[None])).all()

    def test_a_constant_diagonal_is_refused(self):
        with pytest.raises(ValueError, match="EM is for 'diagonal: variable'; train a constant diagonal with the loss"):
            begun(Em(name="em"), CONSTANT)


class TestTraining:
    @pytest.mark.parametrize("config", [SMALL, CONSTANT], ids=["variable", "constant"])
    def test_gradients_lower_the_loss(self, config, tmp_path):
        _, trained = train(tmp_path, {"main": Likelihood(name="nll", start="kmeans")}, config, clip_norm=10.0)
        losses = np.array([[row["loss_0"], row["loss_1"]] for row in trained.history])
        assert (losses[-1] < losses[0] - 0.1).all()
        if config is CONSTANT:
            diagonals = trained.weights["main/raw_log_variances"]
            assert diagonals.shape == (2, 2, 1)
            assert not torch.isclose(diagonals[:, 0], diagonals[:, 1]).any()

    def test_em_and_then_gradients(self, tmp_path):
        losses = {"main": Em(name="em", iterations=5), "tune": Likelihood(name="nll", noise=0)}
        model, trained = train(tmp_path, losses, learning_rate=1e-3)
        fitted = begun(Em(name="em", iterations=5))
        for name, values in fitted.state_dict().items():
            torch.testing.assert_close(trained.weights[f"main/{name}"], values)
        assert all(np.greater(score(model), score(fitted)))

    def test_seeds_are_independent(self, tmp_path):
        losses = {"main": Likelihood(name="nll", start="kmeans_fa", balance=0.1)}
        _, together = train(tmp_path / "a", losses, clip_norm=1.0)
        _, alone = train(tmp_path / "b", losses, seeds=(1,), clip_norm=1.0)
        for name, values in alone.weights.items():
            if values.ndim:
                torch.testing.assert_close(together.weights[name][1:], values, rtol=1e-3, atol=1e-4)

    def test_nothing_of_other_seeds_reaches_a_gradient(self):
        model = begun(Likelihood(name="nll", start="kmeans_fa"))
        x = x_of().requires_grad_()
        model.loss({"x": x}, Likelihood(name="nll", noise=0, balance=1.0), [])[0].backward()
        assert not x.grad[1].any()
        assert all(not parameter.grad[1].any() and parameter.grad[0].any() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"name": "em", "start": "random"}, "start"),
        ({"name": "em", "iterations": 0}, "iterations"),
        ({"name": "em", "tolerance": -1}, "tolerance"),
        ({"name": "em", "noise": 0.1}, "unknown key 'em.noise'|unknown key 'noise'"),
        ({"name": "expectation"}, "expectation|name"),
    ],
)
def test_bad_losses_are_named(content: dict[str, Any], said: str) -> None:
    with pytest.raises(CatalogueError, match=said):
        parse(mfa.Loss, content, "paper.yaml: loss")
