"""Einsum networks: exact densities, marginals, gradients, EM and samples, against circuits evaluated node by node."""

import copy
import itertools
import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
import vae_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from test_density_model import counts_and_expected, midpoints
from torch import Tensor, distributions

from neumix import einsum_network
from neumix.einsum_network import EinsumNetwork
from neumix.leaf_distributions import Binomial, BinomialLeaves, Normal
from neumix.region_graph import RegionGraph, poon_domingos, random_binary_trees, region_graph
from neumix.seeding import numpy_rng
from neumix.training import generators

LEVELS = 3
NORMAL, BINOMIAL = Normal(name="normal", least_variance=1e-3), Binomial(name="binomial", levels=LEVELS)
FAMILIES = pytest.mark.parametrize("family", [NORMAL, BINOMIAL], ids=["normal", "binomial"])
GRAPHS: dict[str, Callable[[], RegionGraph]] = {
    "grid": lambda: poon_domingos((2, 2), (2, 2)),
    "large grid": lambda: poon_domingos((4, 6, 1), (3, 3, 1)),
    "line": lambda: poon_domingos((4,), (4,)),
    "trees": lambda: random_binary_trees(4, 1, 3, numpy_rng(0)),
    "uneven trees": lambda: random_binary_trees(5, 2, 4, numpy_rng(0)),
    "pair": lambda: region_graph({(0, 1, 2, 3): [((0, 1), (2, 3))]}),
}
EVERY = pytest.mark.parametrize("name", GRAPHS)
OF_FOUR = pytest.mark.parametrize("name", ["grid", "line", "trees", "pair"])
PLANE = poon_domingos((2,), (2,))

Weights = Sequence[tuple[Tensor, Tensor]]


def build(name: str, family: Normal | Binomial, size: int = 3, seeds=(0, 1), scale: float = 0.5) -> EinsumNetwork:
    """Return a circuit in float64 whose parameters have all moved from their start."""
    circuit = EinsumNetwork(GRAPHS[name](), family, size, generators(seeds, "init"))
    vae_reference.scatter(circuit, scale)
    return circuit.double()


def in_plane(family: Normal | Binomial = NORMAL, size: int = 3, seeds=(0, 1)) -> EinsumNetwork:
    circuit = EinsumNetwork(PLANE, family, size, generators(seeds, "init")).double()
    vae_reference.scatter(circuit, 0.3)
    return circuit


def noise(*purpose: str, seeds=(0, 1)) -> list[torch.Generator]:
    return generators(seeds, "noise", *purpose)


def points(circuit: EinsumNetwork, count: int = 6, seed: int = 0) -> Tensor:
    """Return points (S, N, D) of the kind that the leaves are of."""
    generator = torch.Generator().manual_seed(seed)
    shape = (circuit.n_seeds, count, circuit.graph.variables)
    if isinstance(circuit.leaves, BinomialLeaves):
        return torch.randint(0, LEVELS, shape, generator=generator).double()
    return 1.5 * torch.randn(shape, generator=generator).double()


def log_weights(circuit: EinsumNetwork) -> Weights:
    """Return normalised log-weights of pairs and of partitions, layer by layer."""
    return [
        (
            sums.pairs.log_softmax(4),
            torch.zeros_like(sums.pairs[..., 0]) if sums.mixing is None else sums.mixing.log_softmax(3),
        )
        for sums in circuit.sums
    ]


def of_leaf(circuit: EinsumNetwork, seed: int, entries: range, values: Tensor) -> list[Tensor]:
    """Return the log-density of each component of a leaf."""
    leaves, own = circuit.leaves, slice(entries.start, entries.stop)
    if isinstance(leaves, BinomialLeaves):
        family = distributions.Binomial(leaves.trials, logits=leaves.logits[seed, own].T)
    else:
        variance = leaves.least_variance + leaves.log_excess[seed, own].T.exp()
        family = distributions.Normal(leaves.means[seed, own].T, variance.sqrt())
    return list(family.log_prob(values).sum(1))


