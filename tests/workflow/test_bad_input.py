"""Damaged input ends a job with status 2 and one line that names the file and the remedy, and leaves no output."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from evals.commands.stages import written
from pipeline.config import load
from pipeline.jobs import Plan
from pipeline.specs import encode

if TYPE_CHECKING:
    from conftest import Benchmark

MODEL = "miniature/dpo/seed0"
AGAIN = "run snakemake again"


@pytest.fixture
def plan(finished: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Jobs of a benchmark that ran, in whose folder the test works."""
    finished.copied(tmp_path)
    # Weights that a test damages must be its own.
    weights = (tmp_path / "resources").resolve()
    (tmp_path / "resources").unlink()
    shutil.copytree(weights, tmp_path / "resources")
    monkeypatch.chdir(tmp_path)
    return Plan(load("bench.yaml"))


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Runs a command that must fail with one line, which holds all ``words``, and without writing ``outputs``."""

    def run(program: str, stage: str, spec: Any, outputs: list[str], *words: str) -> None:
        for output in map(Path, outputs):
            shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)
        capfd.readouterr()
        text = spec if isinstance(spec, str) else encode(spec)
        assert importlib.import_module(f"{program}.cli").main([stage, "--spec", text]) == 2
        printed = capfd.readouterr().err
        # Progress bars and warnings of libraries may come before it.
        last = printed.splitlines()[-1]
        assert last.startswith("error: "), printed
        assert printed.count("error: ") == 1
        for word in words:
            assert word in last
        assert not [output for output in outputs if Path(output).exists()]
        assert not list(Path("results").rglob("*.partial"))

    return run


def without_column(path: Path, column: str) -> None:
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([column]), path)


def scores(plan: Plan) -> tuple[dict[str, Any], list[str]]:
    """A spec that scores one model, and the files it would write."""
    sets, scorers = list(plan.benchmark.prompt_sets), list(plan.benchmark.scorers)
    spec = plan.score_spec([MODEL], sets, scorers)
    return spec, [file.as_posix() for file in written("score", spec)]


def test_truncated_png(plan: Plan, refused: Callable[..., None]) -> None:
    # In the second prompt set: the scores of the first must not appear either.
    picture = plan.root / "images" / MODEL / "relations" / "00004.png"
    picture.write_bytes(picture.read_bytes()[:-20])
    spec, files = scores(plan)
    refused("evals", "score", spec, files, str(picture), "truncated", AGAIN)


def test_manifest_row_without_its_file(plan: Plan, refused: Callable[..., None]) -> None:
    picture = plan.root / "images" / MODEL / "relations" / "00004.png"
    picture.unlink()
    spec, files = scores(plan)
    refused("evals", "score", spec, files, str(picture), "missing", AGAIN)


@pytest.mark.parametrize(
    ("file", "column", "program", "stage"),
    [
        (f"images/{MODEL}/seen/manifest.parquet", "sha256", "evals", "score"),
        ("prompts/seen.parquet", "prompt", "evals", "score"),
        ("prompts/seen.parquet", "category", "evals", "generate"),
        (f"scores/oracle/{MODEL}/seen.parquet", "score", "evals", "compare"),
        (f"models/{MODEL}/drift.parquet", "winner_drift", "evals", "compare"),
        (f"models/{MODEL}/training.parquet", "loss", "evals", "report"),
        (f"models/{MODEL}/training.parquet", "loss", "evals", "track"),
        ("pairs/renders/miniature/index.parquet", "label", "sdpo", "train"),
    ],
)
def test_missing_column(
    plan: Plan, refused: Callable[..., None], file: str, column: str, program: str, stage: str
) -> None:
    without_column(plan.root / file, column)
    sets = list(plan.benchmark.prompt_sets)
    spec, outputs = {
        "score": lambda: scores(plan),
        "generate": lambda: (plan.generate_spec([MODEL], sets), [f"{plan.root}/images/{MODEL}"]),
        "compare": lambda: (plan.compare_spec(), [f"{plan.root}/tables"]),
        "report": lambda: (plan.report_spec(), plan.report_files()),
        "track": lambda: (plan.track_spec(), [plan.tracking_marker()]),
        "train": lambda: (plan.train_spec("dpo", [0]), [f"{plan.root}/models/{MODEL}"]),
    }[stage]()
    refused(program, stage, spec, outputs, str(plan.root / file), f"'{column}'", AGAIN)


def test_damaged_pair_cache(plan: Plan, refused: Callable[..., None]) -> None:
    cache = plan.root / "pairs/renders/miniature"
    spec, outputs = plan.train_spec("dpo", [0]), [f"{plan.root}/models/{MODEL}"]
    shard = cache / "shard-00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    refused("sdpo", "train", spec, outputs, str(shard), "damaged", AGAIN)
    (cache / "cache.json").unlink()
    refused("sdpo", "train", spec, outputs, str(cache / "cache.json"), AGAIN)


def test_prompts_of_another_world_for_the_oracle(plan: Plan, refused: Callable[..., None]) -> None:
    file = plan.root / "prompts/relations.parquet"
    table = pq.read_table(file)
    foreign = table.set_column(1, "prompt", [["an astronaut riding a horse"] * len(table)])
    pq.write_table(foreign.cast(table.schema), file)
    spec, outputs = scores(plan)
    refused("evals", "score", spec, outputs, str(file), "'an astronaut riding a horse'", "drop the oracle")


def test_scorer_weights_of_another_architecture(plan: Plan, refused: Callable[..., None]) -> None:
    pickscore = Path("resources/scorers/pickscore")
    spec, outputs = scores(plan)
    config = json.loads((pickscore / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] += 1
    (pickscore / "config.json").write_text(json.dumps(config))
    refused("evals", "score", spec, outputs, str(pickscore / "model.safetensors"), "another architecture")
    reward = Path("resources/scorers/imagereward")
    weights = next(reward.glob("*.safetensors"))
    shutil.copy(pickscore / "model.safetensors", weights)
    del spec["scorers"]["pickscore"]
    refused("evals", "score", spec, outputs, str(weights), "another architecture")


@pytest.mark.parametrize("damage", ["architecture", "truncated"])
def test_denoiser_that_is_not_its_configurations(plan: Plan, refused: Callable[..., None], damage: str) -> None:
    train = plan.train_spec("dpo", [0]), [f"{plan.root}/models/{MODEL}"]
    trained = MODEL, plan.root / "models" / MODEL / "unet"
    for model, folder in (trained, (plan.base_model, Path("resources/base/unet"))):
        if damage == "architecture":
            config = json.loads((folder / "config.json").read_text())
            config["layers_per_block"] += 1
            (folder / "config.json").write_text(json.dumps(config))
        else:
            weights = next(folder.glob("*.safetensors"))
            weights.write_bytes(weights.read_bytes()[:-100])
        generate = plan.generate_spec([model], ["seen"]), [f"{plan.root}/images/{model}/seen"]
        refused("evals", "generate", *generate, str(folder), "again")
    refused("sdpo", "train", *train, "resources/base/unet", "again")


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_missing_part_of_the_base(plan: Plan, refused: Callable[..., None], part: str) -> None:
    shutil.rmtree(Path("resources/base") / part)
    words = (f"resources/base/{part}",)
    pairs = f"{plan.root}/pairs/renders/miniature"
    refused("evals", "generate", plan.generate_spec([MODEL], ["seen"]), [f"{plan.root}/images/{MODEL}/seen"], *words)
    refused("sdpo", "train", plan.train_spec("dpo", [0]), [f"{plan.root}/models/{MODEL}"], *words)
    refused("sdpo", "pairs", plan.pairs_spec("renders"), [pairs], *words)


def test_spec_that_is_not_json(plan: Plan, refused: Callable[..., None]) -> None:
    refused("evals", "score", "{models: []}", [], "--spec", "not JSON")
    Path("job.json").write_text('{"root": "results/tiny",')
    refused("sdpo", "train", "job.json", [], "job.json", "not JSON")
    refused("evals", "compare", "nowhere.json", [], "nowhere.json", "give inline JSON or a readable file")
