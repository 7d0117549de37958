"""What all bases of rectified flow have in common: conditions, the transformer's call, the sampler's schedule.

``x_σ = (1 − σ)·x0 + σ·ε``, and the transformer predicts the velocity ε − x0 (arXiv 2209.03003, 2403.03206). Latents
are (B, C, H, W) everywhere; that some transformers take them as tokens is a matter of their family.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from families.autoencoder import Autoencoder
from families.conditions import Conditions

if TYPE_CHECKING:
    import torch

DENOISER = "transformer"
"""Folder of the denoiser."""
TIMESTEPS = 1000
"""By which all of these transformers multiply σ before they embed it."""


class FlowModel(ABC):
    """A base.

    Attributes:
        path: its folder.
        device: where tensors and modules live.
        autoencoder: of its images.
    """

    PATCH: ClassVar[int] = 2
    """Latents along a side that make one token."""
    SIGMAS_GIVEN: ClassVar[bool] = False
    """Whether the library's pipeline hands σ from 1 down to 1 / steps to the scheduler, instead of its own."""
    path: Path
    device: Any
    autoencoder: Autoencoder

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """Configuration of the transformer."""

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """Names of what the base has and what is used."""

    @property
    @abstractmethod
    def text_parts(self) -> tuple[str, ...]:
        """Those that shape the conditions of a prompt."""

    @abstractmethod
    def content(self, part: str) -> str:
        """Digest of a part, without reading more than is needed."""

    @abstractmethod
    def encoder_digests(self) -> dict[str, str]:
        """Digest of each part that encodes images and prompts, by what it computes."""

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """Channels of the latents that the transformer takes."""

    @property
    @abstractmethod
    def condition_widths(self) -> dict[str, int]:
        """Last dimension of each condition that the transformer takes of a prompt."""

    @property
    def guidance_embedded(self) -> bool:
        """Whether the transformer is told the guidance, with the condition ``guidance`` (B,)."""
        return False

    @property
    def knows_guidance(self) -> bool:
        """Whether images can be drawn with guidance, by the model's own or by a prediction without the prompt."""
        return True

    @property
    def pixels_a_token(self) -> int:
        """Sides of images are multiples of it."""
        return self.autoencoder.pixels_a_latent * self.PATCH

    @property
    def most_tokens_a_side(self) -> int | None:
        """Of an image; ``None`` where the transformer has positions for any number."""
        return None

    def expected_sides(self, *sides: int) -> str | None:
        """What sides of an image in pixels are expected instead; ``None`` if these are taken."""
        step, most = self.pixels_a_token, self.most_tokens_a_side
        if any(side % step for side in sides):
            return f"multiples of {step}, the side of a token"
        if most is not None and max(sides) > most * step:
            return f"at most {most * step} a side, {most} tokens (pos_embed_max_size of the transformer)"
        return None

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Conditions of N prompts, on the CPU in the text encoders' dtype, such as ``text`` (N, T, D)."""

    @abstractmethod
    def forget_text_encoders(self) -> None:
        """Free their memory; they are loaded again if another prompt is encoded."""

    @property
    @abstractmethod
    def denoiser_class(self) -> Any:
        """Class of the transformer, with ``from_pretrained`` and ``from_config``."""

    @abstractmethod
    def own_denoiser(self, dtype: torch.dtype) -> Any:
        """A fresh copy of the base's transformer, on the CPU."""

    @property
    @abstractmethod
    def own_weights(self) -> Path:
        """Folder of its configuration and weights."""

    @property
    @abstractmethod
    def schedule(self) -> Mapping[str, Any]:
        """Configuration of the sampler, as diffusers names its keys."""

    @abstractmethod
    def velocity(
        self, denoiser: Any, noisy: torch.Tensor, sigmas: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Predicted ε − x0, (B, C, H, W).

        Args:
            denoiser: a transformer of this family.
            noisy: latents (B, C, H, W), sides multiples of :attr:`PATCH`.
            sigmas: (B,) in [0, 1], 1 is noise.
            conditions: of the B prompts.
        """

    def scheduler(self, steps: int, height: int, width: int) -> Any:
        """The sampler of Euler's method with its timesteps set, as the library's pipeline sets them.

        Args:
            steps: denoising steps.
            height, width: of the latents; the schedule may shift with the number of tokens.
        """
        import diffusers
        import numpy as np

        made = diffusers.FlowMatchEulerDiscreteScheduler.from_config(dict(self.schedule))
        tokens, config = (height // self.PATCH) * (width // self.PATCH), made.config
        slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
        given = np.linspace(1.0, 1 / steps, steps) if self.SIGMAS_GIVEN else None
        # Used under `use_dynamic_shifting` alone: e^mu is the shift, of which the logarithm grows with the tokens.
        mu = config.base_shift + slope * (tokens - config.base_image_seq_len)
        made.set_timesteps(steps, device=self.device, sigmas=given, mu=mu)
        return made
