"""``sdpo-bench``: commands around the workflow, which itself is run by ``snakemake``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from artifacts.errors import InputError, run_command
from artifacts.job import add_version

DEFAULT_CONFIG = "config/miniature.yaml"


def _check(arguments: argparse.Namespace) -> None:
    from pipeline.config import load
    from pipeline.config.execution import SHARING, Execution
    from pipeline.jobs import Plan

    benchmark = load(arguments.config, read_files=True)
    own = benchmark.execution
    chosen = [key for key in SHARING if key in own.model_fields_set]
    default = Execution.model_validate(own.model_dump(include=own.model_fields_set - set(SHARING)))
    jobs, fewer = (
        len(list(Plan(benchmark.model_copy(update={"execution": execution})).jobs())) for execution in (own, default)
    )
    advice = f" ({fewer} without {', '.join(f'execution.{key}' for key in chosen)})" if fewer < jobs else ""
    print(f"{arguments.config}: no errors; {jobs} jobs, each a process{advice}")


def _spec(arguments: argparse.Namespace) -> None:
    from artifacts.plugins import nearest
    from pipeline.config import load
    from pipeline.jobs import Plan
    from pipeline.specs import encode

    jobs = [
        job for job in Plan(load(arguments.config, check_files=False)).jobs() if arguments.stage in (None, job.stage)
    ]
    if arguments.job is None:
        for job in jobs:
            print(job.command if arguments.commands else f"{job.stage} {job.name}")
        return
    names = [job.name for job in jobs]
    if names.count(arguments.job) != 1:
        hint = nearest(arguments.job, names)
        raise InputError(f"no job '{arguments.job}' of stage '{arguments.stage}'{hint}; sdpo-bench spec lists all")
    job = jobs[names.index(arguments.job)]
    print(job.command if arguments.commands else encode(job.spec))


def _status(arguments: argparse.Namespace) -> None:
    from pipeline.config import load
    from pipeline.jobs import Plan
    from pipeline.status import report

    print(report(Plan(load(arguments.config, check_files=False))))


def _show(arguments: argparse.Namespace) -> None:
    from evals.tables import made_with, print_table
    from pipeline.changed import changed
    from pipeline.config import load
    from pipeline.jobs import Plan

    plan = Plan(load(arguments.config, check_files=False))
    # The config may have changed since, and says nothing of what the numbers come from.
    made = made_with(plan.root)
    compared = made.comparison
    scorer = None if arguments.all else arguments.scorer or [*compared.judges, *compared.scorers][0]
    print(print_table(compared, made.generation, made.trained, scorer=scorer))
    others = "" if scorer is None or len(compared.scorers) == 1 else " (all scorers here: sdpo-bench show --all)"
    print(f"Report: {plan.report_files()[0]}\nTables: {plan.root / 'tables'}/main.md{others}")
    if keys := changed(plan, made):
        print(
            f"\nThe config says otherwise now ({', '.join(keys)}): to bring tables and report up to date, "
            f"snakemake --configfile {arguments.config}"
        )


def _runs(arguments: argparse.Namespace) -> None:
    from artifacts.json_files import read_object

    for marker in sorted(Path(arguments.store).glob("imported/*.json")):
        remedy = "delete it and run snakemake to import again"
        found = read_object(marker, missing=remedy, damaged=remedy)
        if page := found.get("page"):
            print(f"{found['experiment']}: {arguments.address}/{page}")


def _list(arguments: argparse.Namespace) -> None:
    from pipeline.listing import listing

    print(listing(arguments.kind))


def _init(arguments: argparse.Namespace) -> None:
    from pipeline.new_config import write_config

    write_config(Path(arguments.config))
    print(
        f"{arguments.config}: a benchmark to begin with; edit it, then sdpo-bench check {arguments.config}\n"
        f"and snakemake --configfile {arguments.config}"
    )


def _trace(arguments: argparse.Namespace) -> None:
    from pipeline.trace import trace

    text, intact = trace(
        Path(arguments.table), model=arguments.model, prompt_set=arguments.prompt_set, scorer=arguments.scorer
    )
    print(text)
    if not intact:
        raise InputError(f"{arguments.table}: not all of the files behind it are as they were; run snakemake again")


def _write(folder: str) -> Callable[[argparse.Namespace], None]:
    def write(arguments: argparse.Namespace) -> None:
        from artifacts.atomic import write_text
        from pipeline.reference import documents

        for path, text in documents().items():
            if path.startswith(folder):
                write_text(Path(arguments.repository) / path, text)
                print(path)

    return write


def _unlock(arguments: argparse.Namespace) -> None:
    from pipeline.unlock import unlock

    print("\n".join(unlock(arguments.folder) or ["nothing to clean up: no lock, and no job of a killed workflow"]))


def _kubernetes_job(arguments: argparse.Namespace) -> None:
    from pipeline.kubernetes_job import kubernetes_job

    print(json.dumps(kubernetes_job(arguments.template, arguments.script)))


def _install(arguments: argparse.Namespace) -> None:
    import shutil

    from artifacts.atomic import replaced_directory, replaced_file

    built, target = Path(arguments.built), Path(arguments.target)
    folders = ("base", "flow", "scorers")
    files = ("quality.json", "agreement.json", "contact_sheet.png", "contact_sheet_flow.png")
    for name in (*folders, *files):
        if not (built / name).exists():
            raise InputError(f"{built / name}: no such file or folder; run `make miniature` first")
    # Figures are written also where they fall short, so that a person sees them; taking such weights is a decision.
    short = json.loads((built / "quality.json").read_text(encoding="utf-8"))["shortfalls"]
    if short and not arguments.accept_shortfalls:
        raise InputError(f"{built / 'quality.json'}: {'; '.join(short)}; train again, or give --accept-shortfalls")
    for name in folders:
        with replaced_directory(target / name) as temporary:
            shutil.copytree(built / name, temporary, dirs_exist_ok=True)
    for name in files:
        with replaced_file(target / name) as copy:
            shutil.copyfile(built / name, copy)
    print(f"{target}: now holds the weights of {built}")


def command_line() -> argparse.ArgumentParser:
    """What the command takes."""
    parser = argparse.ArgumentParser(prog="sdpo-bench", description="Commands around the benchmark's workflow.")
    add_version(parser)
    config_help = f"config of a benchmark, config/README.md (default: {DEFAULT_CONFIG})"
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, summary: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=summary, description=summary)
        command.set_defaults(run=run)
        return command

    check = add("check", "check a config and print every error in it", _check)
    check.add_argument("config", nargs="?", default=DEFAULT_CONFIG, metavar="CONFIG", help=config_help)

    spec = add("spec", "list the jobs of a config, or print the spec of one", _spec)
    spec.add_argument("config", nargs="?", default=DEFAULT_CONFIG, metavar="CONFIG", help=config_help)
    spec.add_argument("--stage", help="only jobs of this stage, e.g. train")
    spec.add_argument("--job", help="print the spec of the job of this name")
    spec.add_argument("--commands", action="store_true", help="print commands that can be run by hand")

    status = add("status", "print how far each training is, and how much there is of what follows", _status)
    status.add_argument("config", nargs="?", default=DEFAULT_CONFIG, metavar="CONFIG", help=config_help)

    show = add("show", "print what one scorer says of the variants, and where tables and report are", _show)
    show.add_argument("config", nargs="?", default=DEFAULT_CONFIG, metavar="CONFIG", help=config_help)
    which = show.add_mutually_exclusive_group()
    which.add_argument("--scorer", metavar="NAME", help="which one (default: the first that judges)")
    which.add_argument("--all", action="store_true", help="the whole table with all scorers, and its notes")

    runs = add("runs", "print where a server of MLflow shows the runs of each benchmark", _runs)
    runs.add_argument("address", metavar="ADDRESS", help="of the server, e.g. http://127.0.0.1:5000")
    runs.add_argument("--store", default="results/mlflow", metavar="DIR", help="default: results/mlflow")

    listed = add("list", "list what a config may name: bases, pair sources, objectives, prompts, scorers", _list)
    listed.add_argument("kind", nargs="?", metavar="KIND", help="bases, pairs, objectives, prompts, scorers or loggers")

    new = add("init", "write a config to begin with, in which every block is explained", _init)
    new.add_argument("config", metavar="FILE", help="where to; its name is the benchmark's")

    trace = add("trace", "print the files behind a table: digests, commits, machines, jobs", _trace)
    trace.add_argument("table", metavar="FILE", help="a table, e.g. results/miniature/tables/main.md")
    trace.add_argument("--model", help="only what is behind this model, e.g. miniature/dmpo/seed0, file by file")
    trace.add_argument("--prompt-set", help="only this prompt set, file by file")
    trace.add_argument("--scorer", help="only this scorer, file by file")

    for name, folder, summary in (
        ("schemas", "workflow/schemas", "write the JSON schemas of config and files"),
        ("reference", "config", "write the key reference of the config"),
    ):
        add(name, summary, _write(folder)).add_argument("--repository", default=".", help="root of the repository")

    unlock = add("unlock", "clean up after a killed workflow: its lock and its jobs", _unlock)
    unlock.add_argument("folder", nargs="?", default=".", help="where snakemake was started (default: here)")

    kubernetes = add("kubernetes-job", "print a job of the workflow as a job of Kubernetes, in JSON", _kubernetes_job)
    kubernetes.add_argument("template", metavar="TEMPLATE", help="YAML of a job, e.g. profiles/kubernetes/job.yaml")
    kubernetes.add_argument("script", metavar="SCRIPT", help="script that Snakemake has written for the job")

    install = add("install-miniature", "put newly built miniature weights in place of the shipped ones", _install)
    install.add_argument("--built", default="results/build/miniature")
    install.add_argument("--target", default="resources/miniature")
    install.add_argument("--accept-shortfalls", action="store_true", help="even if a required quality is not reached")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    chosen = command_line().parse_args(arguments)
    return run_command(lambda: chosen.run(chosen))


if __name__ == "__main__":
    sys.exit(main())
