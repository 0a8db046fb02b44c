"""Trajectories: networks against torch's own layers, solutions against matrix exponentials, orders, gradients."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import vae_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm
from torch import Tensor, nn
from torch.nn import functional

from neumix.settings import CatalogueError, parse
from neumix.training import generators
from neumix.trajectories import Equation, StateField, solve

SMALL = Equation(width=6)
SHAPES = pytest.mark.parametrize("shape", [(), (4, 3)], ids=["vectors", "images"])


def field(equation: Equation = SMALL, shape: Sequence[int] = (), seeds: Sequence[int] = (0, 1)) -> StateField:
    """Return networks of 3 channels whose weights are as large as those of a trained one."""
    made = StateField(equation, 3, shape, generators(seeds, "field"))
    vae_reference.scatter(made, 0.3)
    return made


def states(shape: Sequence[int] = (), networks: int = 2, batch: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(networks, batch, 3, *shape, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """The field A h."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, t: Tensor, state: Tensor, network: int | None = None) -> Tensor:
        return state @ self.matrix.mT


class Given(nn.Module):
    """A field with parameters from elsewhere."""

    def __init__(self, made: StateField, parameters: dict[str, Tensor]) -> None:
        super().__init__()
        self.made, self.given = made, parameters

    def forward(self, *arguments: Any, **named: Any) -> Tensor:
        found: Tensor = torch.func.functional_call(self.made, self.given, arguments, named)
        return found


MATRIX = torch.tensor([[-0.5, 2.0, 0.0], [-2.0, -0.5, 0.3], [0.0, 0.4, 0.8]], dtype=torch.float64)


def exact(initial: Tensor, times: Tensor) -> Tensor:
    """Return the solution of dh/dt = A h."""
    return torch.stack([initial @ torch.from_numpy(expm(MATRIX.numpy() * time)).T for time in times.tolist()])


class TestStateField:
    @SHAPES
    def test_agrees_with_torchs_layers_of_each_network_alone(self, shape):
        made, h, t = field(shape=shape), states(shape), torch.tensor(0.3)
        layer = functional.conv2d if shape else functional.linear
        for network in range(2):
            x = torch.cat([h[network], torch.full_like(h[network, :, :1], 0.3)], 1)
            for position, (weight, bias) in enumerate(zip(made.weights, made.biases, strict=True)):
                more = {"padding": 1} if shape else {}
                x = layer(x if position == 0 else torch.sin(x), weight[network], bias[network], **more)
            torch.testing.assert_close(made(t, h)[network], x)

    @SHAPES
    def test_networks_are_independent(self, shape):
        made, h, t = field(shape=shape, seeds=(0, 1, 2)), states(shape, 3), torch.tensor(0.3)
        before = made(t, h)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter[1] += 0.1
        after = made(t, h)
        assert torch.equal(after[[0, 2]], before[[0, 2]])
        assert not torch.isclose(after[1], before[1]).any()
        moved = h.clone()
        moved[1] += 0.1
        assert torch.equal(made(t, moved)[[0, 2]], after[[0, 2]])

    @SHAPES
    def test_a_networks_start_is_its_own_whatever_others_there_are(self, shape):
        together = StateField(SMALL, 3, shape, generators((4, 7), "field"))
        alone = StateField(SMALL, 3, shape, generators((7,), "field"))
        for several, one in zip(together.parameters(), alone.parameters(), strict=True):
            assert torch.equal(several[1:], one)
            assert not torch.equal(several[0], several[1])

    @SHAPES
    def test_one_network_alone_is_that_one(self, shape):
        made, h, t = field(shape=shape), states(shape), torch.tensor(0.3)
        torch.testing.assert_close(made(t, h[1:], 1), made(t, h)[1:])

    def test_time_is_an_input(self):
        made, h = field(), states()
        times = [made(torch.tensor(time), h) for time in (0.0, 0.5, 1.0)]
        assert all(not torch.isclose(one, other).any() for one, other in itertools.combinations(times, 2))

    @pytest.mark.parametrize("activation", ["sin", "tanh"])
    def test_the_activation_is_the_one_that_was_asked_for(self, activation):
        made = field(dataclasses.replace(SMALL, activation=activation, depth=2), seeds=(0,))
        h = states(networks=1)
        (first, last), (first_bias, last_bias) = made.weights, made.biases
        x = torch.cat([h[0], torch.ones(5, 1)], 1) @ first[0].T + first_bias[0]
        torch.testing.assert_close(made(torch.ones(()), h)[0], getattr(torch, activation)(x) @ last[0].T + last_bias[0])

    @pytest.mark.parametrize(("depth", "shape", "taps"), [(2, (), 1), (4, (), 1), (3, (4, 3), 9)])
    def test_layers_and_the_bounds_of_their_start(self, depth, shape, taps):
        made = StateField(Equation(width=50, depth=depth), 30, shape, generators((0, 1), "field"))
        assert len(made.weights) == len(made.biases) == depth
        for layer, (weight, bias) in enumerate(zip(made.weights, made.biases, strict=True)):
            inputs = 31 if layer == 0 else 50
            assert weight.shape[:3] == (2, 30 if layer == depth - 1 else 50, inputs)
            assert weight[0, 0, 0].numel() == taps
            bound = (0.1 if layer == depth - 1 else 1) / (inputs * taps) ** 0.5
            for values in (weight, bias):
                assert 0.8 * bound < values.abs().max() <= bound * (1 + 1e-6)
            assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)

    @SHAPES
    def test_half_precision_products_keep_the_states_dtype(self, shape):
        made, h = field(shape=shape), states(shape)
        with torch.autocast("cpu", torch.bfloat16):
            found = made(torch.tensor(0.3), h)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, made(torch.tensor(0.3), h), atol=0.05, rtol=0.05)
        assert not torch.equal(found, made(torch.tensor(0.3), h))


