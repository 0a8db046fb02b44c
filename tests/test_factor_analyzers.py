"""Mixtures of factor analysers against dense Gaussian algebra."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.decomposition import FactorAnalysis
from torch import Tensor

from neumix.factor_analyzers import FactorAnalyzers, em_step


def mixtures(seeds: int = 2, components: int = 3, dimension: int = 5, rank: int = 2, seed: int = 0) -> FactorAnalyzers:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return FactorAnalyzers(
        normal(seeds, components).log_softmax(1),
        2 * normal(seeds, components, dimension),
        normal(seeds, components, dimension, rank),
        normal(seeds, components, dimension) - 1,
    )


def points(count: int, dimension: int = 5, seeds: int = 2) -> Tensor:
    return 2 * torch.randn(seeds, count, dimension, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def dense(model: FactorAnalyzers, seed: int, component: int) -> tuple[np.ndarray, np.ndarray]:
    a, d = model.factors[seed, component], model.log_variances[seed, component].exp()
    return model.means[seed, component].numpy(), (a @ a.T + torch.diag(d)).numpy()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_log_densities_are_those_of_dense_gaussians(
    seeds: int, components: int, dimension: int, rank: int, seed: int
) -> None:
    model, x = mixtures(seeds, components, dimension, rank, seed), points(4, dimension, seeds)
    found = model.log_densities(x)
    for s in range(seeds):
        for k in range(components):
            mean, covariance = dense(model, s, k)
            expected = multivariate_normal(mean, covariance).logpdf(x[s].numpy()).reshape(-1)
            np.testing.assert_allclose(found[s, :, k], expected, rtol=1e-9, atol=1e-9)


def test_far_from_the_origin_digits_are_kept() -> None:
    model = mixtures()
    far = FactorAnalyzers(model.log_weights, model.means + 1e4, model.factors, model.log_variances)
    torch.testing.assert_close(far.log_prob(points(6) + 1e4), model.log_prob(points(6)), rtol=1e-7, atol=1e-7)


def test_responsibilities_and_mixture_density() -> None:
    model, x = mixtures(), points(6)
    total = model.responsibilities(x).sum(2)
    torch.testing.assert_close(total, torch.ones_like(total))
    by_hand = (model.log_weights[:, None].exp() * model.log_densities(x).exp()).sum(2).log()
    torch.testing.assert_close(model.log_prob(x), by_hand)


def test_gradients_by_finite_differences() -> None:
    model, x = mixtures(1, 2, 3, 2), points(4, 3, 1)
    parts = [p.clone().requires_grad_() for p in (model.log_weights, model.means, model.factors, model.log_variances)]
    assert torch.autograd.gradcheck(lambda *p: FactorAnalyzers(*p).log_prob(x), parts)


def test_the_marginal_is_that_of_the_dense_gaussian() -> None:
    model, features = mixtures(), torch.tensor([3, 0])
    x = points(5)[..., features]
    found = model.marginal(features).log_densities(x)
    for k in range(3):
        mean, covariance = dense(model, 1, k)
        small = multivariate_normal(mean[[3, 0]], covariance[np.ix_([3, 0], [3, 0])])
        np.testing.assert_allclose(found[1, :, k], small.logpdf(x[1].numpy()), rtol=1e-9)


def test_joint_is_marginal_times_conditional() -> None:
    model, x = mixtures(), points(4)
    observed, wanted = torch.tensor([4, 1]), torch.tensor([0, 3, 2])
    rest = model.conditional(observed, x[..., observed], wanted)
    assert rest.log_weights.shape == (2, 4, 3)
    assert rest.means.shape == (2, 4, 3, 3)
    marginal = model.marginal(observed).log_prob(x[..., observed])
    for point in range(4):
        one = FactorAnalyzers(rest.log_weights[:, point], rest.means[:, point], rest.factors, rest.log_variances)
        conditional = one.log_prob(x[:, [point]][..., wanted])[:, 0]
        torch.testing.assert_close(marginal[:, point] + conditional, model.log_prob(x)[:, point])


def test_the_conditional_mean_is_that_of_the_dense_gaussian() -> None:
    model, x = mixtures(1, 1), points(3, seeds=1)
    observed, wanted = torch.tensor([0, 2]), torch.tensor([1, 3, 4])
    mean, covariance = dense(model, 0, 0)
    gain = covariance[np.ix_([1, 3, 4], [0, 2])] @ np.linalg.inv(covariance[np.ix_([0, 2], [0, 2])])
    expected = mean[[1, 3, 4]] + (x[0].numpy()[:, [0, 2]] - mean[[0, 2]]) @ gain.T
    np.testing.assert_allclose(model.conditional(observed, x[..., observed], wanted).mean()[0], expected, rtol=1e-9)


def test_a_feature_cannot_be_known_and_wanted() -> None:
    with pytest.raises(ValueError, match=r"both observed and wanted.*\[1\]"):
        mixtures().conditional(torch.tensor([1, 2]), points(2)[..., :2], torch.tensor([0, 1]))


def test_samples_have_the_mixtures_moments() -> None:
    model = mixtures(1, 2, 3, 2)
    x, labels = model.sample(60_000, [torch.Generator().manual_seed(1)])
    weights = model.log_weights[0].exp()
    share = torch.bincount(labels[0], minlength=2) / 60_000
    torch.testing.assert_close(share.double(), weights, atol=0.01, rtol=0)
    for k in range(2):
        mean, covariance = dense(model, 0, k)
        own = x[0, labels[0] == k].numpy()
        np.testing.assert_allclose(own.mean(0), mean, atol=0.06)
        np.testing.assert_allclose(np.cov(own.T), covariance, atol=0.15)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99))
def test_em_never_lowers_the_likelihood(seed: int) -> None:
    model, x = mixtures(1, 3, 4, 2, seed), points(60, 4, 1)
    scores = []
    for _ in range(6):
        model, score = em_step(model, x)
        scores.append(score.item())
    assert np.all(np.diff(scores) > -1e-9)


def test_em_of_one_component_finds_the_maximum_of_factor_analysis() -> None:
    truth = mixtures(1, 1, 6, 2)
    x, _ = truth.sample(500, [torch.Generator().manual_seed(2)])
    model = mixtures(1, 1, 6, 2, seed=5)
    for _ in range(1500):
        model, _ = em_step(model, x)
    reference = FactorAnalysis(2, tol=1e-10, max_iter=20_000, svd_method="lapack").fit(x[0].numpy())
    assert model.log_prob(x).mean().item() == pytest.approx(reference.score(x[0].numpy()), abs=1e-4)
    np.testing.assert_allclose(model.means[0, 0], x[0].mean(0), atol=1e-6)


def test_a_component_without_points_stays() -> None:
    model = mixtures(1, 2, 3, 1)
    lost = FactorAnalyzers(
        model.log_weights, model.means + torch.tensor([0.0, 1e3])[None, :, None], model.factors, model.log_variances
    )
    after, _ = em_step(lost, points(30, 3, 1))
    assert torch.isfinite(after.log_weights).all()
    assert torch.equal(after.means[0, 1], lost.means[0, 1])
    assert torch.equal(after.log_variances[0, 1], lost.log_variances[0, 1])


def test_seeds_do_not_mix() -> None:
    model, x = mixtures(), points(20)
    alone = FactorAnalyzers(
        *(part[1:] for part in (model.log_weights, model.means, model.factors, model.log_variances))
    )
    torch.testing.assert_close(em_step(model, x)[0].factors[1:], em_step(alone, x[1:])[0].factors)


def test_without_columns_the_covariance_is_the_diagonal() -> None:
    model, x = mixtures(rank=1), points(6)
    bare = FactorAnalyzers(model.log_weights, model.means, model.factors[..., :0], model.log_variances)
    null = FactorAnalyzers(model.log_weights, model.means, 0 * model.factors, model.log_variances)
    torch.testing.assert_close(bare.log_prob(x), null.log_prob(x))
    known, wanted = torch.tensor([0, 2]), torch.tensor([1, 3, 4])
    torch.testing.assert_close(
        bare.conditional(known, x[..., known], wanted).mean(), null.conditional(known, x[..., known], wanted).mean()
    )
    (step, score), (other, same) = em_step(bare, x), em_step(null, x)
    assert step.factors.shape == bare.factors.shape
    torch.testing.assert_close((score, step.means, step.log_variances), (same, other.means, other.log_variances))


@pytest.mark.parametrize(
    ("part", "bad"),
    [
        *((part, torch.nan) for part in ("log_weights", "means", "factors", "log_variances")),
        ("means", torch.inf),
        ("factors", torch.inf),
        ("log_variances", -torch.inf),
    ],
)
def test_numbers_that_are_not_finite_go_through_in_their_seed_alone(part: str, bad: float) -> None:
    model, x = mixtures(), points(6)
    broken = {name: values.clone() for name, values in vars(model).items()}
    broken[part][0, 1] = bad
    found = FactorAnalyzers(**broken).log_prob(x)
    assert not torch.isfinite(found[0]).any()
    torch.testing.assert_close(found[1], model.log_prob(x)[1])


def test_a_matrix_that_rounding_made_indefinite_gives_nan() -> None:
    model = mixtures(1, 1, 3, 2)
    factors = 1e4 * torch.ones(1, 1, 3, 2)  # its columns are equal, and 1 is lost beside their squares
    single = FactorAnalyzers(model.log_weights.float(), model.means.float(), factors, model.log_variances.float())
    assert torch.isnan(single.log_prob(points(2, 3, 1).float())).all()
