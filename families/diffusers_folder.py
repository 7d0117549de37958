"""The folder of a base in diffusers' layout: its parts and their configuration, before any weight is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.json_files import read_object

SCHEDULERS = tuple(
    f"{name}Scheduler"
    for name in (
        *("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep", "DPMSolverSDE"),
        *("DPMSolverSinglestep", "EulerAncestralDiscrete", "EulerDiscrete", "HeunDiscrete", "KDPM2AncestralDiscrete"),
        *("KDPM2Discrete", "LMSDiscrete", "PNDM", "SASolver", "UniPCMultistep"),
    )
)
"""Classes whose configuration is a schedule of β for x_t = √ᾱ x0 + √(1 − ᾱ) ε, and what the denoiser predicts of it."""

DENOISERS = ("unet", "transformer")
"""Folders of a denoiser in a pipeline."""


def denoiser_folder(path: Path) -> Path | None:
    """Folder of the denoiser of a pipeline, if the path is that of one."""
    return next((path / name for name in DENOISERS if (path / name / "config.json").is_file()), None)


class DiffusersFolder:
    """A folder with one subfolder a part.

    Args:
        path: the folder.
        parts: subfolders that must be there.

    Raises:
        InputError: one is not.
    """

    def __init__(self, path: Path, parts: Sequence[str]) -> None:
        self.path = path
        self.parts = tuple(parts)
        self._read: dict[Path, dict[str, Any]] = {}

    def config(self, part: str) -> dict[str, Any]:
        """Configuration of a part."""
        return self.read(self.path / part / "config.json")

    def read(self, file: Path) -> dict[str, Any]:
        """A JSON object, read once.

        Raises:
            InputError: the file is missing or holds something else.
        """
        if file not in self._read:
            self._read[file] = read_object(
                file, missing="a base must be a folder in diffusers' layout", damaged="fetch the base again"
            )
        return self._read[file]

    @property
    def prediction_type(self) -> str:
        """What the denoiser predicts, by the scheduler's configuration: ``epsilon`` or ``v_prediction``.

        Raises:
            InputError: something else, or the scheduler is of another family of noise schedules.
        """
        file = self.path / "scheduler" / "scheduler_config.json"
        config = self.read(file)
        index = self.path / "model_index.json"
        named = (self.read(index).get("scheduler") or [None])[-1] if index.is_file() else None
        for origin, name in ((file, config.get("_class_name")), (index, named)):
            if name is not None and name not in SCHEDULERS:
                raise InputError(
                    f"{origin}: the scheduler is a {name}, whose noise schedule is not that of Stable Diffusion; "
                    f"expected one such as {', '.join(SCHEDULERS[:3])}"
                )
        if config.get("use_flow_sigmas"):
            raise InputError(f"{file}: use_flow_sigmas is set: a schedule of flow matching; expected one of DDPM")
        # What a configuration without it means in all of these classes.
        found = str(config.get("prediction_type", "epsilon"))
        if found not in ("epsilon", "v_prediction"):
            raise InputError(f"{file}: prediction_type is '{found}', expected epsilon or v_prediction")
        return found

    def check_denoiser(self, vae: Path) -> None:
        """Refuse a denoiser that takes or makes something else than the latents of its autoencoder.

        Args:
            vae: folder of the autoencoder.

        Raises:
            InputError: it does, or asks for a condition that nothing here provides.
        """
        unet, file = self.config("unet"), self.path / "unet"
        if (name := unet.get("_class_name", "UNet2DConditionModel")) != "UNet2DConditionModel":
            raise InputError(f"{file}: the denoiser is a {name}, expected a UNet2DConditionModel")
        asked = ("class_embed_type", "num_class_embeds", "encoder_hid_dim_type", "time_cond_proj_dim")
        if more := [key for key in asked if unet.get(key) is not None]:
            raise InputError(
                f"{file}: {more[0]} is {unet[more[0]]!r}: the U-Net is told more than text and time, which nothing "
                "here provides; expected one shaped like Stable Diffusion 1.x, 2.x or XL"
            )
        channels = self.read(vae / "config.json").get("latent_channels", 4)
        for key in ("in_channels", "out_channels"):
            if unet.get(key, 4) != channels:
                raise InputError(
                    f"{file}: {key} is {unet[key]}, but {vae} makes latents of {channels} channels; expected a "
                    "text-to-image U-Net and its autoencoder"
                )

    def check_text_width(self, encoders: Sequence[str]) -> None:
        """Refuse text encoders of another base than the denoiser's.

        Args:
            encoders: their folders.

        Raises:
            InputError: their embeddings side by side are of another width than the denoiser takes.
        """
        made = sum(int(self.config(part).get("hidden_size", 512)) for part in encoders)
        if made != self.text_width:
            raise InputError(
                f"{self.path}: its text encoder makes embeddings of width {made}, its U-Net takes {self.text_width} "
                "(cross_attention_dim); the parts are not of one base"
            )

    @property
    def text_width(self) -> int:
        """Width of the text embeddings that the denoiser takes.

        Raises:
            InputError: its configuration says none.
        """
        said = self.config("unet").get("cross_attention_dim", 1280)
        width = said[0] if isinstance(said, list) and said else said
        if type(width) is not int:
            file = self.path / "unet" / "config.json"
            raise InputError(f"{file}: cross_attention_dim is {said!r}, expected a number; fetch the base again")
        return width

    def check_family(self, family: str) -> None:
        """Refuse a folder of the other family, or one without all parts.

        Args:
            family: ``sd15`` or ``sdxl``.
        """
        if (self.path / "unet").is_dir():
            added = self.config("unet").get("addition_embed_type")
            # "text" pools the text embeddings inside the U-Net: nothing is added to its inputs.
            found = {"None": "sd15", "text": "sd15", "text_time": "sdxl"}.get(str(added))
            if found is None:
                raise InputError(
                    f"{self.path / 'unet'}: addition_embed_type is '{added}', which no base family here provides; "
                    "expected a base shaped like Stable Diffusion 1.x, 2.x or XL"
                )
            if found != family:
                raise InputError(
                    f"{self.path}: its U-Net is of family '{found}', not of the one that was named; "
                    f"set base.family to {found}"
                )
        for part in self.parts:
            if not (self.path / part).is_dir():
                raise InputError(f"{self.path / part}: missing; a base of this family is a folder in diffusers' layout")
