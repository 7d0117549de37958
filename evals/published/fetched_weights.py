"""Weights that ``evals weights fetch`` brought are held to what it wrote down: a name says nothing of the content.

HPS v2.0, HPS v2.1 and CLIP-H have one architecture and, once fetched, one file name: read as one another they give
numbers, under the wrong label.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.json_files import read_object
from evals.published.weights import FOR_PROTOCOLS, FORMER_NAMES, WEIGHTS

RECORD = "fetched.json"


def read_record(folder: Path) -> dict[str, Any]:
    """What ``fetched.json`` says of each file; empty without one.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        return {}
    return read_object(path, missing="fetch the weights again", damaged="delete it and fetch the weights again")


def check(scorer: str, protocol: str, digests: Mapping[Path, str]) -> None:
    """Refuse files that are not those which were fetched, or that were fetched for another scorer or protocol.

    Args:
        scorer: as in :data:`evals.published.weights.WEIGHTS`; of another one only the digests are checked.
        digests: hex SHA-256 of each file that was read; files that ``fetched.json`` does not list pass.

    Raises:
        InputError: a file has another digest or origin.
    """
    for file, digest in digests.items():
        # The lists of a scorer's folder name files in it, and in its folder of a part.
        for folder in (file.parent, file.parent.parent):
            target = file.relative_to(folder).as_posix()
            entry = read_record(folder).get(target)
            if not isinstance(entry, dict):
                continue
            again = f"delete it and run `evals weights fetch {scorer} --to {folder.parent}`"
            if entry.get("sha256") != digest:
                raise InputError(
                    f"{file}: sha256 is {digest}, {RECORD} beside it says {entry.get('sha256')}; the file is not the "
                    f"one that was fetched: {again}"
                )
            if scorer in WEIGHTS:
                _check_origin(scorer, protocol, file, target, str(entry.get("origin")))


def _check_origin(scorer: str, protocol: str, file: Path, target: str, origin: str) -> None:
    published = {published.target: published.origin for published in WEIGHTS[scorer]}
    if _without_revision(published.get(target, "")) != _without_revision(origin):
        raise InputError(
            f"{file}: was fetched as {origin}, which is not scorer '{scorer}'; give the folder of "
            f"`evals weights fetch {scorer}`"
        )
    if protocol not in (known := FOR_PROTOCOLS.get(scorer, (protocol,))):
        raise InputError(
            f"{file}: was fetched as {origin}, which is scorer '{scorer}' in protocol '{', '.join(known)}'; give the "
            f"weights that protocol '{protocol}' names (docs/scorers.md)"
        )


def _without_revision(origin: str) -> tuple[str, str]:
    """Repository, by its present name, and file of ``repository@revision name``: another release may pin another
    commit."""
    place, _, name = origin.rpartition(" ")
    repository = place.partition("@")[0]
    return FORMER_NAMES.get(repository, repository), name
