"""CLIP in open_clip's layout and the scorers that are its raw cosine: HPSv2 and CLIP score.

The architecture, GELU or QuickGELU included, comes from ``open_clip_config.json``; a weight file without one is
taken for the protocol's own: ViT-H-14 for HPSv2 and the paper's CLIP score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import write_json
from artifacts.errors import InputError
from artifacts.weight_files import read_state_dict
from evals.networks.interface import PixelScorer, PromptTokens, Scorer, fingerprint, torch_device
from evals.networks.preprocessing import CLIP_MEAN, CLIP_STD, Fit, Preprocessing
from evals.networks.prompt_encodings import PromptEncodings
from evals.networks.weights import load_strictly, local_path, read_json

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
# OpenAI's models: as open_clip's ViT-B-32-quickgelu.json and ViT-L-14-quickgelu.json.
OPENAI_VIT_B_32: dict[str, Any] = {
    "embed_dim": 512,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}
OPENAI_VIT_L_14: dict[str, Any] = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 24, "width": 1024, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 768, "heads": 12, "layers": 12},
}
# Published networks by what tells them apart, for messages.
PUBLISHED = {"ViT-H-14": VIT_H_14, "OpenAI's ViT-B-32": OPENAI_VIT_B_32, "OpenAI's ViT-L-14": OPENAI_VIT_L_14}


@dataclass(frozen=True)
class Convention:
    """What a protocol does around the cosine.

    Attributes:
        fit: from image to square.
        prefix: put before each prompt.
        factor: the cosine's.
        at_least_zero: whether negative scores become 0.
        architecture: ``model_cfg`` of a weight file that comes without one, and the only published one that a file with
            one may have; ``None`` is ViT-H-14.
    """

    fit: Fit = "crop"
    prefix: str = ""
    factor: float = 1.0
    at_least_zero: bool = False
    architecture: dict[str, Any] | None = None

    def score(self, cosines: torch.Tensor) -> torch.Tensor:
        """Scores of cosines, elementwise."""
        scores = self.factor * cosines
        return scores.clamp(min=0.0) if self.at_least_zero else scores


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


def create(
    *,
    scorer: str,
    version: int,
    expected: str,
    patterns: Sequence[str],
    protocol: str,
    convention: Convention,
    weights: str | Path,
    device: str,
    dtype: str,
    batch_size: int,
) -> Scorer:
    """The cosine scorer of an open_clip model.

    Args:
        scorer, version: name and version of the scorer's module, as the fingerprint has them.
        expected: what ``weights`` should be, for messages.
        patterns: names of weight files in a folder, the preferred first.
        convention: what ``protocol`` does around the cosine; other arguments as in :func:`evals.scorers.create`.

    Raises:
        InputError: the weights are missing, ambiguous or not those of their configuration.
    """
    file, config_path = find(weights, scorer, expected, patterns)
    model_cfg, preprocessing = read_config(config_path, convention)
    import torch

    where, precision = torch_device(device), getattr(torch, dtype)
    try:
        with torch.device(where):
            model = build(model_cfg)
    except (TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise InputError(f"{config_path}: 'model_cfg' is not a plain open_clip CLIP: {error}") from error
    load_strictly(model, read_state_dict(file), file)
    model = model.to(precision).eval()
    tokenize, tokens, tokenizer_files = _tokenizer(file.parent, model_cfg["text_cfg"], scorer)

    def full(prompts: Sequence[str]) -> list[str]:
        return [convention.prefix + prompt for prompt in prompts]

    encodings = PromptEncodings(lambda prompts: text_embedding(model, tokenize(full(prompts)).to(where)))

    def rate(pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        return convention.score((image_embedding(model, pixels) * encodings(prompts)).sum(dim=-1))

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
        tokens=replace(tokens, ids=lambda prompts: tokens.ids(full(prompts))),
    )


def find(weights: str | Path, scorer: str, expected: str, patterns: Sequence[str]) -> tuple[Path, Path | None]:
    """The weight file, and the configuration beside it if a folder was given and has one.

    A file given by itself is the protocol's own architecture, whatever lies beside it.

    Raises:
        InputError: there is no such file or folder, no weight file in it, or more than one.
    """
    path = local_path(weights, scorer, expected)
    if not path.is_dir():
        return path, None
    config = path / CONFIG_FILE
    return _weight_file(path, scorer, patterns), config if config.is_file() else None


def _weight_file(folder: Path, scorer: str, patterns: Sequence[str]) -> Path:
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            listed = ", ".join(file.name for file in found)
            raise InputError(f"{folder}: scorer '{scorer}' finds {listed}: give the path of one of them")
        if found:
            return found[0]
    raise InputError(f"{folder}: scorer '{scorer}' finds no {' or '.join(patterns)} there; complete the folder")


def read_config(path: Path | None, convention: Convention) -> tuple[dict[str, Any], Preprocessing]:
    """``model_cfg`` and preprocessing; the convention's own without a file.

    Raises:
        InputError: the file is not an ``open_clip_config.json``, asks for another preprocessing, or is that of a
            published network which is not the protocol's.
    """
    if path is None:
        own = convention.architecture or VIT_H_14
        return own, Preprocessing(own["vision_cfg"]["image_size"], fit=convention.fit)
    content = read_json(path)
    model_cfg, preprocess = content.get("model_cfg"), content.get("preprocess_cfg", {})
    if not isinstance(model_cfg, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model_cfg.keys():
        raise InputError(f"{path}: 'model_cfg' must have embed_dim, vision_cfg and text_cfg")
    for key, only in (("interpolation", "bicubic"), ("resize_mode", "shortest")):
        if preprocess.get(key, only) != only:
            raise InputError(f"{path}: preprocess_cfg.{key} is '{preprocess[key]}', only '{only}' is implemented")
    square = Preprocessing.square(model_cfg["vision_cfg"].get("image_size", 224), path)
    _check_published(path, model_cfg, convention)
    mean, std = preprocess.get("mean", CLIP_MEAN), preprocess.get("std", CLIP_STD)
    return model_cfg, Preprocessing(square.image_size, tuple(mean), tuple(std), convention.fit)


def _check_published(path: Path, model_cfg: dict[str, Any], convention: Convention) -> None:
    """A network of a published size must be the protocol's; others are somebody's own."""
    own = convention.architecture or VIT_H_14
    for name, published in PUBLISHED.items():
        if _size(model_cfg) == _size(published) and (published is not own or _kind(model_cfg) != _kind(own)):
            expected = next(name for name, cfg in PUBLISHED.items() if cfg is own)
            image_size, quick_gelu = _kind(model_cfg)
            raise InputError(
                f"{path}: 'model_cfg' has the size of {name} (images of {image_size} pixels, "
                f"{'QuickGELU' if quick_gelu else 'GELU'}), the protocol's model is {expected}; give its weights"
            )


def _size(model_cfg: dict[str, Any]) -> list[Any]:
    vision = model_cfg["vision_cfg"]
    return [model_cfg["embed_dim"], *(vision.get(key) for key in ("layers", "width", "patch_size"))]


def _kind(model_cfg: dict[str, Any]) -> tuple[Any, bool]:
    return model_cfg["vision_cfg"].get("image_size", 224), bool(model_cfg.get("quick_gelu", False))


def _tokenizer(
    folder: Path, text_cfg: dict[str, Any], scorer: str
) -> tuple[Callable[[Sequence[str]], torch.Tensor], PromptTokens, dict[str, Path]]:
    length, vocab_size = text_cfg.get("context_length", 77), text_cfg.get("vocab_size", 49408)
    if name := text_cfg.get("hf_tokenizer_name"):
        from evals.networks.clip_tokenizer import ClipTokenizer

        # open_clip pools at the largest id of a sequence, which must be the end token's.
        own = ClipTokenizer.read(
            folder / name, length=length, vocab_size=vocab_size, end_token=vocab_size - 1, scorer=scorer
        )
        return (lambda prompts: own(prompts)[0]), own.tokens, own.files
    from open_clip.tokenizer import SimpleTokenizer

    bpe = SimpleTokenizer(context_length=length, **text_cfg.get("tokenizer_kwargs", {}))
    if bpe.vocab_size != vocab_size:
        raise InputError(
            f"{folder / CONFIG_FILE}: text_cfg.vocab_size is {vocab_size}, open_clip's own vocabulary has "
            f"{bpe.vocab_size} tokens; name a tokenizer folder in text_cfg.hf_tokenizer_name"
        )
    return (lambda prompts: bpe(list(prompts))), prompt_tokens(bpe, length), {}


def prompt_tokens(bpe: Any, length: int) -> PromptTokens:
    """How much of a prompt a model with open_clip's own tokenizer, or its copy in hpsv2, reads."""
    start, end = (bpe.encoder[f"<{name}_of_text>"] for name in ("start", "end"))
    return PromptTokens(length, lambda prompts: [[start, *bpe.encode(prompt), end] for prompt in prompts], end)
