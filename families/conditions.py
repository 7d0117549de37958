"""Conditions of a denoiser: named tensors, one row an image, such as ``text`` (B, T, D) and ``pooled`` (B, P).

Which names there are, and what a denoiser does with them, is a matter of the base family. Where texts are of several
lengths and the denoiser takes no mask, ``text_lengths`` (B,) says how much of each row of ``text`` is text; the rest is
zeros that no denoiser is shown (:func:`equal_lengths`) and no file holds (:func:`packed`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Conditions = dict[str, "torch.Tensor"]
"""Name to tensor (B, ...); all have the same number of rows."""
TEXT, TEXT_LENGTHS = "text", "text_lengths"
"""Names of the words of prompts, and of how many there are where they are not all equally many."""
TIME_IDS = "time_ids"
"""Name of what SDXL is told of an image: (B, 6) pixels."""


def joined(parts: Sequence[Conditions]) -> Conditions:
    """Conditions of several batches one after the other; all parts have the same names."""
    import torch

    if TEXT_LENGTHS in parts[0]:
        longest = max(part[TEXT].shape[1] for part in parts)
        parts = [{**part, TEXT: _lengthened(part[TEXT], longest)} for part in parts]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _lengthened(text: torch.Tensor, length: int) -> torch.Tensor:
    import torch

    return torch.nn.functional.pad(text, (0, 0, 0, length - text.shape[1]))


def picked(conditions: Conditions, rows: torch.Tensor | slice) -> Conditions:
    """Some rows of conditions."""
    return {name: tensor[rows] for name, tensor in conditions.items()}


def split(conditions: Conditions, size: int) -> list[Conditions]:
    """Consecutive parts of ``size`` rows, the last one perhaps shorter."""
    columns = {name: tensor.split(size) for name, tensor in conditions.items()}
    return [dict(zip(columns, part, strict=True)) for part in zip(*columns.values(), strict=True)]


def converted(conditions: Conditions, dtype: torch.dtype) -> Conditions:
    """The same in another dtype; lengths stay whole numbers."""
    return {name: tensor if name == TEXT_LENGTHS else tensor.to(dtype) for name, tensor in conditions.items()}


def moved(conditions: Conditions, device: Any, dtype: torch.dtype | None = None) -> Conditions:
    """The same on another device, and in another dtype if one is given.

    Counts of pixels are exact in every precision that is used; lengths stay whole numbers.
    """
    return {name: tensor.to(device, None if name == TEXT_LENGTHS else dtype) for name, tensor in conditions.items()}


def repeated(conditions: Conditions, count: int) -> Conditions:
    """Those of one image for each of ``count``."""
    return {name: tensor.expand(count, *tensor.shape[1:]) for name, tensor in conditions.items()}


def zeroed(conditions: Conditions) -> Conditions:
    """The same with zeros for all text; sizes, crops and lengths stay."""
    kept = (TIME_IDS, TEXT_LENGTHS)
    return {name: tensor if name in kept else tensor.new_zeros(tensor.shape) for name, tensor in conditions.items()}


def padded(texts: Sequence[torch.Tensor]) -> Conditions:
    """``text`` and ``text_lengths`` of texts, each (T, D)."""
    import torch

    lengths = torch.tensor([len(text) for text in texts])
    return {TEXT: torch.nn.utils.rnn.pad_sequence(list(texts), batch_first=True), TEXT_LENGTHS: lengths}


def equal_lengths(conditions: Conditions) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Rows (B',) whose texts are equally long, and their texts (B', T', D) without what is no text."""
    lengths = conditions[TEXT_LENGTHS]
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero()[:, 0]
        yield rows, conditions[TEXT][rows, :length]


def packed(conditions: Conditions) -> Conditions:
    """For a file: texts of several lengths one after the other, (T1 + T2 + …, D), without what is no text."""
    import torch

    if TEXT_LENGTHS not in conditions:
        return conditions
    lengths = conditions[TEXT_LENGTHS].tolist()
    texts = [text[:length] for text, length in zip(conditions[TEXT], lengths, strict=True)]
    return {**conditions, TEXT: torch.cat(texts)}


def unpacked(conditions: Conditions) -> Conditions:
    """The inverse of :func:`packed`."""
    if TEXT_LENGTHS not in conditions:
        return conditions
    return {**conditions, **padded(conditions[TEXT].split(conditions[TEXT_LENGTHS].tolist()))}
