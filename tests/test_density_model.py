"""Every density model: it integrates to one, samples follow it, gradients in chunks, reverse KL, training in seeds."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import vae_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import cumulative_trapezoid, trapezoid
from scipy.stats import chisquare, kstest
from torch import Tensor

from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.density_model import DensityModel, Likelihood, ReverseKL
from neumix.models import coupling_flow, cwm
from neumix.models.cwm import mixture
from neumix.models.cwm.gaussian_start import EM
from neumix.models.cwm.maps import Affine, Spline
from neumix.schedule import Stage
from neumix.seeding import numpy_rng
from neumix.targets import target
from neumix.training import Phase, Trained, fit, generators

NLL = Likelihood(name="nll")
DIAGONAL, FULL, SPLINE = Affine(name="diagonal"), Affine(name="full"), Spline(name="spline", hidden=(6,), bins=4)
COMPONENTS = 3


def mixture_config(maps, base="normal", hidden=(6,), **changes):
    return cwm.Config(components=COMPONENTS, hidden=hidden, maps=maps, base=base, **changes)


MODELS = {
    "diagonal normal": mixture_config(DIAGONAL),
    "diagonal laplace": mixture_config(DIAGONAL, "laplace"),
    "diagonal logistic": mixture_config(DIAGONAL, "logistic", (5, 4)),
    "full normal": mixture_config(FULL),
    "full laplace": mixture_config(FULL, "laplace", ()),
    "full constant": mixture_config(FULL, hidden=None),
    "spline normal": mixture_config(SPLINE),
    "spline logistic": mixture_config(SPLINE, "logistic"),
    "rnvp": coupling_flow.Config(univariate="affine", transforms=4, hidden=(8,)),
    "nsf": coupling_flow.Config(univariate="spline", transforms=2, hidden=(8,), bins=4),
}
ALL = pytest.mark.parametrize("name", MODELS)


def build(config, dimension: int = 2, seeds: tuple[int, ...] = (0, 1), scale: float = 0.3) -> DensityModel:
    """Return a model with scattered parameters, those of a classifier most, those of a flow least."""
    if isinstance(config, coupling_flow.Config):
        model = coupling_flow.Model(config, {"x": (dimension,)}, generators(seeds, "init"))
        reference.scatter(model, scale / 3)
        return model
    model = cwm.Model(config, {"x": (dimension,)}, generators(seeds, "init"))
    reference.scatter(model, scale)
    reference.scatter(model.classifier, 5 * scale)
    return model


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def midpoints(reach: float, step: float) -> Tensor:
    """Return the centres of squares that tile [-reach, reach]^2, (1, N, 2)."""
    axis = torch.arange(-reach + step / 2, reach, step)
    return torch.cartesian_prod(axis, axis)[None]


def counts_and_expected(samples: Tensor, log_prob, side: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Return how many samples (N, 2) fall into unit squares around 0 and how many should; the last is the rest."""
    density = log_prob(midpoints(side, 0.1)).exp()[0].double().numpy().reshape(2 * side, 10, 2 * side, 10)
    expected = len(samples) * density.sum((1, 3)).ravel() * 0.1**2
    cell = (samples + side).floor().long()
    inside = ((cell >= 0) & (cell < 2 * side)).all(-1)
    counts = np.bincount((cell[inside] @ torch.tensor([2 * side, 1])).numpy(), minlength=4 * side**2)
    filled = expected >= 5
    counts, expected = counts[filled], expected[filled]
    return np.append(counts, len(samples) - counts.sum()), np.append(expected, len(samples) - expected.sum())


def p_value(samples: Tensor, log_prob) -> float:
    counts, expected = counts_and_expected(samples, log_prob)
    return float(chisquare(counts, expected).pvalue)


def flattened(model: cwm.Model, samples: Tensor) -> cwm.Model:
    """Return the ordinary mixture with the same components and the same shares of them, for one seed."""
    ordinary = build(mixture_config(DIAGONAL, hidden=None), samples.shape[-1], (0,))
    ordinary.base, ordinary.maps = model.base, model.maps
    with torch.no_grad():
        ordinary.classifier.make_constant(model.responsibilities(samples).mean(1).log())
    return ordinary


