"""Mixture priors: densities against torch and scikit-learn, expectations, EM from known clusters, bad codes."""

import itertools
import math

import numpy as np
import pytest
import torch
import vae_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence

from neumix.mixture_prior import MixturePrior
from neumix.training import generators

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))
CENTRES = torch.tensor([[-4.0, 0.0], [4.0, 0.0], [0.0, 5.0]])
SHARES = (300, 600, 900)
SD = torch.tensor([0.5, 0.25])


def build(facets: int, components: int, dimension: int, n_seeds: int, scale: float = 1.0) -> MixturePrior:
    prior = MixturePrior(facets, components, dimension, n_seeds)
    reference.scatter(prior, scale)
    return prior


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mixture(prior: MixturePrior, seed: int, facet: int) -> MixtureSameFamily:
    logits, means, log_variances = (
        part.detach()[seed, facet].double() for part in (prior.logits, prior.means, prior.log_variances)
    )
    return MixtureSameFamily(Categorical(logits=logits), Independent(Normal(means, (log_variances / 2).exp()), 1))


class TestDensity:
    @settings(max_examples=25, deadline=None)
    @given(SIZES, st.integers(0, 1000))
    def test_it_is_the_product_of_torch_s_mixtures(self, sizes, draw):
        prior = build(*sizes)
        facets, components, dimension, n_seeds = sizes
        z = 2 * normal(n_seeds, 4, facets * dimension, seed=draw)
        log_prob, responsibilities = prior.log_prob(z), prior.responsibilities(z)
        assert log_prob.shape == (n_seeds, 4)
        assert responsibilities.shape == (n_seeds, 4, facets, components)
        for seed in range(n_seeds):
            parts = z[seed].double().view(4, facets, dimension).unbind(1)
            mixtures = [mixture(prior, seed, facet) for facet in range(facets)]
            expected = sum(each.log_prob(part) for each, part in zip(mixtures, parts, strict=True))
            torch.testing.assert_close(log_prob[seed].double(), expected, rtol=1e-4, atol=1e-4)
            for facet, (each, part) in enumerate(zip(mixtures, parts, strict=True)):
                joint = each.component_distribution.log_prob(part[:, None]) + each.mixture_distribution.logits
                posterior = joint.exp() / each.log_prob(part).exp()[:, None]
                torch.testing.assert_close(responsibilities[seed, :, facet].double(), posterior, rtol=1e-4, atol=1e-5)

    def test_it_is_that_of_scikit_learn(self):
        prior, z = build(1, 4, 3, 1), 2 * normal(1, 50, 3)
        other = GaussianMixture(4, covariance_type="diag")
        other.weights_, other.means_ = (
            part[0, 0].detach().double().numpy() for part in (prior.log_weights.exp(), prior.means)
        )
        other.precisions_cholesky_ = (-prior.log_variances / 2).exp()[0, 0].detach().double().numpy()
        points = z[0].double().numpy()
        with torch.no_grad():
            np.testing.assert_allclose(prior.log_prob(z)[0], other.score_samples(points), rtol=1e-4)
            np.testing.assert_allclose(prior.responsibilities(z)[0, :, 0], other.predict_proba(points), atol=1e-5)

    def test_it_integrates_to_one(self):
        grid = torch.linspace(-30, 30, 1201)
        line = build(1, 3, 1, 2).log_prob(grid.reshape(1, -1, 1).expand(2, -1, -1))
        torch.testing.assert_close(line.exp().sum(1) * 0.05, torch.ones(2), rtol=1e-4, atol=0)
        coarse = grid[::4]
        plane = torch.cartesian_prod(coarse, coarse).expand(2, -1, -1)
        for facets, dimension in ((1, 2), (2, 1)):
            density = build(facets, 3, dimension, 2, 0.5).log_prob(plane).exp()
            torch.testing.assert_close(density.sum(1) * 0.2**2, torch.ones(2), rtol=1e-4, atol=0)

    @settings(max_examples=25, deadline=None)
    @given(SIZES, st.integers(0, 1000), st.randoms())
    def test_the_order_of_components_only_names_them(self, sizes, draw, random):
        prior = build(*sizes)
        facets, components, dimension, n_seeds = sizes
        z = normal(n_seeds, 3, facets * dimension, seed=draw)
        log_prob, responsibilities = prior.log_prob(z), prior.responsibilities(z)
        order = random.sample(range(components), components)
        with torch.no_grad():
            for parameter in prior.parameters():
                parameter.copy_(parameter[:, :, order].clone())
        torch.testing.assert_close(prior.log_prob(z), log_prob)
        torch.testing.assert_close(prior.responsibilities(z), responsibilities[..., order])

    def test_it_starts_as_a_standard_normal(self):
        z = normal(2, 5, 6)
        expected = Normal(0, 1).log_prob(z).sum(-1)
        torch.testing.assert_close(MixturePrior(3, 4, 2, 2).log_prob(z), expected)

    def test_far_away_codes_have_finite_logarithms(self):
        prior, z = build(2, 3, 2, 1), torch.full((1, 2, 4), 1e4)
        for found in (prior.log_prob(z), prior.log_responsibilities(z)):
            assert torch.isfinite(found).all()
        torch.testing.assert_close(prior.responsibilities(z).sum(-1), torch.ones(1, 2, 2))
        torch.testing.assert_close(prior.log_responsibilities(z).exp(), prior.responsibilities(z))

    def test_weights_sum_to_one(self):
        prior = build(2, 5, 1, 3)
        torch.testing.assert_close(prior.log_weights.exp().sum(-1), torch.ones(3, 2))
        torch.testing.assert_close(prior.log_weights, prior.logits - prior.logits.logsumexp(-1, keepdim=True))


