"""Block ``audit``: what the target ``audit`` measures."""

from __future__ import annotations

from pydantic import Field

from sdpo.audit.settings import AuditSettings


class Audit(AuditSettings):
    """What `snakemake audit` measures; it is no part of the benchmark and changes none of its jobs."""

    variant: str | None = Field(
        default=None,
        description="Variant whose objective, pair set, micro-batch size, clipping and weight decay the steps have; "
        "left out, the first with a safeguard, else the first with a loser.",
    )
    trained: list[str] = Field(
        default=[],
        description="Variants whose model of the first seed is audited beside the base; trained if it is missing.",
    )
