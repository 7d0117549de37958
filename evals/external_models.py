"""Denoisers trained elsewhere: a state dict, a folder in diffusers' layout, or a LoRA; a local path or a hub id.

Each is loaded into the architecture of a base, whose text encoders, autoencoder and noise schedule it is used with.
Every parameter must be there, in its shape, and nothing else. Pickles are read with ``weights_only=True``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import file_sha256
from artifacts.errors import InputError
from artifacts.hub import is_local
from artifacts.parts import load_part
from evals.scorers.weights import read_state_dict

if TYPE_CHECKING:
    import torch

    from evals.text_to_image import Pipeline

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
FOLDER_WEIGHTS = "diffusion_pytorch_model"
COPIES = ("*.fp16.*", "*non_ema*")
"""Copies of the same weights, in half precision or not averaged; taken only where a config names them."""
LORA_FILE = "pytorch_lora_weights.safetensors"
# Cross-attention width of the denoiser, by which families are told apart.
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}


@dataclass(frozen=True)
class ExternalModel:
    """Where a denoiser lies.

    Attributes:
        source: file, folder, or hub id ``owner/name@revision``.
        file: file or folder within ``source``.
        sha256: hex digest that the weight file must have.
    """

    source: str
    file: str | None = None
    sha256: str | None = None


def locate(model: ExternalModel) -> Path:
    """The weight file, or the folder with ``config.json`` and weights; fetched if it is on the hub and not here.

    Raises:
        InputError: there is none, it cannot be fetched, or its digest is another one.
    """
    root = Path(model.source).expanduser() if is_local(model.source) else _fetch(model.source, model.file)
    path = root / model.file if model.file else root
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; correct source and file of the model")
    if path.is_dir():
        path = next((p for p in (path / "unet", path, path / LORA_FILE) if p.is_file() or _is_part(p)), path)
        if path.is_dir() and not _is_part(path):
            raise InputError(
                f"{path}: holds neither unet/config.json nor config.json nor {LORA_FILE}; name the weights with `file`"
            )
    elif path.suffix not in WEIGHT_SUFFIXES:
        raise InputError(f"{path}: not a weight file; expected one of {', '.join(WEIGHT_SUFFIXES)}")
    if model.sha256 is not None:
        weights = weight_files(path)
        digest = file_sha256(weights[0])
        if len(weights) != 1 or digest != model.sha256:
            raise InputError(
                f"{weights[0]}: sha256 is {digest}, expected {model.sha256}; fetch it again, or correct the config"
            )
    return path


def weight_files(path: Path) -> list[Path]:
    """Files of :func:`locate`'s path that hold weights, in the order in which they are preferred."""
    if path.is_file():
        return [path]
    if not (found := _weights_in(path)):
        raise InputError(f"{path}: holds no {FOLDER_WEIGHTS}.safetensors; complete the folder")
    return found


def _weights_in(folder: Path) -> list[Path]:
    for suffix in WEIGHT_SUFFIXES:
        files = sorted(folder.glob(f"{FOLDER_WEIGHTS}*{suffix}"))
        if found := [file for file in files if not any(file.match(pattern) for pattern in COPIES)]:
            return found
    return []


def load(path: Path, pipeline: Pipeline) -> Any:
    """The denoiser at a path of :func:`locate`, ready to sample from.

    Args:
        path: weight file or folder.
        pipeline: of the base that it belongs to.

    Raises:
        InputError: the weights cannot be read, or are of another architecture than the base.
    """
    from diffusers import UNet2DConditionModel

    if path.is_dir():
        unet = load_part(UNet2DConditionModel, path, torch_dtype=pipeline.dtype)
        _check(path, unet.state_dict(), pipeline)
    else:
        state = read_state_dict(path)
        if any("lora" in key for key in state):
            unet = _with_lora(path, pipeline)
        else:
            _check(path, state, pipeline)
            unet = _empty_unet(pipeline)
            unet.load_state_dict(state, assign=True)
    return unet.to(pipeline.device, pipeline.dtype).eval().requires_grad_(False)


def _is_part(folder: Path) -> bool:
    return (folder / "config.json").is_file()


def _empty_unet(pipeline: Pipeline) -> Any:
    """The base's architecture without memory for its weights."""
    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config(pipeline.unet_config)


