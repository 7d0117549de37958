"""Low-rank adapters (LoRA, arXiv 2106.09685) on a denoiser of diffusers, by peft.

The reference of a preference objective is the same denoiser with its adapters off, so no second copy is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from artifacts.random_streams import stream
from sdpo.training.drawing import LORA

if TYPE_CHECKING:
    import torch

    from sdpo.training.settings import LoraSettings

FILE = "pytorch_lora_weights.safetensors"
"""Name under which diffusers' pipelines look for adapters in a folder."""
_METADATA = "lora_adapter_metadata"
"""Key of the file's metadata under which diffusers keeps the settings of adapters, as JSON."""
_NAME = "default"
_USUAL = {"to_q", "to_k", "to_v", "proj_in", "qkv", "proj"}
"""Endings of names of attention's projections."""


class Adapters:
    """Adapters of a denoiser, whose own weights no longer train.

    A starts normal with standard deviation 1 / rank, drawn by the seed; B starts as zero, so that the policy starts as
    the reference.

    Args:
        denoiser: gets the adapters.
        settings: rank, alpha, targets.
        seed: of the run.

    Raises:
        InputError: the denoiser is not one of diffusers, or a name is that of no layer, or of one without weights.
    """

    def __init__(self, denoiser: torch.nn.Module, settings: LoraSettings, seed: int) -> None:
        import torch
        from peft import LoraConfig
        from peft.tuners.tuners_utils import BaseTunerLayer

        add_adapter: Any = getattr(denoiser, "add_adapter", None)
        if add_adapter is None:
            raise InputError(f"training.lora: a {type(denoiser).__name__} cannot take adapters; leave it out")
        found = {name.rsplit(".", 1)[-1] for name, _ in denoiser.named_modules()}
        missing = [t for t in settings.targets if not _names_a_layer(denoiser, t)]
        if missing or not settings.targets:
            raise InputError(
                f"training.lora.targets: no layer of the denoiser is named {missing[0] if missing else '…'}; expected "
                f"endings of names, such as {', '.join(sorted(found & _USUAL))}"
            )
        for target in settings.targets:
            for name, layer in denoiser.named_modules():
                if _ends(name, target) and not isinstance(layer, torch.nn.Linear | torch.nn.Conv2d):
                    raise InputError(
                        f"training.lora.targets: '{target}' names {name}, a {type(layer).__name__}; expected endings "
                        f"of names of layers of Linear or Conv2d, such as {', '.join(sorted(found & _USUAL))}"
                    )
        self.denoiser: Any = denoiser
        self.denoiser.requires_grad_(False)
        alpha: Any = settings.alpha or settings.rank
        config = LoraConfig(r=settings.rank, lora_alpha=alpha, target_modules=list(settings.targets))
        add_adapter(config, _NAME)
        self.layers = [module for module in denoiser.modules() if isinstance(module, BaseTunerLayer)]
        random = stream(LORA, seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters().items():
                if "lora_A" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=random) / settings.rank)
                else:
                    parameter.zero_()

    def named_parameters(self) -> dict[str, torch.nn.Parameter]:
        """The weights of the adapters."""
        return {name: p for name, p in self.denoiser.named_parameters() if ".lora_" in name}

    def weights(self) -> dict[str, torch.Tensor]:
        """What :meth:`load` takes."""
        return {name: p.detach() for name, p in self.named_parameters().items()}

    @contextmanager
    def off(self) -> Iterator[None]:
        """Within, the denoiser is the reference."""
        for layer in self.layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers:
                layer.enable_adapters(True)

    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Take up saved weights."""
        import torch

        own = self.named_parameters()
        if own.keys() != weights.keys():
            raise ValueError("adapters of other names")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(weights[name])

    def save(self, folder: Path, prefix: str) -> None:
        """Write :data:`FILE`, which ``load_lora_weights`` of a diffusers pipeline reads, alpha included.

        Args:
            folder: of the model.
            prefix: the denoiser's name in the pipeline, ``unet`` or ``transformer``.

        The header has one entry of metadata: several would be written in an order that changes from file to file.
        """
        from peft.utils import get_peft_model_state_dict
        from safetensors.torch import save_file

        config = self.denoiser.peft_config[_NAME].to_dict()
        about = {f"{prefix}.{key}": sorted(value) if isinstance(value, set) else value for key, value in config.items()}
        weights = get_peft_model_state_dict(self.denoiser, adapter_name=_NAME)
        tensors = {f"{prefix}.{name}": tensor.detach().contiguous() for name, tensor in weights.items()}
        save_file(tensors, folder / FILE, metadata={_METADATA: json.dumps(about, sort_keys=True)})

    def merge(self) -> None:
        """Add the adapters to the weights and remove them: what is left is a denoiser as any other."""
        for layer in self.layers:
            layer.merge(adapter_names=[_NAME])
        self.denoiser.unload_lora()
        self.denoiser.requires_grad_(True)
        self.layers = []


def _names_a_layer(denoiser: torch.nn.Module, target: str) -> bool:
    return any(_ends(name, target) for name, _ in denoiser.named_modules())


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
