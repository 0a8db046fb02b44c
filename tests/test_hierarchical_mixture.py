"""Mixtures of mixtures against dense Gaussians; the curriculum; the reward for equal clusters; starts from k-means."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import chisquare, multivariate_normal
from sklearn.decomposition import FactorAnalysis
from torch import Tensor, nn

from neumix import hierarchical_mixture
from neumix.batching import DeviceSplit
from neumix.checkpoint import Checkpointer
from neumix.data.dataset import Dataset, Field, Split
from neumix.factor_analyzers import FactorAnalyzers
from neumix.hierarchical_mixture import HierarchicalMixture, Likelihood, Structure, clustered
from neumix.schedule import Stage
from neumix.seeding import numpy_rng
from neumix.settings import CatalogueError, parse
from neumix.training import NonFiniteLossError, Phase, fit, generators

CPU = torch.device("cpu")
QUIET = Likelihood(name="nll", noise=0)


class Fixed(HierarchicalMixture):
    """A mixture whose components are what it is given."""

    def __init__(self, structure: Structure, shape: Sequence[int], found: FactorAnalyzers) -> None:
        super().__init__(structure, shape, len(found.means))
        self.log_weights, self.means = nn.Parameter(found.log_weights), nn.Parameter(found.means)
        self.factors, self.log_variances = nn.Parameter(found.factors), nn.Parameter(found.log_variances)
        self.seen: list[Tensor] = []

    def mixtures(self) -> FactorAnalyzers:
        return FactorAnalyzers(self.log_weights, self.means, self.factors, self.log_variances)

    def points(self, batch: Any) -> Tensor:
        self.seen.append(super().points(batch))
        return self.seen[-1]


def random(structure: Structure, shape: Sequence[int] = (3,), seeds: int = 2, seed: int = 0) -> Fixed:
    """Return a mixture of random components, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(seeds, structure.clusters * structure.components, *sizes, generator=generator).double()

    dimension = math.prod(shape)
    found = FactorAnalyzers(
        normal().log_softmax(1), 2 * normal(dimension), normal(dimension, structure.rank), normal(dimension) - 1
    )
    return Fixed(structure, shape, found)


def points(count: int, shape: Sequence[int] = (3,), seeds: int = 2) -> Tensor:
    return 2 * torch.randn(seeds, count, *shape, generator=torch.Generator().manual_seed(7)).double()


def dense_log_joint(model: Fixed, seed: int, x: Tensor) -> np.ndarray:
    """Return log pi_k + log N_k of a seed's components at its points (N, M), (N, K), by SciPy."""
    columns = []
    for log_weight, mean, factors, log_variances in zip(
        *(part[seed].detach() for part in (model.log_weights, model.means, model.factors, model.log_variances)),
        strict=True,
    ):
        covariance = factors @ factors.T + log_variances.exp().diag()
        density = multivariate_normal(mean.numpy(), covariance.numpy())
        columns.append(log_weight.item() + density.logpdf(x.numpy()).reshape(-1))
    return np.stack(columns, 1)


SMALL = Structure(clusters=2, components=3, rank=2)


