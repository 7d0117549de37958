"""Where the scorers' published weights lie, and what is known of each file before it is fetched.

Sizes and digests are given only where somebody checked them; a file without a digest is trusted when it is first
fetched, if the user says so, and its digest is recorded then.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

HUB = "https://huggingface.co"
_LAION = ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "1c2b8495b28150b8a4922ee1c8edee224c284c0c")
_PICKSCORE = ("yuvalkirstain/PickScore_v1", "a4e4367c6dfa7288a00c550414478f865b875800")
# The commit is the one known for version 2.1; version 2.0 lies in the same repository.
_HPSV2 = ("xswu/HPSv2", "697403c78157020a1ae59d23f111aa58ced35b0a")
_IMAGEREWARD = ("THUDM/ImageReward", "5736be03b2652728fb87788c9797b0570450ab72")
_CLIP_L = ("openai/clip-vit-large-patch14", "main")
_BERT = ("google-bert/bert-base-uncased", "main")
PICKLES = (".pt", ".pth", ".bin")


@dataclass(frozen=True)
class PublishedFile:
    """One file of a scorer's weights.

    Attributes:
        target: where our loader looks for it, below the scorer's folder. A pickle whose target is a safetensors file is
            converted.
        repository: on the hub; or, where ``name`` is a whole address, empty.
        revision: commit, or a branch where no commit is known.
        name: path in the repository, or an address.
        bytes, sha256: of the file as published; ``None`` where nobody has checked.
    """

    target: str
    repository: str
    revision: str
    name: str
    bytes: int | None = None
    sha256: str | None = None

    @property
    def base_name(self) -> str:
        """The published name, without folders."""
        return PurePosixPath(self.name).name

    @property
    def pinned(self) -> bool:
        """Whether the file cannot change unnoticed: by commit or by digest."""
        return self.sha256 is not None or (len(self.revision) == 40 and not self.name.startswith("http"))

    @property
    def converted(self) -> bool:
        """Whether the published pickle becomes a safetensors file."""
        return self.name.endswith(PICKLES) and self.target.endswith(".safetensors")

    def url(self) -> str:
        """The address; ``HF_ENDPOINT`` names a mirror of the hub, as for Hugging Face's own tools."""
        if self.name.startswith("http"):
            return self.name
        hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/")
        return f"{hub}/{self.repository}/resolve/{quote(self.revision)}/{quote(self.name)}"

    @property
    def origin(self) -> str:
        """Repository, revision and name for people."""
        return self.name if self.name.startswith("http") else f"{self.repository}@{self.revision[:12]} {self.name}"


def _hub(
    source: tuple[str, str], name: str, target: str = "", *, bytes: int | None = None, sha256: str | None = None
) -> PublishedFile:
    return PublishedFile(target or name, *source, name, bytes, sha256)


WEIGHTS: dict[str, tuple[PublishedFile, ...]] = {
    "aesthetic": (
        PublishedFile(
            "head.safetensors",
            "",
            "main",
            "https://github.com/christophschuhmann/improved-aesthetic-predictor/raw/main/"
            "sac+logos+ava1-l14-linearMSE.pth",
            3_714_759,
            "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0",
        ),
        _hub(_CLIP_L, "config.json", "clip/config.json"),
        _hub(_CLIP_L, "model.safetensors", "clip/model.safetensors"),
    ),
    "clip": (
        _hub(_LAION, "open_clip_config.json"),
        _hub(_LAION, "open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
    ),
    "hpsv2": (_hub(_HPSV2, "HPS_v2_compressed.pt", "open_clip_model.safetensors"),),
    "hpsv21": (_hub(_HPSV2, "HPS_v2.1_compressed.pt", "open_clip_model.safetensors", bytes=1_972_490_005),),
    "imagereward": (
        _hub(_IMAGEREWARD, "med_config.json"),
        _hub(_IMAGEREWARD, "ImageReward.pt", "ImageReward.safetensors", bytes=1_786_880_927),
        _hub(
            _BERT,
            "vocab.txt",
            bytes=231_508,
            sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        ),
    ),
    "pickscore": (
        _hub(_PICKSCORE, "config.json"),
        _hub(_PICKSCORE, "model.safetensors", bytes=3_944_552_236),
        _hub(_LAION, "vocab.json"),
        _hub(_LAION, "merges.txt"),
    ),
}
# Protocols that the weights above are for; not listed: all of the scorer's.
FOR_PROTOCOLS: dict[str, tuple[str, ...]] = {"clip": ("sdpo",)}
# What a scorer's loader needs in its folder: of each line, one group must be there whole; names may be patterns.
NEEDED: dict[str, tuple[tuple[tuple[str, ...], ...], ...]] = {
    "aesthetic": (
        (("head.safetensors",), ("sac+logos+ava1-l14-linearMSE.pth",)),
        (("clip/config.json",),),
        (("clip/model.safetensors",), ("clip/pytorch_model.bin",)),
    ),
    "clip": ((("open_clip_model.safetensors",), ("open_clip_pytorch_model.bin",)),),
    "hpsv21": ((("HPS_v2.1*.pt",), ("open_clip_model.safetensors",), ("open_clip_pytorch_model.bin",)),),
    "hpsv2": ((("HPS_v2*.pt",), ("open_clip_model.safetensors",), ("open_clip_pytorch_model.bin",)),),
    "imagereward": (
        (("ImageReward.safetensors",), ("ImageReward.pt",)),
        (("med_config.json",),),
        (("vocab.txt",), ("tokenizer.json",)),
    ),
    "pickscore": (
        (("config.json",),),
        (("model.safetensors",), ("pytorch_model.bin",)),
        (("tokenizer.json",), ("vocab.json", "merges.txt")),
    ),
}
