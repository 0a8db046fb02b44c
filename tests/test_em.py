"""EM of any densities: scikit-learn's steps for Gaussians, likelihood, lower bound, temperature, weights, errors."""

import itertools
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import MultivariateNormal

from neumix import em

CASES = st.tuples(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 9))  # seed, K, N
TEMPERATURES = st.floats(0.05, 50)


class Gaussians:
    """Gaussian components (..., K, D) with full covariances, of which only some parts are fitted."""

    def __init__(self, means: Tensor, fitted: tuple[str, ...] = ("means", "covariances")) -> None:
        self.means, self.fitted = means.clone(), fitted
        self.covariances = torch.eye(means.shape[-1]).double().repeat(*means.shape[:-1], 1, 1)

    def log_densities(self, x: Tensor) -> Tensor:
        normal = MultivariateNormal(self.means[..., None, :, :], self.covariances[..., None, :, :, :])
        found: Tensor = normal.log_prob(x[..., None, :])
        return found

    def maximise(self, x: Tensor, responsibilities: Tensor) -> None:
        share = (responsibilities / responsibilities.sum(-2, keepdim=True)).mT  # (..., K, N)
        if "means" in self.fitted:
            self.means = share @ x
        if "covariances" in self.fitted:
            centred = x[..., None, :, :] - self.means[..., None, :]
            self.covariances = (share[..., None] * centred).mT @ centred


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def clusters(*leading: int, seed: int = 0) -> Tensor:
    """Return points (..., 90, 2) in three clusters that overlap."""
    centres = torch.tensor([[-2.0, 0.0], [1.5, 1.5], [1.0, -2.0]]).double().repeat(30, 1)
    return centres + normal(*leading, 90, 2, seed=seed) * torch.tensor([1.0, 0.6]).double()


def drawn(case: tuple[int, int, int], spread: float = 3) -> tuple[Tensor, Tensor]:
    """Return log-weights (2, K) and log-densities (2, N, K)."""
    seed, k, n = case
    return normal(2, k, seed=seed).log_softmax(1), spread * normal(2, n, k, seed=seed + 1)


def divergence(gamma: Tensor, log_weights: Tensor) -> Tensor:
    """Return KL(gamma || weights) of every point."""
    return (gamma.xlogy(gamma) - gamma * log_weights[:, None]).sum(2)


