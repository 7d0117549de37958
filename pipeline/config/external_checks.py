"""Checks of ``models`` and ``other_bases`` that look at more than one key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from artifacts.file_names import user_path
from artifacts.hub import is_local
from artifacts.validation import MISSING, Problem, unknown
from evals.generation.settings import OF_FLOWS, SamplingSettings
from families.flow import NAMES as FLOWS
from pipeline.config import raw, registries
from pipeline.config.benchmark import RESERVED_VARIANT
from pipeline.config.raw import Raw


def missing_sources(data: Raw, folder: Path) -> Iterator[Problem]:
    """Local weights of ``models`` and ``other_bases`` that are not there.

    Args:
        folder: what relative paths are relative to.
    """
    named: list[tuple[tuple[str | int, ...], Any, Any]] = [
        (("models", index, "source"), model.get("source"), model.get("file"))
        for index, model in raw.listed(data, "models")
    ]
    for index, base in raw.listed(data, "other_bases"):
        named += [(("other_bases", index, key), base.get(key), None) for key in ("path", "vae")]
    for path, value, file in named:
        if not isinstance(value, str) or not is_local(value):
            continue
        place = folder / user_path(value)
        if not place.exists():
            yield Problem(path, value, "no such file or folder; paths are relative to where snakemake is started")
        elif isinstance(file, str) and not (place / file).exists():
            yield Problem(
                (*path[:-1], "file"), file, f"{value} holds no such file or folder; correct it or leave it out"
            )


def _names(data: Raw) -> Iterator[Problem]:
    """Bases, variants and models are rows of one table, and no two may have one name."""
    taken: dict[str, str] = {RESERVED_VARIANT: "the untrained base"}
    base = data.get("base")
    if isinstance(base, Mapping) and isinstance(base.get("name"), str):
        taken[base["name"]] = "`base`"
    for index, variant in raw.listed(data, "variants"):
        if isinstance(variant.get("name"), str):
            taken[variant["name"]] = f"variants[{index}]"
    for key in ("other_bases", "models"):
        for index, block in raw.listed(data, key):
            name = block.get("name")
            if isinstance(name, str):
                if name in taken:
                    yield Problem((key, index, "name"), name, f"this name is taken by {taken[name]}; choose another")
                taken.setdefault(name, f"{key}[{index}]")


def _bases(data: Raw) -> Iterator[Problem]:
    first = data.get("base")
    known = [
        first.get("name") if isinstance(first, Mapping) else None,
        *(b.get("name") for _, b in raw.listed(data, "other_bases")),
    ]
    names = [name for name in known if isinstance(name, str)]
    used = {model.get("base") for _, model in raw.listed(data, "models")}
    for index, model in raw.listed(data, "models"):
        name = model.get("base")
        if isinstance(name, str) and name not in names:
            yield Problem(("models", index, "base"), name, unknown("base", name, names))
    for index, base in raw.listed(data, "other_bases"):
        if isinstance(base.get("name"), str) and base["name"] not in used:
            yield Problem(("other_bases", index), MISSING, f"no model has base '{base['name']}'; leave it out")


def _families(data: Raw) -> Iterator[Problem]:
    """Families with a generator of their own draw their own models only, and all images of one in one job."""
    blocks: list[tuple[tuple[str | int, ...], Any, Any]] = []
    first = data.get("base")
    if isinstance(first, Mapping):
        blocks.append((("base", "family"), first.get("family"), first.get("name")))
    blocks += [
        (("other_bases", i, "family"), b.get("family"), b.get("name")) for i, b in raw.listed(data, "other_bases")
    ]
    own = registries.generators()
    execution = data.get("execution")
    shards = execution.get("generation_shards") if isinstance(execution, Mapping) else None
    for path, family, name in blocks:
        if family not in own:
            continue
        if isinstance(shards, int) and shards > 1:
            yield Problem(("execution", "generation_shards"), shards, f"family '{family}' draws in one job; expected 1")
        for index, model in raw.listed(data, "models"):
            if model.get("base") == name or (model.get("base") is None and path[0] == "base"):
                yield Problem(
                    ("models", index), MISSING, f"family '{family}' takes no models from elsewhere; give another base"
                )


def _flows(data: Raw) -> Iterator[Problem]:
    """Bases of rectified flow are drawn from in one way."""
    bases = [raw.block(data, "base"), *(base for _, base in raw.listed(data, "other_bases"))]
    if not any(base.get("family") in FLOWS for base in bases):
        return
    defaults = {key: SamplingSettings.model_fields[key].default for key in OF_FLOWS}
    places: list[tuple[tuple[str | int, ...], Raw]] = [(("generation",), {**defaults, **raw.block(data, "generation")})]
    for name, block in raw.blocks(data, "prompt_sets"):
        places.append((("prompt_sets", name, "generation"), raw.block(block, "generation")))
    for path, settings in places:
        for key, expected in OF_FLOWS.items():
            if settings.get(key, expected) != expected:
                yield Problem((*path, key), settings[key], f"no flow model is drawn with it; expected {expected}")


def _revisions(data: Raw) -> Iterator[Problem]:
    places: list[tuple[tuple[str | int, ...], Any]] = [
        (("models", index, "source"), model.get("source")) for index, model in raw.listed(data, "models")
    ]
    for index, base in raw.listed(data, "other_bases"):
        places += [(("other_bases", index, key), base.get(key)) for key in ("path", "vae")]
    for path, value in places:
        if isinstance(value, str) and not is_local(value) and "@" not in value:
            yield Problem(path, value, f"no such file or folder; a hub id needs its revision: {value}@<commit>")


def _baselines(data: Raw) -> Iterator[Problem]:
    blocks = [block for key in ("variants", "models") for _, block in raw.listed(data, key)]
    names = [block["name"] for block in blocks if isinstance(block.get("name"), str)]
    for index, model in raw.listed(data, "models"):
        baseline = model.get("baseline")
        others = [name for name in names if name != model.get("name")]
        if isinstance(baseline, str) and baseline not in others:
            yield Problem(("models", index, "baseline"), baseline, unknown("variant or model", baseline, others))


CHECKS = (_names, _bases, _families, _flows, _revisions, _baselines)
