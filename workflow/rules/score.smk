for prompt_sets in PLAN.prompt_set_chunks:
    for scorers in PLAN.scorer_chunks:

        rule:
            name:
                PLAN.rule_name("score_base", prompt_sets=prompt_sets, scorers=scorers)
            input:
                PLAN.manifest_files([PLAN.base_model], prompt_sets),
                PLAN.prompt_files(prompt_sets),
                PLAN.weight_files(scorers),
            output:
                PLAN.score_files([PLAN.base_model], prompt_sets, scorers),
            log:
                f"{PLAN.root}/logs/score/{label('base', prompt_sets, scorers)}.log",
            benchmark:
                f"{PLAN.root}/benchmarks/score/{label('base', prompt_sets, scorers)}.tsv"
            conda:
                "../../environment.yml"
            threads: EXECUTION.threads
            resources:
                mem_mb=EXECUTION.memory_mb,
                runtime=EXECUTION.runtime_minutes,
                gpu=EXECUTION.gpu,
            params:
                spec=encode(PLAN.score_spec([PLAN.base_model], prompt_sets, scorers)),
            message:
                f"Score the base on {', '.join(prompt_sets)} by {', '.join(scorers)}"
            shell:
                "evals score --spec {params.spec:q} 2>&1 | tee {log:q}"

        for variants in PLAN.variant_chunks:
            for seeds in PLAN.seed_chunks:

                rule:
                    name:
                        PLAN.rule_name(
                            "score",
                            variants=variants,
                            seeds=seeds,
                            prompt_sets=prompt_sets,
                            scorers=scorers,
                        )
                    input:
                        PLAN.manifest_files(
                            PLAN.models_of(variants, seeds), prompt_sets
                        ),
                        PLAN.prompt_files(prompt_sets),
                        PLAN.weight_files(scorers),
                    output:
                        PLAN.score_files(
                            PLAN.models_of(variants, seeds), prompt_sets, scorers
                        ),
                    log:
                        f"{PLAN.root}/logs/score/{label(variants, seeds, prompt_sets, scorers)}.log",
                    benchmark:
                        f"{PLAN.root}/benchmarks/score/{label(variants, seeds, prompt_sets, scorers)}.tsv"
                    conda:
                        "../../environment.yml"
                    threads: EXECUTION.threads
                    resources:
                        mem_mb=EXECUTION.memory_mb,
                        runtime=EXECUTION.runtime_minutes,
                        gpu=EXECUTION.gpu,
                    params:
                        spec=lambda wildcards, variants=variants, seeds=seeds, prompt_sets=prompt_sets, scorers=scorers: encode(
                            PLAN.score_spec(
                                PLAN.models_of(named(variants, wildcards), seeds),
                                prompt_sets,
                                scorers,
                            )
                        ),
                    message:
                        f"Score {title(variants)}, seeds {', '.join(map(str, seeds))}, on {', '.join(prompt_sets)} by {', '.join(scorers)}"
                    shell:
                        "evals score --spec {params.spec:q} 2>&1 | tee {log:q}"
