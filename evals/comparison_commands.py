"""``evals compare`` on files and benchmarks, and ``evals plan``: arguments in, files and printed tables out."""

from __future__ import annotations

import argparse
from pathlib import Path

from artifacts.errors import InputError


def compare(arguments: argparse.Namespace) -> None:
    """Compare score files of folders and benchmarks; prints a table, and writes all of them if asked."""
    from artifacts.atomic import write_json, write_text
    from evals.tables.comparison import Statistics
    from evals.tables.formats import to_text
    from evals.tables.merging import merge
    from evals.tables.pair_table import pair_markdown
    from evals.tables.sources import read
    from evals.tables.write import compared

    given = arguments.sources
    if len(given) < 2:
        raise InputError(
            f"evals compare: {len(given)} files or folders given; expected two or more of A.parquet and "
            "results/<benchmark>, or --spec"
        )
    if not 0 < arguments.confidence < 1:
        raise InputError(f"--confidence {arguments.confidence}: expected a share between 0 and 1, e.g. 0.95")
    out = None if arguments.out is None else Path(arguments.out)
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; give a folder for the tables")
    wanted = None if arguments.scorers is None else [name.strip() for name in arguments.scorers.split(",")]
    sources = [read(path) for path in given]
    merged = merge(sources, Statistics(confidence=arguments.confidence), scorers=wanted, against=arguments.against)
    comparison = merged.comparison
    tables = compared(comparison, merged.matrices, merged.generation, merged.trained, merged.notes)
    if out is not None:
        try:
            for name, text in tables.texts.items():
                write_text(out / name, text)
            write_json(out / "sources.json", {"sources": given, "comparison": comparison.to_spec()})
        except OSError as error:
            raise InputError(
                f"--out {out}: cannot be written ({error.strerror or error}); give a folder that can be written"
            ) from error
    if len(comparison.variants) == 2:
        print(pair_markdown(comparison, tables.win_rates, tables.differences, merged.notes), end="")
    else:
        print(to_text(tables.table), end="")


def plan(arguments: argparse.Namespace) -> None:
    """Say how many seeds and prompts a difference needs, by what a benchmark has measured."""
    from evals.tables.matrices import read_matrices
    from evals.tables.planning import pilot, to_text
    from evals.tables.write import made_with

    for option, share in (("--power", arguments.power), ("--confidence", arguments.confidence)):
        if share is not None and not 0 < share < 1:
            raise InputError(f"{option} {share}: expected a share between 0 and 1, e.g. 0.8")
    if arguments.difference is not None and not arguments.difference > 0:
        raise InputError(f"--difference {arguments.difference}: expected a number above 0, on the scorer's scale")
    comparison = made_with(arguments.source).comparison
    names = arguments.variant, arguments.against, arguments.scorer, arguments.prompt_set
    found = pilot(comparison, read_matrices(comparison), *names)
    confidence = comparison.statistics.confidence if arguments.confidence is None else arguments.confidence
    print(to_text(found, difference=arguments.difference, confidence=confidence, power=arguments.power))
