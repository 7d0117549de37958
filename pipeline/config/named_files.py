"""What a config names and what can be read of it before the first job: weights, bases, files of sources, prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from artifacts import plugins
from artifacts.errors import InputError
from artifacts.file_names import user_path
from artifacts.hub import is_local
from artifacts.validation import MISSING, Problem
from evals.published.fetch_prompts import CACHE, cached
from evals.published.prompts import PROMPTS
from evals.published.weights import WEIGHTS
from pipeline.config import raw, registries
from pipeline.config.external_checks import missing_sources
from pipeline.config.raw import Raw
from pipeline.config.scorer_checks import rates

ELSEWHERE = "paths are relative to where snakemake is started"


def missing_files(data: Raw, folder: Path) -> Iterator[Problem]:
    """Local weights and files that are named and not there.

    Args:
        folder: what relative paths are relative to.
    """
    for key in ("path", "vae"):
        value = raw.block(data, "base").get(key)
        if isinstance(value, str) and is_local(value) and not (folder / user_path(value)).exists():
            yield Problem(("base", key), value, f"no such file or folder; {_remedy(value)}")
    # These are never hub ids, though a relative path looks like one.
    named: list[tuple[tuple[str | int, ...], Any]] = [
        (("base", "language", "python"), raw.block(raw.block(data, "base"), "language").get("python")),
        *((("scorers", name, "weights"), s.get("weights")) for name, s in raw.blocks(data, "scorers")),
        (("report", "scorer_agreement"), raw.block(data, "report").get("scorer_agreement")),
        (("published", "file"), raw.block(data, "published").get("file")),
        *_files_of_sources(data),
    ]
    for path, value in named:
        if isinstance(value, str) and not (folder / user_path(value)).exists():
            yield Problem(path, value, f"no such file or folder; {_remedy(value, str(path[1]))}")
    yield from missing_sources(data, folder)


def _files_of_sources(data: Raw) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Options that are paths of what a source reads, which their names say, in plug-ins too."""
    for key in ("pairs", "prompt_sets"):
        for name, block in raw.blocks(data, key):
            for option, value in raw.block(block, "options").items():
                if names_a_file(option):
                    yield (key, name, "options", option), value


def names_a_file(option: Any) -> bool:
    """Whether an option of a source is a path, as its name says."""
    return isinstance(option, str) and option.rpartition("_")[2] in ("path", "file", "manifest")


def _remedy(path: str, scorer: str = "") -> str:
    if scorer in WEIGHTS and Path(path).name == scorer and not path.startswith("resources/"):
        return f"fetch it with `evals weights fetch {scorer} --to {Path(path).parent}`"
    if path.startswith("resources/miniature/"):
        return "restore it with `git checkout -- resources/miniature` or run `make miniature install-miniature`"
    return ELSEWHERE


def unreadable(data: Raw) -> Iterator[Problem]:
    """Local bases that are none of their family, and prompts that are here and cannot be had, drawn from or judged.

    Nothing is fetched; paths are relative to the working directory.
    """
    for path, base in _bases(data):
        family, place, vae = base.get("family"), base.get("path"), base.get("vae")
        if not isinstance(place, str) or not _is_here(place) or not _loads(registries.family, family):
            continue
        # An autoencoder from the hub is not looked at.
        own: dict[str, Any] = {"vae": user_path(vae)} if isinstance(vae, str) and _is_here(vae) else {}
        if isinstance(without := base.get("without"), list) and without:
            own["without"] = [str(name) for name in without]
        if language := raw.block(base, "language"):
            own["language"] = language
        try:
            registries.open_base(str(family), user_path(place), **own)
        except InputError as error:
            yield Problem((*path, "path"), place, f"no base of family '{family}': {error}")
        # Whoever wrote the family is to read where it fails.
        except Exception as error:
            yield Problem((*path, "path"), place, f"family '{family}' fails: {plugins.place(error)}")
    sets = raw.block(data, "prompt_sets")
    for name, block in raw.blocks(data, "prompt_sets"):
        shown = raw.block(sets, shows) if isinstance(shows := block.get("shows"), str) else block
        yield from _unreadable_prompts(data, name, shown)


def _unreadable_prompts(data: Raw, name: str, block: Raw) -> Iterator[Problem]:
    source, limit, options = block.get("source"), block.get("limit"), raw.block(block, "options")
    if (
        not isinstance(source, str)
        or not _loads(registries.prompt_source, source)
        or not isinstance(limit, int | None)
        or not _fetched(source, options)
    ):
        return
    if any(names_a_file(k) and isinstance(v, str) and not user_path(v).exists() for k, v in options.items()):
        return
    path = ("prompt_sets", name)
    owner = f"prompt set '{name}': "
    try:
        texts = registries.read_prompts(name, str(source), limit=limit, options=options)
    except InputError as error:
        yield Problem(path, MISSING, str(error).removeprefix(owner))
        return
    for scorer, settings in raw.blocks(data, "scorers"):
        if _loads(registries.scorer, scorer) and rates(settings, name):
            try:
                registries.check_prompt_set(scorer, texts, name)
            except InputError as error:
                yield Problem(path, MISSING, str(error).removeprefix(owner))


def _loads(load: Callable[[str], Any], name: Any) -> bool:
    """Whether there is such a member and it works; if not, the checks of names have said so."""
    try:
        load(name)
    except InputError:
        return False
    return True


def _fetched(source: Any, options: Raw) -> bool:
    """Whether the prompts of a source can be had without the network, as far as that can be told."""
    if getattr(registries.prompt_source(source), "FETCHES", False):
        return False
    cache = options.get("cache", CACHE)
    if source not in PROMPTS or isinstance(options.get("path"), str) or not isinstance(cache, str):
        return True
    return all(cached(source, file, cache).is_file() for file in PROMPTS[source])


def _bases(data: Raw) -> Iterator[tuple[tuple[str | int, ...], Raw]]:
    yield ("base",), raw.block(data, "base")
    for index, block in raw.listed(data, "other_bases"):
        yield ("other_bases", index), block


def _is_here(value: str) -> bool:
    return is_local(value) and user_path(value).exists()
