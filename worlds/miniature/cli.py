"""``miniature``: train the weights of the miniature world and measure them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from artifacts.errors import run_command


def _base(arguments: argparse.Namespace) -> None:
    import torch

    from artifacts.atomic import replaced_directory, tree_sha256, write_json
    from artifacts.provenance import describe
    from worlds.miniature.base_training import BaseModules, BaseRecipe, train_base

    torch.set_num_threads(arguments.threads)
    started, recipe = time.time(), BaseRecipe(seed=arguments.seed)
    start, inputs = None, {}
    if arguments.continue_from is not None:
        start = BaseModules.load(arguments.continue_from)
        inputs = {"first cycle": tree_sha256(arguments.continue_from)}
    modules = train_base(recipe, start=start)
    with replaced_directory(arguments.out) as folder:
        modules.save(folder)
        provenance = describe(stage="miniature base", spec=asdict(recipe), inputs=inputs, started=started)
        write_json(folder / "provenance.json", {**provenance, "threads": arguments.threads})


def _flow(arguments: argparse.Namespace) -> None:
    import torch

    from artifacts.atomic import replaced_directory, tree_sha256, write_json
    from artifacts.provenance import describe
    from worlds.miniature.flow_training import FlowRecipe, load_autoencoder, train_flow

    torch.set_num_threads(arguments.threads)
    started, recipe = time.time(), FlowRecipe(seed=arguments.seed)
    modules = train_flow(recipe, load_autoencoder(arguments.base))
    with replaced_directory(arguments.out) as folder:
        modules.save(folder)
        inputs = {"vae": tree_sha256(arguments.base / "vae")}
        provenance = describe(stage="miniature flow", spec=asdict(recipe), inputs=inputs, started=started)
        write_json(folder / "provenance.json", {**provenance, "threads": arguments.threads})


def _scorer_data(arguments: argparse.Namespace) -> None:
    import tempfile

    import torch

    from worlds.miniature.scorer_data import build
    from worlds.miniature.scorer_training import ScorerRecipe

    torch.set_num_threads(arguments.threads)
    recipe = ScorerRecipe(seed=arguments.seed)
    with tempfile.TemporaryDirectory() as work:
        data = build(
            arguments.base,
            Path(work),
            prompts=recipe.prompts,
            heldout=recipe.heldout,
            training_steps=recipe.driven_off_steps,
            seed=recipe.seed,
        )
    data.save(arguments.out)


def _scorers(arguments: argparse.Namespace) -> None:
    import torch

    from artifacts.atomic import file_sha256, replaced_directory, write_json
    from artifacts.provenance import describe
    from worlds.miniature.scorer_data import ScorerData
    from worlds.miniature.scorer_training import ScorerRecipe, train_all

    torch.set_num_threads(arguments.threads)
    started, recipe = time.time(), ScorerRecipe(seed=arguments.seed)
    data = ScorerData.load(arguments.data)
    with replaced_directory(arguments.out) as folder:
        train_all(data, folder, recipe, arguments.names)
        inputs = {"scorer data": file_sha256(arguments.data)}
        provenance = describe(stage="miniature scorers", spec=asdict(recipe), inputs=inputs, started=started)
        write_json(folder / "provenance.json", provenance)


def _quality(arguments: argparse.Namespace) -> None:
    from artifacts.atomic import write_json
    from worlds.miniature.quality import base_quality, scorer_agreement, shortfalls
    from worlds.miniature.scorer_data import ScorerData

    bases = {
        name: base_quality(folder, sheet=arguments.out / f"{sheet}.png")
        for name, folder, sheet in (
            ("base", arguments.base, "contact_sheet"),
            ("flow", arguments.flow, "contact_sheet_flow"),
        )
    }
    agreement = scorer_agreement(arguments.scorers, ScorerData.load(arguments.data))
    short = shortfalls(bases, agreement)
    write_json(arguments.out / "quality.json", {**bases, "shortfalls": short})
    write_json(arguments.out / "agreement.json", agreement)
    print(json.dumps({**bases, **agreement}, indent=2))
    print("\n".join(f"NOT MET: {line}" for line in short) if short else "All requirements are met.")


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog="miniature", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, summary: str, *paths: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        for path in paths:
            added.add_argument(f"--{path}", type=Path, required=True)
        return added

    for name, summary, paths in (
        ("base", "train the base from a seed", ("out",)),
        ("flow", "train the flow base from a seed, with the autoencoder of the first base", ("base", "out")),
        ("scorer-data", "draw and judge the pictures that the scorers learn from", ("base", "out")),
        ("scorers", "train scorers", ("data", "out")),
    ):
        added = command(name, summary, *paths)
        added.add_argument("--seed", type=int, default=0)
        added.add_argument("--threads", type=int, default=1)
        if name == "base":
            added.add_argument("--continue-from", type=Path, help="a base after its first cycle: skip that")
        if name == "scorers":
            added.add_argument("--names", nargs="+", required=True, help="which of the five to train")
    command(
        "quality",
        "measure bases and scorers, and name every requirement that is not met",
        "base",
        "flow",
        "scorers",
        "data",
        "out",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    chosen = command_line().parse_args(arguments)
    handlers = {"base": _base, "flow": _flow, "scorer-data": _scorer_data, "scorers": _scorers, "quality": _quality}
    return run_command(lambda: handlers[chosen.command](chosen))


if __name__ == "__main__":
    sys.exit(main())
