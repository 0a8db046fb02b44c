"""Continuous normalising flows: losses and gradients, probes, flow matching of Gaussians, training, precision."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import vae_reference
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.density_model import ReverseKL
from neumix.models import cnf
from neumix.models.cnf import Config, FlowMatching, Likelihood, Loss, Model
from neumix.ode_flow import Dopri5, Exact, Hutchinson, RungeKutta, directions
from neumix.schedule import Stage
from neumix.seeding import numpy_rng
from neumix.settings import CatalogueError, parse
from neumix.training import Phase, fit, generators
from neumix.vector_field import Convolutional, Perceptron, VectorField

EXACT = Exact(name="exact")
PROBES = Hutchinson(name="hutchinson", probes=2)
RK4 = RungeKutta(name="rk4", steps=4)
VECTORS = Perceptron(name="mlp", hidden=(6, 5), activation="tanh")
IMAGES = Convolutional(name="cnn", hidden=(4, 3), squeeze=1, scales=2)
KINDS: dict[str, tuple[Any, tuple[int, ...]]] = {"vectors": (VECTORS, (3,)), "images": (IMAGES, (4, 4, 1))}
EVERY = pytest.mark.parametrize("kind", KINDS)
LOSSES = {
    "exact": Likelihood(name="nll", trace=EXACT),
    "hutchinson": Likelihood(name="nll"),
    "gaussian": Likelihood(name="nll", trace=Hutchinson(name="hutchinson", noise="gaussian", probes=2)),
    "penalised": Likelihood(name="nll", kinetic=0.3, jacobian=0.2),
    "adaptive": Likelihood(name="nll", solver=Dopri5(name="dopri5", tolerance=1e-4)),
    "matching": FlowMatching(name="flow_matching"),
    "optimal": FlowMatching(name="flow_matching", coupling="optimal"),
}
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def noise(seeds=(0, 1)) -> list[torch.Generator]:
    return generators(seeds, "noise")


def build(kind: str = "vectors", *, seeds=(0, 1), scale: float = 0.3, **changes: Any) -> Model:
    """Return a model in float64 whose parameters have moved from their start."""
    field, shape = KINDS[kind]
    model = Model(Config(**{"field": field, "solver": RK4, **changes}), {"x": shape}, generators(seeds, "init"))
    vae_reference.scatter(model, scale)
    return model.double()


def points(kind: str, *leading: int, seed: int = 0) -> Tensor:
    return normal(*leading, *KINDS[kind][1], seed=seed)


def step(model: Model, x: Tensor, loss: Likelihood | FlowMatching, seeds=(0, 1)) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of each seed and the gradient of their sum."""
    model.zero_grad()
    value = model.loss({"x": x}, loss, noise(seeds))
    value.sum().backward()
    return value.detach(), {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


class TestLikelihood:
    @EVERY
    @pytest.mark.parametrize("trace", [EXACT, PROBES], ids=["exact", "hutchinson"])
    def test_value_and_gradient_in_chunks(self, monkeypatch, kind, trace):
        model, x = build(kind), points(kind, 2, 5)
        loss = Likelihood(name="nll", trace=trace, solver=RungeKutta(name="rk4", steps=3), kinetic=0.3, jacobian=0.2)
        log_prob, energies = model.flow.density(x, directions(trace, x, noise()), loss.solver, energies=True)
        expected = (0.3 * energies[..., 0] + 0.2 * energies[..., 1] - log_prob).mean(1)
        gradients = torch.autograd.grad(expected.sum(), list(model.parameters()))
        for at_once in (cnf._AT_ONCE, 1):
            monkeypatch.setattr(cnf, "_AT_ONCE", at_once)
            value, found = step(model, x, loss)
            torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
            torch.testing.assert_close(list(found.values()), list(gradients), rtol=1e-9, atol=1e-9)

    @EVERY
    def test_without_penalties_it_is_minus_the_mean_log_density(self, kind):
        model, x = build(kind, trace=EXACT), points(kind, 2, 5)
        expected = -model.log_prob(x).mean(1)
        torch.testing.assert_close(step(model, x, Likelihood(name="nll"))[0], expected)
        dearer, _ = step(model, x, Likelihood(name="nll", kinetic=1.0))
        assert (dearer > expected).all()

    def test_solver_and_trace_are_those_of_the_model_unless_the_loss_has_its_own(self):
        model, x = build(trace=EXACT), points("vectors", 2, 5)
        own = Likelihood(name="nll", trace=PROBES, solver=RungeKutta(name="rk4", steps=1))
        same = build(trace=PROBES, solver=RungeKutta(name="rk4", steps=1))
        torch.testing.assert_close(step(model, x, own), step(same, x, Likelihood(name="nll")))
        assert not torch.allclose(step(model, x, own)[0], step(model, x, Likelihood(name="nll"))[0])

    def test_it_starts_as_the_standard_gaussian(self):
        model = Model(Config(field=VECTORS), {"x": (3,)}, generators((0, 1), "init"))
        x = points("vectors", 2, 5).float()
        gaussian = MultivariateNormal(torch.zeros(3), torch.eye(3))
        torch.testing.assert_close(model.log_prob(x), gaussian.log_prob(x))
        assert torch.equal(model.spaces(x, [0.0, 0.5, 1.0]), torch.stack([x] * 3, 2))


class TestEvaluation:
    @EVERY
    def test_the_exact_log_density(self, kind):
        model, x = build(kind, trace=EXACT), points(kind, 2, 5)
        expected, _ = model.flow.density(x, directions(EXACT, x, []), RK4)
        torch.testing.assert_close(model.log_prob(x), expected)
        torch.testing.assert_close(model.log_prob_of(x), expected)
        finer, _ = model.flow.density(x, directions(EXACT, x, []), RungeKutta(name="rk4", steps=9), start=0.25)
        found = model.log_prob(x, start=0.25, solver=RungeKutta(name="rk4", steps=9))
        torch.testing.assert_close(found, finer)

    @EVERY
    def test_probes_are_the_same_at_each_call_or_of_given_generators(self, kind):
        model, x = build(kind, trace=PROBES), points(kind, 2, 5)
        assert torch.equal(model.log_prob(x), model.log_prob(x))
        given = model.log_prob(x, noise())
        assert torch.equal(given, model.log_prob(x, noise()))
        assert not torch.allclose(given, model.log_prob(x))
        expected, _ = model.flow.density(x, directions(PROBES, x, noise()), RK4)
        torch.testing.assert_close(given, expected)

    @EVERY
    def test_in_chunks_every_point_has_probes_of_its_own(self, monkeypatch, kind):
        model, x = build(kind, trace=PROBES), points(kind, 2, 1).repeat_interleave(6, 1)
        whole = model.log_prob_of(x)
        assert len(whole[0].unique()) > 1
        monkeypatch.setattr(cnf, "_AT_ONCE", 1)
        assert model.chunk == 1
        torch.testing.assert_close(model.log_prob_of(x), whole)

    @EVERY
    def test_more_probes_come_nearer_to_the_exact_trace(self, kind):
        model, x = build(kind), points(kind, 2, 40)
        exact = model.log_prob(x, trace=EXACT)
        few, many = (model.log_prob(x, trace=Hutchinson(name="hutchinson", probes=n)) for n in (1, 100))
        assert (many - exact).square().mean() < (few - exact).square().mean() / 25
        spread = (few - exact).std() / math.sqrt(few.numel())
        assert (few - exact).mean().abs() < 4 * spread

    @EVERY
    def test_spaces_lead_from_the_data_to_the_latent(self, monkeypatch, kind):
        model, x = build(kind), points(kind, 2, 5)
        times = [1.0, 0.6, 0.0]
        spaces = model.spaces(x, times)
        assert spaces.shape == (2, 5, 3, *KINDS[kind][1])
        assert torch.equal(spaces[:, :, 2], x)
        torch.testing.assert_close(spaces[:, :, 0], model.latent(x))
        monkeypatch.setattr(cnf, "_AT_ONCE", 1)
        torch.testing.assert_close(model.spaces(x, times), spaces)

    @EVERY
    def test_decoding_undoes_encoding(self, monkeypatch, kind):
        model, x = build(kind, solver=RungeKutta(name="rk4", steps=30)), points(kind, 2, 5)
        z = model.latent(x)
        assert not torch.allclose(z, x, atol=0.1)
        torch.testing.assert_close(model.decode(z), x, rtol=0, atol=1e-5)
        monkeypatch.setattr(cnf, "_AT_ONCE", 1)
        torch.testing.assert_close(model.decode(z), x, rtol=0, atol=1e-5)

    @EVERY
    def test_samples_are_decoded_noise(self, kind):
        model = build(kind).float()
        samples = model.sample(4, noise())
        assert samples.shape == (2, 4, *KINDS[kind][1])
        z = torch.stack([torch.randn(4, *KINDS[kind][1], generator=generator) for generator in noise()])
        assert torch.equal(samples, model.decode(z))
        assert torch.equal(samples, model.sample(4, noise()))

    def test_expectations_have_gradients(self):
        model = build()

        def mean(values: vae_reference.Weights) -> Tensor:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(values[name])
                return model.expectation(lambda x: x.square().sum(2), 6, noise()).sum()

        start = {name: value.clone() for name, value in vae_reference.weights(model).items()}
        model.expectation(lambda x: x.square().sum(2), 6, noise()).sum().backward()
        found = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
        for name, (direction, expected) in vae_reference.slopes(mean, start).items():
            assert (found[name] * direction).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-6), name

    def test_reverse_kl_to_itself_is_none_at_the_start(self):
        model = Model(Config(field=VECTORS, trace=EXACT), {"x": (2,)}, generators((0, 1), "init"))
        divergence = model.reverse_kl(ReverseKL(name="reverse_kl", target="banana"), 500, noise())
        assert divergence.shape == (2,)
        assert (divergence > 0).all()

    def test_number_of_evaluations(self):
        model, x = build(), points("vectors", 2, 5)
        assert model.evaluations(x) == (16, 16)
        adaptive = model.evaluations(x, Dopri5(name="dopri5", tolerance=1e-8))
        assert min(adaptive) > 16

    def test_chunks_hold_the_directions_as_well(self):
        values = build("images").flow.field.hidden_values
        assert build("images", trace=PROBES).chunk == cnf._AT_ONCE // (3 * values)
        assert build("images", trace=EXACT).chunk == cnf._AT_ONCE // (17 * values)
        assert build("images", trace=EXACT, seeds=(0,)).chunk == build("images", trace=EXACT).chunk

    @EVERY
    def test_number_of_parameters_of_a_seed(self, kind):
        assert build(kind).n_parameters == build(kind, seeds=(4,)).n_parameters
        if kind == "vectors":
            assert build(kind).n_parameters == (4 + 1) * 6 + (7 + 1) * 5 + (6 + 1) * 3

    @EVERY
    def test_state_dict_round_trip(self, kind):
        model, other, x = build(kind, seeds=(0, 1)), build(kind, seeds=(5, 6)), points(kind, 2, 5)
        assert not torch.allclose(model.log_prob(x), other.log_prob(x))
        other.load_state_dict(model.state_dict())
        assert torch.equal(model.log_prob(x), other.log_prob(x))


