"""``sdpo``: make pair caches, train models and audit the safeguard.

Every stage takes one job description, ``--spec``: JSON given inline, a path to a JSON file, or ``-`` for
standard input. ``snakemake -np`` prints the commands of a benchmark; ``sdpo-bench spec`` prints one description.

``sdpo pairs manifest`` and ``sdpo pairs verify`` write and check the checksums of a data set (docs/pairs.md);
``sdpo check-objective`` checks a loss (CONTRIBUTING.md). ``sdpo export-ovis-u1`` puts a trained transformer into a copy
of its original checkpoint (docs/flow-models.md).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from artifacts import layout
from artifacts.errors import run_command
from artifacts.job import add_spec, add_version, read_spec
from artifacts.job_manifest import add_manifest, write_manifest


def written(stage: str, spec: Mapping[str, Any]) -> list[Path]:
    """Files and folders that a stage with a manifest writes."""
    from sdpo.bases import weights_file

    if stage == "pairs":
        cache = Path(spec["out"])
        return [cache, *(cache / name for name in layout.PAIR_FILES)]
    return [
        layout.model(part["root"], layout.model_name(part["base"]["name"], variant, seed)) / name
        for part in spec.get("together", [spec])
        for variant in written_variants(part)
        for seed in part["seeds"]
        for name in (*layout.MODEL_FILES, weights_file(part["base"]["family"]))
    ]


def written_variants(spec: Mapping[str, Any]) -> list[str]:
    """A variant, and the steps of it that are models of their own."""
    from sdpo.training.settings import TrainingSettings

    exports = TrainingSettings.model_validate(spec["training"]).exports
    return [*(layout.at_step(spec["variant"], step) for step in exports), spec["variant"]]


def _pairs(chosen: argparse.Namespace, arguments: Sequence[str]) -> None:
    from sdpo.pairs.cache import build

    spec = read_spec(chosen.spec)
    build({**spec, "processes": chosen.processes})
    if chosen.manifest:
        write_manifest(chosen.manifest, written("pairs", spec))


def _train(chosen: argparse.Namespace, arguments: Sequence[str]) -> int:
    from sdpo.training import launch, processes, train_together
    from sdpo.training.settings import parts
    from sdpo.training.time_budget import EXIT_STATUS, StoppedEarly, TimeBudget, process_start

    index = 0 if chosen.print_launch and chosen.machine is None else chosen.machine
    where = launch.machines(chosen.machines, chosen.meeting, index, os.environ)
    if chosen.print_launch:
        print(launch.shown([word for word in arguments if word != "--print-launch"], chosen.processes, where))
        return 0
    launch.together(arguments, chosen.processes, where, spec=chosen.spec)
    spec = read_spec(chosen.spec)
    status = 0
    try:
        train_together(parts(spec), TimeBudget(chosen.minutes, started=process_start()), chosen.sharding)
        if chosen.manifest and processes.is_main():
            write_manifest(chosen.manifest, written("train", spec))
    except StoppedEarly as stopped:
        print(stopped, file=sys.stderr)
        status = EXIT_STATUS
    except BaseException as error:
        processes.abandon(error)
        raise
    processes.leave()
    return status


def _audit(chosen: argparse.Namespace, arguments: Sequence[str]) -> None:
    from sdpo.audit.command import audit

    audit(read_spec(chosen.spec))


COMMANDS: dict[str, tuple[str, Callable[[argparse.Namespace, Sequence[str]], int | None]]] = {
    "pairs": ("encode a preference data set into a pair cache", _pairs),
    "train": ("train one variant, or several, for some seeds", _train),
    "audit": ("measure the safeguard's bound against gradients by the parameters and real steps", _audit),
}


def _write_manifest(chosen: argparse.Namespace) -> None:
    from sdpo.pairs.reading.checksums import write_manifest

    print(f"{chosen.out}: {write_manifest(chosen.folder, chosen.out)} files")


def _verify(chosen: argparse.Namespace) -> None:
    from sdpo.pairs.reading.checksums import verify

    print(f"{chosen.folder}: {verify(chosen.folder, chosen.manifest)} files are as {chosen.manifest} lists them")


def _check_objective(chosen: argparse.Namespace) -> int:
    from sdpo.objective_check.command import check_objective

    given = chosen.parameters
    return check_objective(chosen.name, None if given is None else read_spec(given, "--parameters"))


def _add_check_objective(commands: Any) -> None:
    summary = "check that an objective, built in or of a plug-in, is what it has to be"
    check = commands.add_parser("check-objective", help=summary, description=f"{summary} (CONTRIBUTING.md).")
    check.add_argument("name", metavar="NAME", help="the objective, as a config names it")
    check.add_argument(
        "--parameters",
        metavar="JSON",
        help="its hyperparameters, inline or a file (default: its own defaults, and each of its choices)",
    )
    check.set_defaults(action=_check_objective)


def _export_ovis_u1(chosen: argparse.Namespace) -> None:
    from artifacts.hub import local_folder
    from families.ovis_u1.export import export

    count = export(local_folder(chosen.base), chosen.model / "transformer", chosen.to)
    print(f"{chosen.to}: the checkpoint with {count} tensors of {chosen.model}")


def _add_export_ovis_u1(commands: Any) -> None:
    summary = "put a trained transformer of Ovis-U1 into a copy of the original checkpoint"
    export = commands.add_parser("export-ovis-u1", help=summary, description=f"{summary} (docs/flow-models.md).")
    export.add_argument("model", type=Path, metavar="MODEL", help="folder of the model, with transformer/")
    export.add_argument("--base", required=True, metavar="PATH", help="the checkpoint, as base.path has it")
    export.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder that is written")
    export.set_defaults(action=_export_ovis_u1)


def _add_checksum_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="action", metavar="{manifest,verify}")
    manifest = commands.add_parser("manifest", help="write the SHA-256 of every file of a data set's folder")
    manifest.add_argument("folder", type=Path, metavar="DIR")
    manifest.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write it")
    manifest.set_defaults(action=_write_manifest)
    verify = commands.add_parser("verify", help="compare a data set's folder with its manifest")
    verify.add_argument("folder", type=Path, metavar="DIR")
    verify.add_argument("--manifest", type=Path, required=True, metavar="FILE")
    verify.set_defaults(action=_verify)


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    from sdpo.training.sharding import Sharding

    parser = argparse.ArgumentParser(prog="sdpo", description="Train preference-aligned diffusion models.")
    add_version(parser)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (summary, _) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        add_spec(command, required=name != "pairs")
        if name != "audit":
            add_manifest(command)
        if name == "pairs":
            command.add_argument("--processes", type=int, default=1, metavar="N", help="processes that encode (1)")
            _add_checksum_commands(command)
        if name == "train":
            command.add_argument(
                "--processes", type=int, default=1, metavar="N", help="processes that train each model together (1)"
            )
            command.add_argument(
                "--machines", type=int, default=1, metavar="N", help="machines that share them; start it on each (1)"
            )
            command.add_argument(
                "--sharding",
                choices=get_args(Sharding),
                default="replicated",
                help="what each process holds of a model: all of it, or its share by torch's FSDP2 (replicated)",
            )
            command.add_argument("--meeting", metavar="HOST:PORT", help="on the first machine (default: Slurm says)")
            command.add_argument("--machine", type=int, metavar="I", help="this one, from 0 (default: Slurm says)")
            command.add_argument(
                "--print-launch", action="store_true", help="only print what would be started on each machine"
            )
            command.add_argument(
                "--minutes", type=float, metavar="M", help="save the state and leave before so much time has passed"
            )
    _add_check_objective(commands)
    _add_export_ovis_u1(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parser = command_line()
    given = sys.argv[1:] if arguments is None else arguments
    chosen = parser.parse_args(given)
    if action := getattr(chosen, "action", None):
        return run_command(lambda: action(chosen))
    if chosen.spec is None:
        parser.error(f"{chosen.command}: --spec is missing")
    return run_command(lambda: COMMANDS[chosen.command][1](chosen, given))


if __name__ == "__main__":
    sys.exit(main())
