"""Stands for ``sdpo`` and ``evals``: writes the files of a job, with the job's spec in them, and notes that it ran.

Run without site-packages, so that a workflow of stubs takes seconds. ``STUB_FILES`` holds the names of the files of
directories, as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from artifacts import layout
from artifacts.job_manifest import write_manifest


def outputs(stage: str, spec: dict) -> list[Path]:
    names = json.loads(os.environ["STUB_FILES"])
    root, sets = Path(spec.get("root", ".")), spec.get("prompt_sets", [])
    if stage == "prompts":
        return [Path(spec["out"])]
    if stage == "pairs":
        return [Path(spec["out"]) / name for name in names["pairs"]]
    if stage == "train":
        parts = spec.get("together", [spec])
        root = Path(parts[0]["root"])
        models = [
            layout.model_name(part["base"]["name"], variant, seed)
            for part in parts
            for variant in (*(f"{part['variant']}@{step}" for step in part["training"]["export_at"]), part["variant"])
            for seed in part["seeds"]
        ]
        return [layout.model(root, model) / name for model in models for name in names["train"]]
    if stage in ("generate", "collect"):
        folder = partial(layout.image_shard, shard=spec["shard"]) if "shard" in spec else layout.images
        return [folder(root, m, s) / name for m in spec["models"] for s in sets for name in names["generate"]]
    if stage == "score":
        rated = spec.get("rated", {})
        rating = [(x, s) for x in spec["scorers"] for s in sets if s in rated.get(x, sets)]
        return [layout.score_shard(root, x, m, s, spec.get("shard", (0, 1))) for x, s in rating for m in spec["models"]]
    if stage == "gather":
        return [
            layout.scores(root, x, m, s) for x, names in spec["rated"].items() for s in names for m in spec["models"]
        ]
    if stage == "track":
        return [Path(spec["marker"])]
    return [root / {"compare": "tables", "report": "."}[stage] / name for name in names[stage]]


def main() -> None:
    stage, text = sys.argv[1], sys.argv[sys.argv.index("--spec") + 1]
    spec = json.loads(text)
    if stage == "train" and Path("slow").exists():
        Path("started").touch()
        time.sleep(60)
    if stage == "train" and Path("fails").exists():
        sys.exit("failed")
    written = outputs(stage, spec)
    for file in written:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    if stage == "collect":
        for model in spec["models"]:
            for name in spec["prompt_sets"]:
                shutil.rmtree(layout.image_shard(spec["root"], model, name, (0, spec["shards"])).parent)
    if stage == "gather":
        for scorer, names in spec["rated"].items():
            for model in spec["models"]:
                for name in names:
                    shutil.rmtree(layout.score_shard(spec["root"], scorer, model, name, (0, spec["shards"])).parent)
    if "--manifest" in sys.argv:
        folders = stage in ("generate", "collect")
        whole = sorted({file.parent for file in written}) if folders else written
        write_manifest(sys.argv[sys.argv.index("--manifest") + 1], whole)
    of = [part["variant"] for part in spec.get("together", [spec])] if stage == "train" else spec.get("models", [])
    of = of if stage in ("train", "generate", "score") else [spec["prompt_set"]] if stage == "prompts" else []
    with open("commands", "a") as log:
        log.write(" ".join([stage, *of]) + "\n")
    print(stage, "done")


if __name__ == "__main__":
    main()
