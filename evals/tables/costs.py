"""``costs.csv``: what training and drawing took, from the logs and the provenance of models and images.

Times differ between machines and runs, so they stand in no table that comes out the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.contracts import read_table
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
        InputError: a provenance file or a training log is damaged.
    """
    rows = []
    for variant in comparison.variants:
        models = comparison.of_variant(variant)
        trained = [layout.model(comparison.root, model.name) for model in models if model.trained]
        drawn = [layout.images(comparison.root, m.name, name) for m in models for name in comparison.prompt_sets]
        training_device, training_hours = _sum(trained, _training_seconds)
        drawing_device, drawing_hours = _sum(drawn, _wall_seconds)
        rows.append(
            CostRow(
                variant=variant,
                models=len(models),
                training_device=training_device,
                training_hours=training_hours,
                drawing_device=drawing_device,
                drawing_hours=drawing_hours,
            )
        )
    return rows


def _sum(
    folders: Sequence[Path], seconds: Callable[[Path, Mapping[str, Any]], float | None]
) -> tuple[str, float | None]:
    """Devices and hours of some folders by their provenance; no hours where those of one are not known."""
    devices, hours = [], []
    for folder in folders:
        path = folder / "provenance.json"
        record = read_object(path, missing="", damaged=_REMEDY) if path.is_file() else {}
        try:
            took = seconds(folder, record)
        except (AttributeError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not a provenance ({error!r}); {_REMEDY}") from error
        hours.append(None if took is None else took / _HOUR)
        devices.append(str(record.get("device") or ""))
    known = [value for value in hours if value is not None]
    listed = ", ".join(dict.fromkeys(device for device in devices if device))
    return listed, sum(known) if known and len(known) == len(hours) else None


def _wall_seconds(folder: Path, record: Mapping[str, Any]) -> float | None:
    return float(record["wall_seconds"]) if "wall_seconds" in record else None


def _training_seconds(folder: Path, record: Mapping[str, Any]) -> float | None:
    """By the log, which knows of the steps before an interruption too, times the processes that shared them."""
    size = record.get("spec", {}).get("training", {}).get("batch_size")
    path = folder / "training.parquet"
    if size is None or not path.is_file():
        return None
    log = read_table(path, "training")
    log = log[log["samples_per_second"] > 0]
    steps = log["step"].diff().fillna(log["step"])
    seconds = float((steps * float(size) / log["samples_per_second"]).sum())
    return seconds * int(record.get("processes", 1)) if len(log) else None


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
