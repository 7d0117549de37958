"""Ovis-U1 (AIDC-AI/Ovis-U1-3B): a FLUX-like transformer told of the prompt by a language model with a token refiner.

The base is the original folder, not one in diffusers' layout (:mod:`families.ovis_u1`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.atomic import json_sha256
from artifacts.errors import InputError
from artifacts.hub import commit_of
from families.autoencoder import Autoencoder
from families.conditions import Conditions, equal_lengths, padded
from families.flow.model import FlowModel
from families.flow.token_latents import PATCH, packed, positions, unpacked
from families.ovis_u1.autoencoder import OriginalAutoencoder
from families.ovis_u1.checkpoint import BACKBONE, GENERATOR, REMEDY, VAE, Checkpoint
from families.ovis_u1.language import TEMPLATE, LanguagePart, allowed
from families.part_digest import part_digest, tokenizer_digest, weights_digest

if TYPE_CHECKING:
    import torch

DEFAULTS: Mapping[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 1536,
    "context_in_dim": 3072,
    "hidden_size": 1536,
    "mlp_ratio": 4,
    "num_heads": 12,
    "depth": 6,
    "depth_single_blocks": 12,
    "axes_dim": [16, 56, 56],
    "theta": 10_000,
    "qkv_bias": True,
    "guidance_embed": False,
}
"""Keys of the transformer's configuration, with what the original takes for a missing one."""
COUNTS = tuple(key for key, value in DEFAULTS.items() if type(value) is int and key not in ("mlp_ratio", "theta"))


