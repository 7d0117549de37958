"""Building a pair cache: read a source, encode each image and each prompt once, write shard after shard."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import file_sha256, json_sha256, owned, write_json
from artifacts.block import checked
from artifacts.contracts import write_table
from artifacts.errors import InputError
from artifacts.hub import local_folder
from artifacts.image_decoding import DecodedImage, described, to_rgb
from artifacts.plugins import told
from artifacts.progress import progress
from artifacts.provenance import describe
from families.conditions import TEXT_LENGTHS
from sdpo.pairs import TIE, Known, stated
from sdpo.pairs.cache import shard_writing
from sdpo.pairs.cache.agreement import Listed, listed
from sdpo.pairs.cache.gathering import Encoded, StoredImages, StoredLatents
from sdpo.pairs.cache.images import PreparedImage, fitted, same_picture
from sdpo.pairs.cache.pool import Encoders, ImageBatches
from sdpo.pairs.cache.reading import LAYOUT, description, encoder_digests, note_checked
from sdpo.pairs.cache.settings import EncodingSettings, PairsSpec
from sdpo.pairs.cache.shard_reading import Shards
from sdpo.pairs.cache.shard_writing import NONE, Row, Shard
from sdpo.pairs.cache.taking_up import rest
from sdpo.pairs.label_noise import LabelNoise

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdpo.pairs import Pair

SHAPING = ("dataset", "source", "options", "flipped", "flip_seed", "encoding", "base", "stage_version")
_READ_AHEAD = 64
"""Pairs whose images are decoded and prepared at once, in threads."""


def build(spec: Mapping[str, Any]) -> None:
    """Read a source, encode its images and prompts with the base, and write the cache.

    An interrupted build goes on after its last whole shard when it is run again.

    Args:
        spec: a :class:`~sdpo.pairs.cache.settings.PairsSpec`.

    Raises:
        InputError: a bad setting; no pair can be trained on, images are of different sizes, or there is no space left.
    """
    from sdpo import bases
    from sdpo import pairs as sources

    started = time.time()
    job = checked(PairsSpec, spec, "sdpo pairs")
    settings, out = job.encoding, Path(job.out)
    digests = bases.digests(spec["base"])
    base_path = local_folder(job.base.path)
    # As it was given: an interrupted build is known by it.
    shaping = {key: spec[key] for key in SHAPING if key in spec}
    # Shards of other code would be mixed with those of this one.
    code = [sources.REGISTRY.source(job.source), bases.REGISTRY.source(job.base.family)]
    state = shard_writing.state_folder(out, json_sha256([shaping, list(digests.values()), code]))
    with owned(state, doing="builds this cache") as waited:
        if not (waited and _made_from(out, shaping, digests)):
            with shard_writing.tidied(state), Encoders(spec["base"], settings, job.processes) as encoders:
                noise = LabelNoise(job.flipped, job.flip_seed)
                work = _Build(encoders, settings, state, noise, job.dataset)
                read = _rest(job, base_path, work.taken_up())
                try:
                    work.go(iter(progress(read, label=f"pair set {job.dataset}", unit="pair")))
                except BrokenProcessPool as error:
                    raise InputError(
                        f"pairs '{job.dataset}': a process that encodes has died, perhaps for want of memory; "
                        "lower execution.encoding_processes and run it again: finished shards are taken up"
                    ) from error
                counts = work.counts()
                if job.flipped:
                    counts["flipped"] = work.flipped()
                found = {"left_out": work.listed.counts, "decoding": work.met()}
                provenance = describe(stage="pairs", spec=shaping, inputs=digests, started=started)
                about = {"counts": counts, **found, "encoding": settings.model_dump(), "provenance": provenance}
                work.finish(out, {**about, "encoders": encoder_digests(encoders.base, settings)})
    shutil.rmtree(state.parent, ignore_errors=True)


def _rest(job: PairsSpec, base_path: Path, known: Known) -> Iterator[Pair]:
    """Pairs of the source that are not known."""
    from sdpo import pairs as sources

    what = f"pairs '{job.dataset}': source '{job.source}'"
    with told(what, None):
        pairs = sources.read(job.source, job.options, base_path=base_path)
    with told(what, sources.REGISTRY.file(job.source)):
        yield from rest(pairs, known)


def _made_from(out: Path, shaping: Mapping[str, Any], digests: Mapping[str, str]) -> bool:
    """Whether the process that was waited for has made the same cache."""
    if not (out / "cache.json").is_file():
        return False
    made = description(out)["provenance"]
    return bool(made["config_sha256"] == json_sha256(shaping) and made["inputs"] == dict(digests))


class _Build:
    """A cache on its way: what has been seen, and the shards so far."""

    def __init__(
        self, encoders: Encoders, settings: EncodingSettings, state: Path, noise: LabelNoise, dataset: str
    ) -> None:
        self.encoders, self.settings, self.state = encoders, settings, state
        self.noise, self.dataset = noise, dataset
        self.shards: list[Shard] = []
        self.finished: set[str] = set()
        self.images: dict[str, int] = {}
        # The empty prompt is one of the prompts, and the first.
        self.prompts: dict[str, int] = {}
        # Width and height of every image, once one has been prepared; latents of others would not fit beside its own.
        self.size: tuple[int, int] | None = None

    def taken_up(self) -> Known:
        """The pairs of the shards that are there."""
        self.shards = shard_writing.written(self.state)
        self.finished = {shard.file for shard in self.shards}
        texts = [prompt for shard in self.shards for prompt in shard.prompts]
        self.prompts = {prompt: number for number, prompt in enumerate(texts)}
        self.images = {sha256: n for n, sha256 in enumerate(chain.from_iterable(s.images for s in self.shards))}
        self.size = shard_writing.size_of_images(self.state, self.shards)
        if count := len(self.shards):
            print(f"{self.state}: goes on after {count} finished shard{'s' * (count > 1)}", file=sys.stderr)
        rows = chain.from_iterable(shard.rows for shard in self.shards)
        return Known({row.number: (texts[row.prompt], row.split, row.stated) for row in rows}, self.state)

    def go(self, pairs: Iterator[Pair]) -> None:
        """Encode and write what the source gives after the shards that are there."""
        while (first := next(pairs, None)) is not None:
            self._write(chain([first], islice(pairs, self.settings.shard_pairs - 1)))

    def _write(self, pairs: Iterator[Pair]) -> None:
        """Encode and write one shard."""
        known_images, known_prompts = len(self.images), len(self.prompts)
        if not self.shards:
            self.prompts[""] = 0
        rows: list[Row] = []
        fresh, met = self.encoders.batches(), Counter[str]()
        with ThreadPoolExecutor() as threads:
            while given := list(islice(pairs, _READ_AHEAD)):
                block = list(self.noise.applied(iter(given)))
                # Ties are not trained on: they are listed.
                ready = threads.map(self._prepared, [pair for pair in block if pair.label != TIE])
                for source, pair in zip(given, block, strict=True):
                    prompt = self.prompts.setdefault(pair.prompt, len(self.prompts))
                    images, said = (NONE, NONE), source.stated or stated(source.label)
                    if pair.label != TIE:
                        both = next(ready)
                        # Of a source that names no pair: what it gave, in its own order.
                        first, second = both if pair.label else both[::-1]
                        said = source.stated or stated(source.label, first.sha256, second.sha256)
                        if not same_picture(*both):
                            images = self._number(both[0], fresh, met), self._number(both[1], fresh, met)
                    assert pair.number is not None
                    label = max(pair.label, 1 - pair.label)
                    rows.append(Row(prompt, *images, label, pair.split, pair.number, said))
        texts = list(self.prompts)[known_prompts:]
        tensors = {**fresh.tensors(), **self.encoders.prompts(texts)}
        digests = list(self.images)[known_images:]
        self.shards.append(shard_writing.write(self.state, len(self.shards), tensors, rows, digests, texts, dict(met)))

    def _prepared(self, pair: Pair) -> tuple[PreparedImage, PreparedImage]:
        """Digest, resize and crop the images of a pair; of a lost pair turned round, so that the winner comes first.

        Raises:
            InputError: an image cannot be decoded.
        """
        ready = fitted([self._decoded(image) for image in pair.images], self.settings)
        first, second = (replace(x, met=met or x.met) for x, met in zip(ready, pair.met, strict=True))
        return (first, second) if pair.label else (second, first)

    def _decoded(self, image: Image) -> DecodedImage:
        try:
            return to_rgb(image)
        # Pillow reports a damaged file in all of these ways.
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(
                f"an image of {image.width} × {image.height} pixels cannot be decoded ({error}); remove its pair"
            ) from error

    def _number(self, image: PreparedImage, fresh: ImageBatches, met: Counter[str]) -> int:
        """Number of an image in the cache; one that is new is handed on to be encoded, and counted.

        Raises:
            InputError: it is of another size than those before it.
        """
        # Of several sizes one image may be there in two.
        key = image.sha256 if self.settings.sizes is None else f"{image.sha256} {image.image.size}"
        if key not in self.images:
            self.size = self.size or image.image.size
            if self.settings.sizes is None and image.image.size != self.size:
                raise InputError(
                    f"pairs '{self.dataset}': images of {self.size[0]} × {self.size[1]} and of {image.image.width} × "
                    f"{image.image.height} pixels in one pair set; set its encoding.resolution, or encoding.sizes"
                )
            self.images[key] = len(self.images)
            fresh.add(image)
            met.update(image.met)
        return self.images[key]

    @cached_property
    def listed(self) -> Listed:
        """The pairs that the cache lists, once all have been read."""
        return listed([row for shard in self.shards for row in shard.rows], list(self.prompts))

    def met(self) -> dict[str, int]:
        """How many images met what in decoding."""
        return dict(sum((Counter(shard.met) for shard in self.shards), Counter[str]()))

    def counts(self) -> dict[str, int]:
        """Numbers of pairs, images and prompts; says what was left out, and why.

        Raises:
            InputError: no pair can be trained on.
        """
        for line in self.listed.lines:
            print(f"warning: pairs '{self.dataset}': {line}", file=sys.stderr)
        if met := described(self.met()):
            print(f"pairs '{self.dataset}': images that are not plain RGB: {met}", file=sys.stderr)
        rows = self.listed.rows
        won = [row.split for row in rows if row.label != TIE]
        if "train" not in won:
            shutil.rmtree(self.state.parent)
            why = f" ({'; '.join(self.listed.lines)})" if self.listed.lines else ""
            raise InputError(
                f"pairs '{self.dataset}': no pair with a winner in the train split{why}; check its options"
            )
        return {
            "pairs": len(rows),
            "ties": len(rows) - len(won),
            "train": won.count("train"),
            "heldout": won.count("heldout"),
            "images": len(self.images),
            "prompts": len({row.prompt for row in rows}),
        }

    def flipped(self) -> int:
        """Number of pairs that are trained on with the wrong label."""
        won = [row for row in self.listed.rows if row.label != TIE and row.split == "train"]
        return sum(self.noise.flips(row.number) for row in won)

    def _shapes(self) -> dict[str, Any]:
        """What a reader has to know before it reads: shapes of latents and conditions, without the first dimension."""
        import torch

        shards = Shards(*zip(*((self.state / s.file, len(s.images), len(s.prompts)) for s in self.shards), strict=True))
        source: Encoded
        if self.settings.store == "images":
            source = StoredImages(shards, [""], self.encoders.base)
        else:
            source = StoredLatents(shards, shards.conditions(), joined=self.settings.sizes is not None)
        first = torch.zeros(1, dtype=torch.int64)
        return {
            "latent_shape": list(source.images(first, None).latents.mean.shape[1:]),
            "conditions": {
                name: list(x.shape[1:]) for name, x in source.prompts(first).items() if name != TEXT_LENGTHS
            },
        }

    def finish(self, out: Path, about: Mapping[str, Any]) -> None:
        """Put everything in its place at once."""
        import pandas as pd

        rows = self.listed.rows
        texts = list(self.prompts)
        index = pd.DataFrame(
            {
                "pair_id": range(len(rows)),
                "prompt": [texts[row.prompt] for row in rows],
                "prompt_index": [row.prompt for row in rows],
                "split": [row.split for row in rows],
                "label": [row.label for row in rows],
                "winner_image": [row.winner for row in rows],
                "loser_image": [row.loser for row in rows],
            }
        )
        shapes = self._shapes()
        ready = self.state / shard_writing.READY
        ready.mkdir()
        with shard_writing.space_needed(self.state):
            shard_writing.take(self.state, self.shards, ready)
            write_table(ready / "index.parquet", index, "pairs_index")
            files = {shard.file: shard.sha256 for shard in self.shards}
            files["index.parquet"] = file_sha256(ready / "index.parquet")
            parts = [{"file": s.file, "images": len(s.images), "prompts": len(s.prompts)} for s in self.shards]
            found = {**about, **shapes, "layout": LAYOUT, "files": files, "shards": parts}
            write_json(ready / "cache.json", found)
        if out.exists():
            shutil.rmtree(out)
        os.replace(ready, out)
        # Shards that were taken up lay about for some time; the first reader compares them.
        note_checked(out, {file: sha256 for file, sha256 in files.items() if file not in self.finished})
