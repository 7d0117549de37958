"""The original packages ``image-reward`` 1.5 and ``hpsv2`` 1.2.0, made to run beside current transformers and torch.

Both were last released in 2023 and 2024. Nothing of theirs is changed on disk; what they miss is put in their way while
they are imported and taken away again, so that the rest of the process sees none of it:

- names that transformers moved or dropped, three methods of ``PreTrainedModel``, and the tokenizer's
  ``additional_special_tokens_ids``;
- the module ``clip``, which image-reward imports for two other scores and does not declare;
- ``ImageReward.ReFL``, a trainer that would load diffusers, accelerate and datasets;
- the vocabulary that the wheel of hpsv2 lacks, of which open_clip has the same file, and the module ``turtle``
  (tkinter), which it imports for nothing.

Both packages score one image at a time, and hpsv2 reads its whole checkpoint again for each. They read pickles only: of
a safetensors file, as ``evals weights fetch`` leaves it, they get a temporary copy as one (in ``TMPDIR``).
"""

from __future__ import annotations

import gzip
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from artifacts.atomic import json_sha256
from artifacts.errors import InputError
from artifacts.weight_files import read_state_dict
from evals.networks import open_clip_model
from evals.networks.interface import (
    Fingerprint,
    PromptTokens,
    RefusedImageError,
    Scorer,
    check_lengths,
    fingerprint,
    torch_device,
)
from evals.networks.weights import load_strictly, read_json, tokenizer_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
# Widths of image-reward's reward head, which it does not read from any configuration.
HEAD_INPUT, HEAD_HIDDEN = 768, [1024, 128, 64, 16]


@dataclass(frozen=True)
class PackageScorer:
    """A scorer that hands one image and one prompt at a time to a package.

    Attributes:
        checkpoint: a temporary file that is there as long as the scorer.
    """

    fingerprint: str
    rate: Callable[[Image.Image, str], float]
    tokens: PromptTokens
    checkpoint: object = None

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> NDArray[np.float64]:
        """See :meth:`evals.networks.interface.Scorer.score`.

        Raises:
            RefusedImageError: the package cannot take an image.
        """
        import numpy as np

        check_lengths(len(images), len(prompts))
        scores = np.empty(len(images), dtype=np.float64)
        for place, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            try:
                scores[place] = self.rate(image, prompt)
            except InputError as error:
                raise RefusedImageError(place, str(error)) from error
        return scores


def imagereward(
    path: Path, *, tokens: Callable[[Any], PromptTokens], protocol: str, version: int, device: str, dtype: str
) -> Scorer:
    """ImageReward as ``ImageReward.load`` makes it.

    Args:
        path: ``ImageReward.pt`` or ``ImageReward.safetensors``; beside it ``med_config.json`` and a BERT tokenizer;
            ``vision_config.json`` may shrink the image tower, which then stands in for the package's ViT-L/16.
        tokens: how much of a prompt is read, of a tokenizer.
        protocol: ``sdpo`` hands the package RGB images, ``author`` and ``package`` leave them as they are.

    Raises:
        InputError: a file is missing, or the package cannot build what it describes.
    """
    folder = path.parent
    med_path, vision_path = folder / "med_config.json", folder / "vision_config.json"
    _check_dtype("imagereward", dtype)
    vision = read_json(vision_path) if vision_path.is_file() else None
    state = read_state_dict(path)
    _check_buildable(vision, state, path)
    files = {"weights": path, "med_config": med_path}
    files |= {} if vision is None else {"vision_config": vision_path}
    vocabulary = tokenizer_files(folder, (("tokenizer.json",), ("vocab.txt",)), "imagereward")
    where = torch_device(device)
    package = image_reward_package()
    parts = sys.modules["ImageReward.models.BLIP.blip_pretrain"]
    # Needed until the package has read it.
    pickled, _copy = _as_pickle(path, state)
    with (
        warnings.catch_warnings(),
        redirect_stdout(sys.stderr),
        patch.object(parts, "init_tokenizer", lambda: _bert_tokenizer(folder)),
        patch.object(parts, "create_vit", parts.create_vit if vision is None else _small_vit(vision)),
    ):
        warnings.simplefilter("ignore")
        try:
            model = package.load(name=str(pickled), med_config=str(med_path), device=str(where))
        except (RuntimeError, AttributeError, TypeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"{path}: the package image-reward cannot load it: {reason}") from error
    _check_complete(model, state, path)

    def rate(image: Image.Image, prompt: str) -> float:
        import torch

        with torch.inference_mode():
            reward: float = model.score(prompt, image.convert("RGB") if protocol == "sdpo" else image)
        return reward

    digest = _fingerprint("image-reward", "imagereward", version, protocol, {**files, **vocabulary}, where.type)
    return PackageScorer(digest, rate, tokens(model.blip.tokenizer))


