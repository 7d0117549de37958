localrules:
    report,


rule report:
    input:
        RULES.inputs("report", "page"),
    output:
        captioned(PLAN.report_files()),
        directory(PLAN.browser_folder()),
    log:
        f"{PLAN.root}/logs/report.log",
    benchmark:
        f"{PLAN.root}/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **job_resources(EXECUTION),
    params:
        spec=RULES.spec("report", "page"),
        sources=RULES.sources("report", "page"),
    message:
        "Report page"
    shell:
        "evals report --spec {params.spec:q} 2>&1 | tee {log:q}"
