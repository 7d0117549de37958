"""``evals score`` and ``cache`` on folders of images: arguments in, files and printed tables out."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from artifacts.atomic import writing
from artifacts.errors import InputError


def score(arguments: argparse.Namespace) -> None:
    """Score a folder of images; nothing is written unless every score is there."""
    from artifacts.atomic import write_json
    from artifacts.contracts import write_table
    from artifacts.prompt_text import control_token_warning
    from evals.images.matching import match
    from evals.images.read_ahead import share_cores
    from evals.prompts.prompt_file import read_prompt_file
    from evals.scorers import check_prompts
    from evals.scoring.scorer_settings import resolve

    out = output(arguments.out, ".parquet")
    for option, value, least in (("--batch-size", arguments.batch_size, 1), ("--workers", arguments.workers, 1)):
        if value is not None and value < least:
            raise InputError(f"{option} {value}: expected {least} or more")
    settings = resolve(
        arguments.scorers,
        config=arguments.config,
        weights=arguments.weights,
        weights_dir=arguments.weights_dir,
        dtype=arguments.dtype,
    )
    prompts = read_prompt_file(
        arguments.prompts, prompt_column=arguments.prompt_column, file_column=arguments.file_column
    )
    matching = match(
        arguments.images, prompts, arguments.prompts, in_order=arguments.in_order, missing=arguments.skip_broken
    )
    if warning := control_token_warning([image.prompt for image in matching.images]):
        _say(f"warning: {arguments.prompts}: {warning}")
    for name in settings:
        check_prompts(
            name,
            [image.prompt for image in matching.images],
            str(arguments.prompts),
            "leave the scorer out by --scorers, or remove the prompts and their images",
        )
    first, unused = matching.images[0], matching.unused
    _say(f"{len(matching.images)} images matched {matching.how}; the first: {first.file} – {_short(first.prompt)}")
    if unused:
        _say(f"warning: {len(unused)} images of the folder have no prompt and are not scored, e.g. {unused[0]}")

    share_cores()
    import torch

    from evals.networks.interface import scorer_record, torch_device
    from evals.scorers import create
    from evals.scoring.folder_scores import score_folder
    from evals.scoring.score_cache import ScoreCache
    from evals.tables.comparison import Statistics
    from evals.tables.folder_summary import summary_markdown

    device = arguments.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch_device(device)
    cache = ScoreCache(arguments.cache) if arguments.cache else None
    try:
        scorers = {
            name: create(name, **block, device=device, batch_size=arguments.batch_size)
            for name, block in settings.items()
        }
        started = time.perf_counter()
        result = score_folder(
            scorers,
            {name: block["protocol"] for name, block in settings.items()},
            arguments.images,
            matching.images,
            batch_size=arguments.batch_size,
            workers=arguments.workers,
            cache=cache,
            skip_broken=arguments.skip_broken,
            label=f"score by {', '.join(scorers)}",
        )
        seconds = time.perf_counter() - started
    finally:
        if cache is not None:
            cache.close()
    summary = summary_markdown(result.table, Statistics(), result.met)
    records = {
        name: {"protocol": settings[name]["protocol"], "decoding": result.met}
        | scorer_record(scorer, device=device, batch_size=arguments.batch_size)
        for name, scorer in scorers.items()
    }
    with writing(f"--out {out}"):
        write_json(out.with_suffix(".scorers.json"), records)
        write_table(out, result.table, "folder_scores")
    rate = len(matching.images) / seconds
    known = f", {result.cached} scores from the cache" if cache is not None else ""
    _say(f"{len(matching.images)} images in {seconds:.1f} s on {device}, {rate:.1f} images/s{known}; scores: {out}")
    print(summary, end="")


def cache(arguments: argparse.Namespace) -> None:
    """Show the size of a score cache, or prune it."""
    from evals.scoring.score_cache import FILE_NAME, ScoreCache

    if not (Path(arguments.cache) / FILE_NAME).is_file():
        raise InputError(f"{arguments.cache}: holds no {FILE_NAME}; give the folder given to `evals score --cache`")
    with ScoreCache(arguments.cache) as stored:
        if arguments.action == "prune":
            if arguments.unused_days is None and not arguments.fingerprint:
                raise InputError("evals cache prune: say what to remove: --unused-days N or --fingerprint DIGEST")
            if arguments.unused_days is not None and arguments.unused_days < 0:
                raise InputError(f"--unused-days {arguments.unused_days}: expected 0 or more")
            print(
                f"{stored.prune(unused_days=arguments.unused_days, fingerprints=arguments.fingerprint)} scores removed"
            )
        size = stored.size()
    print(f"{stored.path}: {size.scores} scores by {size.fingerprints} fingerprints, {size.bytes / 1e6:.1f} MB")


def output(path: str, suffix: str) -> Path:
    """Where to write, refused before any work is done."""
    out = Path(path)
    if out.suffix != suffix:
        raise InputError(f"--out {out}: expected a name that ends in {suffix}")
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; give the name of a file")
    # The folder is made when there is something to write; the nearest that is there must take files.
    there = next(folder for folder in out.absolute().parents if folder.exists())
    with writing(f"--out {out}"), tempfile.TemporaryFile(dir=there):
        pass
    return out


def _short(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
