from neumix import jobs

jobs.compare(jobs.Job.of(snakemake))
