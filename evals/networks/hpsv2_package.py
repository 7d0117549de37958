"""The original package ``hpsv2`` 1.2.0 as a scorer.

While it is imported it gets the vocabulary that its wheel lacks, of which open_clip has the same file, and the module
``turtle`` (tkinter), which it imports for nothing. It reads its whole checkpoint again for each image.
"""

from __future__ import annotations

import gzip
import sys
import warnings
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from artifacts.atomic import json_sha256
from artifacts.errors import InputError
from artifacts.weight_files import read_state_dict
from evals.networks import open_clip_model
from evals.networks.interface import Scorer, torch_device
from evals.networks.legacy_packages import (
    PackageScorer,
    as_pickle,
    check_dtype,
    imported,
    package_fingerprint,
    standing_in,
)
from evals.networks.weights import load_strictly

if TYPE_CHECKING:
    from PIL import Image

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"


def create(
    scorer: str,
    path: Path,
    model_cfg: dict[str, Any],
    *,
    protocol: str,
    factor: float,
    version: int,
    device: str,
    dtype: str,
) -> Scorer:
    """HPSv2 as ``hpsv2.score`` computes it, on a GPU under its own float16 autocast.

    Args:
        scorer: ``hpsv2`` or ``hpsv21``, whose weights they should be.
        path: ``HPS_v2*.pt``, or the same tensors as safetensors.
        model_cfg: architecture in open_clip's terms.
        protocol: ``package``, or ``author`` with a ``factor`` of 100; the package does not compute ``sdpo``.

    Raises:
        InputError: the protocol, the file or its architecture is not one that the package can do.
    """
    if protocol == "sdpo":
        raise InputError(f"scorer '{scorer}': the package does not do protocol 'sdpo': choose 'package' or 'author'")
    check_dtype(scorer, dtype)
    if "hf_tokenizer_name" in model_cfg["text_cfg"]:
        raise InputError(
            f"{path.parent}: the package hpsv2 has open_clip's own vocabulary only, not one of the folder's"
        )
    where = torch_device(device)
    original = package()
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
    pickled, copy = as_pickle(path, {"state_dict": state})
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
            patch.dict(original.model_dict, {"model": model, "preprocess_val": transform}),
            patch.object(original, "device", str(where)),
        ):
            warnings.simplefilter("ignore")
            return factor * float(original.score(image, prompt, cp=str(pickled))[0])

    tokens = open_clip_model.prompt_tokens(bpe, 77)
    digest = package_fingerprint(
        "hpsv2", scorer, version, protocol, {"weights": path}, where.type, architecture=model_cfg
    )
    # The package reads the checkpoint again for each image.
    return PackageScorer(digest, rate, tokens, copy)


def package() -> ModuleType:
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
    with imported("hpsv2"), patch.object(gzip, "open", redirected), standing_in({"turtle": turtle}):
        return import_module("hpsv2.img_score")
