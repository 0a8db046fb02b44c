from neumix import jobs

jobs.evaluate(jobs.Job.of(snakemake))
