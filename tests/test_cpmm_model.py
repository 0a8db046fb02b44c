"""CPMM: what is extracted, the layout of the joint state, starts, gradients, training on an arc, sizes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import vae_reference
from torch import Tensor

from neumix.batching import DeviceSplit
from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.factor_analyzers import FactorAnalyzers
from neumix.hierarchical_mixture import Likelihood
from neumix.models.cpmm import Config, Model
from neumix.schedule import Stage
from neumix.seeding import numpy_rng
from neumix.settings import CatalogueError, parse
from neumix.training import Phase, Trained, fit, generators

CPU = torch.device("cpu")
NLL = Likelihood(name="nll", noise=0)
SMALL = Config(clusters=3, components=4, rank=2, width=5, augment=1)
KINDS: dict[str, Config] = {
    "shared": SMALL,
    "separate": dataclasses.replace(SMALL, separate=True),
    "constant": dataclasses.replace(SMALL, diagonal="constant"),
    "both": dataclasses.replace(SMALL, separate=True, diagonal="constant"),
}
EVERY = pytest.mark.parametrize("kind", KINDS)
SHAPES = pytest.mark.parametrize("shape", [(3,), (4, 3, 1)], ids=["vectors", "images"])


def build(config: Config = SMALL, shape: Sequence[int] = (3,), seeds: Sequence[int] = (0, 1)) -> Model:
    """Return a model whose parameters have all moved from their start."""
    model = Model(config, {"x": shape}, generators(seeds, "init"))
    vae_reference.scatter(model, 0.2)
    return model


def points(count: int, shape: Sequence[int] = (3,), seeds: int = 2) -> Tensor:
    return torch.randn(seeds, count, *shape, generator=torch.Generator().manual_seed(7))


def parts(found: FactorAnalyzers) -> dict[str, Tensor]:
    return {field.name: getattr(found, field.name).detach().clone() for field in dataclasses.fields(FactorAnalyzers)}


def of_first(found: FactorAnalyzers, config: Config) -> dict[str, Tensor]:
    """Return the parts of the first component of each trajectory."""
    return {name: part[:, :: config.components] for name, part in parts(found).items()}


@EVERY
def test_random_trajectories_begin_as_narrow_as_is_asked(kind):
    for asked in (0.0, -3.0):
        config = dataclasses.replace(KINDS[kind], start_log_variance=asked)
        with torch.no_grad():
            first = of_first(Model(config, {"x": (3,)}, generators((0, 1), "init")).mixtures(), config)
        torch.testing.assert_close(first["log_variances"], torch.full((2, 3, 3), asked))


class TestExtraction:
    @SHAPES
    @EVERY
    def test_the_mixture_is_the_model_and_needs_no_equation(self, kind, shape):
        model, x = build(KINDS[kind], shape), points(6, shape)
        with torch.no_grad():
            expected, shares = model.log_prob(x), model.cluster_responsibilities(x)
            extracted = model.mixtures()
            for parameter in (*model.field.parameters(), model.initial):
                parameter.fill_(math.nan)
        assert torch.isnan(model.states(torch.linspace(0, 1, 2))).all()
        flat = x.flatten(2)
        torch.testing.assert_close(extracted.log_prob(flat), expected)
        found = extracted.responsibilities(flat).view(2, 6, 3, 4).sum(3)
        torch.testing.assert_close(found, shares)
        torch.testing.assert_close(shares.sum(2), torch.ones(2, 6))

    @SHAPES
    @EVERY
    def test_shapes_and_weights(self, kind, shape):
        model = build(KINDS[kind], shape)
        dimension = math.prod(shape)
        found = parts(model.mixtures())
        assert {name: tuple(part.shape) for name, part in found.items()} == {
            "log_weights": (2, 12),
            "means": (2, 12, dimension),
            "factors": (2, 12, dimension, 2),
            "log_variances": (2, 12, dimension),
        }
        weights = found["log_weights"].exp().view(2, 3, 4)
        torch.testing.assert_close(weights.sum(2), model.logits.detach().softmax(1))
        torch.testing.assert_close(weights, weights[:, :, :1].expand(-1, -1, 4))
        assert found["log_variances"].min() >= -6
        assert model.n_extracted == 12 * (1 + dimension * 4)
        assert model.cluster_responsibilities(points(2, shape)).shape == (2, 2, 3)

    def test_components_are_the_solution_at_even_pseudotimes(self):
        model = build()
        fine = parts(model.extract(torch.linspace(0, 1, 3 * 40 + 1)))
        some = parts(model.mixtures())
        every = torch.arange(0, 121, 40)
        for name in ("means", "factors", "log_variances"):
            wanted = torch.unflatten(fine[name], 1, (3, 121))[:, :, every].flatten(1, 2)
            torch.testing.assert_close(some[name], wanted, atol=1e-4, rtol=1e-3)
        moved = torch.unflatten(some["means"], 1, (3, 4)).diff(dim=2).abs()
        assert moved.mean() > 0.01, "trajectories that go nowhere test nothing"

    @SHAPES
    @EVERY
    def test_one_pseudotime_is_the_start(self, kind, shape):
        config = KINDS[kind]
        model, one = build(config, shape), build(dataclasses.replace(config, components=1), shape)
        one.load_state_dict(model.state_dict())
        first = of_first(model.mixtures(), config)
        found = parts(one.mixtures())
        assert one.states(torch.zeros(1)).shape[:3] == (2, 3, 1)
        torch.testing.assert_close(one.states(torch.zeros(1))[:, :, 0], model.initial)
        for name in ("means", "factors", "log_variances"):
            torch.testing.assert_close(found[name], first[name])
        torch.testing.assert_close(found["log_weights"], model.logits.detach().log_softmax(1))
        assert torch.isfinite(one.log_prob(points(5, shape))).all()

    def test_the_solver_hardly_matters(self):
        found = []
        for changes in ({}, {"steps": 20}, {"solver": "dopri5"}, {"solver": "midpoint", "steps": 60}):
            model = build(dataclasses.replace(SMALL, **changes))
            found.append(model.log_prob(points(20)).detach())
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], atol=2e-3, rtol=1e-3)

    def test_samples_lie_where_the_components_do(self):
        model = build(shape=(2, 2, 1))
        with torch.no_grad():
            x, clusters = model.sample(20_000, generators((0, 1), "samples"))
            expected = model.mixtures().mean()
        assert x.shape == (2, 20_000, 2, 2, 1)
        torch.testing.assert_close(x.flatten(2).mean(1), expected, atol=0.05, rtol=0)
        shares = torch.stack([torch.bincount(labels, minlength=3) / 20_000 for labels in clusters])
        torch.testing.assert_close(shares, model.logits.detach().softmax(1), atol=0.02, rtol=0)


class TestLayout:
    """Channels of a state: the mean, the columns of A, log d where it varies, and what the mixture does not use."""

    @SHAPES
    @EVERY
    def test_a_part_of_the_start_moves_that_part_of_the_first_components_alone(self, kind, shape):
        config = KINDS[kind]
        model = build(config, shape)
        size = model.features
        assert size == (1 if len(shape) == 3 else 3)
        names = ["means", "factor 0", "factor 1"] + ([] if model.constant else ["log_variances"])
        assert model.initial.shape == (2, 3, len(names) * size * 2, *shape[: len(shape) - 1])
        for position, name in enumerate([*names, *["augmented"] * len(names)]):
            before = of_first(model.mixtures(), config)
            with torch.no_grad():
                model.initial[1, 2, position * size : (position + 1) * size] += 0.5
            after = of_first(model.mixtures(), config)
            changed = {key for key in before if not torch.equal(before[key], after[key])}
            assert changed == ({"factors" if "factor" in name else name} - {"augmented"})
            for key in changed:
                difference = after[key] - before[key]
                assert not difference[0].any()
                assert not difference[1, :2].any()
                moved = difference[1, 2]
                if key == "factors":
                    column = int(name[-1])
                    assert not moved[:, 1 - column].any()
                    moved = moved[:, column]
                if key != "log_variances":
                    torch.testing.assert_close(moved, torch.full_like(moved, 0.5))
                else:
                    assert (moved > 0.4).all()

    def test_what_the_mixture_does_not_use_bends_the_trajectory(self):
        model = build()
        before = parts(model.mixtures())
        with torch.no_grad():
            model.initial[:, :, -1] += 1
        after = parts(model.mixtures())
        assert torch.equal(before["log_weights"], after["log_weights"])
        later = [found["means"].view(2, 3, 4, 3)[:, :, 1:] for found in (before, after)]
        assert not torch.isclose(*later).any()

    def test_pixels_keep_their_places(self):
        model = build(shape=(4, 3, 1))
        picture = torch.arange(12.0).view(4, 3)
        with torch.no_grad():
            model.initial[0, 1, 0] = picture
        assert torch.equal(model.mixtures().means[0, 4].view(4, 3), picture)
        x = points(2, (4, 3, 1))
        torch.testing.assert_close(model.log_prob(x), model.mixtures().log_prob(x.view(2, 2, 12)))

    def test_a_constant_diagonal_is_one_number_for_each_trajectory(self):
        model = build(KINDS["constant"])
        with torch.no_grad():
            model.raw_log_variances.copy_(torch.arange(6.0).view(2, 3, 1))
        found = model.mixtures().log_variances.reshape(2, 3, 12)
        torch.testing.assert_close(found, model.limited(torch.arange(6.0).view(2, 3, 1)).expand(-1, -1, 12))

    @pytest.mark.parametrize("separate", [False, True])
    def test_whose_equation_moves_which_trajectories(self, separate):
        model = build(dataclasses.replace(SMALL, separate=separate))
        assert model.field.networks == (6 if separate else 2)
        before = parts(model.mixtures())["means"].view(2, 3, 4, 3)
        with torch.no_grad():
            for parameter in model.field.parameters():
                parameter[1] += 0.1  # the second trajectory of the first seed, or the second seed's
        after = parts(model.mixtures())["means"].view(2, 3, 4, 3)
        moved = (after != before).flatten(2).any(2)
        wanted = [[False, True, False], [False] * 3] if separate else [[False] * 3, [True] * 3]
        assert moved.tolist() == wanted
        assert torch.equal(after[:, :, 0], before[:, :, 0])

    def test_a_shared_equation_moves_equal_starts_alike_and_separate_ones_do_not(self):
        for separate in (False, True):
            model = build(dataclasses.replace(SMALL, separate=separate))
            with torch.no_grad():
                model.initial[:, 1] = model.initial[:, 0]
            means = model.mixtures().means.view(2, 3, 4, 3)
            assert torch.allclose(means[:, 0], means[:, 1]) == (not separate)


class TestStart:
    def test_random_is_a_perturbed_standard_gaussian(self):
        model = Model(Config(clusters=10, components=5, rank=3, width=8), {"x": (30,)}, generators((0, 1), "init"))
        found = parts(model.mixtures())
        torch.testing.assert_close(found["log_weights"], torch.full((2, 50), -math.log(50)))
        first = {name: torch.unflatten(part, 1, (10, 5))[:, :, 0] for name, part in found.items()}
        for name in ("means", "factors"):
            assert first[name].std().item() == pytest.approx(0.1, rel=0.1)
        torch.testing.assert_close(first["log_variances"], torch.zeros(2, 10, 30), atol=1e-5, rtol=0)
        assert (found["means"] - first["means"].repeat_interleave(5, 1)).abs().max() < 0.2, "nearly constant"

    @staticmethod
    def begun(start: Any, config: Config, shape: Sequence[int], x: np.ndarray, seeds=(0, 1)) -> Model:
        model = build(config, shape, seeds)
        with torch.no_grad():
            split = DeviceSplit(Split({"x": Field(x)}), len(seeds), CPU)
            model.begin_stage(Likelihood(name="nll", start=start), split, generators(seeds, "begin"))
        return model

    @staticmethod
    def blobs(shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return centres (3, M) far apart, and 90 points around them."""
        rng = numpy_rng(0, "blobs")
        centres = 20 * np.eye(3, math.prod(shape))
        noise = rng.normal(size=(90, centres.shape[1])) * np.repeat([0.5, 1, 2], 30)[:, None]
        return centres, (np.repeat(centres, 30, 0) + noise).astype(np.float32).reshape(90, *shape)

    @SHAPES
    @EVERY
    def test_k_means_puts_the_first_components_at_the_centres(self, kind, shape):
        config = KINDS[kind]
        _, x = self.blobs(shape)
        model, before = self.begun("kmeans", config, shape, x), build(config, shape)
        found, old = of_first(model.mixtures(), config), of_first(before.mixtures(), config)
        groups = x.reshape(3, 30, -1)
        overall = x.reshape(90, -1).var(0)
        for seed in range(2):
            nearest = np.square(found["means"][seed].numpy() - groups.mean(1)[:, None]).sum(2).argmin(1)
            assert sorted(nearest) == [0, 1, 2]
            np.testing.assert_allclose(found["means"][seed, nearest], groups.mean(1), atol=1e-4)
            variances = 0.75 * groups.var(1) + 0.25 * overall
            if model.constant:
                variances = np.broadcast_to(variances.mean(1, keepdims=True), variances.shape)
            np.testing.assert_allclose(found["log_variances"][seed, nearest], np.log(variances), atol=1e-3)
        torch.testing.assert_close(found["log_weights"], torch.full((2, 3), -math.log(12)))
        assert torch.equal(found["factors"], old["factors"]), "k-means alone says nothing of them"
        for name, values in before.field.state_dict().items():
            assert torch.equal(model.field.state_dict()[name], values)

    def test_factor_analysers_fill_the_factors(self):
        rng = numpy_rng(0, "line")
        x = (rng.normal(size=(300, 1)) * np.array([[1, -2, 0]]) + 0.1 * rng.normal(size=(300, 3))).astype(np.float32)
        config = dataclasses.replace(SMALL, clusters=1, rank=1)
        model = self.begun("kmeans_fa", config, (3,), x)
        factor = of_first(model.mixtures(), config)["factors"][0, 0, :, 0].numpy()
        np.testing.assert_allclose(np.outer(factor, factor), np.cov(x.T), atol=0.3)

    def test_no_start_leaves_what_there_is(self):
        _, x = self.blobs((3,))
        model, before = self.begun(None, SMALL, (3,), x), build()
        for name, values in before.state_dict().items():
            assert torch.equal(model.state_dict()[name], values)

    def test_of_several_spaces_the_first_one_is_started_in(self):
        _, x = self.blobs((3,))
        model = build()
        with torch.no_grad():
            split = DeviceSplit(Split({"path": Field(np.stack([x / 20, x], 1))}), 2, CPU)
            model.begin_stage(Likelihood(name="nll", start="kmeans"), split, generators((0, 1), "begin"))
        first = of_first(model.mixtures(), SMALL)["means"]
        torch.testing.assert_close(first.sum(1), torch.ones(2, 3), atol=0.1, rtol=0)

    def test_more_trajectories_than_points(self):
        with pytest.raises(ValueError, match="3 components are asked for, but there are 2 points"):
            self.begun("kmeans", SMALL, (3,), self.blobs((3,))[1][:2])


