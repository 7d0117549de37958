"""What a training step costs beside the denoiser, with the cache and without, and how much memory it takes.

    python benchmarks/train_step.py [--shape narrow] [--steps 6] [--batch-size 16] [--micro-batch-size 4]
                                    [--ways full lora …] [--set KEY=VALUE …]

The base has random weights: a Stable Diffusion 1.5 with every width a fifth, or one of the published bases' shapes
(benchmarks/random_pipelines.py). Steps that read the cache alternate in one process with steps that do what published
training scripts do for every pair: decode two JPEG files, resize, crop and mirror them, encode both by the autoencoder
and the prompt by the text encoder. Published scripts decode in processes beside the training, so the ratio is given
without the decoding too. Memory is measured for each way to train, on the CPU in a process of its own. On a GPU
everything is measured there: give `--shape sd15 --set precision=bfloat16`.

Prints one JSON object; medians over steps, times in milliseconds, memory in megabytes.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from random_pipelines import SHAPES, Shape, save, save_pairs

from artifacts.device import device_name
from sdpo import objectives
from sdpo.bases import open_described
from sdpo.diffusion.latents import Latents
from sdpo.pairs import cache
from sdpo.pairs.cache import EncodingSettings, Side
from sdpo.pairs.cache.images import mirrored as mirror_image
from sdpo.pairs.cache.images import prepared
from sdpo.training import precision
from sdpo.training.drawing import Drawn
from sdpo.training.heldout_drift import HeldoutProbe
from sdpo.training.job import TrainingRun, TrainingSettings

HELDOUT = 1
WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "full, gradient checkpointing": {"gradient_checkpointing": True},
    "lora": {"lora": {"rank": 16}},
    "lora, gradient checkpointing": {"lora": {"rank": 16}, "gradient_checkpointing": True},
    "full, adafactor, gradient checkpointing": {"optimizer": "adafactor", "gradient_checkpointing": True},
}
GUARD = {"mu": 0.9, "granularity": "microbatch"}


class JpegFiles:
    """Images and prompts encoded anew whenever a step asks for them."""

    def __init__(
        self, files: Mapping[int, Path], base: Any, prompts: Mapping[int, str], resolution: int, watch: Watch
    ) -> None:
        self.files, self.base, self.prompt_texts, self.watch = files, base, prompts, watch
        self.settings = EncodingSettings(resolution=resolution)

    def images(self, rows: torch.Tensor, mirrored: torch.Tensor | None) -> Side:
        """Posteriors of images, (N,)."""
        began = self.watch.now()
        found, sizes = [], []
        flips = [False] * len(rows) if mirrored is None else mirrored.tolist()
        for row, flip in zip(rows.tolist(), flips, strict=True):
            one = prepared(Image.open(self.files[row]), self.settings)
            found.append(mirror_image(one.image) if flip else one.image)
            sizes.append(one.sizes)
        self.watch.add("decoding", self.watch.now() - began)
        # In batches of one micro-batch, as the published scripts do.
        parts = [self.base.encode_images(found[i : i + 8]).cpu() for i in range(0, len(found), 8)]
        return Side(Latents.joined(parts), torch.tensor(sizes))

    def prompts(self, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Conditions of prompts, (N,)."""
        found = self.base.encode_prompts([self.prompt_texts[i] for i in rows.tolist()])
        return {name: x.cpu() for name, x in found.items()}


