"""Tokens of prompts for a text encoder: padded and cut to the length that both take, as diffusers' pipelines do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch


_SHORTEST = 3
"""Tokens that a prompt takes at least: a start, something of it, an end."""


def check_tokenizer(tokenizer: Any, encoder: Any, folder: Path) -> None:
    """Refuse a tokenizer of another text encoder, or of no length.

    Args:
        tokenizer: of transformers.
        encoder: a text encoder of transformers.
        folder: of the tokenizer, for the message.

    Raises:
        InputError: its tokens are not those that the encoder embeds, or its ``model_max_length`` leaves nothing of a
            prompt.
    """
    length = tokenizer.model_max_length
    # What has no length is said by a number beyond all, which JSON may hold as a fraction.
    if not isinstance(length, int | float) or not length >= _SHORTEST or length % 1:
        raise InputError(
            f"{folder}: model_max_length is {length!r}, expected a number of tokens, {_SHORTEST} or more; fetch the "
            "base again"
        )
    if len(tokenizer) != (rows := int(encoder.config.vocab_size)):
        raise InputError(
            f"{folder}: has {len(tokenizer)} tokens, its text encoder embeds {rows} (vocab_size); "
            "the parts are not of one base"
        )


def token_ids(tokenizer: Any, encoder: Any, prompts: Sequence[str]) -> torch.Tensor:
    """Ids (N, T) of N prompts.

    T is the tokenizer's ``model_max_length``; where its configuration has none, or more than the encoder has positions,
    the encoder's ``max_position_embeddings``.
    """
    length = int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))
    ids: torch.Tensor = tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids
