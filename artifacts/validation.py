"""What a user wrote, held to a pydantic model: every error in one line, in the words of this project.

All that comes from a config, a job description or a keyword passes through :func:`check` or :func:`parse`, so a model
of a plug-in is as strict as the project's own: unknown keys, values of another type and numbers that are not finite are
errors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from artifacts.errors import InputError
from artifacts.plugins import nearest, place

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)
MISSING: Any = object()
"""Stands for the value of a key that is not there."""
UNKNOWN_NAME = "unknown_name"
"""Pydantic error type of a name that is not known; its context holds ``kind`` and ``known``."""
NAME_PATTERN = r"^[a-z0-9][a-z0-9_.+-]*$"
DIGEST_PATTERN = r"^[0-9a-f]{64}$"
COMMIT_PATTERN = r"^[0-9a-f]{40}$"
REPOSITORY_PATTERN = r"^[^/\s]+/[^/\s]+$"

_PATTERNS = {
    NAME_PATTERN: "a name of a-z, 0-9, '.', '_', '+' and '-' that starts with a letter or digit",
    DIGEST_PATTERN: "64 hexadecimal digits, a to f in lower case",
    COMMIT_PATTERN: "a commit, 40 hexadecimal digits",
    REPOSITORY_PATTERN: "owner/name",
}
_KINDS = {
    "bool_type": "true or false",
    "dict_type": "keys with values",
    "finite_number": "a finite number",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "invalid_key": "a text as key (quote it if YAML reads it as something else)",
    "list_type": "a list",
    "model_attributes_type": "keys with values",
    "model_type": "keys with values",
    "none_required": "nothing",
    "string_type": "a text (quote it if YAML reads it as something else)",
}
_BOUNDS = {
    "greater_than": ("gt", "a number greater than {}"),
    "greater_than_equal": ("ge", "a number of at least {}"),
    "less_than": ("lt", "a number less than {}"),
    "less_than_equal": ("le", "a number of at most {}"),
    "multiple_of": ("multiple_of", "a multiple of {}"),
    "string_too_short": ("min_length", "a text of at least {} characters"),
    "string_too_long": ("max_length", "a text of at most {} characters"),
    "too_short": ("min_length", "at least {}"),
    "too_long": ("max_length", "at most {}"),
}


@dataclass(frozen=True)
class Problem:
    """One error in what a user wrote."""

    path: Path
    value: Any
    expected: str

    def line(self, *, source: str | None = None, note: str = "") -> str:
        """The error in one line: key path, value, what was expected.

        Args:
            source: file that holds the key.
            note: put behind key and value.
        """
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path).lstrip(".")
        value = "" if self.value is MISSING else f"{' = ' if key else ''}{short(self.value)}"
        named = f"{key}{value}{note}"
        return " ".join(f"{f'{source}: ' if source else ''}{f'{named}: ' if named else ''}{self.expected}".split())


class ConfigError(InputError):
    """A config with at least one error; :attr:`lines` has one line an error."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """What was expected instead of a name that is not known."""
    names = list(known)
    return f"unknown {kind}: expected {one_of(names)}{nearest(name, names)}"


def one_of(names: Sequence[str]) -> str:
    """``a``, or ``one of a, b, c``."""
    return names[0] if len(names) == 1 else f"one of {', '.join(names)}" if names else "none, since there are none"


def known(kind: str, names: Callable[[], list[str]]) -> AfterValidator:
    """A validator that takes only one of ``names()``."""

    def check_name(value: Any) -> Any:
        if value not in (allowed := names()):
            raise PydanticCustomError(UNKNOWN_NAME, "unknown {kind}", {"kind": kind, "known": allowed})
        return value

    return AfterValidator(check_name)


def parse(model: type[Model], values: Any, owner: str, *, prefix: Path = (), remedy: str = "") -> Model:
    """The values as a model.

    Args:
        owner: whose values they are, the beginning of the message.
        prefix: key path of the values.
        remedy: the end of the message.

    Raises:
        InputError: with all errors, in one line.
    """
    found, problems = check(model, values, prefix)
    if found is None:
        lines = "; ".join(problem.line() for problem in problems)
        raise InputError(f"{owner}: {lines}{f'; {remedy}' if remedy else ''}")
    return found


def check(model: type[Model], values: Any, prefix: Path = ()) -> tuple[Model | None, list[Problem]]:
    """The values as a model, or else all that is wrong with them.

    Args:
        prefix: key path of the values.
    """
    given = dict(values) if isinstance(values, Mapping) else values
    try:
        found = model.model_validate(given, strict=True, extra="forbid")
    except ValidationError as error:
        return None, _merged(_problem(fault, model, prefix) for fault in error.errors(include_url=False))
    # A validator of a plug-in may raise anything; its author reads the line.
    except Exception as error:
        return None, [Problem(prefix, values, f"cannot be checked: {place(error)}")]
    expected = f"expected {_KINDS['finite_number']}"
    problems = [Problem(path, value, expected) for path, value in _not_finite(given, prefix)]
    return (None, problems) if problems else (found, [])


def short(value: Any) -> str:
    """A value as JSON has it, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _not_finite(value: Any, path: Path) -> Iterator[tuple[Path, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _not_finite(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _not_finite(inner, (*path, index))


def _merged(problems: Iterable[Problem]) -> list[Problem]:
    """One problem a place: pydantic has one for each branch of a union."""
    found: dict[Path, Problem] = {}
    for problem in problems:
        before = found.setdefault(problem.path, problem)
        if before.expected.startswith("expected ") and problem.expected.startswith("expected "):
            words = problem.expected.removeprefix("expected ")
            if words not in before.expected:
                found[problem.path] = replace(before, expected=f"{before.expected}, or {words}")
    return list(found.values())


def _problem(fault: Mapping[str, Any], model: type[BaseModel], prefix: Path) -> Problem:
    kind, loc, value = str(fault["type"]), tuple(fault["loc"]), fault["input"]
    context: Mapping[str, Any] = fault.get("ctx", {})
    if loc and loc[-1] == "[key]":
        # The faulty name is a key; what stands below it is not to be shown.
        loc, key, value = loc[:-1], str(loc[-2]), MISSING
    else:
        key = str(value)
    owner, shown = _resolve(model, loc)
    path = prefix + shown
    if kind == "missing":
        field = _field(owner, str(loc[-1])) if owner else None
        description = field.description if field is not None and field.description else "it has no default"
        return Problem(path, MISSING, f"missing: {description}")
    if kind == "extra_forbidden":
        names = [] if owner is None else [_key(name, field) for name, field in owner.model_fields.items()]
        return Problem(path, MISSING, unknown("key", str(loc[-1]), names))
    if kind == UNKNOWN_NAME:
        return Problem(path, value, unknown(context["kind"], key, context["known"]))
    return Problem(path, value if path else MISSING, _expected(kind, context, str(fault["msg"]), value))


def _expected(kind: str, context: Mapping[str, Any], message: str, value: Any) -> str:
    if kind == "string_too_short" and context["min_length"] == 1:
        return "expected a text that is not empty"
    if kind in _BOUNDS:
        name, words = _BOUNDS[kind]
        return f"expected {words.format(short(context[name]))}"
    if kind in _KINDS:
        return f"expected {_KINDS[kind]}"
    if kind in ("literal_error", "enum"):
        names = str(context["expected"]).replace("'", "").replace(" or ", ", ").split(", ")
        return f"expected {one_of(names)}{nearest(str(value), names)}"
    if kind == "string_pattern_mismatch":
        pattern = str(context["pattern"])
        return f"expected {_PATTERNS.get(pattern, f'a text of the form {pattern}')}"
    if kind in ("value_error", "assertion_error") and str(context["error"]):
        return str(context["error"])
    return message[0].lower() + message[1:]


def _resolve(model: type[BaseModel], loc: Path) -> tuple[type[BaseModel] | None, Path]:
    """The model that holds the last key of ``loc``, if it can be told, and the keys that a user would write.

    Pydantic names the branch of a union as if it were a key.
    """
    annotation: Any = model
    owner: type[BaseModel] | None = None
    shown: list[str | int] = []
    for part in loc:
        branches = _branches(annotation)
        models = [b for b in branches if _is_model(b)]
        owner = next((m for m in models if _field(m, str(part)) is not None), None)
        if owner is not None:
            shown.append(part)
            field = _field(owner, str(part))
            annotation = field.annotation if field is not None else None
            continue
        if len(branches) > 1 and (chosen := [b for b in branches if getattr(b, "__name__", None) == part]):
            annotation = chosen[0]
            owner = annotation if _is_model(annotation) else None
            continue
        shown.append(part)
        owner = models[0] if models else None
        containers = [b for b in branches if get_origin(b) in (dict, list, set, tuple)]
        if len(branches) > 1 and not containers and not models:
            # One of several plain types, under a name of pydantic's own.
            shown.pop()
        annotation = get_args(containers[0])[-1] if containers else None
    return owner, tuple(shown)


def _branches(annotation: Any) -> list[Any]:
    """The alternatives of an annotation, without ``Annotated`` and ``None``."""
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [b for a in get_args(annotation) if a is not type(None) for b in _branches(a)]
    return [] if annotation is None else [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _field(model: type[BaseModel], key: str) -> FieldInfo | None:
    """The field that a user writes as ``key``."""
    return next((field for name, field in model.model_fields.items() if _key(name, field) == key), None)


def _key(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias or field.alias
    return alias if isinstance(alias, str) else name