class TestGradients:
    @pytest.mark.parametrize("changes", [{}, {"steps": 2}], ids=["every", "cubic"])
    @EVERY
    def test_by_finite_differences(self, kind, changes):
        config = dataclasses.replace(KINDS[kind], components=3, width=3, rank=1, clusters=2, **changes)
        model = build(config, (2,), seeds=(0,)).double()
        x, loss = points(4, (2,), 1).double(), Likelihood(name="nll", noise=0, balance=0.3)
        names, values = zip(*model.named_parameters(), strict=True)
        model.forward = lambda: model.loss({"x": x}, loss, [])

        def value(*given: Tensor) -> Tensor:
            found: Tensor = torch.func.functional_call(model, dict(zip(names, given, strict=True)), ())
            return found

        inputs = [parameter.detach().clone().requires_grad_() for parameter in values]
        assert torch.autograd.gradcheck(value, inputs, fast_mode=True)

    @EVERY
    def test_reach_every_parameter_of_their_own_seed_alone(self, kind):
        model = build(KINDS[kind], (4, 3, 1))
        model.loss({"x": points(5, (4, 3, 1))}, NLL, [])[0].backward()
        for name, parameter in model.named_parameters():
            first, second = parameter.grad.chunk(2)
            assert first.any(), name
            assert not second.any(), name

    def test_under_half_precision_products(self):
        model, x = build(shape=(4, 3, 1)), points(5, (4, 3, 1))
        with torch.autocast("cpu", torch.bfloat16):
            value = model.loss({"x": x}, NLL, [])
        value.sum().backward()
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, model.loss({"x": x}, NLL, []), rtol=0.05, atol=0.05)
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


