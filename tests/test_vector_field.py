"""Vector fields: plain networks once more, derivatives along directions, times, copies apart, precision, errors."""

import math
from collections.abc import Sequence

import pytest
import torch
import vae_reference
from pydantic import TypeAdapter, ValidationError
from torch import Tensor
from torch.nn import functional

from neumix.training import generators
from neumix.vector_field import Convolutional, FieldConfig, Perceptron, VectorField, make_field

ACTIVATIONS = {"softplus": functional.softplus, "tanh": torch.tanh, "sin": torch.sin}
ACTIVATION = pytest.mark.parametrize("activation", ACTIVATIONS)
CONDITIONING = pytest.mark.parametrize("conditioning", ["concat", "concatsquash"])
KINDS = {
    "mlp": (Perceptron(name="mlp", hidden=(5, 4)), (3,)),
    "mlp of one layer": (Perceptron(name="mlp", hidden=(6,)), (2,)),
    "cnn": (Convolutional(name="cnn", hidden=(5, 4)), (4, 6, 2)),
    "cnn squeezed": (Convolutional(name="cnn", hidden=(5, 4), squeeze=1), (4, 6, 1)),
    "cnn squeezed twice": (Convolutional(name="cnn", hidden=(3,), squeeze=2), (4, 8, 1)),
    "cnn of two scales": (Convolutional(name="cnn", hidden=(5, 4, 3), scales=2), (4, 6, 1)),
    "cnn squeezed, of two scales": (Convolutional(name="cnn", hidden=(5, 4), squeeze=1, scales=2), (4, 8, 2)),
}
EVERY = pytest.mark.parametrize("kind", KINDS)
TIME = torch.tensor(0.3).double()


def changed(config: Perceptron | Convolutional, **changes: str) -> Perceptron | Convolutional:
    values = {name: getattr(config, name) for name in config.__dataclass_fields__}
    return type(config)(**{**values, **changes})


def build(kind: str, *, seeds: Sequence[int] = (0, 1), scale: float = 0.3, **changes: str) -> VectorField:
    """Return fields in float64 whose parameters have moved from their start."""
    config, shape = KINDS[kind]
    field = make_field(changed(config, **changes), shape, generators(seeds, "init"))
    vae_reference.scatter(field, scale)
    return field.double()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


def points(kind: str, *leading: int, seed: int = 0) -> Tensor:
    return normal(*leading, *KINDS[kind][1], seed=seed)


class Plain:
    """One field in float64, point by point, by torch's own layers."""

    def __init__(self, field: VectorField, seed: int) -> None:
        self.values = {name: value.detach()[seed] for name, value in field.state_dict().items()}
        self.config = field.config

    def __call__(self, u: Tensor, s: float) -> Tensor:
        return self.images(u, s) if u.dim() == 3 else self.vector(u, s)

    def vector(self, u: Tensor, s: float) -> Tensor:
        count = len(self.config.hidden)
        for layer in range(count):
            u = ACTIVATIONS[self.config.activation](self.timed(f"layers.{layer}.", self.matrix(layer, u), s))
        return self.timed(f"layers.{count}.", self.matrix(count, u), s)

    def matrix(self, layer: int, u: Tensor) -> Tensor:
        return u @ self.values[f"layers.{layer}.weight"]

    def images(self, u: Tensor, s: float) -> Tensor:
        activation, count = ACTIVATIONS[self.config.activation], len(self.config.hidden)
        side = 2**self.config.squeeze
        h = functional.pixel_unshuffle(u.permute(2, 0, 1)[None], side)
        h = activation(self.convolved("layers.0.", h, s))
        low = functional.avg_pool2d(h, 2) if self.config.scales == 2 else None
        for layer in range(1, count):
            h = activation(self.convolved(f"layers.{layer}.", h, s))
            if low is not None:
                low = activation(self.convolved(f"coarse.{layer - 1}.", low, s))
        if low is not None:
            h = h + low.repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = functional.pixel_shuffle(self.convolved(f"layers.{count}.", h, s), side)
        return h[0].permute(1, 2, 0)

    def convolved(self, name: str, h: Tensor, s: float) -> Tensor:
        y = functional.conv2d(h, self.values[name + "weight"], padding=1)
        return self.timed(name, y.movedim(1, 3), s).movedim(3, 1)

    def timed(self, name: str, y: Tensor, s: float) -> Tensor:
        """Return a layer's outputs (..., O) at a time, given its products."""
        bias, drift = self.values[name + "bias"][0], self.values[name + "drift"][0]
        if self.config.conditioning == "concat":
            return y + bias + drift * s
        gate = torch.sigmoid(self.values[name + "gate"][0] * s + self.values[name + "gate_bias"][0])
        return (y + bias) * gate + drift * s


