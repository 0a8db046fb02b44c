"""The einsum network as a model: counts, both losses, EM in the training loop, resuming, marginals, samples, fields."""

import copy
import itertools
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vae_reference
from torch import Tensor

from neumix.batching import DeviceSplit
from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.density_model import Likelihood
from neumix.models import einet
from neumix.models.einet import Config, Em, Loss, Model
from neumix.optimization import make_optimizer
from neumix.schedule import Stage
from neumix.seeding import numpy_rng
from neumix.settings import CatalogueError, parse
from neumix.training import Interrupted, Phase, Trained, fit, generators

CPU = torch.device("cpu")
EM, NLL = Em(name="em", step=0.3), Likelihood(name="nll")
LOSSES = pytest.mark.parametrize("loss", [EM, NLL], ids=["em", "nll"])
SHAPES = {"x": (4, 3, 1), "levels": (4, 3, 1)}
GRID, TREES = {"name": "poon_domingos", "pieces": 2}, {"name": "binary_trees", "depth": 2, "repetitions": 3}
KINDS: dict[str, dict[str, Any]] = {
    "normal": {"structure": GRID, "leaves": {"name": "normal"}},
    "binomial": {"structure": GRID, "leaves": {"name": "binomial", "levels": 16}, "field": "levels"},
    "normal trees": {"structure": TREES, "leaves": {"name": "normal"}},
    "binomial trees": {"structure": TREES, "leaves": {"name": "binomial", "levels": 16}, "field": "levels"},
}
EVERY = pytest.mark.parametrize("kind", KINDS)
TRAINED = pytest.mark.parametrize(("kind", "loss"), [("normal", NLL), ("binomial", EM), ("normal trees", EM)])
FIELD = {kind: settings.get("field", "x") for kind, settings in KINDS.items()}


def config(kind: str, **changes: Any) -> Config:
    return parse(Config, {"size": 3, **KINDS[kind], **changes}, "toy")


def build(kind: str, seeds=(0, 1), scale: float = 0.3) -> Model:
    model = Model(config(kind), SHAPES, generators(seeds, "init"))
    vae_reference.scatter(model, scale)
    return model


def split_of(size: int = 40) -> Split:
    """Return images in two groups: levels of each, and normal values."""
    rng = numpy_rng(3, "images")
    group = rng.integers(0, 2, (size, 1, 1, 1))
    levels = rng.binomial(15, 0.3 + 0.4 * group, (size, 4, 3, 1)).astype(np.uint8)
    x = (2 * group + rng.normal(size=levels.shape)).astype(np.float32)
    return Split({"x": Field(x), "levels": Field(levels)})


def batch_of(seeds: int = 2, size: int = 8) -> dict[str, Tensor]:
    split = DeviceSplit(split_of(), seeds, CPU)
    order = torch.stack([torch.randperm(len(split), generator=g) for g in generators(range(seeds), "order")])
    return next(iter(split.batches(order, size, 0)))


def train(folder: Path, kind: str, loss: Any = EM, seeds=(0, 1), model: type[Model] = Model, **changes: Any) -> Trained:
    dataset = Dataset({"train": split_of(), "test": split_of(20)}, "toy")
    stage = Stage(**{"loss": {"name": loss.name}, "epochs": 4, "batch_size": 15, "learning_rate": 0.02, **changes})
    start = model(config(kind), dataset.shapes, generators(seeds, "init"))
    checkpointer = Checkpointer(folder, "toy", seconds=1e9)
    return fit(start, dataset, [Phase("main", stage, loss)], seeds, checkpointer, name="toy", device=CPU)


class Killed(Model):
    """A model that a signal reaches at its n-th loss."""

    at = 0

    def loss(self, batch: Mapping[str, Tensor], loss: Any, noise: Any) -> Tensor:
        type(self).at -= 1
        if type(self).at == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(batch, loss, noise)


def bits(trained: Trained) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    weights = {name: value.tolist() for name, value in trained.weights.items()}
    return weights, [{key: value for key, value in row.items() if key != "seconds"} for row in trained.history]


class TestCounts:
    @pytest.mark.parametrize(
        ("pieces", "size", "leaves", "count"),
        [(4, 10, "binomial", 204_146), (7, 10, "binomial", 3_163_452), (4, 40, "normal", 12_495_126)],
    )
    def test_they_are_those_of_the_authors_code(self, pieces, size, leaves, count):
        settings = {"structure": {**GRID, "pieces": pieces}, "leaves": {"name": leaves}, "size": size}
        model = Model(parse(Config, settings, "toy"), {"x": (28, 28, 1)}, generators((0,), "init"))
        assert model.n_parameters == count
        assert model.dimension == 784

    def test_they_are_of_one_seed(self):
        assert build("normal", (0, 1, 2)).n_parameters == build("normal", (0,)).n_parameters

    def test_trees_have_leaves_of_their_own(self):
        # Of 3 trees: means and variances of 3 components of 12 variables, 2 regions; and a root of 3 partitions.
        assert build("normal trees").n_parameters == 3 * 12 * 3 * 2 + 3 * 2 * 27 + (3 * 9 + 3)


