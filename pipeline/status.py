"""How far a benchmark is, from its files alone: its trainings one by one, and how much there is of what follows."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts import layout, locks
from pipeline.jobs import Plan
from sdpo.training import checkpoint
from sdpo.training.run_log import last_row, log_file

WIDTH = 100
"""Characters that a line of the tables has at most."""
_HEAD = ("model", "state", "step", "winner drift", "λ", "pairs/s", "left", "saved")


@dataclass(frozen=True)
class ModelStatus:
    """One model in training.

    Attributes:
        name: of the model.
        state: ``done``, ``running`` (a process holds its states), ``left`` (states or log, and no process) or
            ``waiting``; ``begun`` where the disk has no locks by which to tell ``running`` from ``left``.
        step: optimizer steps by its log; ``None`` where there is none.
        steps: all of them.
        winner_drift: of the held-out pairs, when it was last measured.
        safe_scale: mean λ of the last logged step.
        pairs_per_second: since the row before it.
        seconds_left: at that rate, of one that runs.
        state_age: seconds since its newest state was written.
    """

    name: str
    state: str
    steps: int
    step: int | None = None
    winner_drift: float | None = None
    safe_scale: float | None = None
    pairs_per_second: float | None = None
    seconds_left: float | None = None
    state_age: float | None = None


def model_statuses(plan: Plan, *, now: float | None = None) -> list[ModelStatus]:
    """Every model that the benchmark trains, in the order of its tables.

    Args:
        plan: of the benchmark.
        now: seconds since the epoch.
    """
    seeds, now = plan.benchmark.seeds, time.time() if now is None else now
    return [
        _model(plan, variant, step, model, now)
        for row, (variant, step) in plan.compared_variants.items()
        for model in plan.models(row, seeds)
    ]


def _model(plan: Plan, variant: str, step: int | None, name: str, now: float) -> ModelStatus:
    training = plan.training(variant)
    steps = training.steps if step is None else step
    written = _changed(layout.model(plan.root, name) / "provenance.json")
    # That of other settings is another folder.
    folders = (plan.root / "checkpoints" / name).glob("*/")
    folder = max(folders, key=lambda path: _changed(log_file(path, "drift")), default=None)
    begun = folder is not None and _changed(log_file(folder, "drift")) > 0
    held = None if folder is None else locks.is_held(folder / "lock")
    if folder is None or (written and not begun):
        return ModelStatus(name, "done" if written else "waiting", steps, steps if written else None)
    last, drift = last_row(folder, "training") or {}, last_row(folder, "drift") or {}
    if held:
        state = "running"
    elif written >= _changed(log_file(folder, "drift")):
        state = "done"
    elif held is None:
        state = "begun"
    else:
        state = "left" if begun else "waiting"
    at, rate = last.get("step", 0), last.get("samples_per_second")
    saved = checkpoint.newest_file(folder)
    return ModelStatus(
        name,
        state,
        steps,
        at if begun else None,
        drift.get("winner_drift"),
        last.get("safe_scale_mean"),
        rate,
        (steps - at) * training.batch_size / rate if rate and state == "running" else None,
        None if saved is None else now - _changed(saved),
    )


def stage_counts(plan: Plan) -> dict[str, tuple[int, int]]:
    """Of each stage how many files are there, and how many are to be; whether they are up to date is not asked."""
    root, block = plan.root, plan.benchmark
    models = [model for drawn in plan.drawn for model in drawn.models]
    used = {variant.pairs for variant in plan.variants.values()}
    return {
        "prompts": _count(layout.prompts(root, name) for name in block.prompt_sets),
        "pairs": _count(layout.pairs(root, name, block.base.name) / "cache.json" for name in used),
        "models": _count(layout.model(root, m.name) / "provenance.json" for m in plan.compared_models() if m.trained),
        "images": _count(layout.images(root, m, s) / "manifest.parquet" for m in models for s in block.prompt_sets),
        "scores": _count(layout.scores(root, x, m, s) for x in block.scorers for m in models for s in plan.rated_by(x)),
        "tables": _count(map(Path, plan.table_files())),
        "report": _count(map(Path, plan.report_files())),
    }


def _count(files: Iterable[Path]) -> tuple[int, int]:
    found = [os.path.exists(file) for file in files]
    return sum(found), len(found)


def report(plan: Plan, *, now: float | None = None) -> str:
    """Trainings and stages as text of lines of :data:`WIDTH` characters."""
    from tabulate import tabulate

    rows = [_cells(model) for model in model_statuses(plan, now=now)]
    counts = "  ".join(f"{name} {done}/{of}" for name, (done, of) in stage_counts(plan).items() if of)
    if not rows:
        return counts
    # Tabulate makes columns two wider than their heads, and puts two spaces between them.
    others = sum(max(len(head) + 2, *(len(row[i]) for row in rows)) + 2 for i, head in enumerate(_HEAD) if i)
    rows = [[_cut(row[0], WIDTH - others), *row[1:]] for row in rows]
    aligned = ("left", "left", *["right"] * 6)
    return f"{tabulate(rows, _HEAD, tablefmt='simple', disable_numparse=True, colalign=aligned)}\n\n{counts}"


def _cells(model: ModelStatus) -> list[str]:
    def shown(value: Any, form: str) -> str:
        return "" if value is None else format(value, form)

    return [
        model.name,
        model.state,
        f"{'-' if model.step is None else model.step}/{model.steps}",
        shown(model.winner_drift, "+.2e"),
        shown(model.safe_scale, ".2f"),
        shown(model.pairs_per_second, ".3g"),
        _time(model.seconds_left),
        _time(model.state_age),
    ]


def _time(seconds: float | None) -> str:
    """``45s``, ``12m``, ``3.5h``, ``2.1d``."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600)):
        if seconds >= length:
            return f"{seconds / length:.1f}{unit}"
    return f"{seconds / 60:.0f}m" if seconds >= 60 else f"{seconds:.0f}s"


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"…{name[1 - width :]}"


def _changed(path: Path) -> float:
    """When a file was last written, seconds since the epoch; 0 if it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
