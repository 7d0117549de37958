"""``evals compare`` on files and benchmarks, ``tables``, ``plan``, ``export``: arguments in, files and tables out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from artifacts.errors import InputError

Run = Callable[[argparse.Namespace], int | None]
"""What a command does; its exit status is 0 where it gives none."""
Add = Callable[[str, str, Run], argparse.ArgumentParser]
"""Makes a command of a name, a line on what it does, and that."""


def compare(arguments: argparse.Namespace) -> None:
    """Compare score files of folders and benchmarks; prints a table, and writes all of them if asked."""
    from artifacts.atomic import write_json, write_text, writing
    from evals.tables.comparison import Statistics
    from evals.tables.formats import to_text
    from evals.tables.merging import merge
    from evals.tables.pair_table import pair_markdown
    from evals.tables.sources import read
    from evals.tables.write import compared

    given = arguments.sources
    if len(given) < 2 and not (given and Path(given[0]).is_dir()):
        raise InputError(
            f"evals compare: {len(given)} files or folders given; expected two or more of A.parquet and "
            "results/<benchmark>, or one results/<benchmark>, or --spec"
        )
    _check_share("--confidence", arguments.confidence)
    out = None if arguments.out is None else Path(arguments.out)
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; give a folder for the tables")
    wanted = None if arguments.scorers is None else [name.strip() for name in arguments.scorers.split(",")]
    sources = [read(path) for path in given]
    merged = merge(sources, Statistics(confidence=arguments.confidence), scorers=wanted, against=arguments.against)
    comparison = merged.comparison
    tables = compared(comparison, merged.matrices, merged.generation, merged.trained, merged.notes)
    if out is not None:
        with writing(f"--out {out}", "a folder"):
            for name, text in tables.texts.items():
                write_text(out / name, text)
            write_json(out / "sources.json", {"sources": given, "comparison": comparison.to_spec()})
    if len(comparison.variants) == 2:
        print(pair_markdown(comparison, tables.rows.win_rates, tables.rows.differences, merged.notes), end="")
    else:
        print(to_text(tables.table), end="")


def export(arguments: argparse.Namespace) -> None:
    """Write mean scores in a format of others."""
    import re
    import time

    from artifacts.atomic import write_text, writing
    from evals.tables.export import chosen, every_eval_ever, hub
    from evals.tables.rows import ScoreRow, read_rows
    from evals.tables.write import made_with, tables_folder

    option, form, what = (
        ("--dataset", r"[\w.-]+/[\w.-]+", "the id of a data set on the hub, owner/name")
        if arguments.format == "hub"
        else ("--organisation", r"[\w.-]+", "who ran the benchmark, a name without spaces")
    )
    value = arguments.dataset if arguments.format == "hub" else arguments.organisation
    if value is None or not re.fullmatch(form, value):
        raise InputError(f"evals export: {option} is {value!r}, expected {what}")
    made = made_with(arguments.source)
    comparison = made.comparison
    scores = read_rows(tables_folder(comparison) / "scores.csv", ScoreRow)
    variants, at = chosen(comparison, arguments.variant), time.time()
    if arguments.format == "hub":
        files = hub(comparison, scores, variants, value, at=at)
    else:
        files = every_eval_ever(comparison, scores, variants, made.generation, made.trained, organisation=value, at=at)
    for name, text in files.items():
        path = Path(arguments.to) / name
        with writing(f"--to {arguments.to}", "a folder"):
            write_text(path, text)
        print(path)


def tables(arguments: argparse.Namespace) -> None:
    """Write the tables of a benchmark again, from its results or from what MLflow keeps of them."""
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from evals.tables.write import write_again
    from evals.tracking.store import store
    from evals.tracking.tables_run import download

    with ExitStack() as stack:
        source = Path(arguments.source)
        if arguments.source == "mlflow":
            source = Path(stack.enter_context(TemporaryDirectory()))
            named = store(Path(arguments.store) / "mlflow.db", Path(arguments.store) / "artifacts")
            download(named, arguments.experiment, source)
        elif arguments.experiment is not None:
            raise InputError(f"--experiment goes with --from mlflow; leave it out with --from {arguments.source}")
        for path in write_again(source, Path(arguments.out)):
            print(path)


def plan(arguments: argparse.Namespace) -> None:
    """Say how many seeds and prompts a difference needs, by what a benchmark has measured."""
    from evals.tables.matrices import read_matrices
    from evals.tables.planning import pilot, to_text
    from evals.tables.write import made_with

    _check_share("--power", arguments.power)
    if arguments.confidence is not None:
        _check_share("--confidence", arguments.confidence)
    if arguments.difference is not None and not arguments.difference > 0:
        raise InputError(f"--difference {arguments.difference}: expected a number above 0, on the scorer's scale")
    comparison = made_with(arguments.source).comparison
    names = arguments.variant, arguments.against, arguments.scorer, arguments.prompt_set
    found = pilot(comparison, read_matrices(comparison), *names)
    confidence = comparison.statistics.confidence if arguments.confidence is None else arguments.confidence
    print(to_text(found, difference=arguments.difference, confidence=confidence, power=arguments.power))


def _check_share(option: str, share: float) -> None:
    if not 0.5 <= share < 1:
        raise InputError(f"{option} {share}: expected a share from 0.5 to below 1, e.g. 0.9")


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Arguments of :func:`compare`."""
    parser.add_argument("sources", nargs="*", metavar="PATH", help="A.parquet of evals score --images, or results/X")
    add = parser.add_argument_group("score files and benchmarks").add_argument
    add("--out", metavar="DIR", help="also write all tables there")
    add("--against", metavar="NAME", help="what all are compared with (default: the first base, else the last file)")
    add("--scorers", metavar="NAMES", help="only these, with commas")
    add("--confidence", metavar="SHARE", type=float, default=0.95, help="level of the intervals (default 0.95)")


