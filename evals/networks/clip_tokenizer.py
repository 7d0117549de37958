"""The CLIP tokenizer of transformers, for folders that bring their own vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from evals.networks.interface import PromptTokens
from evals.networks.weights import tokenizer_files

if TYPE_CHECKING:
    import torch

NEEDED = (("tokenizer.json",), ("vocab.json", "merges.txt"))


@dataclass(frozen=True)
class ClipTokenizer:
    """Lower-cased byte-pair encoding without ftfy, cut to ``length`` tokens with start and end token.

    All prompts are padded to ``length``, so that a prompt's embedding is computed in the same shape whatever else is in
    the batch. Padding stands behind the end token, where causal attention does not see it.
    """

    backend: Any
    length: int
    files: dict[str, Path]

    @classmethod
    def read(cls, folder: Path, *, length: int, vocab_size: int, end_token: int, scorer: str) -> ClipTokenizer:
        """Read the tokenizer of a model with these sizes.

        Raises:
            InputError: files are missing, or the vocabulary or the end token is not the model's: the model would
                pool the wrong token, silently.
        """
        files = tokenizer_files(folder, NEEDED, scorer)
        from transformers.models.clip.tokenization_clip import CLIPTokenizer

        backend = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
        if len(backend) > vocab_size:
            raise InputError(
                f"{folder}: the tokenizer has {len(backend)} tokens, the model {vocab_size}; they must match"
            )
        if backend.eos_token_id != end_token:
            raise InputError(
                f"{folder}: the tokenizer's end token is {backend.eos_token_id}, the model pools {end_token}; "
                "they must match"
            )
        return cls(backend, length, files)

    def __call__(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, both int64, (B, length)."""
        encoded = self.backend(
            list(prompts), padding="max_length", truncation=True, max_length=self.length, return_tensors="pt"
        )
        return encoded["input_ids"], encoded["attention_mask"]

    @property
    def tokens(self) -> PromptTokens:
        """How much of a prompt the model reads."""
        return PromptTokens(self.length, partial(whole_ids, self.backend), self.backend.eos_token_id)


def whole_ids(backend: Any, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts by a transformers tokenizer, neither cut nor padded."""
    # Not verbose: transformers would warn of each long prompt.
    ids: list[list[int]] = backend(list(prompts), padding=False, truncation=False, verbose=False)["input_ids"]
    return ids


def without_padding(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask (B, T) cut behind the longest prompt: no token attends to what is cut, so scores stay the same."""
    longest = int(mask.sum(dim=1).max())
    return ids[:, :longest], mask[:, :longest]
