for group in PLAN.drawn:
    for prompt_sets in PLAN.prompt_set_chunks:
        for scorers in PLAN.scorer_chunks:

            rule:
                name:
                    PLAN.drawn_rule_name("score", group, prompt_sets, scorers=scorers)
                input:
                    PLAN.manifest_files(group.models, prompt_sets),
                    PLAN.prompt_files(prompt_sets),
                    PLAN.weight_files(scorers),
                output:
                    PLAN.score_files(group.models, prompt_sets, scorers),
                log:
                    f"{PLAN.root}/logs/score/{label(group.label, prompt_sets, scorers)}.log",
                benchmark:
                    f"{PLAN.root}/benchmarks/score/{label(group.label, prompt_sets, scorers)}.tsv"
                conda:
                    "../../environment.yml"
                threads: EXECUTION.threads
                resources:
                    mem_mb=EXECUTION.memory_mb,
                    runtime=EXECUTION.runtime_minutes,
                    gpu=EXECUTION.gpu,
                params:
                    spec=lambda wildcards, group=group, prompt_sets=prompt_sets, scorers=scorers: encode(
                        PLAN.score_spec(group.filled(wildcards), prompt_sets, scorers)
                    ),
                message:
                    f"Score {group.title} on {', '.join(prompt_sets)} by {', '.join(scorers)}"
                shell:
                    "evals score --threads {threads} --spec {params.spec:q} 2>&1 | tee {log:q}"
