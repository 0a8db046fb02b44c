"""What the CWM paper measures on a trained run."""

from neumix.papers.cwm.density import ImageDensity
from neumix.papers.cwm.gradients import GradientEstimators
from neumix.papers.cwm.variational import VariationalFit

__all__ = ["MEASURES"]

MEASURES = {
    "gradient_estimators": GradientEstimators,
    "image_density": ImageDensity,
    "variational_fit": VariationalFit,
}
