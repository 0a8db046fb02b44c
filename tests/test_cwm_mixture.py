"""Classifier weighted mixtures: ordinary ones, the form with CDFs, expectations, tolerance."""

import math

import numpy as np
import pytest
import torch
import vae_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from sklearn import mixture as library
from torch import Tensor

from neumix.cdf_mixture import CDFMixture
from neumix.density_model import Likelihood
from neumix.gaussian_mixture import GaussianMixture
from neumix.models.cwm import Config, Loss, Model, mixture
from neumix.models.cwm.gaussian_start import EM, Library
from neumix.models.cwm.maps import Affine, DiagonalAffine, Spline
from neumix.settings import CatalogueError, parse
from neumix.training import generators

DIAGONAL, FULL, SPLINE = Affine(name="diagonal"), Affine(name="full"), Spline(name="spline", hidden=(6,), bins=4)
MAPS = pytest.mark.parametrize("maps", [DIAGONAL, FULL, SPLINE], ids=lambda maps: maps.name)
NLL = Likelihood(name="nll")


def build(maps=DIAGONAL, components=3, hidden=(6,), dimension=2, seeds=(0, 1), scale=0.4, **changes) -> Model:
    """Return a mixture with scattered parameters, those of the classifier most."""
    config = Config(components=components, hidden=hidden, maps=maps, **changes)
    model = Model(config, {"x": (dimension,)}, generators(seeds, "init"))
    if scale:
        reference.scatter(model, scale)
        reference.scatter(model.classifier, 4 * scale)
    return model.requires_grad_(False)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def doubles():
    """Make float64 what new tensors have."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def moments(model: Model, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return means (K, D) and covariances (K, D, D) of affine maps from a normal base."""
    maps = model.maps
    if isinstance(maps, DiagonalAffine):
        covariances = maps.log_variances[seed].double().exp().diag_embed()
    else:
        matrices = maps.matrices[seed].double()
        covariances = torch.linalg.inv(matrices.transpose(1, 2) @ matrices)
    return maps.means[seed].double().numpy(), covariances.numpy()


def as_in_library(weights, means, covariances) -> library.GaussianMixture:
    """Return scikit-learn's mixture with these parameters."""
    made = library.GaussianMixture(len(weights), covariance_type="full")
    made.weights_, made.means_, made.covariances_ = weights, means, covariances
    made.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(covariances))
    return made


