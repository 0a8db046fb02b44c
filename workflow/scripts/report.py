from neumix import jobs

jobs.report(jobs.Job.of(snakemake))
