localrules:
    prompts,


# First of all: what is wrong with a prompt is known after a second.
rule prompts:
    input:
        RULES.inputs("prompts"),
    output:
        f"{PLAN.root}/jobs/prompts/{{chunk}}.json",
    log:
        f"{PLAN.root}/logs/prompts/{{chunk}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/prompts/{{chunk}}.tsv"
    priority: 100
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **job_resources(EXECUTION),
    params:
        spec=RULES.whole_spec("prompts"),
        shape=RULES.shape("prompts"),
        sources=RULES.sources("prompts"),
    message:
        "Prompt set {wildcards.chunk}"
    shell:
        "evals prompts --spec {params.spec:q} --manifest {output:q} 2>&1 | tee {log:q}"
