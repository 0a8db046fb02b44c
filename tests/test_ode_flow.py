"""Flows by differential equations: exact solutions, order, torchdiffeq, traces, densities, gradients, spaces, seeds."""

import math

import pytest
import torch
import vae_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torchdiffeq import odeint

from neumix import ode_flow
from neumix.ode_flow import Dopri5, Exact, Hutchinson, OdeFlow, RungeKutta, directions
from neumix.training import generators
from neumix.vector_field import Convolutional, Perceptron, VectorField, make_field

EXACT = Exact(name="exact")
SPACES = [place / 50 for place in range(51)]


def rk4(steps: int = 8) -> RungeKutta:
    return RungeKutta(name="rk4", steps=steps)


def dopri5(tolerance: float = 1e-10) -> Dopri5:
    return Dopri5(name="dopri5", tolerance=tolerance)


SOLVERS = {"rk4": rk4(40), "dopri5": dopri5(1e-8)}
SOLVER = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
LOOSE = pytest.mark.parametrize("solver", [rk4(5), dopri5(1e-6)], ids=SOLVERS)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).double()


class Linear(VectorField):
    """g(u, s) = (1 + s) A u, whose solution is exp((v + v^2 / 2) A) x."""

    def __init__(self, matrices: Tensor) -> None:
        super().__init__(matrices.shape[-1:])
        self.matrices = nn.Parameter(matrices)

    @property
    def hidden_values(self) -> int:
        return 1

    def forward(self, u: Tensor, s: Tensor, directions: Tensor | None = None) -> tuple[Tensor, Tensor]:
        e = u.new_zeros(len(u), 0, *u.shape[1:]) if directions is None else directions
        matrix = (1 + s) * self.matrices.mT
        return u @ matrix, e @ matrix[:, None]

    def _propagate(self, u, s):
        raise NotImplementedError

    def solution(self, v: float) -> Tensor:
        """Return the matrices of the map from time 0 to time v."""
        return torch.linalg.matrix_exp((v + v**2 / 2) * self.matrices.detach())


def linear(seeds: int = 2, dimension: int = 3) -> OdeFlow:
    return OdeFlow(Linear(0.4 * normal(seeds, dimension, dimension, seed=8)))


def curved(dimension: int = 2, *, seeds=(0, 1), scale: float = 0.5, hidden=(6, 5)) -> OdeFlow:
    """Return flows in float64 by networks that have moved from their start."""
    config = Perceptron(name="mlp", hidden=hidden, activation="tanh")
    field = make_field(config, (dimension,), generators(seeds, "init"))
    vae_reference.scatter(field, scale)
    return OdeFlow(field).double()


def basis(x: Tensor) -> Tensor:
    return directions(EXACT, x, [])


