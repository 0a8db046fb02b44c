"""What the CPMM paper measures on a trained run."""

from neumix.papers.cpmm.flows import Flow
from neumix.papers.cpmm.images import Circuit, Mixture
from neumix.papers.cpmm.plane import Plane

__all__ = ["MEASURES"]

MEASURES = {"circuit": Circuit, "flow": Flow, "mixture": Mixture, "plane": Plane}
