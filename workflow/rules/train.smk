# One rule for each group of seeds that share a job. Resumable training state lies outside the declared outputs,
# which Snakemake deletes before it runs a job again.
for seeds in PLAN.seed_chunks:

    rule:
        name:
            PLAN.rule_name("train", seeds=seeds)
        input:
            lambda wildcards: PLAN.pair_files(PLAN.variants[wildcards.variant].pairs),
            PLAN.base_files(),
        output:
            PLAN.model_files(PLAN.models("{variant}", seeds)),
        log:
            f"{PLAN.root}/logs/train/{label('{variant}', seeds)}.log",
        benchmark:
            f"{PLAN.root}/benchmarks/train/{label('{variant}', seeds)}.tsv"
        conda:
            "../../environment.yml"
        threads: lambda wildcards: PLAN.training(wildcards.variant).threads
        resources:
            mem_mb=EXECUTION.memory_mb,
            runtime=EXECUTION.runtime_minutes,
            gpu=EXECUTION.gpu,
        params:
            spec=lambda wildcards, seeds=seeds: encode(
                PLAN.train_spec(wildcards.variant, seeds)
            ),
        message:
            f"Train {{wildcards.variant}}, seeds {', '.join(map(str, seeds))}"
        shell:
            "sdpo train --spec {params.spec:q} 2>&1 | tee {log:q}"