class TestLinearField:
    @SOLVER
    def test_points_and_spaces_are_those_of_the_exponential(self, solver):
        flow, x = linear(), normal(2, 5, 3)
        for v, state in zip(SPACES, flow.spaces(x, SPACES, solver).unbind(2), strict=True):
            torch.testing.assert_close(state, x @ flow.field.solution(v).mT, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(flow.latent(x, solver), x @ flow.field.solution(1).mT, rtol=1e-6, atol=1e-6)

    @SOLVER
    def test_the_inverse_is_the_exponential_of_minus_it(self, solver):
        flow, z = linear(), normal(2, 5, 3)
        expected = torch.linalg.solve(flow.field.solution(1), z.mT).mT
        torch.testing.assert_close(flow.inverse(z, solver), expected, rtol=1e-6, atol=1e-6)

    @SOLVER
    @pytest.mark.parametrize("start", [0.0, 0.3])
    def test_the_density_is_gaussian_in_every_space(self, solver, start):
        flow, u = linear(), normal(2, 5, 3)
        log_prob, energies = flow.density(u, basis(u), solver, start=start)
        assert energies.shape == (2, 5, 0)
        for seed in range(2):
            rest = flow.field.solution(1)[seed] @ torch.linalg.inv(flow.field.solution(start)[seed])
            gaussian = MultivariateNormal(torch.zeros(3).double(), precision_matrix=rest.mT @ rest)
            torch.testing.assert_close(log_prob[seed], gaussian.log_prob(u[seed]), rtol=1e-6, atol=1e-6)

    @SOLVER
    def test_energies(self, solver):
        flow, x = linear(), normal(2, 5, 3)
        _, energies = flow.density(x, basis(x), solver, energies=True)
        # The integral of (1 + s)^2 is 7/3; that of the squared velocity by the trapezoidal rule, many times.
        squares = flow.field.matrices.square().sum((1, 2)) * 7 / 3
        torch.testing.assert_close(energies[..., 1], squares[:, None].expand(2, 5), rtol=1e-6, atol=1e-6)
        times = torch.linspace(0, 1, 201).double()
        velocity = torch.stack([(1 + v) * x @ (flow.field.matrices @ flow.field.solution(v.item())).mT for v in times])
        torch.testing.assert_close(
            energies[..., 0], torch.trapezoid(velocity.square().sum(3), times, dim=0), rtol=1e-4, atol=0
        )


class TestSteps:
    # Times between steps are in their middle, of 10 steps as of 30.
    @pytest.mark.parametrize("times", [(1.0, 0.0), (0.0, 0.35, 0.65, 1.0), (0.2, 0.9)], ids=str)
    def test_errors_fall_with_the_fourth_power(self, times):
        flow, x = curved().requires_grad_(False), normal(2, 20, 2)
        exact, coarse, fine = (flow.follow(x, times, solver, basis(x)) for solver in (dopri5(1e-12), rk4(10), rk4(30)))
        for part in ("states", "integrals"):
            best = getattr(exact, part)
            errors = [(getattr(path, part) - best).square().sum((0, 1, 3))[1:].sqrt() for path in (coarse, fine)]
            ratios = errors[0] / errors[1]
            assert ((ratios > 3**3.5) & (ratios < 3**4.5)).all(), ratios

    @given(
        st.lists(st.integers(1, 99), max_size=4, unique=True).map(sorted), st.integers(1, 7), st.sampled_from([1, -1])
    )
    @settings(max_examples=25, deadline=None)
    def test_they_are_those_of_torchdiffeq(self, hundredths, steps, way):
        flow, x = curved().requires_grad_(False), normal(2, 4, 2)
        times = [0.0, *(place / 100 for place in hundredths), 1.0][::way]
        grid = torch.tensor(times, dtype=torch.float64)
        options = {
            "grid_constructor": lambda *given: torch.linspace(*given[2][[0, -1]], steps + 1, dtype=torch.float64),
            "interp": "cubic",
        }
        expected = odeint(lambda s, u: flow.field(u, s)[0], x, grid, method="rk4", options=options)
        found = flow.follow(x, times, rk4(steps)).states
        torch.testing.assert_close(found.movedim(2, 0), expected, rtol=1e-11, atol=1e-11)

    def test_they_agree_with_adaptive_ones(self):
        flow, x = curved(), normal(2, 20, 2)
        found, expected = (flow.density(x, basis(x), solver, energies=True) for solver in (rk4(60), dopri5(1e-9)))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)

    def test_in_single_precision(self):
        flow, x = curved(), normal(2, 20, 2)
        expected = flow.density(x, basis(x), dopri5(1e-11))[0].float()
        flow.float()
        for solver in (rk4(16), dopri5(1e-6)):
            found, _ = flow.density(x.float(), basis(x.float()), solver)
            assert found.dtype == torch.float32
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(
        ("times", "steps", "expected"),
        [
            ((0.0, 1.0), 8, 32),
            ((1.0, 0.0), 3, 12),
            ((0.25, 1.0), 8, 24),
            ((0.0, 1 / 3), 1, 4),
            ((0.0, 1e-7), 1, 4),
            (tuple(SPACES), 8, 33),
            ((0.0, 0.125, 1.0), 8, 32),
            ((0.0, 0.9, 1.0), 2, 9),
        ],
        ids=str,
    )
    def test_number_of_evaluations(self, times, steps, expected):
        flow, calls = curved(seeds=(0,)), []
        flow.field.register_forward_hook(lambda *_: calls.append(1))
        path = flow.follow(normal(1, 2, 2), times, rk4(steps))
        assert path.states.shape == (1, 2, len(times), 2)
        assert path.evaluations == (expected,) == (len(calls),)

    def test_adaptive_steps_are_chosen_for_each_seed_alone(self):
        flow, x = curved(scale=0.1), normal(2, 6, 2)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter[1] *= 4
        together = flow.follow(x, (0.0, 0.5, 1.0), dopri5(1e-6), basis(x))
        assert together.evaluations[0] < together.evaluations[1]
        for seed in range(2):
            one = slice(seed, seed + 1)
            alone = curved(seeds=[seed])
            alone.load_state_dict({name: value[one] for name, value in flow.state_dict().items()})
            path = alone.follow(x[one], (0.0, 0.5, 1.0), dopri5(1e-6), basis(x[one]))
            assert path.evaluations == together.evaluations[one]
            torch.testing.assert_close(path.states, together.states[one], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(path.integrals, together.integrals[one], rtol=1e-12, atol=1e-12)

    def test_a_smaller_tolerance_takes_more_evaluations(self):
        flow, x = curved(seeds=(0,)), normal(1, 6, 2)
        (loose,), (tight,) = (flow.follow(x, (0.0, 1.0), dopri5(t)).evaluations for t in (1e-3, 1e-9))
        assert 8 <= loose < tight


class TestTrace:
    def jacobians(self, flow: OdeFlow, x: Tensor, s: Tensor) -> Tensor:
        """Return the field's Jacobians (S, B, D, D) by autograd, one point at a time."""

        def at(seed: int, place: int) -> Tensor:
            def moved(point: Tensor) -> Tensor:
                copy = x.clone()
                copy[seed, place] = point
                return flow.field(copy, s)[0][seed, place]

            jacobian = torch.autograd.functional.jacobian(moved, x[seed, place])
            return jacobian.flatten(x.dim() - 2).flatten(0, x.dim() - 3)

        return torch.stack([torch.stack([at(seed, place) for place in range(x.shape[1])]) for seed in range(len(x))])

    def rates(self, flow: OdeFlow, x: Tensor, e: Tensor, s: Tensor) -> Tensor:
        return ode_flow._rates(flow.field, e, True, s, x)[1]

    @pytest.mark.parametrize("image", [False, True], ids=["vector", "image"])
    def test_exact_directions_give_trace_and_norm_of_the_jacobian(self, image):
        flow, x, s = curved(3), normal(2, 2, 3), torch.tensor(0.6).double()
        if image:
            config = Convolutional(name="cnn", hidden=(3, 3), squeeze=1, activation="sin")
            field = make_field(config, (2, 4, 1), generators((0, 1), "init"))
            vae_reference.scatter(field)
            flow, x = OdeFlow(field).double(), normal(2, 2, 2, 4, 1)
        jacobian, found = self.jacobians(flow, x, s), self.rates(flow, x, basis(x), s)
        torch.testing.assert_close(found[..., 0], jacobian.diagonal(dim1=2, dim2=3).sum(2))
        torch.testing.assert_close(found[..., 1], flow.field(x, s)[0].flatten(2).square().sum(2))
        torch.testing.assert_close(found[..., 2], jacobian.square().sum((2, 3)))

    def test_the_mean_over_all_signs_is_exact(self):
        flow, x, s = curved(3), normal(2, 4, 3), torch.tensor(0.6).double()
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)  # (8, 3)
        e = signs[None, :, None].expand(2, 8, 4, 3)
        expected = self.rates(flow, x, basis(x), s)
        torch.testing.assert_close(self.rates(flow, x, e, s), expected)
        single = self.rates(flow, x, e[:, :1], s)
        assert not torch.allclose(single[..., 0], expected[..., 0], rtol=1e-2), "one direction is an estimate"

    @pytest.mark.parametrize("noise", ["rademacher", "gaussian"])
    def test_random_directions_have_the_identity_as_mean_outer_product(self, noise):
        trace = Hutchinson(name="hutchinson", noise=noise, probes=20_000)
        e = directions(trace, torch.zeros(2, 2, 3).double(), generators((0, 1), "probes"))
        assert e.shape == (2, 20_000, 2, 3)
        outer = torch.einsum("spbi,spbj->sbij", e, e) / 20_000
        torch.testing.assert_close(outer, torch.eye(3).double().expand(2, 2, 3, 3), rtol=0, atol=0.06)
        assert (noise == "rademacher") == bool((e.abs() == 1).all())
        assert not torch.equal(e[0], e[1])
        assert not torch.equal(e[:, :, 0], e[:, :, 1])

    def test_parts_of_points_draw_what_all_would(self):
        trace, x = Hutchinson(name="hutchinson", probes=3), torch.zeros(2, 7, 4, 4, 1)
        whole = directions(trace, x, generators((0, 1), "probes"))
        noise = generators((0, 1), "probes")
        parts = [directions(trace, part, noise) for part in torch.split(x, 3, 1)]
        assert torch.equal(torch.cat(parts, 2), whole)
        assert whole.shape == (2, 3, 7, 4, 4, 1)
        assert whole.dtype == torch.float32

    def test_the_estimated_log_density_is_unbiased(self):
        flow, x = curved(3), normal(2, 1, 3)
        signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 3)
        # Each direction is the same along the whole path, so that the mean over all of them is exact again.
        found = [flow.density(x, sign.expand(2, 1, 1, 3), rk4())[0] for sign in signs]
        torch.testing.assert_close(torch.stack(found).mean(0), flow.density(x, basis(x), rk4())[0])


