"""Opening a cache: its files checked, its settings and its base held to it, its pairs ready to be gathered."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import file_sha256, json_sha256, write_json
from artifacts.contracts import read_table
from artifacts.errors import InputError
from sdpo.pairs.cache.encoding import SIZES
from sdpo.pairs.cache.gathering import EMPTY, Encoded, Pairs, StoredImages, StoredLatents
from sdpo.pairs.cache.settings import EncodingSettings
from sdpo.pairs.cache.shard_reading import Shards

if TYPE_CHECKING:
    import pandas as pd

    from sdpo.bases import Base

LAYOUT = 2
"""Number of the layout of shards and ``cache.json``."""


def description(folder: Path) -> dict[str, Any]:
    """``cache.json``.

    Raises:
        InputError: it is missing or damaged, or of another layout.
    """
    remedy = f"delete {folder} and run snakemake again"
    try:
        found: dict[str, Any] = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
        _ = found["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / 'cache.json'}: missing or damaged; {remedy}") from error
    if found.get("layout") != LAYOUT:
        raise InputError(f"{folder / 'cache.json'}: written by an older release, in another layout; {remedy}")
    return found


def content_sha256(folder: Path) -> str:
    """Digest of what a cache holds; that it was built again, at another time, does not show in it.

    Raises:
        InputError: ``cache.json`` is missing or damaged.
    """
    return json_sha256(description(folder)["files"])


def label_noise(folder: Path) -> dict[str, float]:
    """``flipped``, the share of the training pairs whose label was turned round on purpose; nothing if none was.

    Raises:
        InputError: ``cache.json`` is missing or damaged.
    """
    share = description(folder)["provenance"]["spec"].get("flipped")
    return {"flipped": float(share)} if share else {}


def settings_of(folder: Path) -> EncodingSettings:
    """The settings a cache was built with.

    Raises:
        InputError: ``cache.json`` is missing or damaged.
    """
    return EncodingSettings.model_validate(description(folder)["encoding"])


@cache
def _file_sha256(path: Path, size: int, modified_ns: int) -> str:
    """Digest of a file, computed once a process; size and time are there to notice a change."""
    return file_sha256(path)


def stamp(folder: Path) -> Path:
    """File beside a cache that says which of its files were found whole; without it all are read again."""
    return folder.parent / f".{folder.name}.checked.json"


def note_checked(folder: Path, digests: Mapping[str, str]) -> None:
    """Write the stamp for files, by name, that whoever wrote them knows to have these digests."""
    _note(folder, {name: _entry(folder / name, sha256) for name, sha256 in digests.items()})


def _note(folder: Path, entries: Mapping[str, Any]) -> None:
    # A cache that lies where nothing can be written is read each time.
    with suppress(OSError):
        write_json(stamp(folder), entries)


def _entry(path: Path, sha256: str) -> list[int | str]:
    """Size, time of change and digest of an intact file."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, sha256]


def _check_files(folder: Path, digests: Mapping[str, str]) -> None:
    """Compare all files with their digests, several at a time; those that the stamp knows are not read again."""
    known: Mapping[str, Any] = {}
    with suppress(OSError, ValueError):
        found = json.loads(stamp(folder).read_text(encoding="utf-8"))
        known = found if isinstance(found, dict) else {}

    def checked(name: str) -> list[int | str] | None:
        """Size, time of change and digest of an intact file."""
        path = folder / name
        if not path.is_file():
            return None
        stat, entry = path.stat(), _entry(path, digests[name])
        if known.get(name) == entry or _file_sha256(path.resolve(), stat.st_size, stat.st_mtime_ns) == digests[name]:
            return entry
        return None

    with ThreadPoolExecutor() as threads:
        entries = dict(zip(digests, threads.map(checked, digests), strict=True))
    for name, entry in entries.items():
        if entry is None:
            raise InputError(f"{folder / name}: missing or damaged; delete {folder} and run snakemake again")
    if entries != known:
        _note(folder, entries)