@dataclass
class Watch:
    """Seconds spent in the denoisers' forward and backward passes, and in other parts of a step."""

    device: str
    seconds: dict[str, float] = field(default_factory=dict)

    def now(self) -> float:
        """The time when all that was started has finished."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter()

    def add(self, part: str, seconds: float) -> None:
        """Count some seconds."""
        self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Time a method."""
        method = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            began = self.now()
            result = method(*arguments, **options)
            self.add(part, self.now() - began)
            return result

        setattr(owner, name, timed)

    @contextmanager
    def backward_passes(self, denoiser: torch.nn.Module) -> Iterator[None]:
        """Time backward from the moment the gradient reaches the denoiser's output; what is before is the loss's."""
        started: list[float] = []
        backward = torch.Tensor.backward

        def hook(module: Any, given: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if first.requires_grad:
                first.register_hook(lambda grad: started.append(self.now()))

        def timed(tensor: torch.Tensor, *arguments: Any, **options: Any) -> None:
            started.clear()
            backward(tensor, *arguments, **options)  # type: ignore[no-untyped-call]
            self.add("denoiser", self.now() - started[0])

        handle = denoiser.register_forward_hook(hook)
        torch.Tensor.backward = timed  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            torch.Tensor.backward = backward  # type: ignore[method-assign]
            handle.remove()


def training_run(work: Path, chosen: argparse.Namespace, **settings: Any) -> tuple[TrainingRun, str]:
    """A training that is ready for its first step, and its device."""
    defaults: dict[str, Any] = {
        "steps": 10**6,
        "batch_size": chosen.batch_size,
        "micro_batch_size": chosen.micro_batch_size,
        "learning_rate": 1e-5,
        "warmup_steps": 0,
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "empty_prompt_share": 0.2,
        "log_every": 1,
        "checkpoint_every": 10**6,
        "drift_every": 10**6,
        "heldout_pairs": 1,
    }
    given = TrainingSettings(**{**defaults, **dict(chosen.set), **settings})
    device = precision.find_device(given.device)
    family = SHAPES[chosen.shape].family
    described = {"family": family, "path": str(work / "base")}
    base = open_described(described, device=device, encoder_dtype=chosen.encoder_dtype)
    probe = HeldoutProbe(base, cache.load(work / "cache", "heldout"), 1, precision=precision.create(given, device))
    objective = objectives.create("diffusion_dpo", beta=2000.0, safeguard=GUARD)
    pairs = cache.load(work / "cache", "train")
    return TrainingRun(base, objective, given, pairs, probe, 0, label="benchmark", device=device), device


def measured_steps(work: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Times of steps with the cache and without, in turn."""
    import pandas as pd

    run, device = training_run(work, chosen)
    index = pd.read_parquet(work / "cache" / "index.parquet").to_dict("records")
    listed = [json.loads(line) for line in (work / "images" / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    by_prompt = {row["prompt"]: row for row in listed}
    files = {
        row[f"{side}_image"]: work / "images" / by_prompt[row["prompt"]][side]
        for row in index
        for side in ("winner", "loser")
    }
    prompts = {0: ""} | {row["prompt_index"]: row["prompt"] for row in index}
    watch = Watch(device)
    anew = JpegFiles(files, run.base, prompts, SHAPES[chosen.shape].resolution, watch)
    sources = {"cached": run.pairs, "uncached": replace(run.pairs, source=anew)}
    _same_latents(sources, run, 1e-3 if chosen.encoder_dtype == "float32" else 0.1)
    watch.wrap(run.gradients.precision.__class__, "predict", "denoiser")
    watch.wrap(run.optimizer, "step", "optimizer")
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in sources}
    with watch.backward_passes(run.policy.denoiser):
        for step in range(1, chosen.steps + 2):
            for name in sources if step % 2 else list(sources)[::-1]:
                run.pairs, run.step = sources[name], step - 1
                watch.seconds = {}
                began = watch.now()
                drawn: list[Drawn] = run.drawn(step)
                watch.add("data", watch.now() - began)
                run.take_step(drawn, work)
                rows[name].append({**watch.seconds, "step": watch.now() - began})
                say({"step": step, "pairs": name, "seconds": rows[name][-1]})
    result = {}
    for name, found in rows.items():
        # The first step of each allocates.
        parts = {key: 1e3 * statistics.median(row[key] for row in found[1:]) for key in found[0]}
        parts["rest"] = parts["step"] - sum(parts[key] for key in ("denoiser", "optimizer", "data"))
        result[name] = {f"{key}_ms": value for key, value in parts.items()} | {
            "share_outside_denoiser": statistics.median(1 - row["denoiser"] / row["step"] for row in found[1:]),
            "data_share": statistics.median(row["data"] / row["step"] for row in found[1:]),
            "pairs_per_second": 1e3 * chosen.batch_size / parts["step"],
        }
    both = list(zip(rows["cached"][1:], rows["uncached"][1:], strict=True))
    size = sum(p.numel() for p in run.policy.denoiser.parameters())
    return {
        "device": device_name(device),
        "denoiser_parameters": size,
        **result,
        "uncached_over_cached": statistics.median(b["step"] / a["step"] for a, b in both),
        "uncached_without_decoding_over_cached": statistics.median(
            (b["step"] - b["decoding"]) / a["step"] for a, b in both
        ),
    }


def _same_latents(sources: dict[str, Any], run: TrainingRun, tolerance: float) -> None:
    """Both ways have to give the same tensors, or they are not compared."""
    drawn: list[Drawn] = []
    for pairs in sources.values():
        run.pairs = pairs
        drawn += run.drawn(1)
    for name in ("winner", "loser"):
        torch.testing.assert_close(getattr(drawn[0], name), getattr(drawn[1], name), rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(*(x.winner_conditions["text"] for x in drawn), rtol=tolerance, atol=tolerance)


def peak_memory_bytes(device: str) -> int:
    """As the trainer's, but on the CPU without what the parent had before this process was started."""
    if device != "cpu":
        return precision.peak_memory_bytes(device)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def measured_memory(work: Path, chosen: argparse.Namespace, way: str) -> dict[str, Any]:
    """Peak memory of a training's first three steps, and what the process had before."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    before = peak_memory_bytes("cuda" if on_gpu else "cpu")
    try:
        run, device = training_run(work, chosen, **WAYS[way])
        for step in (1, 2, 3):
            began = time.perf_counter()
            run.take_step(run.drawn(step), work)
    except torch.OutOfMemoryError as error:
        return {"out_of_memory": str(error).partition(". ")[0]}
    return {
        "peak_mb": peak_memory_bytes(device) / 1e6,
        "before_mb": before / 1e6,
        "step_ms": 1e3 * (time.perf_counter() - began),
        "trained_parameters": sum(p.numel() for p in run.policy.trained),
    }


def in_a_process(work: Path, way: str) -> dict[str, Any]:
    """The same in a process of its own: the peak of this one would be the largest of all."""
    command = [sys.executable, *sys.argv, "--memory", way, "--work", str(work)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def build(work: Path, shape: Shape, pairs: int, encoder_dtype: str) -> None:
    """Base, images and cache."""
    save(work / "base", shape)
    save_pairs(work / "images", shape, pairs, HELDOUT)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cache.build(
        {
            "stage_version": 1,
            "dataset": "random",
            "source": "folder",
            "options": {"path": str(work / "images")},
            "encoding": {
                "resolution": shape.resolution,
                "flips": True,
                "device": device,
                "encoder_dtype": encoder_dtype,
            },
            "base": {"name": "random", "family": shape.family, "path": str(work / "base")},
            "out": str(work / "cache"),
        }
    )


def say(found: dict[str, Any]) -> None:
    """Show what has been measured so far: the whole takes minutes."""
    print(json.dumps(found), file=sys.stderr, flush=True)


def _setting(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="narrow")
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--encoder-dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--micro-batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", type=_setting, action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--ways", choices=list(WAYS), nargs="*", default=list(WAYS)[:4], help="to measure memory of")
    parser.add_argument("--memory", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.memory:
        print(json.dumps(measured_memory(chosen.work, chosen, chosen.memory)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        build(work, SHAPES[chosen.shape], chosen.pairs, chosen.encoder_dtype)
        result = measured_steps(work, chosen)
        say({key: value for key, value in result.items() if key != "device"})
        memory = {}
        for way in chosen.ways:
            memory[way] = measured_memory(work, chosen, way) if torch.cuda.is_available() else in_a_process(work, way)
            say({way: memory[way]})
    about = {
        "shape": chosen.shape,
        "torch": torch.__version__,
        "threads": chosen.threads,
        "batch_size": chosen.batch_size,
        "micro_batch_size": chosen.micro_batch_size,
        "settings": dict(chosen.set),
    }
    print(json.dumps({**about, **result, "memory": memory}, indent=2))


if __name__ == "__main__":
    main()
