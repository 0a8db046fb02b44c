"""Autoencoders of several seeds: likelihoods and entropy against torch.distributions, seeds kept apart, precision."""

import itertools
import math

import pytest
import torch
import vae_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal

from neumix.autoencoder import Autoencoder, Network, Posterior, standard_normal
from neumix.settings import CatalogueError, parse
from neumix.training import generators

BERNOULLI = Network(encoder=(6,), decoder=(5, 4))
GAUSSIAN = Network(encoder=(6,), decoder=(5, 4), activation="leaky_relu", likelihood="gaussian", noise_sd=0.3)
NETWORKS = pytest.mark.parametrize("network", [BERNOULLI, GAUSSIAN], ids=["bernoulli", "gaussian"])


def build(network: Network, latent: int = 2, shape: tuple[int, ...] = (3,), seeds: tuple[int, ...] = (0, 1)):
    model = Autoencoder(network, latent, {"x": shape, "y": ()}, generators(seeds, "init"))
    reference.scatter(model, 0.3)
    return model


def bits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)).float()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class TestLikelihood:
    @NETWORKS
    @pytest.mark.parametrize("shape", [(3,), (), (2, 3)])
    def test_it_is_that_of_independent_values(self, network, shape):
        model = build(network, shape=shape)
        x = bits(2, 4, *shape) if network is BERNOULLI else normal(2, 4, *shape)
        z = normal(2, 4, 2, seed=1)
        found, values = model.log_likelihood(x, z), reference.weights(model)
        assert found.shape == (2, 4)
        for seed, point in itertools.product(range(2), range(4)):
            exact = reference.likelihood(values, "", network, seed, z[seed, point].double())
            expected = exact.log_prob(x[seed, point].double().flatten())
            assert found[seed, point].item() == pytest.approx(expected.item(), rel=1e-5)
            mean = model.decode(z)[seed, point]
            assert mean.shape == shape
            torch.testing.assert_close(mean.flatten().double(), exact.mean, rtol=1e-5, atol=1e-6)

    def test_bernoulli_probabilities_of_all_points_sum_to_one(self):
        model = build(BERNOULLI)
        x = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3))).expand(2, -1, -1)
        z = normal(2, 1, 2).expand(-1, 8, -1)
        torch.testing.assert_close(model.log_likelihood(x, z).exp().sum(1), torch.ones(2))

    def test_gaussian_density_integrates_to_one(self):
        model = build(GAUSSIAN, shape=(1,))
        x = torch.linspace(-20, 20, 8001).reshape(1, -1, 1).expand(2, -1, -1)
        z = normal(2, 1, 2).expand(-1, 8001, -1)
        torch.testing.assert_close(model.log_likelihood(x, z).exp().sum(1) * 0.005, torch.ones(2))

    def test_grey_values_use_the_same_form(self):
        model = build(BERNOULLI)
        x, z = normal(2, 5, 3).sigmoid(), normal(2, 5, 2, seed=1)
        p = model.decode(z).double()
        expected = (x * p.log() + (1 - x) * (1 - p).log()).sum(-1)
        torch.testing.assert_close(model.log_likelihood(x, z).double(), expected, rtol=1e-5, atol=1e-5)

    def test_certain_values_stay_finite(self):
        model = build(Network(encoder=(), decoder=()), latent=1, shape=(2,))
        with torch.no_grad():
            model.decoder.weights[0].zero_()
            model.decoder.biases[0].copy_(torch.tensor([300.0, -300.0]))
        found = model.log_likelihood(
            torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]).expand(2, -1, -1), normal(2, 3, 1)
        )
        assert found.tolist() == [[0, -300, -600]] * 2

    def test_the_noise_s_size_matters_as_it_should(self):
        x, z = normal(2, 4, 3), normal(2, 4, 2, seed=1)
        one, half = (build(Network(encoder=(), decoder=(5,), likelihood="gaussian", noise_sd=sd)) for sd in (1.0, 0.5))
        squared = (one.decode(z) - x).square().sum(-1)
        difference = one.log_likelihood(x, z) - half.log_likelihood(x, z)
        torch.testing.assert_close(difference, 1.5 * squared - 3 * math.log(2))


