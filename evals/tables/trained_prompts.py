"""How many prompts of an evaluation the trainings saw too: a result on those says little of prompts nobody has seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.contracts import read_table
from artifacts.prompt_text import same

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison


def with_trained_prompts(trained: Mapping[str, Mapping[str, Any]], comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Trainings with ``trained_prompts``: by prompt set, how many of its prompts are among the training pairs'.

    Two prompts are one where :func:`artifacts.prompt_text.same` takes them for one. A training whose pair cache is gone
    has no such entry.

    Raises:
        InputError: a pair cache's index or a prompt set is not readable.
    """
    evaluated = {
        name: read_table(layout.prompts(comparison.root, name), "prompts")["prompt"].map(same)
        for name in comparison.prompt_sets
        if name not in comparison.shown
    }
    counted: dict[tuple[str, str], dict[str, int]] = {}
    found: dict[str, dict[str, Any]] = {}
    for variant, how in trained.items():
        key = str(how["pairs"]), comparison.base_of(variant)
        index = layout.pairs(comparison.root, *key) / "index.parquet"
        if key not in counted and index.is_file():
            rows = read_table(index, "pairs_index")
            # A tie trains nothing.
            used = rows["prompt"][(rows["split"] == "train") & (rows["label"] == 1)]
            known = set(map(same, used.unique()))
            counted[key] = {name: int(prompts.isin(known).sum()) for name, prompts in evaluated.items()}
        found[variant] = {**how, **({"trained_prompts": counted[key]} if key in counted else {})}
    return found
