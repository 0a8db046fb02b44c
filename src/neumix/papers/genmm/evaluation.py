"""What the GenMM paper measures on a trained run."""

from neumix.papers.genmm.classification import Classification
from neumix.papers.genmm.generation import Classifier, Generation
from neumix.papers.genmm.likelihood import LikelihoodCurve

__all__ = ["MEASURES"]

MEASURES = {
    "classification": Classification,
    "classifier": Classifier,
    "generation": Generation,
    "likelihood": LikelihoodCurve,
}
