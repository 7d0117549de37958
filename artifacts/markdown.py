"""Markdown tables that read well as plain text, and text that they show as it is."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from tabulate import SEPARATING_LINE, DataRow, TableFormat, tabulate

_MARKUP = re.compile(r"([\\`*_{}\[\]#|~])")


def escape(text: str) -> str:
    """Text that Markdown shows as it is, also within a table cell."""
    return _MARKUP.sub(r"\\\1", html.escape(text, quote=False)).replace("\n", " ")


def table(header: Sequence[str], body: Sequence[Sequence[str]], sides: str) -> str:
    """A Markdown table without a line end after it.

    Cells are taken as they are: whatever is not markup must be escaped.

    Args:
        sides: for each column ``l`` or ``r``, the side to which its cells are moved, or ``-``: they stay as they are.
    """
    # A rule has three characters at least.
    first = [{"l": name.ljust(3), "r": name.rjust(3)}.get(side, name) for name, side in zip(header, sides, strict=True)]
    return _laid_out([first, SEPARATING_LINE, *body], sides, _MARKDOWN)


def plain_table(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Rows for a terminal, columns two spaces apart; ``sides`` as in :func:`table`."""
    return _laid_out(rows, sides, "plain")


def _laid_out(rows: Sequence[str | Sequence[str]], sides: str, form: TableFormat | str) -> str:
    aligned = [{"l": "left", "r": "right"}.get(side) for side in sides]
    return str(tabulate(rows, tablefmt=form, colalign=aligned, disable_numparse=True, preserve_whitespace=True))


def _rule(widths: Sequence[int], sides: Sequence[str | None]) -> str:
    """The line below the header; ``widths`` count a space on either side of a cell."""
    cells = [
        f"{'-' * (width - 3 if side else 2)}{':' if side == 'right' else '-'}"
        for width, side in zip(widths, sides, strict=True)
    ]
    return f"| {' | '.join(cells)} |"


_ROW = DataRow("|", "|", "|")
_MARKDOWN = TableFormat(None, _rule, None, None, headerrow=_ROW, datarow=_ROW, padding=1, with_header_hide=None)
