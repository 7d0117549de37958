# A chunk is some variants and some seeds. Resumable training state lies outside of what the manifest lists.
rule train:
    input:
        RULES.inputs("train"),
    output:
        f"{PLAN.root}/jobs/train/{{chunk}}.json",
    log:
        f"{PLAN.root}/logs/train/{{chunk}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/train/{{chunk}}.tsv"
    # The longest jobs first, so that none is left for the end, alone.
    priority: 1
    conda:
        "../../environment.yml"
    threads: RULES.training_threads
    resources:
        **training_resources(EXECUTION),
    params:
        command=RULES.training_command,
        spec=RULES.whole_spec("train"),
        shape=RULES.shape("train"),
        sources=RULES.sources("train"),
    message:
        "Train {wildcards.chunk}"
    # Only a cluster enforces the time limit.
    shell:
        "{params.command}"
        " ${{SDPO_BENCH_CLUSTER:+--minutes {resources.runtime}}}"
        " --spec {params.spec:q} --manifest {output:q} 2>&1 | tee {log:q}"
