"""Scenes and their captions: what can be said, drawn, and held out.

A scene is a background colour with one object, or with two objects in a spatial relation. Its caption
names everything but the exact position: ``a small red circle left of a large green square on a blue
background``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from artifacts.errors import InputError

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 38, 48),
    "orange": (245, 140, 30),
    "yellow": (245, 225, 60),
    "green": (40, 165, 70),
    "cyan": (70, 210, 225),
    "blue": (45, 75, 215),
    "purple": (150, 50, 180),
    "white": (245, 245, 245),
}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = ("small", "large")
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True)
class Thing:
    """One object: names of its size, colour and shape."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """A background with one thing, or with two things of which the first stands in ``relation`` to the second."""

    background: str
    things: tuple[Thing, ...]
    relation: str | None = None

    @property
    def caption(self) -> str:
        """The sentence that describes the scene, and that :func:`parse` reads back."""
        joined = f" {self.relation} ".join(str(thing) for thing in self.things)
        return f"{joined} on a {self.background} background"


def parse(caption: str) -> Scene:
    """Read a caption.

    Raises:
        InputError: the text is not a caption of this world; the message quotes it.
    """
    try:
        described, _, ending = caption.rpartition(" on a ")
        background, last = ending.split(" ")
        relation = next((r for r in RELATIONS if f" {r} " in described), None)
        parts = described.split(f" {relation} ") if relation else [described]
        words = [part.split(" ") for part in parts]
        scene = Scene(background, tuple(Thing(*w[1:]) for w in words), relation)
        valid = last == "background" and all(w[0] == "a" and len(w) == 4 for w in words) and _known(scene)
    except (ValueError, TypeError):
        valid = False
    if not valid:
        raise InputError(f"not a caption of the miniature world: {caption!r}; drop the oracle or these prompts")
    return scene


def _known(scene: Scene) -> bool:
    return scene.background in COLOURS and all(
        t.size in SIZES and t.colour in COLOURS and t.shape in SHAPES for t in scene.things
    )


def is_heldout(scene: Scene) -> bool:
    """Whether training never shows this combination of colour, shape and background in any object."""
    names = list(COLOURS)
    background = names.index(scene.background)
    return any(
        (names.index(thing.colour) + 2 * SHAPES.index(thing.shape) + 3 * background) % 5 == 0 for thing in scene.things
    )


def is_reserved(scene: Scene) -> bool:
    """Whether this two-object caption is kept out of training though all its parts are shown there."""
    digest = hashlib.sha256(scene.caption.encode()).digest()
    return scene.relation is not None and digest[0] < 32


def is_validation(scene: Scene) -> bool:
    """Whether this caption, of parts that training shows, is kept for validation: about a tenth of all captions."""
    return hashlib.sha256(scene.caption.encode()).digest()[1] < 26 and not is_heldout(scene) and not is_reserved(scene)


def is_training(scene: Scene) -> bool:
    """Whether the caption is none of the held-out, reserved and validation ones."""
    return not (is_heldout(scene) or is_reserved(scene) or is_validation(scene))


def random_scene(rng: np.random.Generator, *, two_objects: float = 0.45) -> Scene:
    """Any scene; ``two_objects`` is the share with a second object. No thing has the background's colour."""
    names = list(COLOURS)
    background = names[rng.integers(len(names))]
    others = [name for name in names if name != background]
    count = 2 if rng.random() < two_objects else 1
    while True:
        things = tuple(
            Thing(SIZES[rng.integers(2)], others[rng.integers(len(others))], SHAPES[rng.integers(4)])
            for _ in range(count)
        )
        # Two equal things would make the order of a relation unreadable.
        if count == 1 or (things[0].colour, things[0].shape) != (things[1].colour, things[1].shape):
            relation = RELATIONS[rng.integers(4)] if count == 2 else None
            return Scene(background, things, relation)


def training_scene(rng: np.random.Generator, *, two_objects: float = 0.45) -> Scene:
    """A scene of the training split (:func:`is_training`)."""
    return _accepted(is_training, rng, two_objects)


def validation_scene(rng: np.random.Generator, *, two_objects: float = 0.45) -> Scene:
    """A scene of the validation split (:func:`is_validation`)."""
    return _accepted(is_validation, rng, two_objects)


def _accepted(accept: Callable[[Scene], bool], rng: np.random.Generator, two_objects: float) -> Scene:
    while not accept(scene := random_scene(rng, two_objects=two_objects)):
        pass
    return scene


def shown_scenes(training: int, validation: int, rng: np.random.Generator) -> list[Scene]:
    """Scenes of the training split, and after them scenes of the validation split."""
    return [training_scene(rng) for _ in range(training)] + [validation_scene(rng) for _ in range(validation)]


def contradicted(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one attribute changed: background, or the colour, shape or size of one thing, or the relation."""
    index = int(rng.integers(len(scene.things)))
    thing = scene.things[index]
    kinds = ["background", "colour", "shape", "size"] + (["relation"] if scene.relation else [])
    kind = kinds[rng.integers(len(kinds))]

    def other(names: tuple[str, ...], now: str, *, taken: tuple[str, ...] = ()) -> str:
        choices = [name for name in names if name != now and name not in taken]
        return choices[rng.integers(len(choices))]

    if kind == "background":
        used = tuple(t.colour for t in scene.things)
        return replace(scene, background=other(tuple(COLOURS), scene.background, taken=used))
    if kind == "relation":
        return replace(scene, relation=other(RELATIONS, scene.relation or ""))
    changes = {
        "colour": lambda: replace(thing, colour=other(tuple(COLOURS), thing.colour, taken=(scene.background,))),
        "shape": lambda: replace(thing, shape=other(SHAPES, thing.shape)),
        "size": lambda: replace(thing, size=other(SIZES, thing.size)),
    }
    things = list(scene.things)
    things[index] = changes[kind]()
    return replace(scene, things=tuple(things))