def plane(name: str) -> tuple[Tensor, float]:
    """Return points that tile what matters to a model, (1, N, 2), and the area of each tile."""
    bases = {"normal": (10, 0.1), "laplace": (17, 0.1), "logistic": (26, 0.2)}
    reach, step = (40, 0.2) if name == "rnvp" else bases[getattr(MODELS[name], "base", "normal")]
    return midpoints(reach, step), step**2


class TestDensity:
    @ALL
    @torch.no_grad()
    def test_it_integrates_to_one_in_the_plane(self, name):
        grid, area = plane(name)
        found = build(MODELS[name], seeds=(0,)).log_prob_of(grid).double().exp().sum() * area
        assert found.item() == pytest.approx(1, abs=2e-3)

    @settings(max_examples=25, deadline=None)
    @given(
        st.sampled_from([DIAGONAL, FULL]),
        st.sampled_from(["normal", "laplace", "logistic"]),
        st.sampled_from([None, (), (5,), (4, 4)]),
        st.floats(0, 0.5),
        st.integers(0, 1000),
    )
    @torch.no_grad()
    def test_it_integrates_to_one_on_the_line(self, maps, base, hidden, scale, seed):
        model = build(mixture_config(maps, base, hidden), 1, (seed, seed + 1), scale).double()
        grid = torch.linspace(-80, 80, 16_001).double()
        density = model.log_prob(grid.view(1, -1, 1).expand(2, -1, -1)).exp()
        np.testing.assert_allclose(trapezoid(density.numpy(), grid.numpy()), 1, atol=2e-3)

    @ALL
    @torch.no_grad()
    def test_samples_follow_it_in_the_plane(self, name):
        model, other = (build(MODELS[name], seeds=(seed,)) for seed in (0, 1))
        samples = model.sample(20_000, generators([0], "samples"))
        assert samples.shape == (1, 20_000, 2)
        counts, expected = counts_and_expected(samples[0], model.log_prob)
        assert len(counts) > 20
        assert counts.sum() == pytest.approx(expected.sum()) == 20_000
        assert p_value(samples[0], model.log_prob) > 1e-3
        assert p_value(samples[0], other.log_prob) < 1e-10
        if isinstance(model, cwm.Model) and MODELS[name].hidden is not None:
            assert p_value(samples[0], flattened(model, samples).log_prob) < 1e-10, "the classifier matters"

    @pytest.mark.parametrize("base", ["normal", "laplace", "logistic"])
    @pytest.mark.parametrize("maps", [DIAGONAL, FULL], ids=["diagonal", "full"])
    @torch.no_grad()
    def test_samples_follow_it_on_the_line(self, maps, base):
        model = build(mixture_config(maps, base), 1, (0,))
        samples = model.sample(20_000, generators([0], "samples"))
        grid = torch.linspace(-60, 60, 12_001)

        def distribution(log_prob):
            density = log_prob(grid.view(1, -1, 1))[0].exp().double().numpy()
            cumulative = cumulative_trapezoid(density, grid.numpy(), initial=0)
            return lambda x: np.interp(x, grid.numpy(), cumulative)

        values = samples[0, :, 0].numpy()
        assert kstest(values, distribution(model.log_prob)).pvalue > 1e-3
        assert kstest(values, distribution(flattened(model, samples).log_prob)).pvalue < 1e-6

    @ALL
    @torch.no_grad()
    def test_the_seed_of_the_noise_decides_the_samples_of_its_model_alone(self, name):
        model = build(MODELS[name])
        first, again, moved = (
            model.sample(9, [*generators([0], "noise"), *generators([seed], "noise")]) for seed in (1, 1, 2)
        )
        assert torch.equal(first, again)
        assert torch.equal(first[0], moved[0])
        assert not torch.equal(first[1], moved[1])


def set_chunk(monkeypatch, points: int) -> None:
    monkeypatch.setattr(mixture, "_PAIRS_AT_ONCE", {"cpu": points * COMPONENTS})
    monkeypatch.setattr(coupling_flow, "_CHUNK", points)


def gradients(value: Tensor, model: DensityModel) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(model.parameters())))


TRAINED = pytest.mark.parametrize("name", MODELS)


