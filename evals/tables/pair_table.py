"""Two models side by side: a scorer a row, with what the main table leaves out of the win rates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from artifacts import markdown
from evals.tables.numbers import bracketed, deciding, decimals, number, p_value, percent, signed
from evals.tables.table_notes import over

if TYPE_CHECKING:
    from evals.tables.comparison import Comparison
    from evals.tables.rows import DifferenceRow, WinRateRow


def pair_markdown(
    comparison: Comparison,
    win_rates: Sequence[WinRateRow],
    differences: Sequence[DifferenceRow],
    remarks: Sequence[str],
) -> str:
    """A table a prompt set as Markdown; a win rate above 0.5 and a difference above 0 are for a.

    Args:
        comparison: of the two.
        win_rates, differences: rows of the pair.
        remarks: further notes.
    """
    level = percent(comparison.statistics.confidence)
    header = ["scorer", "protocol", f"win rate [{level}]", "wins", "ties", "losses", "p (Holm)", f"a − b [{level}]"]
    header.append("p (Holm)")
    won = {(row.prompt_set, row.scorer): row for row in win_rates}
    lines = []
    for name in comparison.prompt_sets:
        rows = [row for row in differences if row.prompt_set == name]
        body = [
            [markdown.escape(row.scorer), markdown.escape(comparison.scorers[row.scorer]), *_cells(row, won)]
            for row in rows
        ]
        if len(comparison.prompt_sets) > 1:
            lines += [f"### {markdown.escape(name)}", ""]
        lines += [markdown.table(header, body, "ll" + "r" * (len(header) - 2)), ""]
        seeds = f", {rows[0].n_seeds} seeds" if rows[0].n_seeds > 1 else ""
        # As wins do; `n_prompts` counts a prompt's several images once.
        images = rows[0].n_prompts * comparison.images_of(name)
        lines += [f"- {images} images of {rows[0].n_texts} prompts{seeds}.", ""]
    first = differences[0]
    notes = [
        f"a = {markdown.escape(first.a)}, b = {markdown.escape(first.b)}. Ties count half.",
        f"Intervals: {level}, {over(first.n_seeds)}. p: by the interval before it, Holm across judges.",
        *_judging_notes(comparison),
        *map(markdown.escape, remarks),
    ]
    return "\n".join([*lines[:-1], *(f"- {note}" for note in notes)]) + "\n"


def _judging_notes(comparison: Comparison) -> Iterator[str]:
    if lower := [name for name in comparison.judges if name in comparison.lower_is_better]:
        yield f"Lower is better for {markdown.escape(', '.join(lower))}: a wins where its score is lower."
    if described := [name for name in comparison.scorers if name in comparison.no_judges]:
        yield f"{markdown.escape(', '.join(described))}: no judgement, so nothing wins or is tested."


def _cells(row: DifferenceRow, won: dict[tuple[str, str], WinRateRow]) -> list[str]:
    digits = decimals([(row.ci_high - row.ci_low) / 2, row.mean_difference])
    digits = deciding(row.ci_low, row.ci_high, digits)
    difference = f"{signed(row.mean_difference, digits)} {bracketed(row.ci_low, row.ci_high, digits, signed)}"
    win = won.get((row.prompt_set, row.scorer))
    if win is None:
        return ["", "", "", "", "", difference, ""]
    interval = bracketed(win.ci_low, win.ci_high, deciding(win.ci_low, win.ci_high, 3, 0.5))
    return [
        f"{number(win.win_rate, 3)} {interval}",
        *(str(count) for count in (win.wins, win.ties, win.losses)),
        p_value(win.p_holm),
        difference,
        "" if row.p_holm is None else p_value(row.p_holm),
    ]
