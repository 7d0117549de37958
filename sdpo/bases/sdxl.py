"""Bases shaped like Stable Diffusion XL: two CLIP text encoders, and a U-Net told the size and crop of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from artifacts.errors import InputError
from sdpo.bases.sd15 import StableDiffusion

if TYPE_CHECKING:
    import torch

    from families.conditions import Conditions

FLOW = False
TIME_IDS = 6
"""Original height and width, crop's top and left, target height and width, in pixels."""


class StableDiffusionXL(StableDiffusion):
    """A base folder with two text encoders, each part loaded when it is first needed.

    Arguments and errors as of :class:`StableDiffusion`; ``tokenizer_2/`` and ``text_encoder_2/`` are needed as well.
    The refiner has another set of parts and is refused.
    """

    FAMILY: ClassVar[str] = "sdxl"
    TEXT_ENCODERS: ClassVar[Mapping[str, str]] = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}

    def _check(self) -> None:
        super()._check()
        unet = self.folder.config("unet")
        pooled = int(self.folder.config("text_encoder_2").get("projection_dim", 512))
        if pooled != self.condition_widths["pooled"]:
            raise InputError(
                f"{self.path}: text_encoder_2 makes pooled embeddings of width {pooled}, its U-Net takes "
                f"{self.condition_widths['pooled']} (projection_class_embeddings_input_dim "
                f"{unet.get('projection_class_embeddings_input_dim')} less {TIME_IDS} time ids); "
                "the parts are not of one base, or it is a refiner"
            )

    @property
    def condition_widths(self) -> dict[str, int]:
        """Last dimension of each condition that the U-Net takes."""
        unet = self.folder.config("unet")
        added = unet.get("projection_class_embeddings_input_dim") or 0
        pooled = int(added) - TIME_IDS * int(unet.get("addition_time_embed_dim") or 0)
        return {**super().condition_widths, "pooled": pooled}

    def _embedded(self, prompts: Sequence[str]) -> Conditions:
        """``text`` (N, T, D1 + D2) of the layers before the last, ``pooled`` (N, P) of the second encoder."""
        import torch

        outputs = self._encoded(prompts, output_hidden_states=True)
        text = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return {"text": text.float(), "pooled": outputs[-1].text_embeds.float()}

    def image_conditions(self, sizes: torch.Tensor) -> Conditions:
        """``time_ids`` (N, 6), float32: the sizes as they are."""
        return {"time_ids": sizes.float()}

    def predict(
        self, denoiser: torch.nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Prediction (B, C, H, W)."""
        added = {"text_embeds": conditions["pooled"], "time_ids": conditions["time_ids"]}
        predicted: torch.Tensor = denoiser(
            noisy, timesteps, conditions["text"], added_cond_kwargs=added, return_dict=False
        )[0]
        return predicted


def open_base(
    path: Path, *, device: str = "cpu", vae: Path | None = None, encoder_dtype: str = "float32"
) -> StableDiffusionXL:
    """Open a base folder of this family."""
    return StableDiffusionXL(path, device=device, vae=vae, encoder_dtype=encoder_dtype)
