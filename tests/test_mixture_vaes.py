"""VaDE and MFCVAE: the ELBO against definitions and exact likelihoods, gradients, seeds, stages, a short training."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import vae_reference as reference
from sklearn.cluster import KMeans
from torch import Tensor
from torch.distributions import Categorical, Independent, MultivariateNormal, Normal, kl_divergence
from vae_reference import BERNOULLI, GAUSSIAN, LINEAR, NETWORKS

from neumix.autoencoder import Network
from neumix.batching import DeviceSplit
from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.metrics.matching import clustering_accuracy
from neumix.mixture_vae import MixtureVAE
from neumix.models import mfcvae, vade
from neumix.schedule import Stage
from neumix.settings import CatalogueError, parse
from neumix.training import Phase, fit, generators

ELBO = vade.Loss(name="elbo")
RECONSTRUCTION = vade.Loss(name="reconstruction")


def build(network: Network, facets: int = 1, components: int = 3, latent: int = 2, seeds=(0, 1)) -> mfcvae.Model:
    config = mfcvae.Config(network=network, latent=latent, components=components, facets=facets)
    model = mfcvae.Model(config, {"x": (3,)}, generators(seeds, "init"))
    reference.scatter(model)
    return model


def build_vade(network: Network, latent: int = 2, seeds=(0, 1), **shapes: tuple[int, ...]) -> vade.Model:
    config = vade.Config(network=network, latent=latent, components=3)
    return vade.Model(config, {"x": (3,), **shapes}, generators(seeds, "init"))


def points(network: Network, *shape: int, seed: int = 0) -> Tensor:
    """Return values that the likelihood is a distribution of."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return x if network.likelihood == "gaussian" else (x > 0).float()


def device_split(x: Tensor, per_seed: bool = True, n_seeds: int = 2) -> DeviceSplit:
    return DeviceSplit(Split({"x": Field(x.numpy(), None, per_seed)}), n_seeds, torch.device("cpu"))


def elbo_of_one(values: reference.Weights, network: Network, seed: int, x: Tensor, noise: Tensor) -> Tensor:
    """Return log p(x|z) - sum_jk q(k|z_j) KL(q(z_j|x) || p(z_j|k)) - sum_j KL(q(k|z_j) || p(k)) of one point."""
    q = reference.posterior(values, "autoencoder.", network, seed, x)
    z = q.mean + q.stddev * noise
    elbo = reference.likelihood(values, "autoencoder.", network, seed, z).log_prob(x.double().flatten())
    logits, means, log_variances = (values[f"prior.{name}"][seed] for name in ("logits", "means", "log_variances"))
    facets, _, dimension = means.shape
    for j in range(facets):
        part = slice(j * dimension, (j + 1) * dimension)
        components = Independent(Normal(means[j], (log_variances[j] / 2).exp()), 1)
        clusters = Categorical(logits=logits[j])
        chosen = Categorical(logits=components.log_prob(z[part]) + clusters.logits)
        facet = Independent(Normal(q.mean[part], q.stddev[part]), 1)
        divergences = kl_divergence(facet.expand(components.batch_shape), components)
        elbo = elbo - (chosen.probs * divergences).sum() - kl_divergence(chosen, clusters)
    return elbo


def elbos(values: reference.Weights, network: Network, x: Tensor, noise: Tensor) -> Tensor:
    """Return the ELBO of points (S, B, ...) one by one, (S, B)."""
    places = itertools.product(range(x.shape[0]), range(x.shape[1]))
    found = [elbo_of_one(values, network, seed, x[seed, b], noise[seed, b]) for seed, b in places]
    return torch.stack(found).view(x.shape[:2])


