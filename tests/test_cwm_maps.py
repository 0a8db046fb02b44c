"""Maps from the data to the base: inverses, Jacobians, what they start from, which of them a density feels; bases."""

import numpy as np
import pytest
import torch
import vae_reference as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch.distributions import MultivariateNormal

from neumix.bases import BASES
from neumix.models.cwm import Config, Model
from neumix.models.cwm.maps import (
    Affine,
    DiagonalAffine,
    FullAffine,
    Maps,
    MapsConfig,
    SplineMaps,
    make_maps,
)
from neumix.settings import CatalogueError, parse
from neumix.training import generators

SETTINGS = {
    "diagonal": {"name": "diagonal"},
    "full": {"name": "full"},
    "spline": {"name": "spline", "hidden": [5], "bins": 4},
}
KINDS = pytest.mark.parametrize("kind", SETTINGS)
LAWS = {"normal": stats.norm, "laplace": stats.laplace, "logistic": stats.logistic}
BASE_NAMES = pytest.mark.parametrize("base", BASES)
COMPONENTS = 3


def config(kind: str):
    return parse(MapsConfig, SETTINGS[kind], "paper.yaml: maps")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def build(kind: str, dimension: int = 2, seeds: tuple[int, ...] = (0, 1), scale: float = 0.3) -> Maps:
    """Return maps with scattered parameters."""
    means = torch.stack([normal(COMPONENTS, dimension, seed=seed) for seed in seeds])
    made = make_maps(config(kind), means, generators(seeds, "init"))
    reference.scatter(made, scale)
    return made.requires_grad_(False)


def covariances(dimension: int) -> Tensor:
    """Return a covariance for each component, (K, D, D), in float64."""
    factors = normal(COMPONENTS, dimension, dimension, seed=3).double()
    return factors @ factors.transpose(1, 2) + 0.2 * torch.eye(dimension)


KINDS_OF_DIMENSIONS = st.one_of(
    st.tuples(st.sampled_from(["diagonal", "full"]), st.integers(1, 4)), st.tuples(st.just("spline"), st.integers(2, 3))
)


@settings(max_examples=25, deadline=None)
@given(KINDS_OF_DIMENSIONS, st.integers(0, 100))
def test_the_inverse_undoes_every_map(case, draw):
    kind, dimension = case
    made, z = build(kind, dimension).double(), normal(2, 5, dimension, seed=draw).double()
    x = made.inverse(z)
    assert x.shape == (2, 5, COMPONENTS, dimension)
    for component in range(COMPONENTS):
        back, log_det = made(x[:, :, component])
        assert back.shape == x.shape
        assert log_det.shape == x.shape[:3]
        torch.testing.assert_close(back[:, :, component], z, rtol=1e-8, atol=1e-8)
    assert not torch.allclose(x[:, :, 0], x[:, :, 1]), "components have maps of their own"


@settings(max_examples=15, deadline=None)
@given(KINDS_OF_DIMENSIONS, st.integers(0, 100))
def test_the_log_determinant_is_that_of_the_jacobian(case, draw):
    kind, dimension = case
    made, x = build(kind, dimension).double(), normal(2, 2, dimension, seed=draw).double()
    log_det = made(x)[1]
    jacobian = torch.autograd.functional.jacobian(lambda points: made(points)[0], x)  # (S, B, K, D, S, B, D)
    for seed in range(2):
        for point in range(2):
            own = jacobian[seed, point, :, :, seed, point]
            torch.testing.assert_close(torch.linalg.slogdet(own)[1], log_det[seed, point], rtol=1e-8, atol=1e-8)
    assert not jacobian[0, :, :, :, 1].any(), "seeds do not mix"


@KINDS
def test_a_seed_has_parameters_of_its_own(kind):
    both, x = build(kind), normal(2, 4, 2)
    z, log_det = both(x)
    for parameter in both.parameters():
        parameter.chunk(2)[0].add_(0.5)
    moved, moved_log_det = both(x)
    assert not torch.allclose(moved[0], z[0])
    assert torch.equal(moved[1], z[1])
    assert torch.equal(moved_log_det[1], log_det[1])