class TestDensity:
    def test_it_is_the_change_of_variables(self):
        flow, solver = curved(3), rk4(40)
        # A copy of each of 4 points for each coordinate of the latent, whose gradients are the rows of the Jacobian.
        x = normal(2, 4, 3).repeat_interleave(3, 1).requires_grad_()
        z = flow.latent(x, solver)
        (rows,) = torch.autograd.grad(torch.unflatten(z, 1, (4, 3)).diagonal(dim1=2, dim2=3).sum(), x)
        log_det = torch.linalg.slogdet(torch.unflatten(rows, 1, (4, 3)))[1]
        with torch.no_grad():
            expected = -0.5 * z[:, ::3].square().sum(2) - 1.5 * math.log(2 * math.pi) + log_det
            log_prob, _ = flow.density(x[:, ::3], basis(x[:, ::3]), solver)
        torch.testing.assert_close(log_prob, expected, rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("dimension", [1, 2])
    @pytest.mark.parametrize("start", [0.0, 0.4])
    def test_it_integrates_to_one(self, dimension, start):
        flow = curved(dimension)
        reach, count = 10.0, {1: 1000, 2: 100}[dimension]
        axis = ((torch.arange(count) + 0.5) / count * 2 - 1).double() * reach
        grid = torch.cartesian_prod(*[axis] * dimension).view(1, -1, dimension).expand(2, -1, -1)
        with torch.no_grad():
            density = flow.density(grid, basis(grid), rk4(8), start=start)[0].exp()
        assert density.std() > 0
        total = density.sum(1) * (2 * reach / count) ** dimension
        torch.testing.assert_close(total, torch.ones(2).double(), rtol=0, atol=1e-3)

    @SOLVER
    def test_the_inverse_undoes_it(self, solver):
        flow, x = curved(), normal(2, 20, 2)
        torch.testing.assert_close(flow.inverse(flow.latent(x, solver), solver), x, rtol=0, atol=1e-6)
        assert not torch.allclose(flow.latent(x, solver), x, atol=0.1)

    def test_densities_along_a_path_differ_by_the_trace(self):
        flow, x = curved(), normal(2, 5, 2)
        half = flow.spaces(x, [0.5], rk4(40))[:, :, 0]
        between = flow.follow(x, (0.0, 0.5), rk4(40), basis(x)).integrals[:, :, -1, 0]
        there, _ = flow.density(half, basis(x), rk4(40), start=0.5)
        torch.testing.assert_close(there + between, flow.density(x, basis(x), rk4(40))[0], rtol=1e-8, atol=1e-8)


class TestSpaces:
    @SOLVER
    def test_ends_are_the_data_and_the_latent(self, solver):
        flow, x = curved(), normal(2, 5, 2)
        spaces = flow.spaces(x, SPACES, solver)
        assert spaces.shape == (2, 5, 51, 2)
        assert torch.equal(spaces[:, :, 0], x)
        # The same steps, although spaces lie between them.
        torch.testing.assert_close(spaces[:, :, 50], flow.latent(x, solver), rtol=1e-12, atol=1e-12)

    def test_a_time_between_steps_is_as_exact_as_the_steps(self):
        flow, x = curved(), normal(2, 50, 2)
        found, exact = flow.spaces(x, SPACES, rk4(8)), flow.spaces(x, SPACES, dopri5(1e-12))
        errors = (found - exact).abs().amax((0, 1, 3))
        assert errors.max() < 1e-4
        assert errors.max() < 20 * errors[-1]

    def test_times_in_any_order_and_more_than_once(self):
        flow, x = curved(), normal(2, 5, 2)
        sorted_, mixed = (flow.spaces(x, times, rk4()) for times in ((0.0, 0.3, 1.0), (1.0, 0.3, 0.0, 0.3)))
        assert torch.equal(mixed, sorted_[:, :, [2, 1, 0, 1]])

    def test_the_data_alone_need_no_solution(self):
        flow, x = curved(), normal(2, 5, 2)
        assert torch.equal(flow.spaces(x, [0.0, 0.0], rk4()), torch.stack([x, x], 2))

    @pytest.mark.parametrize("time", [-0.1, 1.5, math.nan])
    def test_times_outside_are_refused(self, time):
        with pytest.raises(ValueError, match=f"found time {time}"):
            curved().spaces(normal(2, 5, 2), [0.0, time], rk4())


class TestGradients:
    def gradients(self, flow: OdeFlow, x: Tensor, solver: RungeKutta | Dopri5) -> dict[str, Tensor]:
        log_prob, energies = flow.density(x, basis(x), solver, energies=True)
        flow.zero_grad()
        (log_prob.square().sum() + energies.sum()).backward()
        return {name: parameter.grad.clone() for name, parameter in flow.named_parameters()}

    @pytest.mark.parametrize("recomputed", [False, True])
    def test_by_finite_differences(self, monkeypatch, recomputed):
        monkeypatch.setattr(ode_flow, "_KEPT", 0 if recomputed else math.inf)
        flow, x = curved(), normal(2, 4, 2)

        def loss(values: vae_reference.Weights) -> Tensor:
            moved = {name.removeprefix("field."): value for name, value in values.items()}
            field = lambda *given: torch.func.functional_call(flow.field, moved, given)  # noqa: E731
            with torch.no_grad():
                rates = lambda s, u: ode_flow._rates(field, basis(x), True, s, u)  # noqa: E731
                path = ode_flow._fixed_steps(rates, x, (0.0, 1.0), 3)
            z, integrals = path.states[:, :, -1], path.integrals[:, :, -1]
            log_prob = -0.5 * z.square().sum(2) - math.log(2 * math.pi) + integrals[..., 0]
            return log_prob.square().sum() + integrals[..., 1:].sum()

        found = self.gradients(flow, x, rk4(3))
        for name, (direction, expected) in vae_reference.slopes(loss, vae_reference.weights(flow)).items():
            assert (found[name] * direction).sum().item() == pytest.approx(expected, rel=1e-5, abs=1e-5), name

    def test_what_is_recomputed_gives_the_same_ones(self, monkeypatch):
        flow, x = curved(), normal(2, 4, 2)
        calls = []
        flow.field.register_forward_hook(lambda *_: calls.append(1))
        kept = self.gradients(flow, x, rk4(3))
        assert len(calls) == 12
        monkeypatch.setattr(ode_flow, "_KEPT", 0)
        recomputed = self.gradients(flow, x, rk4(3))
        assert len(calls) == 12 + 24
        torch.testing.assert_close(recomputed, kept, rtol=1e-12, atol=1e-12)

    def test_they_are_those_through_the_steps_of_torchdiffeq(self):
        flow, x = curved(), normal(2, 4, 2)
        found = self.gradients(flow, x, rk4(5))
        rates = lambda s, state: ode_flow._rates(flow.field, basis(x), True, s, state[0])  # noqa: E731
        start = (x, torch.zeros(2, 4, 3).double())
        times = torch.tensor([0.0, 1.0]).double()
        path = odeint(rates, start, times, method="rk4", options={"step_size": 0.2})
        log_prob = -0.5 * path[0][1].square().sum(2) - math.log(2 * math.pi) + path[1][1, :, :, 0]
        flow.zero_grad()
        (log_prob.square().sum() + path[1][1, :, :, 1:].sum()).backward()
        expected = {name: parameter.grad for name, parameter in flow.named_parameters()}
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)

    def test_those_of_the_adjoint_equation_are_the_limit(self):
        flow, x = curved(), normal(2, 4, 2)
        torch.testing.assert_close(
            self.gradients(flow, x, dopri5(1e-7)), self.gradients(flow, x, rk4(20)), rtol=1e-4, atol=1e-4
        )

    @LOOSE
    def test_they_reach_one_seed_only(self, solver):
        flow, x = curved(seeds=(0, 1, 2)), normal(3, 4, 2)
        flow.density(x, basis(x), solver)[0][1].sum().backward()
        for name, parameter in flow.named_parameters():
            assert parameter.grad[1].any(), name
            assert not parameter.grad[[0, 2]].any(), name

    @LOOSE
    def test_they_reach_points(self, solver):
        flow, x = curved(), normal(2, 3, 2).requires_grad_()
        (found,) = torch.autograd.grad(flow.density(x, basis(x.detach()), solver)[0].sum(), x)
        step = 1e-5 * normal(2, 3, 2, seed=1)
        with torch.no_grad():
            ends = [flow.density(x + sign * step, basis(x), solver)[0].sum() for sign in (1, -1)]
        assert (found * step).sum().item() == pytest.approx((ends[0] - ends[1]).item() / 2, rel=1e-3)
