"""The density-ratio classifier: resampling, the minimum of its loss, the total correlation it finds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from neumix.models.density_ratio import Config, Loss, Model, resample
from neumix.training import generators

LOSS = Loss(name="binary_cross_entropy")
RHO = 0.8
EXACT = -0.5 * math.log(1 - RHO**2)


def correlated(seeds: int, points: int, purpose: str) -> Tensor:
    """Return points (S, B, 2) of unit normals with correlation RHO."""
    z = torch.stack([torch.randn(points, 2, generator=g) for g in generators(range(seeds), purpose)])
    return torch.stack([z[..., 0], RHO * z[..., 0] + math.sqrt(1 - RHO**2) * z[..., 1]], -1)


def exact_log_ratio(x: Tensor) -> Tensor:
    a, b = x.unbind(-1)
    return EXACT - (RHO**2 * (a**2 + b**2) - 2 * RHO * a * b) / (2 * (1 - RHO**2))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 3), st.sampled_from([(), (2,), (2, 2)]))
def test_resampling_keeps_the_points_of_each_variate_and_seed(seeds, points, variates, shape):
    x = torch.arange(seeds * points * variates * math.prod(shape)).reshape(seeds, points, variates, *shape)
    found = resample(x, generators(range(seeds), "noise"))
    assert found.shape == x.shape
    for s in range(seeds):
        for v in range(variates):
            # Whole points of a variate move; they are neither mixed nor lost.
            rows = lambda t, s=s, v=v: sorted(map(tuple, t[s, :, v].reshape(points, -1).tolist()))  # noqa: E731
            assert rows(found) == rows(x)


def test_resampling_breaks_the_dependence():
    x = correlated(2, 5000, "points")
    found = resample(x, generators(range(2), "noise"))
    for s in range(2):
        assert np.corrcoef(x[s].T)[0, 1] == pytest.approx(RHO, abs=0.03)
        assert abs(np.corrcoef(found[s].T)[0, 1]) < 0.05
    assert not torch.equal(found[0, :, 0], x[0, :, 0])


def test_a_seed_s_noise_is_its_own():
    x = correlated(3, 20, "points")
    together = resample(x, generators(range(3), "noise"))
    assert torch.equal(resample(x[1:2], generators([1], "noise"))[0], together[1])
    assert not torch.equal(resample(x, generators(range(3), "other")), together)


class Exact(Model):
    """Gives a distorted version of the exact log ratio."""

    scale, shift = 1.0, 0.0

    def log_ratio(self, x: Tensor) -> Tensor:
        return self.scale * exact_log_ratio(x) + self.shift


@pytest.mark.parametrize(("scale", "shift"), [(0.7, 0), (1.4, 0), (1, 0.3), (1, -0.3), (0, 0), (-1, 0)])
def test_the_exact_ratio_has_the_smallest_loss(scale, shift):
    model = Exact(Config(), {"x": (2,)}, generators([0], "init"))
    batch = {"x": correlated(1, 20_000, "points")}
    best = model.loss(batch, LOSS, generators([0], "noise"))
    model.scale, model.shift = scale, shift
    assert model.loss(batch, LOSS, generators([0], "noise")) > best + 1e-3
    assert best < math.log(2)


def test_logits_of_zero_cost_log_two():
    model = Exact(Config(), {"x": (2,)}, generators([0], "init"))
    model.scale = 0.0
    loss = model.loss({"x": correlated(1, 10, "points")}, LOSS, generators([0], "noise"))
    assert loss.tolist() == pytest.approx([math.log(2)])


def test_each_seed_has_its_own_loss():
    model = Model(Config(hidden=(4,)), {"x": (2, 3)}, generators(range(3), "init"))
    alone = Model(Config(hidden=(4,)), {"x": (2, 3)}, generators([1], "init"))
    x = torch.randn(3, 8, 2, 3, generator=torch.Generator().manual_seed(0))
    losses = model.loss({"x": x}, LOSS, generators(range(3), "noise"))
    assert losses.shape == (3,)
    torch.testing.assert_close(alone.loss({"x": x[1:2]}, LOSS, generators([1], "noise"))[0], losses[1])
    assert model.log_ratio(x).shape == (3, 8)


def test_training_finds_the_total_correlation():
    model = Model(Config(hidden=(32, 32)), {"x": (2,)}, generators(range(2), "init"))
    noise, optimizer = generators(range(2), "noise"), torch.optim.Adam(model.parameters(), 1e-2)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.02, 300)
    x = correlated(2, 20_000, "points")
    for step in range(300):
        rows = slice(step % 40 * 500, (step % 40 + 1) * 500)
        optimizer.zero_grad()
        model.loss({"x": x[:, rows]}, LOSS, noise).sum().backward()
        optimizer.step()
        decay.step()
    fresh = correlated(2, 20_000, "held out")
    with torch.no_grad():
        found = model.log_ratio(fresh)
    assert found.mean(1).tolist() == pytest.approx([EXACT, EXACT], abs=0.04)
    assert (found - exact_log_ratio(fresh)).abs().median() < 0.15


def test_settings_are_strict():
    with pytest.raises(ValidationError, match="binary_cross_entropy"):
        Loss(name="bce")
    with pytest.raises(ValidationError, match="widths"):
        Config(widths=(3,))
