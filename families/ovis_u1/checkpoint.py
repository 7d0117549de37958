"""The original checkpoint of Ovis-U1: a folder with ``config.json`` and safetensors, in one file or in shards.

It holds the language part, the autoencoder and the transformer in one dictionary; each is read by its prefix.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.finite_weights import check_finite
from artifacts.json_files import read_object

if TYPE_CHECKING:
    import torch

MODEL_TYPE = "ovis_u1"
"""What the configuration calls the model."""
GENERATOR = "visual_generator."
"""Prefix of all that draws; what else there is belongs to the language part."""
BACKBONE, VAE = f"{GENERATOR}backbone.", f"{GENERATOR}vae."
REMEDY = "fetch the checkpoint again"


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder is one, by its configuration."""
    file = folder / "config.json"
    return file.is_file() and read_object(file, missing="", damaged=REMEDY).get("model_type") == MODEL_TYPE


class Checkpoint:
    """Reads parts of a checkpoint.

    Args:
        folder: of it.

    Raises:
        InputError: the configuration describes no image generator.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "config.json"
        self.config = read_object(self.file, missing="a base of Ovis-U1 is its original folder", damaged=REMEDY)
        generator = self.config.get("visual_generator_config")
        if not isinstance(generator, dict) or not isinstance(generator.get("vae_config"), dict):
            raise InputError(f"{self.file}: no visual_generator_config with a vae_config; {REMEDY}")
        self.generator: dict[str, Any] = generator

    @cached_property
    def files(self) -> list[Path]:
        """The files of weights.

        Raises:
            InputError: there are none, or not all that the index names.
        """
        index = self.folder / "model.safetensors.index.json"
        if not index.is_file():
            files = [self.folder / "model.safetensors"]
        else:
            names = read_object(index, missing="", damaged=REMEDY).get("weight_map")
            found = sorted(set(names.values())) if isinstance(names, dict) else []
            if not found or any(Path(str(name)).name != name for name in found):
                raise InputError(f"{index}: its weight_map names no files beside it; {REMEDY}")
            files = [self.folder / name for name in found]
        if missing := [file for file in files if not file.is_file()]:
            raise InputError(f"{missing[0]}: no such file ({len(missing)} of {len(files)} in all); {REMEDY}")
        return files

    @cached_property
    def places(self) -> dict[str, Path]:
        """File of each tensor, by its name.

        Raises:
            InputError: a file is damaged.
        """
        from safetensors import SafetensorError, safe_open

        found = {}
        for file in self.files:
            try:
                with safe_open(file, framework="pt") as tensors:
                    found.update(dict.fromkeys(tensors.keys(), file))
            except (SafetensorError, OSError) as error:
                raise InputError(f"{file}: cannot be read ({error}); {REMEDY}") from error
        return found

    def load(self, prefix: str, module: torch.nn.Module, dtype: torch.dtype) -> None:
        """Give a module, whose weights may have no memory yet, those of its prefix.

        Raises:
            InputError: names or shapes are not those of the module, or values are not finite.
        """
        wanted = {f"{prefix}{name}": tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        own = [name for name in self.places if name.startswith(prefix)]
        wrong = [
            f"'{names[0]}' is {how} ({len(names)} in all)"
            for how, names in (
                ("missing", [name for name in wanted if name not in self.places]),
                ("unknown", [name for name in own if name not in wanted]),
            )
            if names
        ]
        state = {} if wrong else self._read(own, dtype)
        if shaped := [name for name in state if tuple(state[name].shape) != wanted[name]]:
            first = shaped[0]
            shapes = f"{tuple(state[first].shape)}, expected {wanted[first]}"
            wrong = [f"'{first}' has shape {shapes} ({len(shaped)} in all)"]
        if wrong:
            raise InputError(f"{self.folder}: its weights are not those of config.json: {', '.join(wrong)}; {REMEDY}")
        check_finite(state, self.folder)
        module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in state.items()}, assign=True)

    def _read(self, names: list[str], dtype: torch.dtype) -> dict[str, torch.Tensor]:
        from safetensors import safe_open

        found: dict[str, torch.Tensor] = {}
        for file in self.files:
            with safe_open(file, framework="pt") as tensors:
                found |= {name: tensors.get_tensor(name).to(dtype) for name in names if self.places[name] == file}
        return found
