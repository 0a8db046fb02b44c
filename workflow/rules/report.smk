rule report:
    input:
        comparison=rules.merge.output.comparison,
        # Functions, since Snakemake looks at all of a list's files again for each of them.
        rendered=lambda _: dag.selected_items(CATALOGUE),
        records=lambda _: dag.selected_records(CATALOGUE),
        configuration=dag.report_config(CATALOGUE),
        code=dag.listed(dag.code("neumix.report.collect")),
        assets=dag.report_assets(),
    output:
        index=f"{RESULTS}/report/index.html",
    log:
        f"{LOGS}/report.log",
    benchmark:
        f"{BENCHMARKS}/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    message:
        "Building the report"
    script:
        "../scripts/report.py"
