rule fetch:
    message:
        "Fetching {wildcards.dataset}"
    output:
        manifest="data/{dataset}/SHA256SUMS",
    params:
        declaration=lambda wildcards: dag.declaration(CATALOGUE, wildcards.dataset),
        mirrors=dag.mirrors(CATALOGUE),
    log:
        "data/.logs/{dataset}.log",
    benchmark:
        "data/.logs/{dataset}.tsv"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    conda:
        "../../environment.yml"
    script:
        "../scripts/fetch.py"
