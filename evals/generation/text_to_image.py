"""The parts of a base in diffusers' layout that turn a prompt into an image: SD 1.x- and SDXL-shaped.

Parts are loaded one by one, when first used, as ``model_index.json`` names them, not by a pipeline class: that import
costs more than a miniature job. Only libraries ``diffusers`` and ``transformers`` are accepted: no remote code.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import tree_sha256
from artifacts.errors import InputError
from artifacts.hub import commit_of
from evals.generation.conditions import Conditions
from families.diffusers_folder import DiffusersFolder, autoencoder_folder
from families.latent_scaling import LatentScaling
from families.parts import load_part
from families.prompt_tokens import check_tokenizer, token_ids

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

ENCODED_AT_ONCE = 256
"""Prompts a pass of the text encoder; an eighth of it where all hidden states are kept."""

DECODED_PIXELS = 1 << 20
"""Pixels a pass of the autoencoder in float32: 4 images of 512 x 512, 1 of 1024 x 1024, about 4 GB."""


class Pipeline:
    """Tokenizers, text encoders, autoencoder, noise schedule and denoiser of a base.

    Args:
        path: folder of the base.
        dtype: of the denoiser.
        device: where everything lies.
        vae: folder of another autoencoder, with its ``config.json``; ``None`` takes the base's own.
        size: height and width of images in pixels, one of those that the base's configuration says it was trained at;
            ``None`` takes the denoiser's.
        text_dtype: of the text encoders. The autoencoder is always float32: half precision overflows in SDXL's own.

    Raises:
        InputError: the folder is no base of a shape that can be run, its parts do not go together, or it was not
            trained at that size.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dtype: str = "float32",
        device: str = "cpu",
        vae: str | Path | None = None,
        text_dtype: str = "float32",
        size: int | None = None,
    ) -> None:
        import torch

        self.path = Path(path)
        self._contents: dict[str, str] = {}
        self.device = torch.device(device)
        self.dtype = getattr(torch, dtype)
        self.text_dtype = getattr(torch, text_dtype)
        self._folder = DiffusersFolder(self.path, ())
        self._vae_path = None if vae is None else autoencoder_folder(self.path, Path(vae))
        self.index = self._folder.read(self.path / "model_index.json")
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
        self._folder.check_denoiser(self._vae_path or self.path / "vae")
        _ = self.prediction_type
        self.image_size = self._checked_size(size)

    @property
    def prediction_type(self) -> str:
        """What the denoiser predicts: ``epsilon`` or ``v_prediction``."""
        return self._folder.prediction_type

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

    def content(self, part: str) -> str:
        """Digest of the files of a part; of a base in the hub's cache its commit, which stands for them."""
        if part not in self._contents:
            self._contents[part] = commit_of(self.path) or tree_sha256(self.path / part)
        return self._contents[part]

    def _checked_size(self, size: int | None) -> list[int]:
        """Height and width of images in pixels.

        What a fine-tune wrote into the denoiser's configuration may be wrong: half the size is known of published ones.
        An autoencoder trained at a larger size gives it away; one at a smaller size is usual.
        """
        factor, vae_size = self._pixels_a_latent, self.vae_config.get("sample_size")
        sample = self.unet_config.get("sample_size")
        sides: list[Any] = sample if isinstance(sample, list) else [sample, sample]
        if sample is not None and (len(sides) != 2 or any(type(x) is not int or x < 1 for x in sides)):
            file = self.path / "unet" / "config.json"
            raise InputError(f"{file}: sample_size is {sample!r}, expected height and width of latents, or one number")
        own = None if sample is None else [x * factor for x in sides]
        says = f"{self.path / 'unet' / 'config.json'}: sample_size is {sample}"
        says += "" if own is None else f", {own[1]} x {own[0]} pixels"
        says += "" if vae_size is None else f", and vae/config.json says {vae_size}"
        if size is None:
            if own is None or (isinstance(vae_size, int) and max(own) < vae_size):
                raise InputError(f"{says}: set generation.size to what the base was trained at, in pixels")
            return own
        if [size, size] != own and size != vae_size and (own or vae_size) is not None:
            raise InputError(f"generation.size is {size}, expected what the base was trained at: {says}")
        if size % factor:
            raise InputError(f"generation.size is {size}, expected a multiple of {factor}")
        return [size, size]

    @property
    def _pixels_a_latent(self) -> int:
        # What diffusers takes for a missing key is one level.
        levels = self.vae_config.get("block_out_channels", [64])
        if not isinstance(levels, list) or not levels:
            file = self.path / "vae" / "config.json"
            raise InputError(f"{file}: block_out_channels is {levels!r}, expected one number a level")
        return int(2 ** (len(levels) - 1))

    def _part(self, name: str, **options: Any) -> Any:
        import importlib

        library, class_name = self.index[name]
        part = getattr(importlib.import_module(library), class_name)
        return self._placed(load_part(part, self.path / name, **options))

    def _placed(self, part: Any) -> Any:
        return part.to(self.device).eval().requires_grad_(False) if hasattr(part, "parameters") else part

    @property
    def unet_config(self) -> dict[str, Any]:
        """Content of ``unet/config.json``."""
        return self._folder.config("unet")

    @cached_property
    def tokenizers(self) -> list[Any]:
        """One tokenizer, or SDXL's two."""
        return [self._part(name) for name in ("tokenizer", "tokenizer_2")[: 1 + self.two_encoders]]

    @cached_property
    def text_encoders(self) -> list[Any]:
        """One text encoder, or SDXL's two."""
        names = ("text_encoder", "text_encoder_2")[: 1 + self.two_encoders]
        encoders = [self._part(name, torch_dtype=self.text_dtype) for name in names]
        self._folder.check_text_width(names)
        for name, tokenizer, encoder in zip(("tokenizer", "tokenizer_2"), self.tokenizers, encoders, strict=False):
            check_tokenizer(tokenizer, encoder, self.path / name)
        return encoders

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
        kind = getattr(diffusers, str(self._folder.read(file).get("_class_name")), None)
        if kind is None or not hasattr(kind, "decode"):
            raise InputError(f"{file}: names no autoencoder of diffusers; base.vae must be the folder of one")
        return self._placed(load_part(kind, self._vae_path, torch_dtype=torch.float32))

    @cached_property
    def scheduler(self) -> Any:
        """The base's own scheduler: noise schedule and prediction type.

        ``StableDiffusionPipeline`` sets two values itself, whatever the configuration says; that of SDXL does not.
        """
        scheduler = self._part("scheduler")
        if not self.two_encoders:
            own = {"steps_offset": 1, "clip_sample": False}
            # Values that a configuration leaves out would be the defaults of the sampler made from it.
            defaults = [key for key in scheduler.config.get("_use_default_values", ()) if key not in own]
            scheduler.register_to_config(**own, _use_default_values=defaults)
        return scheduler

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
        return torch.tensor([*size, 0, 0, *size], dtype=torch.float32).repeat(count, 1)

    @property
    def vae_config(self) -> dict[str, Any]:
        """Content of the own autoencoder's ``config.json``; a separate one has the same latents."""
        return self._folder.config("vae")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image's latents."""
        height, width = (size // self._pixels_a_latent for size in self.image_size)
        return int(self.unet_config.get("in_channels", 4)), height, width

    @cached_property
    def _scaling(self) -> LatentScaling:
        file = (self._vae_path or self.path / "vae") / "config.json"
        return LatentScaling.of(self._folder.read(file), file)

    def decode(self, latents: torch.Tensor, names: Sequence[str] = ()) -> list[Image]:
        """RGB images of scaled latents (N, C, H, W).

        Args:
            latents: what the denoiser made.
            names: of the N images, for messages.

        Raises:
            InputError: pixels are not finite.
        """
        import torch
        from PIL import Image

        raw = self._scaling.raw(latents.float())
        at_once = max(1, DECODED_PIXELS // (64 * latents.shape[2] * latents.shape[3]))
        pictures: list[torch.Tensor] = []
        with torch.inference_mode():
            for piece in raw.split(at_once):
                pixels = self.vae.decode(piece).sample
                picture = ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()
                if not (finite := pixels.flatten(1).isfinite().all(1)).all():
                    row = sum(map(len, pictures)) + int(finite.long().argmin())
                    raise InputError(
                        f"{names[row] if names else f'image {row}'}: the autoencoder makes pixels that are not finite; "
                        "check its weights, or name another one (base.vae)"
                    )
                pictures.append(picture)
        return [Image.fromarray(picture) for picture in torch.cat(pictures).numpy()]
