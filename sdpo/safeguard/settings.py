"""Settings of the safeguard."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Granularity = Literal["microbatch", "sample", "global"] | Annotated[int, Field(ge=1)]
Formula = Literal["sdpo", "ovis", "fixed"]


class Safeguard(BaseModel):
    """Settings of the safeguard, as a variant of the config states them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    mu: float = Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Slack μ in [0, 1]: 0 lets the winner's error stay as it is, 1 switches the loser off wherever "
        "it conflicts with the winner. Published: 0.9 (SD 1.5; DSPO 0.2), 0.6 (SDXL).",
    )
    granularity: Granularity = Field(
        default="microbatch",
        description="`microbatch`: one λ for all pairs of a micro-batch, as published; it depends on the micro-batch "
        "size. `sample`: one λ a pair, independent of it and larger on average. `global`: one λ for all pairs of an "
        "optimizer step, over all micro-batches and processes; independent of how they are split. A number N: one λ "
        "for each N consecutive pairs of a step, whatever passes through the denoiser at once; N divides `batch_size`, "
        "and divides `micro_batch_size` or is a multiple of it.",
    )
    formula: Formula = Field(
        default="sdpo",
        description="`sdpo`: the published bound. `ovis`: the formula of the Ovis-Image report, where μ is the loser's "
        "strength: 0 switches it off. `fixed`: λ = 1 − μ whatever the residuals, to compare with.",
    )
    weights: Literal["none", "objective"] = Field(
        default="none",
        description="`none`: pairs count alike, as published. `objective`: each side of a pair counts by the weight "
        "that the objective gives its gradient, so that the weighted winners are protected; exact where the weights of "
        "winner and loser differ (MaPO, Diffusion-KTO).",
    )
    pulled_back: Literal["scale", "exempt"] = Field(
        default="scale",
        description="What becomes of pairs that the objective pulls back (DMPO beyond its target, IPO), where the "
        "winner's error is meant to rise and the loser's to fall. `scale`: like all others, as published. `exempt`: "
        "they take no part in λ and their gradient stays whole.",
    )
    added_epsilon: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Added to the denominator, in units of gradients of the mean error. The published code has 1e-9, "
        "which makes λ too small by per cents at large images or batches.",
    )
