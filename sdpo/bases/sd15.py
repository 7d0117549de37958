"""Bases shaped like Stable Diffusion 1.x and 2.x: one CLIP text encoder, one latent U-Net, in diffusers' layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from families.autoencoder import Autoencoder
from families.diffusers_folder import DiffusersFolder
from families.part_digest import part_digest
from families.parts import load_part, signal_shares
from families.prompt_tokens import check_tokenizer, token_ids
from sdpo.diffusion.latents import Latents

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from families.conditions import Conditions
    from sdpo.diffusion.noising import Parametrisation

FLOW = False
BATCH = 128
"""Prompts that are encoded at once."""


class StableDiffusion:
    """A base folder, each part loaded when it is first needed.

    Args:
        path: folder with ``model_index.json``, ``unet/``, ``vae/``, ``text_encoder/``, ``tokenizer/``, ``scheduler/``.
        device: where tensors and modules live.
        vae: folder of another autoencoder, instead of the base's own.
        encoder_dtype: dtype in which autoencoder and text encoders compute.

    Raises:
        InputError: a part is missing, the base is of another family, its parts do not fit each other, or its
            scheduler asks for a prediction that no noising here provides.
    """

    FAMILY: ClassVar[str] = "sd15"
    denoiser_folder = "unet"
    TEXT_ENCODERS: ClassVar[Mapping[str, str]] = {"tokenizer": "text_encoder"}

    def __init__(
        self, path: Path, *, device: str = "cpu", vae: Path | None = None, encoder_dtype: str = "float32"
    ) -> None:
        self.path = path
        self.device = device
        self.encoder_dtype = encoder_dtype
        parts = ("unet", *([] if vae else ["vae"]), "scheduler", *self.TEXT_ENCODERS, *self.TEXT_ENCODERS.values())
        self.folder = DiffusersFolder(path, parts)
        self.autoencoder = Autoencoder(path / "vae", dtype=encoder_dtype, device=device).or_another(vae)
        self._check()

    def _check(self) -> None:
        self.folder.check_family(self.FAMILY)
        _ = self.parametrisation
        self.folder.check_denoiser(self.autoencoder.path)
        self.folder.check_text_width(list(self.TEXT_ENCODERS.values()))

    @property
    def condition_widths(self) -> dict[str, int]:
        """Last dimension of each condition that the U-Net takes."""
        return {"text": self.folder.text_width}

    @property
    def parametrisation(self) -> Parametrisation:
        """As the scheduler's configuration says."""
        return "v_prediction" if self.folder.prediction_type == "v_prediction" else "epsilon"

    @cached_property
    def alphas_cumprod(self) -> torch.Tensor:
        """Signal share ᾱ_t of each timestep, (T,) float32."""
        return signal_shares(self.path / "scheduler").to(self.device)

    def draw_timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Integers (count,), uniform over the schedule."""
        import torch

        return torch.randint(0, len(self.alphas_cumprod), (count,), generator=generator)

    def timesteps_at(self, shares: torch.Tensor) -> torch.Tensor:
        """Integers (N,) at shares of the schedule (N,) in [0, 1)."""
        return (shares * len(self.alphas_cumprod)).long()

    def spread_timesteps(self, count: int) -> torch.Tensor:
        """Integers (count,) spread evenly over the schedule, ascending."""
        import torch

        return ((torch.arange(count) + 0.5) * len(self.alphas_cumprod) / count).long()

    def coefficients(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """α_t = √ᾱ_t and σ_t = √(1 − ᾱ_t), each (B,)."""
        from sdpo.diffusion.noising import ddpm_coefficients

        return ddpm_coefficients(self.alphas_cumprod, timesteps)

    def encode_images(self, images: Sequence[Image]) -> Latents:
        """Scaled latents (N, C, H, W) float32, as a posterior where the autoencoder has one."""
        return Latents(*self.autoencoder.encode(images))

    def decode_latents(self, latents: torch.Tensor) -> list[Image]:
        """Images of scaled latents (N, C, H, W)."""
        return self.autoencoder.decode(latents)

    @cached_property
    def _text_encoders(self) -> list[tuple[Any, Any]]:
        """Tokenizers with their encoders."""
        import torch
        import transformers

        index = self.folder.read(self.path / "model_index.json")
        found = []
        for tokenizer, encoder in self.TEXT_ENCODERS.items():
            kind = getattr(transformers, index.get(encoder, ["", "CLIPTextModel"])[1])
            model = load_part(kind, self.path / encoder, dtype=getattr(torch, self.encoder_dtype))
            model.to(self.device).eval().requires_grad_(False)
            words = load_part(transformers.CLIPTokenizer, self.path / tokenizer)
            check_tokenizer(words, model, self.path / tokenizer)
            found.append((words, model))
        return found

    def _encoded(self, prompts: Sequence[str], **options: Any) -> list[Any]:
        """Output of each text encoder, prompts padded and cut to the tokenizer's length as the pipeline does."""
        outputs = []
        for tokenizer, encoder in self._text_encoders:
            tokens = token_ids(tokenizer, encoder, prompts)
            outputs.append(encoder(tokens.to(self.device), **options))
        return outputs

    def _embedded(self, prompts: Sequence[str]) -> Conditions:
        """Conditions of one batch of prompts."""
        (output,) = self._encoded(prompts)
        return {"text": output.last_hidden_state.float()}

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """``text`` (N, T, D), float32."""
        import torch

        from families.conditions import joined

        with torch.no_grad():
            return joined([self._embedded(prompts[i : i + BATCH]) for i in range(0, len(prompts), BATCH)])

    def encoder_digests(self) -> dict[str, str]:
        """Digest of the autoencoder and of each tokenizer and text encoder."""
        parts = [part for pair in self.TEXT_ENCODERS.items() for part in pair]
        return {"vae": part_digest(self.autoencoder.path), **{part: part_digest(self.path / part) for part in parts}}

    def image_conditions(self, sizes: torch.Tensor) -> Conditions:
        """None: this U-Net is not told the size of an image."""
        return {}

    def load_denoiser(self, device: str | None = None) -> torch.nn.Module:
        """A fresh float32 copy of the U-Net, on a device; on the base's own by default."""
        import torch
        from diffusers import UNet2DConditionModel

        unet = load_part(UNet2DConditionModel, self.path / "unet", torch_dtype=torch.float32)
        module: torch.nn.Module = unet.to(device or self.device)
        return module

    def predict(
        self, denoiser: torch.nn.Module, noisy: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Prediction (B, C, H, W)."""
        predicted: torch.Tensor = denoiser(noisy, timesteps, conditions["text"], return_dict=False)[0]
        return predicted

    def save_denoiser(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """Write ``folder/unet/`` as safetensors, in one file: SDXL's would be cut in two, which no reader expects."""
        denoiser.save_pretrained(folder / "unet", safe_serialization=True, max_shard_size="1TB")  # type: ignore[operator]


def open_base(
    path: Path, *, device: str = "cpu", vae: Path | None = None, encoder_dtype: str = "float32"
) -> StableDiffusion:
    """Open a base folder of this family."""
    return StableDiffusion(path, device=device, vae=vae, encoder_dtype=encoder_dtype)
