"""Make the tables of a benchmark from its score files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, write_text, writing
from artifacts.errors import InputError
from artifacts.json_files import read_object
from artifacts.validation import parse
from evals.tables.comparison import Comparison, ComparisonSpec
from evals.tables.costs import cost_rows, in_words
from evals.tables.formats import to_text
from evals.tables.main_table import column_decimals
from evals.tables.numbers import percent
from evals.tables.rendering import Rows, read, read_by_people, table_of
from evals.tables.rows import POOLED, TABLES, CostRow, DriftRow, read_rows, to_csv
from evals.tables.table_notes import drawn_in_words
from evals.tables.terminal import one_scorer
from evals.tables.trained_prompts import with_trained_prompts
from evals.tables.trainings import trainings

if TYPE_CHECKING:
    from evals.tables.main_table import MainTable
    from evals.tables.matrices import ScoreMatrices

MADE_WITH = "comparison.json"


def tables_folder(comparison: Comparison) -> Path:
    """Folder of the benchmark's tables."""
    return comparison.root / "tables"


def write_tables(
    comparison: Comparison,
    generation: Mapping[str, Any] | None = None,
    *,
    published: Path | None = None,
    config: Mapping[str, str] | None = None,
) -> None:
    """Write the CSV files of :data:`evals.tables.rows.TABLES`, ``main.{md,tex,html}`` and ``categories.md``.

    ``comparison.json`` says what they were made with: the comparison, its settings and those of the images.

    Nothing is written before everything is computed, and each file atomically. Equal inputs give equal bytes; those of
    ``costs.csv`` are times.

    Args:
        comparison: what is compared with what.
        generation: protocol and settings of the generation, stated in the notes of the main table.
        published: CSV file of published figures, for which ``published.{csv,md}`` are written too.
        config: digests of the config's blocks, by which it is seen later where the config has changed.

    Raises:
        InputError: an input is missing, malformed, or does not match the others (see ``read_matrices``).
    """
    from evals.tables.drift import drift_rows
    from evals.tables.matrices import read_matrices
    from evals.tables.published import PublishedRow, published_rows, read_figures
    from evals.tables.published import to_markdown as published_markdown

    _check(comparison)
    matrices = read_matrices(comparison)
    trained = with_trained_prompts(trainings(comparison), comparison)
    tables = compared(comparison, matrices, generation, trained)
    texts = {
        **tables.texts,
        "costs.csv": to_csv(CostRow, cost_rows(comparison)),
        "drift.csv": to_csv(DriftRow, drift_rows(comparison)),
    }
    if published is not None:
        figures = published_rows(comparison, matrices, read_figures(published))
        texts["published.csv"] = to_csv(PublishedRow, figures)
        digits = column_decimals(comparison.scorers, tables.rows.scores, tables.rows.differences)
        texts["published.md"] = published_markdown(figures, percent(comparison.statistics.confidence), digits)
    texts[MADE_WITH] = _made_with(comparison, generation, trained, config, texts)
    for name, text in texts.items():
        write_text(tables_folder(comparison) / name, text)


def scores_sha256(comparison: Comparison, digest: Callable[[Path], str] = file_sha256) -> str:
    """Digest of the contents of all score files that tables are made from.

    Args:
        comparison: what is compared.
        digest: of a file, for whoever knows some.
    """
    cells = [(scorer, model.name, name) for scorer in comparison.scorers for model in comparison.models
             for name in comparison.sets_of(scorer)]  # fmt: skip
    return json_sha256({"/".join(cell): digest(layout.scores(comparison.root, *cell)) for cell in cells})


@dataclass(frozen=True)
class Compared:
    """The tables that scores alone decide: their files by name, the main one, and the rows."""

    texts: dict[str, str]
    table: MainTable
    rows: Rows


def compared(
    comparison: Comparison,
    matrices: ScoreMatrices,
    generation: Mapping[str, Any] | None = None,
    trained: Mapping[str, Mapping[str, Any]] | None = None,
    remarks: Sequence[str] = (),
) -> Compared:
    """Compare the models of one benchmark, or those of several.

    Args:
        comparison, matrices: what is compared, and its scores.
        generation, trained: for the notes of the main table, as in :func:`print_table`.
        remarks: further notes.
    """
    from evals.tables.categories import category_rows
    from evals.tables.comparisons import comparison_rows
    from evals.tables.ranks import rank_rows
    from evals.tables.scores import score_rows

    scores = score_rows(comparison, matrices)
    win_rates, differences = comparison_rows(comparison, matrices)
    categories, ranks = category_rows(comparison, matrices), rank_rows(comparison, matrices)
    rows = Rows(scores, win_rates, differences, categories, ranks).as_written()
    table = table_of(rows, comparison, generation, trained, remarks)
    return Compared({**rows.csv_texts(), **read_by_people(rows, table, comparison.statistics.confidence)}, table, rows)


