localrules:
    track,


# The store is shared by all benchmarks, so it is nobody's output: the marker says that this one is in it.
rule track:
    input:
        RULES.inputs("track", "mlflow"),
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
        **job_resources(EXECUTION),
    params:
        spec=RULES.spec("track", "mlflow"),
    message:
        "Import into MLflow"
    shell:
        "evals track --spec {params.spec:q} 2>&1 | tee {log:q}"