class TestStep:
    @pytest.mark.parametrize("k", [1, 2, 3])
    def test_it_is_that_of_scikit_learn(self, k):
        x = clusters()
        ours = Gaussians(x[:k])
        log_weights = normal(k, seed=2).log_softmax(0)
        for _ in range(8):
            theirs = GaussianMixture(
                k,
                max_iter=1,
                tol=0,
                reg_covar=0,
                weights_init=log_weights.exp().numpy(),
                means_init=ours.means.numpy(),
                precisions_init=torch.linalg.inv(ours.covariances).numpy(),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                theirs.fit(x.numpy())
            log_weights, log_likelihood = em.em_step(ours, log_weights, x)
            assert log_likelihood.item() == pytest.approx(theirs.lower_bound_, abs=1e-8)
            np.testing.assert_allclose(log_weights.exp(), theirs.weights_, rtol=0, atol=1e-8)
            np.testing.assert_allclose(ours.means, theirs.means_, rtol=0, atol=1e-8)
            np.testing.assert_allclose(ours.covariances, theirs.covariances_, rtol=0, atol=1e-8)

    @settings(max_examples=30, deadline=None)
    @given(
        st.integers(0, 10**6),
        st.integers(1, 4),
        st.sampled_from([("means",), ("covariances",), ("means", "covariances"), ()]),
    )
    def test_the_likelihood_never_falls(self, seed, k, fitted):
        x = clusters(seed=seed)
        components, log_weights = Gaussians(normal(k, 2, seed=seed + 1), fitted), normal(k, seed=seed).log_softmax(0)
        found = []
        for _ in range(6):
            log_weights, log_likelihood = em.em_step(components, log_weights, x)
            found.append(log_likelihood.item())
        assert all(after >= before - 1e-9 for before, after in itertools.pairwise(found))

    def test_several_mixtures_at_once_are_mixtures_alone(self):
        x, means, log_weights = clusters(2), normal(2, 3, 2, seed=3), normal(2, 3, seed=4).log_softmax(1)
        together = Gaussians(means)
        found, log_likelihood = em.em_step(together, log_weights, x, 2.5)
        for index in range(2):
            alone = Gaussians(means[index])
            weights, expected = em.em_step(alone, log_weights[index], x[index], 2.5)
            torch.testing.assert_close((found[index], log_likelihood[index]), (weights, expected))
            torch.testing.assert_close(together.means[index], alone.means)

    def test_the_temperature_is_that_of_the_responsibilities(self):
        x, log_weights = clusters(), normal(2, seed=1).log_softmax(0)
        stepped, expected = Gaussians(x[:2]), Gaussians(x[:2])
        log_densities = expected.log_densities(x)
        found, log_likelihood = em.em_step(stepped, log_weights, x, 3.0)
        gamma = em.responsibilities(log_weights, log_densities, 3.0)
        expected.maximise(x, gamma)
        torch.testing.assert_close(stepped.means, expected.means)
        torch.testing.assert_close(found.exp(), gamma.mean(0))
        torch.testing.assert_close(log_likelihood, (log_weights + log_densities).logsumexp(1).mean())


class TestResponsibilities:
    @settings(max_examples=60, deadline=None)
    @given(CASES, TEMPERATURES)
    def test_definition(self, case, temperature):
        log_weights, log_densities = drawn(case)
        weighted = log_weights.exp()[:, None] * log_densities.exp() ** (1 / temperature)
        found = em.responsibilities(log_weights, log_densities, temperature)
        torch.testing.assert_close(found, weighted / weighted.sum(2, keepdim=True))

    @settings(max_examples=60, deadline=None)
    @given(CASES, TEMPERATURES, TEMPERATURES)
    def test_hotter_is_nearer_to_the_weights(self, case, one, other):
        log_weights, log_densities = drawn(case)
        cold, hot = (
            divergence(em.responsibilities(log_weights, log_densities, temperature), log_weights)
            for temperature in sorted((one, other))
        )
        assert (hot <= cold + 1e-9).all()

    def test_limits_of_the_temperature(self):
        log_weights, log_densities = drawn((0, 4, 6))
        hot = em.responsibilities(log_weights, log_densities, 1e12)
        torch.testing.assert_close(hot, log_weights.exp()[:, None].expand(2, 6, 4))
        cold = em.responsibilities(log_weights, log_densities, 1e-6)
        assert torch.equal(cold.argmax(2), log_densities.argmax(2))
        torch.testing.assert_close(cold.amax(2), torch.ones(2, 6).double())

    def test_densities_far_below_what_a_float_holds(self):
        log_densities = torch.tensor([[-1e5, -1e5 - math.log(3)]])
        found = em.responsibilities(torch.tensor([0.5, 0.5]).log(), log_densities)
        torch.testing.assert_close(found, torch.tensor([[0.75, 0.25]]), rtol=0, atol=2e-3)

    @pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
    def test_a_temperature_is_above_zero(self, temperature):
        with pytest.raises(ValueError, match=f"temperature needs to be above 0, found {temperature}"):
            em.responsibilities(torch.zeros(2), torch.zeros(3, 2), temperature)


class TestBound:
    @settings(max_examples=60, deadline=None)
    @given(CASES, TEMPERATURES)
    def test_it_is_never_above_the_log_likelihood(self, case, temperature):
        log_weights, log_densities = drawn(case)
        joint = em.log_joint(log_weights, log_densities)
        posterior = em.responsibilities(log_weights, log_densities)
        for gamma in (em.responsibilities(log_weights, log_densities, temperature), 0.5 * (posterior + 1 / case[1])):
            gap = joint.logsumexp(2) - em.lower_bound(gamma, joint)
            torch.testing.assert_close(gap, (gamma.xlogy(gamma) - gamma * posterior.log()).sum(2))
            assert (gap >= -1e-9).all()
        torch.testing.assert_close(em.lower_bound(posterior, joint), joint.logsumexp(2))

    def test_of_certain_responsibilities_it_is_q(self):
        joint, certain = normal(5, 3), torch.eye(3).double()[[0, 1, 2, 1, 0]]
        expected = joint[range(5), [0, 1, 2, 1, 0]]
        torch.testing.assert_close(em.lower_bound(certain, joint), expected)
        torch.testing.assert_close(em.expected_log_likelihood(certain, joint), expected)

    def test_the_joint_and_q_by_hand(self):
        joint = em.log_joint(torch.tensor([[1.0, 2.0]]), torch.tensor([[[10.0, 20.0], [30.0, 40.0]]]))
        assert joint.tolist() == [[[11, 22], [31, 42]]]
        gamma = torch.tensor([[[0.25, 0.75], [1.0, 0.0]]])
        assert em.expected_log_likelihood(gamma, joint).tolist() == [[19.25, 31]]


class TestWeights:
    @settings(max_examples=40, deadline=None)
    @given(CASES)
    def test_they_are_the_mean_over_points_that_have_any(self, case):
        gamma = em.responsibilities(*drawn(case))
        found = em.updated_log_weights(gamma)
        torch.testing.assert_close(found.exp(), gamma.mean(1))
        with_absent = torch.cat([torch.zeros(2, 3, case[1]).double(), gamma], 1)
        torch.testing.assert_close(em.updated_log_weights(with_absent), found)

    @settings(max_examples=40, deadline=None)
    @given(CASES)
    def test_no_other_weights_have_a_larger_q(self, case):
        log_weights, log_densities = drawn(case)
        gamma = em.responsibilities(log_weights, log_densities)
        best, other = (
            em.expected_log_likelihood(gamma, em.log_joint(weights, log_densities)).sum(1)
            for weights in (em.updated_log_weights(gamma), normal(2, case[1], seed=5).log_softmax(1))
        )
        assert (best >= other - 1e-9).all()

    def test_a_component_without_points_keeps_a_finite_weight(self):
        found = em.updated_log_weights(torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
        torch.testing.assert_close(found, torch.tensor([0.0, math.log(1e-12)]))
