from __future__ import annotations

import copy
import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.errors import InputError
from evals.commands.stages import written
from evals.tables.comparison import CompareSpec
from pipeline.chunks import chunks
from pipeline.config import validate
from pipeline.jobs import Plan
from pipeline.specs import encode
from pipeline.stages import VERSIONS
from sdpo.cli import written as written_by_training

pytestmark = pytest.mark.usefixtures("few_names")

Config = dict[str, Any]


def plan(config: Config) -> Plan:
    return Plan(validate(config, check_files=False))


def specs(config: Config) -> dict[tuple[str, str], str]:
    return {(job.stage, job.name): encode(job.spec) for job in plan(config).jobs()}


def changed(before: dict[tuple[str, str], str], after: dict[tuple[str, str], str]) -> set[tuple[str, str]]:
    return {key for key, spec in after.items() if before.get(key) != spec}


TABLES = {("compare", "tables"), ("report", "page"), ("track", "mlflow")}


def test_chunks_are_in_order_and_of_fixed_size() -> None:
    assert chunks([3, 1, 2, 5, 4], 2) == [(3, 1), (2, 5), (4,)]
    assert chunks([], 3) == []


def test_one_job_for_each_chunk(config: Config) -> None:
    stages = [job.stage for job in plan(config).jobs()]
    # 3 variants x 2 seeds; those and the base x 2 prompt sets; x 2 scorers.
    assert {stage: stages.count(stage) for stage in VERSIONS} == {
        "prompts": 2,
        "pairs": 1,
        "train": 6,
        "generate": 14,
        "collect": 0,
        "gather": 0,
        "score": 28,
        "compare": 1,
        "report": 1,
        "track": 1,
        # Targets of their own, no part of the benchmark.
        "audit": 0,
        "miniature": 0,
    }
    config["execution"] = {"seeds_per_job": 3, "prompt_sets_per_job": 3, "scorers_per_job": 6}
    stages = [job.stage for job in plan(config).jobs()]
    assert [stages.count(s) for s in ("train", "generate", "score")] == [3, 4, 4]


def test_adding_a_variant_leaves_the_other_jobs_alone(config: Config) -> None:
    before = specs(config)
    config["variants"].insert(1, {"name": "new", "objective": "sft", "pairs": "renders"})
    after = specs(config)
    own = {key for key in after if key[1].startswith("new/")}
    assert len(own) == 2 + 4 + 8
    assert changed(before, after) == own | TABLES


def test_a_baseline_and_its_safeguarded_variant_share_jobs(config: Config) -> None:
    config["execution"] |= {"baselines_share_jobs": True}
    assert plan(config).variant_groups == [("sft",), ("dmpo", "dmpo+sdpo")]
    before = specs(config)
    trained = [name for stage, name in before if stage == "train"]
    assert trained == ["sft/0", "sft/1", "dmpo~dmpo+sdpo/0", "dmpo~dmpo+sdpo/1"]
    # Another objective is a group of its own.
    config["variants"].append({**config["variants"][0], "name": "sft-long", "training": {"steps": 8}})
    added = changed(before, specs(config))
    assert {name for stage, name in added if stage == "train"} == {"sft-long/0", "sft-long/1"}
    # So is a second safeguarded variant of the same baseline.
    milder = {**config["variants"][2], "name": "dmpo+sdpo.mild", "safeguard": {"mu": 0.5}}
    before = specs(config)
    config["variants"].append(milder)
    added = changed(before, specs(config))
    assert {name for stage, name in added if stage == "train"} == {"dmpo+sdpo.mild/0", "dmpo+sdpo.mild/1"}
    config["variants"].pop()
    # The order of the two does not matter, and nothing is shared where no variant is another's baseline.
    config["variants"] = [config["variants"][2], config["variants"][0], config["variants"][1]]
    assert plan(config).variant_groups == [("dmpo+sdpo", "dmpo"), ("sft",)]
    config["variants"] = config["variants"][1:]
    assert plan(config).variant_groups == [("sft",), ("dmpo",)]