class Gaussian(VectorField):
    """The best velocity for data N(m, sd^2), times a factor and with an offset."""

    def __init__(self, mean: float, sd: float) -> None:
        super().__init__((1,))
        self.mean, self.sd = mean, sd
        self.factor, self.offset = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))

    @property
    def hidden_values(self) -> int:
        return 1

    def forward(self, u: Tensor, s: Tensor, directions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s = s[..., None]
        variance = ((1 - s) * self.sd) ** 2 + s**2
        velocity = (s - (1 - s) * self.sd**2) / variance * (u - (1 - s) * self.mean) - self.mean
        return self.factor * velocity + self.offset, u.new_zeros(0)

    def _propagate(self, u, s):
        raise NotImplementedError


class TestFlowMatching:
    def gaussian(self, mean: float, sd: float, size: int = 200_000) -> tuple[Model, Tensor]:
        model = Model(Config(field=VECTORS), {"x": (1,)}, generators([0], "init"))
        model.flow.field = Gaussian(mean, sd)
        return model, (mean + sd * normal(1, size, 1)).float()

    @pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (2.0, 0.5), (-1.0, 3.0)])
    def test_the_velocity_of_a_gaussian_is_the_minimiser(self, mean, sd):
        model, x = self.gaussian(mean, sd)
        loss, gradient = step(model, x, LOSSES["matching"], seeds=[0])
        # What is left is the variance of the velocity given place and time, sd^2 / ((1 - s)^2 sd^2 + s^2), over time.
        torch.testing.assert_close(loss, torch.tensor([sd * math.pi / 2]), rtol=0.02, atol=0)
        for name in ("flow.field.factor", "flow.field.offset"):
            at_best = gradient[name].abs().item()
            with torch.no_grad():
                dict(model.named_parameters())[name].add_(0.2)
            worse, slope = step(model, x, LOSSES["matching"], seeds=[0])
            assert worse > loss
            assert at_best < 0.15 * slope[name].item()
            with torch.no_grad():
                dict(model.named_parameters())[name].sub_(0.2)

    def test_the_velocity_of_a_gaussian_carries_it_to_the_standard_gaussian(self):
        model, x = self.gaussian(2.0, 0.5)
        latent = model.flow.latent(x[:, :50], RungeKutta(name="rk4", steps=50))
        torch.testing.assert_close(latent, (x[:, :50] - 2) / 0.5, rtol=1e-3, atol=1e-3)

    @EVERY
    def test_value_is_that_of_plain_paths(self, kind):
        model, x = build(kind), points(kind, 2, 5)
        found, _ = step(model, x, LOSSES["matching"])
        given = noise()
        z = torch.stack([torch.randn(x.shape[1:], generator=generator) for generator in given]).double()
        times = torch.stack([torch.rand(5, generator=generator) for generator in given]).double()
        for seed in range(2):
            errors = []
            for place, s in enumerate(times[seed]):
                u = (1 - s) * x[seed, place] + s * z[seed, place]
                velocity = model.flow.field(u.expand(2, 1, *u.shape), s)[0][seed, 0]
                errors.append((velocity - (z[seed, place] - x[seed, place])).square().mean())
            torch.testing.assert_close(found[seed], torch.stack(errors).mean())

    @EVERY
    @pytest.mark.parametrize("name", ["matching", "optimal"])
    def test_chunks_do_not_matter(self, monkeypatch, kind, name):
        model, x = build(kind), points(kind, 2, 7)
        whole = step(model, x, LOSSES[name])
        monkeypatch.setattr(cnf, "_AT_ONCE", 1)
        torch.testing.assert_close(step(model, x, LOSSES[name]), whole)

    def test_the_optimal_coupling_has_the_least_squared_distance_of_all(self):
        x, z = normal(5, 2, 2, 1), normal(5, 2, 2, 1, seed=1)
        found = cnf._assigned(x, z)
        orders = [list(order) for order in itertools.permutations(range(5))]
        costs = torch.stack([(x - z[order]).square().sum() for order in orders])
        torch.testing.assert_close((x - found).square().sum(), costs.min())
        assert torch.equal(found, z[orders[int(costs.argmin())]])

    def test_the_optimal_coupling_is_that_of_each_seed(self):
        model, x = build(), points("vectors", 2, 30)
        straight, plain = step(model, x, LOSSES["optimal"])[0], step(model, x, LOSSES["matching"])[0]
        for seed in range(2):
            alone = build(seeds=[seed])
            one = slice(seed, seed + 1)
            alone.load_state_dict({name: value[one] for name, value in model.state_dict().items()})
            torch.testing.assert_close(step(alone, x[one], LOSSES["optimal"], [seed])[0], straight[one])
        assert not torch.allclose(straight, plain)


