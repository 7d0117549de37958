localrules:
    compare,


rule compare:
    input:
        RULES.inputs("compare", "tables"),
    output:
        captioned(PLAN.table_files()),
    log:
        f"{PLAN.root}/logs/compare.log",
    benchmark:
        f"{PLAN.root}/benchmarks/compare.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **job_resources(EXECUTION),
    params:
        spec=RULES.spec("compare", "tables"),
        sources=RULES.sources("compare", "tables"),
    message:
        "Tables"
    shell:
        "evals compare --spec {params.spec:q} 2>&1 | tee {log:q}"
