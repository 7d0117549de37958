"""Any other scorer, as a program in an environment of its own: HPSv3, MPS, VQAScore, the judges of GenEval.

The contract is :mod:`evals.networks.command`. Higher is better; a program whose numbers are the other way round negates
them. A scorer with a name of its own in the tables is a module as short as this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evals.networks.command import DEFAULTS as DEFAULTS
from evals.networks.command import CommandScorer
from evals.networks.interface import Scorer

PROTOCOLS = ("program",)
NEEDS_WEIGHTS = False
VERSION = 1


def create(*, options: Mapping[str, Any], **_: Any) -> Scorer:
    """The scorer; ``options`` as :data:`DEFAULTS`, other arguments do not concern it."""
    return CommandScorer("command", VERSION, options)
