"""How images become what the cache holds, as the config and the job description state it."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from artifacts.block import BaseBlock, Block, JobSpec, Name
from sdpo.pairs.label_noise import flip_seed_option, flipped_option

_Side = Annotated[int, Field(ge=8, multiple_of=8)]


class EncodingSettings(Block):
    """How the images of a pair set are prepared and stored."""

    resolution: int | None = Field(
        default=None,
        ge=8,
        multiple_of=8,
        description="Images are resized (bilinear, antialiased) to this length of the shorter side and cropped to a "
        "square of it; left out, they are taken as they are and have to be of one size. Published: 512 (SD 1.5), "
        "1024 (SDXL).",
    )
    sizes: list[Annotated[list[_Side], Field(min_length=2, max_length=2)]] | None = Field(
        default=None,
        min_length=1,
        description="Instead of `resolution`, widths and heights of images of several shapes, such as "
        "`[[1024, 1024], [1152, 896], [896, 1152]]`, in any order. Both images of a pair come to the size whose ratio "
        "of width to height is nearest to the geometric mean of their own (of two as near, the smaller ratio): resized "
        "until they cover it, and cropped.",
    )
    crop: Literal["center", "random"] = Field(
        default="center",
        description="Where the square, or the size of `sizes`, lies. Published: `center`. `random`: drawn once for "
        "each image, from its content.",
    )
    flips: bool = Field(
        default=False,
        description="Mirror each image of a pair at each training step with probability ½, each on its own; both "
        "encodings are stored. Published: true.",
    )
    time_ids: Literal["resolution", "image"] = Field(
        default="resolution",
        description="Size and crop that SDXL is told. `resolution`: what was cut out, as an image of its own that was "
        "never cropped; published. `image`: the image's own size and crop, as SDXL itself was trained.",
    )
    store: Literal["latents", "images"] = Field(
        default="latents",
        description="`latents`: the posterior of each image and the embedding of each prompt, computed once. "
        "`images`: the prepared images as PNG; every training step encodes images and prompts again.",
    )
    dtype: Literal["float32", "float16"] = Field(
        default="float32", description="Precision of stored latents and embeddings."
    )
    encoder_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="Precision in which autoencoder and text encoders compute."
    )
    encoder_tf32: bool = Field(
        default=False,
        description="Let a GPU round the factors of their float32 products to TF32, which is several times faster. "
        "What it does to the latents was not measured here.",
    )
    device: Literal["cpu", "cuda"] = Field(
        default="cpu", description="What encodes; on `cuda` the processes take turns over the GPUs."
    )
    shard_pairs: int = Field(
        default=4096, ge=1, description="Pairs a shard; an interrupted build goes on at the shard."
    )

    @field_validator("sizes")
    @classmethod
    def _sizes(cls, sizes: list[list[int]] | None, others: ValidationInfo) -> list[list[int]] | None:
        if sizes is not None and others.data.get("resolution") is not None:
            raise ValueError("expected it left out beside encoding.resolution: an image comes to one size")
        ratios: dict[Fraction, list[int]] = {}
        for size in sizes or []:
            if (before := ratios.setdefault(Fraction(*size), size)) is not size:
                raise ValueError(f"expected each ratio of width to height once; {before} and {size} have the same")
        # Their order means nothing: a job described with another one is the same job.
        return sizes and sorted(sizes)


class PairsSpec(JobSpec):
    """The job description of ``sdpo pairs``."""

    dataset: Name = Field(description="Name of the pair set.")
    source: str = Field(description="Pair source that reads or makes the pairs.")
    options: dict[str, Any] = Field(default={}, description="The source's own options.")
    flipped: float = flipped_option()
    flip_seed: int = flip_seed_option()
    encoding: EncodingSettings = Field(default=EncodingSettings(), description="How images are prepared and stored.")
    base: BaseBlock = Field(description="What encodes images and prompts.")
    out: str = Field(description="Folder of the cache.")
    processes: int = Field(default=1, ge=1, description="Processes that encode.")
