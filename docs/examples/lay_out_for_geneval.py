"""Lays out one model's images as GenEval's evaluate_images.py wants them.

python lay_out_for_geneval.py results/mine/images/sd15/base/geneval evaluation_metadata.jsonl for_geneval/base
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pandas as pd


def main(images: str, metadata: str, to: str) -> None:
    """Copy each image to ``<prompt>/samples/<number>.png``, with what it must show beside it."""
    lines = Path(metadata).read_text(encoding="utf-8").splitlines()
    manifest = pd.read_parquet(Path(images) / "manifest.parquet")
    for found in manifest.to_dict("records"):
        row = int(found["prompt_id"].rpartition("-")[2])
        folder = Path(to) / f"{row:05d}"
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / "metadata.jsonl").write_text(f"{lines[row]}\n", encoding="utf-8")
        shutil.copy(Path(images) / found["file"], folder / "samples" / f"{found.get('image', 0):05d}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
