"""Bias, variance and time of gradient estimators at a model that reverse KL has begun to fit."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Setting
from pydantic.dataclasses import dataclass
from torch import Tensor

from neumix.density_model import Integrand
from neumix.models.cwm.mixture import Model
from neumix.papers.cwm.estimators import (
    Estimator,
    crude,
    gumbel_softmax,
    quadrature,
    rao_blackwell,
    reinforce,
    reinforce_leave_one_out,
)
from neumix.results import Measurement
from neumix.settings import STRICT
from neumix.targets import TargetName, target
from neumix.trained import TrainedRun
from neumix.training import generators

__all__ = ["GradientEstimators"]

AtLeastTwo = Annotated[int, Setting(gt=1)]
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class _Contender:
    """An estimator as it competes.

    Arguments:
        name: for metrics.
        estimate: the estimator.
        draws: of the base by one estimate.
        cost: evaluations of h for each draw.
    """

    name: str
    estimate: Estimator
    draws: int
    cost: int = 1


@dataclasses.dataclass(frozen=True)
class _Replicates:
    """Independent estimates: values (R, S), their gradients (R, S, P), and the seconds that each took (R,)."""

    values: Floats
    gradients: Floats
    seconds: Floats


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GradientEstimators:
    r"""Estimators of the gradient of KL(model || target), each against the gradient by quadrature.

    The integrand is $h(x) = \log q(x) - \log p(x)$. The parameters enter it through the samples and through
    $\log q$ itself; the second way has mean zero under exact samples. Every estimator keeps both, as training does.

    For each estimator, `gradient_variance` is the trace of the covariance and `gradient_mse` the mean squared distance
    from the exact gradient; `gradient_bias` is the distance of the mean, beside `gradient_bias_noise`, what an
    estimator without bias is expected to show (root mean square). All are relative to the norm of the exact gradient
    or its square. `value_variance`, `value_bias` (nats, with its sign) and `value_bias_noise` (its standard error) say
    the same of the value. `evaluations` counts evaluations of h by one estimate: `rao_blackwell_equal` has fewer
    draws, so that it takes no more of them than the others do. As no mean depends on the number of draws, biases are
    measured on replicates of their own with many draws, for equally many evaluations whatever the estimator.

    The seconds of each gradient are among the arrays and not the metrics: they differ from one evaluation to the
    next, and metrics are to be reproduced bit by bit.

    References:
        CWM, Sec III-B.2, Eq. (18), (19).

    Arguments:
        draws: M of the base, by every estimator but `rao_blackwell_equal`; no fewer than the model has components.
        replicates: independent gradients of each estimator, for variances, errors and seconds.
        bias_evaluations: of h by each replicate for the bias; no fewer than the model has components.
        bias_replicates: independent gradients of each estimator, for the bias.
        temperatures: of the Gumbel-softmax estimators.
        nodes: of the quadrature along each coordinate; `quadrature_error` compares with three quarters of them.
    """

    draws: AtLeastTwo = 50
    replicates: AtLeastTwo = 200
    bias_evaluations: AtLeastTwo = 2000
    bias_replicates: AtLeastTwo = 100
    temperatures: tuple[Annotated[float, Setting(gt=0)], ...] = (0.5, 0.1)
    nodes: Annotated[int, Setting(gt=3)] = 128

    @torch.enable_grad()
    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on `plane_targets`.

        Raises:
            ValueError: the model has more components than there are draws or evaluations, or its base is not normal.
        """
        model, name = trained.model(), trained.data.target
        contenders = self._contenders(model.components)
        double = trained.model().double()
        (value, exact), (_, coarse) = (
            _differentiate(double, quadrature(double, _divergence(double, name), nodes))
            for nodes in (self.nodes, 3 * self.nodes // 4)
        )
        norm = np.linalg.norm(exact, axis=1)
        metrics = {
            "value": value,
            "gradient_norm": norm,
            "quadrature_error": np.linalg.norm(coarse - exact, axis=1) / norm,
        }
        seconds: dict[str, Floats] = {}
        h = _divergence(model, name)
        few = _replicate(model, h, contenders, self.replicates, "gradient")
        many = _replicate(model, h, self._of_many_draws(contenders), self.bias_replicates, "gradient bias")
        for contender in contenders:
            key, small, large = contender.name, few[contender.name], many[contender.name]
            found = _biases(large.values - value, large.gradients - exact, norm)
            found |= _errors(small.values, small.gradients - exact, norm)
            found["evaluations"] = np.array([float(contender.cost * contender.draws)])
            metrics |= {f"{key}_{metric}": numbers for metric, numbers in found.items()}
            seconds[f"{key}_seconds"] = small.seconds
        return Measurement(metrics, seconds)

    def _contenders(self, components: int) -> list[_Contender]:
        """Return the estimators for a number of components."""
        for name in ("draws", "bias_evaluations"):
            found = getattr(self, name)
            if found < components:
                raise ValueError(f"{name} must not be below the number of components, {components}; found {found}")
        return [
            _Contender("rao_blackwell", rao_blackwell, self.draws, components),
            _Contender("rao_blackwell_equal", rao_blackwell, self.draws // components, components),
            _Contender("reinforce", reinforce, self.draws),
            _Contender("reinforce_leave_one_out", reinforce_leave_one_out, self.draws),
            _Contender("crude", crude, self.draws),
            *(
                _Contender(f"gumbel_softmax_{tau:g}", functools.partial(gumbel_softmax, temperature=tau), self.draws)
                for tau in self.temperatures
            ),
        ]

    def _of_many_draws(self, contenders: Sequence[_Contender]) -> list[_Contender]:
        """Return the same estimators with the number of draws for the bias."""
        return [dataclasses.replace(one, draws=self.bias_evaluations // one.cost) for one in contenders]


def _replicate(
    model: Model, h: Integrand, contenders: Sequence[_Contender], replicates: int, purpose: str
) -> dict[str, _Replicates]:
    """Return replicates of each estimator by its name."""
    found: dict[str, list[tuple[Floats, Floats, float]]] = {one.name: [] for one in contenders}
    for replicate in range(replicates):
        for one in contenders:  # in turns, so that a machine that is busy for a while slows all of them
            noise = generators(range(model.n_seeds), purpose, one.name, replicate)
            started = time.perf_counter()
            value, gradient = _differentiate(model, one.estimate(model, h, one.draws, noise))
            found[one.name].append((value, gradient, time.perf_counter() - started))
    return {name: _Replicates(*map(np.stack, zip(*rows, strict=True))) for name, rows in found.items()}


def _divergence(model: Model, name: TargetName) -> Integrand:
    """Return log q - log p as a function of points."""
    log_target = target(name).log_prob
    return lambda x: model.log_prob(x) - log_target(x)


def _differentiate(model: Model, value: Tensor) -> tuple[Floats, Floats]:
    """Return values (S,) and their gradients by the parameters of their own seed, (S, P)."""
    parts = torch.autograd.grad(value.sum(), list(model.parameters()), allow_unused=True, materialize_grads=True)
    gradient = torch.cat([part.reshape(model.n_seeds, -1) for part in parts], 1)
    return value.detach().double().cpu().numpy(), gradient.double().cpu().numpy()


def _biases(values: Floats, gradients: Floats, norm: Floats) -> dict[str, Floats]:
    """Return the biases of one estimator with their noise, (S,) each.

    Arguments:
        values, gradients: errors of each replicate, (R, S) and (R, S, P).
        norm: of the exact gradient, (S,).
    """
    replicates = len(values)
    return {
        "gradient_bias": np.linalg.norm(gradients.mean(0), axis=-1) / norm,
        "gradient_bias_noise": np.sqrt(gradients.var(0, ddof=1).sum(-1) / replicates) / norm,
        "value_bias": values.mean(0),
        "value_bias_noise": values.std(0, ddof=1) / np.sqrt(replicates),
    }


def _errors(values: Floats, gradients: Floats, norm: Floats) -> dict[str, Floats]:
    """Return variances and mean squared errors of one estimator from values and errors of gradients, (S,) each."""
    return {
        "gradient_variance": gradients.var(0, ddof=1).sum(-1) / norm**2,
        "gradient_mse": np.square(gradients).sum(-1).mean(0) / norm**2,
        "value_variance": values.var(0, ddof=1),
    }
