"""From a PIL image to the pixels a scorer's model sees: the five fits that the protocols name.

All are bicubic and end in CLIP's mean and standard deviation. ``crop`` is what every scorer of the paper's evaluation
sees: on RGB images it equals torchvision's ``Resize``, ``CenterCrop``, ``ToTensor`` and ``Normalize`` on PIL images bit
for bit, and thereby open_clip's transform; tests hold each fit to the code it is named after. Images of other modes are
converted to RGB first, except by ``crop_then_rgb``: resizing palette indices or alpha-weighted colours gives other
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch
    from PIL import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

Fit = Literal["crop", "crop_floor", "crop_then_rgb", "pad", "pad_aliased"]
# What each fit does, in the order it does it; these texts are part of every fingerprint.
FITS: dict[Fit, str] = {
    "crop": "rgb, pil bicubic shortest edge, centre crop",
    "crop_floor": "rgb, pil bicubic shortest edge, centre crop rounded down",
    "crop_then_rgb": "pil bicubic shortest edge, centre crop, rgb",
    "pad": "rgb, tensor bicubic antialiased longest edge, black padding",
    "pad_aliased": "rgb, tensor bicubic aliased longest edge, black padding",
}


@dataclass(frozen=True)
class Preprocessing:
    """Size of the square in pixels, per-channel mean and standard deviation on the scale 0 to 1, and the fit."""

    image_size: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    fit: Fit = "crop"

    @classmethod
    def square(cls, image_size: Any, source: Path, fit: Fit = "crop") -> Preprocessing:
        """CLIP's mean and deviation with the image size of a configuration.

        Raises:
            InputError: the size is not one number: crops are square. ``source`` is named.
        """
        if not isinstance(image_size, int):
            raise InputError(f"{source}: image_size is {image_size}, expected one number: crops are square")
        return cls(image_size, fit=fit)

    @property
    def squares_key(self) -> tuple[int, Fit]:
        """Scorers with the same key see the same squares before normalisation, and can share them."""
        return self.image_size, self.fit

    def describe(self) -> dict[str, Any]:
        """Everything that shapes the pixels, for the fingerprint."""
        return {"image_size": self.image_size, "mean": self.mean, "std": self.std, "crop": FITS[self.fit]}

    def squares(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Squares of N images, (N, 3, S, S), on the CPU, before normalisation.

        uint8 for the crops, float32 on the scale 0 to 1 for the padded ones, which are not clipped: bicubic
        interpolation of a tensor overshoots at edges.
        """
        import torch

        if self.fit in ("pad", "pad_aliased"):
            pixels = torch.zeros(len(images), 3, self.image_size, self.image_size)
            for index, image in enumerate(images):
                pixels[index] = padded_square(image, self.image_size, antialias=self.fit == "pad")
            return pixels
        return crops(images, self.image_size, self.fit)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """Squares (N, 3, S, S) to float32 of the same shape, mean 0 and deviation 1 on CLIP's data; a new tensor."""
        import torch

        mean = torch.tensor(self.mean, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
        # One copy, changed in place: temporaries of a batch cost more time than the arithmetic.
        unit = pixels.to(torch.float32, copy=True)
        if not pixels.is_floating_point():
            unit.div_(255)
        return unit.sub_(mean).div_(std)


def rgb(image: Image.Image) -> Image.Image:
    """The image in RGB: itself if it is, which Pillow would copy."""
    return image if image.mode == "RGB" else image.convert("RGB")


def square_crop(image: Image.Image, size: int, fit: Fit = "crop") -> Image.Image:
    """RGB image of ``size`` x ``size`` pixels: shortest edge resized to ``size``, centre kept.

    Args:
        fit: ``crop`` rounds the offset half to even, as torchvision; ``crop_floor`` rounds it down, as transformers;
            ``crop_then_rgb`` is ``crop`` in the image's own mode, converted at the end, as OpenAI's CLIP.
    """
    from PIL import Image

    if fit != "crop_then_rgb":
        image = rgb(image)
    width, height = image.size
    # The long edge is cut to whole pixels, as in torchvision and transformers.
    scaled = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BICUBIC)
    spare = scaled[0] - size, scaled[1] - size
    left, top = (s // 2 for s in spare) if fit == "crop_floor" else (round(s / 2) for s in spare)
    return rgb(image.crop((left, top, left + size, top + size)))


def crops(images: Sequence[Image.Image], size: int, fit: Fit = "crop") -> torch.Tensor:
    """Square crops of N images: uint8, (N, 3, size, size), on the CPU; 150 kB an image at 224 pixels."""
    import numpy as np
    import torch

    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        pixels[index] = np.asarray(square_crop(image, size, fit))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def padded_square(image: Image.Image, size: int, *, antialias: bool = True) -> torch.Tensor:
    """Float32 (3, size, size): longest edge resized to ``size`` as a tensor, the rest black; not clipped.

    As ``ResizeMaxSize`` of hpsv2 1.2.0, whose ``antialias`` was off under torchvision before 0.17 and is on since. The
    package leaves out the padding where the longest edge has ``size`` pixels already and then fails; here it is padded.
    """
    import numpy as np
    import torch
    from torch.nn.functional import interpolate, pad

    pixels = torch.from_numpy(np.array(rgb(image))).permute(2, 0, 1).to(torch.float32) / 255
    height, width = pixels.shape[1:]
    scale = size / max(height, width)
    if scale != 1:
        # A very long image keeps at least one pixel of its short edge.
        resized = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = interpolate(pixels[None], size=resized, mode="bicubic", align_corners=False, antialias=antialias)[0]
    down, right = size - pixels.shape[1], size - pixels.shape[2]
    return pad(pixels, (right // 2, right - right // 2, down // 2, down - down // 2))
