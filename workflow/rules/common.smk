# Reads and checks the configuration before the first job; what the rules share.
import gc
import os
import sys
from pathlib import Path

from neumix import cluster, dag
from neumix.settings import CatalogueError

# The graph of thousands of jobs lives to the end; walking it for garbage takes a sixth of the time of a large dry run.
gc.set_threshold(100_000)

try:
    # What runs below a job of the cluster need not import every model once more to check settings against it.
    CATALOGUE = dag.open_catalogue(Path.cwd(), config, checked=workflow.is_main_process)
    if workflow.is_main_process:
        dag.list_code(CATALOGUE)
except CatalogueError as error:
    raise WorkflowError(str(error)) from None

SCALE = CATALOGUE.settings.scale
RESULTS = f"results/{SCALE}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"


onstart:
    # Only one Snakemake runs in a folder: jobs that Slurm has for this one were left by one that was killed.
    for job in cluster.cancel_orphans(Path.cwd()):
        print(f"Slurm job {job} of an earlier run was cancelled", file=sys.stderr)


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


def memory(wildcards, attempt):
    # The attempt before may have ended for want of it; there is only one attempt unless a profile sets retries.
    return run_of(wildcards).resources.mem_mb * attempt


def gpu_model(wildcards):
    # None leaves the resource out: a job without a GPU that names a model would be given one.
    return os.environ.get("NEUMIX_GPU_MODEL") if run_of(wildcards).resources.gpu else None


def by_record(files):
    # A record is small and holds the hash of the heavy file after it: its content decides, a touched file does not.
    return [path if path.endswith(".json") else ancient(path) for path in files]
