"""Mixtures of flows and latent Gaussians: one component at a time, unit mass, latents and back, priors, settings."""

import math
from typing import Any

import pytest
import torch
import vae_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from test_density_model import midpoints
from torch import Tensor
from torch.distributions import Gamma, Independent, Normal

from neumix.flow_mixture import Architecture, FlowComponents, standard_log_prob
from neumix.glow import Glow
from neumix.training import generators

SHAPES = pytest.mark.parametrize(("shape", "blocks"), [((1, 1, 5), 2), ((4, 4, 1), 1), ((4, 8, 2), 2)])
KINDS: dict[str, dict[str, Any]] = {
    "one": {},
    "genmm": {"generators": 3},
    "genmm lu": {"generators": 2, "mixing": "lu"},
    "latmm": {"sources": 3},
    "latmm coordinate": {"sources": 3, "tied": "coordinate"},
    "both": {"generators": 2, "sources": 3},
    "both coordinate lu": {"generators": 3, "sources": 2, "tied": "coordinate", "mixing": "lu"},
    "individual": {"individual": 3},
    "individual lu": {"individual": 2, "mixing": "lu"},
}
EVERY = pytest.mark.parametrize("kind", KINDS)
WITH_SOURCES = pytest.mark.parametrize("kind", [kind for kind, changes in KINDS.items() if "sources" in changes])
MIXTURES = 2


def build(kind: str, shape=(4, 4, 1), blocks=1, scale: float = 0.1, mixtures: int = MIXTURES) -> FlowComponents:
    """Return components in float64 whose parameters have moved from their start by noise."""
    content = {"blocks": blocks, "steps": 2, "hidden": 5, "individual_steps": 3, **KINDS[kind]}
    components = FlowComponents(Architecture(**content), shape, generators(range(mixtures), "init"))
    vae_reference.scatter(components, scale)
    return components.double()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def alone(flows: Glow, index: int, **sizes: Any) -> Glow:
    """Return one of several flows by itself."""
    flow = Glow(flows.shape, generators=generators((9,), "init"), **sizes).double()
    flow.load_state_dict({name: value[index : index + 1] for name, value in flows.state_dict().items()})
    return flow


def plain(components: FlowComponents, mixture: int, component: int, x: Tensor) -> Tensor:
    """Return the log-density (B,) of one component at points (B, H, W, C)."""
    a = components.architecture
    generator = 0 if a.individual else component // a.sources
    place = mixture * a.generators + generator
    sizes = {"blocks": a.blocks, "steps": a.steps, "hidden": a.hidden, "mixing": a.mixing}
    z, log_det = (part[0] for part in alone(components.flows, place, **sizes)(x[None]))
    rest, top = z[:, : -components.flows.top_dimension], z[:, -components.flows.top_dimension :]
    mean, scale = torch.zeros_like(top[0]), torch.ones_like(top[0])
    if components.individual is not None:
        sizes = {"blocks": 1, "steps": a.individual_steps, "hidden": a.hidden, "mixing": a.mixing}
        flow = alone(components.individual, mixture * a.individual + component, **sizes)
        top, change = (part[0] for part in flow(top[None, :, None, None]))
        log_det = log_det + change
    elif a.sources > 1:
        mean, scale = source(components, place, component % a.sources)
    return Independent(Normal(mean, scale), 1).log_prob(top) + Normal(0, 1).log_prob(rest).sum(1) + log_det


def source(components: FlowComponents, place: int, index: int) -> tuple[Tensor, Tensor]:
    """Return mean and scale of a source of the generator at some place, each (D,)."""
    assert components.source_mean is not None
    height, width, channels = components.flows.top_shape
    positions = height * width if components.architecture.tied == "channel" else 1
    mean, log_scale = (p.detach()[place, index] for p in (components.source_mean, components.source_log_scale))
    assert len(mean) == (channels if components.architecture.tied == "channel" else height * width * channels)
    return torch.cat([mean] * positions), torch.cat([log_scale] * positions).exp()


