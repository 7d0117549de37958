"""Errors of any pydantic model, in one line and in the words of this project."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator, model_validator

from artifacts.errors import InputError
from artifacts.validation import check, known, parse

KEYS = "beta, lambda, steps, count, shape, discs, boxes, weights, odd, text, name, free"


class Disc(BaseModel):
    radius: float = Field(gt=0, description="Radius in pixels.")


class Box(BaseModel):
    width: int


class Loose(BaseModel):
    """A model as somebody writes it who thinks of nothing: no strictness, no closed keys, an alias, unions."""

    beta: float = Field(gt=0, description="Strength.")
    slope: float = Field(default=1.0, alias="lambda")
    steps: int | Literal["auto"] = "auto"
    count: int | None = None
    shape: Disc | Box | None = None
    discs: list[Disc] = []
    boxes: dict[str, Box] = {}
    weights: list[float] = [1.0]
    odd: Annotated[int, Field(multiple_of=2)] = 2
    text: str = Field(default="a", min_length=1, max_length=3, pattern="^[a-z]*$")
    name: Annotated[str, known("colour", lambda: ["red", "blue"])] = "red"
    free: Any = None

    @field_validator("count")
    @classmethod
    def _count(cls, value: int | None) -> int | None:
        if value == 13:
            raise KeyError(value)
        if value == 14:
            raise AssertionError("14 is taken")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Loose:
        if self.count == 7 and self.text == "z":
            raise ValueError("count 7 and text z\ndo not go together; expected one of them")
        return self


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({}, "beta: missing: Strength."),
        ({"beta": "2000"}, 'beta = "2000": expected a number'),
        ({"beta": "big"}, 'beta = "big": expected a number'),
        ({"beta": True}, "beta = true: expected a number"),
        ({"beta": 0}, "beta = 0: expected a number greater than 0.0"),
        ({"beta": math.inf}, "beta = Infinity: expected a finite number"),
        ({"lambda": math.nan}, "lambda = NaN: expected a finite number"),
        ({"lambda": []}, "lambda = []: expected a number"),
        ({"free": {"deep": [1.0, math.nan]}}, "free.deep[1] = NaN: expected a finite number"),
        ({"steps": "many"}, 'steps = "many": expected an integer, or auto'),
        ({"steps": 1.5}, "steps = 1.5: expected an integer, or auto"),
        ({"count": "3"}, 'count = "3": expected an integer'),
        ({"count": 14}, "count = 14: 14 is taken"),
        ({"count": 7, "text": "z"}, "count 7 and text z do not go together; expected one of them"),
        ({"shape": 4}, "shape = 4: expected keys with values"),
        ({"discs": [{"radius": 1}, {}]}, "discs[1].radius: missing: Radius in pixels."),
        (
            {"discs": [{"radius": 1, "radus": 2}]},
            "discs[0].radus: unknown key: expected radius; did you mean 'radius'?",
        ),
        ({"boxes": {"a": {}}}, "boxes.a.width: missing: it has no default"),
        ({"boxes": []}, "boxes = []: expected keys with values"),
        ({"weights": [1, "2"]}, 'weights[1] = "2": expected a number'),
        ({"weights": 1}, "weights = 1: expected a list"),
        ({"odd": 3}, "odd = 3: expected a multiple of 2"),
        ({"text": ""}, 'text = "": expected a text that is not empty'),
        ({"text": "abcd"}, 'text = "abcd": expected a text of at most 3 characters'),
        ({"text": "A"}, 'text = "A": expected a text of the form ^[a-z]*$'),
        ({"text": 3}, "text = 3: expected a text (quote it if YAML reads it as something else)"),
        ({"name": "blu"}, "name = \"blu\": unknown colour: expected one of red, blue; did you mean 'blue'?"),
        ({"lamda": 1}, f"lamda: unknown key: expected one of {KEYS}; did you mean 'lambda'?"),
    ],
)
def test_each_error_is_one_line_and_nothing_is_converted(values: dict[str, Any], line: str) -> None:
    found, problems = check(Loose, values if line.startswith("beta") else {"beta": 1, **values})
    assert found is None
    assert [problem.line() for problem in problems] == [line]


def test_all_errors_stand_in_one_line_with_their_owner() -> None:
    with pytest.raises(InputError) as caught:
        parse(Loose, {"beta": 0, "odd": 3}, "objective 'x'", prefix=("parameters",), remedy="the page lists them")
    assert str(caught.value) == (
        "objective 'x': parameters.beta = 0: expected a number greater than 0.0; "
        "parameters.odd = 3: expected a multiple of 2; the page lists them"
    )
    with pytest.raises(InputError, match="x: expected keys with values"):
        parse(Loose, 3, "x")


def test_a_validator_that_fails_otherwise_is_one_line_with_its_place() -> None:
    with pytest.raises(InputError, match=r"cannot be checked: KeyError: 13 \(.*test_validation\.py, line \d+\)"):
        parse(Loose, {"beta": 1, "count": 13}, "x")


def test_what_is_right_is_taken() -> None:
    found = parse(Loose, {"beta": 3, "lambda": 2, "steps": 4, "shape": {"width": 2}, "weights": [1, 2.5]}, "x")
    assert (found.beta, found.slope, found.steps, found.weights) == (3.0, 2.0, 4, [1.0, 2.5])
    assert isinstance(found.shape, Box)
