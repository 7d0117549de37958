"""Scorers: one module each, found by name; names are listed without importing torch.

A scorer module, built in or announced by an entry point of the group ``evals.scorers``, has

- ``PROTOCOLS: tuple[str, ...]``, the protocols it implements;
- ``NEEDS_WEIGHTS: bool``, whether ``create`` must be given weights;
- ``VERSION: int``, raised when its numbers would change;
- ``LOWER_IS_BETTER: bool``, true where low scores are good (optional);
- ``JUDGES: bool``, false where scores describe an image and do not say how good it is (optional);
- ``WEIGHTS: str``, what ``create`` expects as weights, for messages (optional);
- ``IMPLEMENTATIONS: tuple[str, ...]``, the first one the default (optional; without it ``native`` only);
- ``DEFAULTS: dict[str, Any]``, its options and their defaults (optional);
- ``unjudgeable(prompts) -> list[tuple[int, str]]``, place and reason of each prompt for which it can rate no image,
  found before there are images (optional);
- ``create(*, protocol, weights, device, dtype, batch_size) -> Scorer``, which takes ``implementation`` and ``options``
  too if the module has :data:`IMPLEMENTATIONS` and ``DEFAULTS``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from artifacts.errors import InputError
from artifacts.file_names import user_options, user_path
from artifacts.plugins import nearest, told
from evals.networks.interface import REGISTRY as REGISTRY
from evals.networks.interface import Scorer as Scorer

DTYPES = ("float32", "bfloat16", "float16")
IMPLEMENTATIONS = ("native", "package")
SHOWN = 3
DEFAULT_PROTOCOL = "sdpo"


def names() -> list[str]:
    """Names of all scorers, sorted."""
    return REGISTRY.names()


def load(name: str) -> ModuleType:
    """The scorer's module; the built-in ones import neither torch nor transformers before ``create``.

    Raises:
        InputError: there is no scorer of this name, or it is not what a scorer must be.
    """
    module = REGISTRY.load(name)
    if not module.PROTOCOLS or not all(isinstance(protocol, str) for protocol in module.PROTOCOLS):
        raise InputError(f"scorer '{name}': PROTOCOLS is {module.PROTOCOLS!r}, expected one name or more")
    return module


def check_protocol(name: str, protocol: str) -> None:
    """Check that scorer ``name`` implements ``protocol``.

    Raises:
        InputError: it does not, or there is no scorer of this name.
    """
    known = list(load(name).PROTOCOLS)
    if protocol not in known:
        raise InputError(
            f"scorer '{name}': unknown protocol '{protocol}': expected one of {', '.join(known)}"
            f"{nearest(protocol, known)}"
        )


def lower_is_better(name: str) -> bool:
    """Whether low scores are good.

    Raises:
        InputError: there is no scorer of this name.
    """
    return bool(getattr(load(name), "LOWER_IS_BETTER", False))


def judges(name: str) -> bool:
    """Whether a scorer says how good an image is; others describe it, and no correction counts them as tests.

    Raises:
        InputError: there is no scorer of this name.
    """
    return bool(getattr(load(name), "JUDGES", True))


def check_prompts(name: str, prompts: Sequence[str], owner: str, remedy: str) -> None:
    """Check that a scorer can rate images of all these prompts.

    Args:
        owner: whose prompts they are, for the message.
        remedy: what to do where it cannot.

    Raises:
        InputError: it cannot; all such prompts are counted and the first few named.
    """
    module = load(name)
    if not hasattr(module, "unjudgeable"):
        return
    with told(f"scorer '{name}': unjudgeable", module.__file__):
        found: list[tuple[int, str]] = module.unjudgeable(prompts)
        named = "; ".join(f"{place}: {prompts[place][:60]!r} ({reason})" for place, reason in found[:SHOWN])
    if found:
        raise InputError(
            f"{owner}: scorer '{name}' cannot judge {len(found)} of {len(prompts)} prompts, from 0: {named}"
            f"{'; …' if len(found) > SHOWN else ''}; {remedy}"
        )


def check_prompt_set(name: str, prompts: Sequence[str], prompt_set: str) -> None:
    """As :func:`check_prompts`, for the prompts of a benchmark's prompt set."""
    remedy = f"name the sets that it rates in scorers.{name}.prompt_sets, or leave out the scorer or the set"
    check_prompts(name, prompts, f"prompt set '{prompt_set}'", remedy)


