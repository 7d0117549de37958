"""What is kept of a step whose loss or gradient is not finite, so that it can be looked into."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import replaced_file

if TYPE_CHECKING:
    import torch

    from sdpo.training.drawing import Drawn


def save_batch(folder: Path, drawn: Drawn, pair_ids: torch.Tensor, *, process: int, **about: Any) -> Path:
    """Write ``not-finite-step-….safetensors``: everything that went into the step in this process.

    The file holds ``winner``, ``loser`` and ``noise`` (B, C, H, W), ``timesteps`` (B,), ``pair_ids`` (B,) as in the
    cache's index, and the conditions as ``winner.<name>`` and ``loser.<name>``; ``about`` is in its metadata, as JSON.

    Args:
        folder: where the checkpoints lie.
        drawn: B pairs.
        pair_ids: (B,).
        process: number of this process, part of the file's name if it is not 0.
        about: at least ``step``.
    """
    from safetensors.torch import save_file

    tensors = {"winner": drawn.winner, "loser": drawn.loser, "noise": drawn.noise, "timesteps": drawn.timesteps}
    for side, conditions in (("winner", drawn.winner_conditions), ("loser", drawn.loser_conditions)):
        tensors |= {f"{side}.{name}": tensor for name, tensor in conditions.items()}
    tensors["pair_ids"] = pair_ids
    suffix = f"-process{process}" if process else ""
    path = folder / f"not-finite-step-{about['step']:08d}{suffix}.safetensors"
    # Both sides may share a tensor, and safetensors refuses those that share memory.
    owned = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with replaced_file(path) as temporary:
        save_file(owned, temporary, metadata={"about": json.dumps(about)})
    return path
