"""``evals import`` and ``diversity``: arguments in, score files out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from evals.commands.comparisons import Add

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison

_BENCHMARK, _FOLDER = ("benchmark", "model", "prompt_set"), ("images", "prompts", "out")


def run(arguments: argparse.Namespace) -> None:
    """Turn a judge's result file into scores of a benchmark's model, or of a folder of images."""
    from evals.judges.imported import Judge, import_for_folder, import_for_model
    from evals.judges.result_files import read

    target = _target(arguments)
    results = read(arguments.results, arguments.format, score_column=arguments.score_column)
    told = arguments.judge, arguments.protocol, arguments.format
    judge = Judge(*told, results.column, arguments.lower_is_better)
    if target == _BENCHMARK:
        out = import_for_model(judge, results, arguments.benchmark, arguments.model, arguments.prompt_set)
        print(f"{out}: written; `evals compare {arguments.benchmark}` shows it once every model has its own")
        return
    from artifacts.atomic import write_json, writing
    from artifacts.contracts import write_table
    from evals.commands.folders import output
    from evals.images.matching import match
    from evals.prompts.prompt_file import read_prompt_file
    from evals.tables.comparison import Statistics
    from evals.tables.folder_summary import summary_markdown

    out = output(arguments.out, ".parquet")
    matching = match(arguments.images, read_prompt_file(arguments.prompts), arguments.prompts)
    table, record = import_for_folder(judge, results, arguments.images, matching)
    with writing(f"--out {out}"):
        write_json(out.with_suffix(".scorers.json"), {judge.name: record})
        write_table(out, table, "folder_scores")
    print(summary_markdown(table, Statistics(), {}), end="")


def run_diversity(arguments: argparse.Namespace) -> None:
    """Write how different the images of each prompt are, for all models of a benchmark."""
    from evals.judges.diversity import clip_tower, diversity
    from evals.tables.write import made_with

    comparison = made_with(arguments.benchmark).comparison
    sets = arguments.prompt_set or list(comparison.images_per_prompt)
    if unknown := [name for name in sets if name not in comparison.images_per_prompt]:
        raise InputError(
            f"--prompt-set {unknown[0]}: expected a set with several images a prompt, {_named(comparison)}"
        )
    if not sets:
        raise InputError(f"{arguments.benchmark}: has no set with several images a prompt; see images_per_prompt")
    tower = clip_tower(arguments.weights, device=arguments.device)
    for name in sets:
        for model in comparison.models:
            print(f"{diversity(arguments.benchmark, model.name, name, tower)}: written")


def _named(comparison: Comparison) -> str:
    return (
        f"one of {', '.join(comparison.images_per_prompt)}" if comparison.images_per_prompt else "of which it has none"
    )


def _target(arguments: argparse.Namespace) -> tuple[str, ...]:
    """What the scores are of: all options of one kind, and none of the other."""
    given = {name for name in (*_BENCHMARK, *_FOLDER) if getattr(arguments, name) is not None}
    kinds = [kind for kind in (_BENCHMARK, _FOLDER) if given & set(kind)]
    listed = [" ".join(f"--{name.replace('_', '-')}" for name in kind) for kind in (_BENCHMARK, _FOLDER)]
    if len(kinds) != 1 or given != set(kinds[0]):
        found = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(given)) or "none of them"
        raise InputError(f"evals import: expected {listed[0]}, or {listed[1]}; found {found}")
    return kinds[0]


def add_diversity(add: Add) -> None:
    """The command ``diversity``."""
    parser = add("diversity", "say how different a prompt's several images are (docs/judges.md)", run_diversity)
    parser.add_argument("benchmark", metavar="DIR", help="results/<benchmark>")
    parser.add_argument("--weights", metavar="PATH", required=True, help="weights of the scorer clip")
    parser.add_argument("--prompt-set", metavar="NAME", action="append", help="only this one; may be repeated")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 … (default: cpu)")


def add_import(add: Add) -> None:
    """The command ``import``."""
    from evals.judges.result_files import FORMATS

    parser = add("import", "turn a judge's result file into scores (docs/judges.md)", run)
    parser.add_argument("results", metavar="FILE", help="what the judge has written")
    option = parser.add_argument
    option("--judge", metavar="NAME", required=True, help="its name in the tables")
    option("--format", choices=FORMATS, default="table", help="of the file (default: table)")
    option("--protocol", metavar="TEXT", required=True, help="version, weights and settings of the judge")
    option("--score-column", metavar="NAME", help="column of a table's scores (default: its score, correct or value)")
    option("--lower-is-better", action="store_true", help="low scores are good")
    of_model = parser.add_argument_group("images of a benchmark").add_argument
    of_model("--benchmark", metavar="DIR", help="results/<benchmark>")
    of_model("--model", metavar="NAME", help="as its images lie below images/, e.g. miniature/dmpo/seed0")
    of_model("--prompt-set", metavar="NAME", help="the prompt set that was judged")
    of_folder = parser.add_argument_group("a folder of images").add_argument
    of_folder("--images", metavar="DIR", help="folder of images")
    of_folder("--prompts", metavar="FILE", help="their prompts, as for evals score")
    of_folder("--out", metavar="FILE", help="scores in long form, .parquet")
