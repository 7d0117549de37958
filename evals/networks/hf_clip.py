"""CLIP in transformers' layout: the folder ``config.json`` + ``model.safetensors`` (or ``pytorch_model.bin``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.weight_files import read_state_dict
from evals.networks.weights import first_file, load_strictly, read_json

if TYPE_CHECKING:
    import torch
    from transformers.models.clip.modeling_clip import CLIPModel, CLIPVisionModelWithProjection

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# Hidden size, layers and patch of the image towers that are published.
PUBLISHED = {"ViT-B/32": (768, 12, 32), "ViT-L/14": (1024, 24, 14), "ViT-H/14": (1280, 32, 14)}
# Files of older releases carry this constant buffer.
IGNORED = ("*.position_ids",)


def build(config: dict[str, Any]) -> CLIPModel:
    """A randomly initialised CLIP from the content of ``config.json`` (``text_config``, ``vision_config``, …)."""
    from transformers.models.clip.configuration_clip import CLIPConfig
    from transformers.models.clip.modeling_clip import CLIPModel

    return CLIPModel(CLIPConfig.from_dict(config))


def build_image_tower(config: dict[str, Any]) -> CLIPVisionModelWithProjection:
    """The image half of :func:`build`; ``config`` may also be that of the image tower alone."""
    from transformers.models.clip.configuration_clip import CLIPConfig, CLIPVisionConfig
    from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection

    if config.get("model_type") == "clip_vision_model":
        return CLIPVisionModelWithProjection(CLIPVisionConfig.from_dict(config))
    both: Any = CLIPConfig.from_dict(config)
    # The full model projects to its own width, whatever the tower's configuration says.
    both.vision_config.projection_dim = both.projection_dim
    return CLIPVisionModelWithProjection(both.vision_config)


def read(folder: Path, scorer: str, device: torch.device, published: str) -> tuple[CLIPModel, dict[str, Path]]:
    """The model in float32 and the files it was read from.

    Args:
        published: the scorer's own among :data:`PUBLISHED`; the others are refused.

    Raises:
        InputError: a file is missing, the weights do not fit the configuration, or are another model's.
    """
    model, weights, files = _build_for(folder, scorer, device, build, ("clip",), published)
    load_strictly(model, read_state_dict(weights), weights, ignored=IGNORED)
    return model.eval(), files


def read_image_tower(
    folder: Path, scorer: str, device: torch.device, published: str
) -> tuple[CLIPVisionModelWithProjection, dict[str, Path]]:
    """The image tower in float32, from a full CLIP or from the tower alone, and the files it was read from.

    Args:
        published: as for :func:`read`.

    Raises:
        InputError: a file is missing, the weights do not fit the configuration, or are another model's.
    """
    types = ("clip", "clip_vision_model")
    model, weights, files = _build_for(folder, scorer, device, build_image_tower, types, published)
    ignored = (*IGNORED, "text_model.*", "text_projection.weight", "logit_scale")
    load_strictly(model, read_state_dict(weights), weights, ignored=ignored)
    return model.eval(), files


def image_embedding(model: CLIPModel | CLIPVisionModelWithProjection, pixels: torch.Tensor) -> torch.Tensor:
    """Unit vectors (B, D), float32; differentiable.

    Projects by hand: the models' own feature methods return tensors or output objects, depending on the release.
    """
    from torch.nn.functional import normalize

    pooled = model.vision_model(pixel_values=pixels).pooler_output
    return normalize(model.visual_projection(pooled).float(), dim=-1)


def text_embedding(model: CLIPModel, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """Unit vectors (B, D), float32; differentiable."""
    from torch.nn.functional import normalize

    pooled = model.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
    return normalize(model.text_projection(pooled).float(), dim=-1)


def end_token(config: Any) -> int:
    """Id of the token at which CLIP's text tower pools.

    Configurations written before transformers 4.31 say 2 and mean the largest id.
    """
    text = config.text_config
    return int(text.vocab_size - 1 if text.eos_token_id == 2 else text.eos_token_id)


def _build_for(
    folder: Path, scorer: str, device: torch.device, make: Any, types: tuple[str, ...], published: str
) -> Any:
    import torch

    weights = first_file(folder, WEIGHT_FILES, scorer)
    path = folder / "config.json"
    config = read_json(path)
    if config.get("model_type", "clip") not in types:
        raise InputError(f"{path}: model_type is '{config['model_type']}', expected {' or '.join(types)}")
    vision = config.get("vision_config", config)
    if isinstance(vision, dict):
        size = tuple(vision.get(key) for key in ("hidden_size", "num_hidden_layers", "patch_size"))
        found = next((name for name, known in PUBLISHED.items() if size == known), published)
        pixels = vision.get("image_size", 224)
        if found != published or (size == PUBLISHED[published] and pixels != 224):
            raise InputError(
                f"{path}: is {found} for images of {pixels} pixels, scorer '{scorer}' is {published} for 224; give its "
                "weights"
            )
    try:
        # Initialising on the device spares a large model the slow initialisation on the CPU.
        with torch.device(device):
            model = make(config)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: not a CLIP configuration: {str(error).strip().splitlines()[0]}") from error
    return model, weights, {"weights": weights, "config": path}
