rule compare:
    input:
        published="config/published/{paper}.csv",
        margins="config/margins.yaml",
        deviations=lambda wildcards: dag.deviation_files(wildcards.paper),
        records=lambda wildcards: dag.value_records(CATALOGUE, wildcards.paper),
        code=dag.listed(dag.code("neumix.comparison")),
    output:
        comparison=f"{RESULTS}/comparison/{{paper}}.csv",
        record=f"{RESULTS}/comparison/{{paper}}.json",
    log:
        f"{LOGS}/compare/{{paper}}.log",
    benchmark:
        f"{BENCHMARKS}/compare/{{paper}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        values=lambda wildcards: dag.values(CATALOGUE, wildcards.paper),
    message:
        "Comparing {wildcards.paper} with its published values"
    script:
        "../scripts/compare.py"


rule merge:
    input:
        selected=expand(f"{RESULTS}/comparison/{{paper}}.csv", paper=CATALOGUE.selected),
        published=expand("config/published/{paper}.csv", paper=list(CATALOGUE.papers)),
        margins="config/margins.yaml",
        deviations=[path for paper in CATALOGUE.papers for path in dag.deviation_files(paper)],
        code=dag.listed(dag.code("neumix.comparison")),
    output:
        comparison=f"{RESULTS}/comparison.csv",
        record=f"{RESULTS}/comparison.json",
    log:
        f"{LOGS}/merge.log",
    benchmark:
        f"{BENCHMARKS}/merge.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        # Papers that are not selected now keep the comparison that is on disk; its hash triggers a new merge.
        kept=dag.kept(CATALOGUE),
        papers=[*CATALOGUE.selected, *dag.kept(CATALOGUE)],
    message:
        "Joining the comparisons of all papers"
    script:
        "../scripts/merge.py"
