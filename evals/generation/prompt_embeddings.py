"""Text embeddings of a prompt set, computed once for a base and shared by all jobs.

They lie in ``prompt_embeddings/<base>/<set>-<digest>.safetensors``, which no rule declares: the digest is of the
prompts, the files of tokenizers and text encoders, the precision, what the base says of the empty prompt, and, where
time ids depend on it, the size of images, so that whatever shapes them makes another file.
Of several jobs that start at once, one computes and the others wait. A damaged file is made again.

The file holds the conditions, such as ``text`` (N, T, D), in the order of the set, and those of the empty prompt with
the prefix ``empty.``; texts that are not all equally long as :func:`families.conditions.packed` has them.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.atomic import json_sha256, replaced_file
from artifacts.locks import held
from families.conditions import Conditions, packed, unpacked

if TYPE_CHECKING:
    from evals.generation.pipelines import Pipeline

FORMAT = 2
"""Raised when the same inputs would give other embeddings."""
_EMPTY = "empty."


def digest(pipeline: Pipeline, prompts: list[str], *, zeros: bool) -> str:
    """Digest of everything that shapes the embeddings of some prompts."""
    return json_sha256(
        {
            "format": FORMAT,
            "prompts": prompts,
            "zeros": zeros and pipeline.asks_for_zeros,
            "dtype": str(pipeline.text_dtype),
            "image_size": pipeline.image_size if pipeline.text_depends_on_size else None,
            "parts": {part: pipeline.content(part) for part in pipeline.text_parts},
        }
    )


def shared(path: Path, pipeline: Pipeline, prompts: list[str], *, zeros: bool) -> tuple[Conditions, Conditions]:
    """Conditions of the prompts, and those of the empty prompt; computed if the file is not there.

    Args:
        path: the file, from :func:`artifacts.layout.prompt_embeddings` with :func:`digest`.
        pipeline: of the base; its text encoders are loaded only if they are needed.
        prompts: N texts.
        zeros: as for :meth:`~evals.generation.pipelines.Pipeline.empty_prompt`.
    """
    if (found := _read(path)) is not None:
        return found
    with held(path.with_suffix(".lock"), doing="encodes these prompts"):
        if (found := _read(path)) is not None:
            return found
        made = pipeline.encode_prompts(prompts), pipeline.empty_prompt(zeros=zeros)
        _write(path, *made)
        return made


def _write(path: Path, conditions: Conditions, empty: Conditions) -> None:
    from safetensors.torch import save_file

    tensors = {**packed(conditions), **{_EMPTY + name: tensor for name, tensor in packed(empty).items()}}
    with replaced_file(path) as temporary:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, temporary)


def _read(path: Path) -> tuple[Conditions, Conditions] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.exists():
        return None
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        print(f"warning: {path} cannot be read ({error}); computing it again", file=sys.stderr)
        return None
    empty = {name.removeprefix(_EMPTY): tensor for name, tensor in tensors.items() if name.startswith(_EMPTY)}
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(_EMPTY)}
    return unpacked(own), unpacked(empty)
