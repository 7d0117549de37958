"""Prompt sets: sources of prompts, and the file that a benchmark reads.

A prompt source is one module with a function ``read(options) -> list[Prompt]``. Those of published sets fetch what they
read (:mod:`evals.published.fetch_prompts`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from artifacts.block import JobSpec, Name, checked
from artifacts.contracts import write_table
from artifacts.errors import InputError
from artifacts.file_names import user_options
from artifacts.plugins import Call, Registry, told
from artifacts.prompt_text import control_token_warning, fault, is_text

REGISTRY = Registry(
    kind="prompt source",
    package="evals.prompts.sources",
    group="evals.prompt_sources",
    optional={"DEFAULTS": dict, "FETCHES": bool},
    calls={"read": Call(("options",))},
)


@dataclass(frozen=True)
class Prompt:
    """One prompt, with its category within the set and what its publisher calls it (both empty if there is none)."""

    text: str
    category: str = ""
    item: str = ""


class PromptsSpec(JobSpec):
    """The job description of ``evals prompts``."""

    prompt_set: Name = Field(description="Name of the set, with which prompt ids begin.")
    source: str = Field(description="Prompt source that reads or makes the prompts.")
    limit: int | None = Field(default=None, ge=1, description="Only the first so many prompts; left out, all.")
    options: dict[str, Any] = Field(default={}, description="The source's own options.")
    judged_by: list[str] = Field(default=[], description="Scorers that have to be able to judge its prompts.")
    out: str = Field(description="The file that is written.")


def names() -> list[str]:
    """Known prompt sources."""
    return REGISTRY.names()


def write(spec: Mapping[str, Any], check: Callable[[Sequence[str]], None] | None = None) -> None:
    """Read a source and write the prompt set.

    Args:
        spec: a :class:`PromptsSpec`; paths in ``options`` may begin with ``~/``.
        check: told the texts before anything is written; it raises where they will not do.

    Raises:
        InputError: a bad setting, unknown source, bad options, fewer prompts than ``limit``, or one that is no text.
    """
    import pandas as pd

    job = checked(PromptsSpec, spec, "evals prompts")
    name = job.prompt_set
    prompts = read(name, job.source, limit=job.limit, options=job.options)
    texts = [prompt.text for prompt in prompts]
    if check is not None:
        check(texts)
    if warning := control_token_warning(texts):
        print(f"warning: prompt set '{name}': {warning}", file=sys.stderr)
    rows = [
        {"prompt_id": f"{name}-{i:05d}", "prompt": p.text, "category": p.category, "source": job.source, "item": p.item}
        for i, p in enumerate(prompts)
    ]
    write_table(job.out, pd.DataFrame(rows), "prompts")


def read(name: str, source: str, *, limit: int | None, options: Mapping[str, Any]) -> list[Prompt]:
    """The prompts of a set of this name; arguments and errors as of :class:`PromptsSpec` and :func:`write`."""
    module = REGISTRY.load(source)
    with told(f"prompt set '{name}': source '{source}'", module.__file__):
        found = module.read(user_options(options))
        if isinstance(found, AbstractSet):
            raise TypeError("read gives a set, whose order is another in each process; expected a list")
        prompts: list[Prompt] = list(found)
    if wrong := [prompt for prompt in prompts if not isinstance(prompt, Prompt)]:
        raise InputError(f"prompt set '{name}': source '{source}' gives {wrong[0]!r}, expected evals.prompts.Prompt")
    if not prompts or (limit is not None and len(prompts) < limit):
        raise InputError(f"prompt set '{name}': source '{source}' has {len(prompts)} prompts, limit is {limit}")
    prompts = prompts[:limit]
    for number, prompt in enumerate(prompts):
        which = f"prompt set '{name}': source '{source}': prompt {number}, from 0,"
        if bad := fault(prompt.text):
            raise InputError(f"{which} is {bad}")
        for key, value in (("category", prompt.category), ("item", prompt.item)):
            if not isinstance(value, str) or not is_text(value):
                raise InputError(f"{which} has the {key} {value!a}; expected text, empty where there is none")
    return prompts
