"""Images a second of ``evals generate`` against diffusers' pipeline called one prompt at a time.

    python benchmarks/generate.py [--base BASE | --shape narrow] [--prompts 32] [--steps 20] [--batch-size 8]
                                  [--dtype float32]

The base is a folder in diffusers' layout or a hub id with its revision. Without one a base with random weights is made,
with the shape of Stable Diffusion 1.5, of XL, or narrow for images of 128 pixels (random_pipelines.py). Both ways start
from the folder and end with PNG files, have the same start noise, sampler and guidance, and run in turns in one
process. Prints one JSON object. Fails if the two have not done the same work: in float32 if a value of a pixel differs
by more than 2 of 255; in half precision, in which the pipeline encodes, guides and decodes too and small differences
grow, if an image is nearer to another prompt's than to its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from random_pipelines import SHAPES, save

from artifacts import layout
from artifacts.contracts import write_table
from artifacts.device import take_device
from artifacts.hub import local_folder
from evals.generation.generate import generate
from evals.generation.pipelines.stable_diffusion import SCHEDULERS
from evals.generation.sampling import start_noise
from evals.generation.settings import SamplingSettings

LARGEST_DIFFERENCE = 2
"""Of 255, between images of both ways in float32."""

NARROW_RESOLUTION = 128

WORDS = "a an old red small wooden boat house cat tree under over beside the blue river at night in snow"


def random_base(folder: Path, name: str) -> Path:
    """A base with random weights."""
    shape = SHAPES[name]
    return save(folder, replace(shape, resolution=NARROW_RESOLUTION) if name == "narrow" else shape)


def plain(base: Path, out: Path, prompts: pd.DataFrame, settings: SamplingSettings, device: str) -> dict[str, float]:
    """The pipeline as its documentation shows it, one prompt after another."""
    import diffusers

    start, cpu = time.perf_counter(), time.process_time()
    index = json.loads((base / "model_index.json").read_text())
    # No part of what is compared, and not fetched with a base.
    left_out = {name: None for name in ("safety_checker", "feature_extractor", "image_encoder") if name in index}
    pipeline = diffusers.DiffusionPipeline.from_pretrained(base, torch_dtype=getattr(torch, settings.dtype), **left_out)
    pipeline = pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    kind = getattr(diffusers, SCHEDULERS[settings.scheduler])
    pipeline.scheduler = kind.from_pretrained(base, subfolder="scheduler")
    size = pipeline.unet.config.sample_size
    loaded = time.perf_counter()
    out.mkdir(parents=True)
    for row, (prompt_id, prompt) in enumerate(zip(prompts["prompt_id"], prompts["prompt"], strict=True)):
        noise = start_noise(settings, [prompt_id], (pipeline.unet.config.in_channels, size, size))
        image = pipeline(
            prompt,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance_scale,
            latents=noise.to(device, pipeline.unet.dtype),
        ).images[0]
        image.save(out / f"{row:05d}.png")
    done = time.perf_counter()
    return {"loading": loaded - start, "drawing": done - loaded, "plain_cpu": time.process_time() - cpu}


def ours(base: Path, root: Path, prompts: pd.DataFrame, settings: SamplingSettings) -> dict[str, float]:
    """The stage ``generate`` from the first line to the last: loading, encoding, drawing, writing, manifest."""
    write_table(layout.prompts(root, "bench"), prompts, "prompts")
    spec = {
        "root": str(root),
        "base": {"name": "bench", "family": "sd15", "path": str(base)},
        "models": ["bench/base"],
        "prompt_sets": ["bench"],
        "generation": settings.model_dump(),
        "threads": torch.get_num_threads(),
    }
    start, cpu = time.perf_counter(), time.process_time()
    generate(spec)
    return {"whole": time.perf_counter() - start, "ours_cpu": time.process_time() - cpu}


def pixels(folder: Path, count: int) -> np.ndarray[Any, Any]:
    """Images of a folder, (N, H, W, 3)."""
    return np.stack([np.asarray(Image.open(folder / f"{row:05d}.png"), dtype=int) for row in range(count)])


def compare(plain: np.ndarray[Any, Any], ours: np.ndarray[Any, Any], dtype: str) -> str:
    """What is wrong with the images of both ways, each (N, H, W, 3); empty if nothing is."""
    largest = int(np.abs(plain - ours).max())
    if dtype == "float32":
        return f"images differ by {largest} of 255" if largest > LARGEST_DIFFERENCE else ""
    distances = np.array([[np.abs(one - other).mean() for other in plain] for one in ours])
    wrong = [row for row, nearest in enumerate(distances.argmin(axis=1)) if nearest != row]
    return f"image {wrong[0]} is nearer to that of another prompt ({len(wrong)} in all)" if wrong else ""


def main() -> None:
    """Measure both ways in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="folder of a base in diffusers' layout, or hub id owner/name@commit")
    parser.add_argument("--shape", choices=[*SHAPES], default="narrow", help="of a base with random weights")
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = take_device()
    settings = SamplingSettings(
        scheduler="euler",
        steps=arguments.steps,
        guidance_scale=7.5,
        batch_size=arguments.batch_size,
        dtype=arguments.dtype,
    )
    generator = np.random.default_rng(0)
    texts = [
        " ".join(generator.choice(WORDS.split(), int(generator.integers(4, 16)))) for _ in range(arguments.prompts)
    ]
    ids = [f"bench-{row:05d}" for row in range(arguments.prompts)]
    prompts = pd.DataFrame({"prompt_id": ids, "prompt": texts, "category": "", "source": "random words"})
    rounds, problems = [], []
    with tempfile.TemporaryDirectory() as folder:
        base = local_folder(arguments.base) if arguments.base else random_base(Path(folder) / "base", arguments.shape)
        for number in range(arguments.repeats):
            root = Path(folder) / f"round{number}"
            theirs = plain(base, root / "plain", prompts, settings, device)
            mine = ours(base, root, prompts, settings)
            drawn = [pixels(at, len(ids)) for at in (root / "plain", layout.images(root, "bench/base", "bench"))]
            rounds.append({**theirs, **mine, "largest_difference": int(np.abs(drawn[0] - drawn[1]).max())})
            problems += filter(None, [compare(*drawn, settings.dtype)])
    name = torch.cuda.get_device_name(device) if device != "cpu" else f"cpu, {arguments.threads} threads"
    whole = [r["loading"] + r["drawing"] for r in rounds]
    print(
        json.dumps(
            {
                "device": name,
                "images": len(ids),
                "steps": settings.steps,
                "batch_size": settings.batch_size,
                "dtype": settings.dtype,
                "plain_images_per_second": len(ids) / statistics.median(whole),
                "plain_images_per_second_without_loading": len(ids) / statistics.median(r["drawing"] for r in rounds),
                "ours_images_per_second": len(ids) / statistics.median(r["whole"] for r in rounds),
                "ratio": statistics.median(a / r["whole"] for a, r in zip(whole, rounds, strict=True)),
                "ratio_to_plain_without_loading": statistics.median(r["drawing"] / r["whole"] for r in rounds),
                # What a machine that is shared with others leaves comparable, on the CPU.
                "ratio_of_cpu_time": statistics.median(r["plain_cpu"] / r["ours_cpu"] for r in rounds),
                "largest_pixel_difference": max(r["largest_difference"] for r in rounds),
                "rounds": rounds,
            },
            indent=2,
        )
    )
    if problems:
        sys.exit(f"error: the two ways have not done the same work: {problems[0]}")


if __name__ == "__main__":
    main()
