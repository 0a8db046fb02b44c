"""Bias, variance and time of gradient estimators at a model that reverse KL has begun to fit."""

import functools
import time
from collections.abc import Mapping
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GradientEstimators:
    r"""Estimators of the gradient of KL(model || target), each against the gradient by quadrature.

    The integrand is $h(x) = \log q(x) - \log p(x)$. The parameters enter it through the samples and through
    $\log q$ itself; the second way has mean zero under exact samples. Every estimator keeps both, as training does.

    For each estimator: `gradient_bias`, the distance of the mean over replicates from the exact gradient, beside
    `gradient_bias_noise`, what an estimator without bias is expected to show (root mean square); `gradient_variance`,
    the trace of the covariance; `gradient_mse`, the mean squared distance. They are relative to the exact gradient's
    norm, the last two to its square. `value_bias` (nats, with its sign), `value_bias_noise` (its standard error) and
    `value_variance` say the same of the value. `evaluations` counts evaluations of h by one estimate:
    `rao_blackwell_equal` has fewer draws, so that it takes no more of them than the others do.

    The seconds of each gradient are among the arrays and not the metrics: they differ from one evaluation to the
    next, and metrics are to be reproduced bit by bit.

    References:
        CWM, Sec III-B.2, Eq. (18), (19).

    Arguments:
        draws: M of the base, by every estimator but `rao_blackwell_equal`; no fewer than the model has components.
        replicates: independent gradients of each estimator.
        temperatures: of the Gumbel-softmax estimators.
        nodes: of the quadrature along each coordinate; the metric `quadrature_error` compares with half as many.
    """

    draws: AtLeastTwo = 50
    replicates: AtLeastTwo = 200
    temperatures: tuple[Annotated[float, Setting(gt=0)], ...] = (0.5, 0.1)
    nodes: Annotated[int, Setting(gt=3)] = 96

    @torch.enable_grad()
    def __call__(self, trained: TrainedRun) -> Measurement:
        """Measure a run on `plane_targets`.

        Raises:
            ValueError: the model has more components than there are draws, or its base is not normal.
        """
        model: Model = trained.model()
        name: TargetName = trained.data.target
        double: Model = trained.model().double()
        (value, exact), (_, coarse) = (
            _differentiate(double, quadrature(double, _divergence(double, name), nodes))
            for nodes in (self.nodes, self.nodes // 2)
        )
        norm = np.linalg.norm(exact, axis=1)
        metrics: dict[str, Floats | list[float]] = {
            "value": value,
            "gradient_norm": norm,
            "quadrature_error": np.linalg.norm(coarse - exact, axis=1) / norm,
        }
        arrays: dict[str, Floats] = {}
        contenders = self._contenders(model.components)
        for key, (values, gradients, seconds) in self._replicate(model, _divergence(model, name), contenders).items():
            found = _errors(values - value, gradients - exact, norm)
            metrics |= {f"{key}_{metric}": numbers for metric, numbers in found.items()}
            draws = contenders[key][1]
            metrics[f"{key}_evaluations"] = [draws * (model.components if key.startswith("rao_blackwell") else 1)]
            arrays[f"{key}_seconds"] = seconds
        return Measurement(metrics, arrays)

    def _contenders(self, components: int) -> dict[str, tuple[Estimator, int]]:
        """Return estimators and their numbers of draws by name."""
        if components > self.draws:
            raise ValueError(
                f"draws: {self.draws} draws of {components} components each cannot be matched in evaluations; "
                f"give at least {components}"
            )
        relaxed = {
            f"gumbel_softmax_{temperature:g}": (functools.partial(gumbel_softmax, temperature=temperature), self.draws)
            for temperature in self.temperatures
        }
        return {
            "rao_blackwell": (rao_blackwell, self.draws),
            "rao_blackwell_equal": (rao_blackwell, self.draws // components),
            "reinforce": (reinforce, self.draws),
            "reinforce_leave_one_out": (reinforce_leave_one_out, self.draws),
            "crude": (crude, self.draws),
            **relaxed,
        }

    def _replicate(
        self, model: Model, h: Integrand, contenders: Mapping[str, tuple[Estimator, int]]
    ) -> dict[str, tuple[Floats, Floats, Floats]]:
        """Return values (R, S), gradients (R, S, P) and seconds (R,) of each estimator."""
        found: dict[str, list[tuple[Floats, Floats, float]]] = {key: [] for key in contenders}
        for replicate in range(self.replicates):
            # The estimators take turns, so that a machine that is busy for a while slows all of them.
            for key, (estimator, draws) in contenders.items():
                noise = generators(range(model.n_seeds), "gradient", key, replicate)
                started = time.perf_counter()
                value, gradient = _differentiate(model, estimator(model, h, draws, noise))
                found[key].append((value, gradient, time.perf_counter() - started))
        return {
            key: (np.stack([v for v, _, _ in rows]), np.stack([g for _, g, _ in rows]), np.array([t for *_, t in rows]))
            for key, rows in found.items()
        }


def _divergence(model: Model, name: TargetName) -> Integrand:
    """Return log q - log p as a function of points."""
    log_target = target(name).log_prob
    return lambda x: model.log_prob(x) - log_target(x)


def _differentiate(model: Model, value: Tensor) -> tuple[Floats, Floats]:
    """Return values (S,) and their gradients by the parameters of their own seed, (S, P)."""
    parts = torch.autograd.grad(value.sum(), list(model.parameters()), allow_unused=True, materialize_grads=True)
    gradient = torch.cat([part.reshape(model.n_seeds, -1) for part in parts], 1)
    return value.detach().double().cpu().numpy(), gradient.double().cpu().numpy()


def _errors(values: Floats, gradients: Floats, norm: Floats) -> dict[str, Floats]:
    """Return the metrics of one estimator, (S,) each.

    Arguments:
        values, gradients: errors of each replicate, (R, S) and (R, S, P).
        norm: of the exact gradient, (S,).
    """
    replicates = len(values)
    spread = gradients.var(0, ddof=1).sum(-1)
    return {
        "gradient_bias": np.linalg.norm(gradients.mean(0), axis=-1) / norm,
        "gradient_bias_noise": np.sqrt(spread / replicates) / norm,
        "gradient_variance": spread / norm**2,
        "gradient_mse": np.square(gradients).sum(-1).mean(0) / norm**2,
        "value_bias": values.mean(0),
        "value_bias_noise": values.std(0, ddof=1) / np.sqrt(replicates),
        "value_variance": values.var(0, ddof=1),
    }