@pytest.mark.parametrize("name", ["sft", "dmpo.hot", "diffusion-dpo+sdpo"])
def test_adding_a_variant_to_the_demo_runs_its_own_jobs_and_the_tables(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    demo = yaml.safe_load(Path("config/miniature.yaml").read_text(encoding="utf-8"))
    before = specs(demo)
    like = next(variant for variant in demo["variants"] if variant["name"] == name)
    more = {"safeguard": {"mu": 0.3}} if "safeguard" in like else {"training": {"steps": 70}}
    demo["variants"].append({**like, **more, "name": "added"})
    after = specs(demo)
    own = {key for key in after if key[1].startswith("added/")}
    assert {stage for stage, _ in own} == {"train", "generate", "score"}
    assert changed(before, after) == own | TABLES


def test_adding_a_seed_leaves_the_other_jobs_alone(config: Config) -> None:
    before = specs(config)
    config["seeds"] = [0, 1, 5]
    after = specs(config)
    assert changed(before, after) == {key for key in after if "/5" in key[1]} | TABLES


def test_changing_a_variant_changes_its_jobs_and_the_tables_only(config: Config) -> None:
    before = specs(config)
    config["variants"][1]["parameters"]["beta"] = 500
    after = specs(config)
    # Images and scores of the variant follow from its new weights, which Snakemake sees by itself; that the
    # safeguarded variant has lost its baseline is for the tables to say.
    assert changed(before, after) == {("train", "dmpo/0"), ("train", "dmpo/1")} | TABLES


def test_statistics_touch_only_what_shows_them(config: Config) -> None:
    before = specs(config)
    config["statistics"] = {"confidence": 0.9}
    assert changed(before, specs(config)) == TABLES


def test_memory_and_time_limits_are_in_no_spec(config: Config) -> None:
    before = specs(config)
    config["execution"] |= {"memory_mb": 64000, "runtime_minutes": 600, "gpu": 1}
    assert changed(before, specs(config)) == set()


def test_processes_are_in_the_command_and_in_no_spec(config: Config) -> None:
    config["training"]["micro_batch_size"] = 4
    before = specs(config)
    config["execution"] = {**config.get("execution", {}), "processes": 4}
    assert specs(config) == before
    commands = {job.stage: shlex.split(job.command)[:4] for job in plan(config).jobs()}
    assert commands["train"] == ["sdpo", "train", "--processes", "4"]
    assert commands["pairs"][:3] == ["sdpo", "pairs", "--spec"]
    config["execution"]["sharding"] = "fsdp2"
    assert specs(config) == before
    config["execution"]["machines"] = 2
    trainings = [job for job in plan(config).jobs() if job.stage == "train"]
    assert {job.start for job in trainings} == {"sdpo train --processes 4 --machines 2 --sharding fsdp2"}
    # Of each machine.
    assert {job.threads for job in trainings} == {2}
    assert specs(config) == before


def test_threads_and_encoding_processes_are_in_the_command_and_in_no_spec(config: Config) -> None:
    before = specs(config)
    config["execution"] |= {"threads": 3, "encoding_processes": 2}
    assert specs(config) == before
    commands = {job.stage: shlex.split(job.command)[:4] for job in plan(config).jobs()}
    assert commands["pairs"] == ["sdpo", "pairs", "--processes", "2"]
    assert commands["generate"] == ["evals", "generate", "--threads", "3"]
    assert commands["score"] == ["evals", "score", "--threads", "3"]


def test_a_stage_version_reruns_that_stage(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    before = specs(config)
    monkeypatch.setitem(VERSIONS, "train", VERSIONS["train"] + 1)
    assert {stage for stage, _ in changed(before, specs(config))} == {"train"}


def test_train_spec_is_resolved(config: Config) -> None:
    config["variants"][2]["training"] = {"learning_rate": 2e-5}
    spec = plan(config).train_spec("dmpo+sdpo", (0, 1))
    assert spec["objective"] == {
        "name": "dmpo",
        "parameters": {"beta": 2000.0, "alpha": 0.01},
        "safeguard": {
            "mu": 0.9,
            "granularity": "microbatch",
            "formula": "sdpo",
            "weights": "none",
            "pulled_back": "scale",
            "added_epsilon": 0.0,
        },
    }
    assert (spec["training"]["learning_rate"], spec["training"]["steps"]) == (2e-5, 4)
    assert spec["pairs"] == "results/tiny/pairs/renders/miniature"
    assert spec["base"] == config["base"]
    assert (spec["root"], spec["variant"], spec["seeds"]) == ("results/tiny", "dmpo+sdpo", [0, 1])
    assert spec["stage_version"] == VERSIONS["train"]
    assert plan(config).train_spec("sft", (0,))["objective"] == {"name": "sft", "parameters": {}, "safeguard": None}


def test_generate_and_score_specs(config: Config) -> None:
    job = plan(config)
    generate = job.generate_spec([job.base_model], ("seen", "own"))
    assert generate["models"] == ["miniature/base"]
    assert generate["prompt_sets"] == ["seen", "own"]
    assert generate["generation"]["guidance_scale"] == 5.0
    score = job.score_spec(job.models("dmpo", (1,)), ("seen",), ("oracle", "pickscore"))
    assert score["models"] == ["miniature/dmpo/seed1"]
    assert score["scorers"] == {
        "oracle": {"protocol": "world", "weights": None, "dtype": "float32", "implementation": "native", "options": {}},
        "pickscore": {
            "protocol": "sdpo",
            "weights": "resources/miniature/pickscore",
            "dtype": "float32",
            "implementation": "native",
            "options": {},
        },
    }


def shapes(config: Config) -> dict[tuple[str, str], str]:
    return {(job.stage, job.name): encode(job.shape) for job in plan(config).jobs()}


def test_a_limited_scorer_has_jobs_on_its_prompt_sets_only(config: Config) -> None:
    before = shapes(config)
    config["scorers"]["oracle"]["prompt_sets"] = ["seen"]
    after = shapes(config)
    # The base, and three variants with two seeds.
    gone = {key for key in before if key not in after}
    assert len(gone) == 7
    assert all(stage == "score" and name.endswith("/own/oracle") for stage, name in gone)
    assert changed(before, after) == TABLES
    assert not any("/own/oracle" in name for job in plan(config).jobs() for name in job.inputs)
    config["scorers"]["oracle"]["prompt_sets"] = ["own", "seen"]
    assert shapes(config) == before


def test_a_job_is_the_same_whatever_its_scorers_are_limited_to(config: Config) -> None:
    config["execution"] = {"seeds_per_job": 2, "prompt_sets_per_job": 2, "scorers_per_job": 2}
    before = shapes(config)
    config["scorers"]["oracle"]["prompt_sets"] = ["own"]
    assert set(shapes(config)) == set(before)
    assert changed(before, shapes(config)) == TABLES
    job = plan(config).job("score", "base/seen~own/oracle~pickscore")
    assert job.spec["rated"] == {"oracle": ["own"]}
    assert "rated" not in job.shape
    scores = "results/tiny/scores"
    assert job.wanted == [
        f"{scores}/oracle/miniature/base/own.parquet",
        f"{scores}/pickscore/miniature/base/seen.parquet",
        f"{scores}/pickscore/miniature/base/own.parquet",
    ]
    assert [path.as_posix() for path in written("score", job.spec)] == sorted(job.wanted, key=lambda p: "/own." in p)


def test_prompts_are_judged_by_the_scorers_that_rate_them_and_no_result_depends_on_it(config: Config) -> None:
    def asked(name: str) -> Any:
        return plan(config).job("prompts", name).spec.get("judged_by")

    before = shapes(config)
    assert (asked("seen"), asked("own")) == (["oracle"], ["oracle"])
    config["scorers"]["oracle"]["prompt_sets"] = ["seen"]
    assert (asked("seen"), asked("own")) == (["oracle"], None)
    assert before["prompts", "own"] == shapes(config)["prompts", "own"]


def test_comparison_can_be_read_back_with_the_derived_baseline(config: Config) -> None:
    comparison = CompareSpec(**json.loads(encode(plan(config).compare_spec()))).comparison
    assert [m.name for m in comparison.models[:3]] == [
        "miniature/base",
        "miniature/sft/seed0",
        "miniature/sft/seed1",
    ]
    assert {m.variant: m.baseline for m in comparison.models} == {
        "base": None,
        "sft": None,
        "dmpo": None,
        "dmpo+sdpo": "dmpo",
    }
    assert comparison.scorers == {"oracle": "world", "pickscore": "sdpo"}
    assert comparison.statistics.confidence == 0.95


@pytest.mark.parametrize(
    ("change", "baseline"),
    [
        ({}, "dmpo"),
        ({"parameters": {"beta": 2000, "alpha": 0.02}}, None),
        ({"training": {"steps": 5}}, None),
        # Written out, but equal to the default.
        ({"training": {"steps": 4}}, "dmpo"),
        ({"baseline": "sft"}, "sft"),
    ],
)
def test_baseline_differs_by_name_and_safeguard_alone(
    config: Config, change: dict[str, Any], baseline: str | None
) -> None:
    config["variants"][2].update(change)
    assert plan(config).baseline("dmpo+sdpo") == baseline


def test_specs_fit_on_a_command_line(config: Config) -> None:
    config["variants"] = [{**copy.deepcopy(config["variants"][1]), "name": f"dmpo-{i:03d}"} for i in range(30)]
    config["seeds"] = list(range(10))
    config["execution"] |= {"seeds_per_job": 10, "prompt_sets_per_job": 2, "scorers_per_job": 2}
    longest = max(len(job.command) for job in plan(config).jobs())
    # Linux refuses single arguments of 128 KiB.
    assert longest < 100_000


def test_commands_survive_a_shell(config: Config) -> None:
    config["prompt_sets"]["own"]["options"]["path"] = "it's $HOME/`x`.txt"
    (job,) = (j for j in plan(config).jobs() if j.name == "own")
    program, stage, option, argument, *manifest = shlex.split(job.command)
    assert (program, stage, option) == ("evals", "prompts", "--spec")
    assert manifest == ["--manifest", "results/tiny/jobs/prompts/own.json"]
    assert json.loads(argument)["options"]["path"] == "it's $HOME/`x`.txt"


def test_names_of_jobs_are_told_apart_and_hold_no_running_numbers(config: Config) -> None:
    like = config["variants"][1]
    # "a-b" alone, and "a" with "b": a name may hold the other characters.
    config["variants"] = [
        {**like, "name": "a-b"},
        {**like, "name": "a", "parameters": {"beta": 1}},
        {**like, "name": "b", "parameters": {"beta": 1}, "safeguard": {"mu": 0.9}},
    ]
    config["execution"] |= {"baselines_share_jobs": True, "seeds_per_job": 2, "prompt_sets_per_job": 2}
    jobs = list(plan(config).jobs())
    assert [job.name for job in jobs if job.stage == "train"] == ["a-b/0-1", "a~b/0-1"]
    assert len({(job.stage, job.name) for job in jobs}) == len(jobs)
    assert {job.name for job in jobs if job.stage == "score"} >= {"base/seen~own/oracle", "a~b/0-1/seen~own/pickscore"}


def test_two_jobs_of_one_name_are_refused(config: Config) -> None:
    config["variants"][1]["name"] = "miniature"
    config["models"] = [{"name": "0", "source": "owner/released@0123abc"}]
    config["variants"] = config["variants"][:2]
    with pytest.raises(InputError, match="two jobs of stage 'generate' are called 'miniature/0/seen'; rename a model"):
        plan(config).job("generate", "base/seen")


def test_an_unknown_job_is_named_with_the_nearest(config: Config) -> None:
    with pytest.raises(InputError, match="no job 'dmpo/9' of stage 'train'; did you mean 'dmpo/1'"):
        plan(config).job("train", "dmpo/9")


def test_every_input_is_an_output_of_another_job(config: Config) -> None:
    config["models"] = [{"name": "released", "source": "owner/released@0123abc"}]
    for shards in (1, 3):
        config["execution"] |= {"generation_shards": shards, "scoring_shards": shards}
        jobs = list(plan(config).jobs())
        made = [file for job in jobs for file in job.outputs]
        assert len(set(made)) == len(made)
        assert {file for job in jobs for file in job.inputs} <= set(made)
        # All that is made is read, but for what the benchmark is made for.
        unread = set(made) - {file for job in jobs for file in job.inputs}
        assert unread == {"results/mlflow/imported/tiny.json", "results/tiny/report/browser"}


def test_label_noise_makes_other_pairs_and_none_leaves_the_jobs_as_they_were(config: Config) -> None:
    before = specs(config)
    assert "flipped" not in json.loads(before["pairs", "renders"])
    config["pairs"]["renders"] |= {"flipped": 0.0, "flip_seed": 5}
    assert changed(before, specs(config)) == set()
    config["pairs"]["renders"]["flipped"] = 0.2
    after = specs(config)
    assert changed(before, after) == {("pairs", "renders"), ("compare", "tables")}
    spec = json.loads(after["pairs", "renders"])
    assert (spec["flipped"], spec["flip_seed"]) == (0.2, 5)


def test_pair_jobs_say_how_images_are_encoded(config: Config) -> None:
    before = specs(config)
    config["pairs"]["renders"]["encoding"] = {"resolution": 512, "flips": True}
    after = specs(config)
    assert changed(before, after) == {("pairs", "renders"), ("compare", "tables")}
    spec = json.loads(after["pairs", "renders"])
    assert "sizes" not in spec["encoding"]
    assert (spec["encoding"]["resolution"], spec["encoding"]["flips"], spec["encoding"]["store"]) == (
        512,
        True,
        "latents",
    )
    for sizes in ([[48, 32], [32, 32]], [[32, 32], [48, 32]]):
        # Another order is no other job.
        config["pairs"]["renders"]["encoding"] = {"sizes": sizes}
        assert json.loads(specs(config)["pairs", "renders"])["encoding"]["sizes"] == [[32, 32], [48, 32]]


def test_another_autoencoder_is_part_of_the_base_only_where_it_is_named(config: Config) -> None:
    assert all("vae" not in json.loads(spec).get("base", {}) for spec in specs(config).values())
    config["base"]["vae"] = "owner/vae@main"
    with_vae = [json.loads(spec)["base"]["vae"] for (stage, _), spec in specs(config).items() if stage == "train"]
    assert set(with_vae) == {"owner/vae@main"}


def test_seeds_prompt_sets_and_scorers_share_jobs_unless_jobs_have_a_gpu(config: Config) -> None:
    del config["execution"]
    counts = Counter(job.stage for job in plan(config).jobs())
    # Two seeds of a variant train together, and the base and each variant are drawn and scored at once.
    assert counts == {
        "prompts": 2,
        "pairs": 1,
        "train": 3,
        "generate": 4,
        "score": 4,
        "compare": 1,
        "report": 1,
        "track": 1,
    }
    config["execution"] = {"gpu": 1}
    counts = Counter(job.stage for job in plan(config).jobs())
    assert (counts["train"], counts["generate"], counts["score"]) == (6, 14, 28)
    config["execution"] = {"gpu": 1, "scorers_per_job": 2}
    assert Counter(job.stage for job in plan(config).jobs())["score"] == 14


def test_a_step_that_is_exported_is_a_model_of_its_own(config: Config) -> None:
    """Drawn, scored and compared by jobs of its own, and trained by the job of the variant, which stays the same."""
    before = shapes(config)
    config["variants"][2]["training"] = {"export_at": [3, 2]}
    after = shapes(config)
    names = [f"dmpo+sdpo@{step}/{seed}/{prompts}" for step in (2, 3) for seed in (0, 1) for prompts in ("seen", "own")]
    added = {("generate", name) for name in names}
    added |= {("score", f"{name}/{scorer}") for name in names for scorer in ("oracle", "pickscore")}
    assert set(after) - set(before) == added
    assert changed(before, after) - added == TABLES
    job = plan(config).job("train", "dmpo+sdpo/1")
    folder = "results/tiny/models/miniature/dmpo+sdpo"
    assert job.wanted == [f"{folder}{at}/seed1/provenance.json" for at in ("@2", "@3", "")]
    assert set(job.wanted) <= {path.as_posix() for path in written_by_training("train", job.spec)}
    drawn = plan(config).job("generate", "dmpo+sdpo@2/1/seen")
    assert drawn.spec["models"] == ["miniature/dmpo+sdpo@2/seed1"]
    assert "results/tiny/jobs/train/dmpo+sdpo/1.json" in drawn.inputs


def test_exported_steps_are_compared_with_the_baseline_at_their_step(config: Config) -> None:
    config["training"]["export_at"] = [2]
    config["variants"][2]["training"] = {"export_at": [2, 3]}
    config["comparisons"] = [["dmpo+sdpo@3", "dmpo+sdpo@2"]]
    comparison = CompareSpec.model_validate(plan(config).compare_spec()).comparison
    rows = {m.variant: (m.step, m.baseline) for m in comparison.models if m.trained}
    assert rows == {
        "sft@2": (2, None),
        "sft": (None, None),
        "dmpo@2": (2, None),
        "dmpo": (None, None),
        "dmpo+sdpo@2": (2, "dmpo@2"),
        "dmpo+sdpo@3": (3, None),
        "dmpo+sdpo": (None, "dmpo"),
    }
    assert list(rows) == [name for name in comparison.variants if name != "base"]
    assert ("dmpo+sdpo@3", "dmpo+sdpo@2", "asked") in comparison.pairs


def test_steps_of_variants_that_share_a_job_are_drawn_together(config: Config) -> None:
    config["execution"] = {"variants_per_job": 3, "seeds_per_job": 2, "prompt_sets_per_job": 2, "scorers_per_job": 2}
    config["training"]["export_at"] = [2]
    config["variants"][0]["training"] = {"export_at": [3]}
    names = [job.name for job in plan(config).jobs() if job.stage == "generate"]
    assert names == [
        *("base/seen~own", "dmpo@2~dmpo+sdpo@2/0-1/seen~own", "sft@3/0-1/seen~own"),
        "sft~dmpo+sdpo/0-1/seen~own",
    ]
