"""PickScore (Kirstain et al. 2023, arXiv:2305.01569): CLIP ViT-H/14 fine-tuned on Pick-a-Pic.

Protocols, in full in docs/scorers.md:

- ``sdpo``: raw cosine of image and prompt embedding, neither times the logit scale nor times 100; range -1 to 1, about
  0.2 on generated images;
- ``author``: times exp(logit scale), which the weights hold, about 20; transformers' own crop. The author's softmax
  over the images of a prompt is left to the comparison: for two images it is the logistic of the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.networks.interface import PixelScorer, Scorer, fingerprint, torch_device
from evals.networks.preprocessing import Fit, Preprocessing
from evals.networks.prompt_encodings import PromptEncodings
from evals.networks.weights import local_folder

if TYPE_CHECKING:
    import torch
    from transformers.models.clip.modeling_clip import CLIPModel

PROTOCOLS = ("sdpo", "author")
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

    from evals.networks import hf_clip
    from evals.networks.clip_tokenizer import ClipTokenizer, without_padding

    where, precision = torch_device(device), getattr(torch, dtype)
    model, files = hf_clip.read(folder, "pickscore", where, "ViT-H/14")
    config: Any = model.config
    text = config.text_config
    tokenizer = ClipTokenizer.read(
        folder,
        length=text.max_position_embeddings,
        vocab_size=text.vocab_size,
        end_token=hf_clip.end_token(config),
        scorer="pickscore",
    )
    fit: Fit = "crop" if protocol == "sdpo" else "crop_floor"
    preprocessing = Preprocessing.square(config.vision_config.image_size, files["config"], fit)
    # Read before the model loses precision.
    factor = 1.0 if protocol == "sdpo" else model.logit_scale.detach().double().exp().item()
    model = model.to(precision)

    def encode(prompts: Sequence[str]) -> torch.Tensor:
        ids, mask = without_padding(*tokenizer(prompts))
        return hf_clip.text_embedding(model, ids.to(where), mask.to(where))

    encodings = PromptEncodings(encode)

    def rate(pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        return factor * (hf_clip.image_embedding(model, pixels) * encodings(prompts)).sum(dim=-1)

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
        tokens=tokenizer.tokens,
    )


def save(folder: str | Path, model: CLIPModel, tokenizer: Any) -> None:
    """Write ``model`` and a transformers CLIP tokenizer in PickScore's layout (:data:`WEIGHTS`)."""
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
