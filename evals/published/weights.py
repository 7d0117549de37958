"""Where the scorers' published weights lie, and what is known of each file before it is fetched.

Sizes and digests of weights are those of the publisher's pages, where a comment does not say otherwise. None of the
files has been downloaded and digested for this list. Small text files need no digest where a commit fixes them. Any
other file without a digest is trusted when it is first fetched, if the user says so, and its digest is recorded then.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import quote

HUB = "https://huggingface.co"
_LAION = ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "1c2b8495b28150b8a4922ee1c8edee224c284c0c")
_PICKSCORE = ("yuvalkirstain/PickScore_v1", "a4e4367c6dfa7288a00c550414478f865b875800")
# The commit that added both versions; its page shows their digests and sizes.
_HPSV2 = ("xswu/HPSv2", "697403c78157020a1ae59d23f111aa58ced35b0a")
_IMAGEREWARD = ("zai-org/ImageReward", "5736be03b2652728fb87788c9797b0570450ab72")
# Second-hand: these two commits are pinned by other projects; the publishers' pages were not seen.
_CLIP_L = ("openai/clip-vit-large-patch14", "32bd64288804d66eefd0ccbe215aa642df71cc41")
_BERT = ("google-bert/bert-base-uncased", "86b5e0934494bd15c9632b12f734a8a67f723594")
FORMER_NAMES = {"THUDM/ImageReward": _IMAGEREWARD[0]}
"""Repositories that have moved on the hub; records of what was fetched before have the old name."""
PICKLES = (".pt", ".pth", ".bin")
_SMALL = (".json", ".txt")
SMALL_BYTES = 4_000_000
"""Size up to which a text file is small."""


@dataclass(frozen=True)
class PublishedFile:
    """One file of a scorer's weights.

    Attributes:
        target: where our loader looks for it, below the scorer's folder. A pickle whose target is a safetensors file is
            converted.
        repository: on the hub; or, where ``name`` is a whole address, empty.
        revision: commit, or a branch where no commit is known.
        name: path in the repository, or an address.
        bytes, sha256: of the file as published; ``None`` where they are not known.
        kind: of the repository, ``model`` or ``dataset``.
    """

    target: str
    repository: str
    revision: str
    name: str
    bytes: int | None = None
    sha256: str | None = None
    kind: str = "model"

    @property
    def base_name(self) -> str:
        """The published name, without folders."""
        return PurePosixPath(self.name).name

    @property
    def needs_trust(self) -> bool:
        """Whether nothing says beforehand what the file must be: no digest, and not a small text file of a commit."""
        by_commit = self.repository and re.fullmatch("[0-9a-f]{40}", self.revision)
        return self.sha256 is None and not (by_commit and self.name.endswith(_SMALL))

    @property
    def converted(self) -> bool:
        """Whether the published pickle becomes a safetensors file."""
        return self.name.endswith(PICKLES) and self.target.endswith(".safetensors")

    def url(self) -> str:
        """The address; ``HF_ENDPOINT`` names a mirror of the hub, as for Hugging Face's own tools."""
        if self.name.startswith("http"):
            return self.name
        hub = os.environ.get("HF_ENDPOINT", HUB).rstrip("/") + ("/datasets" if self.kind == "dataset" else "")
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
        # Both second-hand, from several other projects, some of which name the commit; the weights' digest is on the
        # pages of copies of the repository, too.
        _hub(
            _CLIP_L,
            "config.json",
            "clip/config.json",
            bytes=4519,
            sha256="8a09b467700c58138c29d53c605b34ebc69beaadd13274a8a2af8ad2c2f4032a",
        ),
        _hub(
            _CLIP_L,
            "model.safetensors",
            "clip/model.safetensors",
            bytes=1_710_540_580,
            sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
        ),
    ),
    "clip": (
        _hub(_LAION, "open_clip_config.json"),
        # Second-hand: from MLPerf's download script and several other projects, one of which names the commit.
        _hub(
            _LAION,
            "open_clip_pytorch_model.bin",
            "open_clip_model.safetensors",
            bytes=3_944_692_325,
            sha256="9a78ef8e8c73fd0df621682e7a8e8eb36c6916cb3c16b291a082ecd52ab79cc4",
        ),
    ),
    "hpsv2": (
        _hub(
            _HPSV2,
            "HPS_v2_compressed.pt",
            "open_clip_model.safetensors",
            bytes=1_972_484_501,
            sha256="07cb0d20626232204ca3a6ec53ff5984e7e53212a8a7b0e0ec2bac1bdaf125a1",
        ),
    ),
    "hpsv21": (
        _hub(
            _HPSV2,
            "HPS_v2.1_compressed.pt",
            "open_clip_model.safetensors",
            bytes=1_972_490_005,
            sha256="c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837",
        ),
    ),
    "imagereward": (
        _hub(_IMAGEREWARD, "med_config.json", bytes=485),
        _hub(
            _IMAGEREWARD,
            "ImageReward.pt",
            "ImageReward.safetensors",
            bytes=1_786_880_927,
            sha256="d71dc8d4912bc633c06ab8ef1ef6a81e8199d4369f14b47b29baf1d19de561f6",
        ),
        _hub(
            _BERT,
            "vocab.txt",
            bytes=231_508,
            sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        ),
    ),
    "pickscore": (
        _hub(_PICKSCORE, "config.json"),
        _hub(
            _PICKSCORE,
            "model.safetensors",
            bytes=3_944_552_236,
            sha256="ef31ef6fc5ff4d9bb90dd232df4e145887ba62c5a03aa2841415f8c25f18d52e",
        ),
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
