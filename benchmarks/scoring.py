"""Images a second of the five scorers together, against how they are usually called.

    python benchmarks/scoring.py [--images 480] [--rounds 2] [--workers N] [--threads 1]

Three ways, on the same images (1024 pixels, half PNG, half JPEG) and the same small random weights, in one run:

- ``readme``: ``hpsv2.score`` and ``ImageReward.score`` image by image as their READMEs show, and for the other three a
  loop over one image at a time as their published snippets have it;
- ``loops``: one loop a scorer, batches of 32, every image decoded again for each scorer;
- ``together``: ``evals score`` without a cache: one decoding in threads beside the models, shared by all scorers.

Prints one JSON object: images a second, medians of rounds in which the ways take turns (``readme`` on an eighth of the
images: its time an image does not depend on their number); ratios; milliseconds an image of decoding, resizing,
normalising and each model measured apart on one thread; and the memory that four times as many images take. Networks
are small, so decoding and resizing weigh more than with the real ones on a CPU and about as much as with the real ones
on a large GPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from small_scorers import OPEN_CLIP, save_all
from torch.nn.functional import normalize

from artifacts.image_decoding import decode
from evals.images.matching import PromptedImage
from evals.networks.interface import PixelScorer
from evals.scorers import create
from evals.scoring.folder_scores import score_folder

BATCH = 32
SIZE_PX = 1024


def write_images(folder: Path, count: int) -> list[PromptedImage]:
    """Images as detailed as photographs: smooth colours with some grain; PNG and JPEG in turn, a prompt each."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    images = []
    for index in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC), dtype=np.int16)
        grain = generator.integers(-4, 5, smooth.shape, dtype=np.int16)
        file = f"{index:05d}.{'jpg' if index % 2 else 'png'}"
        Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8)).save(folder / file)
        images.append(PromptedImage(file, f"a photo of a cat in picture {index}"))
    return images


Rate = Callable[[Image.Image, str], float]


def readme_ways(paths: dict[str, Path]) -> list[Rate]:
    """The packages called as by hand, the rest as in published snippets; models are loaded."""
    return [
        *(_package(name, paths[name]) for name in ("hpsv2", "imagereward")),
        _pickscore_snippet(paths["pickscore"]),
        _aesthetic_snippet(paths["aesthetic"]),
        _open_clip_snippet(paths["clip"]),
    ]


def readme(folder: Path, images: Sequence[PromptedImage], ways: Sequence[Rate]) -> None:
    """Score image by image."""
    with torch.no_grad():
        for rate in ways:
            for item in images:
                rate(Image.open(folder / item.file), item.prompt)


def _package(name: str, weights: Path) -> Rate:
    scorer = create(name, protocol="package", implementation="package", weights=weights)
    return lambda image, prompt: float(scorer.score([image], [prompt])[0])


def _pickscore_snippet(weights: Path) -> Rate:
    """The model card's code: a processor for images, a tokenizer for prompts, one pair at a time."""
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    model = CLIPModel.from_pretrained(str(weights)).eval()
    processor, tokenizer = CLIPImageProcessor.from_pretrained(str(weights)), AutoTokenizer.from_pretrained(str(weights))

    def rate(image: Image.Image, prompt: str) -> float:
        pixels = processor(images=image, return_tensors="pt")
        tokens = tokenizer(prompt, padding=True, truncation=True, max_length=77, return_tensors="pt")
        seen = normalize(model.get_image_features(**pixels).pooler_output, dim=-1)
        read = normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
        return float(model.logit_scale.exp() * (read @ seen.T))

    return rate


def _aesthetic_snippet(weights: Path) -> Rate:
    """As the author's script: CLIP's embedding of one image, normalised, through the head."""
    from safetensors.torch import load_file
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    from evals.networks.affine_head import AffineHead

    tower = CLIPVisionModelWithProjection.from_pretrained(str(weights / "clip")).eval()
    processor, head = CLIPImageProcessor(), AffineHead(768).eval()
    head.load_state_dict(load_file(weights / "head.safetensors"))

    def rate(image: Image.Image, prompt: str) -> float:
        pixels = processor(images=image, return_tensors="pt")
        return float(head(normalize(tower(**pixels).image_embeds, dim=-1)))

    return rate


def _open_clip_snippet(weights: Path) -> Rate:
    """As open_clip's README: its transform, its tokenizer, one image at a time."""
    import open_clip
    from safetensors.torch import load_file

    from evals.networks import open_clip_model

    model = open_clip_model.build(OPEN_CLIP).eval()
    model.load_state_dict(load_file(weights / "open_clip_model.safetensors"))
    transform, tokenizer = open_clip.image_transform(224, is_train=False), open_clip.SimpleTokenizer()

    def rate(image: Image.Image, prompt: str) -> float:
        seen = model.encode_image(transform(image)[None], normalize=True)
        read = model.encode_text(tokenizer([prompt]), normalize=True)
        return float(seen @ read.T)

    return rate


