rule train:
    input:
        data=lambda wildcards: dag.manifests(CATALOGUE, run_of(wildcards)),
        code=lambda wildcards: dag.listed(dag.training_code(run_of(wildcards))),
        needs=lambda wildcards: by_record(dag.training_needs(CATALOGUE, run_of(wildcards))),
    output:
        weights=f"{RESULTS}/weights/{{paper}}/{{experiment}}/{{run}}.safetensors",
        history=f"{RESULTS}/runs/{{paper}}/{{experiment}}/{{run}}/history.csv",
        record=f"{RESULTS}/runs/{{paper}}/{{experiment}}/{{run}}/run.json",
    log:
        f"{LOGS}/train/{{paper}}/{{experiment}}/{{run}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{paper}}/{{experiment}}/{{run}}.tsv"
    conda:
        "../../environment.yml"
    threads: run_resource("threads")
    resources:
        mem_mb=memory,
        runtime=run_resource("runtime"),
        gpu=run_resource("gpu"),
        gpu_model=gpu_model,
    params:
        run=lambda wildcards: dag.training_settings(run_of(wildcards)),
    message:
        "Training {wildcards.paper}/{wildcards.experiment}/{wildcards.run}"
    script:
        "../scripts/train.py"
