"""Where the published prompt sets lie, and the size and digest that each file must have.

Every file is pinned, repositories by commit where it is known, and all by SHA-256, so that a set of a given name is the
same everywhere. The texts themselves are not part of this package.
"""

from __future__ import annotations

from evals.published.weights import PublishedFile

_RAW = "https://raw.githubusercontent.com"
_OFFICIAL = f"{_RAW}/AIDC-AI/Diffusion-SDPO/1c83c650fccbe7c1262e0b098401490162c7348d/prompts"
_PARTI = f"{_RAW}/google-research/parti/2c99f6652cbc7f0d0441aa91f4c7e7055bcb0071"
# Of its commit the first seven digits are known, af4902f, and an address needs them all: the digest alone decides.
_GENEVAL = f"{_RAW}/djghosh13/geneval/main/prompts"


def _at(address: str, bytes: int | None, sha256: str) -> PublishedFile:
    """A file at an address, with its commit in it where that is known; kept under its own name."""
    return PublishedFile(address.rpartition("/")[2], "", "", address, bytes, sha256)


PROMPTS: dict[str, tuple[PublishedFile, ...]] = {
    "drawbench": (
        # The authors' sheet can change and has no digest. This is a copy of it on the hub; length and digest are those
        # that its commit records.
        PublishedFile(
            "drawbench.parquet",
            "Jialuo21/DrawBench",
            "870c4ef7e6c67eafa7c6e26ba79b7c0d52c9cb16",
            "data/test-00000-of-00001.parquet",
            10_195,
            "951d1d0162ff983840f0dc662c52a8b73a62d3a26db87294f43641fda739fe8e",
            kind="dataset",
        ),
    ),
    "geneval": (
        _at(
            f"{_GENEVAL}/evaluation_metadata.jsonl",
            None,
            "5c48e0813e812e3c373fa5c8ed07a8f0a483be30272b4427b0559c8048e67c13",
        ),
    ),
    "hpdv2": (
        _at(f"{_OFFICIAL}/hpsv2.json", 575_349, "417a2ce00b3307780402c1d27528a0e41ed26651384687bbf3aa06c4c7e559fd"),
    ),
    "papv2": (
        _at(f"{_OFFICIAL}/papv2.json", 81_130, "531f3ca923035b5f17dbcbc60a7d7dfa476219e59b0e99617bb3f0afabf5663b"),
    ),
    "partiprompts": (
        _at(
            f"{_OFFICIAL}/partiprompts.json",
            229_976,
            "b11d46a91c4202461d6d1df69da0b9af5070851403574de6efd6736ccad22291",
        ),
        _at(f"{_PARTI}/PartiPrompts.tsv", None, "fab29e41bb512a169b56acab4cf2a41dcb675e285df2efcde6640c7dd3c440eb"),
    ),
}
"""Files of each prompt source by the source's name; the file with the prompts comes first."""
