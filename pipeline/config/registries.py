"""What a config may name: members of the registries of ``sdpo`` and ``evals``, found without importing torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import evals.generation.generate
import evals.generation.settings
import evals.prompts
import evals.scorers
import sdpo.bases
import sdpo.objectives
import sdpo.pairs
import sdpo.training.loggers

if TYPE_CHECKING:
    from sdpo.objectives import ObjectiveModule


class Code:
    """Sources of members of the registries, each looked at once."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def __call__(
        self,
        *,
        objectives: Sequence[str] = (),
        families: Sequence[str] = (),
        pair_sources: Sequence[str] = (),
        prompt_sources: Sequence[str] = (),
        scorers: Sequence[str] = (),
        generators: Sequence[str] = (),
    ) -> dict[str, str]:
        """Digest of the source of members by kind and name, without those that do not exist."""
        named = (
            (sdpo.objectives.REGISTRY, objectives),
            (sdpo.bases.REGISTRY, families),
            (sdpo.pairs.REGISTRY, pair_sources),
            (evals.prompts.REGISTRY, prompt_sources),
            (evals.scorers.REGISTRY, scorers),
            (evals.generation.generate.GENERATORS, generators),
        )
        found: dict[str, str] = {}
        for registry, names in named:
            for name in names:
                if (key := f"{registry.kind} {name}") not in self._known:
                    self._known[key] = registry.source(name)
                if (digest := self._known[key]) is not None:
                    found[key] = digest
        return found


def base_families() -> list[str]:
    """Names of all base families."""
    return sdpo.bases.names()


def family(name: str) -> ModuleType:
    """Module of a base family."""
    return sdpo.bases.REGISTRY.load(name)


def weights_file(family: str) -> str:
    """File of a trained model's weights in its folder."""
    return sdpo.bases.weights_file(family)


def pair_sources() -> list[str]:
    """Names of all pair sources."""
    return sdpo.pairs.names()


def prompt_sources() -> list[str]:
    """Names of all prompt sources."""
    return evals.prompts.names()


def objectives() -> list[str]:
    """Names of all objectives."""
    return sdpo.objectives.names()


def loggers() -> list[str]:
    """Names of all loggers."""
    return sdpo.training.loggers.names()


def logger(name: str) -> ModuleType:
    """Module of a logger."""
    return sdpo.training.loggers.REGISTRY.load(name)


def scorers() -> list[str]:
    """Names of all scorers."""
    return evals.scorers.names()


def schedulers() -> list[str]:
    """Names of all samplers."""
    return list(evals.generation.settings.SCHEDULERS)


def generation_protocols() -> list[str]:
    """Protocols of the generation."""
    return list(evals.generation.settings.PROTOCOLS)


def generators() -> list[str]:
    """Base families that draw their models by code of their own."""
    return evals.generation.generate.GENERATORS.names()


def objective(name: str) -> ObjectiveModule:
    """Module of an objective, with ``Parameters`` and ``HAS_LOSER``."""
    return sdpo.objectives.load(name)


def scorer(name: str) -> ModuleType:
    """Module of a scorer, with ``PROTOCOLS`` and ``NEEDS_WEIGHTS``."""
    return evals.scorers.load(name)


def scorer_implementations(name: str) -> tuple[str, ...]:
    """How a scorer can be run: ``native``, ``package``."""
    return evals.scorers.implementations(name)


def scorer_options(name: str) -> dict[str, Any]:
    """A scorer's own settings and their defaults."""
    return evals.scorers.defaults(name)


def read_prompts(name: str, source: str, *, limit: int | None, options: Mapping[str, Any]) -> list[str]:
    """Texts of a prompt set, see :func:`evals.prompts.read`."""
    return [prompt.text for prompt in evals.prompts.read(name, source, limit=limit, options=options)]


def check_prompt_set(scorer: str, prompts: Sequence[str], prompt_set: str) -> None:
    """Whether a scorer can judge images of all these prompts, see :func:`evals.scorers.check_prompt_set`."""
    evals.scorers.check_prompt_set(scorer, prompts, prompt_set)


def open_base(family: str, path: Path, **options: Any) -> None:
    """Read the configuration of a base's folder, see :func:`sdpo.bases.open_base`."""
    sdpo.bases.open_base(family, path, **options)


def pair_source(name: str) -> ModuleType:
    """Module of a pair source; it may have ``DEFAULTS``, the options it takes, or ``Options``, a model of them."""
    return sdpo.pairs.REGISTRY.load(name)


def prompt_source(name: str) -> ModuleType:
    """Module of a prompt source; it may have ``DEFAULTS``, the options it takes."""
    return evals.prompts.REGISTRY.load(name)
