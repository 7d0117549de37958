"""Which scorers to run and how, from the command line and from the block ``scorers`` of a benchmark's config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.file_names import user_path
from artifacts.plugins import nearest
from artifacts.yaml_files import read_mapping
from evals import scorers

ALL = "all"
# What ``all`` means without a config: the scorers of the paper's tables, and those that cost nothing.
STANDARD = ("pickscore", "hpsv2", "imagereward", "aesthetic", "clip", "blank", "jpeg_size")

BENCHMARK_KEY = "prompt_sets"
"""Of a scorer's block: concerns the jobs of a benchmark, and not the scorer."""


def scorer_blocks(config: Mapping[str, Any], source: str | Path) -> dict[str, dict[str, Any]]:
    """Settings of each scorer of a config, as :func:`evals.scorers.create` takes them; its prompt sets are left out.

    Raises:
        InputError: there is no block ``scorers``, or an entry has unknown settings or values of another type.
    """
    blocks = config.get("scorers")
    if not isinstance(blocks, dict) or not blocks:
        raise InputError(
            f"{source}: no scorers; expected a block 'scorers' such as {{clip: {{weights: weights/clip}}}}"
        )
    known = [
        name for name in inspect.signature(scorers.create).parameters if name not in ("name", "device", "batch_size")
    ]
    for name, block in blocks.items():
        if not isinstance(block, dict | None):
            raise InputError(f"{source}: scorers.{name} is {block!r}, expected keys with values")
        for key, value in (block or {}).items():
            if key == BENCHMARK_KEY:
                continue
            if key not in known:
                expected = f"expected one of {', '.join(known)}{nearest(str(key), known)}"
                raise InputError(f"{source}: scorers.{name}.{key}: unknown key: {expected}")
            kind, expected = (dict, "keys with values") if key == "options" else (str, "text")
            if not isinstance(value, kind | None):
                raise InputError(f"{source}: scorers.{name}.{key} is {value!r}, expected {expected}")
    return {
        str(name): {k: v for k, v in (block or {}).items() if v is not None and k != BENCHMARK_KEY}
        for name, block in blocks.items()
    }


def parse_weights(values: Sequence[str]) -> dict[str, str]:
    """``NAME=PATH`` of each scorer.

    Raises:
        InputError: a value is something else, or a scorer is named twice.
    """
    weights: dict[str, str] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            raise InputError(f"--weights '{value}': expected NAME=PATH, e.g. clip=weights/clip")
        if name in weights:
            raise InputError(f"--weights: scorer '{name}' is given twice; expected once")
        weights[name] = path
    return weights


def resolve(
    wanted: str,
    *,
    config: str | Path | None = None,
    weights: Sequence[str] = (),
    weights_dir: str | Path | None = None,
    dtype: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Settings of the scorers to run; nothing is loaded.

    Args:
        wanted: ``all``, or names with commas. ``all`` is every scorer of the config, or :data:`STANDARD` without one.
        config: a benchmark's config.
        weights: ``NAME=PATH``; they come before ``weights_dir``, which comes before the config.
        weights_dir: a folder with one folder a scorer, as ``evals weights fetch --to`` makes it.
        dtype: precision of all models; left out, the config's.

    Raises:
        InputError: unknown scorers or protocols, or a scorer that needs weights has none; all of these are named.
    """
    blocks = scorer_blocks(read_mapping(config), config) if config is not None else {}
    given = parse_weights(weights)
    named = [name.strip() for name in wanted.split(",") if name.strip()]
    names = (list(blocks) or list(STANDARD)) if wanted == ALL else named
    if not names:
        raise InputError(
            f"--scorers '{wanted}': names no scorer: expected {ALL} or some of {', '.join(scorers.names())}"
        )
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(f"--scorers: '{repeated[0]}' is given twice; expected once")
    if unused := [name for name in given if name not in names]:
        raise InputError(f"--weights {unused[0]}=…: no such scorer among {', '.join(names)}{nearest(unused[0], names)}")
    settings: dict[str, dict[str, Any]] = {}
    for name in names:
        module = scorers.load(name)
        block: dict[str, Any] = {**blocks.get(name, {})}
        block.setdefault("protocol", "sdpo" if "sdpo" in module.PROTOCOLS else module.PROTOCOLS[0])
        scorers.check_protocol(name, block["protocol"])
        if dtype is not None:
            block["dtype"] = dtype
        if name in given:
            block["weights"] = given[name]
        elif weights_dir is not None and (user_path(weights_dir) / name).exists():
            block["weights"] = str(user_path(weights_dir) / name)
        settings[name] = block
    without = [name for name in names if scorers.load(name).NEEDS_WEIGHTS and not settings[name].get("weights")]
    if without:
        raise InputError(
            f"no weights of {', '.join(without)}; give --weights {without[0]}=PATH, --weights-dir DIR, or a --config "
            "that names them, or fetch them with `evals weights fetch`"
        )
    return settings
