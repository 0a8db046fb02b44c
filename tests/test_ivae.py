"""iVAE: the ELBO given the label against definitions and exact likelihoods, gradients, seeds, use of the label."""

import itertools
import math

import pytest
import torch
import vae_reference as reference
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from vae_reference import GAUSSIAN, LINEAR, NETWORKS

from neumix.autoencoder import Network
from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.models.ivae import Config, Loss, Model
from neumix.schedule import Stage
from neumix.settings import CatalogueError, parse
from neumix.training import Phase, fit, generators

ELBO = Loss(name="elbo")
LABELS = 4


def build(network: Network, latent: int = 2, seeds: tuple[int, ...] = (0, 1), scale: float = 0.5) -> Model:
    config = Config(network=network, latent=latent, labels=LABELS)
    model = Model(config, {"x": (3,), "y": ()}, generators(seeds, "init"))
    reference.scatter(model, scale)
    return model


def points(network: Network, *shape: int) -> tuple[Tensor, Tensor]:
    """Return values (*shape, 3) that the likelihood is a distribution of, and labels."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, 3, generator=generator)
    y = torch.randint(LABELS - 1, shape, generator=generator)  # the last label is never seen
    return x if network.likelihood == "gaussian" else (x > 0).float(), y


def elbos(values: reference.Weights, network: Network, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
    """Return log p(x|z) - KL(q(z|x) || p(z|y)) of points one by one, (S, B)."""
    found = torch.empty(x.shape[:2], dtype=torch.float64)
    for seed, b in itertools.product(range(x.shape[0]), range(x.shape[1])):
        q = reference.posterior(values, "autoencoder.", network, seed, x[seed, b])
        prior = Normal(values["means"][seed, y[seed, b]], (values["log_variances"][seed, y[seed, b]] / 2).exp())
        likelihood = reference.likelihood(values, "autoencoder.", network, seed, q.mean + q.stddev * noise[seed, b])
        found[seed, b] = likelihood.log_prob(x[seed, b].double()) - kl_divergence(q, prior).sum()
    return found


def log_conditional(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Return log p(x|y) of points by a sum over a grid of one-dimensional codes, (S, B)."""
    grid = torch.linspace(-15, 15, 3001)
    codes = grid.reshape(1, -1, 1).expand(len(x), -1, -1)
    found = []
    with torch.no_grad():
        for b in range(x.shape[1]):
            at = torch.arange(len(x)), y[:, b]
            prior = Normal(model.means[at], (model.log_variances[at] / 2).exp()).log_prob(grid)  # (S, G)
            likelihood = model.autoencoder.log_likelihood(x[:, b : b + 1].expand(-1, len(grid), -1), codes)
            found.append((likelihood + prior).logsumexp(1) + math.log(0.01))
    return torch.stack(found, 1)


class TestElbo:
    @NETWORKS
    def test_it_is_its_definition(self, network):
        model, (x, y) = build(network), points(network, 2, 5)
        with torch.no_grad():
            found = model.elbo(x, y, generators(range(2), "noise"))
        noise = reference.draws(generators(range(2), "noise"), 5, 2)
        expected = elbos(reference.weights(model), network, x, y, noise)
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
        loss = model.loss({"x": x, "y": y}, ELBO, generators(range(2), "noise"))
        torch.testing.assert_close(loss, -found.mean(1))

    @NETWORKS
    def test_it_is_at_most_the_log_likelihood_given_the_label_even_of_the_best_encoder(self, network):
        model, (x, y) = build(network, latent=1), points(network, 2, 2)
        exact, noise = log_conditional(model, x, y), generators(range(2), "noise")
        optimizer = torch.optim.Adam(model.autoencoder.encoder.parameters(), 0.03)
        for _ in range(200):
            optimizer.zero_grad()
            (-model.elbo(x.repeat_interleave(20, 1), y.repeat_interleave(20, 1), noise).sum()).backward()
            optimizer.step()
        with torch.no_grad():
            found = model.elbo(x.repeat_interleave(4000, 1), y.repeat_interleave(4000, 1), noise).view(2, 2, -1)
        error = found.std(-1) / math.sqrt(4000)
        gap = exact - found.mean(-1)
        assert (gap > -4 * error).all()
        assert (gap < 0.5).all()

    def test_it_is_the_log_likelihood_where_the_encoder_is_exact(self):
        model = build(LINEAR, seeds=(0,))
        mean, variance = model.means[0, 1].detach(), model.log_variances[0, 1].detach().exp()
        slope, offset = reference.linear_gaussian(model.autoencoder, mean, variance, 0.5, 3)
        x, gaps = points(LINEAR, 1, 3)[0], {}
        for label in (0, 1):
            mean, variance = model.means[0, label].detach(), model.log_variances[0, label].detach().exp()
            covariance = slope.T @ torch.diag(variance) @ slope + 0.25 * torch.eye(3)
            exact = MultivariateNormal(offset + mean @ slope, covariance).log_prob(x[0])
            many = x.repeat_interleave(20_000, 1), torch.full((1, 60_000), label)
            with torch.no_grad():
                found = model.elbo(*many, generators([0], "noise")).view(3, 20_000)
            error = found.std(-1) / math.sqrt(20_000)
            gaps[label] = (exact - found.mean(-1)) / error
        assert (gaps[1].abs() < 4).all()  # the label whose posterior the encoder gives
        assert (gaps[0] > 4).all()

    @NETWORKS
    def test_its_gradients_are_finite_differences(self, network):
        model, (x, y) = build(network), points(network, 2, 4)
        model.elbo(x, y, generators(range(2), "noise")).sum().backward()
        noise = reference.draws(generators(range(2), "noise"), 4, 2)
        expected = reference.slopes(lambda values: elbos(values, network, x, y, noise).sum(), reference.weights(model))
        assert len(expected) == len(list(model.parameters())) == 10
        for name, parameter in model.named_parameters():
            direction, slope = expected[name]
            assert (parameter.grad.double() * direction).sum().item() == pytest.approx(slope, rel=1e-3, abs=1e-3), name

    @NETWORKS
    def test_bfloat16_rounds_the_networks_alone(self, network):
        model, (x, y) = build(network), points(network, 2, 50)
        with torch.no_grad():
            exact = model.loss({"x": x, "y": y}, ELBO, generators(range(2), "noise"))
            with torch.autocast("cpu", torch.bfloat16):
                rounded = model.loss({"x": x, "y": y}, ELBO, generators(range(2), "noise"))
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact, rtol=0.03, atol=0.03)


