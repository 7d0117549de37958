"""CLIP in open_clip's layout and the scorers that are its raw cosine: HPSv2 and CLIP score.

The architecture, GELU or QuickGELU included, comes from ``open_clip_config.json``; a weight file without one is
taken for ViT-H-14, of which HPSv2 and the paper's CLIP score are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import write_json
from artifacts.errors import InputError
from evals.scorers.interface import PixelScorer, Scorer, fingerprint, torch_device
from evals.scorers.preprocessing import CLIP_MEAN, CLIP_STD, Preprocessing
from evals.scorers.weights import load_strictly, local_path, read_json, read_state_dict

if TYPE_CHECKING:
    import torch

CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILE = "open_clip_model.safetensors"
# As open_clip's own model_configs/ViT-H-14.json.
VIT_H_14: dict[str, Any] = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
}


def build(model_cfg: dict[str, Any]) -> Any:
    """A randomly initialised ``open_clip.model.CLIP`` from the ``model_cfg`` of an ``open_clip_config.json``.

    ``text_cfg.hf_tokenizer_name`` concerns the tokenizer only.
    """
    from open_clip.model import CLIP

    return CLIP(**{key: dict(value) if isinstance(value, dict) else value for key, value in model_cfg.items()})


def save(
    folder: str | Path, model: Any, model_cfg: dict[str, Any], tokenizer: Any = None, *, weight_file: str = WEIGHT_FILE
) -> None:
    """Write a folder in open_clip's hub layout.

    Args:
        tokenizer: a transformers CLIP tokenizer, for a model whose ``model_cfg`` names a tokenizer folder (``.``
            for this folder itself); without one the model must use open_clip's own vocabulary.
        weight_file: ``open_clip_model.safetensors``, or the name of a ``.pt`` file written as HPSv2 publishes its own.
    """
    import torch
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if weight_file.endswith(".safetensors"):
        save_file(state, folder / weight_file)
    else:
        torch.save({"state_dict": state}, folder / weight_file)
    preprocess = {"mean": list(CLIP_MEAN), "std": list(CLIP_STD), "interpolation": "bicubic", "resize_mode": "shortest"}
    write_json(folder / CONFIG_FILE, {"model_cfg": model_cfg, "preprocess_cfg": preprocess})
    if name := model_cfg["text_cfg"].get("hf_tokenizer_name"):
        tokenizer.save_pretrained(str(folder / name))


def image_embedding(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Unit vectors (B, D), float32; differentiable."""
    from torch.nn.functional import normalize

    return normalize(model.encode_image(pixels).float(), dim=-1)


def text_embedding(model: Any, input_ids: torch.Tensor) -> torch.Tensor:
    """Unit vectors (B, D), float32, of token ids (B, context length); differentiable."""
    from torch.nn.functional import normalize

    return normalize(model.encode_text(input_ids).float(), dim=-1)


def cosine(model: Any, pixels: torch.Tensor, input_ids: torch.Tensor) -> torch.Tensor:
    """Cosine (B,), float32, of each image with its own prompt; differentiable."""
    return (image_embedding(model, pixels) * text_embedding(model, input_ids)).sum(dim=-1)