class TestLikelihood:
    @TRAINED
    def test_its_gradients_are_those_of_plain_autograd_whatever_the_chunk(self, name, monkeypatch):
        model, x = build(MODELS[name]), normal(2, 20, 2)
        plain = -model.log_prob(x).mean(1)
        expected = gradients(plain.sum(), model)
        for points in (1, 7, 20, 50):
            set_chunk(monkeypatch, points)
            assert model.chunk == points
            loss = model.loss({"x": x}, NLL, generators(range(2), "noise"))
            torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-5)
            for found, wanted in zip(gradients(loss.sum(), model), expected, strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)

    @TRAINED
    def test_a_factor_of_a_seed_scales_its_gradients_alone(self, name, monkeypatch):
        set_chunk(monkeypatch, 7)
        model, x = build(MODELS[name]), normal(2, 20, 2)
        plain, scaled = (
            gradients((torch.tensor(factors) * model.loss({"x": x}, NLL, [])).sum(), model)
            for factors in ([1.0, 1.0], [0.0, -2.5])
        )
        for found, wanted in zip(scaled, plain, strict=True):
            assert not found.chunk(2)[0].any()
            torch.testing.assert_close(found.chunk(2)[1], -2.5 * wanted.chunk(2)[1])

    @ALL
    def test_the_log_density_does_not_depend_on_the_chunk(self, name, monkeypatch):
        model, x = build(MODELS[name]), normal(2, 20, 2)
        with torch.no_grad():
            expected = model.log_prob(x)
            for points in (1, 7, 50):
                set_chunk(monkeypatch, points)
                torch.testing.assert_close(model.log_prob_of(x), expected, rtol=1e-5, atol=1e-5)

    @ALL
    def test_without_gradients_none_is_computed(self, name, monkeypatch):
        model, x = build(MODELS[name]), normal(2, 20, 2)
        monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("differentiated"))
        with torch.no_grad():
            loss = model.loss({"x": x}, NLL, generators(range(2), "noise"))
            torch.testing.assert_close(loss, -model.log_prob(x).mean(1))
        assert not loss.requires_grad

    @ALL
    def test_a_seed_s_loss_does_not_depend_on_the_others(self, name):
        together, x = build(MODELS[name], seeds=(0, 1, 2), scale=0), normal(3, 8, 2)
        found = together.loss({"x": x}, NLL, [])
        assert len(set(found.tolist())) == 3
        for position in range(3):
            alone = build(MODELS[name], seeds=(position,), scale=0)
            torch.testing.assert_close(alone.loss({"x": x[position : position + 1]}, NLL, [])[0], found[position])
            assert alone.n_parameters == together.n_parameters == sum(part.numel() for part in alone.parameters())


class TestReverseKL:
    LOSS = ReverseKL(name="reverse_kl", target="mixture")

    @pytest.mark.parametrize("name", ["diagonal normal", "full constant", "spline normal", "rnvp", "nsf"])
    @torch.no_grad()
    def test_it_is_the_divergence_from_the_target(self, name):
        model, (grid, area) = build(MODELS[name], seeds=(0,)), plane(name)
        log_density = model.log_prob_of(grid).double()
        exact = (log_density.exp() * (log_density - target("mixture").log_prob(grid.double()))).sum() * area
        draws = torch.stack(
            [model.loss({"x": torch.zeros(1, 500, 2)}, self.LOSS, generators([seed], "noise")) for seed in range(16)]
        )
        assert draws.mean().item() == pytest.approx(exact.item(), abs=4 * draws.std().item() / 4)
        assert 0 < draws.std() < 0.5 * exact

    @pytest.mark.parametrize("name", ["diagonal normal", "full normal", "spline normal", "rnvp", "nsf"])
    def test_its_gradients_are_finite_differences_with_the_same_draws(self, name):
        torch.set_default_dtype(torch.float64)
        try:
            model = build(MODELS[name])
            noise = lambda: generators(range(2), "noise")  # noqa: E731
            found = gradients(model.reverse_kl(self.LOSS, 20, noise()).sum(), model)
            direction = [normal(*part.shape, seed=index) for index, part in enumerate(model.parameters())]
            ends = []
            with torch.no_grad():
                for step in (1e-6, -2e-6):
                    for parameter, along in zip(model.parameters(), direction, strict=True):
                        parameter.add_(step * along)
                    ends.append(model.reverse_kl(self.LOSS, 20, noise()).sum())
            slope = sum((part * along).sum() for part, along in zip(found, direction, strict=True))
            assert slope.item() == pytest.approx(((ends[0] - ends[1]) / 2e-6).item(), rel=1e-5)
        finally:
            torch.set_default_dtype(torch.float32)

    def test_its_draws_are_as_many_as_the_points_of_a_batch(self, monkeypatch):
        model, asked = build(MODELS["rnvp"]), []

        def sample(size, noise):
            asked.append(size)
            return torch.zeros(2, size, 2)

        monkeypatch.setattr(model, "sample", sample)
        model.loss({"x": torch.full((2, 13, 2), torch.nan)}, self.LOSS, generators(range(2), "noise"))
        assert asked == [13]


