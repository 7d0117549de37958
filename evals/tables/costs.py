"""``costs.csv``: what training and drawing took, from the provenance of models and images.

Times differ between machines and runs, so they stand in no table that comes out the same again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.errors import InputError
from artifacts.json_files import read_object
from evals.tables.rows import CostRow

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison

_HOUR = 3600.0
_REMEDY = "delete its folder and run snakemake again"


def cost_rows(comparison: Comparison) -> list[CostRow]:
    """One row a variant.

    Raises:
        InputError: a provenance file is damaged.
    """
    rows = []
    for variant in comparison.variants:
        models = comparison.of_variant(variant)
        trained = [layout.model(comparison.root, model.name) for model in models if model.trained]
        drawn = [layout.images(comparison.root, m.name, name) for m in models for name in comparison.prompt_sets]
        training, drawing = _Records(trained), _Records(drawn)
        rows.append(
            CostRow(
                variant=variant,
                models=len(models),
                training_device=training.devices,
                training_hours=training.hours,
                drawing_device=drawing.devices,
                drawing_hours=drawing.hours,
            )
        )
    return rows


class _Records:
    """Provenance of some folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        paths = [folder / "provenance.json" for folder in folders]
        self.records = {p: read_object(p, missing="", damaged=_REMEDY) for p in paths if p.is_file()}
        self.complete = bool(paths) and sum("wall_seconds" in record for record in self.records.values()) == len(paths)

    @property
    def devices(self) -> str:
        found = (str(record["device"]) for record in self.records.values() if record.get("device"))
        return ", ".join(dict.fromkeys(found))

    @property
    def hours(self) -> float | None:
        """Hours of all of them; ``None`` where one is missing."""
        try:
            return sum(map(_hours, self.records.values())) if self.complete else None
        except (TypeError, ValueError) as error:
            raise InputError(f"{next(iter(self.records))}: not a provenance ({error!r}); {_REMEDY}") from error


def _hours(record: Mapping[str, Any]) -> float:
    """Of all processes that shared the work; steps before an interruption count at the pace of those after it."""
    steps, before = float(record.get("step", 1)), float(record.get("resumed_from_step", 0))
    share = (steps - before) / steps if steps > before else 1.0
    return float(record["wall_seconds"]) / share * int(record.get("processes", 1)) / _HOUR


def in_words(rows: Iterable[CostRow]) -> str:
    """A line for the terminal; empty where nothing is known."""
    listed = []
    for row in rows:
        parts = [
            f"{what} {hours:.2g} h{f' on {device}' if device else ''}"
            for what, hours, device in (
                ("training", row.training_hours, row.training_device),
                ("drawing", row.drawing_hours, row.drawing_device),
            )
            if hours is not None
        ]
        if parts:
            listed.append(f"{row.variant} {', '.join(parts)}")
    return f"Took, all models of a variant together: {'; '.join(listed)}." if listed else ""
