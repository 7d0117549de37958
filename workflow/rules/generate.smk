# A job draws all images of its models, or a share of them: then the shares are put together by a rule of their own.
for group in PLAN.drawn:
    for prompt_sets in PLAN.prompt_set_chunks:
        for shard in PLAN.shards:

            rule:
                name:
                    PLAN.drawn_rule_name("generate", group, prompt_sets, shard=shard)
                input:
                    lambda wildcards, group=group: PLAN.drawn_inputs(
                        group.filled(wildcards)
                    ),
                    PLAN.prompt_files(prompt_sets),
                output:
                    (
                        [
                            temp(directory(folder))
                            for folder in PLAN.shard_folders(
                                group.models, prompt_sets, shard
                            )
                        ]
                        if PLAN.sharded
                        else PLAN.manifest_files(group.models, prompt_sets)
                    ),
                log:
                    f"{PLAN.root}/logs/generate/{shard_label(label(group.label, prompt_sets), shard)}.log",
                benchmark:
                    f"{PLAN.root}/benchmarks/generate/{shard_label(label(group.label, prompt_sets), shard)}.tsv"
                conda:
                    "../../environment.yml"
                threads: EXECUTION.threads
                resources:
                    mem_mb=EXECUTION.memory_mb,
                    runtime=EXECUTION.runtime_minutes,
                    gpu=EXECUTION.gpu,
                params:
                    spec=lambda wildcards, group=group, prompt_sets=prompt_sets, shard=shard: encode(
                        PLAN.generate_spec(group.filled(wildcards), prompt_sets, shard)
                    ),
                message:
                    shard_title(
                        f"Generate with {group.title}, prompt sets {', '.join(prompt_sets)}",
                        shard,
                    )
                shell:
                    "evals generate --threads {threads} --spec {params.spec:q} 2>&1 | tee {log:q}"

        if PLAN.sharded:

            rule:
                name:
                    PLAN.drawn_rule_name("collect", group, prompt_sets)
                input:
                    [
                        folder
                        for shard in PLAN.shards
                        for folder in PLAN.shard_folders(
                            group.models, prompt_sets, shard
                        )
                    ],
                    PLAN.prompt_files(prompt_sets),
                output:
                    PLAN.manifest_files(group.models, prompt_sets),
                log:
                    f"{PLAN.root}/logs/collect/{label(group.label, prompt_sets)}.log",
                benchmark:
                    f"{PLAN.root}/benchmarks/collect/{label(group.label, prompt_sets)}.tsv"
                localrule: True
                conda:
                    "../../environment.yml"
                threads: 1
                resources:
                    mem_mb=EXECUTION.memory_mb,
                    runtime=EXECUTION.runtime_minutes,
                params:
                    spec=lambda wildcards, group=group, prompt_sets=prompt_sets: encode(
                        PLAN.collect_spec(group.filled(wildcards), prompt_sets)
                    ),
                message:
                    f"Put together the images of {group.title}, prompt sets {', '.join(prompt_sets)}"
                shell:
                    "evals collect --spec {params.spec:q} 2>&1 | tee {log:q}"
