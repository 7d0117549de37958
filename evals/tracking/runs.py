"""What is tracked of a benchmark: the content of each run, read from the result files, and its digest."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256
from artifacts.contracts import read_table
from artifacts.errors import InputError
from artifacts.plugins import OWN
from evals.report.grids import Row, model_tiles, spread
from evals.report.sources import provenance_file, read_json
from evals.tables.rows import POOLED, ScoreRow, read_rows

if TYPE_CHECKING:
    from evals.tables.comparison import ComparedModel, Comparison

SHEET_PROMPTS = 8
STEPS = 100
"""Most logged steps of one log that a run holds: enough for a curve, and imports stay quick."""

TABLES_RUN = "tables"
"""Key of the run that has the tables."""
_LISTED = ("scores.csv", "win_rates.csv", "differences.csv", "ranks.csv", "drift.csv")
"""Tables that can be looked at in the store itself."""
# Raised when runs hold something else for the same files, so that they are imported anew.
_VERSION = 4


class DataSet(NamedTuple):
    """Data that a run was made from: what for, its digest, and its place."""

    context: str
    digest: str
    source: str


@dataclass(frozen=True)
class Content:
    """Everything one run holds; ``times`` are tags outside the digest.

    ``parent`` is the key of the run that it hangs from. ``metrics`` are (name, value, step). ``data`` are the data sets
    it was made from, by name. ``files`` maps a path to its folder in the run, ``tables`` to the name of a table that
    can be looked at there, ``sheet`` are the rows of the sample grid, drawn only if the run is written.
    """

    key: str
    name: str
    parent: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[tuple[str, float, int], ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, DataSet] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    tables: Mapping[Path, str] = field(default_factory=dict)
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
                "parent": self.parent,
                "tags": dict(self.tags),
                "data": {name: list(found) for name, found in self.data.items()},
                "texts": dict(self.texts),
                "files": {f"{folder}/{path.name}": file_sha256(path) for path, folder in self.files.items()},
                "sheet": [[row.label, [[tile.prompt, tile.sha256] for tile in row.tiles]] for row in self.sheet],
            }
        )


def contents(comparison: Comparison) -> list[Content]:
    """What the runs of a benchmark hold, read from its files: one with its tables, below it one a variant and base,
    and below each variant one a seed.

    Raises:
        InputError: a file is missing or malformed.
    """
    scores: dict[tuple[str, str, str], list[ScoreRow]] = {}
    for row in read_rows(comparison.root / "tables" / "scores.csv", ScoreRow):
        scores.setdefault((row.base, row.variant, row.seed), []).append(row)
    files = {name: layout.prompts(comparison.root, name) for name in comparison.prompt_sets}
    prompts = {name: DataSet("evaluation", file_sha256(file), file.as_posix()) for name, file in files.items()}
    found = [_tables_content(comparison)]
    for variant in comparison.variants:
        models = comparison.of_variant(variant)
        if models[0].trained:
            pooled = scores.get((models[0].base, variant, POOLED), [])
            found.append(
                Content(
                    key=f"variant/{variant}",
                    name=variant,
                    parent=TABLES_RUN,
                    metrics=_scored(pooled),
                    tags=_tags(models[0], kind="variant", of_all={"training_seed"}),
                )
            )
        for model in models:
            seed = "" if model.seed is None else str(model.seed)
            found.append(_model_content(comparison, model, scores.get((model.base, variant, seed), []), prompts))
    return found


def _model_content(
    comparison: Comparison, model: ComparedModel, scores: Sequence[ScoreRow], prompts: Mapping[str, DataSet]
) -> Content:
    metrics = _scored(scores)
    if model.trained:
        folder = layout.model(comparison.root, model.name)
        metrics += _logged(folder / "training.parquet", "training") + _logged(folder / "drift.parquet", "drift")
    provenance = read_json(provenance_file(comparison, model))
    spec, inputs = provenance.pop("spec", {}), provenance.pop("inputs", {})
    times = {f"bench.{name}": str(provenance.pop(name, "")) for name in ("started", "wall_seconds")}
    tags = _tags(model, kind="model" if model.trained else "base") | {
        _name(f"bench.{name}"): value for name, value in flattened(provenance).items()
    }
    if commit := provenance.get("git_commit"):
        tags |= {"mlflow.source.name": OWN, "mlflow.source.type": "PROJECT", "mlflow.source.git.commit": str(commit)}
    pairs = {
        str(model.pairs): DataSet("training", str(digest), str(place))
        for place, digest in inputs.items()
        if f"/pairs/{model.pairs}/" in f"/{place}/"
    }
    started, ended = _span(times["bench.started"], times["bench.wall_seconds"])
    return Content(
        key=f"model/{model.name}",
        name=f"{model.variant} seed {model.seed}" if model.trained else model.variant,
        parent=f"variant/{model.variant}" if model.trained else TABLES_RUN,
        params={_name(name): value for name, value in flattened(spec).items()},
        metrics=metrics,
        tags=tags,
        times=times,
        texts={"spec.json": _json(spec), "inputs.json": _json(inputs)},
        data={**pairs, **prompts},
        sheet=tuple(Row(name, model_tiles(comparison, model, name, SHEET_PROMPTS)) for name in comparison.prompt_sets),
        started=started,
        ended=ended,
    )


def _tables_content(comparison: Comparison) -> Content:
    """Tables, figures and report as artifacts."""
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
    tables = {path: f"{path.stem}.json" for path in files if path.name in _LISTED}
    return Content(
        key=TABLES_RUN,
        name=f"{comparison.benchmark}: tables and report",
        tags={
            "bench.kind": TABLES_RUN,
            "mlflow.note.content": "Under Artifacts, `report/index.html` is the page and `tables/main.md` the table. "
            "Below this run stands one a variant, with its mean scores over seeds and prompts, and below that one a "
            "training seed.",
        },
        files={**files, page: "report"},
        tables=tables,
    )


def first_view(contents: Sequence[Content]) -> dict[str, Any]:
    """What MLflow's page shows of the runs at first: bases and variants by name, a column a mean score."""
    means = dict.fromkeys(name for content in contents for name, _, _ in content.metrics if name.endswith("/mean"))
    return {
        "searchFilter": "tags.`bench.kind` != 'model'",
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "selectedColumns": [f"metrics.`{name}`" for name in means],
    }


