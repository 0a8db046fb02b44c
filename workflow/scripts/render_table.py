from neumix import jobs

jobs.render_table(jobs.Job.of(snakemake))
