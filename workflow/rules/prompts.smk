localrules:
    prompts,


rule prompts:
    output:
        PLAN.prompt_files(["{prompt_set}"]),
    log:
        f"{PLAN.root}/logs/prompts/{{prompt_set}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/prompts/{{prompt_set}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=EXECUTION.memory_mb,
        runtime=EXECUTION.runtime_minutes,
    params:
        spec=lambda wildcards: encode(PLAN.prompts_spec(wildcards.prompt_set)),
    message:
        "Prompt set {wildcards.prompt_set}"
    shell:
        "evals prompts --spec {params.spec:q} 2>&1 | tee {log:q}"