class TestLoss:
    @LOSSES
    @EVERY
    def test_it_is_the_mean_negative_log_likelihood(self, kind, loss):
        model, batch = build(kind), batch_of()
        with torch.no_grad():
            expected = -model.log_prob(batch[FIELD[kind]]).mean(1)
            before = copy.deepcopy(model.state_dict())
            torch.testing.assert_close(model.loss(batch, loss, []), expected)
            torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
        found = model.loss(batch, loss, [])
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.detach(), expected)

    @EVERY
    def test_gradients_in_chunks_are_those_of_the_mean(self, kind, monkeypatch):
        model, batch = build(kind), batch_of()
        expected = torch.autograd.grad(-model.log_prob(batch[FIELD[kind]]).mean(1).sum(), list(model.parameters()))
        for values in (2**23, 1, 3 * model.circuit.values_of_a_point):
            monkeypatch.setattr(einet, "_VALUES_AT_ONCE", values)
            assert model.chunk == max(1, values // model.circuit.values_of_a_point)
            model.zero_grad()
            model.loss(batch, NLL, []).sum().backward()
            for parameter, gradient in zip(model.parameters(), expected, strict=True):
                torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)

    @EVERY
    def test_em_takes_its_step_and_adam_none(self, kind):
        model, batch = build(kind), batch_of()
        expected = copy.deepcopy(model)
        value = expected.circuit.em_step(batch[FIELD[kind]].flatten(2).float(), EM.step, 100)
        optimizer = make_optimizer(model.parameters(), Stage(loss={"name": "em"}, epochs=1, batch_size=8))
        for rate in (1e-3, 10.0):
            before = copy.deepcopy(expected.state_dict())
            optimizer.param_groups[0]["lr"] = rate
            loss = model.loss(batch, EM, [])
            optimizer.zero_grad()
            loss.sum().backward()
            assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
            optimizer.step()
            torch.testing.assert_close(loss.detach(), -value.float())
            torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
            value = expected.circuit.em_step(batch[FIELD[kind]].flatten(2).float(), EM.step, 100)


class TestTraining:
    @TRAINED
    def test_resuming_is_bit_identical(self, kind, loss, tmp_path, monkeypatch):
        plan = {"snapshots": (2,), "validation": "test", "patience": 3}
        clean = bits(train(tmp_path / "clean", kind, loss, **plan))
        for at in (2, 6):  # of 3 steps an epoch and one score
            monkeypatch.setattr(Killed, "at", at)
            with pytest.raises(Interrupted):
                train(tmp_path / str(at), kind, loss, model=Killed, **plan)
            resumed = train(tmp_path / str(at), kind, loss, **plan)
            assert resumed.resumes == 1
            assert bits(resumed) == clean

    @EVERY
    def test_whole_batches_and_steps_are_em_in_the_strict_sense(self, kind, tmp_path):
        trained = train(tmp_path, kind, Em(name="em", step=1), batch_size=40, epochs=15)
        for seed in range(2):
            losses = [row[f"loss_{seed}"] for row in trained.history]
            assert all(later <= earlier + 1e-4 for earlier, later in itertools.pairwise(losses))
            assert losses[-1] < losses[0] - 1

    @TRAINED
    def test_training_on_batches_learns(self, kind, loss, tmp_path):
        history = train(tmp_path, kind, loss, epochs=15, learning_rate=0.1).history
        assert history[-1]["loss_mean"] < history[0]["loss_mean"] - 1

    @TRAINED
    def test_a_seed_depends_on_no_other(self, kind, loss, tmp_path):
        both, alone = (train(tmp_path / str(seeds), kind, loss, seeds) for seeds in [(0, 1), (1,)])
        for name, value in alone.weights.items():
            assert not torch.equal(both.weights[name][0], both.weights[name][1])
            torch.testing.assert_close(both.weights[name][1:], value, rtol=1e-3, atol=1e-3, msg=name)
        for row, expected in zip(both.history, alone.history, strict=True):
            assert row["loss_1"] == pytest.approx(expected["loss_0"], rel=1e-5)

    @LOSSES
    def test_bfloat16_rounds_nothing(self, loss, tmp_path):
        exact, rounded = (
            train(tmp_path / name, "normal", loss, precision=name).weights for name in ("float32", "bfloat16")
        )
        torch.testing.assert_close(dict(rounded), dict(exact), rtol=1e-5, atol=1e-5)


