rule fetch:
    output:
        manifest="data/{dataset}/SHA256SUMS",
    log:
        "data/.logs/{dataset}.log",
    benchmark:
        "data/.logs/{dataset}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=60,
    params:
        content=lambda wildcards: dag.content(CATALOGUE, wildcards.dataset),
    message:
        "Fetching {wildcards.dataset}"
    script:
        "../scripts/fetch.py"