@KINDS
def test_it_starts_with_unit_scales_around_its_means(kind):
    means = normal(2, COMPONENTS, 2)
    made, x = make_maps(config(kind), means, generators(range(2), "init")), 3 * normal(2, 6, 2, seed=1)
    z, log_det = made(x)
    torch.testing.assert_close(z, x[:, :, None] - means[:, None], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(log_det, torch.zeros(2, 6, COMPONENTS), rtol=0, atol=1e-5)
    assert type(made) is {"diagonal": DiagonalAffine, "full": FullAffine, "spline": SplineMaps}[kind]


@KINDS
def test_it_can_start_from_gaussians(kind):
    means, wanted, x = 2 * normal(COMPONENTS, 2, seed=2).double(), covariances(2), 2 * normal(2, 20, 2)
    made = make_maps(config(kind), normal(2, COMPONENTS, 2), generators(range(2), "init"))
    before = made(x)
    made.start_from(1, means, wanted)
    z, log_det = made(x)
    assert torch.equal(z[0], before[0][0])
    assert torch.equal(log_det[0], before[1][0])
    if kind != "full":
        wanted = wanted.diagonal(dim1=1, dim2=2).diag_embed()
    expected = MultivariateNormal(means, wanted).log_prob(x[1, :, None].double())
    found = BASES["normal"].log_prob(z[1]) + log_det[1]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    assert made.covariance == ("full" if kind == "full" else "diag")


def test_a_spline_needs_two_coordinates():
    with pytest.raises(ValueError, match="at least 2 coordinates"):
        make_maps(config("spline"), normal(1, COMPONENTS, 1), generators([0], "init"))


class TestOneComponent:
    """A mixture of one component is the base pushed forward, whatever its classifier says."""

    def model(self, kind, base, hidden):
        settings_ = Config(components=1, hidden=hidden, maps=config(kind), base=base)
        model = Model(settings_, {"x": (2,)}, generators(range(2), "init"))
        reference.scatter(model, 0.3)
        return model.double().requires_grad_(False)

    @BASE_NAMES
    @KINDS
    @pytest.mark.parametrize("hidden", [None, (4,)], ids=["constant", "network"])
    def test_its_density_is_that_of_the_base(self, kind, base, hidden):
        model, x = self.model(kind, base, hidden), 2 * normal(2, 30, 2).double()
        z, log_det = model.maps(x)
        z, log_det = z[:, :, 0], log_det[:, :, 0]
        each = torch.from_numpy(LAWS[base].logpdf(z.numpy()))
        torch.testing.assert_close(model.log_prob(x), each.sum(-1) + log_det, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(model.responsibilities(x), torch.ones(2, 30, 1).double())

    @BASE_NAMES
    @KINDS
    def test_its_samples_are_those_of_the_base(self, kind, base):
        model = self.model(kind, base, None).float()
        points, labels = model.sample_with_labels(40, generators(range(2), "noise"))
        assert not labels.any()
        z = torch.stack([BASES[base].sample((40, 2), generator) for generator in generators(range(2), "noise")])
        torch.testing.assert_close(points, model.maps.inverse(z)[:, :, 0])


def rotated(model: Model, angle: float) -> Model:
    """Return a copy whose first component's matrix is turned after the fact, A -> R A."""
    copy = Model(Config(**FULL, hidden=None), {"x": (2,)}, generators([0], "init"))
    copy.classifier, copy.maps = model.classifier, FullAffine(model.maps.means.clone())
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float64)
    matrices = model.maps.matrices.clone()
    matrices[:, 0] = turn @ matrices[:, 0]
    copy.maps.matrices = torch.nn.Parameter(matrices, requires_grad=False)
    return copy


FULL = {"components": COMPONENTS, "maps": Affine(name="full")}


@settings(max_examples=10, deadline=None)
@given(st.floats(0.3, 3))
def test_only_a_network_feels_a_rotation_of_the_base(angle):
    x = 2 * normal(1, 30, 2).double()
    for hidden in (None, (6,)):
        model = Model(Config(**FULL, hidden=hidden), {"x": (2,)}, generators([0], "init"))
        reference.scatter(model, 0.5)
        model.double().requires_grad_(False)
        turned = rotated(model, angle)
        products = [each.maps.matrices.transpose(-1, -2) @ each.maps.matrices for each in (model, turned)]
        torch.testing.assert_close(*products)
        gap = (turned.log_prob(x) - model.log_prob(x)).abs().max()
        assert gap < 1e-12 if hidden is None else gap > 1e-3


class TestBases:
    @pytest.mark.parametrize("name", BASES)
    def test_densities_and_samples_are_those_of_scipy(self, name):
        base, law = BASES[name], LAWS[name]
        z = 20 * normal(30, 3).double()
        np.testing.assert_allclose(base.log_prob(z), law.logpdf(z.numpy()).sum(-1), rtol=1e-9)
        samples = base.sample((4000, 2), torch.Generator().manual_seed(0)).numpy()
        assert stats.kstest(samples.ravel(), law.cdf).pvalue > 1e-3
        assert abs(stats.spearmanr(*samples.T).statistic) < 0.05
        again = base.sample((4000, 2), torch.Generator().manual_seed(0)).numpy()
        np.testing.assert_array_equal(samples, again)

    @pytest.mark.parametrize("name", ["laplace", "logistic"])
    def test_the_ends_of_the_unit_interval_have_finite_quantiles(self, name, monkeypatch):
        for end in (0.0, 1.0):
            monkeypatch.setattr(torch, "rand", lambda shape, generator, end=end: torch.full(shape, end))
            sample = BASES[name].sample((2, 1), torch.Generator())
            assert torch.isfinite(sample).all()
            assert (sample.sign() == 2 * end - 1).all()

    @pytest.mark.parametrize("name", BASES)
    def test_far_away_points_have_finite_densities_and_slopes(self, name):
        z = torch.tensor([[-1e4, 1e4]], requires_grad=True)
        BASES[name].log_prob(z).sum().backward()
        assert torch.isfinite(z.grad).all()
        assert (z.grad.sign() == -z.detach().sign()).all()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"name": "diag"}, "diagonal"),
        ({"name": "full", "bins": 4}, "unknown key"),
        ({"name": "spline", "bins": 1}, "bins"),
        ({"name": "spline", "transforms": 0}, "transforms"),
        ({"name": "spline", "hidden": [0]}, "hidden"),
        ({"name": "spline", "bound": -1.0}, "bound"),
    ],
)
def test_bad_settings_are_refused_by_name(content, said):
    with pytest.raises(CatalogueError) as caught:
        parse(MapsConfig, content, "paper.yaml: maps")
    assert said in str(caught.value)
