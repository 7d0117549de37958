"""``evals``: prompts, images, scores, tables, report and tracking, from files to files.

Every command takes one job description, ``--spec``: JSON given inline, a path to a JSON file, or ``-`` for
standard input. ``snakemake -np`` prints the commands of a benchmark; ``sdpo-bench spec`` prints one description.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts.errors import run_command
from artifacts.job import add_spec, read_spec


def _prompts(spec: Mapping[str, Any]) -> None:
    from evals.prompt_sets import write

    write(spec)


def _generate(spec: Mapping[str, Any]) -> None:
    from evals.generate import generate

    generate(spec)


def _score(spec: Mapping[str, Any]) -> None:
    from evals.scores import score

    score(spec)


def _compare(spec: Mapping[str, Any]) -> None:
    from evals.comparison import Comparison
    from evals.tables import write_tables

    published = spec.get("published")
    write_tables(
        Comparison.from_spec(spec), spec.get("generation"), published=Path(published["file"]) if published else None
    )


def _table(spec: Mapping[str, Any]) -> None:
    from evals.comparison import Comparison
    from evals.tables import print_table

    print(print_table(Comparison.from_spec(spec)))


def _report(spec: Mapping[str, Any]) -> None:
    from evals.comparison import Comparison
    from evals.report import write_report

    agreement = spec.get("scorer_agreement")
    write_report(Comparison.from_spec(spec), grid=spec["grid"], scorer_agreement=Path(agreement) if agreement else None)


def _track(spec: Mapping[str, Any]) -> None:
    from artifacts.atomic import write_json
    from evals.comparison import Comparison
    from evals.tracking import track

    track(Comparison.from_spec(spec), database=Path(spec["database"]), artifacts=Path(spec["artifacts"]))
    write_json(spec["marker"], {"database": spec["database"], "experiment": spec["benchmark"]})


COMMANDS: dict[str, tuple[str, Callable[[Mapping[str, Any]], None]]] = {
    "prompts": ("write a prompt set", _prompts),
    "generate": ("generate the images of models on prompt sets", _generate),
    "score": ("score generated images", _score),
    "compare": ("write the tables of a benchmark", _compare),
    "table": ("print the main table of a benchmark", _table),
    "report": ("write the report page of a benchmark", _report),
    "track": ("import a benchmark into MLflow", _track),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="evals", description="Evaluate text-to-image models.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (summary, _) in COMMANDS.items():
        add_spec(commands.add_parser(name, help=summary, description=summary))
    chosen = parser.parse_args(arguments)
    return run_command(lambda: COMMANDS[chosen.command][1](read_spec(chosen.spec)))


if __name__ == "__main__":
    sys.exit(main())