class TestPosterior:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 1000))
    def test_entropy_is_that_of_a_diagonal_gaussian(self, seeds, points, dimension, draw):
        mean, log_variance = (
            normal(seeds, points, dimension, seed=draw),
            3 * normal(seeds, points, dimension, seed=draw + 1),
        )
        expected = Independent(Normal(mean.double(), (log_variance.double() / 2).exp()), 1).entropy()
        found = Posterior(mean, log_variance).entropy()
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)

    def test_a_sample_is_the_mean_plus_the_sd_times_the_noise(self):
        mean, log_variance = normal(2, 4, 3), normal(2, 4, 3, seed=1)
        noise = reference.draws(generators(range(2), "noise"), 4, 3)
        sample = Posterior(mean, log_variance).sample(generators(range(2), "noise"))
        torch.testing.assert_close(sample.double(), mean + log_variance.double().exp().sqrt() * noise)

    def test_samples_have_the_posterior_s_moments(self):
        mean, log_variance = torch.tensor([1.0, -2.0]), torch.tensor([0.0, math.log(0.09)])
        many = Posterior(*(part.expand(1, 40_000, 2) for part in (mean, log_variance)))
        sample = many.sample(generators([0], "noise"))[0]
        torch.testing.assert_close(sample.mean(0), mean, atol=0.02, rtol=0)
        torch.testing.assert_close(sample.T.cov(), torch.diag(log_variance.exp()), atol=0.02, rtol=0)

    def test_it_is_what_the_encoder_s_outputs_say(self):
        model = build(GAUSSIAN, shape=(2, 3))
        x, values = normal(2, 4, 2, 3), reference.weights(model)
        found = model.encode(x)
        assert found.mean.shape == found.log_variance.shape == (2, 4, 2)
        for seed, point in itertools.product(range(2), range(4)):
            exact = reference.posterior(values, "", GAUSSIAN, seed, x[seed, point])
            torch.testing.assert_close(found.mean[seed, point].double(), exact.mean, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(
                found.log_variance[seed, point].double(), exact.variance.log(), rtol=1e-5, atol=1e-6
            )

    def test_codes_of_many_points_are_their_posterior_means_without_gradients(self):
        model = build(BERNOULLI)
        for size in (1, 2000, 4001):  # codes are made in parts
            x = normal(size, 3).expand(2, -1, -1)  # as points that seeds share come
            codes = model.codes(x)
            assert codes.shape == (2, size, 2)
            assert not codes.requires_grad
            torch.testing.assert_close(codes, model.encode(x).mean)


class TestSeeds:
    @NETWORKS
    def test_a_seed_alone_is_as_it_is_among_others(self, network):
        options = (network, 2, {"x": (3,)})
        together = Autoencoder(*options, generators((0, 1, 2), "init"))
        x, z = bits(3, 5, 3), normal(3, 5, 2)
        for position, seed in enumerate((0, 1, 2)):
            alone, own = Autoencoder(*options, generators([seed], "init")), slice(position, position + 1)
            torch.testing.assert_close(alone.encode(x[own]).mean[0], together.encode(x).mean[position])
            torch.testing.assert_close(alone.encode(x[own]).log_variance[0], together.encode(x).log_variance[position])
            torch.testing.assert_close(alone.log_likelihood(x[own], z[own])[0], together.log_likelihood(x, z)[position])
        assert not torch.equal(together.encoder.weights[0][0], together.encoder.weights[0][1])

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=3))
    def test_noise_is_each_seed_s_own(self, seeds, shape):
        like = torch.zeros(seeds, *shape)
        together = standard_normal(like, generators(range(seeds), "noise"))
        assert together.shape == like.shape
        for seed in range(seeds):
            assert torch.equal(together[seed], standard_normal(like[:1], generators([seed], "noise"))[0])
        assert len({tuple(part.flatten().tolist()) for part in together}) == seeds


@NETWORKS
def test_only_the_networks_are_rounded_in_bfloat16(network):
    model = build(network)
    x, z = bits(2, 6, 3), normal(2, 6, 2)
    exact = model.encode(x), model.decode(z), model.log_likelihood(x, z)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.encode(x), model.decode(z), model.log_likelihood(x, z)
        entropy = rounded[0].entropy()
    for part, other in ((exact[0].mean, rounded[0].mean), (exact[1], rounded[1])):
        assert other.dtype == torch.float32
        torch.testing.assert_close(other, part, rtol=0.05, atol=0.05)
    assert entropy.dtype == rounded[2].dtype == torch.float32
    torch.testing.assert_close(entropy, Posterior(rounded[0].mean, rounded[0].log_variance).entropy())
    # Given the rounded outputs, the sum over the values of a point is as exact as ever.
    mean = rounded[1].double()
    exact_sum = Normal(mean, 0.3) if network is GAUSSIAN else Bernoulli(mean)
    torch.testing.assert_close(rounded[2].double(), exact_sum.log_prob(x.double()).sum(-1), rtol=1e-5, atol=1e-5)


class TestSettings:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"likelihood": "gaussian"}, "noise_sd goes with likelihood: gaussian"),
            ({"noise_sd": 0.1}, "noise_sd goes with likelihood: gaussian"),
            ({"likelihood": "bernoulli", "noise_sd": 0.1}, "noise_sd goes with likelihood: gaussian"),
            ({"likelihood": "gaussian", "noise_sd": 0}, "key 'noise_sd'"),
            ({"likelihood": "gausian", "noise_sd": 1}, "unknown value 'gausian'; did you mean 'gaussian'"),
            ({"activation": "leaky"}, "did you mean 'leaky_relu'"),
            ({"encoder": [0]}, "key 'encoder.0'"),
            ({"encodr": [4]}, "unknown key 'encodr'; did you mean 'encoder'"),
        ],
    )
    def test_bad_ones_are_refused_by_name(self, changes, said):
        with pytest.raises(CatalogueError) as caught:
            parse(Network, {"encoder": [4], "decoder": [4], **changes}, "paper.yaml: network")
        assert said in str(caught.value)

    def test_networks_without_hidden_layers_are_affine(self):
        model = build(Network(encoder=(), decoder=(), likelihood="gaussian", noise_sd=1))
        ends = normal(2, 2, 2)
        middle = ends.mean(1, keepdim=True)
        torch.testing.assert_close(model.decode(middle), model.decode(ends).mean(1, keepdim=True))
