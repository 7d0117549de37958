"""The reward head of ImageReward and of the LAION aesthetic predictor: five linear layers in a row.

There is no activation between them, so each head is one affine map; the layers are kept because they are what
the published files hold. (Reference: ``ImageReward/ImageReward.py`` and ``simple_inference.py`` of
improved-aesthetic-predictor, class ``MLP`` in both.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from artifacts.errors import InputError

LINEAR_LAYERS = (0, 2, 4, 6, 7)
HIDDEN_WIDTHS = (1024, 128, 64, 16)


class AffineHead(nn.Module):
    """(…, D) to (…), with the published files' keys ``layers.{0,2,4,6,7}.{weight,bias}``.

    Args:
        width: D.
        hidden: widths between the five layers.
    """

    def __init__(self, width: int, hidden: Sequence[int] = HIDDEN_WIDTHS) -> None:
        super().__init__()
        a, b, c, d = hidden
        self.layers = nn.Sequential(
            nn.Linear(width, a),
            nn.Dropout(0.2),
            nn.Linear(a, b),
            nn.Dropout(0.2),
            nn.Linear(b, c),
            nn.Dropout(0.1),
            nn.Linear(c, d),
            nn.Linear(d, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Reward of each feature vector."""
        reward: torch.Tensor = self.layers(features)
        return reward.squeeze(-1)


def head_widths(state: Mapping[str, torch.Tensor], path: Path, prefix: str = "") -> tuple[int, list[int]]:
    """Input width and hidden widths of the head whose tensors ``state`` holds.

    Args:
        path: the file of ``state``, for messages.
        prefix: what stands before ``layers`` in its keys.

    Raises:
        InputError: a layer is missing, or the layers do not follow one another.
    """
    names = [f"{prefix}layers.{index}.weight" for index in LINEAR_LAYERS]
    for name in names:
        if name not in state:
            raise InputError(
                f"{path}: key '{name}' is missing: expected the five linear layers of a reward head; "
                "the weights are of another architecture"
            )
    shapes = [tuple(state[name].shape) for name in names]
    flat = all(len(shape) == 2 for shape in shapes)
    if not flat or shapes[-1][0] != 1 or any(a[0] != b[1] for a, b in pairwise(shapes)):
        raise InputError(f"{path}: the shapes {shapes} of its layers are not those of a reward head")
    return shapes[0][1], [shape[0] for shape in shapes[:-1]]