def arc(seed: int = 0, count: int = 240) -> np.ndarray:
    """Return points (N, 2) along three quarters of a circle."""
    rng = numpy_rng(seed, "arc")
    angle = rng.uniform(0, 1.5 * np.pi, count)
    return (np.stack([np.cos(angle), np.sin(angle)], 1) + 0.05 * rng.normal(size=(count, 2))).astype(np.float32)


def train(
    tmp_path, config: Config, seeds: Sequence[int], epochs: int, batch: int, **loss: Any
) -> tuple[Model, Trained]:
    x = np.stack([arc(seed) for seed in seeds])
    dataset = Dataset({"train": Split({"x": Field(x, per_seed=True)})}, "arc")
    stage = Stage(loss={"name": "nll"}, epochs=epochs, batch_size=batch, learning_rate=0.02, clip_norm=20.0)
    model = Model(config, dataset.shapes, generators(seeds, "init"))
    phases = [Phase("main", stage, Likelihood(name="nll", **loss))]
    checkpointer = Checkpointer(tmp_path / "checkpoint", "arc")
    return model, fit(model, dataset, phases, seeds, checkpointer, name="arc", device=CPU)


class TestTraining:
    def test_an_arc_is_followed_far_better_than_by_one_gaussian(self, tmp_path):
        config = Config(clusters=1, components=10, rank=1, depth=2, augment=1, solver="euler")
        model, trained = train(tmp_path, config, (0,), 300, 240)
        losses = [row["loss_0"] for row in trained.history]
        gaussian = 0.5 * (np.linalg.slogdet(2 * np.pi * np.cov(arc().T, bias=True))[1] + 2)
        with torch.no_grad():
            held_out = -model.log_prob(torch.from_numpy(arc(5))[None]).mean().item()
            means = model.mixtures().means[0]
        assert losses[-1] < losses[0] - 0.4
        assert held_out < gaussian - 0.4
        near = (means.norm(dim=1) - 1).abs() < 0.35
        assert near.float().mean() > 0.5, "the trajectory lies along the arc"

    @pytest.mark.parametrize(("solver", "separate"), [("rk4", False), ("rk4", True), ("dopri5", False)])
    def test_seeds_are_independent(self, solver, separate, tmp_path):
        config = dataclasses.replace(SMALL, separate=separate, solver=solver, tolerance=1e-3)
        settings: dict[str, Any] = {"balance": 0.1, "start": "kmeans"}
        _, together = train(tmp_path / "together", config, (0, 1), 2, 120, **settings)
        _, alone = train(tmp_path / "alone", config, (1,), 2, 120, **settings)
        for name, values in alone.weights.items():
            if values.ndim:
                torch.testing.assert_close(together.weights[name].chunk(2)[1], values, rtol=1e-3, atol=1e-4)

    def test_state_dict_round_trip(self):
        model, other = build(shape=(4, 3, 1)), build(shape=(4, 3, 1), seeds=(8, 9))
        model.begin_epoch(3)
        other.load_state_dict(model.state_dict())
        x = points(3, (4, 3, 1))
        assert torch.equal(other.log_prob(x), model.log_prob(x))
        assert int(other.space) == 3


