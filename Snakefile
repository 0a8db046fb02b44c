# The pipeline: data -> training -> measures -> tables, figures, comparison -> report.
# Configuration is in config/; what each rule does is in src/neumix/jobs.py.
from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/fetch.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/render.smk"
include: "workflow/rules/compare.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    fetch,
    compare,
    merge,
    render_table,
    render_figure,
    report,


rule all:
    default_target: True
    input:
        f"{RESULTS}/report/index.html",
