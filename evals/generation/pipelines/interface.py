"""What all kinds of bases have in common when they are drawn from.

Parts are loaded one by one, when first used, as ``model_index.json`` names them, not by a pipeline class: that import
costs more than a miniature job. Only libraries ``diffusers`` and ``transformers`` are accepted: no remote code.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.atomic import tree_sha256
from artifacts.errors import InputError
from artifacts.hub import commit_of
from families.autoencoder import Autoencoder
from families.conditions import Conditions, zeroed
from families.diffusers_folder import DiffusersFolder
from families.parts import load_part

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from evals.generation.settings import SamplingSettings


class Pipeline(ABC):
    """Text encoders, autoencoder, noise schedule and denoiser of a base.

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

    DENOISER: ClassVar[str]
    """Folder of the denoiser."""
    SHAPE: ClassVar[str]
    """What is expected, for messages."""

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
        self.folder = DiffusersFolder(self.path, ())
        # What its configuration says of sizes counts, whatever takes its place.
        self._own_autoencoder = Autoencoder(self.path / "vae", device=self.device)
        self.autoencoder = self._own_autoencoder.or_another(None if vae is None else Path(vae))
        self.index = self._read_index()
        self._check()
        self.image_size = self._checked_size(size)

    def _read_index(self) -> dict[str, Any]:
        """Library and class of each part, from ``model_index.json``."""
        return self.folder.read(self.path / "model_index.json")

    def _check_index(self) -> None:
        for name, entry in self.index.items():
            library = entry[0] if isinstance(entry, list) and entry else None
            if name in self.parts and library not in ("diffusers", "transformers"):
                raise InputError(
                    f"{self.path / 'model_index.json'}: part '{name}' comes from '{library}'; "
                    "only diffusers and transformers are run"
                )
        if missing := [name for name in self.parts if name not in self.index]:
            raise InputError(f"{self.path / 'model_index.json'}: names no {missing[0]}; expected {self.SHAPE}")

    @abstractmethod
    def _check(self) -> None:
        """Refuse parts that do not go together."""

    @property
    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """Folders that the base has."""

    @property
    def text_parts(self) -> tuple[str, ...]:
        """Those that shape the conditions of a prompt."""
        return tuple(part for part in self.parts if part.startswith(("tokenizer", "text_encoder")))

    @property
    @abstractmethod
    def prediction_type(self) -> str:
        """What the denoiser predicts, in words of the scheduler's configuration."""

    @property
    def text_depends_on_size(self) -> bool:
        """Whether conditions of prompts say the size of images."""
        return False

    @property
    def asks_for_zeros(self) -> bool:
        """Whether the base's unconditional text is zeros (``force_zeros_for_empty_prompt``)."""
        return False

    @abstractmethod
    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Conditions of N prompts, on the CPU, since many take gigabytes."""

    @abstractmethod
    def forget_text_encoders(self) -> None:
        """Free their memory; they are loaded again if another prompt is encoded."""

    @abstractmethod
    def sampler(self, settings: SamplingSettings) -> Any:
        """A scheduler with its timesteps set.

        Raises:
            InputError: this kind of base is not drawn from that way.
        """

    @abstractmethod
    def predict(self, denoiser: Any, latents: torch.Tensor, timestep: torch.Tensor, conditions: Conditions) -> Any:
        """What a denoiser predicts of latents (B, C, H, W), in its own precision.

        Args:
            denoiser: of this base's architecture.
            latents: as the scheduler scales them.
            timestep: of the scheduler, ().
            conditions: of the B images.
        """

    def told(self, conditions: Conditions, settings: SamplingSettings) -> Conditions:
        """Conditions of B prompts with what the denoiser is told of the guidance."""
        return conditions

    @property
    def guides_itself(self) -> bool:
        """Whether the denoiser is told the guidance and needs no prediction without the prompt."""
        return False

    def empty_prompt(self, *, zeros: bool) -> Conditions:
        """Conditions of the empty prompt, (1, …), for guidance.

        Args:
            zeros: give zeros instead of the encoded empty text where the base asks for it.
        """
        empty = self.encode_prompts([""])
        return zeroed(empty) if zeros and self.asks_for_zeros else empty

    def content(self, part: str) -> str:
        """Digest of the files of a part; of a base in the hub's cache its commit, which stands for them."""
        if part not in self._contents:
            self._contents[part] = self._digest(part)
        return self._contents[part]

    def _digest(self, part: str) -> str:
        return commit_of(self.path) or tree_sha256(self.path / part)

    def _part(self, name: str, **options: Any) -> Any:
        import importlib

        library, class_name = self.index[name]
        part = getattr(importlib.import_module(library), class_name)
        return self._placed(load_part(part, self.path / name, **options))

    def _placed(self, part: Any) -> Any:
        return part.to(self.device).eval().requires_grad_(False) if hasattr(part, "parameters") else part

    @property
    def denoiser_config(self) -> Mapping[str, Any]:
        """Content of the denoiser's ``config.json``."""
        return self.folder.config(self.DENOISER)

    @property
    @abstractmethod
    def denoiser_class(self) -> Any:
        """Class of the denoiser, of diffusers."""

    @cached_property
    def denoiser(self) -> Any:
        """The base's own denoiser."""
        return self.load_denoiser(self.path)

    @property
    def own_weights(self) -> Path:
        """Folder of configuration and weights of the base's denoiser."""
        return self.path / self.DENOISER

    def own_denoiser(self, dtype: torch.dtype) -> Any:
        """A fresh copy of the base's denoiser, on the CPU."""
        return load_part(self.denoiser_class, self.own_weights, torch_dtype=dtype)

    def load_denoiser(self, model: Path) -> Any:
        """The denoiser of a model folder, or of the base.

        Raises:
            InputError: the folder holds no denoiser, or a damaged one.
        """
        if model == self.path and (self.own_weights / "config.json").is_file():
            return self._placed(self.own_denoiser(self.dtype))
        folder = model / self.DENOISER
        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: no denoiser; train the model first or correct its path")
        return self._placed(load_part(self.denoiser_class, folder, torch_dtype=self.dtype))

    def _checked_size(self, size: int | None) -> list[int]:
        """Height and width of images in pixels.

        What a fine-tune wrote into the denoiser's configuration may be wrong: half the size is known of published ones.
        An autoencoder trained at a larger size gives it away; one at a smaller size is usual.
        """
        factor, vae_size = self._pixels_a_latent, self.vae_config.get("sample_size")
        sample = self.denoiser_config.get("sample_size")
        sides: list[Any] = sample if isinstance(sample, list) else [sample, sample]
        file = self.path / self.DENOISER / "config.json"
        if sample is not None and (len(sides) != 2 or any(type(x) is not int or x < 1 for x in sides)):
            raise InputError(f"{file}: sample_size is {sample!r}, expected height and width of latents, or one number")
        own = None if sample is None else [x * factor for x in sides]
        says = f"{file}: sample_size is {sample}"
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
    def vae_config(self) -> dict[str, Any]:
        """Content of the own autoencoder's ``config.json``; a separate one has the same latents."""
        return self._own_autoencoder.config

    @property
    def _pixels_a_latent(self) -> int:
        return self._own_autoencoder.pixels_a_latent

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image's latents."""
        height, width = (size // self._pixels_a_latent for size in self.image_size)
        return self._latent_channels, height, width

    @property
    def _latent_channels(self) -> int:
        return int(self.denoiser_config.get("in_channels", 4))

    def decode(self, latents: torch.Tensor, names: Sequence[str] = ()) -> list[Image]:
        """RGB images of scaled latents (N, C, H, W).

        Args:
            latents: what the denoiser made.
            names: of the N images, for messages.

        Raises:
            InputError: pixels are not finite.
        """
        return self.autoencoder.decode(latents, names)
