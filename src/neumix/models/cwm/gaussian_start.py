"""Gaussian mixtures that a classifier weighted mixture starts from, or that are all there is to fit."""

import warnings
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from neumix.gaussian_em import Covariance, GaussianParameters, fit, random_start
from neumix.settings import STRICT

__all__ = ["EM", "Library"]

Count = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EM:
    """EM from random points as means, equal weights and one covariance for all.

    References:
        CWM, Sec III-B.1; the numbers are those of the authors' public code.

    Arguments:
        name: `em`.
        points: of each seed that are used, the first ones; none for all.
        iterations: largest number of steps.
        tolerance: stop once a step gains less mean log-likelihood in nats than this; 0 takes all steps.
        spread: the initial covariance is that of the points times this, off-diagonals dropped.
    """

    name: Literal["em"]
    points: Count | None = 30_000
    iterations: Count = 100
    tolerance: Annotated[float, Field(ge=0)] = 0.0
    spread: Annotated[float, Field(gt=0)] = 1.0

    def fit(
        self, points: Tensor, components: int, covariance: Covariance, generator: torch.Generator
    ) -> GaussianParameters:
        """Return the mixture fitted to points (N, D)."""
        used = points[: self.points].double()
        start = random_start(used, components, self.spread, generator)
        found, _ = fit(used, start, covariance=covariance, iterations=self.iterations, tolerance=self.tolerance)
        return found


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Library:
    """scikit-learn's `GaussianMixture`, from k-means.

    References:
        CWM, Sec III.C, Table I: the GMM.

    Arguments:
        name: `scikit_learn`.
        iterations: largest number of steps.
        tolerance: stop once a step gains less mean log-likelihood in nats than this; scikit-learn's default.
    """

    name: Literal["scikit_learn"]
    iterations: Count = 100
    tolerance: Annotated[float, Field(gt=0)] = 1e-3

    def fit(
        self, points: Tensor, components: int, covariance: Covariance, generator: torch.Generator
    ) -> GaussianParameters:
        """Return the mixture fitted to points (N, D).

        Raises:
            ValueError: there are fewer points than components.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        start = int(torch.randint(2**31, (1,), generator=generator))
        mixture = GaussianMixture(
            components, covariance_type=covariance, tol=self.tolerance, max_iter=self.iterations, random_state=start
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is a setting
            mixture.fit(points.double().cpu().numpy())
        weights, means, covariances = (
            torch.from_numpy(values) for values in (mixture.weights_, mixture.means_, mixture.covariances_)
        )
        return GaussianParameters(weights, means, covariances.diag_embed() if covariance == "diag" else covariances)
