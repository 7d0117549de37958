"""The parts of a base in diffusers' layout that turn a prompt into an image: SD 1.x- and SDXL-shaped.

Parts are loaded one by one, when first used, as ``model_index.json`` names them, not by a pipeline class: that import
costs more than a miniature job. Only libraries ``diffusers`` and ``transformers`` are accepted: no remote code.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.parts import load_part
from evals.conditions import Conditions

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

ENCODED_AT_ONCE = 256
"""Prompts a pass of the text encoder; an eighth of it where all hidden states are kept."""

DECODED_PIXELS = 1 << 22
"""Pixels a pass of the autoencoder in float32: 16 images of 512 x 512, 4 of 1024 x 1024, about 15 GB."""


class Pipeline:
    """Tokenizers, text encoders, autoencoder, noise schedule and denoiser of a base.

    Args:
        path: folder of the base.
        dtype: of the denoiser.
        device: where everything lies.
        vae: folder of another autoencoder, with its ``config.json``; ``None`` takes the base's own.
        text_dtype: of the text encoders. The autoencoder is always float32: half precision overflows in SDXL's own.

    Raises:
        InputError: the folder is no base of a shape that can be run.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        vae: str | Path | None = None,
        text_dtype: str = "float32",
    ) -> None:
        import torch

        self.path = Path(path)
        self.device = torch.device(device)
        self.dtype = getattr(torch, dtype)
        self.text_dtype = getattr(torch, text_dtype)
        self._vae_path = None if vae is None else Path(vae)
        self.index = self._json("model_index.json", "the base must be a folder in diffusers' layout")
        for name, entry in self.index.items():
            library = entry[0] if isinstance(entry, list) and entry else None
            if name in self.parts and library not in ("diffusers", "transformers"):
                raise InputError(
                    f"{self.path / 'model_index.json'}: part '{name}' comes from '{library}'; "
                    "only diffusers and transformers are run"
                )
        if missing := [name for name in self.parts if name not in self.index]:
            raise InputError(f"{self.path / 'model_index.json'}: names no {missing[0]}; expected {self._shape}")
        added = self.unet_config.get("addition_embed_type")
        # "text" pools the embeddings that the denoiser has anyway.
        if added not in (("text_time",) if self.two_encoders else (None, "text")):
            raise InputError(
                f"{self.path / 'unet' / 'config.json'}: addition_embed_type is {added!r}, which does not go with "
                f"{'two text encoders' if self.two_encoders else 'one text encoder'}; expected {self._shape}"
            )

    @property
    def two_encoders(self) -> bool:
        """Whether the base is shaped like SDXL."""
        return "text_encoder_2" in self.index

    @property
    def _shape(self) -> str:
        return "a base shaped like Stable Diffusion 1.x, 2.x or XL"

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders that the base has."""
        second = ("tokenizer_2", "text_encoder_2") if "text_encoder_2" in self.index else ()
        return ("tokenizer", "text_encoder", *second, "vae", "scheduler", "unet")

    def _json(self, name: str, remedy: str) -> dict[str, Any]:
        path = self.path / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; {remedy}") from error
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error}); {remedy}") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}: expected a JSON object; {remedy}")
        return content

    def _part(self, name: str, **options: Any) -> Any:
        import importlib

        library, class_name = self.index[name]
        part = getattr(importlib.import_module(library), class_name)
        return self._placed(load_part(part, self.path / name, **options))

    def _placed(self, part: Any) -> Any:
        return part.to(self.device).eval().requires_grad_(False) if hasattr(part, "parameters") else part

    @cached_property
    def unet_config(self) -> dict[str, Any]:
        """Content of ``unet/config.json``."""
        return self._json("unet/config.json", "the base must have a denoiser of the class UNet2DConditionModel")

    @cached_property
    def tokenizers(self) -> list[Any]:
        """One tokenizer, or SDXL's two."""
        return [self._part(name) for name in ("tokenizer", "tokenizer_2")[: 1 + self.two_encoders]]

    @cached_property
    def text_encoders(self) -> list[Any]:
        """One text encoder, or SDXL's two."""
        names = ("text_encoder", "text_encoder_2")[: 1 + self.two_encoders]
        return [self._part(name, torch_dtype=self.text_dtype) for name in names]

    def forget_text_encoders(self) -> None:
        """Free their memory; they are loaded again if another prompt is encoded."""
        self.__dict__.pop("text_encoders", None)

    @cached_property
    def vae(self) -> Any:
        """The autoencoder, in float32."""
        import diffusers
        import torch

        if self._vae_path is None:
            return self._part("vae", torch_dtype=torch.float32)
        file = self._vae_path / "config.json"
        if not file.is_file():
            raise InputError(f"{file}: no such file; base.vae must be the folder of an autoencoder with its config")
        kind = getattr(diffusers, str(json.loads(file.read_text()).get("_class_name")), None)
        if kind is None or not hasattr(kind, "decode"):
            raise InputError(f"{file}: names no autoencoder of diffusers; base.vae must be the folder of one")
        return self._placed(load_part(kind, self._vae_path, torch_dtype=torch.float32))

    @cached_property
    def scheduler(self) -> Any:
        """The base's own scheduler: noise schedule and prediction type."""
        return self._part("scheduler")

    @cached_property
    def unet(self) -> Any:
        """The base's own denoiser."""
        return self.load_unet(self.path)

    def load_unet(self, model: Path) -> Any:
        """The denoiser of a model folder (``unet/`` below it).

        Raises:
            InputError: the folder holds no denoiser, or a damaged one.
        """
        from diffusers import UNet2DConditionModel

        if not (model / "unet" / "config.json").is_file():
            raise InputError(f"{model / 'unet'}: no denoiser; train the model first or correct its path")
        return self._placed(load_part(UNet2DConditionModel, model / "unet", torch_dtype=self.dtype))

    def encode_prompts(self, prompts: list[str]) -> Conditions:
        """Conditions of N prompts, padded and cut to the tokenizers' lengths, on the pipeline's device.

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
                    tokens = tokenizer(
                        prompts[start : start + size],
                        padding="max_length",
                        max_length=tokenizer.model_max_length,
                        truncation=True,
                        return_tensors="pt",
                    ).input_ids.to(self.device)
                    if not self.two_encoders:
                        side_by_side.append(encoder(tokens).last_hidden_state)
                        continue
                    encoded = encoder(tokens, output_hidden_states=True)
                    side_by_side.append(encoded.hidden_states[-2])
                if self.two_encoders:
                    pooled.append(encoded.text_embeds)
                parts.append(side_by_side)
            embeddings = torch.cat([torch.cat(piece, dim=-1) for piece in parts])
        return Conditions(embeddings, torch.cat(pooled) if pooled else None, self._time_ids(len(prompts)))

    def empty_prompt(self, *, zeros: bool) -> Conditions:
        """Conditions of the empty prompt, (1, …), for guidance.

        Args:
            zeros: give zeros instead of the encoded empty text where the base asks for it
                (``force_zeros_for_empty_prompt``, which SDXL does).
        """
        empty = self.encode_prompts([""])
        return empty.zeroed() if zeros and self.asks_for_zeros else empty

    @property
    def asks_for_zeros(self) -> bool:
        """Whether the base's unconditional text is zeros (``force_zeros_for_empty_prompt``)."""
        return self.two_encoders and bool(self.index.get("force_zeros_for_empty_prompt", True))

    def _time_ids(self, count: int) -> torch.Tensor | None:
        import torch

        if not self.two_encoders:
            return None
        size = self.image_size
        return torch.tensor([*size, 0, 0, *size], dtype=torch.float32, device=self.device).repeat(count, 1)

    @cached_property
    def vae_config(self) -> dict[str, Any]:
        """Content of the own autoencoder's ``config.json``; a separate one has the same latents."""
        return self._json("vae/config.json", "the base must have an autoencoder")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image's latents."""
        size = self.unet_config["sample_size"]
        height, width = size if isinstance(size, list) else (size, size)
        return int(self.unet_config["in_channels"]), int(height), int(width)

    @property
    def image_size(self) -> list[int]:
        """Height and width of one image in pixels."""
        _, height, width = self.latent_shape
        factor = 2 ** (len(self.vae_config["block_out_channels"]) - 1)
        return [height * factor, width * factor]

    def decode(self, latents: torch.Tensor) -> list[Image]:
        """RGB images of scaled latents (N, C, H, W)."""
        import torch
        from PIL import Image

        config = self.vae.config
        scaled = latents.float() / config.scaling_factor
        if getattr(config, "latents_mean", None) is not None and getattr(config, "latents_std", None) is not None:
            mean, std = (
                torch.tensor(values, device=scaled.device).view(1, -1, 1, 1)
                for values in (config.latents_mean, config.latents_std)
            )
            scaled = scaled * std + mean
        at_once = max(1, DECODED_PIXELS // (64 * latents.shape[2] * latents.shape[3]))
        pictures = []
        with torch.inference_mode():
            for piece in scaled.split(at_once):
                pixels = self.vae.decode(piece).sample
                pictures.append(
                    ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
                )
        return [Image.fromarray(picture) for picture in torch.cat(pictures).numpy()]
