rule evaluate:
    input:
        # The record is small and holds the hash of the weights: its content decides, a touched file does not.
        record=rules.train.output.record,
        weights=ancient(rules.train.output.weights),
        data=lambda wildcards: dag.manifests(CATALOGUE, run_of(wildcards)),
        code=lambda wildcards: dag.listed(dag.evaluation_code(CATALOGUE, run_of(wildcards))),
        history=lambda wildcards: ancient(dag.evaluation_history(CATALOGUE, run_of(wildcards))),
        needs=lambda wildcards: by_record(dag.evaluation_needs(CATALOGUE, run_of(wildcards))),
    output:
        metrics=f"{RESULTS}/runs/{{paper}}/{{experiment}}/{{run}}/metrics.json",
        arrays=f"{RESULTS}/arrays/{{paper}}/{{experiment}}/{{run}}.safetensors",
        record=f"{RESULTS}/runs/{{paper}}/{{experiment}}/{{run}}/evaluation.json",
    log:
        f"{LOGS}/evaluate/{{paper}}/{{experiment}}/{{run}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{paper}}/{{experiment}}/{{run}}.tsv"
    conda:
        "../../environment.yml"
    threads: run_resource("threads")
    resources:
        mem_mb=memory,
        runtime=run_resource("runtime"),
    params:
        run=lambda wildcards: dag.settings_of(run_of(wildcards)),
    message:
        "Measuring {wildcards.paper}/{wildcards.experiment}/{wildcards.run}"
    script:
        "../scripts/evaluate.py"