class TestSize:
    """Counted by hand for MNIST: 40 channels, 8 of the mixture and four times as many that it does not use."""

    papers = Config(clusters=10, components=25, rank=6, width=64, augment=4)

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, 397_298),
            ({"diagonal": "constant"}, 35 * 7840 + (64 * 36 * 9 + 64) + (64 * 64 * 9 + 64) + (35 * 64 * 9 + 35) + 20),
            ({"separate": True}, 10 * 40 * 784 + 10 * 83_688 + 10),
        ],
    )
    def test_parameters(self, changes, expected):
        by_hand = 10 * 40 * 784 + (64 * 41 * 9 + 64) + (64 * 64 * 9 + 64) + (40 * 64 * 9 + 40) + 10
        assert by_hand == 397_298
        config = dataclasses.replace(self.papers, **changes)
        for seeds in ((0,), (0, 1)):
            assert Model(config, {"x": (28, 28, 1)}, generators(seeds, "init")).n_parameters == expected

    def test_what_is_extracted(self):
        model = Model(self.papers, {"x": (28, 28, 1)}, generators((0,), "init"))
        with torch.no_grad():
            model.config = dataclasses.replace(self.papers, solver="euler", components=3)
            assert model.n_extracted == 30 * (1 + 8 * 784)


@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 3, 2)])
def test_images_of_several_channels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images need one channel, \(H, W, 1\), found points of shape \(4, 3, "):
        Model(SMALL, {"x": shape}, generators((0,), "init"))


def test_points_of_two_axes_are_vectors() -> None:
    model = build(shape=(4, 3))
    assert model.features == 12
    assert torch.isfinite(model.log_prob(points(5, (4, 3)))).all()


def test_bad_settings_are_named() -> None:
    good = {"clusters": 2, "components": 2}
    for content, said in [
        ({**good, "wdith": 3}, "unknown key 'wdith'; did you mean 'width'"),
        ({**good, "solver": "rk5"}, "did you mean 'rk4'"),
        ({"components": 2}, "key 'clusters' is missing"),
    ]:
        with pytest.raises(CatalogueError, match=said):
            parse(Config, content, "paper.yaml: model")