class TestDensity:
    @SHAPES
    @EVERY
    def test_it_is_that_of_each_component_alone(self, kind, shape, blocks):
        components, x = build(kind, shape, blocks), normal(MIXTURES, 6, *shape)
        found = components(x)
        assert found.shape == (MIXTURES, 6, components.architecture.components)
        for mixture in range(MIXTURES):
            for component in range(components.architecture.components):
                torch.testing.assert_close(
                    found[mixture, :, component], plain(components, mixture, component, x[mixture])
                )

    @EVERY
    @torch.no_grad()
    def test_every_component_integrates_to_one(self, kind):
        components = build(kind, (1, 1, 2), mixtures=1)
        mass = components(midpoints(12, 0.1)[:, :, None, None].double()).exp().sum(1) * 0.1**2
        torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=2e-3)

    @settings(max_examples=10, deadline=None)
    @given(st.integers(0, 10**6), st.floats(-2, 1.5), st.floats(-20, 20))
    def test_the_square_multiplied_out_is_exact_enough_in_float32(self, seed, log_scale, mean):
        components = build("latmm coordinate").float()
        with torch.no_grad():
            components.source_mean.copy_(mean + normal(2, 3, 16, seed=seed))
            components.source_log_scale.copy_(log_scale + 0.2 * normal(2, 3, 16, seed=seed + 1))
        x = normal(2, 5, 4, 4, 1, seed=seed).float()
        exact = FlowComponents(components.architecture, (4, 4, 1), generators((0, 1), "init")).double()
        exact.load_state_dict(components.state_dict())
        torch.testing.assert_close(components(x), exact(x.double()).float(), rtol=1e-4, atol=1e-3)

    @WITH_SOURCES
    def test_gradient_in_bfloat16_is_that_of_sources_in_float32(self, kind):
        components, x = build(kind).float(), normal(MIXTURES, 6, 4, 4, 1).float()
        with torch.autocast("cpu", torch.bfloat16):
            found = components(x)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, components(x), rtol=0.02, atol=0.2)

    def test_standard_normal(self):
        z = normal(3, 4, 5)
        torch.testing.assert_close(standard_log_prob(z), Normal(0, 1).log_prob(z).sum(2))


