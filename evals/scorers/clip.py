"""CLIP score (Hessel et al. 2021, arXiv:2104.08718) and what others compute under this name.

Protocols, in full in docs/scorers.md:

- ``sdpo``: open_clip ViT-H-14 trained on LAION-2B, raw cosine, no prompt prefix; range -1 to 1, about 0.3 on generated
  images;
- ``author``: OpenAI's ViT-B/32, 2.5 max(cosine, 0), prompts begin with "A photo depicts";
- ``package``: ``CLIPScore`` of image-reward, OpenAI's ViT-L/14, raw cosine.
"""

from __future__ import annotations

from pathlib import Path

from evals.networks import open_clip_model
from evals.networks.interface import Scorer
from evals.networks.open_clip_model import Convention

CONVENTIONS = {
    "sdpo": Convention(),
    "author": Convention(
        fit="crop_then_rgb",
        prefix="A photo depicts ",
        factor=2.5,
        at_least_zero=True,
        architecture=open_clip_model.OPENAI_VIT_B_32,
    ),
    "package": Convention(fit="crop_then_rgb", architecture=open_clip_model.OPENAI_VIT_L_14),
}
PROTOCOLS = tuple(CONVENTIONS)
NEEDS_WEIGHTS = True
VERSION = 1
WEIGHTS = (
    "a folder with open_clip_config.json and open_clip_model.safetensors (or open_clip_pytorch_model.bin), "
    "or a weight file of ViT-H-14"
)


def create(*, protocol: str, weights: str | Path, device: str, dtype: str, batch_size: int) -> Scorer:
    """Load the CLIP score from :data:`WEIGHTS`; arguments as in :func:`evals.scorers.create`.

    A weight file given by itself has the architecture that the protocol names.

    Raises:
        InputError: the weights are missing or not those of their configuration.
    """
    return open_clip_model.create(
        scorer="clip",
        version=VERSION,
        expected=WEIGHTS,
        patterns=(open_clip_model.WEIGHT_FILE, "open_clip_pytorch_model.bin"),
        protocol=protocol,
        convention=CONVENTIONS[protocol],
        weights=weights,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