@EVERY
@EVERY_LOSS
def test_seeds_together_are_each_seed_alone(kind, loss):
    together, x = build(kind, seeds=(3, 4)), points(kind, 2, 6)
    value, gradients = step(together, x, loss, (3, 4))
    for place, seed in enumerate((3, 4)):
        one = slice(place, place + 1)
        alone = build(kind, seeds=[seed])
        alone.load_state_dict({name: values[one] for name, values in together.state_dict().items()})
        found, own = step(alone, x[one], loss, [seed])
        torch.testing.assert_close(found, value[one])
        torch.testing.assert_close(own, {name: gradient[one] for name, gradient in gradients.items()})


@EVERY
@pytest.mark.parametrize("name", ["hutchinson", "penalised", "matching"])
def test_products_in_bfloat16_leave_losses_and_states_in_single_precision(kind, name):
    model, x = build(kind).float(), points(kind, 2, 6).float()
    value, gradients = step(model, x, LOSSES[name])
    spaces, log_prob = model.spaces(x, [0.0, 0.5, 1.0]), model.log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        low, low_gradients = step(model, x, LOSSES[name])
        found = model.spaces(x, [0.0, 0.5, 1.0]), model.log_prob(x)
    assert low.dtype == found[0].dtype == found[1].dtype == torch.float32
    assert torch.equal(found[0][:, :, 0], x), "states are not rounded"
    assert not torch.equal(low, value)
    torch.testing.assert_close(low, value, rtol=0.02, atol=0.02)
    torch.testing.assert_close(found, (spaces, log_prob), rtol=0.02, atol=0.1)
    for key, gradient in gradients.items():
        assert (low_gradients[key] - gradient).norm() < 0.1 * gradient.norm() + 1e-3, key


