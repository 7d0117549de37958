"""The complete workflow on tiny bases with the classes and layout of published ones, by the commands."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from artifacts.atomic import file_sha256
from artifacts.contracts import read_table

PROMPTS = ["a red cat", "two dogs on a hill", "a boat", "a green hat on a chair", "seven stones", "fog"]


def write_pairs(folder: Path) -> None:
    """A folder of pictures with a JSON Lines file: pictures of two sizes, a tie, and a broken image."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = []
    for index in range(14):
        names = []
        for side in "ab":
            names.append(f"{index}{side}.png")
            width, height = ((40, 36), (36, 48))[index % 2]
            coarse = Image.fromarray(generator.integers(0, 256, (4, 4, 3), dtype=np.uint8))
            coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / names[-1])
        line: dict[str, Any] = {"prompt": PROMPTS[index % len(PROMPTS)], "winner": names[0], "loser": names[1]}
        lines.append(line | ({"split": "heldout"} if index % len(PROMPTS) == 0 else {}))
    lines[4]["label"] = 0.5
    (folder / "7b.png").write_bytes((folder / "7b.png").read_bytes()[:40])
    (folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


FLOWS = ("sd3", "flux", "ovis_image", "ovis_u1")
SEVERAL_SIZES = ("sdxl", "sd3")


def config(family: str, base: Path, **own: Any) -> dict[str, Any]:
    variant = {"objective": "diffusion_dpo", "parameters": {"beta": 500}, "pairs": "own"}
    targets = {"targets": ["qkv", "proj"]} if family == "ovis_u1" else {}
    lora = {"lora": {"rank": 4, **targets}, "learning_rate": 1e-3}
    generation = {"protocol": "sdpo", "scheduler": "euler", "steps": 2, "batch_size": 2, "dtype": "bfloat16"}
    if family in FLOWS:
        generation |= {"protocol": "clean", "size": 32, "guidance_scale": 3.5}
    encoding = {"sizes": [[32, 32], [32, 48]]} if family in SEVERAL_SIZES else {"resolution": 32}
    return {
        "benchmark": family,
        "base": {"name": family, "family": family, "path": str(base), **own},
        "pairs": {
            "own": {
                "source": "folder",
                "options": {"path": "data"},
                "encoding": {**encoding, "flips": True, "dtype": "float16", "shard_pairs": 4},
            }
        },
        "training": {
            "steps": 4,
            "batch_size": 4,
            "micro_batch_size": 2,
            "warmup_steps": 1,
            "learning_rate": 1e-4,
            "optimizer": "adafactor" if family == "sdxl" else "adamw",
            "precision": "bfloat16",
            "gradient_checkpointing": family in ("sdxl", "flux"),
            "empty_prompt_share": 0.2,
            "drift_every": 2,
        },
        "variants": [
            {"name": "dpo", **variant},
            {"name": "dpo+sdpo", **variant, "safeguard": {"mu": 0.9, "granularity": "sample"}},
            {"name": "dpo-lora", **variant, "training": lora},
        ],
        "seeds": [0],
        "prompt_sets": {"own": {"source": "text_file", "options": {"path": "prompts.txt"}}},
        "generation": generation,
        "scorers": {"jpeg_size": {}, "blank": {}},
        "report": {"grid": {"prompts": 2}},
        "execution": {"baselines_share_jobs": True, "scorers_per_job": 2},
    }


@pytest.mark.parametrize("family", ["sd15", "sdxl", *FLOWS])
def test_the_whole_workflow(family: str, tmp_path: Path, benchmark_in: Any, request: pytest.FixtureRequest) -> None:
    flows: dict[str, Path] = request.getfixturevalue("tiny_flows") if family in FLOWS else {}
    base = flows.get(family) or request.getfixturevalue(f"tiny_{family}")
    file = f"{'transformer' if flows else 'unet'}/diffusion_pytorch_model.safetensors"
    write_pairs(tmp_path / "data")
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    own = {"language": request.getfixturevalue("tiny_pipelines").ovis_u1_language()} if family == "ovis_u1" else {}
    benchmark = benchmark_in(tmp_path, config(family, base, **own))
    jobs = benchmark.run()
    # One job for dpo and dpo+sdpo, one for dpo-lora, and one for the base where it is drawn.
    assert sum(count for rule, count in jobs.items() if rule.startswith("train")) == 2
    assert sum(count for rule, count in jobs.items() if rule.startswith("generate")) == 3

    cache = benchmark.root / "pairs/own" / family
    counts = json.loads((cache / "cache.json").read_text())["counts"]
    # 14 pairs: 3 held out (of one prompt), 1 tie, 1 broken.
    assert (counts["train"], counts["heldout"]) == (9, 3)
    if family in SEVERAL_SIZES:
        shapes = np.concatenate([load_file(shard)["latent_shapes"] for shard in cache.glob("shard-*.safetensors")])
        assert {height / width for *_, height, width in shapes.tolist()} == {1.0, 1.5}
    models = {name: benchmark.root / f"models/{family}/{name}/seed0" for name in ("dpo", "dpo+sdpo", "dpo-lora")}
    for folder in models.values():
        assert (folder / file).is_file()
        log = read_table(folder / "training.parquet", "training")
        assert np.isfinite(log["loss"]).all()
        assert list(read_table(folder / "drift.parquet", "drift")["step"]) == [0, 2, 4]
    assert (models["dpo-lora"] / "pytorch_lora_weights.safetensors").is_file()
    scales = read_table(models["dpo+sdpo"] / "training.parquet", "training")["safe_scale_mean"]
    assert scales.between(0, 1).all()

    weights = {file_sha256(folder / file) for folder in models.values()}
    assert len(weights) == 3

    rows = list(csv.DictReader((benchmark.root / "tables/scores.csv").open()))
    assert {row["variant"] for row in rows if row["scorer"] == "jpeg_size"} == {"base", *models}
    # Adapters at this learning rate show in the images.
    drawn = [benchmark.root / f"images/{family}/{name}/own/manifest.parquet" for name in ("base", "dpo-lora/seed0")]
    base_images, adapted = (read_table(path, "manifest")["sha256"] for path in drawn)
    assert (base_images != adapted).any()
    assert {row["n"] for row in rows if row["seed"] == "all" and row["variant"] != "base"} == {str(len(PROMPTS))}
    assert (benchmark.root / "report/index.html").stat().st_size > 10_000
    with sqlite3.connect(tmp_path / "results/mlflow/mlflow.db") as database:
        assert database.execute("SELECT COUNT(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone() == (8,)
    # Nothing is left to do.
    assert benchmark.run() == {}