def load(folder: Path, split: str, *, base: Base | None = None, check: bool = True) -> Pairs:
    """Open a cache, all its files checked; latents are read when they are asked for.

    Args:
        folder: the cache.
        split: ``train`` or ``heldout``.
        base: encodes images and prompts where the cache holds images.
        check: compare the files with their digests, where they have changed since that was done last; another process
            may have done so.

    Raises:
        InputError: a file is missing or is not the one that was written, its shards hold rows of two shapes, the split
            is empty, or the cache holds images and there is no base.
    """
    import torch

    # First, since it can say what is wrong with the table.
    index: pd.DataFrame = read_table(folder / "index.parquet", "pairs_index")
    about = description(folder)
    if check:
        _check_files(folder, about["files"])
    chosen = index[(index["split"] == split) & (index["label"] == 1)]
    if chosen.empty:
        raise InputError(f"{folder}: split '{split}' has no pair with a winner; raise the number of pairs")
    columns = ("winner_image", "loser_image", "prompt_index", "pair_id")
    numbers = [torch.from_numpy(chosen[column].to_numpy().copy()) for column in columns]
    parts = about["shards"]
    shards = Shards([folder / s["file"] for s in parts], [s["images"] for s in parts], [s["prompts"] for s in parts])
    if check:
        shards.check_shapes()
    settings = EncodingSettings.model_validate(about["encoding"])
    if settings.store == "latents":
        source: Encoded = StoredLatents(shards, list(about["conditions"]), joined=settings.sizes is not None)
    else:
        if base is None:
            raise InputError(f"{folder}: holds images instead of latents; open it together with its base")
        unique = index.drop_duplicates("prompt_index")
        texts = {EMPTY: "", **dict(zip(unique["prompt_index"].tolist(), unique["prompt"].tolist(), strict=True))}
        # Prompts of pairs that are left out have numbers, and nobody asks for them.
        source = StoredImages(shards, [texts.get(i, "") for i in range(max(texts) + 1)], base)
    winners, losers, prompts, ids = numbers
    shapes = torch.zeros_like(winners)
    if settings.sizes is not None:
        height, width = shards.whole(SIZES)[:, 4:].long().unbind(1)
        shapes = (height << 32 | width).unique(return_inverse=True)[1][winners]
    return Pairs(winners, losers, prompts, source, tuple(about["latent_shape"]), shapes, settings.flips, ids)


def encoder_digests(base: Base, settings: EncodingSettings) -> dict[str, str]:
    """Digest of each part of a base that makes what a cache holds; empty if it holds images, or the base has none."""
    of_base = getattr(base, "encoder_digests", None)
    return {} if of_base is None or settings.store == "images" else of_base()


def check_fits(folder: Path, base: Base) -> None:
    """Refuse a cache that other encoders made than those of the base, whose denoiser may be any.

    Raises:
        InputError: a condition is missing, unknown or of another width, or an encoder is another one.
    """
    about = description(folder)
    remedy = f"delete {folder} and run snakemake again, or give this base a result folder of its own"
    found = {name: shape[-1] for name, shape in about["conditions"].items()}
    expected = dict(base.condition_widths)
    if found != expected:
        shown = [" and ".join(f"'{name}' of width {width}" for name, width in x.items()) for x in (found, expected)]
        raise InputError(
            f"{folder}: its prompts were encoded by another base: {shown[0]}, where the U-Net takes {shown[1]}; "
            f"{remedy}"
        )
    own = encoder_digests(base, settings_of(folder))
    for part in sorted({*own, *about["encoders"]}):
        made, now = about["encoders"].get(part), own.get(part)
        if made != now:
            digests = " and ".join("none" if x is None else x[:12] for x in (made, now))
            raise InputError(
                f"{folder}: was encoded with another '{part}' than this base has (digests {digests}); {remedy}"
            )