def hpsv2(
    path: Path,
    model_cfg: dict[str, Any],
    *,
    protocol: str,
    factor: float,
    version: int,
    device: str,
    dtype: str,
    published: str,
) -> Scorer:
    """HPSv2 as ``hpsv2.score`` computes it, on a GPU under its own float16 autocast.

    Args:
        path: ``HPS_v2*.pt``, or the same tensors as safetensors.
        model_cfg: architecture in open_clip's terms.
        protocol: ``package``, or ``author`` with a ``factor`` of 100; the package does not compute ``sdpo``.
        published: ``hpsv2`` or ``hpsv21``, whose weights they should be.

    Raises:
        InputError: the protocol, the file or its architecture is not one that the package can do.
    """
    if protocol == "sdpo":
        raise InputError(f"scorer '{published}': the package does not do protocol 'sdpo': choose 'package' or 'author'")
    _check_dtype(published, dtype)
    if "hf_tokenizer_name" in model_cfg["text_cfg"]:
        raise InputError(
            f"{path.parent}: the package hpsv2 has open_clip's own vocabulary only, not one of the folder's"
        )
    where = torch_device(device)
    package = hpsv2_package()
    # The package looks up architectures by name; this one is there for the length of the call.
    name = f"sdpo-bench-{json_sha256(model_cfg)[:12]}"
    with patch.dict(sys.modules["hpsv2.src.open_clip.factory"]._MODEL_CONFIGS, {name: model_cfg}):
        # The arguments of hpsv2.img_score.initialize_model, less the download of LAION's weights, which it overwrites.
        model, _, transform = sys.modules["hpsv2.src.open_clip"].create_model_and_transforms(
            name,
            None,
            precision="amp",
            device=where,
            light_augmentation=True,
            aug_cfg={},
            output_dict=True,
        )
    state = read_state_dict(path)
    load_strictly(model, state, path)
    pickled, copy = _as_pickle(path, {"state_dict": state})
    del state
    size, bpe = model.visual.image_size[0], sys.modules["hpsv2.src.open_clip.tokenizer"]._tokenizer

    def rate(image: Image.Image, prompt: str) -> float:
        if image.mode == "RGBA" or (max(image.size) == size != min(image.size)):
            raise InputError(
                f"the package hpsv2 cannot score {image.mode} images of {image.size[0]} x {image.size[1]} pixels; use "
                "implementation 'native'"
            )
        # Its model and device are global, so that two scorers would overwrite each other's.
        with (
            warnings.catch_warnings(),
            patch.dict(package.model_dict, {"model": model, "preprocess_val": transform}),
            patch.object(package, "device", str(where)),
        ):
            warnings.simplefilter("ignore")
            return factor * float(package.score(image, prompt, cp=str(pickled))[0])

    tokens = open_clip_model.prompt_tokens(bpe, 77)
    digest = _fingerprint(
        "hpsv2", "hpsv2", version, protocol, {"weights": path}, where.type, published=published, architecture=model_cfg
    )
    # The package reads the checkpoint again for each image.
    return PackageScorer(digest, rate, tokens, copy)


def image_reward_package() -> ModuleType:
    """The module ``ImageReward``, imported with what it misses.

    Raises:
        InputError: the package is not installed.
    """
    if "ImageReward" in sys.modules:
        return sys.modules["ImageReward"]
    import torch
    from transformers import modeling_utils, pytorch_utils

    def find_pruneable_heads_and_indices(*_: Any) -> None:
        raise NotImplementedError("transformers has no pruning of heads any more")

    moved: dict[str, Any] = {
        "apply_chunking_to_forward": pytorch_utils.apply_chunking_to_forward,
        "prune_linear_layer": getattr(pytorch_utils, "prune_linear_layer", find_pruneable_heads_and_indices),
        "find_pruneable_heads_and_indices": find_pruneable_heads_and_indices,
    }
    stubs = {name: ModuleType(name) for name in ("clip", "ImageReward.ReFL")}
    with _imported("image-reward"), patch.multiple(modeling_utils, create=True, **moved), _standing_in(stubs):
        package = import_module("ImageReward")
    bert = sys.modules["ImageReward.models.BLIP.med"].BertPreTrainedModel

    def get_head_mask(_self: Any, _mask: Any, layers: int) -> list[None]:
        return [None] * layers

    def invert_attention_mask(self: Any, mask: torch.Tensor) -> torch.Tensor:
        wide = mask[:, None, :, :] if mask.dim() == 3 else mask[:, None, None, :]
        return (1.0 - wide.to(self.dtype)) * torch.finfo(self.dtype).min

    # On the package's own subclass, so that transformers' models keep theirs.
    bert.all_tied_weights_keys = {}
    bert.get_head_mask = get_head_mask
    bert.invert_attention_mask = invert_attention_mask
    return package


