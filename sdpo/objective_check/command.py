"""``sdpo check-objective``: the properties of an objective, on inputs and hyperparameters that are chosen here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from artifacts.errors import InputError
from artifacts.validation import check, short
from sdpo.objective_check.properties import CHECKS, Draw, gradients, pairs
from sdpo.objectives import Objective, create, load

if TYPE_CHECKING:
    from pydantic import BaseModel

# What a hyperparameter without a default is tried with: the first that its model takes.
_CANDIDATES: tuple[Any, ...] = (20.0, 20, 1.0, 1, 0.5, 0.1, 0, -1.0, -20, "a", [1.0], {})
_AGREEMENTS = (-2.0, 0.3, 1.0, 2.5)
_SEEDS = (0, 1, 2)


def cases(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Hyperparameters to try: defaults, a plain value where there is none, and each choice of a name or a switch.

    Raises:
        InputError: no plain value fits a hyperparameter that has no default.
    """
    base: dict[str, Any] = {}
    choices: dict[str, list[Any]] = {}
    for name, field in model.model_fields.items():
        named = list(_choices(field.annotation))
        key = field.alias or name
        if field.is_required():
            fitting = [
                value
                for value in (named or _CANDIDATES)
                if not any(problem.path[:1] == (key,) for problem in check(model, {key: value})[1])
            ]
            if not fitting:
                raise InputError(f"{key} has no default, and none of the values tried fits it; give --parameters")
            base[key] = fitting[0]
        choices[key] = [value for value in named if value != base.get(key, field.default)]
    found = [base, *({**base, key: value} for key, values in choices.items() for value in values)]
    fitting = [case for case in found if check(model, case)[0] is not None]
    if base not in fitting:
        problems = "; ".join(problem.line() for problem in check(model, base)[1])
        raise InputError(f"{short(base)} does not fit ({problems}); give --parameters")
    return fitting


def _choices(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        yield from _choices(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, UnionType):
        for inner in get_args(annotation):
            yield from _choices(inner)
    elif get_origin(annotation) is Literal:
        yield from get_args(annotation)
    elif annotation is bool:
        yield from (False, True)


def sees_loser(objective: Objective) -> str:
    """``HAS_LOSER`` is what the loss does: the loser counts somewhere, or nowhere."""
    import torch

    name = objective.module.__name__ if hasattr(objective.module, "__name__") else objective.name
    if not objective.module.HAS_LOSER:
        pair = replace(pairs(Draw()), policy_loser=None, reference_loser=None, target_loser=None)
        try:
            without = objective(pair).loss
        except InputError as error:
            return f"{name} says HAS_LOSER = False, and its loss asks for the loser: {error}"
        if not torch.equal(without, objective(pairs(Draw())).loss):
            return f"{name} says HAS_LOSER = False, and its loss is another one where there is a loser"
        return ""
    found = [gradients(objective, pairs(draw)) for draw in draws()]
    for side, values in zip(("winner", "loser"), zip(*found, strict=True), strict=True):
        if not any(value.abs().max() > 0 for value in values):
            advice = "; say HAS_LOSER = False" if side == "loser" else ""
            return f"no gradient reaches the {side}'s prediction at any of {len(found)} inputs{advice}"
    return ""


def sees_reference(objective: Objective) -> str:
    """``USES_REFERENCE = False`` is true: another reference changes neither loss nor gradients."""
    import torch

    if getattr(objective.module, "USES_REFERENCE", True):
        return ""
    pair = pairs(Draw())
    assert pair.reference_loser is not None
    other = replace(pair, reference_winner=pair.reference_winner + 1.0, reference_loser=pair.reference_loser - 2.0)
    found = [[objective(p).loss, *gradients(objective, p)] for p in (pair, other)]
    if all(torch.equal(one, two) for one, two in zip(*found, strict=True)):
        return ""
    name = objective.module.__name__ if hasattr(objective.module, "__name__") else objective.name
    return f"{name} says USES_REFERENCE = False, and its loss or gradient is another one with another reference"


def sees_time(objective: Objective) -> str:
    """``NEEDS_TIME`` is said by whoever asks for the time of a pair, which bases other than flows do not have."""
    if getattr(objective.module, "NEEDS_TIME", False):
        return ""
    timed = pairs(Draw())
    try:
        objective(replace(timed, time=None))
    except InputError as error:
        return f"asks for what a base that is no flow does not have: {error}; say NEEDS_TIME = True"
    return ""


def strict(objective: Objective) -> str:
    """Hyperparameters are described, and a text for a number or an unknown key is refused."""
    model = objective.module.Parameters
    if nameless := [name for name, field in model.model_fields.items() if not field.description]:
        return f"Parameters.{nameless[0]} has no description, which messages and config/README.md show"
    given = objective.parameters.model_dump(by_alias=True)
    changes: list[dict[str, Any]] = [{"no_such_parameter": 1}]
    changes += [
        {name: value}
        for name, number in given.items()
        if type(number) in (int, float)
        for value in (str(number), math.nan)
    ]
    for change in changes:
        if check(model, {**given, **change})[0] is not None:
            return f"Parameters takes {short(change)}; leave such values to pydantic, which refuses them"
    return ""


WHOLE = {"loser": sees_loser, "reference": sees_reference, "time": sees_time, "hyperparameters": strict}
"""Checks of an objective as a whole."""


def draws() -> list[Draw]:
    """What :func:`failures` tries."""
    moved = [
        Draw(seed, agreement, scale=scale)
        for (seed, agreement), scale in zip(
            product(_SEEDS, _AGREEMENTS), (0.3, 0.0, 1.0, (0.0, 0.2, 0.7, 1.0)) * len(_SEEDS), strict=True
        )
    ]
    return [*moved, Draw(moved=False), Draw(seed=1, moved=False, agreement=-1.0)]


def failures(objective: Objective) -> list[str]:
    """Everything that an objective with its hyperparameters fails, one line a check."""
    found = {name: _first(partial(find, objective, draw) for draw in draws()) for name, find in CHECKS.items()}
    found |= {name: _first([partial(find, objective)]) for name, find in WHOLE.items()}
    return [f"{name}: {line}" for name, line in found.items() if line]


def _first(attempts: Iterable[Callable[[], str]]) -> str:
    """What the first attempt that finds anything says, in words or by an :class:`InputError`."""
    for attempt in attempts:
        try:
            line = attempt()
        except InputError as error:
            line = str(error)
        if line:
            return line
    return ""


def check_objective(name: str, parameters: Mapping[str, Any] | None = None) -> int:
    """Check an objective and print what was found; 1 if a check fails, else 0.

    Args:
        parameters: its hyperparameters; left out, :func:`cases` of them.

    Raises:
        InputError: there is no such objective, it is not what one must be, or the hyperparameters are wrong.
    """
    try:
        tried = [dict(parameters)] if parameters is not None else cases(load(name).Parameters)
    except InputError as error:
        raise InputError(
            f"objective '{name}': {error}".replace(f"objective '{name}': objective", "objective")
        ) from error
    failed = 0
    for case in tried:
        lines = failures(create(name, **case))
        print(
            f"{name} {short(case)}: {'ok' if not lines else f'{len(lines)} of {len(CHECKS) + len(WHOLE)} checks fail'}"
        )
        for line in lines:
            print(f"  {line}")
        failed += bool(lines)
    return int(failed > 0)
