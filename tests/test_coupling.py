"""Coupling flows: inverse, log-determinant against the Jacobian, identity start, seeds apart, counts of parameters."""

import itertools
import math

import pytest
import torch
import vae_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neumix.coupling import CouplingFlow
from neumix.density_model import Likelihood, ReverseKL
from neumix.models.coupling_flow import Config, Loss, Model
from neumix.settings import CatalogueError, parse
from neumix.training import generators

KINDS = pytest.mark.parametrize("univariate", ["affine", "spline"])
CASES = {
    "univariate": st.sampled_from(["affine", "spline"]),
    "dimension": st.integers(2, 4),
    "transforms": st.integers(1, 3),
    "hidden": st.sampled_from([(), (6,), (4, 5)]),
    "draw": st.integers(0, 100),
}


def flow(univariate, dimension=2, transforms=2, hidden=(6,), *, copies=2, scale=0.5, **options) -> CouplingFlow:
    """Return flows with scattered weights, in float64."""
    made = CouplingFlow(dimension, transforms, hidden, univariate, generators(range(copies), "init"), **options)
    reference.scatter(made, scale)
    return made.double().requires_grad_(False)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


@settings(max_examples=40, deadline=None)
@given(**CASES, wide=st.sampled_from([0.5, 2.0]))
def test_the_inverse_undoes_it(univariate, dimension, transforms, hidden, draw, wide):
    made, x = flow(univariate, dimension, transforms, hidden), wide * normal(2, 7, dimension, seed=draw)
    z, log_det = made(x)
    back, same = made.inverse(z)
    assert z.shape == x.shape
    assert log_det.shape == x.shape[:2]
    torch.testing.assert_close(back, x, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(same, log_det, rtol=1e-7, atol=1e-7)


@KINDS
@pytest.mark.parametrize("dimension", [2, 3])
def test_the_inverse_undoes_it_in_single_precision(univariate, dimension):
    made, x = flow(univariate, dimension, 4, (8,), scale=0.1).float(), 2 * normal(2, 200, dimension).float()
    z, log_det = made(x)
    assert z.dtype == log_det.dtype == torch.float32
    back, same = made.inverse(z)
    torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(same, log_det, rtol=1e-3, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(**CASES)
def test_the_log_determinant_is_that_of_the_jacobian(univariate, dimension, transforms, hidden, draw):
    made, x = flow(univariate, dimension, transforms, hidden), 2 * normal(2, 3, dimension, seed=draw)
    log_det = made(x)[1]
    for copy in range(2):
        for point in range(3):

            def image(one, copy=copy, point=point):
                moved = x.clone()
                moved[copy, point] = one
                return made(moved)[0][copy, point]

            jacobian = torch.autograd.functional.jacobian(image, x[copy, point])
            torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[copy, point], rtol=1e-8, atol=1e-8)


@KINDS
@pytest.mark.parametrize("dimension", [2, 3, 5])
def test_each_coupling_moves_every_other_coordinate_given_the_rest(univariate, dimension):
    one, x = flow(univariate, dimension, 1), normal(2, 4, dimension)
    moved = (one(x)[0] != x).any(1)
    assert moved.tolist() == 2 * [[index % 2 == 0 for index in range(dimension)]]
    assert (flow(univariate, dimension, 2)(x)[0] != x).any(1).all()
    given_ = [mask.tolist() for mask in flow(univariate, dimension, 3).given]
    assert given_[0] == given_[2] == [not kept for kept in given_[1]]


@KINDS
@pytest.mark.parametrize("dimension", [2, 3])
def test_it_can_start_as_the_identity(univariate, dimension):
    x = 3 * normal(2, 50, dimension).float()
    made = CouplingFlow(dimension, 3, (6,), univariate, generators(range(2), "init"), identity=True)
    z, log_det = made(x)
    torch.testing.assert_close(z, x, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(log_det, torch.zeros(2, 50), rtol=0, atol=1e-5)
    usual = CouplingFlow(dimension, 3, (6,), univariate, generators(range(2), "init"))
    assert not torch.allclose(usual(x)[0], x, atol=1e-2)
    (z.square().sum() + log_det.sum()).backward()
    assert all(network.weights[-1].grad.any() for network in made.networks), "it can leave the identity"


def test_a_spline_is_the_identity_outside_its_bound():
    made, x = flow("spline", 2, 1, bound=2.0, scale=2.0), normal(2, 200, 2) * 2
    z, log_det = made(x)
    outside = x[..., 0].abs() > 2
    assert 0.1 < outside.double().mean() < 0.9
    assert torch.equal(z[outside], x[outside])
    assert not log_det[outside].any()
    assert (z[~outside][:, 0] != x[~outside][:, 0]).all()
    assert z[~outside][:, 0].abs().max() <= 2


@KINDS
def test_it_increases_in_each_coordinate_that_moves(univariate):
    made, grid = flow(univariate, 2, 1, scale=2.0), torch.linspace(-6, 6, 400).double()
    x = torch.stack([grid, torch.full_like(grid, 0.7)], -1).expand(2, -1, -1)
    assert (made(x)[0][..., 0].diff() > 0).all()


@KINDS
def test_copies_do_not_mix(univariate):
    three, x = flow(univariate, copies=3), normal(3, 6, 2)
    before = three(x)
    for parameter in three.parameters():
        parameter[0] += 1.0
    after = three(x)
    for old, new in zip(before, after, strict=True):
        assert not torch.allclose(old[0], new[0])
        assert torch.equal(old[1:], new[1:])
    for copy in range(3):
        alone = CouplingFlow(2, 2, (6,), univariate, generators([copy], "init"))
        together = CouplingFlow(2, 2, (6,), univariate, generators(range(3), "init"))
        for mine, all_ in zip(alone.parameters(), together.parameters(), strict=True):
            assert torch.equal(mine[0], all_[copy])


def test_a_line_cannot_be_coupled():
    with pytest.raises(ValueError, match="at least 2 coordinates, found 1"):
        CouplingFlow(1, 2, (4,), "affine", generators([0], "init"))


def perceptron(*sizes: int) -> int:
    """Return the number of weights and biases."""
    return sum((below + 1) * above for below, above in itertools.pairwise(sizes))


class TestModel:
    def model(self, univariate, seeds=2, **changes) -> Model:
        config = Config(univariate=univariate, **{"transforms": 2, "hidden": (8,), **changes})
        return Model(config, {"x": (2,)}, generators(range(seeds), "init"))

    def test_parameters_are_counted_as_the_paper_prints_them(self):
        rnvp = self.model("affine", transforms=10, hidden=(64, 64, 64))
        assert rnvp.n_parameters == 10 * perceptron(1, 64, 64, 64, 2) == 85780
        assert rnvp.n_mask_entries == 20
        nsf = self.model("spline", transforms=8, hidden=(64, 64, 64))
        # A spline of 8 bins has 8 widths, 8 heights and 7 slopes between them.
        assert nsf.n_parameters == 8 * perceptron(1, 64, 64, 64, 8 + 8 + 7) == 79544
        assert nsf.n_parameters + nsf.n_mask_entries == 79544 + 8 * 2 == 79560

    @KINDS
    def test_the_density_is_the_normal_one_pulled_back(self, univariate):
        model, x = self.model(univariate), normal(2, 9, 2).float()
        z, log_det = model.flow(x)
        expected = -0.5 * z.square().sum(-1) - math.log(2 * math.pi) + log_det
        torch.testing.assert_close(model.log_prob(x), expected)

    @KINDS
    def test_samples_are_mapped_back_to_the_noise(self, univariate):
        model = self.model(univariate)
        with torch.no_grad():
            x = model.sample(50, generators(range(2), "noise"))
            z = model.flow(x)[0]
        expected = reference.draws(generators(range(2), "noise"), 50, 2)
        torch.testing.assert_close(z.double(), expected, rtol=1e-3, atol=1e-3)

    @KINDS
    def test_expectations_are_means_over_samples_with_their_gradient(self, univariate):
        model = self.model(univariate)
        model.expectation(lambda x: x.square().sum(-1), 30, generators(range(2), "noise")).sum().backward()
        found = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        model.sample(30, generators(range(2), "noise")).square().sum(-1).mean(1).sum().backward()
        for gradient, parameter in zip(found, model.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ({"univariate": "affin"}, "did you mean 'affine'"),
            ({"transforms": 0}, "key 'transforms'"),
            ({"hidden": [0]}, "key 'hidden"),
            ({"bins": 1}, "key 'bins'"),
            ({"bound": 0}, "key 'bound'"),
            ({"layers": 3}, "unknown key 'layers'"),
        ],
    )
    def test_bad_settings_are_refused_by_name(self, content, said):
        with pytest.raises(CatalogueError) as caught:
            parse(Config, {"univariate": "affine", "transforms": 2, **content}, "paper.yaml: model")
        assert said in str(caught.value)

    def test_its_losses_are_chosen_by_name(self):
        assert parse(Loss, {"name": "nll"}, "paper.yaml: loss") == Likelihood(name="nll")
        found = parse(Loss, {"name": "reverse_kl", "target": "ring"}, "paper.yaml: loss")
        assert found == ReverseKL(name="reverse_kl", target="ring")
        for wrong in ({"name": "em"}, {"name": "nll", "target": "ring"}, {"name": "nll", "tolerance": 0.01}):
            with pytest.raises(CatalogueError):
                parse(Loss, wrong, "paper.yaml: loss")