def _check(path: Path, state: Mapping[str, torch.Tensor], pipeline: Pipeline) -> None:
    """Names and shapes must be those of the base."""
    wanted = {name: tuple(tensor.shape) for name, tensor in _empty_unet(pipeline).state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    shaped = [name for name, shape in wanted.items() if found.get(name, shape) != shape]
    if not missing and not unknown and not shaped:
        return
    if any(name.startswith("model.diffusion_model.") for name in found):
        hint = "it is a whole checkpoint in the original layout: convert it with diffusers' single-file loader"
    elif (theirs := _text_width(found)) != (ours := _text_width(wanted)):
        hint = f"it takes text of width {_family(theirs)}, the base's text has {_family(ours)}: give its own base"
    else:
        hint = "give the base that it was trained from"
    first = (
        f"'{missing[0]}' is missing ({len(missing)} in all)"
        if missing
        else f"'{unknown[0]}' is unknown ({len(unknown)} in all)"
        if unknown
        else f"'{shaped[0]}' has shape {found[shaped[0]]}, expected {wanted[shaped[0]]} ({len(shaped)} in all)"
    )
    raise InputError(f"{path}: not a denoiser of the base {pipeline.path}: {first}; {hint}")


def _text_width(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    return next((shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")), None)


def _family(width: int | None) -> str:
    return f"{width} ({_WIDTHS[width]})" if width in _WIDTHS else str(width)


def _with_lora(path: Path, pipeline: Pipeline) -> Any:
    """The base's denoiser with a LoRA merged into its weights, in float32.

    The formats of diffusers, PEFT and kohya are read by diffusers, which passes over what it does not know; so the
    layers that came to be are counted.
    """
    import torch
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin, StableDiffusionXLLoraLoaderMixin

    unet = load_part(UNet2DConditionModel, pipeline.path / "unet", torch_dtype=torch.float32)
    reader = StableDiffusionXLLoraLoaderMixin if pipeline.two_encoders else StableDiffusionLoraLoaderMixin
    try:
        read, alphas = reader.lora_state_dict(str(path), unet_config=unet.config)
        if any(key.startswith("text_encoder") for key in read):
            raise InputError(
                f"{path}: the LoRA changes text encoders too; only the denoiser of a model is exchanged here"
            )
        prefixed = {key if key.startswith("unet.") else f"unet.{key}": value for key, value in read.items()}
        pairs = sum(
            key.endswith((".lora_A.weight", ".lora_B.weight", ".down.weight", ".up.weight")) for key in prefixed
        )
        unet.load_lora_adapter(prefixed, network_alphas=alphas, prefix="unet", adapter_name="external")
    except InputError:
        raise
    # What diffusers and peft raise for layers that do not fit depends on their versions.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: not a LoRA of the base {pipeline.path} ({reason}); give its own base") from error
    made = sum(".lora_A." in name or ".lora_B." in name for name, _ in unet.named_parameters())
    if made != pairs or pairs == 0:
        raise InputError(
            f"{path}: {pairs - made} of {pairs} LoRA matrices have no place in the base {pipeline.path}; "
            "give its own base"
        )
    unet.fuse_lora()
    unet.unload_lora()
    return unet


def _fetch(source: str, file: str | None) -> Path:
    """The folder of a hub id's revision, with what is needed of it."""
    if file is not None and file.endswith(WEIGHT_SUFFIXES):
        return _snapshot(source, file, [file])
    top = "" if file is None else f"{file.rstrip('/')}/"
    folders = (f"{top}unet/", top)
    # Pickles only where there is nothing better, so that each weight is fetched once.
    for suffix in (".safetensors", ".bin"):
        names = ("config.json", f"{FOLDER_WEIGHTS}*{suffix}", f"{FOLDER_WEIGHTS}{suffix}.index.json", LORA_FILE)
        wanted = [folder + name for folder in folders for name in names]
        root = _snapshot(source, file, wanted, COPIES)
        if any((root / folder / LORA_FILE).is_file() or _weights_in(root / folder) for folder in folders):
            break
    return root


def _snapshot(source: str, file: str | None, wanted: Sequence[str], left_out: Sequence[str] = ()) -> Path:
    """Files of a hub id's revision, by patterns."""
    from huggingface_hub import snapshot_download

    name, _, revision = source.partition("@")
    if not revision:
        raise InputError(f"{source}: no such file or folder; a hub id needs its revision: {name}@<commit>")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[*wanted], ignore_patterns=[*left_out]))
    # What is raised without network, account or such a revision depends on the library's version.
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        what = f"hf download {name} {file or ''}".rstrip()
        raise InputError(
            f"{source}: not here and cannot be fetched ({reason}); fetch it where there is a network with "
            f"`{what} --revision {revision}`, or give a local path as source"
        ) from error
