"""Checks of ``execution.processes``, ``machines`` and ``sharding``: whether they can share each training."""

from __future__ import annotations

from collections.abc import Iterator

from artifacts.validation import MISSING, Problem
from pipeline.config import raw, registries
from pipeline.config.raw import Raw
from pipeline.config.training import merged_as_read
from sdpo.safeguard.settings import Granularity
from sdpo.training import sharding
from sdpo.training.micro_batches import expected_instead, granularity_instead, reason_for_alike


def _micro_batches(data: Raw) -> Iterator[Problem]:
    """Pairs that share a λ and would be split, and processes of a training that cannot share its micro-batches."""
    execution = raw.block(data, "execution")
    processes, sharded = execution.get("processes", 1), execution.get("sharding") == "fsdp2"
    if not isinstance(processes, int) or processes < 1:
        return
    for index, variant in raw.listed(data, "variants"):
        merged, guard = merged_as_read(data, variant), raw.block(variant, "safeguard")
        pairs, size, name = merged["batch_size"], merged["micro_batch_size"], variant.get("objective")
        if not (isinstance(pairs, int) and isinstance(size, int | None) and pairs > 0 and (size is None or size > 0)):
            continue
        granularity: Granularity | None = None
        given = guard.get("granularity", "microbatch") if guard else None
        if given == "microbatch" or (type(given) is int and given > 0):
            granularity = given
        if expected := granularity_instead(pairs, size, processes, granularity, sharded=sharded):
            yield Problem(("variants", index, "safeguard", "granularity"), granularity, expected)
        elif expected := expected_instead(
            pairs,
            size,
            processes,
            granularity=granularity,
            alike=reason_for_alike(
                str(name),
                processes,
                reduces=name in registries.objectives() and _reduces(str(name)),
                sharded=sharded,
            ),
            several_shapes=_several_sizes(data, variant),
        ):
            shown = MISSING if size is None else size
            yield Problem(("variants", index, "training", "micro_batch_size"), shown, expected)


def _several_sizes(data: Raw, variant: Raw) -> bool:
    """Whether a variant's pairs are images of several sizes."""
    name = variant.get("pairs")
    sizes = raw.block(raw.block(raw.block(data, "pairs"), str(name)), "encoding").get("sizes")
    return isinstance(sizes, list) and len(sizes) > 1


def _reduces(objective: str) -> bool:
    """Whether the loss of a pair takes in the micro-batches of other processes."""
    return bool(getattr(registries.objective(objective), "REDUCES", False))


def _sharding(data: Raw) -> Iterator[Problem]:
    """Weights that are to be shared out among processes, where there is one, or where settings do not allow it."""
    execution = raw.block(data, "execution")
    if (given := execution.get("sharding")) != "fsdp2":
        return
    if execution.get("processes", 1) == 1:
        yield Problem(("execution", "sharding"), given, "expected replicated, or execution.processes of at least 2")
    family = raw.block(data, "base").get("family")
    if family in registries.base_families() and (
        expected := sharding.replicated_instead(str(family), registries.family(str(family)))
    ):
        yield Problem(("execution", "sharding"), given, expected)
    for index, variant in raw.listed(data, "variants"):
        merged = merged_as_read(data, variant)
        if found := sharding.expected_instead(merged):
            name, expected = found
            yield Problem(("variants", index, "training", name), merged[name], expected)


def _machines(data: Raw) -> Iterator[Problem]:
    """Processes that cannot be as many on each machine."""
    execution = raw.block(data, "execution")
    processes, machines = execution.get("processes", 1), execution.get("machines", 1)
    if isinstance(processes, int) and isinstance(machines, int) and machines > 1 and processes % machines:
        expected = f"expected a divisor of execution.processes, {processes}"
        yield Problem(("execution", "machines"), machines, expected)


CHECKS = (_micro_batches, _machines, _sharding)