@CONDITIONING
@ACTIVATION
@EVERY
def test_it_is_the_plain_network_of_each_seed(kind, activation, conditioning):
    field, u = build(kind, activation=activation, conditioning=conditioning), points(kind, 2, 3)
    value, none = field(u, TIME)
    assert value.shape == u.shape
    assert none.shape == (2, 0, *u.shape[1:])
    for seed in range(2):
        plain = Plain(field, seed)
        expected = torch.stack([plain(point, TIME.item()) for point in u[seed]])
        torch.testing.assert_close(value[seed], expected, rtol=1e-10, atol=1e-10)


def jacobians(field: VectorField, u: Tensor, seed: int) -> Tensor:
    """Return the Jacobian of each point of a seed by autograd, (B, D, D)."""
    plain = Plain(field, seed)
    dimension = u[seed, 0].numel()
    found = [torch.autograd.functional.jacobian(lambda x: plain(x, TIME.item()), point) for point in u[seed]]
    return torch.stack(found).view(-1, dimension, dimension)


@ACTIVATION
@EVERY
def test_derivatives_are_those_of_the_jacobian(kind, activation):
    field, u, e = build(kind, activation=activation), points(kind, 2, 3), points(kind, 2, 4, 3, seed=1)
    value, derivatives = field(u, TIME, e)
    torch.testing.assert_close(value, field(u, TIME)[0], rtol=1e-12, atol=1e-12)
    assert derivatives.shape == e.shape
    for seed in range(2):
        expected = torch.einsum("bij,pbj->pbi", jacobians(field, u, seed), e[seed].flatten(2))
        torch.testing.assert_close(derivatives[seed].flatten(2), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", ["mlp", "cnn squeezed, of two scales"])
@ACTIVATION
def test_gradients_of_values_and_derivatives_by_finite_differences(kind, activation):
    field, u, e = build(kind, activation=activation), points(kind, 2, 3), points(kind, 2, 2, 3, seed=1)
    weight, other = points(kind, 2, 3, seed=2), points(kind, 2, 2, 3, seed=3)

    def loss(values: vae_reference.Weights) -> Tensor:
        value, derivatives = torch.func.functional_call(field, values, (u, TIME, e))
        return (weight * value).sum() + (other * derivatives).square().sum()

    loss(dict(field.named_parameters())).backward()
    slopes = vae_reference.slopes(loss, vae_reference.weights(field))
    for name, parameter in field.named_parameters():
        direction, expected = slopes[name]
        assert (parameter.grad * direction).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-6), name


@CONDITIONING
@EVERY
def test_points_at_their_own_times_are_those_at_common_times(kind, conditioning):
    field, u = build(kind, conditioning=conditioning), points(kind, 2, 3)
    times = torch.tensor([[0.0, 0.4, 1.0], [0.7, 0.1, 0.4]]).double()
    value, _ = field(u, times)
    for seed in range(2):
        for place in range(3):
            alone, _ = field(u, times[seed, place])
            torch.testing.assert_close(value[seed, place], alone[seed, place], rtol=1e-10, atol=1e-10)


@CONDITIONING
@EVERY
def test_time_matters(kind, conditioning):
    field, u = build(kind, conditioning=conditioning), points(kind, 2, 3)
    assert not torch.allclose(field(u, TIME)[0], field(u, 2 * TIME)[0], rtol=1e-3, atol=1e-3)


@EVERY
def test_it_starts_at_zero_with_seeds_of_their_own(kind):
    field = build(kind, scale=0)
    value, derivatives = field(points(kind, 2, 3), TIME, points(kind, 2, 1, 3, seed=1))
    assert not value.any()
    assert not derivatives.any()
    first = field.layers[0].weight
    assert not torch.allclose(first[0], first[1], atol=0.01)
    bound = 1 / math.sqrt(first[0].numel() / field.config.hidden[0])
    assert bound / 2 < first.abs().max() <= bound


