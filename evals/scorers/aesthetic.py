"""LAION aesthetic predictor v2 (``sac+logos+ava1-l14-linearMSE``): a linear head on CLIP ViT-L/14 image embeddings.

The image embedding is L2-normalised before the head. Nominal range 1 to 10, typically 4.5 to 7. The prompt is ignored.
Protocols, in full in docs/scorers.md: ``sdpo``; ``author`` and ``package`` (``AestheticScore`` of image-reward) resize
an image in its own mode, as OpenAI's CLIP does, and on a GPU run in half precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from artifacts.weight_files import read_state_dict
from evals.networks.interface import PixelScorer, Scorer, fingerprint, torch_device
from evals.networks.preprocessing import Fit, Preprocessing
from evals.networks.weights import first_file, load_strictly, local_folder

if TYPE_CHECKING:
    import torch
    from transformers.models.clip.modeling_clip import CLIPModel, CLIPVisionModelWithProjection

    from evals.networks.affine_head import AffineHead

PROTOCOLS = ("sdpo", "author", "package")
NEEDS_WEIGHTS = True
VERSION = 1
HEAD_FILES = ("sac+logos+ava1-l14-linearMSE.pth", "head.safetensors")
WEIGHTS = (
    "a folder with clip/ (config.json and model.safetensors) and sac+logos+ava1-l14-linearMSE.pth or head.safetensors"
)


def create(*, protocol: str, weights: str | Path, device: str, dtype: str, batch_size: int) -> Scorer:
    """Load the aesthetic predictor from :data:`WEIGHTS`; arguments as in :func:`evals.scorers.create`.

    Raises:
        InputError: the folder is missing or incomplete, or its parts do not fit one another.
    """
    folder = local_folder(weights, "aesthetic", WEIGHTS)
    import torch

    from evals.networks import hf_clip
    from evals.networks.affine_head import AffineHead, head_widths

    head_path = first_file(folder, HEAD_FILES, "aesthetic")
    where, precision = torch_device(device), getattr(torch, dtype)
    tower, files = hf_clip.read_image_tower(folder / "clip", "aesthetic", where, "ViT-L/14")
    state = read_state_dict(head_path)
    expected, hidden = head_widths(state, head_path)
    width = tower.config.projection_dim
    if width != expected:
        raise InputError(f"{head_path}: the head takes {expected} features, the CLIP beside it gives {width}")
    head = AffineHead(expected, hidden)
    load_strictly(head, state, head_path)
    tower = tower.to(precision)
    # The head stays in float32: it is small, and half precision would quantise the score.
    head = head.to(where).eval()
    fit: Fit = "crop" if protocol == "sdpo" else "crop_then_rgb"
    preprocessing = Preprocessing.square(tower.config.image_size, files["config"], fit)

    def rate(pixels: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        return appeal(tower, head, pixels)

    return PixelScorer(
        name="aesthetic",
        fingerprint=fingerprint(
            scorer="aesthetic",
            version=VERSION,
            protocol=protocol,
            files={"head": head_path, **files},
            preprocessing=preprocessing.describe(),
            dtype=dtype,
        ),
        preprocessing=preprocessing,
        device=where,
        dtype=precision,
        batch_size=batch_size,
        rate=rate,
    )


def appeal(tower: CLIPModel | CLIPVisionModelWithProjection, head: AffineHead, pixels: torch.Tensor) -> torch.Tensor:
    """Aesthetic score (B,), float32, of normalised pixels (B, 3, S, S); differentiable."""
    from evals.networks.hf_clip import image_embedding

    score: torch.Tensor = head(image_embedding(tower, pixels))
    return score


def save(folder: str | Path, tower: CLIPModel | CLIPVisionModelWithProjection, head: AffineHead) -> None:
    """Write the predictor in its layout (:data:`WEIGHTS`), the head as ``head.safetensors``."""
    from safetensors.torch import save_file

    tower.save_pretrained(str(Path(folder) / "clip"))
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in head.state_dict().items()},
        Path(folder) / HEAD_FILES[1],
    )
