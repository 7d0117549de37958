"""Pair source ``miniature_samples``: on-policy pairs, two samples of the base for each prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sdpo.pairs.reading.options import parse
from worlds.miniature.pairs_renders import PairOptions, annotated
from worlds.miniature.scenes import Scene, shown_scenes

if TYPE_CHECKING:
    from sdpo.pairs import Pair


class Options(PairOptions):
    """Options of the base's own samples."""

    steps: int = Field(default=10, ge=1, description="Sampling steps.")
    guidance_scale: float = Field(default=4.0, ge=0, description="Classifier-free guidance.")


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
    from evals.generation.pipelines import open_pipeline
    from evals.generation.sampling import sample_prompts
    from evals.generation.settings import SamplingSettings

    pipeline = open_pipeline(base)
    images = sample_prompts(
        pipeline,
        pipeline.denoiser if model is None else pipeline.load_denoiser(model),
        pipeline.encode_prompts([scene.caption for scene in scenes]),
        [f"{key}-{i}" for i in range(len(scenes))],
        SamplingSettings(
            scheduler="euler" if pipeline.prediction_type == "flow" else "dpm_solver",
            steps=steps,
            guidance_scale=guidance_scale,
        ),
    )
    return np.stack([np.asarray(image) for image in images])


def read(options: Mapping[str, Any], *, base_path: Path) -> Iterator[Pair]:
    """Yield the pairs.

    Args:
        options: of :class:`Options`.
        base_path: the base that is sampled.

    Raises:
        InputError: wrong options.
    """
    chosen = parse("miniature_samples", Options, options)
    rng = np.random.default_rng([18, chosen.seed])
    scenes = shown_scenes(chosen.pairs - chosen.heldout, chosen.heldout, rng)
    first, second = (
        draw(
            base_path,
            scenes,
            key=f"samples-{chosen.seed}-{side}",
            steps=chosen.steps,
            guidance_scale=chosen.guidance_scale,
        )
        for side in "ab"
    )
    yield from annotated(scenes, (first, second), chosen, rng)