class TestLabels:
    def test_codes_do_not_know_them(self):
        model, (x, y) = build(GAUSSIAN), points(GAUSSIAN, 2, 5)
        codes = model.codes(x)
        assert codes.shape == (2, 5, 2)
        torch.testing.assert_close(codes, model.autoencoder.encode(x).mean)
        assert not torch.equal(*(model.elbo(x, labels, generators(range(2), "noise")) for labels in (y, y + 1)))
        torch.testing.assert_close(model.codes(x), codes, rtol=0, atol=0)

    def test_only_those_seen_move_their_prior(self):
        model, (x, _) = build(GAUSSIAN), points(GAUSSIAN, 2, 5)
        y = torch.tensor([[0, 0, 2, 2, 2], [3, 3, 3, 3, 3]])
        model.loss({"x": x, "y": y}, ELBO, generators(range(2), "noise")).sum().backward()
        for parameter in (model.means, model.log_variances):
            moved = parameter.grad.ne(0).all(-1)
            assert moved.tolist() == [[True, False, True, False], [False, False, False, True]]

    def test_equal_priors_make_them_meaningless(self):
        model, (x, y) = build(GAUSSIAN), points(GAUSSIAN, 2, 5)
        with torch.no_grad():
            model.means.copy_(model.means[:, :1].expand(-1, LABELS, -1).clone())
            model.log_variances.zero_()
        assert torch.equal(*(model.elbo(x, labels, generators(range(2), "noise")) for labels in (y, y + 1)))

    def test_one_too_many_is_an_error(self):
        model, (x, y) = build(GAUSSIAN), points(GAUSSIAN, 2, 5)
        with pytest.raises(RuntimeError, match="out of bounds"):
            model.elbo(x, torch.full_like(y, LABELS), generators(range(2), "noise"))


class TestSeeds:
    @NETWORKS
    def test_a_seed_s_loss_does_not_depend_on_the_others(self, network):
        together, (x, y) = build(network, seeds=(0, 1, 2), scale=0), points(network, 3, 6)
        found = together.loss({"x": x, "y": y}, ELBO, generators((0, 1, 2), "noise"))
        assert len(set(found.tolist())) == 3
        for position, seed in enumerate((0, 1, 2)):
            alone, own = build(network, seeds=(seed,), scale=0), slice(position, position + 1)
            assert torch.equal(alone.means[0], together.means[position])
            expected = alone.loss({"x": x[own], "y": y[own]}, ELBO, generators([seed], "noise"))
            torch.testing.assert_close(found[position], expected[0])

    def test_the_prior_starts_with_means_of_its_own_and_unit_variances(self):
        model = build(GAUSSIAN, seeds=(0, 1), scale=0)
        assert len({tuple(mean.tolist()) for mean in model.means.flatten(0, 1)}) == 2 * LABELS
        assert not model.log_variances.any()


def test_training_pulls_the_codes_of_a_label_to_its_prior(tmp_path):
    generator = torch.Generator().manual_seed(0)
    centres = 3 * torch.randn(LABELS, 3, generator=generator)
    y = torch.arange(400) % LABELS
    x = centres[y] + 0.3 * torch.randn(400, 3, generator=generator)
    dataset = Dataset({"train": Split({"x": Field(x.numpy()), "y": Field(y.numpy())})}, "clusters")
    model = build(Network(encoder=(16,), decoder=(16,), likelihood="gaussian", noise_sd=0.5), scale=0)
    stage = Stage(loss={"name": "elbo"}, epochs=25, batch_size=50, learning_rate=1e-2)
    checkpointer = Checkpointer(tmp_path, "clusters")
    fit(model, dataset, [Phase("main", stage, ELBO)], (0, 1), checkpointer, name="ivae", device=torch.device("cpu"))
    codes = model.codes(x.expand(2, -1, -1))
    nearest = torch.cdist(codes, model.means.detach()).argmin(-1)
    assert (nearest == y).float().mean(1).min() > 0.95


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"labels": 0}, "key 'labels'"),
        ({"latent": 0}, "key 'latent'"),
        ({"componets": 3}, "unknown key 'componets'"),
        ({"network": {"encoder": [4], "decoder": [4], "likelihood": "gaussian"}}, "noise_sd goes with"),
    ],
)
def test_bad_settings_are_refused_by_name(content, said):
    settings = {"network": {"encoder": [4], "decoder": [4]}, "latent": 2}
    assert parse(Config, settings, "paper.yaml: model").labels == 10
    with pytest.raises(CatalogueError) as caught:
        parse(Config, {**settings, **content}, "paper.yaml: model")
    assert said in str(caught.value)


def test_its_loss_is_known_by_name():
    with pytest.raises(CatalogueError, match="unknown value 'elb'; did you mean 'elbo'"):
        parse(Loss, {"name": "elb"}, "paper.yaml: loss")
