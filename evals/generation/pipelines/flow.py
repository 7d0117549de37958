"""Bases of rectified flow: Stable Diffusion 3, FLUX, Ovis-Image, Ovis-U1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.errors import InputError
from evals.generation.pipelines.interface import Pipeline
from evals.generation.settings import OF_FLOWS
from families.conditions import Conditions
from families.flow import open_flow
from families.flow.diffusers_model import DiffusersFlowModel
from families.flow.model import DENOISER, TIMESTEPS

if TYPE_CHECKING:
    import torch

    from evals.generation.settings import SamplingSettings


class Flow(Pipeline):
    """A base whose transformer predicts the velocity; what is common with training lies in :mod:`families.flow`.

    Args:
        path, options: as of :class:`Pipeline`.
        without: text encoders that are left out.
        language: what runs the language part of a base that brings its own code.
    """

    DENOISER: ClassVar[str] = DENOISER
    SHAPE: ClassVar[str] = "a base of rectified flow"

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "cpu",
        vae: str | Path | None = None,
        text_dtype: str = "float32",
        without: Sequence[str] = (),
        language: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        given: dict[str, Any] = {"without": without, "language": language}
        given = {name: value for name, value in given.items() if value}
        given |= {"device": device, "vae": None if vae is None else Path(vae), "text_dtype": text_dtype}
        self.model = open_flow(Path(path), **given)
        super().__init__(path, device=device, vae=vae, text_dtype=text_dtype, **options)
        self.autoencoder = self.model.autoencoder

    def _read_index(self) -> dict[str, Any]:
        return super()._read_index() if isinstance(self.model, DiffusersFlowModel) else {}

    def _check(self) -> None:
        """The model has checked itself, but for its index."""
        if isinstance(self.model, DiffusersFlowModel):
            self._check_index()

    @property
    def parts(self) -> tuple[str, ...]:
        """What the base has and what is used; its own autoencoder is always there."""
        return tuple(dict.fromkeys([*self.model.parts, "vae"]))

    @property
    def text_parts(self) -> tuple[str, ...]:
        """What shapes the conditions of a prompt."""
        return self.model.text_parts

    def _digest(self, part: str) -> str:
        return self.model.content(part)

    @property
    def denoiser_config(self) -> Mapping[str, Any]:
        """Configuration of the transformer."""
        return self.model.config

    @property
    def vae_config(self) -> dict[str, Any]:
        """Configuration of the autoencoder."""
        return self.model.autoencoder.config

    @property
    def _pixels_a_latent(self) -> int:
        return self.model.autoencoder.pixels_a_latent

    @property
    def own_weights(self) -> Path:
        """Folder of the base's transformer."""
        return self.model.own_weights

    def own_denoiser(self, dtype: torch.dtype) -> Any:
        """A fresh copy of the base's transformer, on the CPU."""
        return self.model.own_denoiser(dtype)

    @property
    def prediction_type(self) -> str:
        """Velocity of a rectified flow."""
        return "flow"

    @property
    def denoiser_class(self) -> Any:
        """Class of the transformer."""
        return self.model.denoiser_class

    @property
    def guides_itself(self) -> bool:
        """FLUX dev is told the guidance."""
        return self.model.guidance_embedded

    def told(self, conditions: Conditions, settings: SamplingSettings) -> Conditions:
        """Conditions of B prompts, with the guidance where the transformer is told it."""
        if not self.guides_itself:
            return conditions
        like = conditions["text"]
        return {**conditions, "guidance": like.new_full((len(like),), settings.guidance_scale)}

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Conditions of N prompts, on the CPU."""
        return self.model.encode_prompts(prompts)

    def forget_text_encoders(self) -> None:
        """Free their memory."""
        self.model.forget_text_encoders()

    def sampler(self, settings: SamplingSettings) -> Any:
        """Euler's method on the base's own schedule, which may shift with the size of images.

        Raises:
            InputError: settings that are none of a flow, or a guidance that the model does not know.
        """
        for key, expected in OF_FLOWS.items():
            if (value := getattr(settings, key)) != expected:
                raise InputError(f"generation.{key} is {value}, which no flow model is drawn with; expected {expected}")
        if not self.model.knows_guidance and settings.guidance_scale != 1:
            raise InputError(
                f"generation.guidance_scale is {settings.guidance_scale:g}, but {self.path} was distilled to do "
                "without guidance and is not told any; expected 1"
            )
        _, height, width = self.latent_shape
        return self.model.scheduler(settings.steps, height, width)

    def predict(self, denoiser: Any, latents: torch.Tensor, timestep: torch.Tensor, conditions: Conditions) -> Any:
        """Velocity (B, C, H, W)."""
        return self.model.velocity(denoiser, latents, (timestep / TIMESTEPS).expand(len(latents)), conditions)

    @property
    def _latent_channels(self) -> int:
        return self.model.latent_channels

    def _checked_size(self, size: int | None) -> list[int]:
        """Height and width of images in pixels; flow models are trained at many sizes, and drawn from at any."""
        if size is None:
            latents = self.denoiser_config.get("sample_size")
            said = self.vae_config.get("sample_size") if latents is None else latents * self._pixels_a_latent
            if type(said) is not int:
                raise InputError(f"{self.path}: says no size of images; set generation.size, in pixels")
            size = said
        if expected := self.model.expected_sides(size):
            raise InputError(f"generation.size is {size}, expected {expected}")
        return [size, size]
