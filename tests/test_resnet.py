"""Residual classifier: against a plain network of one seed and one image, sizes, seeds, gradients, training."""

import math

import numpy as np
import pytest
import torch
import vae_reference
from torch import Tensor
from torch.nn import functional

from neumix.checkpoint import Checkpointer
from neumix.data import digits
from neumix.data.dataset import Dataset, Field, Split
from neumix.models.resnet import Config, Loss, Model
from neumix.schedule import Stage
from neumix.settings import CatalogueError, parse
from neumix.training import Phase, fit, generators

LOSS = Loss(name="cross_entropy")
SMALL = Config(width=4, stages=2, blocks=2, features=8, classes=5)
EPSILON = 1e-5  # of the normalisation


def build(
    config: Config = SMALL, shape: tuple[int, ...] = (8, 8, 1), seeds: tuple[int, ...] = (0, 1), scale: float = 0
) -> Model:
    model = Model(config, {"x": shape, "y": ()}, generators(seeds, "init"))
    vae_reference.scatter(model, scale)
    return model


def images(n_seeds: int, size: int, shape: tuple[int, ...] = (8, 8, 1), seed: int = 0) -> Tensor:
    return torch.rand(n_seeds, size, *shape, generator=torch.Generator().manual_seed(seed)) - 0.5


def labels(n_seeds: int, size: int, classes: int = 5) -> Tensor:
    return torch.randint(classes, (n_seeds, size), generator=torch.Generator().manual_seed(1))