class TestElbo:
    @NETWORKS
    @pytest.mark.parametrize("facets", [1, 2])
    def test_it_is_its_definition(self, network, facets):
        model, x = build(network, facets), points(network, 2, 4, 3)
        with torch.no_grad():
            found = model.elbo(x, generators(range(2), "noise"))
        noise = reference.draws(generators(range(2), "noise"), 4, 2 * facets)
        expected = elbos(reference.weights(model), network, x, noise)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
        loss = model.loss({"x": x}, mfcvae.Loss(name="elbo"), generators(range(2), "noise"))
        torch.testing.assert_close(loss, -found.mean(1))

    @NETWORKS
    @pytest.mark.parametrize("facets", [1, 2])
    def test_it_is_at_most_the_log_likelihood_even_of_the_best_encoder(self, network, facets):
        model, x = build(network, facets, latent=1), points(network, 2, 2, 3)
        exact, noise = log_marginal(model, x), generators(range(2), "noise")
        optimizer = torch.optim.Adam(model.autoencoder.encoder.parameters(), 0.03)
        for _ in range(200):
            optimizer.zero_grad()
            (-model.elbo(x.repeat_interleave(20, 1), noise).sum()).backward()
            optimizer.step()
        with torch.no_grad():
            found = model.elbo(x.repeat_interleave(4000, 1), noise).view(2, 2, -1)
        error = found.std(-1) / math.sqrt(4000)
        gap = exact - found.mean(-1)
        assert (gap > -4 * error).all()
        assert (gap < 1).all()

    @pytest.mark.parametrize("facets", [1, 2])
    def test_it_is_the_log_likelihood_where_the_encoder_is_exact(self, facets):
        model = build(LINEAR, facets, components=1, latent=1, seeds=(0,))
        mean, variance = (part.detach().flatten() for part in (model.prior.means, model.prior.log_variances.exp()))
        slope, offset = reference.linear_gaussian(model.autoencoder, mean, variance, 0.5, 3)
        covariance = slope.T @ torch.diag(variance) @ slope + 0.25 * torch.eye(3)
        x = points(LINEAR, 1, 3, 3)
        exact = MultivariateNormal(offset + mean @ slope, covariance).log_prob(x[0])
        with torch.no_grad():
            found = model.elbo(x.repeat_interleave(20_000, 1), generators([0], "noise")).view(3, 20_000)
        error = found.std(-1) / math.sqrt(20_000)
        assert ((found.mean(-1) - exact).abs() < 4 * error).all()
        assert (error < 0.02).all()

    @NETWORKS
    @pytest.mark.parametrize("facets", [1, 2])
    def test_single_components_make_an_ordinary_autoencoder(self, network, facets):
        model, x = build(network, facets, components=1), points(network, 2, 5, 3)
        with torch.no_grad():
            found = model.elbo(x, generators(range(2), "noise"))
            q = model.autoencoder.encode(x)
            prior = Normal(model.prior.means.view(2, 1, -1), (model.prior.log_variances / 2).exp().view(2, 1, -1))
            divergence = kl_divergence(Normal(q.mean, (q.log_variance / 2).exp()), prior).sum(-1)
            expected = model.autoencoder.log_likelihood(x, q.sample(generators(range(2), "noise"))) - divergence
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("facets", [1, 3])
    def test_equal_components_are_one(self, facets):
        model, one = build(GAUSSIAN, facets), build(GAUSSIAN, facets, components=1)
        one.autoencoder.load_state_dict(model.autoencoder.state_dict())
        with torch.no_grad():
            for name in ("means", "log_variances"):
                model.prior.get_parameter(name).copy_(one.prior.get_parameter(name).expand(-1, -1, 3, -1))
            x = points(GAUSSIAN, 2, 5, 3)
            found, expected = (each.elbo(x, generators(range(2), "noise")) for each in (model, one))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    @NETWORKS
    @pytest.mark.parametrize("facets", [1, 2])
    def test_its_gradients_are_finite_differences(self, network, facets):
        model, x = build(network, facets), points(network, 2, 3, 3)
        model.elbo(x, generators(range(2), "noise")).sum().backward()
        noise = reference.draws(generators(range(2), "noise"), 3, 2 * facets)
        expected = reference.slopes(lambda values: elbos(values, network, x, noise).sum(), reference.weights(model))
        assert len(expected) == len(list(model.parameters())) == 11
        for name, parameter in model.named_parameters():
            direction, slope = expected[name]
            assert (parameter.grad.double() * direction).sum().item() == pytest.approx(slope, rel=1e-3, abs=1e-3), name

    @NETWORKS
    def test_bfloat16_rounds_the_networks_alone(self, network):
        model, x = build(network, 2), points(network, 2, 50, 3)
        with torch.no_grad():
            exact = model.loss({"x": x}, ELBO, generators(range(2), "noise"))
            with torch.autocast("cpu", torch.bfloat16):
                rounded = model.loss({"x": x}, ELBO, generators(range(2), "noise"))
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact, rtol=0.03, atol=0.03)


