from neumix import jobs

jobs.train(jobs.Job.of(snakemake), snakemake.config["device"])
