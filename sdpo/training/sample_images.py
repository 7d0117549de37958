"""Images of a model in training, to look at: a few held-out prompts, always from the same noise.

A deterministic sampler of the first order (DDIM, arXiv 2010.02502; for flows Euler's method) with guidance, written in
terms of α and σ, so that it serves every base. Numbers are never taken from these images: evaluation draws its own.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.atomic import write_bytes
from artifacts.errors import InputError
from artifacts.random_streams import stream
from families.conditions import Conditions, moved
from sdpo.training.drawing import SAMPLE

if TYPE_CHECKING:
    import torch

    from sdpo.bases import Base
    from sdpo.pairs.cache import Pairs
    from sdpo.training.precision import Precision

STEPS = 25


def sample(
    base: Base,
    denoiser: torch.nn.Module,
    precision: Precision,
    noise: torch.Tensor,
    conditions: Conditions,
    unconditional: Conditions | None,
    guidance: float,
) -> torch.Tensor:
    """Latents (N, C, H, W) that the denoiser makes of noise, in :data:`STEPS` steps; ``None`` is without guidance."""
    import torch

    from sdpo.diffusion.noising import predicted_sample

    timesteps = base.spread_timesteps(STEPS).flip(0).to(noise.device)
    alphas, sigmas = base.coefficients(timesteps)
    latents = noise
    with torch.no_grad():
        for i, timestep in enumerate(timesteps):
            now = timestep.repeat(len(noise))
            predicted = precision.predict(base, denoiser, latents, now, conditions)
            if unconditional is not None:
                plain = precision.predict(base, denoiser, latents, now, unconditional)
                predicted = plain + guidance * (predicted - plain)
            alpha, sigma = alphas[i].repeat(len(noise)), sigmas[i].repeat(len(noise))
            clean = predicted_sample(base.parametrisation, predicted, latents, alpha, sigma)
            if i + 1 == STEPS:
                return clean
            rest = (latents - alphas[i] * clean) / sigmas[i]
            latents = alphas[i + 1] * clean + sigmas[i + 1] * rest
    return latents


@dataclass(frozen=True)
class _Part:
    """Images of one shape: their numbers, and what they are drawn from."""

    numbers: list[int]
    noise: torch.Tensor
    conditions: Conditions
    unconditional: Conditions | None


class SampleImages:
    """Draws the images of one run into ``step-…/00.png`` …

    Args:
        base: has to have ``decode_latents``.
        pairs: of the held-out split; a sample of its prompts is drawn, the same for every model of a pair set.
        count: prompts, at most.
        guidance: scale of guidance; at 1 the empty prompt is not asked.
        precision: in which the denoiser computes.
        folder: of the images; ``None`` in a process that only computes with the one that writes them.

    Raises:
        InputError: the base cannot decode latents.
    """

    def __init__(
        self, base: Base, pairs: Pairs, count: int, guidance: float, precision: Precision, folder: Path | None
    ) -> None:
        import torch

        if not hasattr(base, "decode_latents"):
            raise InputError(
                "training.sample_every: this base family cannot turn latents into images (decode_latents); "
                "set training.sample_every to 0"
            )
        self.base, self.guidance, self.precision, self.folder = base, guidance, precision, folder
        first: dict[int, int] = {}
        for row, prompt in enumerate(pairs.prompt_index.tolist()):
            first.setdefault(prompt, row)
        # A sample, since sources keep their own order: the first prompts may be all of one kind.
        chosen = torch.randperm(len(first), generator=stream(SAMPLE, 1))[:count].sort().values
        rows = torch.tensor(list(first.values()))[chosen]
        self.parts: list[_Part] = []
        for shape, places in pairs.by_shape(rows):
            own = rows[places]
            side, everywhere = pairs.winners(own), torch.ones(len(own), dtype=torch.bool)
            sizes, device = base.image_conditions(side.sizes), precision.device
            conditions = moved({**pairs.prompts(own), **sizes}, device)
            unconditional = None if guidance == 1 else moved({**pairs.prompts(own, everywhere), **sizes}, device)
            noise = torch.randn(side.latents.mean.shape, generator=stream(SAMPLE, 0, shape)).to(device)
            self.parts.append(_Part(places.tolist(), noise, conditions, unconditional))

    def draw(self, denoiser: torch.nn.Module, step: int) -> None:
        """Draw and write the images of the model after ``step`` steps.

        Raises:
            InputError: latents or pixels are not finite.
        """
        for part in self.parts:
            asked = part.noise, part.conditions, part.unconditional, self.guidance
            self._write(part.numbers, sample(self.base, denoiser, self.precision, *asked), step)

    def _write(self, numbers: Sequence[int], latents: torch.Tensor, step: int) -> None:
        if self.folder is None:
            return
        if not (finite := latents.flatten(1).isfinite().all(1)).all():
            raise InputError(
                f"{self.folder}: sample images after step {step}: latents of the prompt of number "
                f"{numbers[int(finite.long().argmin())]} are not finite; the training has failed, or its precision is "
                "too narrow"
            )
        for number, image in zip(numbers, self.base.decode_latents(latents), strict=True):
            file = io.BytesIO()
            image.save(file, "PNG")
            write_bytes(self.folder / _folder(step) / f"{number:02d}.png", file.getvalue())

    def copy(self, target: Path, *, until: int) -> None:
        """Copy the images of all steps up to one."""
        assert self.folder is not None
        for drawn in sorted(self.folder.glob("step-*")):
            if drawn.name <= _folder(until):
                shutil.copytree(drawn, target / drawn.name)


def _folder(step: int) -> str:
    return f"step-{step:08d}"
