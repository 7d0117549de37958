"""Loading the parts of a base, each a folder in diffusers' layout, and refusing one that is not whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.finite_weights import check_finite

if TYPE_CHECKING:
    import torch

# Models saved by older releases carry this constant buffer.
_IGNORED = ".position_ids"
REMEDY = "fetch the base or train the model again"


def load_part(kind: Any, folder: Path, **options: Any) -> Any:
    """Load a model, tokenizer or scheduler from its folder.

    The libraries only warn of weights that are not in the file, and go on with random ones.

    Args:
        kind: a class of diffusers or transformers with ``from_pretrained``.
        folder: one part, such as ``unet/``.
        options: for ``from_pretrained``.

    Raises:
        InputError: the folder is missing or damaged, or its weights are not finite or not those of its configuration.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: missing; a base is a folder in diffusers' layout: {REMEDY}")
    has_weights = hasattr(kind, "named_parameters")
    if has_weights:
        options["output_loading_info"] = True
    try:
        loaded = kind.from_pretrained(folder, local_files_only=True, **options)
    # What a damaged folder raises depends on the library and on where it is cut.
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{folder}: cannot be loaded ({reason}); {REMEDY}") from error
    if not has_weights:
        _check_schedule(loaded, folder)
        return loaded
    model, info = loaded
    for problem in ("missing", "unexpected", "mismatched"):
        keys = [key if isinstance(key, str) else key[0] for key in info[f"{problem}_keys"]]
        if keys := sorted(key for key in keys if not key.endswith(_IGNORED)):
            raise InputError(
                f"{folder}: weights and config.json are of different architectures: {problem} '{keys[0]}' "
                f"({len(keys)} in all); {REMEDY}"
            )
    check_finite(model.state_dict(), folder)
    return model


def signal_shares(folder: Path) -> torch.Tensor:
    """ᾱ of each timestep, (T,) float32, by the configuration of a scheduler of any class.

    Raises:
        InputError: the folder is missing or damaged, or its β make no noise schedule.
    """
    from diffusers import DDPMScheduler

    shares: torch.Tensor = load_part(DDPMScheduler, folder).alphas_cumprod
    return shares


def _check_schedule(part: Any, folder: Path) -> None:
    """Refuse a scheduler whose β are no variances, or not as many as the steps that it says."""
    betas = getattr(part, "betas", None)
    # A tokenizer has none.
    if betas is None:
        return
    steps = part.config.num_train_timesteps
    if len(betas) != steps or not bool(((betas >= 0) & (betas <= 1)).all()):
        raise InputError(f"{folder}: its betas make no noise schedule of {steps} steps; {REMEDY}")
