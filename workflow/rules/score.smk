localrules:
    gather,


# A chunk is models of one base, prompt sets and scorers, and of these all images or a share, as in generate.smk.
rule score:
    input:
        RULES.inputs("score"),
    output:
        (
            temp(f"{PLAN.root}/jobs/score/{{chunk}}.json")
            if PLAN.is_shared("score")
            else f"{PLAN.root}/jobs/score/{{chunk}}.json"
        ),
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


rule gather:
    input:
        RULES.inputs("gather"),
    output:
        f"{PLAN.root}/jobs/gather/{{chunk}}.json",
    log:
        f"{PLAN.root}/logs/gather/{{chunk}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/gather/{{chunk}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **job_resources(EXECUTION),
    params:
        spec=RULES.whole_spec("gather"),
        shape=RULES.shape("gather"),
    message:
        "Put scores together: {wildcards.chunk}"
    shell:
        "evals gather --spec {params.spec:q} --manifest {output:q} 2>&1 | tee {log:q}"
