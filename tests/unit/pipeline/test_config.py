from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import ConfigError, load, validate
from pipeline.config.training import merged_as_read, merged_training
from pipeline.files import Files
from pipeline.jobs import Plan

pytestmark = pytest.mark.usefixtures("few_names")

Config = dict[str, Any]


def errors(config: Any, **options: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(config, **{"check_files": False, **options})
    return list(caught.value.lines)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"source": "pickapic"}, "options = {}: expected either path, a folder, or repo, a data set on the hub"),
        (
            {"source": "folder", "options": {"path": "x", "limt": 3}},
            "options.limt: unknown key: expected one of path, files, manifest, train_splits, heldout_splits, "
            "heldout_share, limit, heldout_limit, seed, ties, max_broken, left_out_splits; did you mean 'limit'?",
        ),
        (
            {"source": "hpdv3", "options": {"path": "x", "min_confidence": 2}},
            "options.min_confidence = 2: expected a number of at most 1",
        ),
        ({"source": "hpdv2", "options": {"path": "x", "ties": "dorp"}}, 'options.ties = "dorp": expected one of drop'),
    ],
)
def test_options_of_data_sets_are_checked_before_the_first_job(
    config: Config, block: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdpo.pairs.names", lambda: [block["source"]])
    config["pairs"]["renders"] = block
    assert len(found := errors(config)) == 1
    assert found[0].startswith(f"pairs.renders.{expected}")


@pytest.mark.parametrize(("size", "processes", "count"), [(3, 4, 6), (5, 3, 4), (8, 2, None)])
def test_micro_batches_that_leave_a_process_without_a_partner_for_a_mean(
    config: Config, size: int, processes: int, count: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdpo.objectives.names", lambda: ["diffusion_kto", "sft"])
    config["training"] |= {"batch_size": 16, "micro_batch_size": size}
    config["variants"] = [
        {"name": "kto", "objective": "diffusion_kto", "parameters": {"beta": 2000.0}, "pairs": "renders"},
        {"name": "sft", "objective": "sft", "pairs": "renders"},
    ]
    config["execution"] = {"processes": processes}
    if count is None:
        assert validate(config, check_files=False).execution.processes == processes
        return
    assert errors(config) == [
        f"variants[0].training.micro_batch_size = {size} (variant 'kto'): 16 pairs make {count} micro-batches, "
        f"and objective 'diffusion_kto' takes means over the {processes} processes; expected a size that makes a "
        f"multiple of {processes}"
    ]


def test_micro_batches_of_images_of_several_sizes(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    config["pairs"]["renders"]["encoding"] = {"sizes": [[32, 48], [32, 32]], "crop": "random"}
    config["training"] |= {"batch_size": 16, "micro_batch_size": 3}
    line = "variants[0].training.micro_batch_size = 3 (variant 'sft'): expected a divisor of training.batch_size, 16: "
    assert errors(config)[0] == f"{line}a micro-batch has images of one of several sizes"
    del config["training"]["micro_batch_size"]
    assert validate(config, check_files=False).pairs["renders"].encoding.sizes == [[32, 32], [32, 48]]
    config["execution"] = {"processes": 2}
    line = "variants[0].training.micro_batch_size (variant 'sft'): expected a number of pairs: images are of several "
    assert errors(config)[0] == f"{line}sizes, and 2 processes share a step"
    monkeypatch.setattr("sdpo.bases.names", lambda: ["miniature", "toy_surface"])
    config["base"]["family"] = "toy_surface"
    line = "pairs.renders.encoding.sizes = [[32, 48], [32, 32]]: expected it left out: base family 'toy_surface' trains"
    assert [error for error in errors(config) if error.startswith(line)] != []


def test_shares_of_a_base_whose_passes_vary(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdpo.bases.names", lambda: ["miniature", "ovis_u1"])
    config["training"] |= {"batch_size": 16, "micro_batch_size": 4}
    config["execution"] = {"processes": 2, "sharding": "fsdp2"}
    assert validate(config, check_files=False).execution.sharding == "fsdp2"
    config["base"]["family"] = "ovis_u1"
    line = "execution.sharding = \"fsdp2\": expected replicated: base family 'ovis_u1' makes a pass for each length of"
    assert [error for error in errors(config) if error.startswith(line)] != []


def test_a_config_without_errors_gets_its_defaults(config: Config) -> None:
    benchmark = validate(config, check_files=False)

    assert benchmark.training.steps == 4
    assert benchmark.training.batch_size == 16
    assert benchmark.variants[2].safeguard is not None
    assert benchmark.variants[2].safeguard.granularity == "microbatch"
    assert benchmark.generation.guidance_scale == 5.0
    assert benchmark.statistics.confidence == 0.95


def _all(*changes: Callable[[Config], None]) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        for one in changes:
            one(config)

    return change


def _set(*path: Any, to: Any) -> Callable[[Config], None]:
    def change(config: Config) -> None:
        block: Any = config
        for key in path[:-1]:
            block = block.setdefault(key, {}) if isinstance(block, dict) else block[key]
        block[path[-1]] = to

    return change


CASES: dict[str, tuple[Callable[[Config], None], str]] = {
    "hub id without revision": (
        _set("base", "path", to="owner/name"),
        'base.path = "owner/name": no such folder, and as a hub id it has no revision: expected owner/name@<commit>',
    ),
    "resolution that no autoencoder takes": (
        _set("pairs", "renders", "encoding", to={"resolution": 500}),
        "pairs.renders.encoding.resolution = 500: expected a multiple of 8",
    ),
    "unknown key": (
        _set("generation", "guidance", to=3),
        "generation.guidance: unknown key: expected one of protocol, scheduler, steps, guidance_scale, batch_size, "
        "seed, size, dtype; did you mean 'guidance_scale'?",
    ),
    "unknown key of a variant": (
        _set("variants", 1, "paramters", to={"beta": 1}),
        "variants[1].paramters (variant 'dmpo'): unknown key: expected one of name, objective, parameters, safeguard, "
        "pairs, training, baseline; did you mean 'parameters'?",
    ),
    "unknown key of a variant's training": (
        _set("variants", 1, "training", to={"learning_rates": 1e-3}),
        "variants[1].training.learning_rates (variant 'dmpo'): unknown key: expected one of steps, batch_size, "
        "micro_batch_size, learning_rate, scale_learning_rate, schedule, warmup_steps, optimizer, weight_decay, "
        "max_grad_norm, empty_prompt_share, timesteps, embedded_guidance, lora, ema_decay, device, precision, tf32, "
        "channels_last, compile, "
        "gradient_checkpointing, log_every, checkpoint_every, kept_checkpoints, keep_state, export_at, drift_every, "
        "heldout_pairs, sample_every, sample_prompts, sample_guidance, loggers, threads; did you mean 'learning_rate'?",
    ),
    "unknown key of a scorer": (
        _set("scorers", "oracle", "dtpye", to="float32"),
        "scorers.oracle.dtpye: unknown key: expected one of protocol, weights, dtype, implementation, options, "
        "prompt_sets; did you mean 'dtype'?",
    ),
    "prompt set of a scorer that is none": (
        _set("scorers", "oracle", "prompt_sets", to=["seen", "onw"]),
        "scorers.oracle.prompt_sets[1] = \"onw\": unknown prompt set: expected one of seen, own; did you mean 'own'?",
    ),
    "prompt set of a scorer twice": (
        _set("scorers", "oracle", "prompt_sets", to=["own", "seen", "own"]),
        'scorers.oracle.prompt_sets[2] = "own": prompt_sets[0] is the same; expected each set once',
    ),
    "scorer of no prompt set": (
        _set("scorers", "oracle", "prompt_sets", to=[]),
        "scorers.oracle.prompt_sets = []: expected at least 1",
    ),
    "prompt set of no scorer": (
        _all(
            _set("scorers", "oracle", "prompt_sets", to=["seen"]),
            _set("scorers", "pickscore", "prompt_sets", to=["seen"]),
        ),
        "prompt_sets.own: no scorer rates it: expected its name in scorers.oracle.prompt_sets or another scorer's, or "
        "no such set",
    ),
    "two ways to share jobs": (
        _set("execution", to={"baselines_share_jobs": True, "variants_per_job": 2}),
        "execution.variants_per_job = 2: expected 1 beside execution.baselines_share_jobs",
    ),
    "a scorer that no package has": (
        _set("scorers", "pickscore", "implementation", to="package"),
        'scorers.pickscore.implementation = "package": expected native: it has no other',
    ),
    "unknown option of a scorer": (
        _set("scorers", "pickscore", "options", to={"antialias": False}),
        "scorers.pickscore.options.antialias: unknown key: expected none, since there are none",
    ),
    "unknown hyperparameter": (
        _set("variants", 2, "parameters", "betta", to=1),
        "variants[2].parameters.betta (variant 'dmpo+sdpo'): unknown key: expected one of beta, alpha; "
        "did you mean 'beta'?",
    ),
    "unknown option of a source": (
        _set("pairs", "renders", "options", "heldouts", to=1),
        "pairs.renders.options.heldouts: unknown key: expected one of pairs, heldout, seed, temperature, tie_below, "
        "contradiction, degradation; did you mean 'heldout'?",
    ),
    "unknown objective": (
        _set("variants", 0, "objective", to="dmp"),
        "variants[0].objective = \"dmp\" (variant 'sft'): unknown objective: expected one of dmpo, dspo, sft; "
        "did you mean 'dmpo'?",
    ),
    "unknown scorer": (
        _set("scorers", "hpsv3", to={"protocol": "sdpo"}),
        "scorers.hpsv3: unknown scorer: expected one of hpsv2, oracle, pickscore; did you mean 'hpsv2'?",
    ),
    "unknown protocol of a scorer": (
        _set("scorers", "pickscore", "protocol", to="sdop"),
        "scorers.pickscore.protocol = \"sdop\": unknown protocol: expected one of sdpo, author; did you mean 'sdpo'?",
    ),
    "unknown protocol of the generation": (
        _set("generation", "protocol", to="cleam"),
        "generation.protocol = \"cleam\": unknown protocol: expected one of clean, sdpo; did you mean 'clean'?",
    ),
    "unknown prompt source": (
        _set("prompt_sets", "seen", "source", to="miniature_sene"),
        'prompt_sets.seen.source = "miniature_sene": unknown prompt source: expected one of miniature_seen, text_file; '
        "did you mean 'miniature_seen'?",
    ),
    "unknown base family": (
        _set("base", "family", to="minature"),
        'base.family = "minature": unknown base family: expected one of miniature, stable_diffusion; '
        "did you mean 'miniature'?",
    ),
    "unknown pair source": (
        _set("pairs", "renders", "source", to="renders"),
        'pairs.renders.source = "renders": unknown pair source: expected miniature_renders; '
        "did you mean 'miniature_renders'?",
    ),
    "unknown pair set": (
        _set("variants", 0, "pairs", to="render"),
        "variants[0].pairs = \"render\" (variant 'sft'): unknown pair set: expected renders; did you mean 'renders'?",
    ),
    "unknown prompt set of the grid": (
        _set("report", "grid", "prompt_set", to="seem"),
        "report.grid.prompt_set = \"seem\": unknown prompt set: expected one of seen, own; did you mean 'seen'?",
    ),
    "grid shows a seed that is not trained": (
        _set("report", "grid", "seed", to=7),
        "report.grid.seed = 7: expected one of the training seeds, 0, 1",
    ),
    "unknown literal": (
        _set("scorers", "oracle", "dtype", to="float23"),
        "scorers.oracle.dtype = \"float23\": expected one of float32, bfloat16, float16; did you mean 'float32'?",
    ),
    "beta is zero": (
        _set("variants", 1, "parameters", "beta", to=0),
        "variants[1].parameters.beta = 0 (variant 'dmpo'): expected a number greater than 0.0",
    ),
    "mu above one": (
        _set("variants", 2, "safeguard", "mu", to=1.1),
        "variants[2].safeguard.mu = 1.1 (variant 'dmpo+sdpo'): expected a number of at most 1.0",
    ),
    "mu below zero": (
        _set("variants", 2, "safeguard", "mu", to=-0.1),
        "variants[2].safeguard.mu = -0.1 (variant 'dmpo+sdpo'): expected a number of at least 0.0",
    ),
    "safeguard is not a block": (
        _set("variants", 2, "safeguard", to=True),
        "variants[2].safeguard = true (variant 'dmpo+sdpo'): expected keys with values, of which mu is needed "
        "(`safeguard: {mu: 0.9}`), or nothing",
    ),
    "safeguard without a loser": (
        _set("variants", 0, "safeguard", to={"mu": 0.9}),
        "variants[0].safeguard = {\"mu\": 0.9} (variant 'sft'): objective 'sft' has no loser whose gradient could be "
        "scaled; expected no safeguard",
    ),
    "two variants of one name": (
        _set("variants", 1, "name", to="sft"),
        "variants[1].name = \"sft\" (variant 'sft'): variants[0] has this name too; expected one name a variant",
    ),
    "variant with the base's name": (
        _set("variants", 0, "name", to="base"),
        "variants[0].name = \"base\" (variant 'base'): this name is taken by the untrained base; choose another",
    ),
    "name that is no path": (
        _set("variants", 0, "name", to="../sft"),
        "variants[0].name = \"../sft\" (variant '../sft'): expected a name of a-z, 0-9, '.', '_', '+' and '-' that "
        "starts with a letter or digit",
    ),
    "prompt set name that is no path": (
        _set("prompt_sets", "Seen", to={"source": "text_file"}),
        "prompt_sets.Seen: expected a name of a-z, 0-9, '.', '_', '+' and '-' that starts with a letter or digit",
    ),
    "prompt set with the pooled rows' name": (
        _set("prompt_sets", "all", to={"source": "text_file"}),
        "prompt_sets.all: this name is taken by the pooled rows of the tables; choose another",
    ),
    "benchmark in the store's folder": (
        _set("benchmark", to="mlflow"),
        'benchmark = "mlflow": results/mlflow/ is used for something else; choose another name',
    ),
    "benchmark in the scores' folder": (
        _set("benchmark", to="score_cache"),
        'benchmark = "score_cache": results/score_cache/ is used for something else; choose another name',
    ),
    "no seeds": (_set("seeds", to=[]), "seeds = []: expected at least 1"),
    "a seed twice": (_set("seeds", to=[0, 3, 0]), "seeds[2] = 0: seeds[0] is the same; expected different seeds"),
    "seed that is no integer": (_set("seeds", to=[0, 1.5]), "seeds[1] = 1.5: expected an integer"),
    "mean of a density that has none": (
        _set("training", "timesteps", to={"mean": -2.0}),
        "training.timesteps.mean = -2.0: expected density: logit_normal beside it; the "
        "uniform density, which is the default, has none",
    ),
    "mean of a density that has none, merged": (
        _all(
            _set("training", "timesteps", to={"density": "logit_normal", "std": 0.5}),
            _set("variants", 1, "training", to={"timesteps": {"density": "uniform", "std": 2.0}}),
        ),
        "variants[1].training.timesteps.std = 2.0 (variant 'dmpo'): expected density: logit_normal beside it; the "
        "uniform density, which is the default, has none",
    ),
    "crop without a square": (
        _set("pairs", "renders", "encoding", to={"crop": "random"}),
        'pairs.renders.encoding.crop = "random": expected center, or encoding.resolution or '
        "encoding.sizes beside it: without them nothing is cropped",
    ),
    "told size without a square": (
        _set("pairs", "renders", "encoding", to={"time_ids": "image"}),
        'pairs.renders.encoding.time_ids = "image": expected resolution, or encoding.resolution or '
        "encoding.sizes beside it: without them nothing is cropped",
    ),
    "size of a side that no autoencoder takes": (
        _set("pairs", "renders", "encoding", to={"sizes": [[32, 32], [48, 36]]}),
        "pairs.renders.encoding.sizes[1][1] = 36: expected a multiple of 8",
    ),
    "size without a height": (
        _set("pairs", "renders", "encoding", to={"sizes": [[32]]}),
        "pairs.renders.encoding.sizes[0] = [32]: expected at least 2",
    ),
    "two sizes of one ratio": (
        _set("pairs", "renders", "encoding", to={"sizes": [[32, 48], [64, 96]]}),
        "pairs.renders.encoding.sizes = [[32, 48], [64, 96]]: expected each ratio of width to height once; [32, 48] "
        "and [64, 96] have the same",
    ),
    "sizes beside a resolution": (
        _set("pairs", "renders", "encoding", to={"resolution": 32, "sizes": [[32, 48]]}),
        "pairs.renders.encoding.sizes = [[32, 48]]: expected it left out beside encoding.resolution: an image comes to "
        "one size",
    ),
    "warm-up longer than training, merged": (
        _set("variants", 1, "training", to={"warmup_steps": 5}),
        "variants[1].training.warmup_steps = 5 (variant 'dmpo'): expected at most the number of steps, which is 4",
    ),
    "a step to export that is the last": (
        _all(_set("training", "export_at", to=[1, 3]), _set("variants", 1, "training", to={"export_at": [2, 4]})),
        "variants[1].training.export_at[1] = 4 (variant 'dmpo'): expected less than the number of steps, 4, whose "
        "model is written in any case",
    ),
    "a step to compare that is not exported": (
        _all(_set("variants", 1, "training", to={"export_at": [3]}), _set("comparisons", to=[["dmpo@2", "dmpo@3"]])),
        'comparisons[0][0] = "dmpo@2": unknown variant or model: expected one of base, sft, dmpo@3, dmpo, dmpo+sdpo; '
        "did you mean 'dmpo@3'?",
    ),
    "unknown logger": (
        _set("variants", 1, "training", to={"loggers": ["tensorbord"]}),
        "variants[1].training.loggers[0] = \"tensorbord\" (variant 'dmpo'): unknown logger: expected mlflow",
    ),
    "more processes than micro-batches": (
        _all(
            _set("training", "micro_batch_size", to=8),
            _set("execution", to={"processes": 3}),
            _set("variants", 1, "training", to={"batch_size": 24}),
            _set("variants", 2, "training", to={"batch_size": 24}),
        ),
        "variants[0].training.micro_batch_size = 8 (variant 'sft'): expected at most 5: 3 processes share 16 pairs",
    ),
    "processes that would change what shares a scale": (
        _set("execution", to={"processes": 2}),
        "variants[2].training.micro_batch_size (variant 'dmpo+sdpo'): expected a number of pairs, since these share a "
        "λ and 2 processes share a step",
    ),
    "machines that cannot have as many processes": (
        _all(_set("training", "micro_batch_size", to=4), _set("execution", to={"processes": 4, "machines": 3})),
        "execution.machines = 3: expected a divisor of execution.processes, 4",
    ),
    "shares of one process": (
        _set("execution", to={"sharding": "fsdp2"}),
        'execution.sharding = "fsdp2": expected replicated, or execution.processes of at least 2',
    ),
    "shares and what they do not allow": (
        _all(
            _set("training", "micro_batch_size", to=4),
            _set("execution", to={"sharding": "fsdp2", "processes": 2}),
            _set("variants", 1, "training", to={"compile": True}),
        ),
        "variants[1].training.compile = true (variant 'dmpo'): expected false, under execution.sharding: fsdp2",
    ),
    "shares, and a process that would not take part in each pass": (
        _all(
            _set("training", "micro_batch_size", to=6),
            _set("execution", to={"sharding": "fsdp2", "processes": 2}),
            _set("variants", 1, "training", to={"batch_size": 24}),
            _set("variants", 2, "training", to={"batch_size": 24}),
        ),
        "variants[0].training.micro_batch_size = 6 (variant 'sft'): 16 pairs make 3 micro-batches, and "
        "execution.sharding: fsdp2 makes each pass with all 2 processes; expected a size that makes a multiple of 2",
    ),
    "shares, and pairs of several passes that share a scale": (
        _all(
            _set("training", "micro_batch_size", to=4),
            _set("execution", to={"sharding": "fsdp2", "processes": 2}),
            _set("variants", 2, "safeguard", "granularity", to=8),
        ),
        "variants[2].safeguard.granularity = 8 (variant 'dmpo+sdpo'): expected at most the pairs of a micro-batch, 4, "
        "or global, under execution.sharding: fsdp2",
    ),
    "pairs that share a scale and no micro-batch": (
        _all(_set("training", "micro_batch_size", to=8), _set("variants", 2, "safeguard", "granularity", to=3)),
        "variants[2].safeguard.granularity = 3 (variant 'dmpo+sdpo'): expected a divisor of training.batch_size, 16",
    ),
    "pairs that share a scale across micro-batches": (
        _all(
            _set("training", "micro_batch_size", to=6),
            _set("variants", 2, "safeguard", "granularity", to=4),
        ),
        "variants[2].safeguard.granularity = 4 (variant 'dmpo+sdpo'): expected a divisor or a multiple of the pairs "
        "of a micro-batch, 6",
    ),
    "text for a number": (_set("training", "steps", to="many"), 'training.steps = "many": expected an integer'),
    "not a number": (
        _set("training", "learning_rate", to=float("inf")),
        "training.learning_rate = Infinity: expected a finite number",
    ),
    "weights left out": (
        _set("scorers", "pickscore", to={}),
        "scorers.pickscore.weights: missing: expected a folder with config.json, model.safetensors and tokenizer.json "
        "(or vocab.json and merges.txt)",
    ),
    "missing hyperparameter": (
        _set("variants", 1, "parameters", to={}),
        "variants[1].parameters.beta (variant 'dmpo'): missing: β > 0, for errors averaged over the latent's values "
        "and a logit with the factor ½. Published: 2000 (SD 1.5), 6000 (SDXL).",
    ),
    "comparison with a row that is not there": (
        _set("comparisons", to=[["sft", "base"], ["dmpo+sdpo", "dmp"]]),
        'comparisons[1][1] = "dmp": unknown variant or model: expected one of base, sft, dmpo, dmpo+sdpo; did you mean '
        "'dmpo'?",
    ),
    "comparison with itself": (
        _set("comparisons", to=[["sft", "sft"]]),
        'comparisons[0] = ["sft", "sft"]: expected two different variants or models',
    ),
    "one comparison twice": (
        _set("comparisons", to=[["sft", "dmpo"], ["dmpo", "sft"]]),
        'comparisons[1] = ["dmpo", "sft"]: comparisons[0] is the same; expected each pair once',
    ),
    "comparison of three": (
        _set("comparisons", to=[["sft", "dmpo", "base"]]),
        'comparisons[0] = ["sft", "dmpo", "base"]: expected at most 2',
    ),
    "comparison of a text": (_set("comparisons", to=["sft"]), 'comparisons[0] = "sft": expected a list'),
    "baseline that has a safeguard": (
        _set("variants", 2, "baseline", to="dmpo+sdpo"),
        "variants[2].baseline = \"dmpo+sdpo\" (variant 'dmpo+sdpo'): unknown variant without safeguard: "
        "expected one of sft, dmpo; did you mean 'dmpo'?",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_error_is_one_line(config: Config, case: str) -> None:
    change, line = CASES[case]
    change(config)
    assert errors(config) == [line]


def test_missing_block(config: Config) -> None:
    del config["seeds"]
    assert errors(config) == [
        "seeds: missing: Training seeds: every variant is trained once for each, and intervals are over "
        "them; at least one if anything is trained."
    ]


def test_all_errors_at_once(config: Config) -> None:
    singles = ["unknown key", "beta is zero", "mu above one", "unknown scorer", "no seeds", "two variants of one name"]
    for case in singles:
        CASES[case][0](config)
    lines = errors(config)
    # The variant that took the name 'sft' is called by it in its other errors.
    expected = {CASES[case][1].replace("(variant 'dmpo')", "(variant 'sft')") for case in singles}
    assert set(lines) == expected
    assert len(lines) == len(singles)


def test_what_no_weight_depends_on_makes_no_other_baseline(config: Config) -> None:
    config["variants"][2]["training"] = {"export_at": [2], "log_every": 1, "loggers": ["mlflow"]}
    plan = Plan(validate(config, check_files=False))
    assert plan.baseline("dmpo+sdpo") == "dmpo"
    config["variants"][2]["training"] = {"batch_size": 8}
    assert Plan(validate(config, check_files=False)).baseline("dmpo+sdpo") is None


def test_an_ambiguous_baseline_is_asked_for(config: Config) -> None:
    config["variants"].append({**config["variants"][1], "name": "dmpo-again"})
    assert errors(config) == [
        "variants[2].baseline (variant 'dmpo+sdpo'): more than one variant could be the baseline: "
        "name one of dmpo, dmpo-again"
    ]
    config["variants"][2]["baseline"] = "dmpo"
    assert validate(config, check_files=False).variants[2].baseline == "dmpo"


def test_weights_that_are_not_there(config: Config, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").touch()
    config["base"]["path"] = "owner/model@main"
    config["scorers"]["pickscore"]["weights"] = "weights/pick/score"
    config["report"] = {"scorer_agreement": "resources/miniature/agreement.json"}
    assert errors(config, check_files=True, folder=tmp_path) == [
        'scorers.pickscore.weights = "weights/pick/score": no such file or folder; '
        "paths are relative to where snakemake is started",
        'report.scorer_agreement = "resources/miniature/agreement.json": no such file or folder; restore it with '
        "`git checkout -- resources/miniature` or run `make miniature install-miniature`",
    ]
    (tmp_path / "weights/pick/score").mkdir(parents=True)
    del config["report"]
    assert validate(config, folder=tmp_path).base.path == "owner/model@main"


def test_a_relative_path_of_two_parts_is_no_hub_id_where_none_is_taken(config: Config, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").touch()
    config["base"]["path"] = "owner/model@main"
    config["scorers"]["pickscore"]["weights"] = "weights/pickscore"
    config["report"] = {"scorer_agreement": "figures/agreement.json"}
    config["published"] = {"file": "figures/published.csv"}
    elsewhere = "no such file or folder; paths are relative to where snakemake is started"
    assert errors(config, check_files=True, folder=tmp_path) == [
        'scorers.pickscore.weights = "weights/pickscore": no such file or folder; '
        "fetch it with `evals weights fetch pickscore --to weights`",
        f'report.scorer_agreement = "figures/agreement.json": {elsewhere}',
        f'published.file = "figures/published.csv": {elsewhere}',
    ]


def test_a_base_may_lie_in_the_home_folder(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config["base"]["path"] = "~/bases/own"
    del config["prompt_sets"]["own"]
    del config["scorers"]["pickscore"]
    line = 'base.path = "~/bases/own": no such file or folder; paths are relative to where snakemake is started'
    assert errors(config, check_files=True, folder=tmp_path / "work") == [line]
    (tmp_path / "bases/own").mkdir(parents=True)
    (tmp_path / "bases/own/model_index.json").write_text("{}")
    benchmark = validate(config, folder=tmp_path / "work")
    assert Files(benchmark).base_paths() == ["~/bases/own"]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        [],
        {"variants": {}, "seeds": 3, "scorers": [], "base": None},
        {"variants": [None, {"name": [], "objective": {}, "parameters": 3, "training": [], "baseline": []}]},
        {"pairs": {"x": None}, "prompt_sets": {"y": 3}, "report": {"grid": []}, "scorers": {"oracle": 1}},
    ],
)
def test_any_shape_gives_lines_and_no_traceback(config: Config, wrong: Any) -> None:
    broken = wrong if not isinstance(wrong, dict) else {**config, **wrong}
    assert all("\n" not in line for line in errors(broken))


def test_file_is_named_and_repeated_keys_are_found(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    config["seeds"] = []
    path.write_text(yaml.safe_dump(config, sort_keys=False) + "training:\n  steps: 9\n  steps: 8\n")
    with pytest.raises(ConfigError) as caught:
        load(path, check_files=False)
    first = next(n for n, line in enumerate(path.read_text().splitlines(), 1) if line == "training:")
    last = len(path.read_text().splitlines())
    assert caught.value.lines == (
        f"{path}: training: given on line {first} and on line {last - 2}; expected once",
        f"{path}: training.steps: given on line {last - 1} and on line {last}; expected once",
        f"{path}: seeds = []: expected at least 1",
        # YAML takes the last block, whose steps are 8, and the default of 10 for the warm-up.
        f"{path}: training.warmup_steps = 10: expected at most the number of steps, which is 8",
    )


def test_yaml_errors_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text("base: {name: x\nseeds: [1]\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    (line,) = caught.value.lines
    assert line.startswith(f"{path}: line 2, column 6: not YAML: ")
    with pytest.raises(ConfigError, match="No such file or directory; give a readable YAML file"):
        load(tmp_path / "absent.yaml")


def test_numbers_with_exponents_are_numbers(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "bench.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False).replace("steps: 4", "steps: 4\n  learning_rate: 2e-5"))
    assert load(path, check_files=False).training.learning_rate == 2e-5


def test_validation_changes_nothing_of_its_input(config: Config) -> None:
    before = copy.deepcopy(config)
    validate(config, check_files=False)
    assert config == before


def test_blocks_of_a_variant_s_training_are_merged_key_by_key(config: Config) -> None:
    """And what of them the defaults say stays; ``null`` takes a whole block away."""
    config["training"] |= {
        "lora": {"rank": 16, "alpha": 64, "targets": ["to_q"]},
        "timesteps": {"density": "logit_normal", "std": 0.5},
    }
    config["variants"][0]["training"] = {"lora": {"rank": 4}, "timesteps": {"mean": -1.0}}
    config["variants"][1]["training"] = {"lora": None, "timesteps": {"density": "uniform"}}
    benchmark = validate(config, check_files=False)
    own, without = (merged_training(benchmark.training, benchmark.variants[i].training) for i in (0, 1))
    assert own.lora is not None
    assert own.lora.model_dump() == {"rank": 4, "alpha": 64, "targets": ["to_q"]}
    assert (own.timesteps.density, own.timesteps.mean, own.timesteps.std) == ("logit_normal", -1.0, 0.5)
    assert without.lora is None
    for variant, merged in zip(config["variants"], (own, without), strict=False):
        read = merged_as_read(config, variant)
        assert (read["lora"], read["timesteps"]) == (merged.model_dump()["lora"], merged.model_dump()["timesteps"])