class TestLatents:
    @SHAPES
    @EVERY
    def test_points_come_back_through_the_generator_of_their_component(self, kind, shape, blocks):
        components = build(kind, shape, blocks)
        a = components.architecture
        x = normal(MIXTURES, 7, *shape)
        component = torch.stack([torch.arange(7), torch.arange(7).flip(0)]) % a.components
        z = components.encode(x, component)
        torch.testing.assert_close(components.decode(z, component), x)
        flows = components.flows(x.repeat_interleave(a.generators, 0))[0].unflatten(0, (MIXTURES, -1))
        for mixture in range(MIXTURES):
            for row, index in enumerate(component[mixture].tolist()):
                generator = 0 if a.individual else index // a.sources
                torch.testing.assert_close(z[mixture, row], flows[mixture, generator, row])
        if a.generators > 1:
            other = (component + a.sources) % a.components
            assert not torch.isclose(components.encode(x, other), z).all(2).any()

    @SHAPES
    @EVERY
    def test_drawn_latents_are_standard_normal_by_their_component(self, kind, shape, blocks):
        components = build(kind, shape, blocks)
        a, top = components.architecture, components.flows.top_dimension
        draws = normal(MIXTURES, 7, math.prod(shape))
        component = torch.stack([torch.arange(7), torch.arange(7).flip(0)]) % a.components
        z = components.latents(draws, component)
        assert torch.equal(z[:, :, :-top], draws[:, :, :-top])
        for mixture in range(MIXTURES):
            for row, index in enumerate(component[mixture].tolist()):
                found, expected = z[mixture, row, -top:], draws[mixture, row, -top:]
                if components.individual is not None:
                    of_all = components.individual(found.expand(MIXTURES * a.individual, 1, 1, 1, top))[0]
                    found = of_all[mixture * a.individual + index, 0]
                elif a.sources > 1:
                    mean, scale = source(components, mixture * a.generators + index // a.sources, index % a.sources)
                    found = (found - mean) / scale
                torch.testing.assert_close(found, expected)


class TestStart:
    @pytest.mark.parametrize("kind", ["genmm", "both", "individual"])
    def test_actnorm_layers_are_fitted_to_the_points_of_their_mixture(self, kind):
        components = build(kind, (1, 1, 4), 2)
        x = normal(MIXTURES, 400, 1, 1, 4) * 3 + 2 + torch.arange(MIXTURES)[:, None, None, None, None]
        components.initialise(x)
        a = components.architecture
        first = components.flows.blocks[0].steps[0].mixing
        self.check(first, x.flatten(2).repeat_interleave(a.generators, 0))
        if components.individual is not None:
            top = components.flows(x)[0][:, :, -2:].repeat_interleave(a.individual, 0)
            self.check(components.individual.blocks[0].steps[0].mixing, top)

    def check(self, actnorm: Any, x: Tensor) -> None:
        normalised = (x + actnorm.shift) * actnorm.log_scale.exp()
        torch.testing.assert_close(normalised.mean(1), torch.zeros_like(x[:, 0]))
        torch.testing.assert_close(normalised.std(1, correction=0), torch.ones_like(x[:, 0]), rtol=0, atol=1e-5)

    def test_sources_start_near_the_standard_normal_and_apart(self):
        architecture = Architecture(sources=400, blocks=1, steps=1, hidden=2)
        components = FlowComponents(architecture, (4, 4, 1), generators((0, 1), "init"))
        assert components.source_mean is not None
        assert components.source_mean.shape == components.source_log_scale.shape == (2, 400, 4)
        for start in (components.source_mean, components.source_log_scale):
            assert start.mean().item() == pytest.approx(0, abs=0.01)
            assert start.std().item() == pytest.approx(0.1, abs=0.01)
            assert start.unique().numel() > 3000

    @EVERY
    def test_a_mixtures_start_depends_on_no_other(self, kind):
        both, alone = build(kind, scale=0), build(kind, scale=0, mixtures=1)
        for name, value in alone.state_dict().items():
            found = both.state_dict()[name].unflatten(0, (MIXTURES, -1))[0]
            torch.testing.assert_close(found, value, rtol=0, atol=1e-6)


class TestPrior:
    @WITH_SOURCES
    def test_values(self, kind):
        components = build(kind, (4, 8, 2), 2, scale=0.5)
        a = components.architecture
        gamma, square = torch.zeros(MIXTURES).double(), torch.zeros(MIXTURES).double()
        for mixture in range(MIXTURES):
            for component in range(a.components):
                _, scale = source(components, mixture * a.generators + component // a.sources, component % a.sources)
                gamma[mixture] += Gamma(2.0, 1.0).log_prob(1 / scale).sum() / a.sources
                square[mixture] -= 0.3 * (1 - scale).square().sum() / a.sources
        torch.testing.assert_close(components.log_prior("gamma", 5.0), gamma)
        torch.testing.assert_close(components.log_prior("l2", 0.3), square)

    @pytest.mark.parametrize("kind", ["gamma", "l2"])
    def test_gradient_by_finite_differences(self, kind):
        components = build("both", scale=0.4)
        (found,) = torch.autograd.grad(components.log_prior(kind, 0.3).sum(), [components.source_log_scale])
        values, expected = components.source_log_scale.data.view(-1), []
        for index in range(len(values)):
            sides = []
            for change in (1e-6, -2e-6):
                values[index] += change
                sides.append(components.log_prior(kind, 0.3).sum().item())
            values[index] += 1e-6
            expected.append((sides[0] - sides[1]) / 2e-6)
        torch.testing.assert_close(found.flatten(), torch.tensor(expected).double(), rtol=1e-5, atol=1e-6)

    def test_scales_of_one_are_the_mode(self):
        components = build("latmm")
        with torch.no_grad():
            components.source_log_scale.zero_()
        for kind in ("gamma", "l2"):
            (slope,) = torch.autograd.grad(components.log_prior(kind, 1.0).sum(), [components.source_log_scale])
            assert not slope.any()

    @pytest.mark.parametrize("kind", ["one", "genmm", "individual"])
    def test_it_needs_sources(self, kind):
        with pytest.raises(ValueError, match="no sources but the standard Gaussian"):
            build(kind).log_prior("gamma", 1.0)


class TestSettings:
    @pytest.mark.parametrize("changes", [{"generators": 2}, {"sources": 2}, {"generators": 3, "sources": 2}])
    def test_individual_flows_belong_to_one_generator(self, changes):
        generators_, sources = changes.get("generators", 1), changes.get("sources", 1)
        with pytest.raises(ValidationError, match=f"found generators {generators_} and sources {sources}"):
            Architecture(individual=2, **changes)

    def test_number_of_components(self):
        assert Architecture(generators=3, sources=4).components == 12
        assert Architecture(individual=5).components == 5
        assert Architecture().components == 1

    @pytest.mark.parametrize("field", ["generators", "sources", "blocks", "steps", "hidden", "individual_steps"])
    def test_counts_are_positive(self, field):
        with pytest.raises(ValidationError, match="greater than 0"):
            Architecture(**{field: 0})

    def test_hidden_values(self):
        architecture = Architecture(generators=3, blocks=2, steps=2, hidden=5)
        components = FlowComponents(architecture, (8, 8, 1), generators((0, 1), "init"))
        assert components.hidden_values == 3 * 2 * 5 * 2 * (4 * 4 + 2 * 2)
