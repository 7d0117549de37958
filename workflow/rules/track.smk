localrules:
    track,


# The store is shared by all benchmarks, so it is nobody's output: the marker says that this one is in it.
rule track:
    input:
        PLAN.table_files(),
        PLAN.report_files(),
        PLAN.trained_model_files(),
        PLAN.manifest_files(PLAN.all_models(), list(PLAN.benchmark.prompt_sets)),
    output:
        PLAN.tracking_marker(),
    log:
        f"{PLAN.root}/logs/track.log",
    benchmark:
        f"{PLAN.root}/benchmarks/track.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=EXECUTION.memory_mb,
        runtime=EXECUTION.runtime_minutes,
    params:
        spec=encode(PLAN.track_spec()),
    message:
        "Import into MLflow"
    shell:
        "evals track --spec {params.spec:q} 2>&1 | tee {log:q}"