def hpsv2_package() -> ModuleType:
    """The module ``hpsv2.img_score``, imported with what it misses.

    Raises:
        InputError: the package is not installed.
    """
    if "hpsv2.img_score" in sys.modules:
        return sys.modules["hpsv2.img_score"]
    from open_clip import tokenizer

    own, open_file = Path(tokenizer.default_bpe()), gzip.open

    def redirected(filename: Any, *arguments: Any, **options: Any) -> Any:
        missing = Path(str(filename)).name == VOCABULARY and not Path(str(filename)).exists()
        return open_file(own if missing else filename, *arguments, **options)

    turtle = ModuleType("turtle")
    turtle.forward = None  # type: ignore[attr-defined]
    with _imported("hpsv2"), patch.object(gzip, "open", redirected), _standing_in({"turtle": turtle}):
        return import_module("hpsv2.img_score")


@contextmanager
def _imported(distribution: str) -> Iterator[None]:
    """Import quietly; the packages change the warning filters of the whole process."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImportError as error:
        raise InputError(
            f"package '{distribution}' cannot be imported ({error}); install requirements-legacy.lock or use "
            "implementation 'native'"
        ) from error


@contextmanager
def _standing_in(stubs: Mapping[str, ModuleType]) -> Iterator[None]:
    """Put modules in the place of others of their names, and those back afterwards."""
    before = {name: sys.modules.get(name) for name in stubs}
    sys.modules.update(stubs)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module


def _as_pickle(path: Path, content: Mapping[str, Any]) -> tuple[Path, object]:
    """A file that torch loads ``content`` from: ``path``, or a temporary one that is there as long as the object.

    Raises:
        InputError: there is no space for it.
    """
    if path.suffix != ".safetensors":
        return path, None
    import torch

    try:
        copy = tempfile.NamedTemporaryFile(suffix=".pt")  # noqa: SIM115
        torch.save(dict(content), copy)
        copy.flush()
    # torch reports a full disk as RuntimeError.
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{path}: the package reads pickles only, and a temporary copy as one cannot be written "
            f"({str(error).splitlines()[0]}); free space in {tempfile.gettempdir()} or set TMPDIR"
        ) from error
    return Path(copy.name), copy


def _check_dtype(scorer: str, dtype: str) -> None:
    if dtype != "float32":
        raise InputError(
            f"scorer '{scorer}': dtype is '{dtype}', but a package chooses its own precision; leave it out"
        )


def _fingerprint(
    package: str, scorer: str, version: int, protocol: str, files: Mapping[str, Path], device: str, **extra: Any
) -> Fingerprint:
    return fingerprint(
        scorer=scorer,
        version=version,
        protocol=protocol,
        files=files,
        preprocessing={"by": package},
        dtype=f"the package's own on {device}",
        implementation=f"{package} {metadata.version(package)}",
        **extra,
    )


def _check_buildable(vision: Mapping[str, Any] | None, state: Mapping[str, Any], path: Path) -> None:
    """Check what image-reward takes for granted."""
    from evals.networks.affine_head import head_widths

    width, hidden = head_widths(state, path, prefix="mlp.")
    if (width, hidden) != (HEAD_INPUT, HEAD_HIDDEN):
        raise InputError(
            f"{path}: the package image-reward has a head of {[HEAD_INPUT, *HEAD_HIDDEN]}, the file one of "
            f"{[width, *hidden]}; use implementation 'native'"
        )
    if vision is not None and (
        vision.get("image_size") != 224 or vision.get("intermediate_size") != 4 * vision.get("hidden_size", 0)
    ):
        raise InputError(
            f"{path.parent / 'vision_config.json'}: the package image-reward has images of 224 pixels and hidden "
            "layers four times the width; use implementation 'native'"
        )


def _check_complete(model: Any, state: Mapping[str, Any], path: Path) -> None:
    """Refuse weights of other names, over which image-reward goes without a word."""
    from evals.networks.blip_reward import IGNORED

    for key in model.state_dict().keys() ^ state.keys():
        if not any(fnmatchcase(key, pattern) for pattern in IGNORED):
            which = "unknown" if key in state else "missing"
            raise InputError(f"{path}: key '{key}' is {which}; the weights are of another architecture")


def _small_vit(vision: Mapping[str, Any]) -> Callable[..., tuple[Any, int]]:
    def create_vit(_size: str, image_size: int, *_: Any) -> tuple[Any, int]:
        width = vision["hidden_size"]
        transformer = sys.modules["ImageReward.models.BLIP.vit"].VisionTransformer
        return (
            transformer(
                img_size=image_size,
                patch_size=vision["patch_size"],
                embed_dim=width,
                depth=vision["num_hidden_layers"],
                num_heads=vision["num_attention_heads"],
            ),
            width,
        )

    return create_vit


def _bert_tokenizer(folder: Path) -> Any:
    """The package's ``init_tokenizer`` with the folder's vocabulary instead of the hub's."""
    from transformers.models.bert.tokenization_bert import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(str(folder), local_files_only=True)
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.add_special_tokens({"additional_special_tokens": ["[ENC]"]})
    tokenizer.enc_token_id = tokenizer.convert_tokens_to_ids("[ENC]")
    return tokenizer