@EVERY
def test_seeds_together_are_each_seed_alone(kind):
    together, u, e = build(kind, seeds=(3, 4, 5)), points(kind, 3, 4), points(kind, 3, 2, 4, seed=1)
    untouched = build(kind, seeds=(3, 4, 5), scale=0).state_dict()
    found = together(u, TIME, e)
    for place, seed in enumerate((3, 4, 5)):
        one = slice(place, place + 1)
        alone = build(kind, seeds=[seed], scale=0)
        for name, value in alone.state_dict().items():
            torch.testing.assert_close(value[0], untouched[name][place])
        alone.load_state_dict({name: value[one] for name, value in together.state_dict().items()})
        torch.testing.assert_close(alone(u[one], TIME, e[one]), (found[0][one], found[1][one]), rtol=1e-10, atol=1e-10)


@EVERY
def test_gradients_reach_one_seed_only(kind):
    field = build(kind, seeds=(0, 1, 2))
    value, derivatives = field(points(kind, 3, 4), TIME, points(kind, 3, 2, 4, seed=1))
    (value[1].square().sum() + derivatives[1].square().sum()).backward()
    for name, parameter in field.named_parameters():
        assert parameter.grad[1].any(), name
        assert not parameter.grad[[0, 2]].any(), name


@EVERY
def test_products_in_bfloat16_leave_values_in_single_precision(kind):
    field, u, e = build(kind).float(), points(kind, 2, 3).float(), points(kind, 2, 2, 3, seed=1).float()
    times = torch.tensor([[0.1, 0.4, 1.0], [0.7, 0.1, 0.4]])
    expected = [*field(u, TIME.float(), e), field(u, times)[0]]
    with torch.autocast("cpu", torch.bfloat16):
        found = [*field(u, TIME.float(), e), field(u, times)[0]]
    for value, exact in zip(found, expected, strict=True):
        assert value.dtype == torch.float32
        assert not torch.equal(value, exact)
        torch.testing.assert_close(value, exact, rtol=0.05, atol=0.05 * exact.abs().max().item())


def test_hidden_values_of_a_point():
    assert build("mlp").hidden_values == 9
    assert build("cnn").hidden_values == 4 * 6 * 9
    assert build("cnn squeezed").hidden_values == 2 * 3 * 9
    assert build("cnn of two scales").hidden_values == 4 * 6 * 12 + 2 * 3 * 7
    assert build("cnn squeezed, of two scales").hidden_values == 2 * 4 * 9 + 1 * 2 * 4


def test_a_far_softplus_stays_finite():
    field = build("mlp")
    value, derivatives = field(1e4 * points("mlp", 2, 3), TIME, points("mlp", 2, 1, 3, seed=1))
    (value.sum() + derivatives.sum()).backward()
    assert value.isfinite().all()
    assert derivatives.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in field.parameters())


def test_derivatives_at_several_times_are_refused():
    with pytest.raises(ValueError, match=r"at one time for all points, found times of shape \(2, 3\)"):
        build("mlp")(points("mlp", 2, 3), torch.rand(2, 3), points("mlp", 2, 1, 3))


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (Perceptron(name="mlp"), (4, 4, 1), r"vectors \(D,\), found points of shape \(4, 4, 1\); use 'cnn'"),
        (Convolutional(name="cnn"), (4,), r"images \(H, W, C\), found points of shape \(4,\); use 'mlp'"),
        (Convolutional(name="cnn", squeeze=1), (4, 7, 1), "height and width 2 divides, found 4 x 7"),
        (Convolutional(name="cnn", squeeze=1, scales=2), (6, 8, 1), "height and width 4 divides, found 6 x 8"),
    ],
)
def test_a_network_for_other_points_is_refused(config, shape, message):
    with pytest.raises(ValueError, match=message):
        make_field(config, shape, generators([0], "init"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cnn", "hidden": [8], "scales": 2}, "at least two widths"),
        ({"name": "mlp", "hidden": []}, "at least 1 item"),
        ({"name": "mlp", "squeeze": 1}, "squeeze"),
        ({"name": "mlp", "activation": "relu"}, "'softplus', 'tanh' or 'sin'"),
        ({"name": "rnn"}, "'mlp', 'cnn'"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(FieldConfig).validate_python(settings)
