"""Supervised fine-tuning on the winners: mean L_w. No loser, hence no safeguard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.diffusion.errors import PairErrors

HAS_LOSER = False
USES_REFERENCE = False


class Parameters(BaseModel):
    """None."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def loss(errors: PairErrors, parameters: Parameters) -> Tensor:
    """L_w of each pair, (B,); the reference plays no part, and losers, if given, are only reported."""
    return errors.policy_winner
