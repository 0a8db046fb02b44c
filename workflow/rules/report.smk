rule report:
    input:
        comparison=rules.merge.output.comparison,
        rendered=dag.selected_items(CATALOGUE),
        records=dag.selected_records(CATALOGUE),
        configuration=dag.report_config(CATALOGUE),
        code=dag.code("neumix.report.collect"),
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
