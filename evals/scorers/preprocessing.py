"""From a PIL image to what every scorer of the paper's evaluation sees.

RGB, bicubic resize of the shortest edge by PIL (antialiased), centre crop, /255, CLIP mean and standard
deviation. On RGB images this equals torchvision's ``Resize``, ``CenterCrop``, ``ToTensor`` and ``Normalize``
on PIL images bit for bit, and thereby open_clip's and ImageReward's own transforms; a test holds it to that. Images of
other modes are converted first: resizing palette indices or alpha-weighted colours would give other pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch
    from PIL import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """Size of the crop in pixels, and per-channel mean and standard deviation on the scale 0 to 1."""

    image_size: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    @classmethod
    def square(cls, image_size: Any, source: Path) -> Preprocessing:
        """CLIP's mean and deviation with the image size of a configuration.

        Raises:
            InputError: the size is not one number: crops are square. ``source`` is named.
        """
        if not isinstance(image_size, int):
            raise InputError(f"{source}: image_size is {image_size}, expected one number: crops are square")
        return cls(image_size)

    def describe(self) -> dict[str, Any]:
        """Everything that shapes the pixels, for the fingerprint."""
        return {**asdict(self), "crop": "rgb, pil bicubic shortest edge, centre crop"}

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, S, S) to float32 of the same shape, mean 0 and deviation 1 on CLIP's data."""
        import torch

        mean = torch.tensor(self.mean, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, dtype=torch.float32, device=pixels.device).view(3, 1, 1)
        return (pixels.to(torch.float32) / 255 - mean) / std


def square_crop(image: Image.Image, size: int) -> Image.Image:
    """RGB image of ``size`` x ``size`` pixels: shortest edge resized to ``size``, centre kept."""
    from PIL import Image

    image = image.convert("RGB")
    width, height = image.size
    # The long edge is cut to whole pixels and the offset is rounded half to even, both as in torchvision.
    scaled = (size, int(size * height / width)) if width <= height else (int(size * width / height), size)
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = round((scaled[0] - size) / 2), round((scaled[1] - size) / 2)
    return image.crop((left, top, left + size, top + size))


def crops(images: Sequence[Image.Image], size: int) -> torch.Tensor:
    """Square crops of N images: uint8, (N, 3, size, size), on the CPU; 150 kB an image at 224 pixels."""
    import numpy as np
    import torch

    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)
    for index, image in enumerate(images):
        pixels[index] = np.asarray(square_crop(image, size))
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)
