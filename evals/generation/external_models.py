"""Denoisers trained elsewhere: a state dict, a folder in diffusers' layout, or a LoRA; a local path or a hub id.

Each is loaded into the architecture of a base, whose text encoders, autoencoder and noise schedule it is used with.
Every parameter must be there, in its shape, and nothing else. Pickles are read with ``weights_only=True``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import hub
from artifacts.atomic import file_sha256
from artifacts.errors import InputError
from artifacts.file_names import user_path
from artifacts.weight_files import read_state_dict
from evals.generation import lora_files, lora_scale, surroundings
from evals.generation.settings import ExternalModel
from evals.generation.surroundings import AROUND, CONFIG
from evals.networks.weights import read_json
from families.diffusers_folder import DENOISERS, denoiser_folder

if TYPE_CHECKING:
    import torch

    from evals.generation.pipelines import Pipeline

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
FOLDER_WEIGHTS = "diffusion_pytorch_model"
ORIGINAL_WEIGHTS = "model.safetensors"
"""Of a base that is no pipeline of diffusers."""
_PREFIXES = (
    *("module.", "model.", "diffusion_model.", "denoiser.", "visual_generator.", "backbone."),
    *(f"{name}." for name in DENOISERS),
)
# Of the code of Stable Diffusion, SDXL, SD3 and FLUX.
_ORIGINAL_NAMES = (
    *("model.diffusion_model.", "diffusion_model.", "input_blocks.", "first_stage_model."),
    *("joint_blocks.", "double_blocks."),
)
# Cross-attention width of the denoiser, by which families are told apart.
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}


def locate(model: ExternalModel) -> Path:
    """The weight file, or the folder with ``config.json`` and weights; fetched if it is on the hub and not here.

    Raises:
        InputError: there is none or more than one, it cannot be fetched, or its digest is another one.
    """
    root = user_path(model.source) if hub.is_local(model.source) else _fetch(model.source, model.file)
    path = root / model.file if model.file else root
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; correct source and file of the model")
    if path.is_dir():
        own = denoiser_folder(path) or (path if (path / CONFIG).is_file() else None)
        # Beside the weights of a step of a training lies their moving average.
        average = path / f"{own.name}_ema" if own and own != path else None
        found = [one for one in (own, average) if one is not None and (one / CONFIG).is_file()]
        found += [path / name for name in lora_files.FILES if (path / name).is_file()]
        if not found:
            known = [*(f"{name}/{CONFIG}" for name in DENOISERS), CONFIG, *lora_files.FILES[:2]]
            raise InputError(f"{path}: holds neither {' nor '.join(known)}; name the weights with `file`")
        if len(found) > 1:
            names = " and ".join(one.relative_to(path).as_posix() for one in found)
            raise InputError(f"{path}: holds {names}; name the one that is meant with `file`")
        path = found[0]
    elif path.suffix not in WEIGHT_SUFFIXES:
        raise InputError(f"{path}: not a weight file; expected one of {', '.join(WEIGHT_SUFFIXES)}")
    if model.sha256 is not None:
        weights = [file for file in weight_files(path) if file.suffix in WEIGHT_SUFFIXES]
        if len(weights) > 1:
            raise InputError(
                f"{path}: its weights are in {len(weights)} files, {weights[0].name} …, and sha256 is of one; leave it "
                "out, or join them"
            )
        if (digest := file_sha256(weights[0])) != model.sha256:
            raise InputError(
                f"{weights[0]}: sha256 is {digest}, expected {model.sha256}; fetch it again, or correct the config"
            )
    return path


def weight_files(path: Path) -> list[Path]:
    """Files that :func:`load` reads weights from at a path of :func:`locate`; of PEFT's LoRA its settings, last.

    In a folder they are those that diffusers takes: the shards of an index, else the one file; pickles where there is
    nothing better. Copies (``.fp16.``, ``.bf16.``, ``.non_ema.``, whole or in shards) are none of them.

    Raises:
        InputError: the folder holds none, or not all of them.
    """
    if path.is_file():
        config = path.with_name(lora_scale.CONFIG)
        return [path, config] if path.name.startswith("adapter_model") and config.is_file() else [path]
    for name in (f"{FOLDER_WEIGHTS}.safetensors", f"{FOLDER_WEIGHTS}.bin", ORIGINAL_WEIGHTS):
        index, whole = path / f"{name}.index.json", path / name
        if index.is_file():
            shards = _shards(index)
            if missing := [shard for shard in shards if not shard.is_file()]:
                raise InputError(f"{missing[0]}: no such file, but {index.name} names it; complete the folder")
            return shards
        if whole.is_file():
            return [whole]
    copies = sorted(file.name for file in path.glob(f"{FOLDER_WEIGHTS}*") if file.suffix in WEIGHT_SUFFIXES)
    has = f", only {copies[0]}: name it with `file`" if copies else "; complete the folder"
    raise InputError(f"{path}: cannot be loaded: it holds no {FOLDER_WEIGHTS}.safetensors{has}")


def settings_beside(path: Path) -> list[Path]:
    """Files beside a weight file that may say how it counts, where they are: of its folder, or of PEFT's LoRA."""
    return [file for name in (CONFIG, lora_scale.CONFIG) if (file := path.with_name(name)).is_file()]


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    names = list(names.values()) if isinstance(names, Mapping) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise InputError(f"{index}: its weight_map names no files beside it; fetch the file again")
    return [index.with_name(name) for name in sorted(set(names))]


