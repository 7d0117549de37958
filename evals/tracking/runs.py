"""What is tracked of a benchmark: the content of each run, read from the result files, and its digest."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256
from artifacts.contracts import read_table
from artifacts.errors import InputError
from evals.report.grids import Row, model_tiles, spread
from evals.report.sources import provenance_file, read_json
from evals.tables.rows import POOLED, ScoreRow, read_rows

if TYPE_CHECKING:
    from evals.tables.comparison import ComparedModel, Comparison

SHEET_PROMPTS = 8
STEPS = 100
"""Most logged steps of one log that a run holds: enough for a curve, and imports stay quick."""

_TABLES = "tables"
# Raised when runs hold something else for the same files, so that they are imported anew.
_VERSION = 2


@dataclass(frozen=True)
class Content:
    """Everything one run holds; ``times`` are tags outside the digest.

    ``metrics`` are (name, value, step). ``files`` maps a path to its folder in the run, ``sheet`` are the rows
    of the sample grid, drawn only if the run is written.
    """

    key: str
    name: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[tuple[str, float, int], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    sheet: tuple[Row, ...] = ()
    started: int = 0
    ended: int = 0

    def sha256(self) -> str:
        """Digest of all that is logged, times aside; images count by the digests in their manifests."""
        return json_sha256(
            {
                "version": _VERSION,
                "name": self.name,
                "params": dict(self.params),
                "metrics": [[name, repr(value), step] for name, value, step in self.metrics],
                "tags": dict(self.tags),
                "texts": dict(self.texts),
                "files": {f"{folder}/{path.name}": file_sha256(path) for path, folder in self.files.items()},
                "sheet": [[row.label, [[tile.prompt, tile.sha256] for tile in row.tiles]] for row in self.sheet],
            }
        )


def model_contents(comparison: Comparison) -> list[Content]:
    """What the run of each model holds, read from the benchmark's files.

    Raises:
        InputError: a file is missing or malformed.
    """
    scores: dict[tuple[str, str, str], list[ScoreRow]] = {}
    for row in read_rows(comparison.root / "tables" / "scores.csv", ScoreRow):
        if row.seed != POOLED:
            scores.setdefault((row.base, row.variant, row.seed), []).append(row)
    contents = []
    for model in comparison.models:
        metrics = []
        for row in scores.get((model.base, model.variant, "" if model.seed is None else str(model.seed)), []):
            values = {"mean": row.mean, "ci_low": row.ci_low, "ci_high": row.ci_high}
            metrics += [
                (_name(f"{row.scorer}/{row.prompt_set}/{name}"), v, 0) for name, v in values.items() if math.isfinite(v)
            ]
        if model.trained:
            folder = layout.model(comparison.root, model.name)
            metrics += _logged(folder / "training.parquet", "training")
            metrics += _logged(folder / "drift.parquet", "drift")
        provenance = read_json(provenance_file(comparison, model))
        spec, inputs = provenance.pop("spec", {}), provenance.pop("inputs", {})
        times = {f"bench.{name}": str(provenance.pop(name, "")) for name in ("started", "wall_seconds")}
        tags = _model_tags(model) | {_name(f"bench.{name}"): value for name, value in flattened(provenance).items()}
        texts = {"spec.json": _json(spec), "inputs.json": _json(inputs)}
        started, ended = _span(times["bench.started"], times["bench.wall_seconds"])
        contents.append(
            Content(
                key=f"model/{model.name}",
                name=model.name,
                params={_name(name): value for name, value in flattened(spec).items()},
                metrics=tuple(metrics),
                tags=tags,
                times=times,
                texts=texts,
                sheet=tuple(
                    Row(name, model_tiles(comparison, model, name, SHEET_PROMPTS)) for name in comparison.prompt_sets
                ),
                started=started,
                ended=ended,
            )
        )
    return contents


def tables_content(comparison: Comparison) -> Content:
    """What the run ``tables`` holds: tables, figures and report as artifacts.

    Raises:
        InputError: there is no report yet.
    """
    root = comparison.root
    page = root / "report" / "index.html"
    if not page.is_file():
        raise InputError(f"{page}: no such file; run snakemake to make it")
    files = {
        path: folder
        for folder in ("tables", "figures")
        for path in sorted((root / folder).glob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    return Content(key=_TABLES, name=_TABLES, tags={"bench.kind": _TABLES}, files={**files, page: "report"})


def flattened(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, keys joined by dots; lists as JSON, ``None`` as an empty string."""
    if isinstance(value, Mapping):
        flat: dict[str, str] = {}
        for key, item in value.items():
            flat |= flattened(item, f"{prefix}.{key}" if prefix else str(key))
        return flat
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {prefix: text} if prefix else {}


def _model_tags(model: ComparedModel) -> dict[str, str]:
    fields = {
        "base": model.base,
        "variant": model.variant,
        "objective": model.objective,
        "safeguard": "on" if model.safeguard else "off",
        "training_seed": model.seed,
        "pairs": model.pairs,
        "baseline": model.baseline,
    }
    return {"bench.kind": "model"} | {f"bench.{k}": str(v) for k, v in fields.items() if v is not None}


def _logged(path: Path, contract: str) -> list[tuple[str, float, int]]:
    """Finite numbers of a log as (``training/loss``, value, step): ``STEPS`` rows spread evenly, with the last."""
    log = read_table(path, contract).sort_values("step", kind="stable")
    kept = [len(log) - 1 - index for index in reversed(spread(len(log), STEPS))]
    log = log.iloc[kept].reset_index(drop=True)
    steps = log.pop("step").tolist()
    return [
        (f"{contract}/{column}", float(value), int(step))
        for column in log.columns
        for step, value in zip(steps, log[column].tolist(), strict=True)
        if value is not None and math.isfinite(value)
    ]


def _span(started: str, seconds: str) -> tuple[int, int]:
    """Start and end of a training in milliseconds since the epoch, or zeros where they are unknown."""
    try:
        start = round(datetime.fromisoformat(started).timestamp() * 1000)
        return start, start + round(float(seconds) * 1000)
    except ValueError:
        return 0, 0


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _name(text: str) -> str:
    """A name that MLflow takes: letters, digits, and ``_ - . / space``; of at most 250 characters."""
    return re.sub(r"[^\w./ -]", "_", text)[:250]