def log_marginal(model: MixtureVAE, x: Tensor) -> Tensor:
    """Return log p(x) of points (S, B, ...) by the trapezoidal rule over facets of one dimension, (S, B)."""
    facets = model.prior.facets
    axis = torch.linspace(-12, 12, 2401 if facets == 1 else 301)
    grid = torch.cartesian_prod(*[axis] * facets).reshape(1, -1, facets).expand(len(x), -1, -1)
    cell = facets * (axis[1] - axis[0]).log()
    with torch.no_grad():
        prior = model.prior.log_prob(grid)
        parts = [
            model.autoencoder.log_likelihood(point.unsqueeze(1).expand(-1, grid.shape[1], -1), grid)
            for point in x.unbind(1)
        ]
    torch.testing.assert_close((prior.logsumexp(1) + cell).exp(), torch.ones(len(x)), rtol=1e-3, atol=0)
    return torch.stack([(part + prior).logsumexp(1) + cell for part in parts], 1)


class TestSeeds:
    @NETWORKS
    def test_a_seed_s_loss_does_not_depend_on_the_others(self, network):
        together = build_vade(network, seeds=(0, 1, 2))
        x, begin = points(network, 3, 40, 3), generators((0, 1, 2), "begin")
        together.begin_stage(ELBO, device_split(x, n_seeds=3), begin)
        for position, seed in enumerate((0, 1, 2)):
            alone, own = build_vade(network, seeds=(seed,)), x[position : position + 1]
            alone.begin_stage(ELBO, device_split(own, n_seeds=1), generators([seed], "begin"))
            for loss in (ELBO, RECONSTRUCTION):
                found = together.loss({"x": x}, loss, generators((0, 1, 2), "noise"))
                expected = alone.loss({"x": own}, loss, generators([seed], "noise"))
                torch.testing.assert_close(found[position], expected[0])

    def test_gradients_do_not_mix_seeds(self):
        model, x = build(GAUSSIAN, 2), points(GAUSSIAN, 2, 5, 3)
        model.elbo(x, generators(range(2), "noise"))[1].sum().backward()
        for parameter in model.parameters():
            assert not parameter.grad[0].any()
            assert parameter.grad[1].any()


class TestOutputs:
    @pytest.mark.parametrize("facets", [1, 2])
    def test_codes_and_responsibilities_have_their_shapes_and_meaning(self, facets):
        model, x = build(GAUSSIAN, facets), points(GAUSSIAN, 2, 7, 3)
        codes, clusters = model.codes(x), model.responsibilities(x)
        assert codes.shape == (2, 7, 2 * facets)
        assert clusters.shape == (2, 7, facets, 3)
        torch.testing.assert_close(codes, model.autoencoder.encode(x).mean)
        torch.testing.assert_close(clusters, model.prior.responsibilities(codes))
        torch.testing.assert_close(clusters.sum(-1), torch.ones(2, 7, facets))

    def test_images_are_values_in_a_row(self):
        flat, image = build_vade(BERNOULLI, x=(6,)), build_vade(BERNOULLI, x=(2, 3))
        x = points(BERNOULLI, 2, 5, 6)
        found, expected = (
            model.elbo(points_, generators(range(2), "noise"))
            for model, points_ in ((image, x.view(2, 5, 2, 3)), (flat, x))
        )
        torch.testing.assert_close(found, expected)

    def test_one_facet_of_mfcvae_is_vade(self):
        several, one = build(GAUSSIAN), build_vade(GAUSSIAN)
        one.load_state_dict(several.state_dict())
        x = points(GAUSSIAN, 2, 5, 3)
        losses = [model.loss({"x": x}, ELBO, generators(range(2), "noise")) for model in (several, one)]
        assert torch.equal(*losses)

    def test_reconstruction_is_the_likelihood_at_the_posterior_mean(self):
        model, x = build_vade(GAUSSIAN), points(GAUSSIAN, 2, 5, 3)
        reference.scatter(model)
        noise = generators(range(2), "noise")
        loss = model.loss({"x": x}, RECONSTRUCTION, noise)
        q, values = model.autoencoder.encode(x), reference.weights(model)
        for seed in range(2):
            exact = [
                reference.likelihood(values, "autoencoder.", GAUSSIAN, seed, q.mean[seed, b].double()).log_prob(
                    x[seed, b].double()
                )
                for b in range(5)
            ]
            assert loss[seed].item() == pytest.approx(-torch.stack(exact).mean().item(), rel=1e-5)
        untouched = generators(range(2), "noise")
        assert all(torch.equal(a.get_state(), b.get_state()) for a, b in zip(noise, untouched, strict=True))
        loss.sum().backward()
        assert all(parameter.grad is None for parameter in model.prior.parameters())