def load(path: Path, pipeline: Pipeline) -> Any:
    """The denoiser at a path of :func:`locate`, ready to sample from.

    Args:
        path: weight file or folder.
        pipeline: of the base that it belongs to.

    Raises:
        InputError: the weights cannot be read, are not finite, or are of another architecture than the base; or the
            pipeline that they lie in says that they predict something else than the base's denoiser.
    """
    import torch

    state: dict[str, torch.Tensor] = {}
    for file in weight_files(path):
        if file.suffix in WEIGHT_SUFFIXES:
            more = read_state_dict(file)
            if twice := state.keys() & more.keys():
                raise InputError(f"{file}: '{min(twice)}' is in another shard, too; fetch the folder again")
            state.update(more)
            surroundings.check_metadata(file, pipeline)
    if path.is_file() and lora_files.is_adapter(path, state):
        # Merged in float32, whatever the precision to draw in.
        surroundings.check_adapters(path)
        denoiser = pipeline.own_denoiser(torch.float32)
        lora_files.merge(path, state, denoiser, pipeline.path)
    else:
        state = _in_diffusers_names(state)
        _check(path, state, pipeline)
        folder = surroundings.folder_of(path, pipeline)
        if folder is not None:
            surroundings.check(folder, pipeline)
        config = pipeline.denoiser_config if folder is None else surroundings.own_config(folder, pipeline)
        try:
            denoiser = _empty(pipeline.denoiser_class, config)
            denoiser.load_state_dict(state, assign=True)
        # Only of a folder's own configuration; what diffusers raises depends on the key that is wrong.
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: weights and config.json are of different architectures ({reason})") from error
    return denoiser.to(pipeline.device, pipeline.dtype).eval().requires_grad_(False)


def _empty(kind: Any, config: Mapping[str, Any]) -> Any:
    """An architecture without memory for its weights."""
    import torch

    with torch.device("meta"):
        return kind.from_config(config)