class Plain:
    """The network of one seed, one image at a time, in float64."""

    def __init__(self, model: Model, seed: int) -> None:
        self.values = {name: values[seed] for name, values in vae_reference.weights(model).items()}

    def convolution(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = self.values[f"{name}.weight"]
        h = functional.conv2d(x[None], weight, stride=stride, padding=weight.shape[-1] // 2)[0]
        size = math.gcd(len(h), 8)
        groups = h.reshape(-1, size * h[0].numel())
        centred = groups - groups.mean(1, keepdim=True)
        normal = (centred / (centred.square().mean(1, keepdim=True) + EPSILON).sqrt()).reshape(h.shape)
        return self.values[f"{name}.scale"][:, None, None] * normal + self.values[f"{name}.shift"][:, None, None]

    def features(self, image: Tensor, config: Config) -> Tensor:
        h = self.convolution("stem", image.double().permute(2, 0, 1)).relu()
        for index in range(config.stages * config.blocks):
            stride = 2 if index >= config.blocks and index % config.blocks == 0 else 1
            inner = self.convolution(f"blocks.{index}.first", h, stride).relu()
            projected = f"blocks.{index}.shortcut.weight" in self.values
            around = self.convolution(f"blocks.{index}.shortcut", h, stride) if projected else h
            h = (self.convolution(f"blocks.{index}.second", inner) + around).relu()
        return self.convolution("head", h).relu().mean((1, 2))

    def log_probabilities(self, image: Tensor, config: Config) -> Tensor:
        weight, bias = self.values["classifier.weights.0"], self.values["classifier.biases.0"][0]
        return (self.features(image, config) @ weight + bias).log_softmax(0)


@pytest.mark.parametrize("config", [SMALL, Config(width=12, stages=3, features=20, classes=3)], ids=["deep", "wide"])
def test_it_is_the_plain_network_of_each_seed_and_image(config):
    shape = (9, 8, 2)
    model, x = build(config, shape, scale=0.1), images(2, 3, shape)
    features, log_probabilities = model.features(x), model.log_probabilities(x)
    for seed in range(2):
        plain = Plain(model, seed)
        for b in range(3):
            expected = plain.features(x[seed, b], config)
            torch.testing.assert_close(features[seed, b].double(), expected, rtol=1e-4, atol=1e-4)
            expected = plain.log_probabilities(x[seed, b], config)
            torch.testing.assert_close(log_probabilities[seed, b].double(), expected, rtol=1e-4, atol=1e-4)
    y = labels(2, 3, 3)
    expected = -log_probabilities.gather(-1, y[..., None]).mean((1, 2))
    torch.testing.assert_close(model.loss({"x": x, "y": y}, LOSS, []), expected)


@pytest.mark.parametrize("side", [8, 14, 16, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_many_sizes_have_features_and_probabilities(side, channels):
    shape = (side, side, channels)
    model, x = build(Config(width=8, features=12, classes=7), shape), images(2, 3, shape)
    features, log_probabilities = model.features(x), model.log_probabilities(x)
    assert features.shape == (2, 3, 12)
    assert log_probabilities.shape == (2, 3, 7)
    assert (features >= 0).all()
    assert (features.std(1) > 0).any(-1).all()
    assert not features.requires_grad
    assert not log_probabilities.requires_grad
    torch.testing.assert_close(log_probabilities.exp().sum(-1), torch.ones(2, 3))


def test_more_stages_than_halvings_leave_a_pixel_that_still_tells_images_apart():
    model, x = build(Config(width=4, stages=6, features=4)), images(2, 20)
    assert (model.features(x).std(1) > 1e-3).any(-1).all()


def test_blank_images_have_finite_features_and_gradients():
    model, x = build(), torch.full((2, 3, 8, 8, 1), -0.5)
    model.loss({"x": x, "y": labels(2, 3)}, LOSS, []).sum().backward()
    assert torch.isfinite(model.features(x)).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


class TestImages:
    def test_an_image_is_judged_alone_as_within_a_batch(self):
        model, x = build(Config(), (14, 14, 1), scale=0.05), images(2, 40, (14, 14, 1))
        together = model.features(x), model.log_probabilities(x)
        for b in (0, 17, 39):
            for found, expected in zip(together, (model.features, model.log_probabilities), strict=True):
                torch.testing.assert_close(found[:, b : b + 1], expected(x[:, b : b + 1]), rtol=1e-5, atol=1e-5)

    def test_many_are_judged_in_chunks(self):
        model, x = build(scale=0.1), images(2, 1203)
        for function in (model.features, model.log_probabilities):
            parts = torch.cat([function(part) for part in x.split(401, 1)], 1)
            torch.testing.assert_close(function(x), parts, rtol=1e-5, atol=1e-5)

    def test_the_loss_of_many_has_the_gradients_of_all(self):
        model, x, y = build(), images(2, 1003), labels(2, 1003)
        model.loss({"x": x, "y": y}, LOSS, []).sum().backward()
        found = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        for part in (slice(0, 300), slice(300, 1003)):
            share = model.loss({"x": x[:, part], "y": y[:, part]}, LOSS, []).sum() * x[:, part].shape[1] / 1003
            share.backward()
        for gradient, parameter in zip(found, model.parameters(), strict=True):
            torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-5)

    def test_images_shared_by_the_seeds_need_no_copies(self):
        model, x = build(), images(1, 4)
        shared = x.expand(2, -1, -1, -1, -1)
        torch.testing.assert_close(model.features(shared), model.features(shared.clone()), rtol=0, atol=0)


class TestSeeds:
    def test_a_seed_s_loss_and_gradients_do_not_depend_on_the_others(self):
        seeds, config, shape = (0, 1, 2), Config(width=8, features=16, classes=5), (14, 14, 1)
        together, x, y = build(config, shape, seeds), images(3, 6, shape), labels(3, 6)
        found = together.loss({"x": x, "y": y}, LOSS, [])
        found.sum().backward()
        assert len(set(found.tolist())) == 3
        for position, seed in enumerate(seeds):
            alone, own = build(config, shape, (seed,)), slice(position, position + 1)
            expected = alone.loss({"x": x[own], "y": y[own]}, LOSS, [])
            expected.sum().backward()
            torch.testing.assert_close(found[own], expected, rtol=1e-6, atol=1e-6)
            for (name, parameter), other in zip(together.named_parameters(), alone.parameters(), strict=True):
                assert torch.equal(parameter[position], other[0]), name
                torch.testing.assert_close(parameter.grad[position], other.grad[0], rtol=1e-4, atol=1e-6, msg=name)

    def test_what_another_seed_sees_changes_nothing(self):
        model, x = build(), images(2, 6)
        other = torch.stack([x[0], 5 * x[1] + 1])
        assert torch.equal(model.features(x)[0], model.features(other)[0])
        assert not torch.equal(model.features(x)[1], model.features(other)[1])


def test_the_gradient_is_a_finite_difference_for_every_parameter():
    model, x, y = build(scale=0.05).double(), images(2, 4).double(), labels(2, 4)
    model.loss({"x": x, "y": y}, LOSS, []).sum().backward()
    generator = torch.Generator().manual_seed(3)
    step = 1e-6
    for name, parameter in model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
                values.append(model.loss({"x": x, "y": y}, LOSS, []).sum().item())
                parameter.sub_(sign * step * direction)
        slope = (values[0] - values[1]) / (2 * step)
        assert (parameter.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-6), name


def test_weights_start_normal_with_two_over_the_fan_in():
    model = build(Config(width=32, stages=2, features=128), seeds=(4,))
    for name, fan_in in (("blocks.0.first", 32 * 9), ("blocks.1.second", 64 * 9), ("head", 64)):
        weight = model.get_submodule(name).weight.detach()
        assert weight.mean().item() == pytest.approx(0, abs=4 * math.sqrt(2 / fan_in / weight.numel()))
        assert weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)
        assert (weight.abs() > 2 * weight.std()).float().mean().item() == pytest.approx(0.0455, abs=0.01)


def handwritten(root) -> Dataset:
    """The digits as grey images in [-0.5, 0.5]."""
    found = digits.load(root, digits.Config(), (0,))
    return Dataset(
        {
            name: Split({"x": Field(split["x"].values[..., None] - np.float32(0.5)), "y": split["y"]})
            for name, split in found.splits.items()
        },
        "digits",
    )


def test_training_on_digits_classifies_most_of_those_held_out(tmp_path):
    data = handwritten(tmp_path)
    model = build(Config(width=8, features=32), data.shapes["x"])
    options = {"learning_rate": 5e-3, "clip_norm": 5.0, "validation": "test"}
    stage = Stage(loss={"name": "cross_entropy"}, epochs=5, batch_size=64, **options)
    checkpointer = Checkpointer(tmp_path, "digits")
    trained = fit(
        model, data, [Phase("main", stage, LOSS)], (0, 1), checkpointer, name="resnet", device=torch.device("cpu")
    )
    x, y = (torch.from_numpy(data["test"][name].values) for name in ("x", "y"))
    log_probabilities = model.log_probabilities(x.expand(2, *x.shape))
    assert ((log_probabilities.argmax(-1) == y).float().mean(1) > 0.9).all()
    held_out = [trained.history[-1][f"held_out_{seed}"] for seed in range(2)]
    expected = -log_probabilities.gather(-1, y.expand(2, -1)[..., None]).mean((1, 2))
    assert held_out == pytest.approx(expected.tolist(), rel=1e-4)


def test_bfloat16_rounds_the_networks_alone():
    model, x, y = build(), images(2, 50), labels(2, 50)
    exact = model.loss({"x": x, "y": y}, LOSS, [])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model.loss({"x": x, "y": y}, LOSS, [])
        assert model.features(x).dtype == torch.float32
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("shape", [(8, 7, 1), (7, 28, 3), (64,), (8, 8), (8, 8, 0), (2, 8, 8, 1)])
def test_what_is_no_image_of_enough_pixels_is_refused(shape):
    with pytest.raises(ValueError, match=r"x must be images .* of at least 8x8 pixels, found"):
        build(shape=shape)


def test_one_label_too_many_is_an_error():
    model, y = build(), labels(2, 4)
    with pytest.raises(RuntimeError, match="out of bounds"):
        model.loss({"x": images(2, 4), "y": torch.full_like(y, 5)}, LOSS, [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"width": 6}, "key 'width'"),
        ({"features": 2}, "key 'features'"),
        ({"stages": 0}, "key 'stages'"),
        ({"blocks": 0}, "key 'blocks'"),
        ({"clases": 3}, "did you mean 'classes'"),
    ],
)
def test_bad_settings_are_refused_by_name(content, said):
    with pytest.raises(CatalogueError) as caught:
        parse(Config, content, "paper.yaml: model")
    assert said in str(caught.value)


def test_its_loss_is_known_by_name():
    with pytest.raises(CatalogueError, match="unknown value 'entropy'; did you mean 'cross_entropy'"):
        parse(Loss, {"name": "entropy"}, "paper.yaml: loss")
