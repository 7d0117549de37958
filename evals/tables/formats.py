"""The main table as Markdown, plain text, LaTeX and HTML; every text is escaped for its format."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from artifacts import markdown
from evals.tables.main_table import Block, Cell, MainTable

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "[": "{[}",  # after a row's end, LaTeX would read [ and * as its arguments
    "*": "{*}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "≈": r"$\approx$",
    "λ": r"$\lambda$",
    "\n": " ",
}


_HTML_AGAINST = ("against-base", "against-base baseline")
"""Classes of what stands below a mean."""

_LATEX_COLUMNS = 9
"""Columns of scores that fit beside one another on a page."""


def escape_latex(text: str) -> str:
    """Text that LaTeX typesets as it is."""
    return "".join(_LATEX.get(character, character) for character in text)


def escape_html(text: str) -> str:
    """Text for an HTML element or attribute, in ASCII, so that it does not depend on a declared encoding."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")


def to_markdown(table: MainTable) -> str:
    """Tables of each prompt set, aligned so that they read well as plain text too, and the notes as a list."""
    lines = [f"## {markdown.escape(table.title)}", ""]
    for prompt_set in table.prompt_sets:
        for block in table.blocks:
            heading = f"{prompt_set}, {block.heading}" if block.heading else prompt_set
            header = [markdown.escape(name) for name in (*table.label_columns, *block.columns)]
            body = [
                [*map(markdown.escape, labels), *cells]
                for labels, cells in _lines(table, prompt_set, block, _markdown_value, " ")
            ]
            lines += [
                f"### {markdown.escape(heading)}",
                "",
                markdown.table(header, body, _sides(table, block)),
                "",
            ]
    lines += [f"- {markdown.escape(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def to_text(table: MainTable) -> str:
    """For the terminal: one block a prompt set, rows variants, columns scorers, marks after the means."""
    lines: list[str] = []
    for prompt_set in table.prompt_sets:
        for block in table.blocks:
            header = [*table.label_columns, *(f"{name}  " for name in block.columns)]
            body = [[*names, *cells] for names, cells in _lines(table, prompt_set, block, marked_value, "")]
            lines.append(f"{table.title} / {prompt_set}{', ' if block.heading else ''}{block.heading}")
            lines += [textwrap.indent(markdown.plain_table([header, *body], _sides(table, block)), "  "), ""]
    for note in table.notes:
        lines += textwrap.wrap(note, width=100, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _sides(table: MainTable, block: Block) -> str:
    """Labels to the left, numbers to the right."""
    return "l" * len(table.label_columns) + "r" * len(block.columns)


def _lines(
    table: MainTable, prompt_set: str, block: Block, value: Callable[[Cell], str], gap: str
) -> Iterator[tuple[list[str], list[str]]]:
    """Label cells and number cells of each line: a variant's means, and below them its differences."""
    for row in table.rows:
        cells = [row.cells[prompt_set, name] for name in block.columns]
        yield list(row.labels), [value(cell) for cell in cells]
        for label, *found in zip(table.against, *(cell.against for cell in cells), strict=True):
            if any(text for text, _ in found):
                below = [f"{text.replace(' ± ', f'{gap}±{gap}')}{mark or ' '}" for text, mark in found]
                yield [f"  {label}", *[""] * (len(row.labels) - 1)], [text.strip() and text for text in below]


def _markdown_value(cell: Cell) -> str:
    around = {1: "**", 2: "_"}.get(cell.place, "")
    return f"{around}{cell.value}{around}{' ≈' if cell.tied else ''}"


def marked_value(cell: Cell) -> str:
    """A mean for the terminal: ``*`` after the best, ``~`` after the second, ``≈`` after what is tied with the best."""
    return f"{cell.value}{' *~'[cell.place]}{'≈' if cell.tied else ' '}"


def to_latex(table: MainTable) -> str:
    """A ``table*`` to ``\\input``; it needs the packages booktabs and graphicx.

    Prompt sets stand side by side, as in papers, as long as that can be read on a page, and below one another beyond.
    """
    labels = len(table.label_columns)
    widest = max(len(block.columns) for block in table.blocks)
    most = min(max(1, _LATEX_COLUMNS // widest), len(table.prompt_sets))
    lines = [
        r"% \input this file; it needs \usepackage{booktabs,graphicx}.",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape_latex(_caption(table))}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{'l' * labels}{'r' * (widest * most)}}}",
    ]
    started = False
    for block in table.blocks:
        columns = len(block.columns)
        beside = widest * most // columns
        for start in range(0, len(table.prompt_sets), beside):
            shown = table.prompt_sets[start : start + beside]
            titles = [f"{name}, {block.heading}" if block.heading else name for name in shown]
            groups = [rf"\multicolumn{{{columns}}}{{c}}{{{escape_latex(title)}}}" for title in titles]
            firsts = [labels + i * columns + 1 for i in range(len(shown))]
            header = [*table.label_columns, *block.columns * len(shown)]
            lines += [
                r"\midrule" if started else r"\toprule",
                " & ".join([""] * labels + groups) + r" \\",
                " ".join(rf"\cmidrule(lr){{{first}-{first + columns - 1}}}" for first in firsts),
                " & ".join(escape_latex(name) for name in header) + r" \\",
                r"\midrule",
            ]
            started = True
            lines += _latex_rows(table, shown, block)
    lines += [
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip\footnotesize\raggedright",
        *(escape_latex(note) for note in table.notes),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _latex_rows(table: MainTable, prompt_sets: Sequence[str], block: Block) -> Iterator[str]:
    base = table.rows[0].base
    for row in table.rows:
        if row.base != base:
            yield r"\midrule"
        base = row.base
        cells = [row.cells[prompt_set, name] for prompt_set in prompt_sets for name in block.columns]
        means = [_latex_value(cell) for cell in cells]
        yield " & ".join([*map(escape_latex, row.labels), *means]) + r" \\"
        for name, *found in zip(table.against, *(cell.against for cell in cells), strict=True):
            if any(text for text, _ in found):
                label = rf"\quad\scriptsize {escape_latex(name)}"
                below = (rf"\scriptsize {_latex_number(*one)}" if one.text else "" for one in found)
                yield " & ".join([label, *[""] * (len(row.labels) - 1), *below]) + r" \\"


def _latex_value(cell: Cell) -> str:
    around = {1: r"\mathbf{%s}", 2: r"\underline{%s}"}.get(cell.place, "%s")
    return _latex_number(around % cell.value, "≈" if cell.tied else "")


def _latex_number(text: str, mark: str = "") -> str:
    """A number, a number with its half width, or ``low to high``, in mathematics."""
    if not text:
        return ""
    raised = {"†": r"^{\dagger}", "‡": r"^{\ddagger}", "≈": r"^{\approx}", "": ""}[mark]
    inside = text.replace(" ± ", r" \pm ").replace(" to ", "$--$").replace("–", "$--$")
    return f"${inside}{raised}$".replace("$$", "")


def to_html(table: MainTable) -> str:
    """A ``figure`` without style or script, to stand alone or inside a page; classes name what to style."""
    lines = ['<figure class="main-table">']
    for block in table.blocks:
        labels, columns = len(table.label_columns), len(block.columns)
        caption = f"{_caption(table)}{f', {block.heading}' if block.heading else ''}"
        heading = [f"<p>{escape_html(block.heading.capitalize())}</p>"] if block.heading else []
        lines += [
            *heading,
            "<table>",
            f"<caption>{escape_html(caption)}</caption>",
            f'<colgroup span="{labels}"></colgroup>',
            *(f'<colgroup span="{columns}"></colgroup>' for _ in table.prompt_sets),
            "<thead>",
            "<tr>",
            *(f'<th scope="col" rowspan="2">{escape_html(name)}</th>' for name in table.label_columns),
            *(f'<th scope="colgroup" colspan="{columns}">{escape_html(name)}</th>' for name in table.prompt_sets),
            "</tr>",
            "<tr>",
            *(f'<th scope="col">{escape_html(name)}</th>' for _ in table.prompt_sets for name in block.columns),
            "</tr>",
            "</thead>",
        ]
        for _, rows in groupby(table.rows, key=lambda row: row.base):
            lines.append("<tbody>")
            for row in rows:
                lines += ["<tr>", f'<th scope="row">{escape_html(row.labels[0])}</th>']
                lines += [f'<td class="label">{escape_html(label)}</td>' for label in row.labels[1:]]
                lines += [_html_cell(table, row.cells[p, name]) for p in table.prompt_sets for name in block.columns]
                lines.append("</tr>")
            lines.append("</tbody>")
        lines.append("</table>")
    lines.append('<figcaption class="notes">')
    lines += [f"<p>{escape_html(note)}</p>" for note in table.notes]
    return "\n".join([*lines, "</figcaption>", "</figure>"]) + "\n"


def _html_cell(table: MainTable, cell: Cell) -> str:
    tag = {1: "strong", 2: "u"}.get(cell.place)
    value = f"<{tag}>{escape_html(cell.value)}</{tag}>" if tag else escape_html(cell.value)
    if cell.tied:
        value += f' <span class="tied">{escape_html("≈")}</span>'
    title = f' title="{table.confidence} interval {escape_html(cell.interval)}"' if cell.interval else ""
    below = "".join(
        f' <span class="{name}{" decided" if mark else ""}">{escape_html(text + mark)}</span>'
        for name, (text, mark) in zip(_HTML_AGAINST, cell.against, strict=True)
        if text
    )
    best = ' class="best"' if cell.place == 1 else ""
    return f"<td{best}{title}>{value}{below}</td>"


def _caption(table: MainTable) -> str:
    return f"{table.title}: mean score of each variant by prompt set and scorer"
