"""Pair source ``miniature_samples``: on-policy pairs, two samples of the base for each prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from miniature.pairs_renders import annotated, settings, split_scenes
from miniature.scenes import Scene

if TYPE_CHECKING:
    from sdpo.pairs import Pair

DEFAULTS: dict[str, float] = {
    "pairs": 2400,
    "heldout": 256,
    "seed": 0,
    "temperature": 0.05,
    "tie_below": 0.03,
    "steps": 10,
    "guidance_scale": 4.0,
}


def draw(
    base: Path, scenes: Sequence[Scene], *, key: str, steps: int, guidance_scale: float, model: Path | None = None
) -> NDArray[np.uint8]:
    """Samples of the base, or of a model trained from it, for the captions of some scenes.

    Args:
        base: folder of the base.
        scenes: N scenes.
        key: start noise derives from it and the scene's position.
        steps: sampling steps.
        guidance_scale: classifier-free guidance.
        model: folder of a trained model; ``None`` draws with the base itself.

    Returns:
        (N, 32, 32, 3) bytes.
    """
    from evals.sampling import SamplingSettings, sample_prompts
    from evals.text_to_image import Pipeline

    pipeline = Pipeline(base)
    images = sample_prompts(
        pipeline,
        pipeline.unet if model is None else pipeline.load_unet(model),
        pipeline.encode_prompts([scene.caption for scene in scenes]),
        [f"{key}-{i}" for i in range(len(scenes))],
        SamplingSettings(scheduler="dpm_solver", steps=steps, guidance_scale=guidance_scale),
    )
    return np.stack([np.asarray(image) for image in images])


def read(options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Yield the pairs.

    Args:
        options: any of :data:`DEFAULTS`: as in ``miniature_renders``, and the sampling ``steps`` and
            ``guidance_scale``.
        base_path: the base that is sampled.
    """
    chosen = settings("miniature_samples", options, DEFAULTS)
    rng = np.random.default_rng([18, int(chosen["seed"])])
    scenes = split_scenes(chosen, rng)
    first, second = (
        draw(
            base_path,
            scenes,
            key=f"samples-{int(chosen['seed'])}-{side}",
            steps=int(chosen["steps"]),
            guidance_scale=chosen["guidance_scale"],
        )
        for side in "ab"
    )
    yield from annotated(scenes, (first, second), chosen, rng)
