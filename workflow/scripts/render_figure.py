from neumix import jobs

jobs.render_figure(jobs.Job.of(snakemake))
