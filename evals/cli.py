"""``evals``: prompts, images, scores, tables, report and tracking, from files to files.

The stages of a benchmark take one job description, ``--spec``: JSON given inline, a path to a JSON file, or ``-`` for
standard input. ``snakemake -np`` prints the commands of a benchmark; ``sdpo-bench spec`` prints one description.

``score`` and ``compare`` also work alone, on folders of images and their scores; ``prompts fetch``, ``doctor``,
``weights`` and ``cache`` help with that (docs/scoring-images.md, docs/prompt-sets.md). ``tables`` writes tables again,
``plan`` says how many seeds and prompts a difference needs, ``export`` writes formats of others (docs/statistics.md).
``check-scorer`` checks a scorer (CONTRIBUTING.md), and ``import`` reads what judges of others have written
(docs/judges.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from artifacts.errors import InputError, run_command
from artifacts.job import add_spec, add_version, read_spec
from artifacts.job_manifest import add_manifest, write_manifest
from evals.commands import comparisons, imports
from evals.commands.stages import STAGES, THREADED, WITH_MANIFEST, written


def _folder_score(arguments: argparse.Namespace) -> None:
    from evals.commands.folders import score

    score(arguments)


def _cache(arguments: argparse.Namespace) -> None:
    from evals.commands.folders import cache

    cache(arguments)


def _doctor(arguments: argparse.Namespace) -> int:
    from evals.commands.doctor import doctor

    return doctor(arguments.config, arguments.weights_dir, verify=arguments.verify)


def _check_scorer(arguments: argparse.Namespace) -> int:
    from evals.scoring.scorer_check import Subject, check_scorer
    from evals.scoring.scorer_settings import resolve

    name: str = arguments.name
    weights = [] if arguments.weights is None else [f"{name}={arguments.weights}"]
    settings = resolve(name, config=arguments.config, weights=weights, dtype=arguments.dtype)[name]
    if arguments.protocol is not None:
        settings["protocol"] = arguments.protocol
    protocol, dtype = settings.pop("protocol"), settings.pop("dtype", "float32")
    options = {**settings, "device": arguments.device}
    return check_scorer(Subject(name, protocol, dtype, options, arguments.images, tuple(arguments.prompt)))


def _fetch_prompts(arguments: argparse.Namespace) -> None:
    from evals.published.fetch_prompts import fetch

    fetch(arguments.name, arguments.to, offline=arguments.offline)


def _fetch_weights(arguments: argparse.Namespace) -> None:
    from evals.published.fetch_weights import fetch

    fetch(arguments.name, arguments.to, offline=arguments.offline, trust=arguments.trust_first_download)


def _add_score(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("a folder of images").add_argument
    add("--images", metavar="DIR", help="folder of images")
    add("--prompts", metavar="FILE", help="their prompts: .txt, .json, .jsonl, .csv, .tsv or .parquet")
    add("--out", metavar="FILE", help="scores in long form, .parquet")
    add("--scorers", metavar="NAMES", default="all", help="all, or names with commas, e.g. pickscore,hpsv2")
    add("--weights", metavar="NAME=PATH", action="append", default=[], help="weights of a scorer; may be repeated")
    add("--weights-dir", metavar="DIR", help="folder with one folder of weights a scorer, named as the scorer")
    add("--config", metavar="FILE", help="take scorers and weights from a benchmark's config")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 …; auto takes a GPU if there is one")
    add("--dtype", help="precision of the models: float32 (what protocols are defined for), bfloat16 or float16")
    add("--batch-size", metavar="N", type=int, default=64, help="images a forward pass (default 64)")
    add("--workers", metavar="N", type=int, help="threads that read and decode images (default: one a core)")
    add("--cache", metavar="DIR", help="keep scores there, and take those that are known")
    add("--prompt-column", metavar="NAME", help="column of the prompts (default: prompt)")
    add("--file-column", metavar="NAME", help="column of the image names (default: file, file_name, image, …)")
    add("--in-order", action="store_true", help="the images' sorted order is the prompts', whatever their names")
    add("--skip-broken", action="store_true", help="list broken images without a score rather than stop")


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="fetch")
    fetch = actions.add_parser("fetch", help="download and verify published prompt sets (docs/prompt-sets.md)")
    fetch.add_argument("name", help="papv2, hpdv2, partiprompts, drawbench, geneval or all")
    fetch.add_argument("--to", metavar="DIR", required=True, help="gets the files and NAME.parquet for evals score")
    fetch.add_argument("--offline", action="store_true", help="touch no network: verify what is there")


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog="evals", description="Evaluate text-to-image models.")
    add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (summary, stage) in STAGES.items():
        command = commands.add_parser(name, help=summary, description=summary)
        alone = {
            "prompts": (_add_prompts, _fetch_prompts),
            "score": (_add_score, _folder_score),
            "compare": (comparisons.add_compare, comparisons.compare),
        }.get(name)
        add_spec(command, required=alone is None)
        if name in WITH_MANIFEST:
            add_manifest(command)
        if name in THREADED:
            command.add_argument("--threads", type=int, metavar="N", help="CPU threads of a job (1)")
        command.set_defaults(run=None if alone is None else alone[1], stage=stage)
        if alone is not None:
            alone[0](command)

    def add(name: str, summary: str, run: comparisons.Run) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run, spec=None)
        return command

    comparisons.add_tables(add)
    comparisons.add_plan(add)
    comparisons.add_export(add)
    imports.add_import(add)
    imports.add_diversity(add)

    doctor = add("doctor", "say which weights are here, which are missing and how to get them", _doctor)
    doctor.add_argument("--config", metavar="FILE", help="what this config needs; exit status 1 if it is missing")
    doctor.add_argument("--weights-dir", metavar="DIR", default="weights", help="fetched weights (default: weights)")
    doctor.add_argument("--verify", action="store_true", help="compare digests too (reads all weights)")

    check = add("check-scorer", "check that a scorer, built in or of a plug-in, is what it has to be", _check_scorer)
    check.add_argument("name", metavar="NAME", help="the scorer, as a config names it")
    check.add_argument("--weights", metavar="PATH", help="its weights, a folder or a file")
    check.add_argument("--protocol", help="how it is run (default: sdpo, else its first)")
    check.add_argument("--dtype", help="precision of its model (default: float32)")
    check.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default: cpu)")
    check.add_argument("--config", metavar="FILE", help="take weights and settings from a benchmark's config")
    check.add_argument("--images", metavar="DIR", help="pictures that it takes (default: some drawn ones)")
    check.add_argument(
        "--prompt", metavar="TEXT", action="append", default=[], help="a prompt that it takes; repeatable"
    )

    weights = add("weights", "fetch the published weights of the scorers", _fetch_weights)
    actions = weights.add_subparsers(dest="action", required=True)
    fetch = actions.add_parser("fetch", help="download, verify and convert weights")
    fetch.add_argument("name", help="a scorer, or all; `evals doctor` lists what there is")
    fetch.add_argument("--to", metavar="DIR", required=True, help="gets one folder a scorer")
    fetch.add_argument("--offline", action="store_true", help="touch no network: verify and convert what is there")
    fetch.add_argument(
        "--trust-first-download",
        action="store_true",
        help="accept large files whose digest is not known, and record it; later fetches must match",
    )

    cache = add("cache", "look at or prune a score cache", _cache)
    actions = cache.add_subparsers(dest="action", required=True)
    size = actions.add_parser("size", help="print how much is stored")
    prune = actions.add_parser("prune", help="remove scores")
    for action in (size, prune):
        action.add_argument("cache", metavar="DIR", help="folder given to evals score --cache")
    prune.add_argument("--unused-days", metavar="N", type=int, help="scores not used for N days")
    prune.add_argument("--fingerprint", action="append", default=[], help="scores of this scorer; may be repeated")
    return parser


def _run_stage(chosen: argparse.Namespace, extra: Mapping[str, Any]) -> None:
    spec = read_spec(chosen.spec)
    chosen.stage({**spec, **extra})
    if getattr(chosen, "manifest", None):
        write_manifest(chosen.manifest, written(chosen.command, spec))


def _run(chosen: argparse.Namespace) -> int | None:
    extra = {"threads": threads} if (threads := getattr(chosen, "threads", None)) else {}
    if chosen.run is None:
        _run_stage(chosen, extra)
        return None
    alone = [f"--{name}" for name in ("images", "prompts", "out") if hasattr(chosen, name)]
    given = [option for option in alone if getattr(chosen, option[2:])] + list(getattr(chosen, "sources", []))
    if chosen.command == "prompts" and chosen.action is not None:
        given.append(chosen.action)
    if chosen.spec is not None:
        if given:
            raise InputError(f"evals {chosen.command}: --spec describes the whole job; leave {given[0]} out")
        _run_stage(chosen, extra)
        return None
    if getattr(chosen, "manifest", None):
        raise InputError(f"evals {chosen.command}: --manifest goes with --spec; leave it out")
    if extra:
        raise InputError("evals score: --threads goes with --spec; for a folder of images there is --workers")
    if chosen.command == "prompts" and not given:
        raise InputError(
            "evals prompts: --spec is missing; give it, or fetch a published set: evals prompts fetch NAME"
        )
    if chosen.command == "score" and (without := [option for option in alone if option not in given]):
        raise InputError(f"evals score: {without[0]} is missing; give --images, --prompts and --out, or --spec alone")
    status: int | None = chosen.run(chosen)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    chosen = command_line().parse_args(arguments)
    return run_command(lambda: _run(chosen))


if __name__ == "__main__":
    sys.exit(main())
