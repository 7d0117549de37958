for prompt_sets in PLAN.prompt_set_chunks:

    rule:
        name:
            PLAN.rule_name("generate_base", prompt_sets=prompt_sets)
        input:
            PLAN.prompt_files(prompt_sets),
            PLAN.base_files(),
        output:
            PLAN.manifest_files([PLAN.base_model], prompt_sets),
        log:
            f"{PLAN.root}/logs/generate/{label('base', prompt_sets)}.log",
        benchmark:
            f"{PLAN.root}/benchmarks/generate/{label('base', prompt_sets)}.tsv"
        conda:
            "../../environment.yml"
        threads: EXECUTION.threads
        resources:
            mem_mb=EXECUTION.memory_mb,
            runtime=EXECUTION.runtime_minutes,
            gpu=EXECUTION.gpu,
        params:
            spec=encode(PLAN.generate_spec([PLAN.base_model], prompt_sets)),
        message:
            f"Generate with the base, prompt sets {', '.join(prompt_sets)}"
        shell:
            "evals generate --spec {params.spec:q} 2>&1 | tee {log:q}"

    for variants in PLAN.variant_chunks:
        for seeds in PLAN.seed_chunks:

            rule:
                name:
                    PLAN.rule_name(
                        "generate",
                        variants=variants,
                        seeds=seeds,
                        prompt_sets=prompt_sets,
                    )
                input:
                    PLAN.model_files(PLAN.models_of(variants, seeds)),
                    PLAN.prompt_files(prompt_sets),
                    PLAN.base_files(),
                output:
                    PLAN.manifest_files(PLAN.models_of(variants, seeds), prompt_sets),
                log:
                    f"{PLAN.root}/logs/generate/{label(variants, seeds, prompt_sets)}.log",
                benchmark:
                    f"{PLAN.root}/benchmarks/generate/{label(variants, seeds, prompt_sets)}.tsv"
                conda:
                    "../../environment.yml"
                threads: EXECUTION.threads
                resources:
                    mem_mb=EXECUTION.memory_mb,
                    runtime=EXECUTION.runtime_minutes,
                    gpu=EXECUTION.gpu,
                params:
                    spec=lambda wildcards, variants=variants, seeds=seeds, prompt_sets=prompt_sets: encode(
                        PLAN.generate_spec(
                            PLAN.models_of(named(variants, wildcards), seeds),
                            prompt_sets,
                        )
                    ),
                message:
                    f"Generate with {title(variants)}, seeds {', '.join(map(str, seeds))}, prompt sets {', '.join(prompt_sets)}"
                shell:
                    "evals generate --spec {params.spec:q} 2>&1 | tee {log:q}"
