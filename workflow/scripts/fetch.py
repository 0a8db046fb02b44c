from neumix import jobs

jobs.fetch(jobs.Job.of(snakemake), snakemake.config["mirrors"])