def implementations(name: str) -> tuple[str, ...]:
    """Those of :data:`IMPLEMENTATIONS` that scorer ``name`` has."""
    return tuple(getattr(load(name), "IMPLEMENTATIONS", ("native",)))


def defaults(name: str) -> dict[str, Any]:
    """Options of scorer ``name`` and their defaults."""
    return dict(getattr(load(name), "DEFAULTS", {}))


def create(
    name: str,
    *,
    protocol: str = DEFAULT_PROTOCOL,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 64,
    implementation: str = "native",
    options: Mapping[str, Any] | None = None,
) -> Scorer:
    """Load a scorer.

    Args:
        name: one of :func:`names`.
        protocol: how the scorer is run; ``sdpo`` is the paper's own evaluation code.
        weights: local folder or file, ``~`` for the user's; each scorer's module says in ``WEIGHTS`` what it expects.
        device: where the model runs, as torch spells it.
        dtype: precision of the model, one of :data:`DTYPES`. Embeddings are compared in float32 in any case;
            the protocols are defined for ``float32``.
        batch_size: images per forward pass; scores do not depend on it beyond rounding.
        implementation: ``native``, or ``package`` for the scorer's original package, one image at a time.
        options: the scorer's own settings, see :func:`defaults`.

    Raises:
        InputError: unknown name, protocol, dtype, implementation or option, weights that are missing or not this
            scorer's, or a fingerprint that is not this scorer's.
    """
    module = load(name)
    check_protocol(name, protocol)
    if dtype not in DTYPES:
        raise InputError(
            f"scorer '{name}': unknown dtype '{dtype}': expected one of {', '.join(DTYPES)}"
            f"{nearest(dtype, list(DTYPES))}"
        )
    if batch_size < 1:
        raise InputError(f"scorer '{name}': batch_size is {batch_size}, expected 1 or more")
    if module.NEEDS_WEIGHTS and weights is None:
        raise InputError(f"scorer '{name}': no weights given: expected {getattr(module, 'WEIGHTS', 'a local folder')}")
    extra: dict[str, Any] = {}
    if implementation not in (known := implementations(name)):
        raise InputError(
            f"scorer '{name}': unknown implementation '{implementation}': expected one of {', '.join(known)}"
            f"{nearest(implementation, list(known))}"
        )
    if hasattr(module, "IMPLEMENTATIONS"):
        extra["implementation"] = implementation
    for option in options or {}:
        if option not in defaults(name):
            expected = f"expected one of {', '.join(defaults(name))}" if defaults(name) else "it has none"
            raise InputError(f"scorer '{name}': unknown option '{option}': {expected}")
    if hasattr(module, "DEFAULTS"):
        extra["options"] = user_options({**defaults(name), **(options or {})})
    found = None if weights is None else user_path(weights)
    with told(f"scorer '{name}': create", module.__file__):
        scorer: Scorer = module.create(
            protocol=protocol, weights=found, device=device, dtype=dtype, batch_size=batch_size, **extra
        )
    own = getattr(scorer, "fingerprint", None)
    made_as = getattr(own, "hashed", {}).get("scorer")
    # By it scores are told from those of other scorers, and of other code: it says whose source it digests.
    if made_as != name:
        whose = f"that of scorer '{made_as}'" if made_as else repr(own)
        raise InputError(
            f"scorer '{name}': its fingerprint is {whose}; expected what evals.networks.interface.fingerprint gives "
            f"for scorer='{name}', the name that it is registered by"
        )
    return scorer
