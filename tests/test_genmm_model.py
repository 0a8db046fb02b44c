"""GenMM and its relatives: loss and gradients against autograd, EM in training, parts, classes, resuming, samples."""

import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import vae_reference
from scipy.stats import chisquare
from test_density_model import counts_and_expected, midpoints
from torch import Tensor

from neumix.batching import DeviceSplit
from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.models import genmm
from neumix.models.genmm import Config, Em, Model
from neumix.schedule import Stage
from neumix.settings import CatalogueError, parse
from neumix.training import Interrupted, Phase, Trained, fit, generators

EM = Em(name="em")
CPU = torch.device("cpu")
SHAPE = (2, 2, 1)
CLASSES = 3
POINTS = 7
BATCH = 5
KINDS: dict[str, dict[str, Any]] = {
    "one": {},
    "genmm": {"generators": 3},
    "genmm lu": {"generators": 2, "mixing": "lu"},
    "latmm": {"sources": 3},
    "latmm coordinate": {"sources": 2, "tied": "coordinate"},
    "both": {"generators": 2, "sources": 3},
    "individual": {"individual": 3},
}
EVERY = pytest.mark.parametrize("kind", KINDS)
MIXED = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "one"])
FIELDS = pytest.mark.parametrize("field", ["x", "by_class"])


def config(kind: str = "genmm", **changes: Any) -> Config:
    small = {"blocks": 1, "steps": 2, "hidden": 4, "individual_steps": 1, "levels": 0}
    return Config(**{**small, **KINDS[kind], **changes})


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def noise(*purpose: str, seeds=(0, 1)) -> list[torch.Generator]:
    return generators(seeds, "noise", *purpose)


def build(settings: Config, field: str = "x", seeds=(0, 1), shape=SHAPE, scale: float = 0.1) -> Model:
    """Return a model in float64 whose parameters, old parameters and weights have all moved from their start."""
    shapes = {"x": shape} if field == "x" else {"by_class": (CLASSES, *shape), "present": (CLASSES,), "x": shape}
    model = Model(settings, shapes, generators(seeds, "init"))
    vae_reference.scatter(model, scale)
    model.double()
    model.log_weights.copy_(normal(*model.log_weights.shape, seed=3).log_softmax(1))
    model.responsibilities = torch.zeros(len(seeds), model.classes, POINTS, settings.components).double()
    return model


def batch_of(field: str = "x", seeds: int = 2) -> dict[str, Tensor]:
    """Return a batch in which classes have none, some or all of its points, in no order."""
    index = torch.stack([torch.randperm(POINTS, generator=g)[:BATCH] for g in generators(range(seeds), "index")])
    if field == "x":
        return {"x": 0.5 * normal(seeds, BATCH, *SHAPE, seed=1), "index": index}
    present = torch.ones(seeds, BATCH, CLASSES).double()
    present[0, [0, 2, 4], 0] = 0
    present[0, :, 1] = 0
    present[1, :4, 2] = 0
    return {"by_class": 0.5 * normal(seeds, BATCH, CLASSES, *SHAPE, seed=1), "present": present, "index": index}


