"""From prepared images and prompts to the tensors of a shard."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from families.conditions import TEXT_LENGTHS, converted, moved, packed
from sdpo.pairs.cache.images import PreparedImage, mirrored

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from sdpo.bases import Base
    from sdpo.pairs.cache.settings import EncodingSettings

Tensors = dict[str, "torch.Tensor"]
LATENTS, SIZES, PNG, ENDS, SHAPES = "latents", "sizes", "png", "ends", "latent_shapes"
"""A shard's tensors."""
LENGTHS = "lengths"
"""How much of what is joined is each image's, in tensors on their way into a shard, which has :data:`ENDS`."""
MIRRORED, PROMPT = "mirrored_", "prompt."
"""Prefixes of a shard's tensors: of mirrored images, of prompts."""
PROMPT_ENDS = "prompt_ends"
"""Where the text of each prompt ends, in a shard of prompts that are not all equally long."""


def encode_images(base: Base, batch: Sequence[PreparedImage], settings: EncodingSettings) -> Tensors:
    """Tensors of some images of one size, one row an image.

    Returns:
        ``latents`` (N, 2, C, H, W), mean and standard deviation of the posterior, or (N, 1, C, H, W) where the
        autoencoder has none; the same of the mirrored images with the prefix ``mirrored_`` if asked for. Under
        ``encoding.sizes``: their values one after the other, ``lengths`` (N,) of each image's, and ``latent_shapes``
        (N, 4). If images are stored: ``png``, their files one after the other, and ``lengths``.

    Raises:
        InputError: their latents are not finite.
    """
    import numpy as np
    import torch

    if settings.store == "images":
        files = [png(x.image) for x in batch]
        joined = torch.from_numpy(np.frombuffer(bytearray(b"".join(files)), np.uint8))
        return {LENGTHS: torch.tensor([len(file) for file in files]), PNG: joined}
    dtype = getattr(torch, settings.dtype)
    tensors: Tensors = {}
    for prefix in ("", MIRRORED) if settings.flips else ("",):
        latents = base.encode_images([mirrored(x.image) if prefix else x.image for x in batch]).cpu()
        # One row an image, so that one read has all of it.
        moments = [x for x in (latents.mean, latents.std) if x is not None]
        tensors[prefix + LATENTS] = torch.stack(moments, 1).to(dtype)
    fixed = ", or an autoencoder that bears float16 (base.vae: for SDXL madebyollin/sdxl-vae-fp16-fix)"
    _check_finite(tensors, "an image", [x.sha256 for x in batch], settings, or_else=fixed)
    if settings.sizes is None:
        return tensors
    shapes = torch.tensor([x.shape for x in tensors[LATENTS]])
    return {**{name: x.flatten() for name, x in tensors.items()}, LENGTHS: shapes.prod(1), SHAPES: shapes.int()}


def sizes(batch: Sequence[PreparedImage], settings: EncodingSettings) -> Tensors:
    """``sizes`` (N, 6), int32; ``mirrored_sizes`` too if images may be mirrored."""
    import torch

    tensors = {SIZES: torch.tensor([x.sizes for x in batch], dtype=torch.int32)}
    if settings.flips:
        tensors[MIRRORED + SIZES] = torch.tensor([x.mirrored_sizes for x in batch], dtype=torch.int32)
    return tensors


def encode_prompts(base: Base, prompts: Sequence[str], settings: EncodingSettings) -> Tensors:
    """Conditions of some prompts, one row a prompt, with the prefix ``prompt.``.

    Texts that are not all equally long stand one after the other, with ``prompt.text_lengths`` (N,).

    Raises:
        InputError: they are not finite.
    """
    import torch

    dtype = getattr(torch, settings.dtype)
    found = converted(moved(base.encode_prompts(prompts), "cpu"), dtype)
    numbers = {name: x for name, x in found.items() if name != TEXT_LENGTHS}
    _check_finite(numbers, "a prompt", [repr(text[:80]) for text in prompts], settings)
    return {f"{PROMPT}{name}": x for name, x in packed(found).items()}


def _check_finite(
    tensors: Tensors, owner: str, rows: Sequence[str], settings: EncodingSettings, *, or_else: str = ""
) -> None:
    """Refuse what has left the range of its dtype, by the first row of which it is."""
    for name, tensor in tensors.items():
        if not (finite := tensor.flatten(1).isfinite().all(1)).all():
            raise InputError(
                f"{name} of {owner} is not finite: of {rows[int(finite.long().argmin())]}; encoding.encoder_dtype is "
                f"{settings.encoder_dtype} and encoding.dtype {settings.dtype}; take float32 for both{or_else}"
            )


def png(image: Image) -> bytes:
    """An image and its text entries as PNG, lossless."""
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    for key, text in image.info.items():
        if isinstance(text, str):
            texts.add_text(str(key), text)
    file = io.BytesIO()
    image.save(file, "PNG", pnginfo=texts, compress_level=1)
    return file.getvalue()
