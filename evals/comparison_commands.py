"""``evals plan``: arguments in, printed tables out."""

from __future__ import annotations

import argparse

from artifacts.errors import InputError


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
