"""FLUX.1 (dev and schnell): a CLIP text encoder for the pooled text, T5 for its words; dev is told the guidance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.errors import InputError
from families.conditions import Conditions
from families.flow.diffusers_model import tokens
from families.flow.token_latents import TokenFlow, packed, positions, unpacked
from families.prompt_tokens import token_ids

if TYPE_CHECKING:
    import torch

T5_TOKENS = 512
"""Tokens of a prompt at most, the library's own number; schnell's tokenizer says 256."""


class Model(TokenFlow):
    """``text`` (N, T, D): T5's last layer, T at most 512; ``pooled`` (N, P): CLIP's pooled output."""

    TRANSFORMER: ClassVar[str] = "FluxTransformer2DModel"
    TEXT_ENCODERS: ClassVar[Mapping[str, str]] = {"tokenizer": "text_encoder", "tokenizer_2": "text_encoder_2"}

    def _check(self) -> None:
        super()._check()
        for name, encoder, key in (("text", "text_encoder_2", "d_model"), ("pooled", "text_encoder", "hidden_size")):
            if (made := self.folder.config(encoder).get(key)) != (taken := self.condition_widths[name]):
                raise InputError(
                    f"{self.path}: {encoder} makes embeddings of width {made}, its transformer takes {taken}; the "
                    "parts are not of one base"
                )

    @property
    def condition_widths(self) -> dict[str, int]:
        """Of ``text`` and ``pooled``."""
        return {
            "text": int(self.config.get("joint_attention_dim", 4096)),
            "pooled": int(self.config.get("pooled_projection_dim", 768)),
        }

    @property
    def guidance_embedded(self) -> bool:
        """True of dev, which was distilled from a guided model; schnell knows no guidance."""
        return bool(self.config.get("guidance_embeds", False))

    @property
    def knows_guidance(self) -> bool:
        """False of schnell."""
        return self.guidance_embedded

    def _encoded(self, prompts: Sequence[str]) -> Conditions:
        words, model = self.encoders["text_encoder"]
        pooled = model(token_ids(words, model, prompts).to(self.device)).pooler_output
        words, model = self.encoders["text_encoder_2"]
        return {"text": model(tokens(words, prompts, T5_TOKENS).to(self.device))[0], "pooled": pooled}

    def velocity(
        self, denoiser: Any, noisy: torch.Tensor, sigmas: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Predicted ε − x0, (B, C, H, W)."""
        height, width = noisy.shape[-2:]
        text = conditions["text"]
        predicted = denoiser(
            hidden_states=packed(noisy),
            timestep=sigmas,
            guidance=conditions["guidance"] if self.guidance_embedded else None,
            pooled_projections=conditions["pooled"],
            encoder_hidden_states=text,
            txt_ids=text.new_zeros(text.shape[1], 3),
            img_ids=positions(height, width, text),
            return_dict=False,
        )[0]
        return unpacked(predicted, height, width)
