"""The pair cache: every image and every prompt of a pair set encoded once, and an index of the pairs.

A folder of ``shard-00000.safetensors`` …, ``index.parquet`` and ``cache.json``. A shard holds what its pairs have that
no shard before it has, one row an image or prompt: ``latents`` (N, 2, C, H, W), mean and standard deviation of the
images' posterior ((N, 1, C, H, W) where the autoencoder has none), the same of the mirrored images with the prefix
``mirrored_``, ``sizes`` (N, 6), and the conditions of prompts, such as ``prompt.text`` (U, T, D), or (T1 + T2 + …, D)
with ``prompt_ends`` (U,) where texts are not all equally long. Under ``encoding.sizes`` the values of all latents
stand one after the other, (V1 + V2 + …,), with ``ends`` (N,) and ``latent_shapes`` (N, 4); an image in two sizes is two
images. Images and prompts
are numbered through all shards; prompt 0 is the empty one. Instead of latents and conditions a shard may hold the
images themselves, as PNG. Ties are kept in the index with label 0.5, in the order of the source, and not trained on.
"""

from sdpo.pairs.cache.building import build
from sdpo.pairs.cache.gathering import Pairs, Side
from sdpo.pairs.cache.reading import check_fits, content_sha256, label_noise, load, settings_of
from sdpo.pairs.cache.settings import EncodingSettings

__all__ = [
    "EncodingSettings",
    "Pairs",
    "Side",
    "build",
    "check_fits",
    "content_sha256",
    "label_noise",
    "load",
    "settings_of",
]
