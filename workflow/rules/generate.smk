localrules:
    collect,


# A chunk is models of one base and prompt sets. A job draws all their images, or a share: then its number ends the
# chunk's name, and the rule below puts the shares together and removes them.
rule generate:
    input:
        RULES.inputs("generate"),
    output:
        (
            temp(f"{PLAN.root}/jobs/generate/{{chunk}}.json")
            if PLAN.is_shared("generate")
            else f"{PLAN.root}/jobs/generate/{{chunk}}.json"
        ),
    log:
        f"{PLAN.root}/logs/generate/{{chunk}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/generate/{{chunk}}.tsv"
    conda:
        "../../environment.yml"
    threads: EXECUTION.threads
    resources:
        **job_resources(EXECUTION, gpus=EXECUTION.gpu),
    params:
        spec=RULES.spec("generate"),
        sources=RULES.sources("generate"),
    message:
        "Generate images: {wildcards.chunk}"
    shell:
        "evals generate --threads {threads} --spec {params.spec:q} --manifest {output:q} 2>&1 | tee {log:q}"


rule collect:
    input:
        RULES.inputs("collect"),
    output:
        f"{PLAN.root}/jobs/collect/{{chunk}}.json",
    log:
        f"{PLAN.root}/logs/collect/{{chunk}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/collect/{{chunk}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **job_resources(EXECUTION),
    params:
        spec=RULES.spec("collect"),
    message:
        "Put images together: {wildcards.chunk}"
    shell:
        "evals collect --spec {params.spec:q} --manifest {output:q} 2>&1 | tee {log:q}"
