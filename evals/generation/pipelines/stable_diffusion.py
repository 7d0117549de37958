"""Bases shaped like Stable Diffusion 1.x, 2.x and XL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.errors import InputError
from evals.generation.pipelines.interface import Pipeline
from families.conditions import Conditions
from families.prompt_tokens import check_tokenizer, token_ids

if TYPE_CHECKING:
    import torch

    from evals.generation.settings import SamplingSettings

ENCODED_AT_ONCE = 256
"""Prompts a pass of the text encoder; an eighth of it where all hidden states are kept."""
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm_solver": "DPMSolverMultistepScheduler",
}
EARLIEST = 0.8
"""Of the first timestep of evenly spaced steps, where a sampler has to begin; those of common numbers begin later."""


class StableDiffusion(Pipeline):
    """A base of one or two CLIP text encoders and a U-Net."""

    DENOISER: ClassVar[str] = "unet"
    SHAPE: ClassVar[str] = "a base shaped like Stable Diffusion 1.x, 2.x or XL"

    def _check(self) -> None:
        self._check_index()
        added = self.denoiser_config.get("addition_embed_type")
        # "text" pools the embeddings that the denoiser has anyway.
        if added not in (("text_time",) if self.two_encoders else (None, "text")):
            raise InputError(
                f"{self.path / 'unet' / 'config.json'}: addition_embed_type is {added!r}, which does not go with "
                f"{'two text encoders' if self.two_encoders else 'one text encoder'}; expected {self.SHAPE}"
            )
        self.folder.check_denoiser(self.autoencoder.path)
        _ = self.prediction_type

    @property
    def prediction_type(self) -> str:
        """What the denoiser predicts: ``epsilon`` or ``v_prediction``."""
        return self.folder.prediction_type

    @property
    def two_encoders(self) -> bool:
        """Whether the base is shaped like SDXL."""
        return "text_encoder_2" in self.index

    @property
    def text_depends_on_size(self) -> bool:
        """SDXL is told the size."""
        return self.two_encoders

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders that the base has."""
        second = ("tokenizer_2", "text_encoder_2") if "text_encoder_2" in self.index else ()
        return ("tokenizer", "text_encoder", *second, "vae", "scheduler", "unet")

    @property
    def denoiser_class(self) -> Any:
        """U-Net."""
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel

    @cached_property
    def tokenizers(self) -> list[Any]:
        """One tokenizer, or SDXL's two."""
        return [self._part(name) for name in ("tokenizer", "tokenizer_2")[: 1 + self.two_encoders]]

    @cached_property
    def text_encoders(self) -> list[Any]:
        """One text encoder, or SDXL's two."""
        names = ("text_encoder", "text_encoder_2")[: 1 + self.two_encoders]
        encoders = [self._part(name, torch_dtype=self.text_dtype) for name in names]
        self.folder.check_text_width(names)
        for name, tokenizer, encoder in zip(("tokenizer", "tokenizer_2"), self.tokenizers, encoders, strict=False):
            check_tokenizer(tokenizer, encoder, self.path / name)
        return encoders

    def forget_text_encoders(self) -> None:
        """Free their memory; they are loaded again if another prompt is encoded."""
        self.__dict__.pop("text_encoders", None)

    @cached_property
    def scheduler(self) -> Any:
        """The base's own scheduler: noise schedule and prediction type.

        ``StableDiffusionPipeline`` sets two values itself, whatever the configuration says; that of SDXL does not. No
        latents are clipped because a configuration is silent: DDIM's own default is for pixels.
        """
        scheduler = self._part("scheduler")
        left_out = scheduler.config.get("_use_default_values", ())
        clips = self.two_encoders and "clip_sample" not in left_out and scheduler.config.get("clip_sample", False)
        own = {"clip_sample": clips, **({} if self.two_encoders else {"steps_offset": 1})}
        # Values that a configuration leaves out would be the defaults of the sampler made from it.
        scheduler.register_to_config(**own, _use_default_values=[key for key in left_out if key not in own])
        return scheduler

    def sampler(self, settings: SamplingSettings) -> Any:
        """The scheduler of this name, with the base's own noise schedule.

        Raises:
            InputError: it would draw noise of its own at each step, or does not run through the schedule in so many.
        """
        import diffusers

        kind = str(self.scheduler.config.get("algorithm_type"))
        if settings.scheduler == "dpm_solver" and kind.startswith("sde"):
            raise InputError(
                f"{self.path / 'scheduler' / 'scheduler_config.json'}: algorithm_type is {kind!r}, which draws noise "
                "of its own at each step; expected dpmsolver++ there, or generation.scheduler: ddim or euler"
            )
        made = getattr(diffusers, SCHEDULERS[settings.scheduler]).from_config(self.scheduler.config)
        if settings.steps <= made.config.num_train_timesteps:
            made.set_timesteps(settings.steps, device=self.device)
        _check_timesteps(made, settings, self.path)
        return made

    def predict(self, denoiser: Any, latents: torch.Tensor, timestep: torch.Tensor, conditions: Conditions) -> Any:
        """ε or v, (B, C, H, W)."""
        added: dict[str, Any] = {}
        if self.two_encoders:
            both = {"text_embeds": conditions["pooled"], "time_ids": conditions["time_ids"]}
            added = {"added_cond_kwargs": both}
        return denoiser(latents, timestep, encoder_hidden_states=conditions["text"], **added).sample

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Conditions of N prompts, padded and cut to the tokenizers' lengths; on the CPU, since many take gigabytes.

        One encoder gives its last hidden state after the final norm. Of two, the state before the last layer is
        taken from both, without the norm, and the projected embedding from the second (SDXL, 2307.01952, §2).
        """
        import torch

        parts: list[list[torch.Tensor]] = []
        pooled: list[torch.Tensor] = []
        size = ENCODED_AT_ONCE // 8 if self.two_encoders else ENCODED_AT_ONCE
        with torch.inference_mode():
            for start in range(0, len(prompts), size):
                side_by_side = []
                for tokenizer, encoder in zip(self.tokenizers, self.text_encoders, strict=True):
                    tokens = token_ids(tokenizer, encoder, prompts[start : start + size]).to(self.device)
                    if not self.two_encoders:
                        side_by_side.append(encoder(tokens).last_hidden_state.cpu())
                        continue
                    encoded = encoder(tokens, output_hidden_states=True)
                    side_by_side.append(encoded.hidden_states[-2].cpu())
                if self.two_encoders:
                    pooled.append(encoded.text_embeds.cpu())
                parts.append(side_by_side)
            embeddings = torch.cat([torch.cat(piece, dim=-1) for piece in parts])
        if not self.two_encoders:
            return {"text": embeddings}
        pixels = torch.tensor([*self.image_size, 0, 0, *self.image_size], dtype=torch.float32)
        return {"text": embeddings, "pooled": torch.cat(pooled), "time_ids": pixels.repeat(len(prompts), 1)}

    @property
    def asks_for_zeros(self) -> bool:
        """Whether the base's unconditional text is zeros (``force_zeros_for_empty_prompt``)."""
        return self.two_encoders and bool(self.index.get("force_zeros_for_empty_prompt", True))


def _check_timesteps(sampler: Any, settings: SamplingSettings, base: Path) -> None:
    """Refuse a number of steps by which a sampler leaves the schedule, or begins where no image is noise.

    What is left over when the schedule is divided is left out at its noisy end: 600 steps of 1000 are the last 600.
    """
    steps, schedule = settings.steps, sampler.config.num_train_timesteps
    times = [] if steps > schedule else sampler.timesteps.tolist()
    earliest = EARLIEST * schedule * max(1 - 1 / steps, 1 / 2)
    if len(times) == steps and times[-1] >= 0 and earliest <= times[0] < schedule:
        return
    goes = f", it goes from timestep {times[0]:g} to {times[-1]:g} in {len(times)}" if times else ""
    raise InputError(
        f"generation.steps is {steps}, in which {settings.scheduler} does not run through the {schedule} timesteps of "
        f"{base}{goes} (timestep_spacing is {sampler.config.timestep_spacing}); take another number, "
        f"such as {min(50, schedule // 2)}"
    )
