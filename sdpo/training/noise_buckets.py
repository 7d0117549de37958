"""Drifts and λ of a step by share of noise: a λ over several pairs mixes timesteps, whose residuals differ in size.

A pair's share of noise is σ/(α + σ) of ``x_t = α x0 + σ ε``: t itself in rectified flow, and comparable between
parametrisations. Its range is cut into :data:`~artifacts.contracts.NOISE_BUCKETS` equal buckets. Only sums are kept of
micro-batches and processes, and divided at the end, so that how a step is split changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from artifacts.contracts import NOISE_BUCKETS, NOISE_MEANS, noise_column

if TYPE_CHECKING:
    from torch import Tensor

    from sdpo.objectives import ObjectiveOutput


def noise_share(alpha: Tensor, sigma: Tensor) -> Tensor:
    """σ/(α + σ) of each pair, (B,), from 0 (data) to 1 (noise)."""
    return sigma / (alpha + sigma)


def bucket_sums(share: Tensor, out: ObjectiveOutput) -> Tensor:
    """Number of pairs and sums of :data:`~artifacts.contracts.NOISE_MEANS` by bucket, (4, buckets), in fp64.

    Args:
        share: of noise of each pair, (B,).
        out: of the same pairs; what it lacks without losers sums to 0.
    """
    import torch

    chosen = (share.detach().double() * NOISE_BUCKETS).long().clamp(0, NOISE_BUCKETS - 1)
    by_bucket = (chosen[:, None] == torch.arange(NOISE_BUCKETS, device=chosen.device)).double()
    values = _values(out)
    rows = [torch.ones_like(share, dtype=torch.float64)]
    for name in NOISE_MEANS:
        value = values.get(name)
        rows.append(torch.zeros_like(rows[0]) if value is None else value.double().expand(len(share)))
    return torch.stack(rows) @ by_bucket


def bucket_columns(sums: Sequence[Sequence[float]], out: ObjectiveOutput) -> dict[str, float | None]:
    """Columns of contract ``training``, from the sums over a whole step; what an empty bucket would have is null.

    Args:
        sums: (4, buckets), of :func:`bucket_sums`.
        out: of some pairs of the step; what it lacks is null too.
    """
    present = _values(out)
    counts, *totals = sums
    columns: dict[str, float | None] = {noise_column("pairs", k): round(n) for k, n in enumerate(counts)}
    for name, total in zip(NOISE_MEANS, totals, strict=True):
        for k, (value, count) in enumerate(zip(total, counts, strict=True)):
            columns[noise_column(name, k)] = value / count if count and name in present else None
    return columns


def _values(out: ObjectiveOutput) -> dict[str, Tensor]:
    """(B,) or ()."""
    return {**out.drifts, "safe_scale": out.metrics["safe_scale"]}