class TestSolve:
    @pytest.mark.parametrize(
        ("solver", "steps", "tolerance"), [("euler", 3000, 2e-3), ("midpoint", 300, 1e-4), ("rk4", 50, 1e-6)]
    )
    def test_fixed_steps_find_the_exponential(self, solver, steps, tolerance):
        initial, times = states().double(), torch.linspace(0, 1, 6).double()
        found = solve(Equation(solver=solver, steps=steps), Linear(MATRIX), initial, times)
        torch.testing.assert_close(found, exact(initial, times), rtol=0, atol=tolerance)

    @pytest.mark.parametrize("tolerance", [1e-4, 1e-9])
    def test_dopri5_finds_the_exponential_within_its_tolerance(self, tolerance):
        initial, times = states().double(), torch.linspace(0, 1, 6).double()
        found = solve(Equation(solver="dopri5", tolerance=tolerance), Linear(MATRIX), initial, times)
        error = (found - exact(initial, times)).abs().max().item()
        assert tolerance / 1e4 < error < 20 * tolerance

    @pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
    def test_half_the_step_divides_the_error_as_the_order_says(self, solver, order):
        initial, times = states().double(), torch.tensor([0, 1], dtype=torch.float64)
        errors = []
        for steps in (20, 40):
            found = solve(Equation(solver=solver, steps=steps), Linear(MATRIX), initial, times)
            errors.append((found - exact(initial, times))[1].square().mean().sqrt().item())
        assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)

    @SHAPES
    def test_fixed_steps_agree_with_dopri5(self, shape):
        made, initial, times = field(shape=shape).double(), states(shape).double(), torch.linspace(0, 1, 7).double()
        fixed = solve(Equation(width=6, steps=60), made, initial, times)
        adaptive = solve(Equation(width=6, solver="dopri5", tolerance=1e-9), made, initial, times)
        torch.testing.assert_close(fixed, adaptive, rtol=0, atol=1e-6)
        assert (fixed[-1] - initial).abs().mean() > 0.1, "trajectories that go nowhere test nothing"

    def test_without_steps_one_goes_from_each_pseudotime_to_the_next(self):
        made, initial = field(), states()
        times = torch.linspace(0, 1, 11)
        torch.testing.assert_close(
            solve(Equation(width=6), made, initial, times),
            solve(Equation(width=6, steps=10), made, initial, times),
        )
        uneven = torch.tensor([0, 0.1, 0.7, 1])
        (euler, by_hand) = solve(Equation(width=6, solver="euler"), made, initial, uneven), [initial]
        for before, after in itertools.pairwise(uneven):
            by_hand.append(by_hand[-1] + (after - before) * made(before, by_hand[-1]))
        torch.testing.assert_close(euler, torch.stack(by_hand))

    def test_between_steps_a_cubic_is_close_to_a_fine_solution(self):
        made, initial, times = field().double(), states().double(), torch.linspace(0, 1, 25).double()
        fine = solve(Equation(width=6, steps=480), made, initial, times)
        errors = [
            (solve(Equation(width=6, steps=steps), made, initial, times) - fine).abs().max().item() for steps in (5, 10)
        ]
        assert errors[0] < 1e-3
        assert errors[1] < errors[0] / 8, "the polynomial is of a higher order than a line"

    @settings(max_examples=20, deadline=None)
    @given(st.integers(1, 60), st.integers(2, 40), st.sampled_from([torch.float32, torch.float64]))
    def test_any_number_of_steps_serves_any_number_of_pseudotimes(self, steps, count, dtype):
        initial, times = states(networks=1).to(dtype), torch.linspace(0, 1, count, dtype=dtype)
        equation = Equation(solver="euler", steps=steps)
        found = solve(equation, Linear(MATRIX.to(dtype)), initial, times)
        assert found.shape == (count, *initial.shape)
        assert found.dtype == dtype
        assert torch.equal(found[0], initial)
        end = initial.double()
        for _ in range(steps):
            end = end + end @ MATRIX.T / steps
        torch.testing.assert_close(found[-1], end.to(dtype), rtol=1e-4, atol=1e-4)
        assert (found - exact(initial.double(), times.double())).abs().max() < 30 / steps

    def test_one_pseudotime_is_the_start(self):
        initial = states()
        for solver in ("rk4", "dopri5"):
            assert torch.equal(solve(Equation(solver=solver), field(), initial, torch.zeros(1)), initial[None])

    def test_steps_of_dopri5_are_chosen_for_each_network_alone(self):
        equation = Equation(width=6, solver="dopri5", tolerance=1e-3)
        made, initial, times = field(equation), states(), torch.tensor([0.0, 0.5, 1.0])
        before = solve(equation, made, initial, times)
        with torch.no_grad():
            for weight in made.weights:
                weight[1] *= 5  # needs far smaller steps
        after = solve(equation, made, initial, times)
        assert torch.equal(after[:, 0], before[:, 0])
        assert not torch.isclose(after[1:, 1], before[1:, 1]).any()

    @pytest.mark.parametrize(
        ("equation", "shape"),
        [
            (Equation(width=3, depth=2), ()),
            (Equation(width=3, depth=2), (2, 2)),
            (Equation(width=3, steps=2), ()),
            (Equation(width=3, steps=2), (2, 2)),
            (Equation(width=3, depth=2, solver="dopri5", tolerance=1e-8), ()),
        ],
        ids=["rk4-vectors", "rk4-images", "cubic-vectors", "cubic-images", "dopri5-vectors"],
    )
    def test_gradients_by_finite_differences(self, equation, shape):
        made = field(equation, shape).double()
        names, values = zip(*made.named_parameters(), strict=True)
        initial = states(shape, batch=1).double()
        times = torch.tensor([0, 0.3, 1], dtype=torch.float64)
        weights = torch.randn(3, *initial.shape, generator=torch.Generator().manual_seed(5)).double()

        def total(start: Tensor, *parameters: Tensor) -> Tensor:
            given = Given(made, dict(zip(names, parameters, strict=True)))
            found = solve(equation, given, start, times)
            return (weights * found).sum()

        inputs = [value.detach().clone().requires_grad_() for value in (initial, *values)]
        assert torch.autograd.gradcheck(total, inputs, fast_mode=True, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("depth", 1),
        ("width", 0),
        ("activation", "relu"),
        ("augment", -1),
        ("solver", "rk45"),
        ("steps", 0),
        ("tolerance", 0),
    ],
)
def test_bad_settings_are_named(key: str, value: object) -> None:
    with pytest.raises(CatalogueError, match=f"paper.yaml: model: key '{key}'"):
        parse(Equation, {key: value}, "paper.yaml: model")
