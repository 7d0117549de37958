"""The safeguard: its settings, sums over residuals, and the safe scale λ that follows from them."""

from sdpo.safeguard.scale import group_size, safe_scale, scale_of_sums
from sdpo.safeguard.settings import Safeguard
from sdpo.safeguard.sums import NotFiniteError, ResidualSums, refuse_not_finite, residual_sums

__all__ = [
    "NotFiniteError",
    "ResidualSums",
    "Safeguard",
    "group_size",
    "refuse_not_finite",
    "residual_sums",
    "safe_scale",
    "scale_of_sums",
]