def flattened(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, keys joined by dots; lists as JSON, ``None`` as an empty string."""
    if isinstance(value, Mapping):
        flat: dict[str, str] = {}
        for key, item in value.items():
            flat |= flattened(item, f"{prefix}.{key}" if prefix else str(key))
        return flat
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return {prefix: text} if prefix else {}


def _tags(model: ComparedModel, *, kind: str, of_all: Collection[str] = ()) -> dict[str, str]:
    """Tags of a model, without those in which the models of a variant differ (``of_all``)."""
    fields = {
        "base": model.base,
        "variant": model.variant,
        "objective": model.objective,
        "safeguard": "on" if model.safeguard else "off",
        "training_seed": model.seed,
        "pairs": model.pairs,
        "baseline": model.baseline,
    }
    told = {f"bench.{k}": str(v) for k, v in fields.items() if v is not None and k not in of_all}
    return {"bench.kind": kind} | told


def _scored(rows: Sequence[ScoreRow]) -> tuple[tuple[str, float, int], ...]:
    """Means and ends of intervals as (``oracle/heldout/mean``, value, 0)."""
    return tuple(
        (_name(f"{row.scorer}/{row.prompt_set}/{name}"), value, 0)
        for row in rows
        for name, value in (("mean", row.mean), ("ci_low", row.ci_low), ("ci_high", row.ci_high))
        if math.isfinite(value)
    )


def _logged(path: Path, contract: str) -> tuple[tuple[str, float, int], ...]:
    """Finite numbers of a log as (``training/loss``, value, step): ``STEPS`` rows spread evenly, with the last."""
    log = read_table(path, contract).sort_values("step", kind="stable")
    kept = [len(log) - 1 - index for index in reversed(spread(len(log), STEPS))]
    log = log.iloc[kept].reset_index(drop=True)
    steps = log.pop("step").tolist()
    return tuple(
        (f"{contract}/{column}", float(value), int(step))
        for column in log.columns
        for step, value in zip(steps, log[column].tolist(), strict=True)
        if value is not None and math.isfinite(value)
    )


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
