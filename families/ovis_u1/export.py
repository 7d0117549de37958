"""A trained transformer put into a copy of the original checkpoint, which the model's own code then loads."""

from __future__ import annotations

import shutil
from pathlib import Path

from artifacts.atomic import replaced_directory
from artifacts.errors import InputError
from families.ovis_u1.checkpoint import BACKBONE, Checkpoint
from families.parts import load_part


def export(base: Path, transformer: Path, out: Path) -> int:
    """Write the copy: the same files and names, and the transformer's tensors in the dtype that they have there.

    Args:
        base: folder of the original checkpoint.
        transformer: folder of a trained model's transformer.
        out: folder that is written.

    Returns:
        How many tensors are replaced.

    Raises:
        InputError: ``out`` is there, or the transformer is of another architecture than the checkpoint's.
    """
    import torch
    from safetensors import safe_open
    from safetensors.torch import save_file

    from families.ovis_u1.transformer import OvisU1Transformer

    if out.exists():
        raise InputError(f"{out}: is there; name a folder that is not")
    checkpoint = Checkpoint(base)
    trained = load_part(OvisU1Transformer, transformer, torch_dtype=torch.float32).state_dict()
    trained = {f"{BACKBONE}{name}": tensor for name, tensor in trained.items()}
    own = {name for name in checkpoint.places if name.startswith(BACKBONE)}
    if differing := sorted(own ^ trained.keys()):
        raise InputError(
            f"{transformer}: '{differing[0]}' is in only one of it and {base} ({len(differing)} in all); give the base "
            "that it was trained from"
        )
    with replaced_directory(out) as folder:
        for file in base.iterdir():
            if file not in checkpoint.files:
                (shutil.copytree if file.is_dir() else shutil.copy)(file, folder / file.name)
        for file in checkpoint.files:
            with safe_open(file, framework="pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no mapping
                metadata = stored.metadata()
            for name in tensors.keys() & trained.keys():
                if trained[name].shape != tensors[name].shape:
                    raise InputError(
                        f"{transformer}: '{name}' has shape {tuple(trained[name].shape)}, expected "
                        f"{tuple(tensors[name].shape)}; give the base that it was trained from"
                    )
                tensors[name] = trained[name].to(tensors[name].dtype).contiguous()
            save_file(tensors, folder / file.name, metadata=metadata)
    return len(trained)
