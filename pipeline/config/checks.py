"""Checks that look at more than one key; each takes the config as it was read, whatever its shape.

What has the wrong shape is reported by the models; here it is passed over, so that one mistake does not hide another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

from artifacts import layout
from artifacts.errors import InputError
from artifacts.hub import is_local
from artifacts.validation import MISSING, Problem, check, one_of, unknown
from pipeline.config import raw, registries
from pipeline.config.benchmark import RESERVED_BENCHMARKS, RESERVED_PROMPT_SET, RESERVED_VARIANT, Benchmark
from pipeline.config.external_checks import CHECKS as ELSEWHERE
from pipeline.config.process_checks import CHECKS as PROCESSES
from pipeline.config.prompt_set_checks import CHECKS as PROMPT_SETS
from pipeline.config.raw import Raw
from pipeline.config.scorer_checks import CHECKS as SCORERS
from pipeline.config.training import merged_as_read
from pipeline.config.training_checks import CHECKS as TRAININGS
from pipeline.config.variants import baselines
from sdpo.pairs.cache.settings import EncodingSettings
from sdpo.training.settings import without_run_settings

SOURCES: tuple[tuple[str, Callable[[], list[str]], Callable[[str], ModuleType]], ...] = (
    ("pairs", registries.pair_sources, registries.pair_source),
    ("prompt_sets", registries.prompt_sources, registries.prompt_source),
)
"""Blocks whose entries have a source: names of what there is, and how its module is loaded."""


def cross_checks(data: Raw) -> Iterator[Problem]:
    """All errors that no single key shows."""
    yield from (broken := list(_broken(data)))
    for find in (
        _reserved,
        _revisions,
        _nothing_to_do,
        _variant_names,
        *ELSEWHERE,
        _variants,
        *TRAININGS,
        *PROCESSES,
        _baselines,
        _seeds,
        _sharing,
        *SCORERS,
        *PROMPT_SETS,
        _grid,
        _grid_seed,
        _options,
        _encodings,
        _audit,
        _comparisons,
    ):
        try:
            yield from list(find(data))
        except InputError:
            # What a broken member lacks, checks miss; it is reported already.
            if not broken:
                raise


def _broken(data: Raw) -> Iterator[Problem]:
    """Members of registries that the config uses and that cannot be imported, or are not what they must be."""
    used: list[tuple[tuple[str | int, ...], Any, Callable[[], list[str]], Callable[[str], Any]]] = [
        (("variants", i, "objective"), variant.get("objective"), registries.objectives, registries.objective)
        for i, variant in raw.listed(data, "variants")
    ]
    used += [
        (("scorers", name), name, registries.scorers, registries.scorer) for name, _ in raw.blocks(data, "scorers")
    ]
    for key, names, load in SOURCES:
        used += [((key, name, "source"), block.get("source"), names, load) for name, block in raw.blocks(data, key)]
    used.append(
        (("base", "family"), raw.block(data, "base").get("family"), registries.base_families, registries.family)
    )
    for owner, block in [((), data), *((("variants", i), v) for i, v in raw.listed(data, "variants"))]:
        listed = raw.block(block, "training").get("loggers")
        for i, name in enumerate(listed if isinstance(listed, list) else []):
            used.append(((*owner, "training", "loggers", i), name, registries.loggers, registries.logger))
    for path, name, names, load in used:
        if isinstance(name, str) and name in names():
            try:
                load(name)
            except InputError as error:
                yield Problem(path, MISSING, str(error))


def _reserved(data: Raw) -> Iterator[Problem]:
    if (name := data.get("benchmark")) in RESERVED_BENCHMARKS:
        yield Problem(("benchmark",), name, f"results/{name}/ is used for something else; choose another name")
    if RESERVED_PROMPT_SET in raw.block(data, "prompt_sets"):
        path = ("prompt_sets", RESERVED_PROMPT_SET)
        yield Problem(path, MISSING, "this name is taken by the pooled rows of the tables; choose another")


def _revisions(data: Raw) -> Iterator[Problem]:
    for key in ("path", "vae"):
        value = raw.block(data, "base").get(key)
        if isinstance(value, str) and not is_local(value) and "@" not in value:
            expected = f"no such folder, and as a hub id it has no revision: expected {value}@<commit>"
            yield Problem(("base", key), value, expected)


def _nothing_to_do(data: Raw) -> Iterator[Problem]:
    """What is trained needs pairs and seeds; where nothing is, there must be models from elsewhere."""
    variants, models = data.get("variants", MISSING), data.get("models", [])
    if variants is MISSING or variants == []:
        if models == []:
            yield Problem(("variants",), variants, "expected at least 1, or a model in `models`")
        return
    for key in ("pairs", "seeds"):
        value = data.get(key, MISSING)
        if value is MISSING:
            yield Problem((key,), MISSING, f"missing: {Benchmark.model_fields[key].description}")
        elif value in ([], {}):
            yield Problem((key,), value, "expected at least 1")


def _variant_names(data: Raw) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, variant in raw.listed(data, "variants"):
        name, path = variant.get("name"), ("variants", index, "name")
        if name == RESERVED_VARIANT:
            yield Problem(path, name, "this name is taken by the untrained base; choose another")
        if isinstance(name, str) and first.setdefault(name, index) != index:
            yield Problem(path, name, f"variants[{first[name]}] has this name too; expected one name a variant")


def _variants(data: Raw) -> Iterator[Problem]:
    data_sets = list(raw.block(data, "pairs"))
    for index, variant in raw.listed(data, "variants"):
        path: tuple[str | int, ...] = ("variants", index)
        pairs, name = variant.get("pairs"), variant.get("objective")
        if isinstance(pairs, str) and data_sets and pairs not in data_sets:
            yield Problem((*path, "pairs"), pairs, unknown("pair set", pairs, data_sets))
        if not isinstance(name, str) or name not in registries.objectives():
            continue
        module = registries.objective(name)
        if isinstance(parameters := variant.get("parameters", {}), Mapping):
            yield from check(module.Parameters, parameters, (*path, "parameters"))[1]
        if variant.get("safeguard") is not None and not module.HAS_LOSER:
            expected = f"objective '{name}' has no loser whose gradient could be scaled; expected no safeguard"
            yield Problem((*path, "safeguard"), variant["safeguard"], expected)


def _baselines(data: Raw) -> Iterator[Problem]:
    settings = [_settings(data, variant) for _, variant in raw.listed(data, "variants")]
    names = [s["name"] for s in settings]
    for index, variant in raw.listed(data, "variants"):
        name, baseline, path = variant.get("name"), variant.get("baseline"), ("variants", index, "baseline")
        if not isinstance(name, str) or names.count(name) != 1:
            continue
        plain = [s["name"] for s in settings if s["safeguard"] is None and s["name"] != name]
        if baseline is None:
            found = baselines(name, settings) if variant.get("safeguard") is not None else []
            if len(found) > 1:
                yield Problem(path, MISSING, f"more than one variant could be the baseline: name {one_of(found)}")
        elif isinstance(baseline, str) and baseline not in plain:
            expected = unknown("variant without safeguard", baseline, [n for n in plain if isinstance(n, str)])
            yield Problem(path, baseline, expected)


def _settings(data: Raw, variant: Raw) -> dict[str, Any]:
    """What two variants are compared by, defaults filled in."""
    parameters = variant.get("parameters", {})
    name = variant.get("objective")
    if isinstance(name, str) and name in registries.objectives() and isinstance(parameters, Mapping):
        found, _ = check(registries.objective(name).Parameters, parameters)
        parameters = parameters if found is None else found.model_dump()
    return {
        "name": variant.get("name"),
        "safeguard": variant.get("safeguard"),
        "objective": name,
        "parameters": parameters,
        "pairs": variant.get("pairs"),
        "training": without_run_settings(merged_as_read(data, variant)),
    }


def _seeds(data: Raw) -> Iterator[Problem]:
    seeds = data.get("seeds")
    if not isinstance(seeds, list):
        return
    for index, seed in enumerate(seeds):
        if seed in seeds[:index]:
            yield Problem(("seeds", index), seed, f"seeds[{seeds.index(seed)}] is the same; expected different seeds")


def _sharing(data: Raw) -> Iterator[Problem]:
    execution = raw.block(data, "execution")
    size = execution.get("variants_per_job", 1)
    if execution.get("baselines_share_jobs") is True and isinstance(size, int) and size > 1:
        yield Problem(("execution", "variants_per_job"), size, "expected 1 beside execution.baselines_share_jobs")


def _grid(data: Raw) -> Iterator[Problem]:
    prompt_sets = list(raw.block(data, "prompt_sets"))
    name = raw.block(raw.block(data, "report"), "grid").get("prompt_set")
    if isinstance(name, str) and prompt_sets and name not in prompt_sets:
        yield Problem(("report", "grid", "prompt_set"), name, unknown("prompt set", name, prompt_sets))


def _grid_seed(data: Raw) -> Iterator[Problem]:
    seeds, seed = data.get("seeds"), raw.block(raw.block(data, "report"), "grid").get("seed")
    if isinstance(seeds, list) and isinstance(seed, int) and seed not in seeds:
        expected = f"expected one of the training seeds, {', '.join(map(str, seeds))}"
        yield Problem(("report", "grid", "seed"), seed, expected)


def _options(data: Raw) -> Iterator[Problem]:
    for key, names, load in SOURCES:
        for name, block in raw.blocks(data, key):
            source, options = block.get("source"), raw.block(block, "options")
            if not isinstance(source, str) or source not in names():
                continue
            module = load(source)
            if (model := getattr(module, "Options", None)) is not None:
                yield from check(model, options, (key, name, "options"))[1]
                continue
            defaults = getattr(module, "DEFAULTS", None)
            if defaults is None:
                continue
            for option in options:
                if option not in defaults:
                    yield Problem((key, name, "options", option), MISSING, unknown("key", str(option), defaults))


def _encodings(data: Raw) -> Iterator[Problem]:
    """Settings of what is cut out of an image, where nothing is, and sizes for a family that takes one shape."""
    family = raw.block(data, "base").get("family")
    alone = family in registries.base_families() and hasattr(registries.family(str(family)), "train")
    for name, block in raw.blocks(data, "pairs"):
        encoding = raw.block(block, "encoding")
        if alone and (sizes := encoding.get("sizes")) is not None:
            expected = f"expected it left out: base family '{family}' trains by itself, on pairs of one shape"
            yield Problem(("pairs", name, "encoding", "sizes"), sizes, expected)
        for key in ("crop", "time_ids"):
            given = encoding.get(key, default := EncodingSettings.model_fields[key].default)
            if given != default and encoding.get("resolution") is None and encoding.get("sizes") is None:
                beside = "encoding.resolution or encoding.sizes beside it"
                expected = f"expected {default}, or {beside}: without them nothing is cropped"
                yield Problem(("pairs", name, "encoding", key), given, expected)


def _audit(data: Raw) -> Iterator[Problem]:
    variants = {
        variant["name"]: variant.get("objective")
        for _, variant in raw.listed(data, "variants")
        if isinstance(variant.get("name"), str)
    }
    names = list(variants)
    block = raw.block(data, "audit")
    trained = block.get("trained")
    named: list[tuple[tuple[str | int, ...], Any]] = [(("audit", "variant"), block.get("variant"))]
    named += [(("audit", "trained", i), name) for i, name in enumerate(trained if isinstance(trained, list) else [])]
    for path, name in named:
        if isinstance(name, str) and name not in names:
            yield Problem(path, name, unknown("variant", name, names))
    chosen = block.get("variant")
    objective = variants.get(chosen) if isinstance(chosen, str) else None
    if objective in registries.objectives() and not registries.objective(str(objective)).HAS_LOSER:
        expected = f"objective '{objective}' has no loser to be safeguarded; expected a variant that has one"
        yield Problem(("audit", "variant"), chosen, expected)


def _comparisons(data: Raw) -> Iterator[Problem]:
    """Pairs that the tables are asked for: two different rows each, and each pair once."""
    rows = [RESERVED_VARIANT]
    for _, variant in raw.listed(data, "variants"):
        if isinstance(name := variant.get("name"), str):
            exported = merged_as_read(data, variant)["export_at"]
            rows += [layout.at_step(name, step) for step in exported] if isinstance(exported, list) else []
            rows.append(name)
    for key in ("other_bases", "models"):
        rows += [block["name"] for _, block in raw.listed(data, key) if isinstance(block.get("name"), str)]
    listed = data.get("comparisons")
    seen: dict[tuple[Any, Any], int] = {}
    for index, pair in enumerate(listed if isinstance(listed, list) else []):
        if not isinstance(pair, list) or not all(isinstance(name, str) for name in pair) or len(pair) != 2:
            continue
        path: tuple[str | int, ...] = ("comparisons", index)
        wrong = [(place, name) for place, name in enumerate(pair) if name not in rows]
        for place, name in wrong:
            yield Problem((*path, place), name, unknown("variant or model", name, rows))
        if pair[0] == pair[1]:
            yield Problem(path, pair, "expected two different variants or models")
        first, second = sorted(pair)
        if (before := seen.setdefault((first, second), index)) != index:
            yield Problem(path, pair, f"comparisons[{before}] is the same; expected each pair once")