def by_node(circuit: EinsumNetwork, weights: Weights, seed: int, x: Tensor) -> Tensor:
    """Return the log-density of one point (D,), node by node from the leaves on."""
    found: list[list[Tensor]] = []
    entry = 0
    for scope in circuit.graph.leaves:
        found.append(of_leaf(circuit, seed, range(entry, entry + len(scope)), x[list(scope)]))
        entry += len(scope)
    for layer, (pairs, mixing) in zip(circuit.graph.layers, weights, strict=True):
        for row, output in itertools.product(range(layer.regions), range(pairs.shape[2])):
            terms = []
            for n, (left, right) in enumerate(zip(layer.left[row], layer.right[row], strict=True)):
                own = zip(itertools.product(found[left], found[right]), pairs[seed, row, output, n], strict=True)
                terms += [mixing[seed, row, output, n] + weight + one + other for (one, other), weight in own]
            if output == 0:
                found.append([])
            found[-1].append(torch.stack(terms).logsumexp(0))
    (root,) = found[-1]
    return root


def all_by_node(circuit: EinsumNetwork, x: Tensor, weights: Weights | None = None) -> Tensor:
    weights = log_weights(circuit) if weights is None else weights
    return torch.stack([torch.stack([by_node(circuit, weights, s, point) for point in x[s]]) for s in range(len(x))])


def states(variables: int, levels: int = LEVELS, seeds: int = 2) -> Tensor:
    """Return all points of some levels, (S, levels ** D, D)."""
    return torch.tensor(list(itertools.product(range(levels), repeat=variables))).double().expand(seeds, -1, -1)


class TestDensity:
    @torch.no_grad()
    @FAMILIES
    @EVERY
    def test_it_is_the_circuits_node_by_node(self, name, family):
        circuit = build(name, family, size=2 if name == "large grid" else 3)
        x = points(circuit, 3)
        found = circuit.log_prob(x)
        assert found.shape == (2, 3)
        torch.testing.assert_close(found, all_by_node(circuit, x), rtol=1e-10, atol=1e-10)

    @torch.no_grad()
    @FAMILIES
    @EVERY
    def test_single_precision_is_close(self, name, family):
        circuit = build(name, family)
        x = points(circuit)
        exact = circuit.log_prob(x)
        rounded = circuit.float().log_prob(x.float())
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded.double(), exact, rtol=1e-5, atol=1e-5)

    @torch.no_grad()
    @OF_FOUR
    def test_probabilities_of_all_states_sum_to_one(self, name):
        total = build(name, BINOMIAL).log_prob(states(4)).exp().sum(1)
        torch.testing.assert_close(total, torch.ones(2).double(), rtol=1e-12, atol=0)

    @torch.no_grad()
    def test_probabilities_of_all_bytes_sum_to_one(self):
        circuit = in_plane(Binomial(name="binomial"))
        total = circuit.log_prob(states(2, 256)).exp().sum(1)
        torch.testing.assert_close(total, torch.ones(2).double(), rtol=1e-10, atol=0)

    @torch.no_grad()
    def test_the_density_of_the_plane_integrates_to_one(self):
        density = in_plane().log_prob(midpoints(9, 0.05).double().expand(2, -1, -1)).exp()
        torch.testing.assert_close(density.sum(1) * 0.05**2, torch.ones(2).double(), rtol=1e-4, atol=0)

    @torch.no_grad()
    @FAMILIES
    def test_far_points_and_tiny_weights(self, family):
        circuit = build("line", family)
        for sums in circuit.sums:
            sums.pairs[..., 0] -= 30
        x = points(circuit) * (1e3 if family is NORMAL else 1)
        found = circuit.float().log_prob(x.float()).double()
        torch.testing.assert_close(found, all_by_node(circuit.double(), x), rtol=1e-5, atol=1e-4)

    @torch.no_grad()
    def test_narrow_distributions_far_from_zero_in_single_precision(self):
        circuit = EinsumNetwork(GRAPHS["pair"](), Normal(name="normal", least_variance=1e-6), 2, noise())
        circuit.leaves.log_excess.fill_(-20)
        circuit.leaves.means += 14
        x = circuit.leaves.means[:, :, 0][:, None] + 1e-3 * torch.arange(5.0)[:, None]
        found = circuit.log_prob(x).double()
        torch.testing.assert_close(found, all_by_node(circuit.double(), x.double()), rtol=1e-5, atol=1e-4)

    @FAMILIES
    @EVERY
    def test_regions_in_chunks_change_nothing(self, name, family, monkeypatch):
        circuit = build(name, family)
        x, found = points(circuit), []
        for work in (einsum_network._WORK, 1, 200):
            monkeypatch.setattr(einsum_network, "_WORK", work)
            circuit.zero_grad()
            log_prob = circuit.log_prob(x)
            log_prob.sum().backward()
            found.append((log_prob.detach(), [parameter.grad.clone() for parameter in circuit.parameters()]))
        torch.testing.assert_close(found[1], found[0])
        torch.testing.assert_close(found[2], found[0])

    @FAMILIES
    @EVERY
    def test_seeds_together_are_each_seed_alone(self, name, family):
        together = build(name, family, seeds=(3, 4, 5), scale=0)
        x = points(together)[:1].expand(3, -1, -1)
        found = together.log_prob(x)
        assert not torch.allclose(found[0], found[1])
        for seed in range(3):
            alone = build(name, family, seeds=(seed + 3,), scale=0)
            torch.testing.assert_close(alone.log_prob(x[:1]), found[seed : seed + 1])
        found[1].mean().backward()
        for parameter in together.parameters():
            assert parameter.grad[1].any()
            assert not parameter.grad[[0, 2]].any()

    @torch.no_grad()
    @EVERY
    def test_autocast_rounds_nothing(self, name):
        circuit = build(name, NORMAL).float()
        x = points(circuit).float()
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(circuit.log_prob(x), circuit.log_prob(x).float())
            rounded = circuit.log_prob(x)
        assert torch.equal(rounded, circuit.log_prob(x))


