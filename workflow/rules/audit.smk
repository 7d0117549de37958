# Not part of the benchmark: only the target `audit` asks for it. Without an objective that has a loser there is none.
if PLAN.audited_variant is not None:

    rule audit:
        input:
            RULES.inputs("audit", "audit"),
        output:
            captioned(PLAN.audit_files()),
        log:
            f"{PLAN.root}/logs/audit.log",
        benchmark:
            f"{PLAN.root}/benchmarks/audit.tsv"
        conda:
            "../../environment.yml"
        threads: PLAN.training(PLAN.audited_variant).threads
        resources:
            **job_resources(EXECUTION, gpus=EXECUTION.gpu),
        params:
            spec=RULES.spec("audit", "audit"),
            sources=RULES.sources("audit", "audit"),
        message:
            "Audit of the safeguard"
        shell:
            "sdpo audit --spec {params.spec:q} 2>&1 | tee {log:q}"