class TestConstantClassifier:
    """A classifier that says the same everywhere makes an ordinary mixture."""

    @settings(max_examples=20, deadline=None)
    @given(
        st.sampled_from([DIAGONAL, FULL]),
        st.sampled_from([None, (), (5,), (4, 3)]),
        st.integers(1, 5),
        st.integers(1, 3),
        st.integers(0, 1000),
    )
    def test_density_and_responsibilities_are_those_of_a_gaussian_mixture(self, maps, hidden, components, d, draw):
        model, x = build(maps, components, hidden, d).double(), 2 * normal(2, 12, d, seed=draw).double()
        log_weights = normal(2, components, seed=draw).double().log_softmax(-1)
        model.classifier.make_constant(log_weights)
        found, posterior = model.log_prob(x), model.responsibilities(x)
        for seed in range(2):
            parameters = log_weights[seed].exp().numpy(), *moments(model, seed)
            points = x[seed].numpy()
            np.testing.assert_allclose(found[seed], GaussianMixture(*parameters).log_prob(points), rtol=1e-9, atol=1e-9)
            other = as_in_library(*parameters)
            np.testing.assert_allclose(found[seed], other.score_samples(points), rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(posterior[seed], other.predict_proba(points), rtol=1e-7, atol=1e-12)

    @MAPS
    def test_it_is_the_same_without_a_network(self, maps):
        log_weights, x = normal(2, 3).log_softmax(-1), normal(2, 9, 2)
        network, constant = build(maps), build(maps, hidden=None)
        constant.maps = network.maps
        for model in (network, constant):
            model.classifier.make_constant(log_weights)
            torch.testing.assert_close(model.classifier.log_weights(x), log_weights[:, None].expand(-1, 9, -1))
        torch.testing.assert_close(network.log_joint(x), constant.log_joint(x))
        draws = [model.sample_with_labels(9, generators(range(2), "noise")) for model in (network, constant)]
        for one, other in zip(*draws, strict=True):
            torch.testing.assert_close(one, other)

    def test_it_starts_with_equal_weights(self):
        found = build(hidden=None, scale=0).classifier.log_weights(normal(2, 4, 2))
        torch.testing.assert_close(found, torch.full((2, 4, 3), -math.log(3)))


class TestNetworkClassifier:
    def test_the_weight_of_a_component_is_one_of_all(self):
        model, z = build(components=4, hidden=(5, 5)), normal(2, 30, 2)
        label = torch.arange(30) % 4
        every = model.classifier.log_weights(z)
        torch.testing.assert_close(every.exp().sum(-1), torch.ones(2, 30))
        for seed in range(2):
            found = model.classifier.log_weight_of(seed, z[seed], label)
            torch.testing.assert_close(found, every[seed].gather(1, label[:, None])[:, 0])
        assert (every.std(1) > 0.1).all(), "it depends on the base point"

    @MAPS
    def test_the_density_asks_each_component_at_its_own_base_point(self, maps):
        model, x = build(maps), normal(2, 7, 2)
        z, log_det = model.maps(x)
        joint = torch.stack(
            [
                model.classifier.log_weights(z[:, :, k])[..., k] + model.base.log_prob(z[:, :, k]) + log_det[..., k]
                for k in range(3)
            ],
            -1,
        )
        torch.testing.assert_close(model.log_joint(x), joint)
        torch.testing.assert_close(model.log_prob(x), joint.logsumexp(-1))
        torch.testing.assert_close(model.responsibilities(x), joint.softmax(-1))

    def test_low_precision_is_for_the_hidden_layers_of_the_density_alone(self):
        model, x = build(hidden=(16, 16)), normal(2, 200, 2)
        exact, weights = model.log_prob(x), model.classifier.log_weights(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.log_prob(x)
            assert torch.equal(model.classifier.log_weights(x), weights)
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.1)
        assert not torch.equal(rounded, exact)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.sampled_from([(), (4,), (5, 3)]), st.integers(0, 1000), st.floats(0.1, 1))
