"""Block ``pairs``: the preference data sets."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from artifacts.block import Block
from artifacts.validation import known
from pipeline.config import registries
from sdpo.pairs.cache.settings import EncodingSettings
from sdpo.pairs.label_noise import flip_seed_option, flipped_option


class Encoding(EncodingSettings):
    """How the images of a pair set are prepared and stored."""


class PairSet(Block):
    """One preference data set; its key is its name."""

    source: Annotated[str, known("pair source", registries.pair_sources)] = Field(
        description="Pair source that reads or makes the pairs."
    )
    options: dict[str, Any] = Field(default_factory=dict, description="The source's own options.")
    flipped: float = flipped_option()
    flip_seed: int = flip_seed_option()
    encoding: Encoding = Field(default_factory=Encoding, description="How images are prepared and stored for training.")