class TestDensity:
    @pytest.mark.parametrize("shape", [(1,), (3,), (2, 2, 1)])
    @pytest.mark.parametrize("at_once", [1, 2**25])
    def test_is_that_of_dense_gaussians(self, shape, at_once, monkeypatch):
        monkeypatch.setattr(hierarchical_mixture, "_VALUES_AT_ONCE", at_once)
        model, x = random(SMALL, shape), points(7, shape)
        assert model.chunk == (1 if at_once == 1 else 2**25 // (2 * 6 * 4))
        found, shares = model.log_prob(x), model.cluster_responsibilities(x)
        assert found.shape == (2, 7)
        assert shares.shape == (2, 7, 2)
        for seed in range(2):
            joint = dense_log_joint(model, seed, x[seed].flatten(1))
            np.testing.assert_allclose(found[seed].detach(), logsumexp(joint, 1), rtol=1e-9)
            by_cluster = logsumexp(joint.reshape(7, 2, 3), 2)
            by_hand = np.exp(by_cluster - logsumexp(by_cluster, 1, keepdims=True))
            np.testing.assert_allclose(shares[seed].detach(), by_hand, rtol=1e-8, atol=1e-12)

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
    def test_responsibilities_of_clusters_sum_to_one(self, clusters, components, seed):
        model = random(Structure(clusters=clusters, components=components, rank=1), seed=seed)
        shares = model.cluster_responsibilities(20 * points(5))
        assert (shares >= 0).all()
        torch.testing.assert_close(shares.sum(2), torch.ones(2, 5).double())

    def test_integrates_to_one_on_a_line(self):
        grid = torch.linspace(-30, 30, 6001).double()
        density = random(SMALL, (1,)).log_prob(grid[None, :, None].expand(2, -1, -1)).exp()
        torch.testing.assert_close(density.sum(1) * 0.01, torch.ones(2).double(), atol=1e-6, rtol=0)

    def test_integrates_to_one_in_the_plane(self):
        line = torch.linspace(-20, 20, 401).double()
        density = random(SMALL, (2,)).log_prob(torch.cartesian_prod(line, line).expand(2, -1, -1)).exp()
        torch.testing.assert_close(density.sum(1) * 0.01, torch.ones(2).double(), atol=1e-4, rtol=0)

    def test_numbers_of_parameters_and_of_extracted_values(self):
        model = random(SMALL, (2, 2, 1))
        assert model.n_parameters == model.n_extracted == 6 * (1 + 4 + 8 + 4)


class TestSamples:
    def test_have_the_mixtures_moments_and_clusters(self):
        model, size = random(SMALL, (2, 1, 1)), 40_000
        with torch.no_grad():
            x, clusters = model.sample(size, generators((0, 1), "samples"))
        assert x.shape == (2, size, 2, 1, 1)
        assert clusters.shape == (2, size)
        for seed in range(2):
            weights, means = model.log_weights[seed].detach().exp(), model.means[seed].detach()
            shares = weights.view(2, 3).sum(1)
            counts = torch.bincount(clusters[seed], minlength=2)
            assert chisquare(counts.numpy(), (size * shares / shares.sum()).numpy()).pvalue > 1e-4
            for cluster in range(2):
                own, part = x[seed, clusters[seed] == cluster].flatten(1), slice(3 * cluster, 3 * cluster + 3)
                within = weights[part] / weights[part].sum()
                mean = within @ means[part]
                factors = model.factors[seed, part].detach()
                inner = factors @ factors.mT + torch.diag_embed(model.log_variances[seed, part].detach().exp())
                offset = means[part] - mean
                covariance = (within[:, None, None] * (inner + offset[:, :, None] * offset[:, None])).sum(0)
                spread = covariance.diagonal().max().item()
                torch.testing.assert_close(own.mean(0).double(), mean, atol=0.05 * spread**0.5, rtol=0)
                torch.testing.assert_close(own.double().T.cov(), covariance, atol=0.06 * spread, rtol=0)

    def test_a_seeds_samples_are_its_own(self):
        model = random(SMALL)
        with torch.no_grad():
            together, alone = (model.sample(5, generators(seeds, "samples"))[0] for seeds in ((0, 1), (0, 2)))
        assert torch.equal(together[0], alone[0])
        assert not torch.equal(together[1], alone[1])


class TestLimit:
    @settings(max_examples=100, deadline=None)
    @given(st.floats(-30, 5), st.floats(0.01, 60))
    def test_what_is_unlimited_comes_back(self, least, above):
        model = random(Structure(clusters=1, components=1, rank=1, least_log_variance=least))
        wanted = torch.tensor(least + above, dtype=torch.float64)
        torch.testing.assert_close(model.limited(model.unlimited(wanted)), wanted, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(model.limited(model.unlimited(wanted.float())), wanted.float(), rtol=1e-4, atol=1e-4)

    @settings(max_examples=100, deadline=None)
    @given(st.floats(-1e6, 1e6, width=32))
    def test_never_below_the_papers_limit_and_untouched_far_above(self, raw):
        found = random(SMALL).limited(torch.tensor(raw)).item()
        assert found >= -6
        assert found >= raw - 1e-5 * abs(raw)
        if raw > 20:
            assert found == pytest.approx(raw, rel=1e-6)
        if raw < -40:
            assert found == -6

    @pytest.mark.parametrize("log_variance", [-math.inf, -1e9, -7.0, -6.0, -5.9999])
    def test_what_is_at_the_limit_or_below_comes_out_slightly_above(self, log_variance):
        model = random(SMALL)
        raw = model.unlimited(torch.tensor(log_variance))
        assert model.limited(raw).item() == pytest.approx(-6 + 1e-3, abs=1e-6)
        raw.requires_grad_()
        model.limited(raw).backward()
        assert raw.grad > 5e-4, "it can leave the limit"

    def test_rises_everywhere(self):
        found = random(SMALL).limited(torch.linspace(-30, 30, 1000).double())
        assert (found.diff() > 0).all()


class TestLoss:
    def test_is_the_mean_negative_log_likelihood(self):
        model, x = random(SMALL, (2, 2, 1)), points(9, (2, 2, 1))
        torch.testing.assert_close(model.loss({"x": x}, QUIET, []), -model.log_prob(x).mean(1))

    def test_noise_is_each_seeds_own_and_only_for_training(self):
        model, x, loss = random(SMALL), points(9), Likelihood(name="nll", noise=0.3)
        moved = x + 0.3 * torch.stack([torch.randn(9, 3, generator=g) for g in generators((4, 5), "noise")])
        found = model.loss({"x": x}, loss, generators((4, 5), "noise"))
        torch.testing.assert_close(found, -model.log_prob(moved).mean(1))
        with torch.no_grad():
            scored = model.loss({"x": x}, loss, generators((4, 5), "noise"))
        torch.testing.assert_close(scored, -model.log_prob(x).mean(1))

    def far(self, clusters: int) -> Fixed:
        """Return clusters of two components each, at 0, 100, 200, ... on the first axis."""
        count = 2 * clusters
        means = torch.zeros(1, count, 3)
        means[0, :, 0] = 100.0 * (torch.arange(count) // 2)
        weights = torch.full((1, count), 1 / count)
        found = FactorAnalyzers(weights.log(), means, torch.ones(1, count, 3, 1), torch.zeros(1, count, 3))
        return Fixed(Structure(clusters=clusters, components=2, rank=1), (3,), found)

    @pytest.mark.parametrize("counts", [(4, 4), (2, 6), (1, 2, 5), (3, 3, 3), (8,)])
    def test_the_reward_is_the_entropy_of_the_shares_of_a_batch(self, counts):
        model = self.far(len(counts))
        x = torch.zeros(1, sum(counts), 3)
        x[0, :, 0] = 100.0 * torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        plain = model.loss({"x": x}, QUIET, [])
        rewarded = model.loss({"x": x}, Likelihood(name="nll", noise=0, balance=0.7), [])
        shares = np.array(counts) / sum(counts)
        entropy = -(shares * np.log(shares)).sum()
        assert (plain - rewarded).item() == pytest.approx(0.7 * 3 * entropy, abs=1e-4)

    def test_a_cluster_without_points_earns_nothing(self):
        model, x = self.far(2), torch.zeros(1, 5, 3)
        rewarded = model.loss({"x": x}, Likelihood(name="nll", noise=0, balance=0.7), [])
        torch.testing.assert_close(rewarded, model.loss({"x": x}, QUIET, []))
        rewarded.sum().backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())

    def test_points_that_belong_to_both_clusters_are_as_good_as_halves(self):
        model = self.far(2)
        x = torch.tensor([[[50.0, 0, 0]]]).expand(1, 6, 3)
        difference = model.loss({"x": x}, QUIET, []) - model.loss(
            {"x": x}, Likelihood(name="nll", noise=0, balance=1), []
        )
        assert difference.item() == pytest.approx(3 * math.log(2), rel=1e-3)

    def test_gradients_by_finite_differences(self):
        model, x = random(SMALL, seeds=1), points(4, seeds=1)
        loss = Likelihood(name="nll", noise=0, balance=0.5)
        names, values = zip(*model.named_parameters(), strict=True)

        def value(*parameters: Tensor) -> Tensor:
            given = dict(zip(names, parameters, strict=True))
            return torch.func.functional_call(model, given, ({"x": x},), {"loss": loss})

        model.forward = lambda batch, loss: model.loss(batch, loss, [])
        assert torch.autograd.gradcheck(value, [v.detach().clone().requires_grad_() for v in values])

    def test_seeds_do_not_mix(self):
        model, x = random(SMALL), points(6)
        loss = Likelihood(name="nll", noise=0, balance=0.5)
        before = model.loss({"x": x}, loss, [])
        (gradient,) = torch.autograd.grad(before[0], [model.means])
        assert not gradient[1].any()
        with torch.no_grad():
            model.means[1] += 1
        after = model.loss({"x": x}, loss, [])
        assert after[0] == before[0]
        assert after[1] != before[1]


SPACES = 4


def path(shape: Sequence[int] = (3,), count: int = 6) -> np.ndarray:
    """Return points (N, T, ...) whose every space is recognised by its numbers."""
    x = np.arange(math.prod((count, *shape)), dtype=np.float32).reshape(count, 1, *shape) / 64
    return (x + 2 * np.arange(SPACES).reshape(1, -1, *[1] * len(shape))).astype(np.float16)


class TestCurriculum:
    @pytest.mark.parametrize("shape", [(3,), (2, 2, 1)])
    def test_each_epoch_shows_the_next_space_and_the_last_one_stays(self, shape):
        model, spaces = random(SMALL, shape), path(shape)
        batch = {"path": torch.from_numpy(spaces).expand(2, *spaces.shape)}
        for epoch in range(SPACES + 3):
            model.begin_epoch(epoch)
            found = model.points(batch)
            expected = torch.from_numpy(spaces[:, min(epoch, SPACES - 1)]).flatten(1).float().expand(2, -1, -1)
            assert found.dtype == torch.float32
            assert torch.equal(found, expected)

    def test_other_data_are_shown_as_they_are(self):
        model, x = random(SMALL), points(5)
        for epoch in (0, 3):
            model.begin_epoch(epoch)
            assert torch.equal(model.points({"x": x, "y": x[..., 0]}), x)

    def test_the_space_is_part_of_the_state(self):
        model, other = random(SMALL), random(SMALL)
        model.begin_epoch(2)
        other.load_state_dict({name: values.clone() for name, values in model.state_dict().items()})
        spaces = torch.from_numpy(path()).expand(2, -1, -1, -1)
        assert torch.equal(other.points({"path": spaces}), model.points({"path": spaces}))
        assert torch.equal(other.points({"path": spaces}), spaces[:, :, 2].float())
        model.begin_epoch(3)
        assert torch.equal(other.points({"path": spaces}), spaces[:, :, 2].float()), "a copy of its own"

    def test_training_begins_anew_in_the_latent_space_at_every_stage(self, tmp_path):
        spaces = path()
        dataset = Dataset(
            {"train": Split({"x": Field(spaces[:, -1].astype(np.float32))}), "spaces": Split({"path": Field(spaces)})},
            "toy",
        )
        model = random(SMALL).float()
        stage = {"loss": {"name": "nll"}, "batch_size": 4, "learning_rate": 1e-6}
        phases = [
            Phase("curriculum", Stage(**stage, epochs=SPACES + 1, split="spaces", validation="train"), QUIET),
            Phase("tuning", Stage(**stage, epochs=2), QUIET),
            Phase("again", Stage(**stage, epochs=2, split="spaces"), QUIET),
        ]
        checkpointer = Checkpointer(tmp_path / "checkpoint", "toy")
        fit(model, dataset, phases, (0, 1), checkpointer, name="toy", device=CPU)
        of_space = [sorted(spaces[:, space, 0].astype(np.float32).tolist()) for space in range(SPACES)]
        shown = [batch[0, :, 0].tolist() for batch in model.seen]
        epochs = [shown[0:3], shown[3:6], shown[6:9], shown[9:12], shown[12:15]]  # two batches and the score of each
        for epoch, (first, second, scored) in enumerate(epochs):
            assert sorted(first + second) == of_space[min(epoch, SPACES - 1)]
            assert sorted(scored) == of_space[-1]
        later = [sorted(shown[at] + shown[at + 1]) for at in range(15, 23, 2)]
        assert later == [of_space[-1], of_space[-1], of_space[0], of_space[1]]

    def test_a_stage_starts_from_the_first_space(self):
        model, spaces = random(SMALL), path()
        model.begin_epoch(3)
        split = DeviceSplit(Split({"path": Field(spaces)}), 2, CPU)
        found = model.points_to_start(split)
        assert torch.equal(found, torch.from_numpy(spaces[:, 0]).float().expand(2, -1, -1))
        x = spaces[:, -1].astype(np.float32)
        plain = model.points_to_start(DeviceSplit(Split({"x": Field(x)}), 2, CPU))
        assert torch.equal(plain, torch.from_numpy(x).expand(2, -1, -1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(sizes: Sequence[int], dimension: int = 4, spread: float = 0.5) -> tuple[list[np.ndarray], Tensor]:
    """Return separated clusters of given sizes, and all their points in no order, (N, M)."""
    rng = numpy_rng(0, "blobs", *sizes)
    parts = []
    for place, size in enumerate(sizes):
        latent = rng.normal(size=(size, 1)) @ rng.normal(size=(1, dimension))
        part = latent + spread * rng.normal(size=(size, dimension)) + 50 * place * np.eye(dimension)[place % dimension]
        parts.append(part.astype(np.float32))
    return parts, torch.from_numpy(rng.permutation(np.concatenate(parts)))


def matched(found: FactorAnalyzers, parts: Sequence[np.ndarray]) -> list[int]:
    """Return which component is at which cluster, each at one."""
    distance = np.square(found.means[0].numpy()[None] - np.stack([part.mean(0) for part in parts])[:, None]).sum(2)
    nearest = distance.argmin(1).tolist()
    assert sorted(nearest) == list(range(len(parts)))
    return nearest


class TestClustered:
    sizes = (40, 100, 200)

    def test_separated_clusters_are_found_exactly(self):
        parts, x = blobs(self.sizes)
        found = clustered(x, 3, 0, generator())
        assert found.factors.shape == (1, 3, 4, 0)
        overall = x.var(0, correction=0).numpy()
        for k, part in zip(matched(found, parts), parts, strict=True):
            assert found.log_weights[0, k].exp().item() == pytest.approx((len(part) + 1) / 343, rel=1e-5)
            np.testing.assert_allclose(found.means[0, k], part.mean(0), atol=1e-4)
            share = len(part) / (len(part) + 10)
            variances = share * part.var(0) + (1 - share) * overall
            np.testing.assert_allclose(found.log_variances[0, k].exp(), variances, rtol=1e-3)

    def test_each_has_its_factor_analyser(self):
        parts, x = blobs(self.sizes)
        found = clustered(x, 3, 1, generator())
        overall = x.var(0, correction=0).numpy()
        assert found.factors.shape == (1, 3, 4, 1)
        for k, part in zip(matched(found, parts), parts, strict=True):
            own = FactorAnalysis(1, tol=1e-6, max_iter=2000, svd_method="lapack").fit(part)
            a = found.factors[0, k].numpy()
            np.testing.assert_allclose(a @ a.T, own.components_.T @ own.components_, atol=0.2)
            share = len(part) / (len(part) + 10)
            noise = (found.log_variances[0, k].exp().numpy() - (1 - share) * overall) / share
            np.testing.assert_allclose(noise, own.noise_variance_, atol=0.15)
            np.testing.assert_allclose(noise + np.square(a[:, 0]), part.var(0), rtol=0.05)

    def test_a_start_with_factors_is_likelier_than_one_without(self):
        _, x = blobs(self.sizes)
        found = clustered(x, 3, 1, generator())
        own = (found.factors.square().sum(3) + found.log_variances.exp()).log()
        alone = FactorAnalyzers(found.log_weights, found.means, torch.zeros_like(found.factors), own)
        assert found.log_prob(x[None]).mean() > alone.log_prob(x[None]).mean() + 0.1

    def test_a_cluster_of_few_points_leans_on_all(self):
        parts, x = blobs((1, 8, 200), spread=0.1)
        found = clustered(x, 3, 2, generator(1))
        single, few, many = matched(found, parts)
        overall = x.var(0, correction=0).numpy()
        np.testing.assert_allclose(found.log_variances[0, single].exp(), 10 / 11 * overall, rtol=1e-4)
        by_hand = 8 / 18 * parts[1].var(0) + 10 / 18 * overall
        np.testing.assert_allclose(found.log_variances[0, few].exp(), by_hand, rtol=1e-4)
        assert not found.factors[0, [single, few]].any(), "too few points decide no factors"
        assert found.factors[0, many].any()

    @pytest.mark.parametrize("rank", [0, 2])
    def test_as_many_components_as_points(self, rank):
        x = blobs((3, 3))[1]
        found = clustered(x, 6, rank, generator())
        np.testing.assert_allclose(np.sort(found.means[0, :, 0]), np.sort(x[:, 0]), atol=1e-4)
        torch.testing.assert_close(found.log_weights.exp(), torch.full((1, 6), 1 / 6))

    def test_more_components_than_points(self):
        with pytest.raises(ValueError, match="7 components are asked for, but there are 6 points"):
            clustered(blobs((3, 3))[1], 7, 0, generator())

    @pytest.mark.filterwarnings("ignore:.*encountered in", "ignore:FactorAnalysis did not converge")
    def test_constant_features_and_repeated_points_keep_it_finite(self):
        x = torch.zeros(30, 4)
        x[:15, 0] = 1
        with pytest.warns(match="distinct clusters"):
            found = clustered(x, 3, 1, generator())
        for part in (found.log_weights, found.means, found.factors, found.log_variances):
            assert torch.isfinite(part).all()
        assert torch.isfinite(found.log_prob(x[None])).all()
        torch.testing.assert_close(found.log_weights.exp().sum(), torch.tensor(1.0))

    def test_more_columns_than_features_are_empty(self):
        _, x = blobs(self.sizes, dimension=3)
        found = clustered(x, 3, 5, generator())
        assert found.factors.shape == (1, 3, 3, 5)
        assert torch.isfinite(found.log_prob(x[None])).all()
        assert not found.factors[..., 3:].any()
        assert found.factors[..., :3].any()

    def test_many_components_by_mini_batches(self):
        parts, x = blobs([30] * 60, dimension=60)
        found = clustered(x, 60, 1, generator())
        assert found.means.shape == (1, 60, 60)
        torch.testing.assert_close(found.log_weights.exp().sum(), torch.tensor(1.0))
        centres = np.stack([part.mean(0) for part in parts])
        distance = np.sqrt(np.square(found.means[0].numpy()[:, None] - centres).sum(2)).min(1)
        assert np.median(distance) < 1

    def test_the_generators_seed_decides_and_nothing_else_of_it(self):
        x = torch.randn(200, 4, generator=generator(3))
        used = generator()
        torch.randn(10, generator=used)
        first, again, other = (clustered(x, 5, 1, g).means for g in (generator(), used, generator(1)))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("kind", "content", "said"),
    [
        (Structure, {"clusters": 0, "components": 1}, "key 'clusters'"),
        (Structure, {"clusters": 1}, "key 'components' is missing"),
        (Structure, {"clusters": 1, "components": 1, "rank": 0}, "key 'rank'"),
        (Structure, {"clusters": 1, "components": 1, "diagonal": "equal"}, "key 'diagonal': unknown value 'equal'"),
        (Likelihood, {"name": "nll", "noise": -1}, "key 'noise'"),
        (Likelihood, {"name": "nll", "balance": -1}, "key 'balance'"),
        (Likelihood, {"name": "nll", "start": "kmean"}, "did you mean 'kmeans'"),
        (Likelihood, {"name": "nll", "start": "random"}, "key 'start': unknown value 'random'"),
    ],
)
def test_bad_settings_are_named(kind: Any, content: dict[str, Any], said: str) -> None:
    with pytest.raises(CatalogueError, match=said):
        parse(kind, content, "paper.yaml: model")


def test_the_papers_settings_are_the_default() -> None:
    found = Structure(clusters=10, components=25)
    assert (found.rank, found.diagonal, found.least_log_variance) == (6, "variable", -6.0)
    assert Likelihood(name="nll").noise == 0.01


def test_parameters_that_are_not_finite_end_training_with_the_place_where(tmp_path: Path) -> None:
    model = random(Structure(clusters=2, components=1, rank=1), seeds=1).float()
    with torch.no_grad():
        model.factors[0, 1, 0] = torch.nan
    x = points(8, seeds=1)[0].float().numpy()
    stage = Stage(loss={"name": "nll"}, epochs=1, batch_size=4)
    dataset, checkpointer = Dataset({"train": Split({"x": Field(x)})}, "test"), Checkpointer(tmp_path / "point", "toy")
    with pytest.raises(NonFiniteLossError, match="in stage 'main', epoch 1, step 1, seed 0"):
        fit(model, dataset, [Phase("main", stage, QUIET)], (0,), checkpointer, name="toy", device=CPU)
