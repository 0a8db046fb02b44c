from neumix import jobs

jobs.merge(jobs.Job.of(snakemake))
