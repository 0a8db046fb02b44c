"""What the CPMM paper measures on a trained run."""

from neumix.papers.cpmm.flows import Flow
from neumix.papers.cpmm.images import Circuit, Clusters, Mixture
from neumix.papers.cpmm.plane import Plane

__all__ = ["MEASURES"]

MEASURES = {"circuit": Circuit, "clusters": Clusters, "flow": Flow, "mixture": Mixture, "plane": Plane}