def test_adaptive_steps_are_not_taken_in_bfloat16():
    model, x = build().float(), points("vectors", 2, 6).float()
    solver = Dopri5(name="dopri5", tolerance=1e-4)
    expected, counts = step(model, x, Likelihood(name="nll", solver=solver)), model.evaluations(x, solver)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(step(model, x, Likelihood(name="nll", solver=solver)), expected)
        assert model.evaluations(x, solver) == counts


CENTRES = 2 * np.stack([np.cos(np.arange(3) * 2 * np.pi / 3), np.sin(np.arange(3) * 2 * np.pi / 3)], 1)


def three_blobs(name: str, size: int) -> np.ndarray:
    rng = numpy_rng(0, "blobs", name)
    return (CENTRES[rng.integers(3, size=size)] + 0.5 * rng.normal(size=(size, 2))).astype(np.float32)


@pytest.mark.parametrize(("loss", "size", "batch"), [("matching", 25_600, 256), ("exact", 2560, 128)])
def test_training_comes_near_to_the_entropy(tmp_path: Path, loss: str, size: int, batch: int):
    train, test = three_blobs("train", size), torch.from_numpy(three_blobs("test", 2000))
    dataset = Dataset({"train": Split({"x": Field(train)})}, "blobs")
    field = Perceptron(name="mlp", hidden=(64, 64), activation="sin")
    model = Model(Config(field=field, solver=RK4, trace=EXACT), dataset.shapes, generators([0], "init"))
    settings = {"name": LOSSES[loss].name}
    schedule = {"name": "step", "every": 3, "factor": 0.2}
    stage = Stage(loss=settings, epochs=4, batch_size=batch, learning_rate=1e-2, schedule=schedule)
    phase = Phase("main", stage, parse(Loss, settings, "test"))
    checkpointer = Checkpointer(tmp_path, "test")
    trained = fit(model, dataset, [phase], [0], checkpointer, name="test", device=torch.device("cpu"))
    model.load_state_dict({name.removeprefix("main/"): value for name, value in trained.weights.items()})
    blobs = MultivariateNormal(torch.from_numpy(CENTRES).float(), 0.25 * torch.eye(2))
    entropy = math.log(3) - blobs.log_prob(test[:, None]).logsumexp(1).mean().item()
    with torch.no_grad():
        nll = -model.log_prob_of(test[None]).mean().item()
    gaussian = math.log(2 * math.pi * math.e * 2.25)
    assert entropy + 1 < gaussian
    assert entropy - 0.03 < nll < entropy + 0.15


