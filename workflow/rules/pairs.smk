rule pairs:
    input:
        RULES.inputs("pairs"),
    output:
        f"{PLAN.root}/jobs/pairs/{{chunk}}.json",
    log:
        f"{PLAN.root}/logs/pairs/{{chunk}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/pairs/{{chunk}}.tsv"
    # Trainings wait for them, and all else for trainings.
    priority: 2
    conda:
        "../../environment.yml"
    threads: max(EXECUTION.threads, EXECUTION.encoding_processes)
    resources:
        **job_resources(EXECUTION, gpus=EXECUTION.gpu * EXECUTION.encoding_processes),
        processes=EXECUTION.encoding_processes,
    params:
        spec=RULES.spec("pairs"),
        sources=RULES.sources("pairs"),
    message:
        "Pair set {wildcards.chunk}: encode images and prompts"
    shell:
        "sdpo pairs --processes {resources.processes} --spec {params.spec:q} --manifest {output:q} 2>&1 | tee {log:q}"
