"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): two CLIP text encoders and T5, of which any can be left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.errors import InputError
from families.conditions import Conditions
from families.flow.diffusers_model import DiffusersFlowModel, tokens
from families.flow.model import TIMESTEPS
from families.prompt_tokens import token_ids

if TYPE_CHECKING:
    import torch

CLIP_TOKENS, T5_TOKENS = 77, 256
"""Tokens of a prompt; CLIP's where both are left out, and the library's own number for T5."""


class Model(DiffusersFlowModel):
    """What a text encoder that is left out would say is zeros, as in the reference code and for T5 in diffusers.

    ``text`` (N, 77 + 256, D): the layers before the last of both CLIPs side by side, padded with zeros to T5's width,
    followed by T5's last layer; ``pooled`` (N, P): the projected embeddings of both CLIPs.
    """

    TRANSFORMER: ClassVar[str] = "SD3Transformer2DModel"
    TEXT_ENCODERS: ClassVar[Mapping[str, str]] = {
        "tokenizer": "text_encoder",
        "tokenizer_2": "text_encoder_2",
        "tokenizer_3": "text_encoder_3",
    }
    OPTIONAL: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2", "text_encoder_3")

    def _check(self) -> None:
        super()._check()
        widths = self.condition_widths
        said = [self._said(name, "projection_dim") for name in ("text_encoder", "text_encoder_2")]
        made = sum(width or 0 for width in said)
        if made > widths["pooled"] or (None not in said and made != widths["pooled"]):
            raise InputError(
                f"{self.path}: its CLIP text encoders make pooled embeddings of width {made}, its "
                f"transformer takes {widths['pooled']} (pooled_projection_dim); the parts are not of one base"
            )
        last = self.text_encoders.get("tokenizer_3")
        if last is not None and (width := self.folder.config(last).get("d_model")) != widths["text"]:
            raise InputError(
                f"{self.path}: {last} makes embeddings of width {width}, its transformer takes {widths['text']} "
                "(joint_attention_dim); the parts are not of one base"
            )

    def _said(self, encoder: str, key: str) -> int | None:
        """A width of a CLIP by its configuration, if its folder is there."""
        there = (self.path / encoder / "config.json").is_file()
        return int(self.folder.config(encoder).get(key, 512)) if there else None

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.config.get("in_channels", 16))

    @property
    def _patch_size(self) -> int:
        return self.PATCH

    @property
    def most_tokens_a_side(self) -> int:
        """By which its positions are cut out of a square of them."""
        return int(self.config.get("pos_embed_max_size", 96))

    @property
    def condition_widths(self) -> dict[str, int]:
        """Of ``text`` and ``pooled``."""
        return {
            "text": int(self.config.get("joint_attention_dim", 4096)),
            "pooled": int(self.config.get("pooled_projection_dim", 2048)),
        }

    def _encoded(self, prompts: Sequence[str]) -> Conditions:
        import torch

        widths, dtype = self.condition_widths, getattr(torch, self.text_dtype)
        first, second = (self._said(name, "projection_dim") for name in ("text_encoder", "text_encoder_2"))
        # Of a CLIP whose folder is not there only the other's width is known; its hidden layers are as wide.
        first = widths["pooled"] - (second or 0) if first is None else first
        second = widths["pooled"] - first if second is None else second
        beside = self._said("text_encoder", "hidden_size") or first
        side_by_side: list[torch.Tensor | None] = []
        pooled, length = [], CLIP_TOKENS
        for encoder, width in (("text_encoder", first), ("text_encoder_2", second)):
            if encoder not in self.encoders:
                side_by_side.append(None)
                pooled.append(torch.zeros(len(prompts), width, dtype=dtype, device=self.device))
                continue
            words, model = self.encoders[encoder]
            encoded = model(token_ids(words, model, prompts).to(self.device), output_hidden_states=True)
            side_by_side.append(encoded.hidden_states[-2])
            pooled.append(encoded.text_embeds)
            length = encoded.hidden_states[-2].shape[1]
        clip = torch.zeros(len(prompts), length, widths["text"], dtype=dtype, device=self.device)
        for start, found in zip((0, beside), side_by_side, strict=True):
            if found is not None:
                clip[..., start : start + found.shape[-1]] = found
        if "text_encoder_3" in self.encoders:
            words, model = self.encoders["text_encoder_3"]
            last = model(tokens(words, prompts, T5_TOKENS).to(self.device))[0]
        else:
            last = torch.zeros(len(prompts), T5_TOKENS, widths["text"], dtype=dtype, device=self.device)
        return {"text": torch.cat([clip, last], dim=1), "pooled": torch.cat(pooled, dim=-1)}

    def velocity(
        self, denoiser: Any, noisy: torch.Tensor, sigmas: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Predicted ε − x0, (B, C, H, W)."""
        predicted: torch.Tensor = denoiser(
            hidden_states=noisy,
            timestep=sigmas * TIMESTEPS,
            encoder_hidden_states=conditions["text"],
            pooled_projections=conditions["pooled"],
            return_dict=False,
        )[0]
        return predicted
