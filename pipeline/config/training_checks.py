"""Checks of ``training``, its defaults and each variant's: keys that need another, or another base or objective."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from artifacts.validation import Problem, check
from pipeline.config import raw, registries
from pipeline.config.raw import Raw
from pipeline.config.training import merged_as_read
from sdpo.diffusion.timesteps import UNIFORM
from sdpo.training import optimizers


def _warmup(data: Raw) -> Iterator[Problem]:
    """Warm-up that is longer than the training."""
    for path, merged in _trainings_that_say(data, "steps", "warmup_steps"):
        warmup, steps = merged["warmup_steps"], merged["steps"]
        if isinstance(warmup, int) and isinstance(steps, int) and warmup > steps:
            yield Problem((*path, "warmup_steps"), warmup, f"expected at most the number of steps, which is {steps}")


def _exports(data: Raw) -> Iterator[Problem]:
    """Steps that are exported and not before the last."""
    for path, merged in _trainings_that_say(data, "steps", "export_at"):
        listed, steps = merged["export_at"], merged["steps"]
        for index, step in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(step, int) and isinstance(steps, int) and step >= steps:
                expected = f"expected less than the number of steps, {steps}, whose model is written in any case"
                yield Problem((*path, "export_at", index), step, expected)


def _trainings_that_say(data: Raw, *keys: str) -> Iterator[tuple[tuple[str | int, ...], dict[str, Any]]]:
    """Path and content of the defaults of training, and of each variant's merged with them.

    A variant that says nothing on any of the keys is left out: it repeats the mistake of the defaults.
    """
    yield ("training",), merged_as_read(data, {})
    for index, variant in raw.listed(data, "variants"):
        if set(keys) & set(raw.block(variant, "training")):
            yield ("variants", index, "training"), merged_as_read(data, variant)


def _timesteps(data: Raw) -> Iterator[Problem]:
    """Mean and deviation of a density that has none."""
    owners: list[tuple[tuple[str | int, ...], Raw, Raw]] = [(("training",), data, merged_as_read(data, {}))]
    owners += [
        (("variants", i, "training"), variant, merged_as_read(data, variant))
        for i, variant in raw.listed(data, "variants")
    ]
    for path, owner, merged in owners:
        own, timesteps = raw.block(raw.block(owner, "training"), "timesteps"), raw.block(merged, "timesteps")
        for key in ("mean", "std"):
            # What a variant inherits and does not use is no mistake of it.
            if key in own and own[key] != getattr(UNIFORM, key) and timesteps.get("density") == UNIFORM.density:
                expected = (
                    "expected density: logit_normal beside it; the uniform density, which is the default, has none"
                )
                yield Problem((*path, "timesteps", key), own[key], expected)


def _no_flow(data: Raw) -> str | None:
    """The base's family, if it says that its bases are no rectified flows."""
    family = raw.block(data, "base").get("family")
    if family not in registries.base_families() or getattr(registries.family(family), "FLOW", True):
        return None
    return str(family)


def _shift(data: Raw) -> Iterator[Problem]:
    """A shift of a schedule that is none of a flow."""
    if (family := _no_flow(data)) is None:
        return
    for path, merged in _trainings_that_say(data, "timesteps"):
        shift = raw.block(merged, "timesteps").get("shift")
        if shift != UNIFORM.shift:
            expected = f"expected it left out: only a flow's schedule shifts, and base family '{family}' is none"
            yield Problem((*path, "timesteps", "shift"), shift, expected)


def _optimizer(data: Raw) -> Iterator[Problem]:
    """Settings that the optimizer does not allow."""
    for path, merged in _trainings_that_say(data, "optimizer", "channels_last"):
        if found := optimizers.expected_instead(merged):
            key, expected = found
            yield Problem((*path, key), merged[key], expected)


def _objectives(data: Raw) -> Iterator[Problem]:
    """Objectives that ask for what the base or the training does not have."""
    family = _no_flow(data)
    for index, variant in raw.listed(data, "variants"):
        name = variant.get("objective")
        if not isinstance(name, str) or name not in registries.objectives():
            continue
        module = registries.objective(name)
        if getattr(module, "NEEDS_TIME", False) and family is not None:
            expected = (
                f"it asks for the time of a pair, which base family '{family}' does not have; expected another, or "
            )
            yield Problem(("variants", index, "objective"), name, f"{expected}a base of rectified flow")
        lora = merged_as_read(data, variant)["lora"]
        parameters, _ = check(module.Parameters, raw.block(variant, "parameters"))
        decay = getattr(parameters, "reference_decay", 1.0)
        if lora is not None and decay < 1:
            expected = (
                f"the reference of objective '{name}' follows the policy, which needs its own copy; expected null, "
                "or parameters.reference_decay: 1.0"
            )
            yield Problem(("variants", index, "training", "lora"), lora, expected)


CHECKS = (_warmup, _exports, _timesteps, _shift, _optimizer, _objectives)
