# Reads and checks the configuration before the first job; what the rules share.
import sys
from pathlib import Path

from neumix import dag
from neumix.settings import CatalogueError

try:
    CATALOGUE = dag.open_catalogue(Path.cwd(), config)
except CatalogueError as error:
    raise WorkflowError(str(error)) from None

SCALE = CATALOGUE.settings.scale
RESULTS = f"results/{SCALE}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"


wildcard_constraints:
    dataset="|".join(CATALOGUE.datasets),
    paper="|".join(CATALOGUE.papers),
    experiment="[a-z0-9_]+",
    run="[a-z0-9_]+",
    item=r"[a-z0-9_]+\.[a-z0-9_]+",


def run_of(wildcards):
    return CATALOGUE.run(wildcards.paper, wildcards.experiment, wildcards.run)


def run_resource(name):
    return lambda wildcards: getattr(run_of(wildcards).resources, name)
