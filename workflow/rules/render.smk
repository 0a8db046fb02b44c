rule render_table:
    input:
        records=lambda wildcards: dag.item_records(CATALOGUE, wildcards.item),
        arrays=lambda wildcards: ancient(dag.item_arrays(CATALOGUE, wildcards.item)),
        code=lambda wildcards: dag.listed(dag.rendering_code(wildcards.item, "tables")),
    output:
        csv=f"{RESULTS}/tables/{{item}}.csv",
        md=f"{RESULTS}/tables/{{item}}.md",
        tex=f"{RESULTS}/tables/{{item}}.tex",
        html=f"{RESULTS}/tables/{{item}}.html",
        record=f"{RESULTS}/tables/{{item}}.json",
    log:
        f"{LOGS}/render/{{item}}.log",
    benchmark:
        f"{BENCHMARKS}/render/{{item}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        runs=lambda wildcards: dag.item_runs(CATALOGUE, wildcards.item),
        note=lambda wildcards: CATALOGUE.item_note(wildcards.item),
    message:
        "Rendering {wildcards.item}"
    script:
        "../scripts/render_table.py"


rule render_figure:
    input:
        records=lambda wildcards: dag.item_records(CATALOGUE, wildcards.item),
        arrays=lambda wildcards: ancient(dag.item_arrays(CATALOGUE, wildcards.item)),
        code=lambda wildcards: dag.listed(dag.rendering_code(wildcards.item, "figures")),
    output:
        svg=f"{RESULTS}/figures/{{item}}.svg",
        png=f"{RESULTS}/figures/{{item}}.png",
        record=f"{RESULTS}/figures/{{item}}.json",
    log:
        f"{LOGS}/render/{{item}}.log",
    benchmark:
        f"{BENCHMARKS}/render/{{item}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        runs=lambda wildcards: dag.item_runs(CATALOGUE, wildcards.item),
        note=lambda wildcards: CATALOGUE.item_note(wildcards.item),
    message:
        "Rendering {wildcards.item}"
    script:
        "../scripts/render_figure.py"