class TestMarginals:
    @torch.no_grad()
    @OF_FOUR
    @settings(max_examples=8, deadline=None)
    @given(st.lists(st.booleans(), min_size=4, max_size=4))
    def test_they_are_sums_over_what_is_not_observed(self, name, observed):
        circuit, mask = build(name, BINOMIAL), torch.tensor(observed)
        x = points(circuit)
        found = circuit.log_prob(x, mask)
        every, probability = states(4)[0], circuit.log_prob(states(4)).exp()
        alike = (every[:, mask] == x[:, :, None, mask]).all(3)  # (S, N, states)
        torch.testing.assert_close(found, (alike * probability[:, None]).sum(2).log(), rtol=1e-9, atol=1e-9)

    @torch.no_grad()
    def test_they_are_integrals_over_what_is_not_observed(self):
        circuit = in_plane()
        axis = torch.arange(-12, 12, 0.02).double()
        for kept in (0, 1):
            grid = torch.full((2, len(axis), 2), 0.7).double()
            grid[:, :, 1 - kept] = axis
            found = circuit.log_prob(grid[:, :1], torch.arange(2) == kept)[:, 0]
            torch.testing.assert_close(found.exp(), circuit.log_prob(grid).exp().sum(1) * 0.02, rtol=1e-6, atol=0)

    @torch.no_grad()
    @FAMILIES
    @EVERY
    def test_what_is_not_observed_may_be_anything(self, name, family):
        circuit = build(name, family)
        x = points(circuit)
        mask = torch.arange(x.shape[2]) % 2 == 0
        found = circuit.log_prob(x, mask)
        x[:, :, ~mask] = math.nan
        assert torch.equal(circuit.log_prob(x, mask), found)
        assert torch.allclose(circuit.log_prob(x, torch.zeros_like(mask)), torch.zeros(()).double(), atol=1e-12)
        x = points(circuit)
        torch.testing.assert_close(circuit.log_prob(x, torch.ones_like(mask)), circuit.log_prob(x), rtol=1e-12, atol=0)


class TestGradients:
    @FAMILIES
    @pytest.mark.parametrize("name", ["grid", "line", "uneven trees", "pair"])
    def test_those_of_the_circuit_node_by_node(self, name, family):
        circuit = build(name, family, 2)
        x = points(circuit, 4)
        parameters = list(circuit.parameters())
        shares = torch.rand(2, 4, generator=torch.Generator().manual_seed(1)).double()
        found = torch.autograd.grad((shares * circuit.log_prob(x)).sum(), parameters)
        expected = torch.autograd.grad((shares * all_by_node(circuit, x)).sum(), parameters)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)

    @FAMILIES
    @EVERY
    def test_finite_differences(self, name, family):
        circuit = build(name, family)
        x = points(circuit)

        def value(weights: vae_reference.Weights) -> Tensor:
            other = copy.deepcopy(circuit)
            other.load_state_dict(weights)
            with torch.no_grad():
                return other.log_prob(x).sum()

        slopes = vae_reference.slopes(value, vae_reference.weights(circuit))
        circuit.log_prob(x).sum().backward()
        for key, parameter in circuit.named_parameters():
            direction, expected = slopes[key]
            assert (parameter.grad * direction).sum().item() == pytest.approx(expected, rel=1e-6, abs=1e-6), key