def expected_by_torch(prior: MixturePrior, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return E_q[log N(z; k)] as minus divergence minus entropy, in float64, with the shapes of the method."""
    n_seeds, facets, components, dimension = prior.means.shape
    found = torch.empty(n_seeds, mean.shape[1], facets, components, dtype=torch.float64)
    parts = [part.double().view(n_seeds, -1, facets, dimension) for part in (mean, (log_variance.double() / 2).exp())]
    for seed, point, facet, component in itertools.product(*map(range, found.shape)):
        q = Independent(Normal(*(part[seed, point, facet] for part in parts)), 1)
        k = seed, facet, component
        p = Independent(Normal(prior.means[k].double(), (prior.log_variances[k].double() / 2).exp()), 1)
        found[seed, point, facet, component] = -kl_divergence(q, p) - q.entropy()
    return found


class TestExpectedLogNormal:
    @settings(max_examples=25, deadline=None)
    @given(SIZES, st.integers(0, 1000))
    def test_it_is_minus_divergence_minus_entropy(self, sizes, draw):
        prior = build(*sizes)
        shape = (sizes[3], 3, sizes[0] * sizes[2])
        mean, log_variance = normal(*shape, seed=draw), normal(*shape, seed=draw + 1)
        with torch.no_grad():
            found = prior.expected_log_normal(mean, log_variance)
            expected = expected_by_torch(prior, mean, log_variance)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)

    def test_it_is_the_mean_of_the_log_density_over_samples(self):
        prior = build(2, 3, 2, 1, 0.5)
        mean, log_variance = normal(1, 1, 4), normal(1, 1, 4, seed=1)
        z = mean + (log_variance / 2).exp() * normal(100_000, 1, 4, seed=2)
        with torch.no_grad():
            for facet, component in itertools.product(range(2), range(3)):
                p = Normal(prior.means[0, facet, component], (prior.log_variances[0, facet, component] / 2).exp())
                values = p.log_prob(z[:, 0, 2 * facet : 2 * facet + 2]).sum(-1)
                found = prior.expected_log_normal(mean, log_variance)[0, 0, facet, component]
                assert found.item() == pytest.approx(values.mean().item(), abs=5 * (values.std() / 100_000**0.5).item())

    def test_a_certain_code_has_the_density_itself(self):
        prior, z = build(2, 3, 2, 2), normal(2, 5, 4)
        expected = prior.expected_log_normal(z, torch.full_like(z, -80.0)) + prior.log_weights[:, None]
        torch.testing.assert_close(expected.logsumexp(-1).sum(-1), prior.log_prob(z), rtol=1e-4, atol=1e-4)

    def test_it_is_in_float32_whatever_the_networks_precision(self):
        prior = build(2, 5, 3, 2)
        with torch.no_grad():
            prior.log_variances.copy_(torch.tensor(0.01).log())
        mean, log_variance = 2 * normal(2, 4, 6), normal(2, 4, 6, seed=1) - 4
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            found = prior.expected_log_normal(mean, log_variance)
        assert found.dtype == torch.float32
        with torch.no_grad():
            expected = expected_by_torch(prior, mean, log_variance)
        # The terms are of some hundreds; bfloat16 would miss by whole units.
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-3)


def clusters(n_seeds: int = 1) -> Tensor:
    """Return codes (S, 1800, 2) of three clusters of different size, other ones for each seed."""
    rows = [normal(sum(SHARES), 2, seed=seed) for seed in range(n_seeds)]
    centres = CENTRES.repeat_interleave(torch.tensor(SHARES), 0)
    return torch.stack([centres + SD * row for row in rows])


def by_weight(prior: MixturePrior, seed: int, facet: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, means and variances in the order of the weights."""
    order = prior.logits[seed, facet].argsort()
    parts = prior.log_weights.exp(), prior.means, prior.log_variances.exp()
    weights, means, variances = (part.detach()[seed, facet, order] for part in parts)
    return weights, means, variances


class TestFit:
    def test_separate_clusters_are_found(self):
        prior = MixturePrior(1, 3, 2, 2)
        prior.fit(clusters(2), generators(range(2), "begin"))
        for seed in range(2):
            weights, means, variances = by_weight(prior, seed, 0)
            torch.testing.assert_close(weights, torch.tensor(SHARES) / 1800, rtol=0, atol=1e-3)
            torch.testing.assert_close(means, CENTRES, rtol=0, atol=0.1)
            torch.testing.assert_close(variances, SD.square().expand(3, 2), rtol=0.2, atol=0)

    def test_facets_are_fitted_apart(self):
        one, other = clusters(2).unsqueeze(1)
        other = 10 - other.flip(1)  # other centres, and points in another order
        prior = MixturePrior(2, 3, 2, 1)
        prior.fit(torch.cat([one, other], -1), generators([0], "begin"))
        torch.testing.assert_close(by_weight(prior, 0, 0)[1], CENTRES, rtol=0, atol=0.1)
        torch.testing.assert_close(by_weight(prior, 0, 1)[1], 10 - CENTRES, rtol=0, atol=0.1)

    def test_a_given_variance_comes_with_equal_weights(self):
        prior, free = build(1, 3, 2, 2), MixturePrior(1, 3, 2, 2)
        prior.fit(clusters(2), generators(range(2), "begin"), variance=0.01)
        free.fit(clusters(2), generators(range(2), "begin"))
        torch.testing.assert_close(prior.log_weights.exp(), torch.full((2, 1, 3), 1 / 3))
        torch.testing.assert_close(prior.log_variances.exp(), torch.full((2, 1, 3, 2), 0.01))
        assert torch.equal(prior.means, free.means)

    @pytest.mark.parametrize("variance", [None, 0.01])
    def test_a_seed_alone_is_fitted_as_among_others(self, variance):
        codes = normal(3, 60, 4)  # without clusters, where the start of EM matters
        together = MixturePrior(2, 3, 2, 3)
        together.fit(codes, generators((0, 1, 2), "begin"), variance=variance)
        again = MixturePrior(2, 3, 2, 2)
        again.fit(codes[[2, 0]], generators((2, 0), "begin"), variance=variance)
        for name, parameter in again.named_parameters():
            assert torch.equal(parameter, together.get_parameter(name)[[2, 0]])
        other = MixturePrior(2, 3, 2, 3)
        other.fit(codes, generators((0, 1, 2), "another stage"), variance=variance)
        assert not torch.equal(other.means, together.means)

    @pytest.mark.parametrize("scale", [1e-4, 1e4])
    def test_the_scale_of_the_codes_does_not_matter(self, scale):
        one, other = MixturePrior(1, 3, 2, 1), MixturePrior(1, 3, 2, 1)
        one.fit(clusters(), generators([0], "begin"))
        other.fit(scale * clusters(), generators([0], "begin"))
        torch.testing.assert_close(other.means, scale * one.means, rtol=1e-3, atol=1e-3 * scale)
        torch.testing.assert_close(other.logits, one.logits, rtol=0, atol=1e-3)
        torch.testing.assert_close(other.log_variances, one.log_variances + 2 * math.log(scale), rtol=0, atol=1e-2)

    @pytest.mark.parametrize("codes", [torch.ones(1, 7, 2), torch.zeros(1, 7, 2), normal(1, 3, 2)])
    def test_degenerate_codes_still_give_a_density(self, codes):
        prior = MixturePrior(1, 3, 2, 1)
        prior.fit(codes, generators([0], "begin"))
        assert all(torch.isfinite(parameter).all() for parameter in prior.parameters())
        assert torch.isfinite(prior.log_prob(codes)).all()

    def test_codes_that_no_mixture_fits_are_refused(self):
        prior = MixturePrior(1, 3, 2, 1)
        with pytest.raises(ValueError, match="3 components cannot be fitted to 2 points; lower `components`"):
            prior.fit(normal(1, 2, 2), generators([0], "begin"))
        for bad in (math.nan, math.inf):
            codes = normal(1, 9, 2)
            codes[0, 4, 1] = bad
            with pytest.raises(ValueError, match="codes are not all finite"):
                prior.fit(codes, generators([0], "begin"))
        assert all(torch.equal(parameter, torch.zeros_like(parameter)) for parameter in prior.parameters())


class TestSample:
    def test_samples_have_the_component_s_moments_in_every_facet(self):
        prior = build(2, 3, 2, 2)
        z = prior.sample(1, 40_000, generators(range(2), "sample")).detach()
        assert z.shape == (2, 40_000, 4)
        for seed in range(2):
            mean, variance = prior.means[seed, :, 1].flatten(), prior.log_variances[seed, :, 1].exp().flatten()
            error = (variance / 40_000).sqrt()
            assert ((z[seed].mean(0) - mean).abs() < 5 * error).all()
            bound = 0.04 * (variance[:, None] * variance).sqrt()
            assert ((z[seed].T.cov() - torch.diag(variance)).abs() < bound).all()

    def test_a_seed_alone_is_sampled_as_among_others(self):
        prior, alone = build(2, 3, 2, 3), MixturePrior(2, 3, 2, 1)
        alone.load_state_dict({name: value[1:2] for name, value in prior.state_dict().items()})
        together = prior.sample(2, 5, generators((0, 1, 2), "sample"))
        assert torch.equal(alone.sample(2, 5, generators([1], "sample"))[0], together[1])
