"""The main table as Markdown, plain text, LaTeX and HTML; every text is escaped for its format."""

from __future__ import annotations

import html
import re
import textwrap

from evals.tables.main_table import Cell, MainTable

_MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~])")
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
    "λ": r"$\lambda$",
    "\n": " ",
}


_LATEX_COLUMNS = 9
"""Columns of scores that fit beside one another on a page."""


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, also within a table cell."""
    return _MARKDOWN.sub(r"\\\1", html.escape(text, quote=False)).replace("\n", " ")


def escape_latex(text: str) -> str:
    """Text that LaTeX typesets as it is."""
    return "".join(_LATEX.get(character, character) for character in text)


def escape_html(text: str) -> str:
    """Text for an HTML element or attribute, in ASCII, so that it does not depend on a declared encoding."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode("ascii")


def to_markdown(table: MainTable) -> str:
    """One table a prompt set, aligned so that it reads well as plain text too, and the notes as a list."""

    def cell(value: Cell) -> str:
        text = f"{value.mean} ± {value.half_width}"
        return f"**{text}**" if value.best else text

    lines = [f"## {escape_markdown(table.title)}", ""]
    labels = len(table.label_columns)
    for prompt_set in table.prompt_sets:
        header = [escape_markdown(name) for name in (*table.label_columns, *table.scorers)]
        body = [
            [*map(escape_markdown, row.labels), *(cell(row.cells[prompt_set, scorer]) for scorer in table.scorers)]
            for row in table.rows
        ]
        widths = [max(3, *(len(row[i]) for row in [header, *body])) for i in range(len(header))]
        rule = ["-" * width if i < labels else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
        lines += [f"### {escape_markdown(prompt_set)}", ""]
        lines += ["| " + " | ".join(_aligned(row, widths, labels)) + " |" for row in [header, rule, *body]]
        lines.append("")
    lines += [f"- {escape_markdown(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def to_text(table: MainTable) -> str:
    """For the terminal: one block a prompt set, rows variants, columns scorers, ``*`` after the best mean."""

    def cell(value: Cell) -> str:
        return f"{value.mean}{'*' if value.best else ' '}±{value.half_width}"

    lines: list[str] = []
    labels = len(table.label_columns)
    for prompt_set in table.prompt_sets:
        header = [*table.label_columns, *table.scorers]
        body = [[*row.labels, *(cell(row.cells[prompt_set, scorer]) for scorer in table.scorers)] for row in table.rows]
        widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
        lines.append(f"{table.title} / {prompt_set}")
        lines += ["  " + "  ".join(_aligned(row, widths, labels)).rstrip() for row in [header, *body]]
        lines.append("")
    for note in table.notes:
        lines += textwrap.wrap(note, width=100, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines) + "\n"


def _aligned(cells: list[str], widths: list[int], labels: int) -> list[str]:
    """Label cells to the left, numbers to the right."""
    return [
        cell.ljust(width) if i < labels else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def to_latex(table: MainTable) -> str:
    """A ``table*`` to ``\\input``; it needs the packages booktabs and graphicx.

    Prompt sets stand side by side, as in papers, as long as that can be read on a page, and below one another beyond.
    """

    def cell(value: Cell) -> str:
        mean = rf"\mathbf{{{value.mean}}}" if value.best else value.mean
        return rf"${mean} \pm {value.half_width}$"

    labels, scorers = len(table.label_columns), len(table.scorers)
    beside = min(max(1, _LATEX_COLUMNS // scorers), len(table.prompt_sets))
    lines = [
        r"% \input this file; it needs \usepackage{booktabs,graphicx}.",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape_latex(_caption(table))}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{'l' * labels}{'r' * (scorers * beside)}}}",
    ]
    for start in range(0, len(table.prompt_sets), beside):
        shown = table.prompt_sets[start : start + beside]
        groups = [rf"\multicolumn{{{scorers}}}{{c}}{{{escape_latex(prompt_set)}}}" for prompt_set in shown]
        firsts = [labels + i * scorers + 1 for i in range(len(shown))]
        header = [*table.label_columns, *table.scorers * len(shown)]
        lines += [
            r"\midrule" if start else r"\toprule",
            " & ".join([""] * labels + groups) + r" \\",
            " ".join(rf"\cmidrule(lr){{{first}-{first + scorers - 1}}}" for first in firsts),
            " & ".join(escape_latex(name) for name in header) + r" \\",
            r"\midrule",
        ]
        for row in table.rows:
            cells = [cell(row.cells[prompt_set, scorer]) for prompt_set in shown for scorer in table.scorers]
            lines.append(" & ".join([*map(escape_latex, row.labels), *cells]) + r" \\")
    lines += [
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip\footnotesize\raggedright",
        *(escape_latex(note) for note in table.notes),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def to_html(table: MainTable) -> str:
    """A ``figure`` without style or script, to stand alone or inside a page; classes name what to style."""

    def cell(value: Cell) -> str:
        mean = f"<strong>{value.mean}</strong>" if value.best else value.mean
        title = f"{table.confidence} interval {value.low} to {value.high}"
        opening = f'<td class="best" title="{title}">' if value.best else f'<td title="{title}">'
        return f'{opening}{mean} <span class="half-width">&#177; {value.half_width}</span></td>'

    labels, scorers = len(table.label_columns), len(table.scorers)
    lines = [
        '<figure class="main-table">',
        "<table>",
        f"<caption>{escape_html(_caption(table))}</caption>",
        f'<colgroup span="{labels}"></colgroup>',
        *(f'<colgroup span="{scorers}"></colgroup>' for _ in table.prompt_sets),
        "<thead>",
        "<tr>",
        *(f'<th scope="col" rowspan="2">{escape_html(name)}</th>' for name in table.label_columns),
        *(f'<th scope="colgroup" colspan="{scorers}">{escape_html(name)}</th>' for name in table.prompt_sets),
        "</tr>",
        "<tr>",
        *(f'<th scope="col">{escape_html(name)}</th>' for _ in table.prompt_sets for name in table.scorers),
        "</tr>",
        "</thead>",
        "<tbody>",
    ]
    for row in table.rows:
        lines.append("<tr>")
        lines.append(f'<th scope="row">{escape_html(row.labels[0])}</th>')
        lines += [f'<td class="label">{escape_html(label)}</td>' for label in row.labels[1:]]
        lines += [cell(row.cells[p, s]) for p in table.prompt_sets for s in table.scorers]
        lines.append("</tr>")
    lines += ["</tbody>", "</table>", '<figcaption class="notes">']
    lines += [f"<p>{escape_html(note)}</p>" for note in table.notes]
    return "\n".join([*lines, "</figcaption>", "</figure>"]) + "\n"


def _caption(table: MainTable) -> str:
    return f"{table.title}: mean score of each variant by prompt set and scorer"