def write_again(root: Path, out: Path) -> list[Path]:
    """Write the tables of a benchmark into another folder: those for people made from the CSV files, which are copied.

    Equal CSV files give equal tables, so that whoever has those alone has all.

    Args:
        root: folder that has ``tables/``.
        out: folder; made if it is not there.

    Returns:
        What was written.

    Raises:
        InputError: a file is missing or malformed, or ``out`` cannot be written.
    """
    made, folder = made_with(root), root / "tables"
    rows = read(folder, made.comparison)
    table = table_of(rows, made.comparison, made.generation, made.trained)
    texts = read_by_people(rows, table, made.comparison.statistics.confidence)
    copied = [MADE_WITH, *(f"{name}.csv" for name in TABLES)]
    texts |= {name: (folder / name).read_text(encoding="utf-8") for name in copied}
    with writing(f"--out {out}", "a folder"):
        for name, text in texts.items():
            write_text(out / name, text)
    return [out / name for name in sorted(texts)]


@dataclass(frozen=True)
class Made:
    """What tables were made with.

    Attributes:
        comparison: what was compared.
        generation: settings of the images.
        trained: how variants were trained.
        config: digests of the config's blocks, by key.
        scores: digest of the score files.
        tables: digests of the tables, by name; of ``costs.csv``, whose times are others each time, none.
    """

    comparison: Comparison
    generation: dict[str, Any]
    trained: dict[str, dict[str, Any]]
    config: dict[str, str] = field(default_factory=dict)
    scores: str = ""
    tables: dict[str, str] = field(default_factory=dict)


def made_with(root: str | Path) -> Made:
    """Read ``comparison.json`` of the tables below ``root``, which may have been moved since.

    Raises:
        InputError: it is missing or malformed.
    """
    path = Path(root) / "tables" / MADE_WITH
    remedy = "delete it and run snakemake again"
    content = read_object(path, missing="run snakemake to make it", damaged=remedy)
    try:
        generation, trained = dict(content.pop("generation")), dict(content.pop("training"))
        config, tables = dict(content.pop("config", {})), dict(content.pop("tables", {}))
        scores = str(content.pop("scores", ""))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a comparison ({error!r}); {remedy}") from error
    spec = parse(ComparisonSpec, {**content, "root": str(root)}, f"{path}: not a comparison", remedy=remedy)
    return Made(spec.comparison, generation, trained, config, scores, tables)


def print_table(
    comparison: Comparison,
    generation: Mapping[str, Any] | None = None,
    trained: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    scorer: str | None = None,
) -> str:
    """The main table as text for a terminal, from the CSV files that :func:`write_tables` wrote.

    Args:
        comparison: what is compared with what.
        generation: settings of the images, for the notes.
        trained: how variants were trained, for the notes; :func:`made_with` has all three as they were.
        scorer: only what this one says, without notes.

    Raises:
        InputError: a file is missing, malformed, or of another comparison.
    """
    folder = tables_folder(comparison)
    rows = read(folder, comparison)
    table = table_of(rows, comparison, generation, trained)
    if scorer is not None:
        return one_scorer(table, scorer, drawn_in_words(comparison, generation or {}))
    took = in_words(read_rows(folder / "costs.csv", CostRow))
    return to_text(replace(table, notes=(*table.notes, took) if took else table.notes))


def _made_with(
    comparison: Comparison,
    generation: Mapping[str, Any] | None,
    trained: Mapping[str, Mapping[str, Any]],
    config: Mapping[str, str] | None,
    tables: Mapping[str, str],
) -> str:
    # Keys keep their order: that of scorers is the tables'.
    content = {**comparison.to_spec(), "generation": dict(generation or {}), "training": trained}
    content |= {"config": dict(config)} if config else {}
    content["scores"] = scores_sha256(comparison)
    # Those that are equal for equal inputs, as this file is.
    lasting = {name: text for name, text in tables.items() if name != "costs.csv"}
    content["tables"] = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in lasting.items()}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _check(comparison: Comparison) -> None:
    for kind, found in (
        ("model", comparison.models),
        ("prompt set", comparison.prompt_sets),
        ("scorer", comparison.scorers),
    ):
        if not found:
            raise InputError(f"comparison '{comparison.benchmark}' has no {kind}; name at least one in the config")
    if POOLED in comparison.prompt_sets:
        raise InputError(f"prompt set '{POOLED}' has the name of the pooled rows; give it another name")