def test_on_the_line_it_is_the_form_with_cdfs(components, hidden, seed, scale):
    """With alpha(u) = w(quantile(u)) of the base."""
    model = build(DIAGONAL, components, hidden, 1, (seed,), scale).double()

    def alpha(u):
        z = torch.from_numpy(np.clip(ndtri(u), -40, 40))
        return model.classifier.log_weights(z.reshape(1, -1, 1)).exp().view(*z.shape, components).numpy()

    means, covariances = moments(model, 0)
    other = CDFMixture(means[:, 0], np.sqrt(covariances[:, 0, 0]), alpha)
    x = np.linspace(-5, 5, 41)
    x = x[((x[:, None] - other.means) / other.sds).max(1) < 5]  # a CDF that is 1 has lost the base point
    points = torch.from_numpy(x).view(1, -1, 1)
    np.testing.assert_allclose(model.log_prob(points)[0], other.log_prob(x), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(model.responsibilities(points)[0], other.responsibilities(x), rtol=1e-7, atol=1e-9)


class TestSamples:
    @MAPS
    def test_labels_are_drawn_from_the_weights_and_points_mapped_by_their_component(self, maps):
        model, noise = build(maps), generators(range(2), "noise")
        points, labels = model.sample_with_labels(4000, noise)
        assert points.shape == (2, 4000, 2)
        assert labels.shape == (2, 4000)
        z = model.base_points(4000, generators(range(2), "noise"))
        chosen = labels[..., None, None].expand(-1, -1, -1, 2)
        torch.testing.assert_close(points, model.maps.inverse(z).gather(2, chosen)[:, :, 0])
        shares = torch.nn.functional.one_hot(labels, 3).float()
        for known, probabilities in (
            (z, model.classifier.log_weights(z).exp()),
            (points, model.responsibilities(points)),
        ):
            for where in (torch.ones_like(known[..., :1]), known[..., :1] > 0, known[..., 1:] > 1):
                residual = where * (shares - probabilities)
                error = ((where * probabilities * (1 - probabilities)).mean(1) / 4000).sqrt()
                assert (residual.mean(1).abs() < 4 * error).all()

    def test_many_are_drawn_some_at_a_time(self, monkeypatch):
        monkeypatch.setattr(mixture, "_SAMPLES_AT_ONCE", 4)
        model = build()
        points, labels = model.sample_with_labels(10, generators(range(2), "noise"))
        assert points.shape == (2, 10, 2)
        assert labels.shape == (2, 10)
        assert len(set(points[0, :, 0].tolist())) == 10
        first = model.sample(4, generators(range(2), "noise"))
        assert torch.equal(points[:, :4], first)


def functions(x: Tensor) -> Tensor:
    return x[..., 0].sin() + 0.3 * x.square().sum(-1)


@MAPS
@pytest.mark.parametrize("hidden", [None, (6,)])
def test_a_model_in_double_precision_draws_and_scores_in_it(maps, hidden):
    model = build(maps, hidden=hidden).double()
    samples, labels = model.sample_with_labels(4, generators((0, 1), "double"))
    assert samples.dtype == model.loss({"x": samples}, NLL, []).dtype == torch.float64 and labels.shape == (2, 4)


def test_no_samples_are_an_empty_set():
    samples, labels = build().sample_with_labels(0, generators((0, 1), "none"))
    assert samples.shape == (2, 0, 2) and labels.shape == (2, 0)


class TestExpectation:
    """Eq. (19) on the line, where everything can be integrated."""

    GRID = torch.linspace(-12, 12, 4801).double()

    def line(self, maps=DIAGONAL, seed=0, **changes) -> Model:
        return build(maps, dimension=1, seeds=(seed,), **changes).double()

    def over_data(self, model: Model, function) -> float:
        """Integrate a function of x times the density."""
        x = 5 * self.GRID.view(1, -1, 1)
        values = (model.log_prob(x).exp() * function(x))[0]
        return torch.trapezoid(values, 5 * self.GRID).item()

    def over_base(self, values: Tensor) -> float:
        """Integrate values at the grid's points times the normal density."""
        weights = torch.distributions.Normal(0.0, 1.0).log_prob(self.GRID).exp()
        return torch.trapezoid(weights * values, self.GRID).item()

    @settings(max_examples=10, deadline=None)
    @given(st.sampled_from([DIAGONAL, FULL]), st.integers(0, 1000))
    def test_its_mean_over_the_base_is_the_mean_over_the_density(self, maps, seed):
        model = self.line(maps, seed)
        found = self.over_base(model.conditional_means(functions, self.GRID.view(1, -1, 1))[0])
        assert found == pytest.approx(self.over_data(model, functions), rel=1e-5, abs=1e-5)
        ones = model.conditional_means(lambda x: torch.ones(x.shape[:2]), self.GRID.view(1, -1, 1))
        torch.testing.assert_close(ones, torch.ones(1, 4801).double())

    @settings(max_examples=10, deadline=None)
    @given(st.sampled_from([DIAGONAL, FULL]), st.integers(0, 1000))
    def test_the_variance_left_is_the_whole_less_that_given_the_base_point(self, maps, seed):
        model, z = self.line(maps, seed), self.GRID.view(1, -1, 1)
        mean = self.over_data(model, functions)
        whole = self.over_data(model, lambda x: functions(x).square()) - mean**2
        given_z = model.conditional_means(functions, z)[0]
        within = model.conditional_means(lambda x: functions(x).square(), z)[0] - given_z.square()
        left = self.over_base(given_z.square()) - mean**2
        assert left == pytest.approx(whole - self.over_base(within), rel=1e-4, abs=1e-4)
        assert left <= whole + 1e-6

    @pytest.mark.parametrize("dimension", [1, 2])
    @MAPS
    def test_the_estimate_is_unbiased_and_varies_less_than_the_crude_one(self, maps, dimension):
        if maps is SPLINE and dimension == 1:
            maps = FULL
        model, size = build(maps, dimension=dimension, seeds=(0, 1)), 4000
        terms = model.conditional_means(functions, model.base_points(size, generators(range(2), "noise")))
        assert torch.equal(model.expectation(functions, size, generators(range(2), "noise")), terms.mean(1))
        crude = functions(model.sample(size, generators(range(2), "noise")))  # at the same draws of the base
        error = (terms - crude).std(1) / math.sqrt(size)
        assert ((terms.mean(1) - crude.mean(1)).abs() < 4 * error).all()
        assert (terms.var(1) < crude.var(1)).all()
        assert (terms.var(1) < 0.9 * crude.var(1)).any()

    @MAPS
    def test_its_gradients_are_finite_differences_with_the_same_draws(self, maps, doubles):
        model = build(maps).requires_grad_()

        def estimate() -> Tensor:
            # An integrand that depends on the parameters, as a divergence does.
            return model.expectation(
                lambda x: functions(x) * model.log_prob(x), 15, generators(range(2), "noise")
            ).sum()

        parameters = dict(model.named_parameters())
        found = dict(zip(parameters, torch.autograd.grad(estimate(), list(parameters.values())), strict=True))
        for index, (name, parameter) in enumerate(parameters.items()):
            direction = normal(*parameter.shape, seed=index)
            with torch.no_grad():
                parameter.add_(1e-6 * direction)
                upper = estimate()
                parameter.sub_(2e-6 * direction)
                lower = estimate()
                parameter.add_(1e-6 * direction)
            slope = ((upper - lower) / 2e-6).item()
            assert (found[name] * direction).sum().item() == pytest.approx(slope, rel=1e-5, abs=1e-7), name

    def test_the_mean_gradient_is_that_of_the_integral(self):
        """Where a drawn label would have none: that of the classifier."""
        model = self.line().requires_grad_()
        bias = model.classifier.biases[-1]
        x = 5 * self.GRID.view(1, -1, 1)
        integral = torch.trapezoid((model.log_prob(x).exp() * functions(x))[0], 5 * self.GRID)
        z = self.GRID.view(1, -1, 1)
        weights = torch.distributions.Normal(0.0, 1.0).log_prob(self.GRID).exp()
        estimate = torch.trapezoid(weights * model.conditional_means(functions, z)[0], self.GRID)
        found, expected = (torch.autograd.grad(value, bias)[0] for value in (estimate, integral))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        assert expected.abs().max() > 0.01


class TestTolerance:
    CROWD = {"components": 12, "spread": 3.0}

    @settings(max_examples=15, deadline=None)
    @given(st.sampled_from([DIAGONAL, FULL]), st.sampled_from([1e-7, 1e-4, 5e-3]), st.integers(0, 100))
    def test_what_is_left_out_is_bounded(self, maps, tolerance, draw):
        model, x = build(maps, **self.CROWD).double(), 3 * normal(2, 40, 2, seed=draw).double()
        whole, kept = model.log_joint(x), model.log_joint(x, tolerance)
        z, log_det = model.maps(x)
        log_density = model.base.log_prob(z) + log_det
        out = kept.isneginf()
        share = log_density.softmax(-1)
        assert torch.equal(out, share <= tolerance)
        assert out.any()
        torch.testing.assert_close(kept[~out], whole[~out], rtol=1e-12, atol=1e-12)
        lost = whole.logsumexp(-1).exp() - kept.logsumexp(-1).exp()
        bound = 12 * tolerance * log_density.exp().sum(-1)
        assert (lost >= -1e-15).all()
        assert (lost <= bound + 1e-15).all()
        assert (out.sum(-1) * tolerance * log_density.exp().sum(-1) >= lost - 1e-15).all()

    def test_the_largest_component_is_never_left_out(self):
        model = build(components=200, hidden=None, scale=0.0, spread=0)  # each holds a two-hundredth
        loss = model.loss({"x": normal(2, 9, 2)}, Likelihood(name="nll", tolerance=9e-3), [])
        assert torch.isfinite(loss).all()

    @MAPS
    def test_none_is_exact(self, maps):
        model, x = build(maps, **self.CROWD), 3 * normal(2, 40, 2)
        assert torch.equal(model.log_joint(x, 0.0), model.log_joint(x))
        assert torch.isfinite(model.log_joint(x)).all()
        loss = model.requires_grad_().loss({"x": x}, NLL, [])
        torch.testing.assert_close(loss, -model.log_prob(x).mean(1))

    @pytest.mark.parametrize("hidden", [None, (6,)], ids=["constant", "network"])
    def test_the_loss_and_its_gradients_are_those_of_the_components_that_are_kept(self, hidden):
        model, x = build(hidden=hidden, **self.CROWD).requires_grad_(), 3 * normal(2, 40, 2)
        loss = model.loss({"x": x}, Likelihood(name="nll", tolerance=5e-3), [])
        z, log_det = model.maps(x)
        log_density = model.base.log_prob(z) + log_det
        out = log_density.softmax(-1) <= 5e-3
        expected = -model.log_joint(x).masked_fill(out, -math.inf).logsumexp(-1).mean(1)
        torch.testing.assert_close(loss, expected)
        assert (loss > model.loss({"x": x}, NLL, [])).all()
        parameters = list(model.parameters())
        pairs = zip(*(torch.autograd.grad(value.sum(), parameters) for value in (loss, expected)), strict=True)
        for found, wanted in pairs:
            assert torch.isfinite(found).all()
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


class TestCounts:
    def test_they_are_those_that_the_paper_prints(self):
        def count(components, hidden, maps):
            return build(maps, components, hidden, seeds=(0, 1, 2), scale=0).n_parameters

        def network(components):
            return (2 * 128 + 128) + 2 * (128 * 128 + 128) + (128 * components + components)

        layers = (128, 128, 128)
        # Two means and two log-variances of each component.
        assert network(49) == 39729
        assert count(49, layers, DIAGONAL) == network(49) + 49 * (2 + 2) == 39729 + 196 == 39925
        assert count(50, layers, DIAGONAL) == network(50) + 50 * (2 + 2) == 40058
        # A weight, two means and a matrix of four entries of each component.
        assert count(49, None, FULL) == 49 * (1 + 2 + 4) == 343
        assert count(50, None, FULL) == 50 * (1 + 2 + 4) == 350

    def test_the_default_network_is_that_of_the_counts(self):
        assert Config(components=49, maps=DIAGONAL).hidden == (128, 128, 128)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"components": 0}, "key 'components'"),
        ({"hidden": [0]}, "hidden"),
        ({"spread": -1}, "key 'spread'"),
        ({"base": "gaussian"}, "unknown value 'gaussian'"),
        ({"maps": {"name": "diag"}}, "diagonal"),
        ({"componets": 3}, "unknown key 'componets'"),
    ],
)
def test_bad_settings_are_refused_by_name(content, said):
    settings_ = {"components": 3, "maps": {"name": "diagonal"}}
    assert parse(Config, settings_, "paper.yaml: model").base == "normal"
    with pytest.raises(CatalogueError) as caught:
        parse(Config, {**settings_, **content}, "paper.yaml: model")
    assert said in str(caught.value)


def test_its_losses_are_chosen_by_name():
    for content, kind in {"nll": Likelihood, "em": EM, "scikit_learn": Library}.items():
        assert type(parse(Loss, {"name": content}, "paper.yaml: loss")) is kind
    for wrong in ({"name": "nl"}, {"name": "nll", "iterations": 3}, {"name": "em", "tolerance": -1.0}, {}):
        with pytest.raises(CatalogueError):
            parse(Loss, wrong, "paper.yaml: loss")


def test_the_spread_scales_the_initial_means():
    narrow, wide = (build(scale=0, spread=spread).maps.means for spread in (0.5, 2.0))
    torch.testing.assert_close(4 * narrow, wide)
    assert not torch.allclose(*wide)
    assert not build(scale=0, spread=0.0).maps.means.any()
