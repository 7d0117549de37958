"""Lays out one model's images as DPG-Bench's compute_dpg_bench.py wants them: four of a prompt in one picture.

python lay_out_for_dpg_bench.py results/mine/images/sd15/base/dpg results/mine/prompts/dpg.parquet for_dpg/base
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from PIL import Image


def main(images: str, prompts: str, to: str) -> None:
    """Write ``<item>.png`` with images 0 to 3 from left to right and from above; ``--resolution`` is one's width."""
    items = pd.read_parquet(prompts).set_index("prompt_id")["item"]
    manifest = pd.read_parquet(Path(images) / "manifest.parquet")
    Path(to).mkdir(parents=True, exist_ok=True)
    for prompt_id, rows in manifest.groupby("prompt_id"):
        pictures = [Image.open(Path(images) / file).convert("RGB") for file in rows.sort_values("image")["file"]]
        width, height = pictures[0].size
        sheet = Image.new("RGB", (2 * width, 2 * height))
        for number, picture in enumerate(pictures):
            sheet.paste(picture, (number % 2 * width, number // 2 * height))
        sheet.save(Path(to) / f"{items[prompt_id]}.png")


if __name__ == "__main__":
    main(*sys.argv[1:])