def by_mixture(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Return points (G, B, H, W, channels) and which of them count (G, B), seed by seed and class by class."""
    if "x" in batch:
        return batch["x"], torch.ones(batch["x"].shape[:2]).double()
    x, present = batch["by_class"], batch["present"]
    places = [(seed, index) for seed in range(len(x)) for index in range(x.shape[2])]
    return torch.stack([x[s, :, c] for s, c in places]), torch.stack([present[s, :, c] for s, c in places])


def old_responsibilities(model: Model, x: Tensor) -> Tensor:
    """Return what the old parameters say of points (G, B, ...), (G, B, K)."""
    with torch.no_grad():
        temperature = math.prod(model.shape) if model.config.tempered else 1
        weighted = model.log_weights[:, None] + model.frozen(x) / temperature
    return (weighted - weighted.logsumexp(2, keepdim=True)).exp()


def expected_gradients(model: Model, batch: Mapping[str, Tensor], gamma: Tensor, loss: Em = EM) -> dict[str, Tensor]:
    """Return the gradients of minus the sum of all mixtures' means of Q and log-priors."""
    x, present = by_mixture(batch)
    named = dict(model.components.named_parameters())
    q = (gamma * (model.log_weights[:, None] + model.components(x))).sum(2)
    total = -sum((row * counts).sum() / counts.sum() for row, counts in zip(q, present, strict=True) if counts.any())
    if loss.prior is not None:
        total = total - model.components.log_prior(loss.prior, loss.strength).sum()
    found = torch.autograd.grad(total, list(named.values()), materialize_grads=True)
    return dict(zip(named, found, strict=True))


def step(model: Model, batch: Mapping[str, Tensor], loss: Em = EM) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss and its gradients."""
    model.zero_grad()
    value = model.loss(batch, loss, noise())
    value.sum().backward()
    assert all(parameter.grad is None for parameter in model.frozen.parameters())
    gradients = {name: p.grad for name, p in model.components.named_parameters() if p.grad is not None}
    assert gradients.keys() == dict(model.components.named_parameters()).keys()
    return value.detach(), gradients


def close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(dict(found), dict(expected), rtol=tolerance, atol=tolerance)


class TestLoss:
    @FIELDS
    @EVERY
    def test_value_and_gradient(self, kind, field):
        model, batch = build(config(kind), field), batch_of(field)
        x, present = by_mixture(batch)
        value, gradients = step(model, batch)
        close(gradients, expected_gradients(model, batch, old_responsibilities(model, x)))
        nll = torch.zeros(len(x)).double()
        for mixture, (points, counts) in enumerate(zip(x, present, strict=True)):
            log_prob = model.log_prob(points).flatten(0, 1)[mixture][counts > 0]
            nll[mixture] = -log_prob.mean() / 4 if len(log_prob) else 0
        torch.testing.assert_close(value, nll.view(2, -1).mean(1))
        with torch.no_grad():
            torch.testing.assert_close(model.loss(batch, EM, noise()), value)

    @pytest.mark.parametrize("kind", ["latmm", "latmm coordinate", "both"])
    @pytest.mark.parametrize("prior", ["gamma", "l2"])
    def test_gradient_with_a_prior(self, kind, prior):
        model, batch = build(config(kind)), batch_of()
        loss = Em(name="em", prior=prior, strength=0.7)
        value, gradients = step(model, batch, loss)
        gamma = old_responsibilities(model, batch["x"])
        close(gradients, expected_gradients(model, batch, gamma, loss))
        assert not torch.allclose(gradients["source_log_scale"], step(model, batch)[1]["source_log_scale"])
        torch.testing.assert_close(value, step(model, batch)[0])

    @pytest.mark.parametrize("kind", ["one", "genmm", "individual"])
    def test_a_single_source_has_no_prior(self, kind):
        model, batch = build(config(kind)), batch_of()
        close(step(model, batch, Em(name="em", prior="gamma"))[1], step(model, batch)[1], 0)

    @FIELDS
    @EVERY
    def test_parts_change_nothing(self, kind, field, monkeypatch):
        model, batch = build(config(kind), field), batch_of(field)
        value, gradients = step(model, batch)
        known = model.responsibilities.clone()
        log_joint = model.log_joint(normal(9, *SHAPE))
        hidden = model.components.hidden_values
        for cached, held, rows in [(1, 1, 2), (2 * BATCH * hidden, 4 * hidden, 3), (hidden, 1000 * hidden, 100)]:
            monkeypatch.setattr(genmm, "_CACHED", cached)
            monkeypatch.setattr(genmm, "_HELD", held)
            monkeypatch.setattr(genmm, "_ROWS", rows)
            again, found = step(model, batch)
            torch.testing.assert_close(again, value)
            close(found, gradients)
            torch.testing.assert_close(model.responsibilities, known)
            torch.testing.assert_close(model.log_joint(normal(9, *SHAPE)), log_joint)

    @EVERY
    def test_a_factor_of_a_seeds_loss_is_one_of_its_gradient(self, kind):
        model, batch = build(config(kind)), batch_of()
        _, gradients = step(model, batch)
        model.zero_grad()
        (model.loss(batch, EM, noise()) * torch.tensor([2.0, -3.0])).sum().backward()
        for name, parameter in model.components.named_parameters():
            first, second = gradients[name].view(2, -1)
            torch.testing.assert_close(parameter.grad.view(2, -1), torch.stack([2 * first, -3 * second]))

    @FIELDS
    @EVERY
    def test_a_mixture_depends_on_no_other(self, kind, field):
        model, batch = build(config(kind), field), batch_of(field)
        value, gradients = step(model, batch)
        known = model.responsibilities.clone()
        mixtures = len(model.log_weights)
        other = mixtures - 1  # the last class of the last seed
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.view(mixtures, -1)[other] += 0.2
            model.log_weights[other] = model.log_weights[other].flip(0)
            batch[field].select(0, 1)[(slice(None), *([CLASSES - 1] if field == "by_class" else []))] -= 0.3
        again, found = step(model, batch)
        assert again[0] == value[0]
        assert again[1] != value[1]
        for name, gradient in gradients.items():
            before, after = gradient.view(mixtures, -1), found[name].view(mixtures, -1)
            assert torch.equal(before[:other], after[:other])
            assert before.shape[1] == 0 or not torch.equal(before[other], after[other]) or not before[other].any()
        assert torch.equal(known.flatten(0, 1)[:other], model.responsibilities.flatten(0, 1)[:other])

    @EVERY
    def test_absent_points_change_nothing(self, kind):
        model, batch = build(config(kind), "by_class"), batch_of("by_class")
        value, gradients = step(model, batch)
        known = model.responsibilities.clone()
        batch["by_class"][batch["present"] == 0] += 0.4
        again, found = step(model, batch)
        torch.testing.assert_close(again, value, rtol=0, atol=0)
        close(found, gradients, 1e-14)
        assert torch.equal(model.responsibilities, known)
        if model.config.components > 1:
            for seed, rows in enumerate(batch["index"]):
                absent = batch["present"][seed] == 0
                assert not known[seed, :, rows].transpose(0, 1)[absent].any()
                assert torch.allclose(known[seed, :, rows].transpose(0, 1)[~absent].sum(1), torch.ones(()).double())

    @pytest.mark.parametrize("kind_of_noise", ["normal", "uniform"])
    @FIELDS
    def test_noise_and_levels(self, kind_of_noise, field):
        model, batch = build(config(levels=16, noise=kind_of_noise), field), batch_of(field)
        plain = build(config(), field)
        draw = torch.randn if kind_of_noise == "normal" else torch.rand
        moved = [draw(batch[field].shape[1:], generator=g) / 16 for g in noise()]
        seen = {**batch, field: batch[field] + torch.stack(moved).double()}
        value, gradients = step(model, batch)
        expected, plain_gradients = step(plain, seen)
        torch.testing.assert_close(value, expected + math.log(16))
        close(gradients, plain_gradients)
        x = normal(3, *SHAPE)
        torch.testing.assert_close(model.noisy(x, noise()[0]), x + draw(x.shape, generator=noise()[0]).double() / 16)
        torch.testing.assert_close(model.log_prob(x), plain.log_prob(x))
        nats = -model.log_prob(x).mean(2) / 4 + math.log(16)
        torch.testing.assert_close(model.nats_per_dimension(x), nats)


def split_of(field: str, size: int = POINTS, classes: int = CLASSES) -> Split:
    fields = {"index": Field(torch.arange(size).numpy())}
    if field == "x":
        return Split({"x": Field((0.5 * normal(size, *SHAPE, seed=5)).float().numpy()), **fields})
    present = torch.ones(size, classes)
    present[size // 2 :, 0] = 0
    x = (0.5 * normal(size, classes, *SHAPE, seed=5)).float().numpy()
    return Split({"by_class": Field(x), "present": Field(present.numpy()), **fields})


def full_batch(split: DeviceSplit, seeds: int = 2) -> dict[str, Tensor]:
    (batch,) = split.batches(torch.arange(len(split)).expand(seeds, -1), len(split), 0)
    return batch


class TestExpectation:
    @FIELDS
    @pytest.mark.parametrize("tempered", [True, False])
    @MIXED
    def test_responsibilities_stay_until_the_update(self, kind, tempered, field):
        model = build(config(kind, update_every=3, tempered=tempered), field).float()
        split = DeviceSplit(split_of(field), 2, CPU)
        model.begin_stage(EM, split, noise("begin"))
        batch = full_batch(split)
        present = batch.get("present", torch.ones(2, POINTS, 1)).transpose(1, 2).flatten(0, 1)
        equal = torch.full_like(model.log_weights, 1 / model.config.components)
        torch.testing.assert_close(model.log_weights.exp(), equal)
        for epoch in range(7):
            before = {name: p.clone() for name, p in model.frozen.state_dict().items()}
            known, weights = model.responsibilities.clone(), model.log_weights.clone()
            now = {name: p.clone() for name, p in model.components.state_dict().items()}
            model.begin_epoch(epoch)
            updates = epoch in (3, 6)
            close(model.frozen.state_dict(), now if updates else before, 0)
            if updates:
                mean = known.flatten(0, 1).sum(1) / present.sum(1, keepdim=True)
                torch.testing.assert_close(model.log_weights.exp(), mean)
                assert not torch.allclose(model.log_weights, weights)
            else:
                assert torch.equal(model.log_weights, weights)
            _, gradients = step(model, batch)
            if epoch % 3 == 0:
                gamma = old_responsibilities(model, by_mixture(batch)[0].float()).float() * present[:, :, None]
                torch.testing.assert_close(model.responsibilities.flatten(0, 1), gamma, rtol=1e-4, atol=1e-4)
            else:
                assert torch.equal(model.responsibilities, known)
            gamma = model.responsibilities.flatten(0, 1)
            close(gradients, expected_gradients(model, batch, gamma), 1e-4)
            vae_reference.scatter(model.components, 0.05)

    def test_one_component_needs_no_expectation(self, monkeypatch):
        model, batch = build(config("one")), batch_of()
        monkeypatch.setattr(model.frozen, "forward", None)
        step(model, batch)
        old = model.frozen.state_dict()
        model.begin_epoch(5)
        close(model.frozen.state_dict(), old, 0)
        assert torch.equal(model.log_weights, normal(2, 1).log_softmax(1))

    def test_responsibilities_of_any_points_are_tempered_as_in_training(self):
        for tempered in (True, False):
            model = build(config("both", tempered=tempered), "by_class")
            model.frozen.load_state_dict(model.components.state_dict())
            x = normal(4, *SHAPE)
            expected = old_responsibilities(model, x.expand(6, *x.shape))
            torch.testing.assert_close(model.responsibilities_of(x).flatten(0, 1), expected)


def train(
    folder: Path,
    settings: Config,
    field: str = "x",
    seeds=(0, 1),
    *,
    size: int = 20,
    loss: Em = EM,
    kind: type[Model] = Model,
    weights: Mapping[str, Tensor] | None = None,
    split: Split | None = None,
    **changes: Any,
) -> Trained:
    split = split or split_of(field, size)
    dataset = Dataset({"train": split}, "toy")
    model = kind(settings, dataset.shapes, generators(seeds, "init"))
    if weights is not None:
        model.load_state_dict(weights)
    content = {"loss": {"name": "em"}, "epochs": 7, "batch_size": 6, "learning_rate": 0.01, **changes}
    stage = Stage(**content)
    checkpointer = Checkpointer(folder, "toy", seconds=1e9)
    return fit(model, dataset, [Phase("em", stage, loss)], seeds, checkpointer, name="toy", device=CPU)


class Killed(Model):
    """A model that a signal reaches at its n-th loss."""

    at = 0

    def loss(self, batch: Mapping[str, Tensor], loss: Em, noise: Any) -> Tensor:
        type(self).at -= 1
        if type(self).at == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(batch, loss, noise)


def bits(trained: Trained) -> tuple[dict[str, list[Any]], list[dict[str, Any]]]:
    weights = {name: value.tolist() for name, value in trained.weights.items()}
    return weights, [{key: value for key, value in row.items() if key != "seconds"} for row in trained.history]


class TestTraining:
    @pytest.mark.parametrize(
        ("kind", "field"), [("genmm", "x"), ("both", "by_class"), ("one", "x"), ("individual", "x")]
    )
    def test_resuming_is_bit_identical(self, kind, field, tmp_path, monkeypatch):
        settings, plan = config(kind, levels=256, update_every=2), {"size": 16, "epochs": 5, "snapshots": (3,)}
        clean = bits(train(tmp_path / "clean", settings, field, **plan))
        for at in (2, 3, 6, 8):  # of 3 steps an epoch: within and at the end of some that refresh and some that do not
            monkeypatch.setattr(Killed, "at", at)
            with pytest.raises(Interrupted):
                train(tmp_path / str(at), settings, field, kind=Killed, **plan)
            resumed = train(tmp_path / str(at), settings, field, **plan)
            assert resumed.resumes == 1
            assert bits(resumed) == clean

    @pytest.mark.parametrize("kind", ["genmm", "both", "individual"])
    def test_it_is_the_published_algorithm(self, kind, tmp_path):
        settings, seeds = config(kind, update_every=2), (0, 1)
        trained = train(tmp_path, settings, batch_size=20)
        x = torch.from_numpy(split_of("x", 20)["x"].values)
        model = Model(settings, {"x": SHAPE}, generators(seeds, "init"))
        starts = generators(seeds, "begin", "em")
        points = torch.stack([x[torch.randperm(20, generator=g)] for g in starts])
        model.components.initialise(points)
        optimizer = torch.optim.Adam(model.components.parameters(), lr=0.01)
        log_weights, x = model.log_weights.clone(), x.expand(2, *x.shape)
        gamma = torch.zeros(0)
        for epoch in range(7):
            if epoch % 2 == 0:
                log_weights = gamma.mean(1).log() if epoch else log_weights
                gamma = (log_weights[:, None] + model.components(x).detach() / 4).softmax(2)
            optimizer.zero_grad()
            (-(gamma * (log_weights[:, None] + model.components(x))).sum(2).mean(1).sum()).backward()
            optimizer.step()
        found = {k.removeprefix("em/components."): v for k, v in trained.weights.items() if "/components." in k}
        close(found, dict(model.components.state_dict()), 2e-4)
        torch.testing.assert_close(trained.weights["em/log_weights"], log_weights, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(trained.weights["em/_extra_state"][:, 0], gamma, rtol=1e-3, atol=1e-3)

    def test_classes_at_once_are_classes_alone(self, tmp_path):
        settings = config("both", update_every=2)
        split = split_of("by_class", 18)
        start = Model(settings, {"by_class": (CLASSES, *SHAPE)}, generators((0,), "init")).state_dict()
        start["_extra_state"] = torch.zeros(0)
        together = train(tmp_path / "all", settings, seeds=(0,), split=split, weights=start, batch_size=18)
        for index in range(CLASSES):
            fields = {name: Field(split[name].values[:, [index]]) for name in ("by_class", "present")}
            alone = train(
                tmp_path / str(index),
                settings,
                seeds=(0,),
                split=Split({**fields, "index": split["index"]}),
                weights={name: self.of_class(value, index) for name, value in start.items()},
                batch_size=18,
            )
            expected = {k: self.of_class(v, index, k.endswith("state")) for k, v in together.weights.items()}
            close(alone.weights, expected, 2e-4)

    def of_class(self, value: Tensor, index: int, extra: bool = False) -> Tensor:
        if extra:
            return value[:, [index]]
        return value if value.ndim == 0 or not len(value) else value.unflatten(0, (CLASSES, -1))[index]

    @FIELDS
    def test_a_seed_depends_on_no_other(self, tmp_path, field):
        settings = config("both", levels=256, update_every=2)
        both, alone = (train(tmp_path / str(s), settings, field, s) for s in [(0, 1), (1,)])
        for name, value in alone.weights.items():
            found = both.weights[name]
            found = found if found.ndim == 0 else found.unflatten(0, (2, -1))[1]
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-3, msg=name)
        for row, expected in zip(both.history, alone.history, strict=True):
            assert row["loss_1"] == pytest.approx(expected["loss_0"], abs=1e-3)

    @EVERY
    def test_bfloat16_is_close(self, kind, tmp_path):
        settings = config(kind, hidden=16)
        plan = {"epochs": 4, "learning_rate": 0.003}
        exact, rounded = (train(tmp_path / p, settings, precision=p, **plan) for p in ("float32", "bfloat16"))
        assert {value.dtype for value in rounded.weights.values()} == {torch.float32, torch.int64}
        losses = [[row["loss_mean"] for row in trained.history] for trained in (exact, rounded)]
        assert losses[0] == pytest.approx(losses[1], abs=0.02)
        assert losses[0] != losses[1]
        assert losses[0][-1] < losses[0][0] - 0.02

    @FIELDS
    def test_bfloat16_gives_float32_gradients_near_the_exact_ones(self, field):
        model = build(config("both", hidden=16), field).float()
        model.responsibilities = model.responsibilities.float()
        batch = {k: v.float() if v.is_floating_point() else v for k, v in batch_of(field).items()}
        value, gradients = step(model, batch)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.loss(batch, EM, noise())
        model.zero_grad()
        rounded.sum().backward()
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded.detach(), value, rtol=0.02, atol=0.02)
        for name, parameter in model.components.named_parameters():
            assert (parameter.grad - gradients[name]).norm() <= 0.05 * gradients[name].norm() + 0.01

    def test_the_start_is_normalised_and_equal(self):
        model = build(config("both"), "by_class").float()
        split = DeviceSplit(split_of("by_class", 2000), 2, CPU)
        model.begin_stage(EM, split, noise("begin"))
        assert model.responsibilities.shape == (2, CLASSES, 2000, 6)
        close(model.frozen.state_dict(), dict(model.components.state_dict()), 0)
        x = split.points()["by_class"].transpose(1, 2).flatten(0, 1).repeat_interleave(2, 0)
        y, _ = model.components.flows.blocks[0].steps[0].mixing(x.reshape(12, 2000, 1, 1, 4))
        rotation = model.components.flows.blocks[0].steps[0].mixing.weight.matrix
        whitened = (y.flatten(1, 3) @ torch.linalg.inv(rotation)).double()
        torch.testing.assert_close(whitened.mean(1), torch.zeros(12, 4).double(), atol=0.15, rtol=0)
        torch.testing.assert_close(whitened.std(1), torch.ones(12, 4).double(), atol=0.15, rtol=0)


class TestState:
    @EVERY
    def test_round_trip(self, kind):
        model, batch = build(config(kind), "by_class"), batch_of("by_class")
        step(model, batch)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        other = build(config(kind), "by_class", seeds=(5, 6), scale=0.2)
        other.load_state_dict(state)
        assert torch.equal(other.responsibilities, model.responsibilities)
        model.epoch.fill_(1)
        other.epoch.fill_(1)
        (value, gradients), (again, found) = step(model, batch), step(other, batch)
        assert torch.equal(value, again)
        close(found, gradients, 0)

    def test_number_of_parameters_of_the_letter_generator(self):
        shapes = {"by_class": (2, 4, 4, 1)}
        for count in (1, 3):
            settings = Config(generators=count, blocks=1, steps=12, hidden=8)
            assert Model(settings, shapes, generators((0, 1, 2), "init")).n_parameters == 6720 * count

    @pytest.mark.parametrize(("blocks", "share"), [(1, 1), (2, 0.5), (3, 0.25)])
    def test_latent_share(self, blocks, share):
        model = Model(Config(blocks=blocks, steps=1, hidden=2), {"x": (8, 16, 1)}, generators((0,), "init"))
        assert model.latent_share == share

    def test_settings(self):
        with pytest.raises(CatalogueError, match="one common generator"):
            parse(Config, {"individual": 2, "generators": 2}, "paper.yaml: model")
        with pytest.raises(CatalogueError, match="update_every"):
            parse(Config, {"update_every": 0}, "paper.yaml: model")
        with pytest.raises(CatalogueError, match="prior"):
            parse(Em, {"name": "em", "prior": "flat"}, "paper.yaml: loss")


class TestSamples:
    @EVERY
    def test_they_follow_the_density_of_their_component(self, kind):
        model = build(config(kind, hidden=6), shape=(1, 1, 2), scale=0.25).float()
        samples, labels = model.sample(8000, noise("sample"))
        assert samples.shape == (2, 1, 8000, 1, 1, 2)
        assert labels.shape == (2, 1, 8000)
        side = 12
        joint = model.log_joint(midpoints(side, 0.1)[0, :, None, None])[:, 0]  # at the points that are asked for below
        for seed in range(2):
            for component, log_weight in enumerate(model.log_weights[seed]):
                chosen, share = labels[seed, 0] == component, log_weight.exp()
                assert abs(chosen.float().mean() - share) <= 4 * (share * (1 - share) / len(chosen)).sqrt()
                log_prob = (joint[seed, :, component] - log_weight)[None]
                x = samples[seed, 0, chosen].flatten(1)
                counts, expected = counts_and_expected(x, lambda _, log_prob=log_prob: log_prob, side)
                assert chisquare(counts, expected).pvalue > 1e-5

    def test_every_class_and_seed_has_its_own(self):
        model = build(config("both"), "by_class").float()
        with torch.no_grad():
            model.components.source_mean += 100 * torch.arange(12)[:, None, None]
        model.log_weights.copy_(torch.eye(6).add(1e-12).log())
        samples, labels = model.sample(30, noise("sample"))
        assert samples.shape == (2, CLASSES, 30, *SHAPE)
        assert labels.flatten(0, 1).tolist() == [[mixture] * 30 for mixture in range(6)]
        for seed in range(2):
            for index in range(CLASSES):
                joint = model.log_joint(samples[seed, index])
                assert (joint.flatten(0, 1).logsumexp(2).argmax(0) == seed * CLASSES + index).all()

    def test_seeds_draw_apart_and_parts_change_nothing(self, monkeypatch):
        model = build(config("both"))
        samples, labels = model.sample(20, noise("sample"))
        monkeypatch.setattr(genmm, "_ROWS", 3)
        again, same = model.sample(20, [noise("sample")[0], noise("other")[1]])
        torch.testing.assert_close(again[0], samples[0])
        assert torch.equal(same[0], labels[0])
        assert not torch.allclose(again[1], samples[1])