def loops(folder: Path, images: Sequence[PromptedImage], scorers: dict[str, PixelScorer]) -> dict[str, list[float]]:
    """Batches of 32 for one scorer after the other, each with a decoding of its own."""
    scores: dict[str, list[float]] = {name: [] for name in scorers}
    for name, scorer in scorers.items():
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            decoded = [Image.open(folder / item.file).convert("RGB") for item in batch]
            scores[name] += scorer.score(decoded, [item.prompt for item in batch]).tolist()
    return scores


def together(
    folder: Path, images: Sequence[PromptedImage], scorers: dict[str, PixelScorer], workers: int | None
) -> dict[str, list[float]]:
    """As ``evals score``."""
    protocols = dict.fromkeys(scorers, "sdpo")
    result = score_folder(scorers, protocols, folder, images, batch_size=BATCH, workers=workers, label=None)
    return {str(name): rows["score"].tolist() for name, rows in result.table.groupby("scorer", sort=False)}


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def apart(folder: Path, images: Sequence[PromptedImage], scorers: dict[str, PixelScorer]) -> dict[str, float]:
    """Milliseconds an image of each part on one thread."""
    part = list(images[:BATCH])
    contents = [(folder / item.file).read_bytes() for item in part]
    decoded: list[Image.Image] = []
    times = {"decode": seconds(lambda: decoded.extend(decode(content).image for content in contents))}
    preprocessing = next(iter(scorers.values())).preprocessing
    squares: list[torch.Tensor] = []
    times["resize"] = seconds(lambda: squares.append(preprocessing.squares(decoded)))
    pixels: list[torch.Tensor] = []
    times["normalise"] = seconds(lambda: pixels.append(preprocessing.normalise(squares[0])))
    for name, scorer in scorers.items():
        prompts = [item.prompt + "." for item in part]
        times[f"model {name}"] = seconds(lambda s=scorer, p=prompts: s.score_pixels(pixels[0], p))  # type: ignore[misc]
    return {name: round(1e3 * value / len(part), 2) for name, value in times.items()}


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Run the three ways in turn and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of the three ways; medians are compared")
    parser.add_argument("--workers", type=int, help="threads that decode (default: one a core)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch, for all three ways")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        paths = save_all(root / "weights")
        folder = root / "images"
        images = write_images(folder, chosen.images)
        scorers = fresh(paths)
        # One call each beforehand, so that nobody pays for first uses; prompts of its own, so that none is known.
        for scorer in scorers.values():
            scorer.score([Image.new("RGB", (SIZE_PX, SIZE_PX))], ["first"])
        ways, few = readme_ways(paths), images[: max(4, len(images) // 8)]
        readme(folder, few[:2], ways)
        times: dict[str, list[float]] = {"readme": [], "loops": [], "together": []}
        shared = together(folder, images, scorers, chosen.workers)
        for _ in range(chosen.rounds):
            # Scorers that know no prompt yet, loaded beforehand: what is compared is scoring.
            first, second = fresh(paths), fresh(paths)
            times["readme"].append(seconds(lambda: readme(folder, few, ways)) * len(images) / len(few))
            times["loops"].append(seconds(lambda: loops(folder, images, first)))  # noqa: B023
            times["together"].append(seconds(lambda: together(folder, images, second, chosen.workers)))  # noqa: B023
        single = loops(folder, images, scorers)
        deviation = max(float(np.abs(np.subtract(single[n], shared[n])).max()) for n in scorers)
        after_mb = peak_mb()
        together(folder, images * 4, scorers, chosen.workers)
        grown_mb = peak_mb() - after_mb
        rates = {n: len(images) / statistics.median(t) for n, t in times.items()}
        print(
            json.dumps(
                {
                    "images": len(images),
                    "threads": chosen.threads,
                    "images_per_second": {name: round(rate, 2) for name, rate in rates.items()},
                    "together_to_readme": round(rates["together"] / rates["readme"], 2),
                    "together_to_loops": round(rates["together"] / rates["loops"], 2),
                    "milliseconds_an_image_on_one_thread": apart(folder, images, scorers),
                    "largest_deviation_loops_to_together": deviation,
                    "memory_mb": {"peak": round(after_mb), "more_for_four_times_the_images": round(grown_mb, 1)},
                },
                indent=2,
            )
        )


def fresh(paths: dict[str, Path]) -> dict[str, PixelScorer]:
    """Scorers that know no prompt yet."""
    scorers = {name: create(name, weights=path, batch_size=BATCH) for name, path in paths.items()}
    return {name: scorer for name, scorer in scorers.items() if isinstance(scorer, PixelScorer)}


if __name__ == "__main__":
    main()
