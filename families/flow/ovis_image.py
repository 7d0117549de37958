"""Ovis-Image (AIDC-AI/Ovis-Image-7B): a FLUX-like transformer told of the prompt by a Qwen3 language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.atomic import json_sha256
from artifacts.errors import InputError
from families.conditions import Conditions
from families.flow.token_latents import TokenFlow, packed, positions, unpacked

if TYPE_CHECKING:
    import torch

INSTRUCTION = (
    "Describe the image by detailing the color, quantity, text, shape, size, texture, spatial relationships of the "
    "objects and background: "
)
"""What stands before a prompt, as in diffusers' ``OvisImagePipeline``."""
INSTRUCTION_TOKENS, PROMPT_TOKENS = 28, 256
"""Tokens of the chat template and the instruction, which are cut off, and of what follows."""


class Model(TokenFlow):
    """``text`` (N, 256, D): the last layer of the language model after the instruction, zeros where the text has ended.

    The transformer takes no mask: it sees the zeros, as it did in its training.
    """

    TRANSFORMER: ClassVar[str] = "OvisImageTransformer2DModel"
    TEXT_ENCODERS: ClassVar[Mapping[str, str]] = {"tokenizer": "text_encoder"}

    def _check(self) -> None:
        super()._check()
        made, taken = self.folder.config("text_encoder").get("hidden_size"), self.condition_widths["text"]
        if made != taken:
            raise InputError(
                f"{self.path}: text_encoder makes embeddings of width {made}, its transformer takes {taken} "
                "(joint_attention_dim); the parts are not of one base"
            )

    @property
    def condition_widths(self) -> dict[str, int]:
        """Of ``text``."""
        return {"text": int(self.config.get("joint_attention_dim", 2048))}

    def _messages(self, tokenizer: Any, prompts: Sequence[str]) -> list[str]:
        """Each prompt as the language model is asked."""
        asked = [[{"role": "user", "content": INSTRUCTION + prompt}] for prompt in prompts]
        return [
            tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True, enable_thinking=False)
            for one in asked
        ]

    def encoder_digests(self) -> dict[str, str]:
        """As for all, and of the words around a prompt."""
        import transformers

        from families.parts import load_part

        tokenizer = load_part(getattr(transformers, self.index["tokenizer"][1]), self.path / "tokenizer")
        return {**super().encoder_digests(), "template": json_sha256(self._messages(tokenizer, [""]))}

    def _encoded(self, prompts: Sequence[str]) -> Conditions:
        tokenizer, model = self.encoders["text_encoder"]
        found = tokenizer(
            self._messages(tokenizer, prompts),
            padding="max_length",
            truncation=True,
            max_length=PROMPT_TOKENS + INSTRUCTION_TOKENS,
            return_tensors="pt",
            add_special_tokens=False,
        ).to(self.device)
        hidden = model(input_ids=found.input_ids, attention_mask=found.attention_mask).last_hidden_state
        return {"text": (hidden * found.attention_mask[..., None])[:, INSTRUCTION_TOKENS:]}

    def velocity(
        self, denoiser: Any, noisy: torch.Tensor, sigmas: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Predicted ε − x0, (B, C, H, W)."""
        import torch

        height, width = noisy.shape[-2:]
        text = conditions["text"]
        # Words stand on the diagonal.
        words = torch.arange(text.shape[1], device=text.device, dtype=text.dtype)
        predicted = denoiser(
            hidden_states=packed(noisy),
            timestep=sigmas,
            encoder_hidden_states=text,
            txt_ids=torch.stack([torch.zeros_like(words), words, words], dim=1),
            img_ids=positions(height, width, text),
            return_dict=False,
        )[0]
        return unpacked(predicted, height, width)
