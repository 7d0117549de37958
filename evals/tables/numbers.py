"""Numbers as tables print them: as many decimals as they are sure to, and no decision lost by rounding."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable

MOST_DECIMALS = 12


def decimals(values: Iterable[float]) -> int:
    """Decimals, 0 to 8, with which the median size of the values that are not zero shows two significant digits."""
    sizes = [abs(value) for value in values if value and math.isfinite(value)]
    if not sizes:
        return 2
    return min(max(1 - math.floor(math.log10(statistics.median(sizes))), 0), 8)


def deciding(low: float, high: float, digits: int, null: float = 0.0) -> int:
    """``digits`` or more: so many decimals that the printed ends lie on the sides of ``null`` that the ends lie on."""

    def sides(ends: tuple[float, float]) -> tuple[bool, bool]:
        return ends[0] > null, ends[1] < null

    if not (math.isfinite(low) and math.isfinite(high)):
        return digits
    while digits < MOST_DECIMALS and sides((round(low, digits), round(high, digits))) != sides((low, high)):
        digits += 1
    return digits


def number(value: float, digits: int) -> str:
    """Fixed decimals without a negative zero; a dash for what is unknown."""
    return f"{round(value, digits) + 0.0:.{digits}f}" if math.isfinite(value) else "–"


def signed(value: float, digits: int) -> str:
    """As :func:`number`, with a plus sign before what is above zero as printed."""
    return ("+" if math.isfinite(value) and round(value, digits) > 0 else "") + number(value, digits)


def bracketed(low: float | None, high: float | None, digits: int, form: Callable[[float, int], str] = number) -> str:
    """An interval as ``[low, high]``, its ends by :func:`number` or :func:`signed`; empty where one is not known."""
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{form(low, digits)}, {form(high, digits)}]"


def p_value(value: float) -> str:
    """Three decimals; below a thousandth as ``< 0.001``."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(share: float) -> str:
    """A share as text: 0.95 as ``95%``."""
    return f"{100 * share:g}%"
