"""What the models took: wall time of training and of drawing their images, from provenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts import layout
from evals.report.sources import duration, provenance_if_there
from evals.report.summary import number
from evals.tables.main_table import row_order

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison


@dataclass(frozen=True)
class Cost:
    """Wall time of one stage of one variant, all seeds and prompt sets together.

    Attributes:
        variant: its name.
        stage: ``training`` or ``images``.
        seconds: their sum.
        runs: provenance files that it is the sum of.
        missing: those without a wall time, which are not in the sum.
        device: where, ``cpu`` or a GPU's name.
    """

    variant: str
    stage: str
    seconds: float
    runs: int
    missing: int
    device: str

    @property
    def wall_time(self) -> str:
        """As printed."""
        return duration(self.seconds)

    @property
    def hours(self) -> str:
        """As printed, to three decimals."""
        return number(self.seconds / 3600, 3)


def costs(comparison: Comparison) -> tuple[Cost, ...]:
    """One row a variant and stage, in the order of the main table; stages that ran elsewhere have none."""
    rows = []
    for variant in row_order(comparison):
        models = comparison.of_variant(variant)
        folders = {
            "training": [layout.model(comparison.root, m.name) for m in models if m.trained and m.step is None],
            "images": [layout.images(comparison.root, m.name, s) for m in models for s in comparison.prompt_sets],
        }
        for stage, listed in folders.items():
            found = [provenance_if_there(folder / "provenance.json") for folder in listed]
            known = [content for content in found if isinstance(content.get("wall_seconds"), int | float)]
            devices = dict.fromkeys(str(content["device"]) for content in known if content.get("device"))
            if found:
                seconds = float(sum(content["wall_seconds"] for content in known))
                rows.append(
                    Cost(
                        variant,
                        stage,
                        seconds,
                        len(known),
                        len(found) - len(known),
                        ", ".join(devices) or "not recorded",
                    )
                )
    return tuple(rows)
