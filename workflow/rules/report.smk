localrules:
    report,


rule report:
    input:
        PLAN.table_files(),
        PLAN.trained_model_files(),
        PLAN.agreement_files(),
        PLAN.manifest_files(PLAN.all_models(), list(PLAN.benchmark.prompt_sets)),
    output:
        PLAN.report_files(),
    log:
        f"{PLAN.root}/logs/report.log",
    benchmark:
        f"{PLAN.root}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=EXECUTION.memory_mb,
        runtime=EXECUTION.runtime_minutes,
    params:
        spec=encode(PLAN.report_spec()),
    message:
        "Report page"
    shell:
        "evals report --spec {params.spec:q} 2>&1 | tee {log:q}"
