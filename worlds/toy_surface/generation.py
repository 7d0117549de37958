"""Generation for the family ``toy_surface``: clouds drawn by Euler steps from noise to data.

The start noise of a cloud derives from its prompt's identifier and is the same for every model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.contracts import read_table
from artifacts.errors import InputError
from artifacts.progress import progress
from artifacts.provenance import describe
from evals.generation.sampling import noise_seed
from evals.generation.settings import SamplingSettings
from evals.images.folder import write_images

if TYPE_CHECKING:
    from torch import Tensor


def generate(spec: Mapping[str, Any]) -> None:
    """Draw clouds; the spec is that of ``evals generate``.

    ``steps``, ``seed`` and ``protocol`` of the generation count. The untrained base draws cloud i with pretrained
    model i mod K.

    Raises:
        InputError: another scheduler than ``euler``, guidance other than 1, another dtype than float32, or a missing
            or damaged model or prompt set.
    """
    import torch

    from worlds.toy_surface.base import SurfaceBase
    from worlds.toy_surface.clouds import CLOUD_POINTS, picture

    torch.set_num_threads(spec.get("threads", 1))
    settings = SamplingSettings(**spec["generation"])
    for key, expected in (("scheduler", "euler"), ("guidance_scale", 1.0), ("dtype", "float32"), ("size", None)):
        if (value := getattr(settings, key)) != expected:
            raise InputError(f"generation.{key} is {value!r}, expected {expected!r} for family 'toy_surface'")
    base = SurfaceBase(Path(spec["base"]["path"]))
    tables = {name: read_table(layout.prompts(spec["root"], name), "prompts") for name in spec["prompt_sets"]}
    tasks = [(model, name) for model in spec["models"] for name in tables]
    for model, name in progress(tasks, label="generate", unit="folder"):
        started = time.time()
        is_base = model == layout.base_model_name(spec["base"]["name"])
        rows = base.parameters if is_base else _trained(layout.model(spec["root"], model), base)
        clouds = []
        for index, prompt_id in enumerate(tables[name]["prompt_id"].tolist()):
            generator = torch.Generator().manual_seed(noise_seed(settings, prompt_id))
            noise = torch.randn(CLOUD_POINTS, 3, generator=generator)
            clouds.append(picture(draw(rows[index % len(rows)], base.sizes, noise, settings.steps).numpy()))
        shaping = {"generation": spec["generation"], "model": model, "prompt_set": name}
        provenance = describe(stage="generate", spec=shaping, inputs={}, started=started, device="cpu")
        seeds = [noise_seed(settings, prompt_id) for prompt_id in tables[name]["prompt_id"]]
        write_images(layout.images(spec["root"], model, name), tables[name], clouds, seeds, provenance)


def draw(model: Tensor, sizes: Sequence[int], noise: Tensor, steps: int) -> Tensor:
    """Points (N, 3) from noise (N, 3): ``steps`` equal Euler steps of dx/dt = v from t = 1 (noise) to t = 0 (data).

    Args:
        model: parameters, (P,).
        sizes: of its layers.
        noise: where the points start.
        steps: at least 1.
    """
    import torch

    from worlds.toy_surface.mlp_stack import predict

    inputs = torch.cat([noise.T, torch.ones(1, len(noise), dtype=noise.dtype)])
    with torch.inference_mode():
        for step in range(steps):
            inputs[3] = 1.0 - step / steps
            inputs[:3] -= predict(model[None], inputs[None], sizes)[0] / steps
    return inputs[:3].T


def _trained(folder: Path, base: Any) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from worlds.toy_surface.base import WEIGHTS

    try:
        parameters: Tensor = load_file(folder / WEIGHTS)["parameters"]
    except (OSError, KeyError, SafetensorError) as error:
        raise InputError(f"{folder / WEIGHTS}: missing or damaged; train the model again") from error
    if parameters.shape != base.parameters.shape[1:]:
        raise InputError(f"{folder / WEIGHTS}: shape {tuple(parameters.shape)} is not that of the base's models")
    return parameters[None]
