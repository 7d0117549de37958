"""PickScore (Kirstain et al. 2023, arXiv:2305.01569): CLIP ViT-H/14 fine-tuned on Pick-a-Pic.

Protocol ``sdpo``: raw cosine of image and prompt embedding in float32, neither times the logit scale (as the author's
snippet) nor times 100. Range -1 to 1, about 0.2 on generated images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.scorers.interface import PixelScorer, Scorer, fingerprint, torch_device
from evals.scorers.preprocessing import Preprocessing
from evals.scorers.weights import local_folder

if TYPE_CHECKING:
    import torch
    from transformers.models.clip.modeling_clip import CLIPModel

PROTOCOLS = ("sdpo",)
NEEDS_WEIGHTS = True
VERSION = 1
WEIGHTS = "a folder with config.json, model.safetensors and tokenizer.json (or vocab.json and merges.txt)"


def create(*, protocol: str, weights: str | Path, device: str, dtype: str, batch_size: int) -> Scorer:
    """Load PickScore from :data:`WEIGHTS`; arguments as in :func:`evals.scorers.create`.

    Raises:
        InputError: the folder is missing or incomplete, or its weights are not those of its configuration.
    """
    folder = local_folder(weights, "pickscore", WEIGHTS)
    import torch

    from evals.scorers import hf_clip
    from evals.scorers.clip_tokenizer import ClipTokenizer

    where, precision = torch_device(device), getattr(torch, dtype)
    model, files = hf_clip.read(folder, "pickscore", where)
    config: Any = model.config
    text = config.text_config
    tokenizer = ClipTokenizer.read(
        folder,
        length=text.max_position_embeddings,
        vocab_size=text.vocab_size,
        end_token=hf_clip.end_token(config),
        scorer="pickscore",
    )
    model = model.to(precision)
    preprocessing = Preprocessing.square(config.vision_config.image_size, files["config"])

    def rate(pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        ids, mask = tokenizer(prompts)
        return cosine(model, pixels, ids.to(where), mask.to(where))

    return PixelScorer(
        name="pickscore",
        fingerprint=fingerprint(
            scorer="pickscore",
            version=VERSION,
            protocol=protocol,
            files={**files, **tokenizer.files},
            preprocessing=preprocessing.describe(),
            dtype=dtype,
        ),
        preprocessing=preprocessing,
        device=where,
        dtype=precision,
        batch_size=batch_size,
        rate=rate,
    )


def cosine(
    model: CLIPModel, pixels: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> torch.Tensor:
    """Cosine (B,), float32, of each image with its own prompt; differentiable.

    Args:
        pixels: normalised, (B, 3, S, S).
        input_ids, attention_mask: (B, T).
    """
    from evals.scorers.hf_clip import image_embedding, text_embedding

    return (image_embedding(model, pixels) * text_embedding(model, input_ids, attention_mask)).sum(dim=-1)


def save(folder: str | Path, model: CLIPModel, tokenizer: Any) -> None:
    """Write ``model`` and a transformers CLIP tokenizer in PickScore's layout (:data:`WEIGHTS`)."""
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