class Model(FlowModel):
    """``text`` (N, T, D): the last two layers of the language model, of as many tokens as the prompt has, unpadded.

    The transformer takes no mask, so prompts of several lengths do not pass through it together.

    Args:
        path: the original folder.
        device: where tensors and modules live.
        vae: folder of another autoencoder, instead of the base's own.
        text_dtype: dtype in which the language part computes.
        vae_dtype: dtype in which the autoencoder computes.
        language: ``base.language`` of the config.

    Raises:
        InputError: the folder is no checkpoint that can be run, or its code is not allowed to.
    """

    SIGMAS_GIVEN: ClassVar[bool] = True
    PATCH: ClassVar[int] = PATCH

    def __init__(
        self,
        path: Path,
        *,
        device: Any = "cpu",
        vae: Path | None = None,
        text_dtype: str = "float32",
        vae_dtype: str = "float32",
        language: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.device = path, device
        self.checkpoint = Checkpoint(path)
        own = OriginalAutoencoder(self.checkpoint, dtype=vae_dtype, device=device)
        self.autoencoder: Autoencoder = own.or_another(vae)
        settings = allowed(language, path)
        self.revision = settings.revision
        self.language = LanguagePart(path, settings, dtype=text_dtype, device=device)
        self._check()

    def _check(self) -> None:
        given, file = self.config, self.checkpoint.file
        if wrong := [key for key in COUNTS if type(given[key]) is not int or given[key] < 0]:
            raise InputError(f"{file}: {wrong[0]} is {given[wrong[0]]!r}, expected a whole number; {REMEDY}")
        width, heads, axes = given["hidden_size"], given["num_heads"], given["axes_dim"]
        language = self.checkpoint.config.get("llm_config", {}).get("hidden_size")
        channels = PATCH * PATCH * self.autoencoder.channels
        turning = isinstance(axes, list) and len(axes) == 3 and not any(axis % 2 for axis in axes)
        expected = {
            "txt_type": ("'refiner'", self.checkpoint.generator.get("txt_type", "refiner") == "refiner"),
            "hidden_size": ("a multiple of twice num_heads", heads > 0 and width % (2 * heads) == 0),
            "axes_dim": ("three even numbers whose sum is the width of a head", turning and sum(axes) * heads == width),
            "vec_in_dim": (f"hidden_size, {width}", given["vec_in_dim"] == width),
            "context_in_dim": (
                f"twice the hidden_size of llm_config, {language}",
                language is None or given["context_in_dim"] == 2 * language,
            ),
            **{
                key: (f"four times the channels of the autoencoder, {channels}", given[key] == channels)
                for key in ("in_channels", "out_channels")
            },
        }
        for key, (what, right) in expected.items():
            if not right:
                value = self.checkpoint.generator.get(key, DEFAULTS.get(key))
                raise InputError(f"{file}: {key} is {value!r}, expected {what}; {REMEDY}")

    @cached_property
    def config(self) -> dict[str, Any]:
        """What shapes the transformer."""
        return {key: self.checkpoint.generator.get(key, default) for key, default in DEFAULTS.items()}

    @property
    def parts(self) -> tuple[str, ...]:
        """What encodes prompts and images."""
        return (*self.text_parts, "vae")

    @property
    def text_parts(self) -> tuple[str, ...]:
        """The language part, the revision of its code, and the words around a prompt."""
        return "language", "revision", "template"

    def content(self, part: str) -> str:
        """Digest of a part; of weights in the hub's cache their commit, which stands for them."""
        commit = commit_of(self.path) if part in ("language", "vae") else None
        return commit or self._digest(part)

    def encoder_digests(self) -> dict[str, str]:
        """Digest of each part."""
        return {part: self._digest(part) for part in self.parts}

    def _digest(self, part: str) -> str:
        if part == "revision":
            return self.revision
        if part == "template":
            return TEMPLATE
        if part == "vae" and not isinstance(self.autoencoder, OriginalAutoencoder):
            return part_digest(self.autoencoder.path)
        files = self.checkpoint.files
        if part == "vae":
            return weights_digest(self.autoencoder.config, files, lambda name: name.startswith(VAE))
        weights = weights_digest({}, files, lambda name: not name.startswith(GENERATOR))
        return json_sha256([weights, tokenizer_digest(self.path)])

    @property
    def latent_channels(self) -> int:
        """Channels of the latents: a quarter of a token's."""
        return int(self.config["in_channels"]) // (PATCH * PATCH)

    @property
    def condition_widths(self) -> dict[str, int]:
        """Of ``text``."""
        return {"text": int(self.config["context_in_dim"])}

    @property
    def guidance_embedded(self) -> bool:
        """Whether its configuration says so; that of the published one does not."""
        return bool(self.config["guidance_embed"])

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """``text`` (N, T, D) and ``text_lengths`` (N,), on the CPU."""
        texts = self.language.encode(prompts)
        if (made := texts[0].shape[-1]) != (taken := self.condition_widths["text"]):
            raise InputError(
                f"{self.path}: its language part makes conditions of width {made}, its transformer takes {taken} "
                f"(context_in_dim); {REMEDY}"
            )
        return padded(texts)

    def forget_text_encoders(self) -> None:
        """End the process of the language part."""
        self.language.close()

    @property
    def denoiser_class(self) -> Any:
        """Class of the transformer."""
        from families.ovis_u1.transformer import OvisU1Transformer

        return OvisU1Transformer

    def own_denoiser(self, dtype: torch.dtype) -> Any:
        """A fresh copy of the base's transformer, on the CPU.

        Raises:
            InputError: the checkpoint holds other weights than its configuration says.
        """
        import torch

        with torch.device("meta"):
            made = self.denoiser_class(**self.config)
        self.checkpoint.load(BACKBONE, made, dtype)
        return made.eval()

    @property
    def own_weights(self) -> Path:
        """The original folder."""
        return self.path

    @property
    def schedule(self) -> dict[str, Any]:
        """Shifts with the number of tokens where the configuration says so."""
        given = self.checkpoint.generator
        return {
            "use_dynamic_shifting": bool(given.get("timestep_shift", False)),
            "base_shift": given.get("base_shift", 0.5),
            "max_shift": given.get("max_shift", 1.15),
        }

    def velocity(
        self, denoiser: Any, noisy: torch.Tensor, sigmas: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """Predicted ε − x0, (B, C, H, W); prompts that are equally long pass together."""
        import torch

        height, width = noisy.shape[-2:]
        tokens, places = packed(noisy), positions(height, width, sigmas)
        order, found = [], []
        for rows, text in equal_lengths(conditions):
            guidance = conditions["guidance"][rows] if self.guidance_embedded else None
            order.append(rows)
            found.append(denoiser(tokens[rows], places, text, sigmas[rows], guidance))
        return unpacked(torch.cat(found)[torch.cat(order).argsort()], height, width)