class TestDensity:
    @torch.no_grad()
    @EVERY
    def test_round_trip_of_the_state(self, kind, monkeypatch):
        model, other = build(kind), build(kind, seeds=(5, 6))
        x = batch_of()[FIELD[kind]]
        assert not torch.allclose(other.log_prob(x), model.log_prob(x))
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.log_prob(x), model.log_prob(x))
        assert torch.equal(other.sample(9, generators((0, 1), "a")), model.sample(9, generators((0, 1), "a")))
        expected = model.log_prob(x)
        monkeypatch.setattr(einet, "_VALUES_AT_ONCE", 3 * model.circuit.values_of_a_point)
        torch.testing.assert_close(model.log_prob(x), expected)

    @torch.no_grad()
    @EVERY
    def test_rows_of_an_image_and_the_rest_given_these(self, kind):
        model, x = build(kind), batch_of()[FIELD[kind]].float()
        top = torch.zeros(4, 3, 1, dtype=torch.bool)
        top[:2] = True
        marginal = model.log_prob(x, top)
        changed = x.clone()
        changed[:, :, 2:] = 1
        assert torch.equal(model.log_prob(changed, top), marginal)
        assert not torch.allclose(model.log_prob(changed), model.log_prob(x))
        changed[:, :, 0] = 3
        assert not torch.allclose(model.log_prob(changed, top), marginal)
        if FIELD[kind] == "levels":  # probabilities, also those of the rest given the top, are at most 1
            assert (model.log_prob(x) <= marginal).all()

    @EVERY
    def test_samples_have_the_form_of_the_data(self, kind):
        model = build(kind)
        samples = model.sample(30, generators((0, 1), "sample"))
        assert samples.shape == (2, 30, 4, 3, 1)
        if FIELD[kind] == "levels":
            assert set(samples.unique().tolist()) <= set(range(16))

    def test_vectors(self):
        model = Model(config("normal"), {"x": (5,)}, generators((0, 1), "init"))
        assert model.circuit.graph.leaves == ((0, 1, 2), (3, 4))
        assert model.sample(4, generators((0, 1), "sample")).shape == (2, 4, 5)
        assert model.log_prob(torch.zeros(2, 3, 5)).shape == (2, 3)

    def test_colours_stay_together(self):
        model = Model(config("normal"), {"x": (2, 2, 3)}, generators((0,), "init"))
        assert model.circuit.graph.leaves == ((0, 1, 2), (3, 4, 5), (6, 7, 8), (9, 10, 11))

    def test_trees_are_the_same_for_all_seeds_unless_settings_differ(self):
        one, other = (build("normal trees", seeds).circuit.graph.scopes for seeds in ((0, 1), (7,)))
        assert one == other
        changed = config("normal trees", structure={**TREES, "seed": 1})
        assert Model(changed, SHAPES, generators((0,), "init")).circuit.graph.scopes != one

    def test_a_logarithm_of_a_probability_of_levels(self):
        model = Model(config("binomial"), SHAPES, generators((0,), "init"))
        with torch.no_grad():  # uniform weights, fair coins
            for parameter in model.parameters():
                parameter.zero_()
        x = batch_of(1)["levels"]
        choices = torch.tensor([math.comb(15, int(level)) for level in x.flatten()]).log().view(1, 8, 12).sum(2)
        torch.testing.assert_close(model.log_prob(x), choices - 12 * 15 * math.log(2))


class TestRefusals:
    @LOSSES
    def test_binomial_leaves_need_levels(self, loss):
        split = DeviceSplit(split_of(), 2, CPU)
        build("binomial").begin_stage(loss, split, [])
        build("normal").begin_stage(loss, split, [])
        for changes, said in [
            ({"field": "x"}, "integers from 0 to 15, but the field 'x' has others, from -"),
            ({"leaves": {"name": "binomial", "levels": 4}}, "from 0 to 3, but the field 'levels'"),
        ]:
            model = Model(config("binomial", **changes), SHAPES, generators((0, 1), "init"))
            with pytest.raises(ValueError, match=said):
                model.begin_stage(loss, split, [])

    def test_a_field_that_is_not_there(self):
        with pytest.raises(ValueError, match="'field' is 'levels', but the data only have x, y"):
            Model(config("binomial"), {"x": (4,), "y": ()}, generators((0,), "init"))

    def test_a_structure_that_does_not_fit(self):
        with pytest.raises(ValueError, match="as it is long"):
            Model(config("normal", structure={**GRID, "pieces": 4}), SHAPES, generators((0,), "init"))

    @pytest.mark.parametrize(
        ("kind", "settings", "said"),
        [
            (Config, {"structure": {"name": "poon_domingos", "pieces": 1}}, "pieces"),
            (Config, {"structure": GRID, "leaves": {"name": "normal", "least_variance": 0}}, "least_variance"),
            (Config, {"structure": GRID, "leaves": {"name": "binomial", "level": 2}}, "level"),
            (Loss, {"name": "em", "step": 0}, "step"),
            (Loss, {"name": "em", "step": 1.5}, "step"),
        ],
    )
    def test_settings(self, kind, settings, said):
        with pytest.raises(CatalogueError, match=said):
            parse(kind, settings, "paper.yaml: model")
