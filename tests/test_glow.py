"""Glow: a plain flow once more, inverse, log-determinant against Jacobians, copies apart, start, precision, errors."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
import vae_reference
from torch import Tensor
from torch.nn import functional

from neumix import glow
from neumix.glow import Glow
from neumix.training import generators

MIXINGS = pytest.mark.parametrize("mixing", ["plain", "lu"])
CASES = [
    ((1, 1, 2), 1),
    ((1, 1, 5), 1),
    ((1, 1, 6), 1),
    ((1, 1, 9), 2),
    ((4, 4, 1), 1),
    ((6, 6, 1), 1),
    ((4, 8, 3), 1),
    ((2, 8, 1), 1),
    ((8, 8, 1), 3),
    ((16, 16, 2), 2),
]
EVERY = pytest.mark.parametrize(
    ("shape", "blocks"), CASES, ids=["x".join(map(str, shape)) + f"-{blocks}" for shape, blocks in CASES]
)
STEPS = 3
HIDDEN = 6


def build(shape, blocks=1, mixing="plain", *, seeds: Sequence[int] = (0, 1), scale=0.02, steps=STEPS, hidden=HIDDEN):
    """Return flows whose parameters have moved from their start by noise."""
    flows = Glow(shape, blocks, steps, hidden, generators(seeds, "init"), mixing)
    vae_reference.scatter(flows, scale)
    return flows


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def log_density(flows: Glow, x: Tensor) -> Tensor:
    z, log_det = flows(x)
    return log_det - 0.5 * z.square().sum(2) - 0.5 * flows.dimension * math.log(2 * math.pi)


class Plain:
    """One flow in float64, by torch's convolutions of images (B, C, H, W)."""

    def __init__(self, flows: Glow, flow: int) -> None:
        self.values = {name: value.detach()[flow].double() for name, value in flows.state_dict().items()}
        self.blocks = [(len(block.steps), block.split is not None) for block in flows.blocks]
        self.normalised: list[Tensor] = []

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (B, D) and the log-determinant (B,) at images (B, H, W, C); keep what actnorm layers gave."""
        self.normalised = []
        h, log_det, latents = x.double().permute(0, 3, 1, 2), torch.zeros(len(x)).double(), []
        for block, (steps, splits) in enumerate(self.blocks):
            h = functional.pixel_unshuffle(h, 2) if h.shape[2:] != (1, 1) else h
            for step in range(steps):
                h, change = self.step(f"blocks.{block}.steps.{step}.", h)
                log_det = log_det + change
            if splits:
                kept, gone = h.split([(h.shape[1] + 1) // 2, h.shape[1] // 2], 1)
                mean, log_scale = self.last(f"blocks.{block}.split.prior.", kept).chunk(2, 1)
                h, log_det = kept, log_det - log_scale.sum((1, 2, 3))
                latents.append((gone - mean) / log_scale.exp())
        return torch.cat([latent.permute(0, 2, 3, 1).flatten(1) for latent in [*latents, h]], 1), log_det

    def step(self, name: str, h: Tensor) -> tuple[Tensor, Tensor]:
        positions = h.shape[2] * h.shape[3]
        h = self.actnorm(name + "mixing.", h)
        matrix = self.matrix(name + "mixing.weight.")
        log_det = positions * (self.values[name + "mixing.log_scale"].sum() + torch.linalg.slogdet(matrix)[1])
        given, moved = torch.einsum("bchw,cd->bdhw", h, matrix).split([h.shape[1] // 2, (h.shape[1] + 1) // 2], 1)
        shift, scale = self.network(name + "network.", given).chunk(2, 1)
        slope = torch.sigmoid(scale + 2)
        return torch.cat([given, (moved + shift) * slope], 1), log_det + slope.log().sum((1, 2, 3))

    def matrix(self, name: str) -> Tensor:
        if name + "matrix" in self.values:
            return self.values[name + "matrix"]
        permutation, lower, upper, sign, log_diagonal = (
            self.values[name + part] for part in ("permutation", "lower", "upper", "sign", "log_diagonal")
        )
        ones = torch.ones(len(sign)).double()
        return permutation @ (lower.tril(-1) + ones.diag()) @ (upper.triu(1) + (sign * log_diagonal.exp()).diag())

    def actnorm(self, name: str, h: Tensor) -> Tensor:
        shift, scale = self.values[name + "shift"][0], self.values[name + "log_scale"][0].exp()
        h = (h + shift[:, None, None]) * scale[:, None, None]
        self.normalised.append(h)
        return h

    def network(self, name: str, h: Tensor) -> Tensor:
        kernel = self.values[name + "first.weight"].unflatten(0, (3, 3)).permute(3, 2, 0, 1)
        h = self.actnorm(name + "first.", functional.conv2d(h, kernel, padding=1)).relu()
        h = torch.einsum("bchw,cd->bdhw", h, self.values[name + "second.weight"])
        return self.last(name + "last.", self.actnorm(name + "second.", h).relu())

    def last(self, name: str, h: Tensor) -> Tensor:
        kernel = self.values[name + "weight"].unflatten(1, (3, 3)).permute(3, 0, 1, 2).flip(2, 3)
        y = functional.conv2d(h, kernel, self.values[name + "bias"][0], padding=1)
        return y * (3 * self.values[name + "log_scale"][0]).exp()[:, None, None]


@MIXINGS
@EVERY
def test_it_is_the_plain_flow_of_each_copy(shape, blocks, mixing):
    flows, x = build(shape, blocks, mixing, scale=0.1).double(), normal(2, 5, *shape)
    z, log_det = flows(x)
    assert z.shape == (2, 5, math.prod(shape)) == (2, 5, flows.dimension)
    for flow in range(2):
        expected = Plain(flows, flow)(x[flow])
        torch.testing.assert_close((z[flow], log_det[flow]), expected, rtol=1e-9, atol=1e-9)


@MIXINGS
@EVERY
def test_the_inverse_undoes_it(shape, blocks, mixing):
    flows, x = build(shape, blocks, mixing).double(), normal(2, 5, *shape)
    torch.testing.assert_close(flows.inverse(flows(x)[0]), x, rtol=0, atol=1e-10)
    z = normal(2, 5, math.prod(shape), seed=1)
    torch.testing.assert_close(flows(flows.inverse(z))[0], z, rtol=0, atol=1e-10)


@MIXINGS
@EVERY
def test_the_inverse_undoes_it_in_single_precision(shape, blocks, mixing):
    flows, x = build(shape, blocks, mixing), normal(2, 50, *shape).float()
    z, log_det = flows(x)
    assert z.dtype == log_det.dtype == torch.float32
    torch.testing.assert_close(flows.inverse(z), x, rtol=0, atol=1e-4)


@MIXINGS
@EVERY
def test_the_log_determinant_is_that_of_the_jacobian(shape, blocks, mixing):
    flows = build(shape, blocks, mixing, steps=2).double().requires_grad_(False)
    # One copy of the image for each coordinate of z, whose gradients are the rows of the Jacobian.
    x = normal(2, 1, *shape).repeat(1, flows.dimension, 1, 1, 1).requires_grad_()
    z, log_det = flows(x)
    (rows,) = torch.autograd.grad(z.diagonal(dim1=1, dim2=2).sum(), x)
    torch.testing.assert_close(torch.linalg.slogdet(rows.flatten(2))[1], log_det[:, 0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1, 5), (4, 4, 1)])
def test_the_log_determinant_of_one_image_among_others(shape):
    flows, x = build(shape, mixing="lu", scale=0.2).double().requires_grad_(False), normal(2, 3, *shape)
    log_det = flows(x)[1]
    for flow, point in itertools.product(range(2), range(3)):

        def latents(image, flow=flow, point=point):
            moved = x.clone()
            moved[flow, point] = image
            return flows(moved)[0][flow, point]

        jacobian = torch.autograd.functional.jacobian(latents, x[flow, point]).flatten(1)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[flow, point], rtol=1e-9, atol=1e-9)


@MIXINGS
@pytest.mark.parametrize(("shape", "blocks"), [((1, 1, 5), 1), ((8, 8, 1), 3)])
def test_flows_together_are_each_flow_alone(shape, blocks, mixing):
    together, x = build(shape, blocks, mixing, seeds=(3, 4, 5)), normal(3, 4, *shape).float()
    untouched = build(shape, blocks, mixing, seeds=(3, 4, 5), scale=0).state_dict()
    z, log_det = together(x)
    back = together.inverse(z)
    for flow, seed in enumerate((3, 4, 5)):
        alone = build(shape, blocks, mixing, seeds=[seed], scale=0)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(value[0], untouched[name][flow])
        alone.load_state_dict({name: value[flow : flow + 1] for name, value in together.state_dict().items()})
        one = slice(flow, flow + 1)
        torch.testing.assert_close(alone(x[one]), (z[one], log_det[one]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(alone.inverse(z[one]), back[one], rtol=1e-5, atol=1e-5)


@MIXINGS
def test_gradients_reach_one_copy_only(mixing):
    flows = build((4, 4, 1), mixing=mixing, seeds=(0, 1, 2))
    log_density(flows, normal(3, 8, 4, 4, 1).float())[1].mean().backward()
    for name, parameter in flows.named_parameters():
        assert parameter.grad[1].any(), name
        assert not parameter.grad[[0, 2]].any(), name


def with_threshold(monkeypatch, threshold: int, flows: Glow, x: Tensor) -> dict[str, Tensor]:
    """Return z, log-determinants and all gradients, as vectors up to so many positions."""
    monkeypatch.setattr(glow, "_DENSE", threshold)
    x = x.clone().requires_grad_()
    z, log_det = flows(x)
    weights = normal(*z.shape, seed=5).to(z)
    flows.zero_grad()
    ((weights * z).sum() + log_det.square().sum()).backward()
    gradients = {name: parameter.grad.clone() for name, parameter in flows.named_parameters()}
    return {"z": z.detach(), "log_det": log_det.detach(), "x": x.grad, **gradients}


@MIXINGS
@pytest.mark.parametrize("hidden", [5, 16, 33], ids="hidden{}".format)
@pytest.mark.parametrize(("shape", "blocks"), [case for case in CASES if case[0] != (16, 16, 2)])
def test_images_as_vectors_are_convolved_alike(monkeypatch, shape, blocks, mixing, hidden):
    flows = build(shape, blocks, mixing, hidden=hidden, steps=2, scale=0.1).double()
    x = normal(2, 3, *shape)
    convolved = with_threshold(monkeypatch, 0, flows, x)
    for threshold in (9, 16):
        found = with_threshold(monkeypatch, threshold, flows, x)
        torch.testing.assert_close(found, convolved, rtol=1e-8, atol=1e-9)


@MIXINGS
@pytest.mark.parametrize(("shape", "blocks"), [((1, 1, 5), 1), ((4, 4, 1), 2), ((8, 8, 1), 2)])
def test_gradients_of_the_mean_density_by_finite_differences(shape, blocks, mixing):
    flows, x = build(shape, blocks, mixing, steps=2, scale=0.1).double(), normal(2, 6, *shape)

    def loss(values: vae_reference.Weights) -> Tensor:
        z, log_det = torch.func.functional_call(flows, values, x)
        return (0.5 * z.square().sum(2) - log_det).mean(1).sum()

    (-log_density(flows, x).mean(1).sum()).backward()
    slopes = vae_reference.slopes(loss, vae_reference.weights(flows))
    for name, parameter in flows.named_parameters():
        direction, expected = slopes[name]
        assert (parameter.grad * direction).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-6), name


def test_gradients_of_a_coupling():
    moved, shift, scale = (normal(2, 3, 4, seed=index).requires_grad_() for index in range(3))
    assert torch.autograd.gradcheck(glow._couple, (moved, shift, scale))
    y, log_det = glow._couple(moved, shift, scale)
    torch.testing.assert_close(y, (moved + shift) * torch.sigmoid(scale + 2))
    torch.testing.assert_close(log_det, torch.sigmoid(scale + 2).log().sum(-1))


def test_a_coupling_of_far_scales_stays_finite():
    scale = torch.tensor([[-200.0, -30.0, 30.0, 200.0]]).requires_grad_()
    y, log_det = glow._couple(torch.ones(1, 4), torch.ones(1, 4), scale)
    torch.testing.assert_close(log_det, torch.tensor([-226.0]))
    (y.sum() + log_det.sum()).backward()
    torch.testing.assert_close(scale.grad, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))


@MIXINGS
@EVERY
def test_initialised_actnorm_layers_standardise(shape, blocks, mixing):
    flows = build(shape, blocks, mixing, scale=0).double()
    x = 3 * normal(2, 200, *shape) + 5 * normal(2, 1, *shape, seed=1) + 2
    flows.initialise(x)
    for flow in range(2):
        plain = Plain(flows, flow)
        plain(x[flow])
        assert len(plain.normalised) == 3 * STEPS * blocks
        for given in plain.normalised:
            torch.testing.assert_close(given.mean((0, 2, 3)), torch.zeros(given.shape[1]).double(), rtol=0, atol=1e-9)
            spread = given.std((0, 2, 3), correction=0)
            # The least spread of 1e-6 shrinks what had a small spread before.
            torch.testing.assert_close(spread, torch.ones(given.shape[1]).double(), rtol=0, atol=1e-3)


@MIXINGS
def test_an_initialised_flow_is_exact_still(mixing):
    flows = build((8, 8, 1), 3, mixing, scale=0).double()
    flows.initialise(3 * normal(2, 100, 8, 8, 1) + 2)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in flows.parameters())
    x = (3 * normal(2, 1, 8, 8, 1, seed=1) + 2).repeat(1, 64, 1, 1, 1).requires_grad_()
    z, log_det = flows(x)
    (rows,) = torch.autograd.grad(z.diagonal(dim1=1, dim2=2).sum(), x)
    torch.testing.assert_close(torch.linalg.slogdet(rows.flatten(2))[1], log_det[:, 0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flows.inverse(z), x.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(Plain(flows, 1)(x[1].detach()), (z[1], log_det[1]), rtol=1e-9, atol=1e-9)


def test_initialisation_by_images_all_alike_is_finite():
    flows = build((4, 4, 1), scale=0)
    flows.initialise(torch.full((2, 5, 4, 4, 1), 0.5))
    assert all(parameter.isfinite().all() for parameter in flows.parameters())


def test_it_starts_with_orthogonal_mixing_and_scales_near_one():
    flows, x = build((4, 4, 1), scale=0, steps=5).double(), normal(2, 6, 4, 4, 1)
    _, log_det = flows(x)
    # Each of 5 couplings scales half of the 16 coordinates by sigmoid(2).
    expected = torch.full((2, 6), -5 * 8 * math.log(1 + math.exp(-2))).double()
    torch.testing.assert_close(log_det, expected, rtol=0, atol=1e-5)
    for step in flows.blocks[0].steps:
        matrix = step.mixing.weight.matrix
        torch.testing.assert_close(matrix @ matrix.mT, torch.eye(4).double().expand(2, 4, 4), rtol=0, atol=1e-6)
    matrices = [step.mixing.weight.matrix for step in flows.blocks[0].steps]
    assert not torch.allclose(matrices[0], matrices[1], atol=0.1)
    assert not torch.allclose(matrices[0][0], matrices[0][1], atol=0.1)


@EVERY
def test_triangular_mixing_starts_as_the_plain_one(shape, blocks):
    plain, triangular = build(shape, blocks, scale=0), build(shape, blocks, "lu", scale=0)
    x = normal(2, 4, *shape).float()
    torch.testing.assert_close(triangular(x), plain(x), rtol=1e-4, atol=1e-4)


@MIXINGS
def test_the_density_of_the_plane_integrates_to_one(mixing):
    flows = build((1, 1, 2), mixing=mixing, scale=0.3, steps=4, hidden=8)
    width, points = 40.0, 600
    axis = (torch.arange(points) + 0.5) * width / points - width / 2
    grid = torch.cartesian_prod(axis, axis).view(1, -1, 1, 1, 2).expand(2, -1, -1, -1, -1)
    with torch.no_grad():
        density = log_density(flows, grid).double().exp()
    assert density.max() < 1, "the cells are fine enough"
    torch.testing.assert_close(density.sum(1) * (width / points) ** 2, torch.ones(2).double(), rtol=0, atol=2e-3)


def test_parameters_are_counted_as_in_the_authors_code():
    flows = Glow((4, 4, 1), 1, 12, 8, generators([0], "init"))
    assert sum(parameter.numel() for parameter in flows.parameters()) == 6720


@MIXINGS
def test_both_mixings_have_as_many_degrees_of_freedom(mixing):
    flows = build((1, 1, 4), mixing=mixing, seeds=[0], steps=1).double()
    log_density(flows, normal(1, 50, 1, 1, 4)).mean().backward()
    moved = sum(int((parameter.grad != 0).sum()) for parameter in flows.blocks[0].steps[0].mixing.weight.parameters())
    assert moved == 16


@pytest.mark.parametrize(
    ("shape", "blocks", "top"),
    [
        ((1, 1, 7), 1, (1, 1, 7)),
        ((1, 1, 7), 2, (1, 1, 4)),
        ((4, 4, 1), 1, (2, 2, 4)),
        ((8, 8, 1), 3, (1, 1, 16)),
        ((32, 32, 1), 3, (4, 4, 16)),
        ((8, 16, 3), 3, (1, 2, 48)),
    ],
)
def test_what_passes_through_every_block(shape, blocks, top):
    flows = Glow(shape, blocks, 1, 2, generators([0], "init"))
    assert flows.top_shape == top
    assert flows.top_dimension == math.prod(top)
    if blocks == 3:
        assert flows.top_dimension == flows.dimension / 4


def test_the_last_coordinates_are_those_of_the_top():
    flows, z = build((8, 8, 1), 3).double(), normal(2, 3, 64)
    x = flows.inverse(z)
    top = flows.blocks[-1]
    seen: list[Tensor] = []
    handle = top.register_forward_hook(lambda _module, _given, result: seen.append(result[0]))
    flows(x)
    handle.remove()
    assert flows.top_dimension == 16
    torch.testing.assert_close(seen[0].flatten(2), z[..., -16:])


@MIXINGS
@pytest.mark.parametrize(("shape", "blocks"), [((1, 1, 5), 1), ((4, 4, 1), 1), ((8, 8, 1), 3)])
def test_densities_under_autocast(shape, blocks, mixing):
    flows, x = build(shape, blocks, mixing, steps=8, hidden=8), normal(2, 100, *shape).float()
    z, log_det = flows(x)
    exact = log_density(flows, x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded_z, rounded_log_det = flows(x)
        rounded = log_density(flows, x)
    assert rounded_z.dtype == rounded_log_det.dtype == rounded.dtype == torch.float32
    # Only what the networks add is rounded, not the images, which bfloat16 would move by 2 ** -9 of their size.
    torch.testing.assert_close(rounded_z, z, rtol=0, atol=5e-3)
    torch.testing.assert_close(rounded_log_det, log_det, rtol=0, atol=2e-2)
    assert (rounded - exact).abs().mean() < 2e-3
    rounded.mean().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in flows.parameters())


def test_rounding_under_autocast_leaves_the_affine_map_alone():
    flows, x = build((4, 4, 1), scale=0, steps=4), normal(2, 100, 4, 4, 1).float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = flows(x)
    # At the start the couplings add nothing, so that no part of the flow may be rounded.
    torch.testing.assert_close(rounded, flows(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "blocks", "said"),
    [
        ((5, 4, 1), 1, "one of them is odd: 5 x 4"),
        ((4, 7, 1), 1, "one of them is odd: 4 x 7"),
        ((1, 4, 1), 1, "one of them is odd: 1 x 4"),
        ((6, 6, 1), 2, "one of them is odd: 3 x 3"),
        ((1, 1, 1), 1, "at least 2 channels, found images of 1 x 1 x 1"),
        ((1, 1, 2), 2, "at least 2 channels, found images of 1 x 1 x 1"),
    ],
)
def test_shapes_that_cannot_be_coupled_are_refused(shape, blocks, said):
    with pytest.raises(ValueError, match=said):
        Glow(shape, blocks, 2, 4, generators([0], "init"))