def training(folder: Path, config, phases: list[Phase], seeds: tuple[int, ...]) -> Trained:
    points = [target("banana").sample(400, numpy_rng(seed, "points")) for seed in seeds]
    dataset = Dataset({"train": Split({"x": Field(np.stack(points).astype(np.float32), per_seed=True)})}, "banana")
    model = build(config, seeds=seeds, scale=0)
    checkpointer = Checkpointer(folder / "-".join(map(str, seeds)), "density")
    return fit(model, dataset, phases, seeds, checkpointer, name="density", device=torch.device("cpu"))


def phase(loss, epochs: int, **changes) -> Phase:
    stage = Stage(loss=dataclasses.asdict(loss), epochs=epochs, batch_size=100, learning_rate=1e-2, **changes)
    return Phase(loss.name, stage, loss)


class TestTraining:
    PLANS = {
        "diagonal normal": [phase(EM(name="em", iterations=5), 0), phase(NLL, 8)],
        "spline normal": [phase(EM(name="em", iterations=5), 0), phase(NLL, 4)],
        "rnvp": [phase(NLL, 8, clip_norm=1.0)],
        "nsf": [phase(NLL, 8)],
    }

    @pytest.mark.parametrize("name", PLANS)
    def test_the_loss_falls_and_seeds_do_not_see_each_other(self, name, tmp_path):
        both, alone = (training(tmp_path, MODELS[name], self.PLANS[name], seeds) for seeds in ((0, 1), (1,)))
        for column in ("loss_0", "loss_1"):
            assert both.history[-1][column] < both.history[0][column] - 0.02
        assert alone.history[-1]["loss_0"] == pytest.approx(both.history[-1]["loss_1"], rel=1e-4)
        assert alone.weights.keys() == both.weights.keys()
        for key, values in alone.weights.items():
            first, second = both.weights[key].chunk(2)
            torch.testing.assert_close(second, values, rtol=2e-3, atol=2e-3, msg=lambda text, key=key: key + text)
            assert not values.any() or not torch.allclose(first, values), key

    @pytest.mark.parametrize("name", ["diagonal normal", "full normal", "spline normal", "rnvp", "nsf"])
    def test_reverse_kl_to_a_target_falls(self, name, tmp_path):
        trained = training(tmp_path, MODELS[name], [phase(ReverseKL(name="reverse_kl", target="banana"), 12)], (0, 1))
        for column in ("loss_0", "loss_1"):
            curve = [row[column] for row in trained.history]
            assert min(curve) > -0.1, "a divergence is not negative, up to noise"
            assert curve[-1] < 0.8 * curve[0]

    def test_leaving_out_components_in_low_precision_trains_nearly_as_well(self, tmp_path):
        start = phase(EM(name="em", iterations=5), 0)
        quick = phase(Likelihood(name="nll", tolerance=1e-5), 8, precision="bfloat16")
        exact, rough = (
            training(tmp_path / name, MODELS["diagonal normal"], [start, plan], (0,))
            for name, plan in {"exact": phase(NLL, 8), "rough": quick}.items()
        )
        assert math.isclose(exact.history[-1]["loss_0"], rough.history[-1]["loss_0"], rel_tol=0.01)