def create(
    *,
    scorer: str,
    version: int,
    expected: str,
    patterns: Sequence[str],
    protocol: str,
    weights: str | Path,
    device: str,
    dtype: str,
    batch_size: int,
) -> Scorer:
    """The cosine scorer of an open_clip model.

    Args:
        scorer, version: name and version of the scorer's module.
        expected: what ``weights`` should be, for messages.
        patterns: names of weight files in a folder, the preferred first; other arguments as in
            :func:`evals.scorers.create`.

    Raises:
        InputError: the weights are missing, ambiguous or not those of their configuration.
    """
    path = local_path(weights, scorer, expected)
    file = _weight_file(path, scorer, patterns) if path.is_dir() else path
    folder = file.parent
    # A file given by itself is ViT-H-14, whatever lies beside it.
    config_path = folder / CONFIG_FILE if path.is_dir() and (folder / CONFIG_FILE).is_file() else None
    model_cfg, preprocessing = _read_config(config_path)
    import torch

    where, precision = torch_device(device), getattr(torch, dtype)
    try:
        with torch.device(where):
            model = build(model_cfg)
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(f"{config_path}: 'model_cfg' is not a plain open_clip CLIP: {error}") from error
    load_strictly(model, read_state_dict(file), file)
    model = model.to(precision).eval()
    tokenize, tokenizer_files = _tokenizer(folder, model_cfg["text_cfg"], scorer)

    def rate(pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        return cosine(model, pixels, tokenize(prompts).to(where))

    return PixelScorer(
        name=scorer,
        fingerprint=fingerprint(
            scorer=scorer,
            version=version,
            protocol=protocol,
            files={"weights": file, **tokenizer_files},
            preprocessing=preprocessing.describe(),
            dtype=dtype,
            architecture=model_cfg,
        ),
        preprocessing=preprocessing,
        device=where,
        dtype=precision,
        batch_size=batch_size,
        rate=rate,
    )


def _weight_file(folder: Path, scorer: str, patterns: Sequence[str]) -> Path:
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            listed = ", ".join(file.name for file in found)
            raise InputError(f"{folder}: scorer '{scorer}' finds {listed}: give the path of one of them")
        if found:
            return found[0]
    raise InputError(f"{folder}: scorer '{scorer}' finds no {' or '.join(patterns)} there; complete the folder")


def _read_config(path: Path | None) -> tuple[dict[str, Any], Preprocessing]:
    """``model_cfg`` and preprocessing; those of ViT-H-14 without a file."""
    if path is None:
        return VIT_H_14, Preprocessing(VIT_H_14["vision_cfg"]["image_size"])
    content = read_json(path)
    model_cfg, preprocess = content.get("model_cfg"), content.get("preprocess_cfg", {})
    if not isinstance(model_cfg, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model_cfg.keys():
        raise InputError(f"{path}: 'model_cfg' must have embed_dim, vision_cfg and text_cfg")
    for key, only in (("interpolation", "bicubic"), ("resize_mode", "shortest")):
        if preprocess.get(key, only) != only:
            raise InputError(f"{path}: preprocess_cfg.{key} is '{preprocess[key]}', only '{only}' is implemented")
    square = Preprocessing.square(model_cfg["vision_cfg"].get("image_size", 224), path)
    mean, std = preprocess.get("mean", CLIP_MEAN), preprocess.get("std", CLIP_STD)
    return model_cfg, Preprocessing(square.image_size, tuple(mean), tuple(std))


def _tokenizer(
    folder: Path, text_cfg: dict[str, Any], scorer: str
) -> tuple[Callable[[Sequence[str]], torch.Tensor], dict[str, Path]]:
    length, vocab_size = text_cfg.get("context_length", 77), text_cfg.get("vocab_size", 49408)
    if name := text_cfg.get("hf_tokenizer_name"):
        from evals.scorers.clip_tokenizer import ClipTokenizer

        # open_clip pools at the largest id of a sequence, which must be the end token's.
        own = ClipTokenizer.read(
            folder / name, length=length, vocab_size=vocab_size, end_token=vocab_size - 1, scorer=scorer
        )
        return (lambda prompts: own(prompts)[0]), own.files
    from open_clip.tokenizer import SimpleTokenizer

    bpe = SimpleTokenizer(context_length=length, **text_cfg.get("tokenizer_kwargs", {}))
    if bpe.vocab_size != vocab_size:
        raise InputError(
            f"{folder / CONFIG_FILE}: text_cfg.vocab_size is {vocab_size}, open_clip's own vocabulary has "
            f"{bpe.vocab_size} tokens; name a tokenizer folder in text_cfg.hf_tokenizer_name"
        )
    return (lambda prompts: bpe(list(prompts))), {}
