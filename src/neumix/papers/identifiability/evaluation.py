"""What the identifiability paper measures on a trained run."""

from neumix.papers.identifiability.stability import DrawSensitivity, LatentStability
from neumix.papers.identifiability.toy import ToyLikelihood

__all__ = ["MEASURES"]

MEASURES = {
    "draw_sensitivity": DrawSensitivity,
    "latent_stability": LatentStability,
    "toy_likelihood": ToyLikelihood,
}