def add_plan(add: Add) -> None:
    """The command ``plan``."""
    parser = add("plan", "say how many seeds and prompts a difference needs, from a benchmark that was run", plan)
    parser.add_argument("--from", metavar="DIR", dest="source", required=True, help="its folder, results/<benchmark>")
    parser.add_argument("--variant", metavar="NAME", required=True, help="a variant of it")
    parser.add_argument("--against", metavar="NAME", required=True, help="the variant that it is compared with")
    parser.add_argument("--scorer", metavar="NAME", required=True, help="the scorer whose difference it is")
    parser.add_argument("--difference", metavar="D", type=float, help="the difference to find, on the scorer's scale")
    parser.add_argument("--prompt-set", metavar="NAME", default="all", help="a prompt set (default: all of them)")
    parser.add_argument("--power", metavar="SHARE", type=float, default=0.8, help="share of cases found (default 0.8)")
    parser.add_argument("--confidence", metavar="SHARE", type=float, help="level of the intervals (default: its own)")


def add_export(add: Add) -> None:
    """The command ``export``."""
    parser = add("export", "write a benchmark's mean scores in a format of others", export)
    parser.add_argument("source", metavar="DIR", help="its folder, results/<benchmark>")
    parser.add_argument("--to", metavar="DIR", required=True, help="gets the files")
    parser.add_argument("--format", choices=("every_eval_ever", "hub"), required=True, help="docs/statistics.md")
    parser.add_argument("--variant", metavar="NAME", action="append", default=[], help="only this; may be repeated")
    parser.add_argument("--organisation", metavar="NAME", help="every_eval_ever: who ran the benchmark")
    parser.add_argument("--dataset", metavar="ID", help="hub: the benchmark's data set, owner/name")


def add_tables(add: Add) -> None:
    """The command ``evals tables``."""
    command = add("tables", "write the tables of a benchmark again, from its results or from MLflow", tables)
    option = command.add_argument
    option("--from", metavar="SOURCE", dest="source", required=True, help="results/<benchmark>, or mlflow")
    option("--experiment", metavar="NAME", help="with --from mlflow: the benchmark (default: the only one)")
    option("--store", metavar="DIR", default="results/mlflow", help="folder of mlflow.db (default: results/mlflow)")
    option("--out", metavar="DIR", required=True, help="folder of the tables")
