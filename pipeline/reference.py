"""Generated documents: JSON schemas and the key reference of the config."""

from __future__ import annotations

import inspect
import json
from collections.abc import Container, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from artifacts import markdown
from artifacts.contracts import CONTRACTS
from evals.tables.rows import json_schemas
from pipeline.config import Benchmark, registries
from pipeline.config.training import TrainingOverrides
from sdpo.pairs.reading.options import SourceOptions

SCHEMAS = "workflow/schemas"
REFERENCE = "config/README.md"

_HEAD = """# Config

One YAML file describes one benchmark; `snakemake --configfile config/<name>.yaml` runs it. Unknown keys and values out
of range are errors: all of them are printed at once, before the first job starts. `sdpo-bench check FILE` only checks.
Paths are relative to where snakemake is started, and may begin with `~/`.

`sdpo-bench reference` writes this page from the models in `pipeline/config/`, and `workflow/schemas/config.schema.json`
holds the same for editors: put `# yaml-language-server: $schema=../workflow/schemas/config.schema.json` on the first
line of a config.
"""
_BOUNDS = {"gt": "> {}", "ge": "≥ {}", "lt": "< {}", "le": "≤ {}"}


def documents() -> dict[str, str]:
    """All generated files: path in the repository to content."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Benchmark.model_json_schema()}
    schemas = {"config": schema, **{name: contract.json_schema() for name, contract in CONTRACTS.items()}}
    schemas |= {f"table_{name}": rows for name, rows in json_schemas().items()}
    texts = {f"{SCHEMAS}/{name}.schema.json": _json(schema) for name, schema in schemas.items()}
    return texts | {REFERENCE: key_reference()}


def key_reference() -> str:
    """The page that explains every key, in Markdown."""
    parts = [_HEAD, *_section("Top level", Benchmark)]
    for name, field in Benchmark.model_fields.items():
        model, many = _model(field.annotation)
        if model is not None:
            parts += _section(f"`{name}{many}`", model)
            for inner_name, inner in model.model_fields.items():
                inner_model, _ = _model(inner.annotation)
                if inner_model is not None and inner_model is not TrainingOverrides:
                    parts += _section(f"`{name}{many}.{inner_name}`", inner_model)
    parts += ["## Names\n", _names()]
    parts += _pair_sources()
    parts.append("## Objectives\n\nHyperparameters of each objective, the keys of a variant's `parameters`.\n")
    for name in registries.objectives():
        module = registries.objective(name)
        parts += _section(f"`{name}`", module.Parameters, level=3)
        if not module.HAS_LOSER:
            parts.append("Has no loser, so it takes no safeguard.\n")
    return "\n".join(parts)


def _pair_sources() -> list[str]:
    """Options of the sources that have a model of them; what all have in common is said once."""
    parts = ["## Pair sources\n", "Options of the sources that read data sets; docs/pairs.md says what each set is.\n"]
    parts += _section("Common options", SourceOptions, level=3)
    for name in registries.pair_sources():
        if (options := getattr(registries.pair_source(name), "Options", None)) is not None:
            common = {
                n: _row(n, f) for n, f in SourceOptions.model_fields.items() if issubclass(options, SourceOptions)
            }
            own = [n for n, f in options.model_fields.items() if _row(n, f) != common.get(n)]
            parts += _section(f"`{name}`", options, level=3, only=own)
    return parts


def _names() -> str:
    protocols = {name: registries.scorer(name).PROTOCOLS for name in registries.scorers()}
    kinds = {
        "`base.family`": registries.base_families(),
        "`pairs.<name>.source`": registries.pair_sources(),
        "`variants[].objective`": registries.objectives(),
        "`training.loggers`": registries.loggers(),
        "`prompt_sets.<name>.source`": registries.prompt_sources(),
        "`generation.protocol`": registries.generation_protocols(),
        "`generation.scheduler`": registries.schedulers(),
        "`scorers` (protocols)": [f"{name} ({', '.join(known)})" for name, known in protocols.items()],
    }
    table = markdown.table(("key", "names"), [(key, ", ".join(names)) for key, names in kinds.items()], "--")
    return f"Installed names; a plug-in adds its own.\n\n{table}\n"


def _section(title: str, model: type[BaseModel], level: int = 2, *, only: Container[str] | None = None) -> list[str]:
    heading = f"{'#' * level} {title}\n"
    if not model.model_fields:
        return [heading, "None.\n"]
    lines = [heading, f"{inspect.cleandoc(model.__doc__ or '')}\n".replace("``", "`")]
    rows = [_row(n, f) for n, f in model.model_fields.items() if only is None or n in only]
    return [*lines, markdown.table(("key", "value", "default", "meaning"), rows, "----") + "\n"]


def _row(name: str, field: FieldInfo) -> list[str]:
    return [f"`{name}`", _value(field), _default(field), _cell(field.description)]


def _value(field: FieldInfo) -> str:
    return _cell(", ".join([_type(field.annotation), *_limits(field.metadata)]))


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return ", ".join([_type(arguments[0]), *_limits(arguments[1:])])
    if origin in (Union, UnionType):
        return " or ".join(_type(a) for a in arguments if a is not NoneType)
    if origin is Literal:
        return " or ".join(f"`{a}`" for a in arguments)
    if origin is list:
        return f"list: {_type(arguments[0])}"
    if origin is dict:
        return "keys with values"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block"
    return {int: "integer", float: "number", str: "text", bool: "true or false"}.get(annotation, str(annotation))


def _limits(metadata: Any) -> Iterator[str]:
    for constraint in metadata:
        # A constraint in a type is a FieldInfo of its own.
        inner = constraint.metadata if isinstance(constraint, FieldInfo) else [constraint]
        for item in inner:
            for name, words in _BOUNDS.items():
                if (bound := getattr(item, name, None)) is not None:
                    yield words.format(bound if bound < 2**31 else "2³²")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "–" if value is None or isinstance(value, BaseModel | dict) else f"`{json.dumps(value)}`"


def _model(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    """The model of a block, and how its place is written: ``.<name>`` in a mapping, ``[]`` in a list."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _model(arguments[0])
    if origin in (Union, UnionType):
        return _model(next(a for a in arguments if a is not NoneType))
    if origin in (list, dict):
        model, _ = _model(arguments[-1])
        return model, "[]" if origin is list else ".<name>"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    return None, ""


def _cell(text: str | None) -> str:
    return " ".join((text or "").replace("|", "\\|").split())


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
