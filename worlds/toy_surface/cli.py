"""``toy-surface``: pretrain the base of the toy surface."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from artifacts.errors import run_command


def _base(arguments: argparse.Namespace) -> None:
    import torch
    from safetensors.torch import save_file

    from artifacts.atomic import file_sha256, replaced_directory, write_json
    from artifacts.provenance import describe
    from worlds.toy_surface.base_training import BaseRecipe, pretrain
    from worlds.toy_surface.mlp_stack import layer_sizes

    torch.set_num_threads(arguments.threads)
    started = time.time()
    recipe = BaseRecipe(
        seed=arguments.seed,
        models=arguments.models,
        steps=arguments.steps,
        hidden=arguments.hidden,
        layers=arguments.layers,
    )
    parameters = pretrain(recipe)
    with replaced_directory(arguments.out) as folder:
        save_file({"parameters": parameters}, folder / "models.safetensors")
        write_json(folder / "config.json", {"layer_sizes": list(layer_sizes(recipe.hidden, recipe.layers))})
        provenance = describe(stage="toy surface base", spec=asdict(recipe), inputs={}, started=started)
        outputs = {"models.safetensors": file_sha256(folder / "models.safetensors")}
        write_json(folder / "provenance.json", {**provenance, "outputs": outputs})


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = argparse.ArgumentParser(prog="toy-surface", description="Pretrain the base of the toy surface.")
    commands = parser.add_subparsers(dest="command", required=True)
    base = commands.add_parser("base", help="pretrain the base", description="Pretrain the base.")
    base.add_argument("--out", type=Path, required=True, help="folder of the base")
    base.add_argument("--seed", type=int, default=0, help="seed of the first model")
    base.add_argument("--models", type=int, default=5, help="pretrained models, one a seed")
    base.add_argument("--steps", type=int, default=10_000, help="optimizer steps")
    base.add_argument("--hidden", type=int, default=128, help="width of the hidden layers")
    base.add_argument("--layers", type=int, default=3, help="linear layers")
    base.add_argument("--threads", type=int, default=1, help="CPU threads")
    chosen = parser.parse_args(arguments)
    return run_command(lambda: _base(chosen))


if __name__ == "__main__":
    sys.exit(main())
