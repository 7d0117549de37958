from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from artifacts import layout
from artifacts.errors import InputError
from sdpo.bases import open_described
from sdpo.diffusion.noising import Parametrisation, predicted_sample
from sdpo.pairs import cache
from sdpo.training.job import train
from sdpo.training.precision import Precision
from sdpo.training.sample_images import STEPS, SampleImages, sample

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]


class Oracle:
    """A base whose denoiser knows the clean latents: any sampler that is right finds them."""

    def __init__(self, parametrisation: Parametrisation) -> None:
        self.parametrisation = parametrisation
        self.clean = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
        self.seen: list[float] = []

    def spread_timesteps(self, count: int) -> torch.Tensor:
        return (torch.arange(count) + 0.5) / count

    def coefficients(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flow = self.parametrisation == "flow"
        return (1 - timesteps, timesteps) if flow else ((1 - timesteps**2).sqrt(), timesteps)

    def predict(self, denoiser: Any, noisy: torch.Tensor, timesteps: torch.Tensor, conditions: Any) -> torch.Tensor:
        self.seen.append(float(timesteps[0]))
        alpha, sigma = (c[:, None, None, None] for c in self.coefficients(timesteps))
        noise = (noisy - alpha * self.clean) / sigma
        if self.parametrisation == "epsilon":
            return noise
        return noise - self.clean if self.parametrisation == "flow" else alpha * noise - sigma * self.clean


@pytest.mark.parametrize("parametrisation", ["epsilon", "v_prediction", "flow"])
def test_sampler_finds_what_the_denoiser_knows(parametrisation: Parametrisation) -> None:
    oracle: Any = Oracle(parametrisation)
    noise = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    found = sample(oracle, torch.nn.Identity(), Precision(), noise, {}, {}, 7.5)
    torch.testing.assert_close(found, oracle.clean, rtol=1e-4, atol=1e-4)
    # Twice a step, with and without the prompt, from the noisiest on.
    assert len(oracle.seen) == 2 * STEPS
    assert oracle.seen == sorted(oracle.seen, reverse=True)


@pytest.mark.parametrize(("guidance", "scale", "asked"), [(3.0, 4.0, 2), (1.0, 2.0, 1)])
def test_guidance_goes_past_the_prompt(guidance: float, scale: float, asked: int) -> None:
    """A prompt whose clean latents are twice those of the empty one: u + g (2u - u) for guidance g."""

    class Prompted(Oracle):
        def predict(self, denoiser: Any, noisy: torch.Tensor, timesteps: torch.Tensor, conditions: Any) -> torch.Tensor:
            kept, self.clean = self.clean, conditions["times"] * self.clean
            found = super().predict(denoiser, noisy, timesteps, conditions)
            self.clean = kept
            return found

    oracle: Any = Prompted("epsilon")
    noise = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    empty = None if guidance == 1 else {"times": torch.tensor(1.0)}
    found = sample(oracle, torch.nn.Identity(), Precision(), noise, {"times": torch.tensor(2.0)}, empty, guidance)
    torch.testing.assert_close(found, scale * oracle.clean, rtol=1e-4, atol=1e-4)
    assert len(oracle.seen) == asked * STEPS


def test_clean_latents_from_each_kind_of_prediction() -> None:
    x0, noise = torch.tensor([[2.0]]), torch.tensor([[-1.0]])
    alpha, sigma = torch.tensor([0.6]), torch.tensor([0.8])
    noisy = 0.6 * x0 + 0.8 * noise
    assert float(predicted_sample("epsilon", noise, noisy, alpha, sigma)) == pytest.approx(2.0)
    assert float(predicted_sample("v_prediction", 0.6 * noise - 0.8 * x0, noisy, alpha, sigma)) == pytest.approx(2.0)
    alpha, sigma = torch.tensor([0.25]), torch.tensor([0.75])
    assert float(predicted_sample("flow", noise - x0, 0.25 * x0 + 0.75 * noise, alpha, sigma)) == pytest.approx(2.0)


def test_images_of_the_way_lie_beside_the_model(tiny_world: World, tiny_job: Job) -> None:
    job = tiny_job(tiny_world, sample_every=2, sample_prompts=2, steps=3, learning_rate=1e-2)
    train(job)
    folder = layout.model(job["root"], "tiny/variant/seed0") / "samples"
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.png"))]
    assert names == [f"step-0000000{step}/0{i}.png" for step in (2, 3) for i in (0, 1)]
    pixels = [np.asarray(Image.open(folder / name)) for name in names]
    assert {image.shape for image in pixels} == {(32, 32, 3)}
    # Another prompt and another model are other images.
    assert not np.array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])


def test_sampling_changes_nothing_else(tiny_sd15_world: World, tiny_job: Job) -> None:
    from artifacts.atomic import file_sha256

    jobs = [tiny_job(tiny_sd15_world, root=f"every{n}", sample_every=n, ema_decay=0.5) for n in (0, 1)]
    digests = []
    for job in jobs:
        train(job)
        folder = layout.model(job["root"], "tiny/variant/seed0")
        digests.append(file_sha256(folder / "unet" / "diffusion_pytorch_model.safetensors"))
    assert digests[0] == digests[1]


def test_decoding_is_the_inverse_of_the_latents_scale(tiny_sd15_world: World) -> None:
    """As the pipeline does it: the decoder gets the latents divided by the scaling factor."""
    base: Any = open_described(tiny_sd15_world[0])
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        decoded = base.autoencoder.module.decode(latents / 0.18215).sample
    expected = ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    found = np.stack([np.asarray(image) for image in base.decode_latents(latents)])
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_family_that_cannot_decode_is_refused(tiny_sd15_world: World) -> None:
    base: Any = object()
    pairs = cache.load(tiny_sd15_world[1], "heldout")
    with pytest.raises(
        InputError, match=r"training.sample_every: this base family cannot .* set training.sample_every to 0"
    ):
        SampleImages(base, pairs, 2, 7.5, Precision(), Path("nowhere"))
