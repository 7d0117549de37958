localrules:
    compare,


rule compare:
    input:
        PLAN.prompt_files(list(PLAN.benchmark.prompt_sets)),
        PLAN.trained_model_files(),
        PLAN.published_files(),
        PLAN.score_files(
            PLAN.all_models(),
            list(PLAN.benchmark.prompt_sets),
            list(PLAN.benchmark.scorers),
        ),
    output:
        PLAN.table_files(),
    log:
        f"{PLAN.root}/logs/compare.log",
    benchmark:
        f"{PLAN.root}/benchmarks/compare.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=EXECUTION.memory_mb,
        runtime=EXECUTION.runtime_minutes,
    params:
        spec=encode(PLAN.compare_spec()),
    message:
        "Tables"
    shell:
        "evals compare --spec {params.spec:q} 2>&1 | tee {log:q}"