def separate(n_seeds: int = 2, size: int = 100) -> tuple[Tensor, np.ndarray]:
    """Return points (S, 3 size, 3) in three far apart clusters, and their labels."""
    centres = torch.tensor([[6.0, 0.0, 0.0], [0.0, 6.0, 0.0], [-6.0, -6.0, 3.0]]).repeat_interleave(size, 0)
    noise = [torch.randn(3 * size, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(n_seeds)]
    return torch.stack([centres + 0.3 * each for each in noise]), np.repeat(np.arange(3), size)


def state(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


class TestStages:
    def test_vade_s_prior_starts_at_the_clusters_of_the_codes(self):
        model, (x, labels) = build_vade(LINEAR), separate()
        before = state(model.autoencoder)
        model.begin_stage(ELBO, device_split(x), generators(range(2), "begin"))
        codes = model.codes(x).double().numpy()
        for seed in range(2):
            means = model.prior.means[seed, 0].detach().numpy()
            centres = KMeans(3, n_init=5, random_state=0).fit(codes[seed]).cluster_centers_
            np.testing.assert_allclose(means[means[:, 0].argsort()], centres[centres[:, 0].argsort()], atol=0.02)
            spread = np.stack([codes[seed, labels == label].var(0) for label in range(3)])
            found = model.prior.log_variances[seed, 0].detach().exp().numpy()
            np.testing.assert_allclose(found.mean(0), spread.mean(0), rtol=0.1)
        torch.testing.assert_close(model.prior.log_weights.exp(), torch.full((2, 1, 3), 1 / 3), rtol=0, atol=0.01)
        assert all(torch.equal(value, before[name]) for name, value in model.autoencoder.state_dict().items())

    def test_vade_s_pretraining_leaves_the_prior_alone(self):
        model = build_vade(LINEAR)
        reference.scatter(model)
        before = state(model)
        model.begin_stage(RECONSTRUCTION, device_split(separate()[0]), generators(range(2), "begin"))
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_mfcvae_starts_with_equal_weights_and_its_variance(self):
        config = mfcvae.Config(network=LINEAR, latent=2, components=3, facets=2, initial_variance=0.04)
        model = mfcvae.Model(config, {"x": (3,)}, generators(range(2), "init"))
        reference.scatter(model.prior)
        x, _ = separate()
        model.begin_stage(mfcvae.Loss(name="elbo"), device_split(x), generators(range(2), "begin"))
        torch.testing.assert_close(model.prior.log_weights.exp(), torch.full((2, 2, 3), 1 / 3))
        torch.testing.assert_close(model.prior.log_variances.exp(), torch.full((2, 2, 3, 2), 0.04))
        codes = model.codes(x).double().numpy()
        for seed, facet in itertools.product(range(2), range(2)):
            part = codes[seed, :, 2 * facet : 2 * facet + 2]
            centres = KMeans(3, n_init=5, random_state=0).fit(part).cluster_centers_
            means = model.prior.means[seed, facet].detach().numpy()
            np.testing.assert_allclose(means[means[:, 0].argsort()], centres[centres[:, 0].argsort()], atol=0.05)

    def test_mfcvae_starts_from_the_first_points_only(self):
        config = mfcvae.Config(network=LINEAR, latent=2, components=3, initial_points=120)
        x, _ = separate()
        x = x[:, torch.randperm(300, generator=torch.Generator().manual_seed(0))]
        spoilt = x.clone()
        spoilt[:, 120:] = math.nan
        found = []
        for content in (x, x[:, :120], spoilt):
            model = mfcvae.Model(config, {"x": (3,)}, generators(range(2), "init"))
            model.begin_stage(ELBO, device_split(content), generators(range(2), "begin"))
            found.append(model.prior.means)
        assert torch.equal(found[0], found[1])
        assert torch.equal(found[0], found[2])

    def test_points_that_all_seeds_share_do(self):
        shared, own = build_vade(LINEAR), build_vade(LINEAR)
        x, _ = separate(1)
        shared.begin_stage(ELBO, device_split(x[0], per_seed=False), generators(range(2), "begin"))
        own.begin_stage(ELBO, device_split(x.expand(2, -1, -1)), generators(range(2), "begin"))
        torch.testing.assert_close(shared.prior.means, own.prior.means)


def test_a_short_training_finds_far_apart_clusters(tmp_path):
    x, labels = separate(1)
    seeds = (0, 1, 2)
    dataset = Dataset({"train": Split({"x": Field(x[0].numpy())})}, "clusters")
    network = Network(encoder=(16,), decoder=(16,), activation="leaky_relu", likelihood="gaussian", noise_sd=0.5)
    model = build_vade(network, seeds=seeds)
    phases = [
        Phase(name, Stage(loss={"name": name}, epochs=20, batch_size=50, learning_rate=5e-3), vade.Loss(name=name))
        for name in ("reconstruction", "elbo")
    ]
    checkpointer = Checkpointer(tmp_path, "clusters")
    trained = fit(model, dataset, phases, seeds, checkpointer, name="clusters", device=torch.device("cpu"))
    for position, stage in itertools.product(range(3), ("reconstruction", "elbo")):
        losses = [row[f"loss_{position}"] for row in trained.history if row["stage"] == stage]
        assert losses[-1] < losses[0]
    clusters = model.responsibilities(x.expand(3, -1, -1))[:, :, 0].argmax(-1).numpy()
    accuracies = clustering_accuracy(clusters, labels)
    assert (accuracies > 0.95).all()


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        (vade.Config, {"facets": 2}, "unknown key 'facets'"),
        (vade.Config, {"componets": 2}, "unknown key 'componets'; did you mean 'components'"),
        (vade.Config, {"latent": 0}, "key 'latent'"),
        (vade.Config, {"network": {"encoder": [4], "decoder": [4], "likelihood": "gaussian"}}, "noise_sd goes with"),
        (mfcvae.Config, {"facets": 0}, "key 'facets'"),
        (mfcvae.Config, {"initial_variance": 0}, "key 'initial_variance'"),
        (mfcvae.Config, {"initial_point": 5}, "did you mean 'initial_points'"),
    ],
)
def test_bad_settings_are_refused_by_name(kind: type, content: dict[str, Any], said: str):
    settings = {"network": {"encoder": [4], "decoder": [4]}, "latent": 2, "components": 3}
    parse(kind, settings, "paper.yaml: model")
    with pytest.raises(CatalogueError) as caught:
        parse(kind, {**settings, **content}, "paper.yaml: model")
    assert said in str(caught.value)


def test_losses_are_known_by_name():
    with pytest.raises(CatalogueError, match="unknown value 'reconstruct'; did you mean 'reconstruction'"):
        parse(vade.Loss, {"name": "reconstruct"}, "paper.yaml: loss")
    with pytest.raises(CatalogueError, match="unknown value 'reconstruction'"):
        parse(mfcvae.Loss, {"name": "reconstruction"}, "paper.yaml: loss")
