"""Bases of rectified flow whose folder has diffusers' layout: ``model_index.json`` and one subfolder a part."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from artifacts.atomic import tree_sha256
from artifacts.errors import InputError
from artifacts.hub import commit_of
from artifacts.plugins import nearest
from families.autoencoder import Autoencoder
from families.conditions import Conditions, joined
from families.diffusers_folder import DiffusersFolder
from families.flow.model import DENOISER, FlowModel
from families.part_digest import part_digest
from families.parts import load_part

if TYPE_CHECKING:
    import torch

ENCODED_AT_ONCE = 32
"""Prompts a pass of the text encoders."""


class DiffusersFlowModel(FlowModel):
    """A base folder, each part loaded when it is first needed.

    Args:
        path: folder with ``model_index.json`` and one subfolder a part.
        device: where tensors and modules live.
        vae: folder of another autoencoder, instead of the base's own.
        text_dtype: dtype in which text encoders compute.
        vae_dtype: dtype in which the autoencoder computes.
        without: text encoders that are left out, where the family can do without.

    Raises:
        InputError: a part is missing, its parts do not fit each other, or its scheduler is none of flow matching.
    """

    TRANSFORMER: ClassVar[str]
    """Class of the denoiser, of diffusers."""
    TEXT_ENCODERS: ClassVar[Mapping[str, str]]
    """Folder of each tokenizer, and of its text encoder."""
    OPTIONAL: ClassVar[tuple[str, ...]] = ()
    """Text encoders that the model can do without."""

    def __init__(
        self,
        path: Path,
        *,
        device: Any = "cpu",
        vae: Path | None = None,
        text_dtype: str = "float32",
        vae_dtype: str = "float32",
        without: Sequence[str] = (),
    ) -> None:
        self.path, self.device, self.text_dtype = path, device, text_dtype
        self.folder = DiffusersFolder(path, ())
        self.index = self.folder.read(path / "model_index.json")
        self.autoencoder = Autoencoder(path / "vae", dtype=vae_dtype, device=device).or_another(vae)
        self.text_encoders = self._kept(without)
        for part in self.parts:
            if not (path / part).is_dir():
                raise InputError(f"{path / part}: missing; a base of this family is a folder in diffusers' layout")
        self._check()

    def _kept(self, without: Sequence[str]) -> dict[str, str]:
        """The text encoders that are there and not left out, each with its tokenizer."""
        for name in without:
            if name not in self.OPTIONAL:
                known = list(self.OPTIONAL)
                hint = nearest(name, known)
                expected = f"one of {', '.join(known)}" if known else "none, since this family needs them all"
                raise InputError(
                    f"base.without: {name} is not what this base can do without; expected {expected}{hint}"
                )
        kept = {}
        for tokenizer, encoder in self.TEXT_ENCODERS.items():
            entry = self.index.get(encoder)
            absent = not isinstance(entry, list) or entry[0] is None
            if absent and encoder not in self.OPTIONAL:
                raise InputError(f"{self.path / 'model_index.json'}: names no {encoder}; fetch the base again")
            if not absent and encoder not in without:
                kept[tokenizer] = encoder
        return kept

    @property
    def parts(self) -> tuple[str, ...]:
        """Folders that the base has and that are used."""
        texts = [part for pair in self.text_encoders.items() for part in pair]
        own = [] if self.autoencoder.path != self.path / "vae" else ["vae"]
        return (*texts, *own, "scheduler", DENOISER)

    def _check(self) -> None:
        scheduler = self.path / "scheduler" / "scheduler_config.json"
        config = self.folder.read(scheduler)
        if not str(name := config.get("_class_name")).startswith("FlowMatch"):
            raise InputError(f"{scheduler}: the scheduler is a {name}, expected one of flow matching")
        if config.get("stochastic_sampling") or config.get("invert_sigmas"):
            key = "stochastic_sampling" if config.get("stochastic_sampling") else "invert_sigmas"
            raise InputError(f"{scheduler}: {key} is set, which is not how this family is drawn from; expected false")
        if self.autoencoder.channels != self.latent_channels:
            raise InputError(
                f"{self.path / DENOISER}: takes latents of {self.latent_channels} channels, but "
                f"{self.autoencoder.path} makes {self.autoencoder.channels}; the parts are not of one base"
            )
        if (size := self.config.get("patch_size", 1)) != (expected := self._patch_size):
            raise InputError(f"{self.path / DENOISER}: patch_size is {size}, expected {expected}")

    @property
    def config(self) -> dict[str, Any]:
        """Content of ``transformer/config.json``."""
        return self.folder.config(DENOISER)

    @property
    @abstractmethod
    def _patch_size(self) -> int:
        """What the transformer's configuration says of :attr:`PATCH`."""

    @property
    def text_parts(self) -> tuple[str, ...]:
        """Folders of tokenizers and text encoders."""
        return tuple(part for pair in self.text_encoders.items() for part in pair)

    def content(self, part: str) -> str:
        """Digest of the files of a part; of a base in the hub's cache its commit, which stands for them."""
        return commit_of(self.path) or tree_sha256(self.path / part)

    @abstractmethod
    def _encoded(self, prompts: Sequence[str]) -> Conditions:
        """Conditions of one batch of prompts."""

    def encode_prompts(self, prompts: Sequence[str]) -> Conditions:
        """Conditions of N prompts, on the CPU in the text encoders' dtype, such as ``text`` (N, T, D)."""
        import torch

        parts = []
        with torch.no_grad():
            for start in range(0, len(prompts), ENCODED_AT_ONCE):
                found = self._encoded(prompts[start : start + ENCODED_AT_ONCE])
                parts.append({name: tensor.cpu() for name, tensor in found.items()})
        return joined(parts)

    @cached_property
    def encoders(self) -> dict[str, tuple[Any, Any]]:
        """Tokenizer and text encoder by the folder of the latter."""
        import torch
        import transformers

        found = {}
        for tokenizer, encoder in self.text_encoders.items():
            library, name = self.index[encoder]
            if library != "transformers":
                index = self.path / "model_index.json"
                raise InputError(f"{index}: part '{encoder}' comes from '{library}'; only transformers is run")
            model = load_part(getattr(transformers, name), self.path / encoder, dtype=getattr(torch, self.text_dtype))
            words = load_part(getattr(transformers, self.index[tokenizer][1]), self.path / tokenizer)
            if len(words) > (rows := int(model.config.vocab_size)):
                raise InputError(
                    f"{self.path / tokenizer}: has {len(words)} tokens, its text encoder embeds {rows} (vocab_size); "
                    "the parts are not of one base"
                )
            found[encoder] = words, model.to(self.device).eval().requires_grad_(False)
        return found

    def forget_text_encoders(self) -> None:
        """Free their memory; they are loaded again if another prompt is encoded."""
        self.__dict__.pop("encoders", None)

    def encoder_digests(self) -> dict[str, str]:
        """Digest of the autoencoder and of each tokenizer and text encoder."""
        texts = [part for pair in self.text_encoders.items() for part in pair]
        return {"vae": part_digest(self.autoencoder.path), **{part: part_digest(self.path / part) for part in texts}}

    @property
    def denoiser_class(self) -> Any:
        """Class of the transformer."""
        import diffusers

        return getattr(diffusers, self.TRANSFORMER)

    def own_denoiser(self, dtype: torch.dtype) -> Any:
        """A fresh copy of the base's transformer, on the CPU."""
        return load_part(self.denoiser_class, self.path / DENOISER, torch_dtype=dtype)

    @property
    def own_weights(self) -> Path:
        """Folder of the base's transformer."""
        return self.path / DENOISER

    @property
    def schedule(self) -> dict[str, Any]:
        """Configuration of the sampler."""
        return self.folder.read(self.path / "scheduler" / "scheduler_config.json")


def tokens(tokenizer: Any, prompts: Sequence[str], length: int) -> torch.Tensor:
    """Ids (N, T) of N prompts, padded and cut to ``length``, or to the tokenizer's own length where that is less."""
    own = tokenizer.model_max_length
    ids: torch.Tensor = tokenizer(
        list(prompts), padding="max_length", max_length=int(min(length, own)), truncation=True, return_tensors="pt"
    ).input_ids
    return ids