def moved(circuit: EinsumNetwork, x: Tensor, step: float = 1.0, chunk: int = 10_000) -> tuple[EinsumNetwork, Tensor]:
    """Return the circuit after a step of EM, and the mean log-likelihood before."""
    after = copy.deepcopy(circuit)
    return after, after.em_step(x, step, chunk)


class TestEm:
    @FAMILIES
    @EVERY
    def test_it_never_lowers_the_likelihood(self, name, family):
        circuit = build(name, family, 2 if name == "large grid" else 3)
        x = points(circuit, 30)
        values = torch.stack([circuit.em_step(x, 1.0, 1000) for _ in range(25)])
        assert (values.diff(dim=0) > -1e-10).all()
        assert (values[-1] > values[0] + 0.05).all()
        with torch.no_grad():
            assert (circuit.log_prob(x).mean(1) >= values[-1] - 1e-10).all()

    @FAMILIES
    @pytest.mark.parametrize("step", [1.0, 0.3])
    @pytest.mark.parametrize("name", ["grid", "line", "trees", "uneven trees", "pair"])
    def test_weights_move_towards_shares_of_expected_counts(self, name, step, family):
        circuit = build(name, family, 2)
        x = points(circuit, 5)
        before = [[part.detach().requires_grad_() for part in parts] for parts in log_weights(circuit)]
        log_prob = all_by_node(circuit, x, before)
        flat = list(itertools.chain(*before))
        counts = iter(torch.autograd.grad(log_prob.sum(), flat))
        after, value = moved(circuit, x, step)
        torch.testing.assert_close(value, log_prob.detach().mean(1))
        found = iter(itertools.chain(*log_weights(after)))
        for old, count, new in zip(flat, counts, found, strict=True):
            share = count / count.sum(-1, keepdim=True)
            torch.testing.assert_close(new.exp(), (1 - step) * old.exp() + step * share, rtol=1e-8, atol=1e-12)

    def test_a_mixture_of_gaussians_moves_as_in_scikit_learn(self):
        components, rng = 3, numpy_rng(0, "mixture")
        circuit = build("pair", NORMAL, components)
        pi = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], dtype=torch.float64)
        with torch.no_grad():  # both leaves have the same component
            circuit.sums[0].pairs.copy_((torch.diag_embed(pi) + 1e-30).log().flatten(1)[:, None, None, None])
        x = torch.from_numpy(rng.normal(size=(2, 60, 4)) + 2 * rng.integers(0, 3, size=(2, 60, 1)))
        after, value = moved(circuit, x)
        for seed in range(2):
            mixture = GaussianMixture(
                components,
                covariance_type="diag",
                reg_covar=0,
                max_iter=1,
                weights_init=pi[seed].numpy(),
                means_init=circuit.leaves.means[seed].T.detach().numpy(),
                precisions_init=1 / circuit.leaves.variances[seed].T.detach().numpy(),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                mixture.fit(x[seed].numpy())
            assert value[seed].item() == pytest.approx(mixture.lower_bound_, rel=1e-10)
            weights = after.sums[0].pairs[seed, 0, 0, 0].softmax(0).view(3, 3).detach().numpy()
            np.testing.assert_allclose(weights, np.diag(mixture.weights_), rtol=1e-8, atol=1e-12)
            np.testing.assert_allclose(after.leaves.means[seed].T.detach(), mixture.means_, rtol=1e-8)
            np.testing.assert_allclose(after.leaves.variances[seed].T.detach(), mixture.covariances_, rtol=1e-7)

    @pytest.mark.parametrize("step", [1.0, 0.2])
    def test_binomial_leaves_move_towards_mean_levels(self, step):
        circuit = build("pair", BINOMIAL, 2)
        x = points(circuit, 8)
        after, _ = moved(circuit, x, step)
        with torch.no_grad():
            for seed in range(2):
                old = circuit.leaves.logits[seed].sigmoid()  # (4, 2)
                level = distributions.Binomial(LEVELS - 1, probs=old).log_prob(x[seed][:, :, None])  # (8, 4, 2)
                weights = circuit.sums[0].pairs[seed, 0, 0, 0].softmax(0).view(2, 2)
                joint = weights.log() + level[:, :2].sum(1)[:, :, None] + level[:, 2:].sum(1)[:, None]
                posterior = joint.flatten(1).softmax(1).view(8, 2, 2)
                for own, gamma in ((slice(0, 2), posterior.sum(2)), (slice(2, 4), posterior.sum(1))):
                    mean = x[seed][:, own].T @ gamma / gamma.sum(0)
                    expected = (1 - step) * old[own] + step * mean / (LEVELS - 1)
                    torch.testing.assert_close(after.leaves.logits[seed, own].sigmoid(), expected, rtol=1e-9, atol=1e-9)

    def test_normal_leaves_move_their_means_and_mean_squares(self):
        circuit = build("uneven trees", NORMAL)
        x, step = points(circuit, 20), 0.3
        whole, _ = moved(circuit, x)
        part, _ = moved(circuit, x, step)
        means = [one.leaves.means.detach() for one in (circuit, whole, part)]
        squares = [one.leaves.variances.detach() + one.leaves.means.detach().square() for one in (circuit, whole, part)]
        for old, new, found in (means, squares):
            torch.testing.assert_close(found, (1 - step) * old + step * new, rtol=1e-6, atol=1e-6)

    @FAMILIES
    @EVERY
    def test_points_in_chunks_change_nothing(self, name, family):
        circuit = build(name, family)
        x = points(circuit, 7)
        expected, value = moved(circuit, x)
        for chunk in (1, 3):
            found, again = moved(circuit, x, chunk=chunk)
            torch.testing.assert_close(again, value)
            torch.testing.assert_close(dict(found.state_dict()), dict(expected.state_dict()), rtol=1e-6, atol=1e-6)

    @FAMILIES
    @EVERY
    def test_a_seed_depends_on_no_other(self, name, family):
        circuit = build(name, family)
        x = points(circuit, 7)
        expected, value = moved(circuit, x, 0.5)
        x[1] = x[1].flip(0) / 2 if family is NORMAL else (LEVELS - 1) - x[1]
        found, again = moved(circuit, x, 0.5)
        assert again[0] == value[0]
        assert again[1] != value[1]
        for key, parameter in expected.named_parameters():
            assert torch.equal(parameter[0], found.get_parameter(key)[0]), key
            assert not torch.equal(parameter[1], found.get_parameter(key)[1]), key

    def test_what_has_no_part_in_any_point_stays(self):
        circuit = build("line", NORMAL)
        with torch.no_grad():
            circuit.leaves.means[:, 0, 1] = 1e4  # no point is near
            circuit.leaves.log_excess[:, 0, 1] = 0
        after, _ = moved(circuit, points(circuit))
        for one, other in (
            (circuit.leaves.means, after.leaves.means),
            (circuit.leaves.log_excess, after.leaves.log_excess),
        ):
            assert torch.equal(one[:, 0, 1], other[:, 0, 1])
            assert not torch.isclose(one[:, 0, 0], other[:, 0, 0]).any()
        assert all(parameter.isfinite().all() for parameter in after.parameters())

    def test_weights_of_no_count_stay(self):
        sums = build("line", NORMAL).sums[1]
        old = copy.deepcopy(sums)
        counts = torch.rand(sums.weights().shape, generator=torch.Generator().manual_seed(2)).double()
        counts[0, 1] = 0  # a region that is nowhere chosen, and a partition
        counts[1, 0, 2, :9] = 0
        with torch.no_grad():
            sums.maximise(counts, 1.0)
        pairs, before = sums.pairs.softmax(4), old.pairs.softmax(4)
        torch.testing.assert_close(pairs[0, 1], before[0, 1])
        torch.testing.assert_close(pairs[1, 0, 2, 0], before[1, 0, 2, 0])
        assert not torch.isclose(pairs[1, 0, 2, 1], before[1, 0, 2, 1]).any()
        torch.testing.assert_close(sums.mixing.softmax(3)[0, 1], old.mixing.softmax(3)[0, 1])
        assert sums.mixing.softmax(3)[1, 0, 2, 0] < 1e-12
        torch.testing.assert_close(sums.weights()[1, 1], (counts[1, 1] / counts[1, 1].sum(1, keepdim=True)))

    def test_variances_keep_their_bound(self):
        circuit = build("pair", NORMAL)
        x = points(circuit, 1).expand(-1, 9, -1)
        for _ in range(3):
            value = circuit.em_step(x, 1.0, 100)
        assert (circuit.leaves.variances >= NORMAL.least_variance).all()
        torch.testing.assert_close(circuit.leaves.variances.min().item(), NORMAL.least_variance, rtol=1e-5, atol=0)
        peak = -2 * math.log(2 * math.pi * NORMAL.least_variance)
        torch.testing.assert_close(value, torch.full((2,), peak).double(), rtol=1e-4, atol=1e-4)

    def test_probabilities_keep_their_bound(self):
        circuit = build("pair", BINOMIAL)
        circuit.em_step(torch.zeros(2, 3, 4).double(), 1.0, 100)
        torch.testing.assert_close(circuit.leaves.logits.sigmoid(), torch.full((2, 4, 3), 1e-6).double())
        rare = circuit.log_prob(torch.full((2, 1, 4), LEVELS - 1.0).double())
        torch.testing.assert_close(rare, torch.full((2, 1), 4 * (LEVELS - 1) * math.log(1e-6)).double())


class TestSamples:
    @OF_FOUR
    def test_states_are_as_frequent_as_they_are_probable(self, name):
        circuit = build(name, BINOMIAL, scale=1.0)
        samples = circuit.sample(6000, noise("sample"))
        assert samples.shape == (2, 6000, 4)
        place = (samples @ (LEVELS ** torch.arange(3, -1, -1)).double()).long()
        with torch.no_grad():
            probability = circuit.log_prob(states(4)).exp()
        for seed in range(2):
            counts = torch.bincount(place[seed], minlength=LEVELS**4).numpy()
            expected = 6000 * probability[seed].numpy()
            rare = expected < 5
            counts, expected = (np.append(part[~rare], part[rare].sum()) for part in (counts, expected))
            if expected[-1] == 0:
                counts, expected = counts[:-1], expected[:-1]
            assert chisquare(counts, expected).pvalue > 1e-5

    def test_points_of_the_plane_follow_the_density(self):
        circuit = in_plane().float()
        samples = circuit.sample(6000, noise("sample"))
        for seed in range(2):
            with torch.no_grad():
                counts, expected = counts_and_expected(
                    samples[seed], lambda x, seed=seed: circuit.log_prob(x.expand(2, -1, -1))[seed : seed + 1]
                )
            assert chisquare(counts, expected).pvalue > 1e-5

    @EVERY
    def test_moments_are_those_of_the_circuit(self, name):
        circuit = build(name, NORMAL, scale=1.0)
        samples = circuit.sample(4000, noise("sample"))
        axis = torch.arange(-15, 15, 0.1).double()
        for variable in range(0, circuit.graph.variables, 5):
            x = torch.zeros(2, len(axis), circuit.graph.variables).double()
            x[:, :, variable] = axis
            with torch.no_grad():
                density = circuit.log_prob(x, torch.arange(circuit.graph.variables) == variable).exp() * 0.1
            mean, square = ((density * axis**power).sum(1) for power in (1, 2))
            spread = (square - mean.square()).sqrt()
            found = samples[:, :, variable]
            assert ((found.mean(1) - mean).abs() < 5 * spread / len(found[0]) ** 0.5).all()
            torch.testing.assert_close(found.std(1), spread, rtol=0.08, atol=0)

    def test_bytes(self):
        circuit = in_plane(Binomial(name="binomial")).float()
        samples = circuit.sample(50, noise("sample"))
        assert samples.dtype == torch.float32
        assert torch.equal(samples, samples.round())
        assert samples.min() >= 0
        assert 200 < samples.max() <= 255

    @FAMILIES
    @EVERY
    def test_seeds_draw_apart(self, name, family):
        circuit = build(name, family)
        samples = circuit.sample(40, noise("sample"))
        again = circuit.sample(40, [noise("sample")[0], noise("other")[1]])
        assert torch.equal(again[0], samples[0])
        assert not torch.equal(again[1], samples[1])
        alone = build(name, family, seeds=(1,), scale=0)
        alone.load_state_dict({key: value[1:] for key, value in circuit.state_dict().items()})
        assert torch.equal(alone.sample(40, noise("sample", seeds=(1,)))[0], samples[1])

    def test_many_are_drawn_in_parts(self, monkeypatch):
        circuit = build("grid", NORMAL)
        monkeypatch.setattr(einsum_network, "_SAMPLES", 7)
        samples = circuit.sample(20, noise("sample"))
        assert samples.shape == (2, 20, 4)
        assert len(samples[0].unique(dim=0)) == 20


def test_the_state_is_the_parameters_alone():
    circuit = build("uneven trees", NORMAL)
    assert set(circuit.state_dict()) == {key for key, _ in circuit.named_parameters()}
    other = build("uneven trees", NORMAL, seeds=(7, 8))
    other.load_state_dict(circuit.state_dict())
    x = points(circuit)
    assert torch.equal(other.log_prob(x), circuit.log_prob(x))
