rule pairs:
    input:
        PLAN.base_files(),
    output:
        PLAN.pair_files("{dataset}"),
    log:
        f"{PLAN.root}/logs/pairs/{{dataset}}.log",
    benchmark:
        f"{PLAN.root}/benchmarks/pairs/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    threads: max(EXECUTION.threads, EXECUTION.encoding_processes)
    resources:
        mem_mb=EXECUTION.memory_mb,
        runtime=EXECUTION.runtime_minutes,
        gpu=EXECUTION.gpu * EXECUTION.encoding_processes,
        processes=EXECUTION.encoding_processes,
    params:
        spec=lambda wildcards: encode(PLAN.pairs_spec(wildcards.dataset)),
    message:
        "Pair set {wildcards.dataset}: encode images and prompts"
    shell:
        "sdpo pairs --processes {resources.processes} --spec {params.spec:q} 2>&1 | tee {log:q}"