def _in_diffusers_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same without prefixes that all names share, as those of a pipeline or of a module that was trained."""
    found = dict(state)
    while prefix := next((p for p in _PREFIXES if found and all(key.startswith(p) for key in found)), ""):
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def _check(path: Path, state: Mapping[str, torch.Tensor], pipeline: Pipeline) -> None:
    """Names, shapes and kinds of numbers must be those of the base."""
    base = _empty(pipeline.denoiser_class, pipeline.denoiser_config).state_dict()
    wanted = {name: tuple(tensor.shape) for name, tensor in base.items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    wrong = [
        f"'{names[0]}' is {how} ({len(names)} in all)"
        for how, names in (
            ("missing", [name for name in wanted if name not in found]),
            ("unknown", [name for name in found if name not in wanted]),
        )
        if names
    ]
    if not wrong and (shaped := [name for name in wanted if found[name] != wanted[name]]):
        name = shaped[0]
        wrong = [f"'{name}' has shape {found[name]}, expected {wanted[name]} ({len(shaped)} in all)"]
    if not wrong:
        if whole := [name for name, tensor in state.items() if not tensor.is_floating_point()]:
            raise InputError(
                f"{path}: '{whole[0]}' is of {state[whole[0]].dtype} ({len(whole)} in all), expected floating point; "
                "give the weights before they were quantised"
            )
        return
    if any(name.startswith(_ORIGINAL_NAMES) or ".input_blocks." in name for name in found):
        hint = "it is a whole checkpoint in the original layout: convert it with diffusers' single-file loader"
    elif (theirs := _text_width(found)) != (ours := _text_width(wanted)) and None not in (theirs, ours):
        hint = f"it takes text of width {_family(theirs)}, the base's text has {_family(ours)}: give its own base"
    else:
        hint = "give the base that it was trained from"
    raise InputError(f"{path}: not a denoiser of the base {pipeline.path}: {', '.join(wrong)}; {hint}")


def _text_width(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    return next((shape[1] for name, shape in shapes.items() if name.endswith("attn2.to_k.weight")), None)


def _family(width: int | None) -> str:
    return f"{width} ({_WIDTHS[width]})" if width in _WIDTHS else str(width)


def _fetch(source: str, file: str | None) -> Path:
    """The folder of a hub id's revision, with what is needed of it."""
    if file is not None and file.endswith(WEIGHT_SUFFIXES):
        beside = [Path(file).with_name(name).as_posix() for name in (CONFIG, lora_scale.CONFIG)]
        around = [(Path(file).parent.parent / name).as_posix() for name in AROUND]
        return _snapshot(source, file, [file, *beside, *around])
    top = "" if file is None else f"{file.rstrip('/')}/"
    folders = (*(f"{top}{name}/" for name in DENOISERS), top)
    averages = [f"{top}{name}_ema/{CONFIG}" for name in DENOISERS]
    # Of the pipeline, whose denoiser the file may be.
    around = [(path / name).as_posix() for path in (Path(top), Path(top).parent) for name in AROUND]
    # Pickles only where there is nothing better, so that each weight is fetched once.
    for suffix in (".safetensors", ".bin"):
        weights = [f"{FOLDER_WEIGHTS}{end}" for end in (suffix, f"-?????-of-?????{suffix}", f"{suffix}.index.json")]
        weights += [name for name in lora_files.FILES if name.endswith(suffix)]
        names = (CONFIG, lora_scale.CONFIG, *weights)
        root = _snapshot(source, file, [*around, *averages, *(folder + name for folder in folders for name in names)])
        if any(next((root / folder).glob(name), None) for folder in folders for name in weights):
            break
    return root


def _snapshot(source: str, file: str | None, wanted: Sequence[str]) -> Path:
    """Files of a hub id's revision, by patterns."""
    name, _, revision = source.partition("@")
    if not revision:
        raise InputError(f"{source}: no such file or folder; a hub id needs its revision: {name}@<commit>")
    try:
        return hub.snapshot(name, revision, wanted)
    except InputError as error:
        what = f"hf download {name} {file or ''}".rstrip()
        raise InputError(
            f"{source}: not here and cannot be fetched ({error}); fetch it where there is a network with "
            f"`{what} --revision {revision}`, or give a local path as source"
        ) from error
