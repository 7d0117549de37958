# The miniature's weights, from a seed. They are shipped under resources/miniature; what is built here lies beside the
# results and replaces them only by `make install-miniature`, so no benchmark ever waits for it or changes by it.
BUILD = "results/build/miniature"
# Scorers of one group share their training of the encoder.
SCORER_GROUPS = {
    "transformers": ["pickscore", "aesthetic"],
    "open_clip": ["hpsv2", "clip"],
    "blip": ["imagereward"],
}


rule miniature:
    input:
        f"{BUILD}/quality.json",
    localrule: True


rule miniature_base:
    output:
        f"{BUILD}/base/provenance.json",
    log:
        f"{BUILD}/logs/base.log",
    benchmark:
        f"{BUILD}/benchmarks/base.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        **EXECUTION.slurm.resources(gpus=0),
        mem_mb=3000,
        runtime=60,
    params:
        version=VERSIONS["miniature"],
        out=lambda wildcards, output: os.path.dirname(output[0]),
    message:
        "Miniature: train the base"
    shell:
        "miniature base --out {params.out:q} --threads {threads} 2>&1 | tee {log:q}"


rule miniature_flow:
    input:
        base=f"{BUILD}/base/provenance.json",
    output:
        f"{BUILD}/flow/provenance.json",
    log:
        f"{BUILD}/logs/flow.log",
    benchmark:
        f"{BUILD}/benchmarks/flow.tsv"
    # The longest of what waits for the base: all that the scorers need fits beside it.
    priority: 1
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **EXECUTION.slurm.resources(gpus=0),
        mem_mb=3000,
        runtime=60,
    params:
        version=VERSIONS["miniature"],
        base=lambda wildcards, input: os.path.dirname(input.base),
        out=lambda wildcards, output: os.path.dirname(output[0]),
    message:
        "Miniature: train the flow base"
    shell:
        "miniature flow --base {params.base:q} --out {params.out:q} --threads {threads} 2>&1 | tee {log:q}"


rule miniature_scorer_data:
    input:
        base=f"{BUILD}/base/provenance.json",
    output:
        data=f"{BUILD}/scorer_data.npz",
    log:
        f"{BUILD}/logs/scorer_data.log",
    benchmark:
        f"{BUILD}/benchmarks/scorer_data.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **EXECUTION.slurm.resources(gpus=0),
        mem_mb=3000,
        runtime=60,
    params:
        version=VERSIONS["miniature"],
        base=lambda wildcards, input: os.path.dirname(input.base),
    message:
        "Miniature: draw and judge the pictures that the scorers learn from"
    shell:
        "miniature scorer-data --base {params.base:q} --out {output.data:q} --threads {threads} 2>&1 | tee {log:q}"


rule miniature_scorers:
    input:
        data=f"{BUILD}/scorer_data.npz",
    output:
        f"{BUILD}/scorer_groups/{{group}}/provenance.json",
    log:
        f"{BUILD}/logs/scorers/{{group}}.log",
    benchmark:
        f"{BUILD}/benchmarks/scorers/{{group}}.tsv"
    wildcard_constraints:
        group="|".join(SCORER_GROUPS),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **EXECUTION.slurm.resources(gpus=0),
        mem_mb=3000,
        runtime=60,
    params:
        version=VERSIONS["miniature"],
        names=lambda wildcards: SCORER_GROUPS[wildcards.group],
        out=lambda wildcards, output: os.path.dirname(output[0]),
    message:
        "Miniature: train the scorers of group {wildcards.group}"
    shell:
        "miniature scorers --data {input.data:q} --out {params.out:q} --names {params.names} --threads {threads}"
        " 2>&1 | tee {log:q}"


# Every scorer's folder gets the provenance of the job that trained it.
rule miniature_collect:
    input:
        expand(f"{BUILD}/scorer_groups/{{group}}/provenance.json", group=SCORER_GROUPS),
    output:
        expand(
            f"{BUILD}/scorers/{{name}}/provenance.json",
            name=[name for names in SCORER_GROUPS.values() for name in names],
        ),
    log:
        f"{BUILD}/logs/collect.log",
    localrule: True
    conda:
        "../../environment.yml"
    params:
        version=VERSIONS["miniature"],
        groups=lambda wildcards, input: [os.path.dirname(path) for path in input],
        out=lambda wildcards, output: os.path.dirname(os.path.dirname(output[0])),
    message:
        "Miniature: collect the scorers"
    shell:
        'for group in {params.groups}; do for scorer in "$group"/*/; do'
        ' name=$(basename "$scorer"); rm -rf {params.out}/"$name"; mkdir -p {params.out};'
        ' cp -R "$group/$name" {params.out}/"$name"; cp "$group/provenance.json" {params.out}/"$name"/;'
        " done; done 2> {log:q}"


rule miniature_quality:
    input:
        scorers=rules.miniature_collect.output,
        base=f"{BUILD}/base/provenance.json",
        flow=f"{BUILD}/flow/provenance.json",
        data=f"{BUILD}/scorer_data.npz",
    output:
        f"{BUILD}/quality.json",
        f"{BUILD}/agreement.json",
        f"{BUILD}/contact_sheet.png",
        f"{BUILD}/contact_sheet_flow.png",
    log:
        f"{BUILD}/logs/quality.log",
    benchmark:
        f"{BUILD}/benchmarks/quality.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        **EXECUTION.slurm.resources(gpus=0),
        mem_mb=3000,
        runtime=60,
    params:
        version=VERSIONS["miniature"],
        base=lambda wildcards, input: os.path.dirname(input.base),
        flow=lambda wildcards, input: os.path.dirname(input.flow),
        scorers=lambda wildcards, input: os.path.dirname(
            os.path.dirname(input.scorers[0])
        ),
        out=lambda wildcards, output: os.path.dirname(output[0]),
    message:
        "Miniature: measure bases and scorers"
    shell:
        "miniature quality --base {params.base:q} --flow {params.flow:q} --scorers {params.scorers:q}"
        " --data {input.data:q} --out {params.out:q} 2>&1 | tee {log:q}"
