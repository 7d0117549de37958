# A chunk is models of one base, prompt sets and scorers.
rule score:
    input:
        RULES.inputs("score"),
    output:
        f"{PLAN.root}/jobs/score/{{chunk}}.json",
    log:
        f"{PLAN.root}/logs/score/{{chunk}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/score/{{chunk}}.tsv"
    conda:
        "../../environment.yml"
    threads: EXECUTION.threads
    resources:
        **job_resources(EXECUTION, gpus=EXECUTION.gpu),
    params:
        spec=RULES.whole_spec("score"),
        shape=RULES.shape("score"),
        sources=RULES.sources("score"),
    message:
        "Score images: {wildcards.chunk}"
    shell:
        "evals score --threads {threads} --spec {params.spec:q} --manifest {output:q} 2>&1 | tee {log:q}"