class TestSettings:
    def test_they_are_read_from_the_catalogue(self):
        written = {
            "field": {"name": "cnn", "hidden": [64, 64], "activation": "sin", "squeeze": 1},
            "solver": {"name": "dopri5", "tolerance": 1e-4},
            "trace": {"name": "hutchinson", "noise": "gaussian", "probes": 4},
        }
        config = parse(Config, written, "test")
        assert config.field == Convolutional(name="cnn", hidden=(64, 64), activation="sin", squeeze=1)
        assert config.solver == Dopri5(name="dopri5", tolerance=1e-4)
        assert config.trace == Hutchinson(name="hutchinson", noise="gaussian", probes=4)
        loss = parse(Loss, {"name": "nll", "solver": {"name": "rk4", "steps": 4}, "kinetic": 0.01}, "test")
        assert loss == Likelihood(name="nll", solver=RungeKutta(name="rk4", steps=4), kinetic=0.01)
        assert parse(Loss, {"name": "flow_matching"}, "test") == FlowMatching(name="flow_matching")

    @pytest.mark.parametrize(
        "written",
        [
            {"field": {"name": "mlp"}, "solver": {"name": "rk4", "steps": 0}},
            {"field": {"name": "mlp"}, "solver": {"name": "rk4", "tolerance": 1e-3}},
            {"field": {"name": "mlp"}, "trace": {"name": "hutchinson", "probes": 0}},
            {"field": {"name": "mlp"}, "trace": {"name": "sampled"}},
            {},
        ],
        ids=str,
    )
    def test_what_cannot_be_meant_is_refused(self, written):
        with pytest.raises(CatalogueError):
            parse(Config, written, "test")

    def test_a_negative_penalty_is_refused(self):
        with pytest.raises(CatalogueError, match="kinetic"):
            parse(Loss, {"name": "nll", "kinetic": -1.0}, "test")
