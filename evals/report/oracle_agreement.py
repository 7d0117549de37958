"""How often each scorer prefers the image that an oracle prefers, as a file says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from artifacts.errors import InputError
from evals.report.sources import read_json
from evals.report.summary import interval, number


@dataclass(frozen=True)
class Agreement:
    """How often a scorer prefers the image that the oracle prefers, on held-out pairs, as printed."""

    scorer: str
    share: str
    interval: str
    pairs: str
    percent: float


def read_agreement(path: Path, order: Sequence[str]) -> tuple[Agreement, ...]:
    """Read the scorers' agreement with the oracle, in the given order of scorers, unknown ones last.

    Raises:
        InputError: the file is missing or has another shape.
    """
    scorers = read_json(path).get("scorers")
    try:
        rows = []
        known_first = sorted(dict(scorers or {}).items(), key=lambda item: (*order, item[0]).index(item[0]))
        for name, found in known_first:
            low, high = found.get("ci_low"), found.get("ci_high")
            share = float(found["agreement"])
            known = low is not None and high is not None
            rows.append(
                Agreement(
                    scorer=str(name),
                    share=number(share, 3),
                    interval=interval(float(low), float(high), 3) if known else "–",
                    pairs=str(int(found["pairs"])),
                    percent=min(max(100 * share, 0.0), 100.0),
                )
            )
        return tuple(rows)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: expected scorers, each with agreement and pairs ({error!r}); delete it and run snakemake again"
        ) from error
