"""``sdpo``: make pair caches, train models and audit the safeguard.

Every command takes one job description, ``--spec``: JSON given inline, a path to a JSON file, or ``-`` for
standard input. ``snakemake -np`` prints the commands of a benchmark; ``sdpo-bench spec`` prints one description.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from artifacts.errors import run_command
from artifacts.job import add_spec, read_spec


def _pairs(spec: Mapping[str, Any]) -> None:
    from sdpo.pairs.cache import build

    build(spec)


def _train(spec: Mapping[str, Any]) -> None:
    from sdpo.bases import train_together

    train_together(spec.get("together", [spec]))


def _audit(spec: Mapping[str, Any]) -> None:
    from sdpo.audit.command import audit

    audit(spec)


COMMANDS: dict[str, tuple[str, Callable[[Mapping[str, Any]], None]]] = {
    "pairs": ("encode a preference data set into a pair cache", _pairs),
    "train": ("train one variant, or several, for some seeds", _train),
    "audit": ("measure the safeguard's bound against gradients by the parameters and real steps", _audit),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sdpo", description="Train preference-aligned diffusion models.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (summary, _) in COMMANDS.items():
        add_spec(commands.add_parser(name, help=summary, description=summary))
    chosen = parser.parse_args(arguments)
    return run_command(lambda: COMMANDS[chosen.command][1](read_spec(chosen.spec)))


if __name__ == "__main__":
    sys.exit(main())
