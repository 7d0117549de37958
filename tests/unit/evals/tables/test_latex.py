"""What LaTeX says of the main table, where one is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from evals.tables.formats import to_latex
from evals.tables.main_table import Block, Cell, MainTable, Marked, TableRow

TABLE = MainTable(
    title="50 % of $x_1^2 & #{hostile}~\\",
    label_columns=("variant", "safeguard"),
    prompt_sets=("seen", "held_out"),
    blocks=(Block("", ("pickscore", "hps_v2")), Block("what describes", ("jpeg_size",))),
    confidence="95%",
    rows=tuple(
        TableRow(
            (name, "on"),
            base,
            {
                (prompt_set, scorer): cell
                for prompt_set in ("seen", "held_out")
                for scorer in ("pickscore", "hps_v2", "jpeg_size")
            },
        )
        for base, name, cell in (
            ("a", "base", Cell("-0.12", 2, True)),
            ("a", "[dpo]*", Cell("0.30", 1, False, "0.1 to 0.2", (Marked("+0.1 ± 0.02", "†"), Marked("-3 ± 4")))),
            ("b", "dmpo<&>", Cell("–", 0, True, "", (Marked("0.4 to 0.6", "‡"), Marked("0.1 to 0.9")))),
        )
    ),
    against=("minus base", "minus baseline"),
    notes=("100 % λ ≈ † ‡ ± |x| \"quoted\" 'too'",),
)


def test_marks_of_best_second_and_tied_and_a_line_a_difference() -> None:
    lines = to_latex(TABLE).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("{[}dpo]{*} & "))
    assert r"$\mathbf{0.30}$" in lines[first]
    assert r"\quad\scriptsize minus base & & " in lines[first + 1].replace("&  &", "& &")
    assert r"$+0.1 \pm 0.02^{\dagger}$" in lines[first + 1]
    assert r"\scriptsize minus baseline" in lines[first + 2] and r"$-3 \pm 4$" in lines[first + 2]
    assert r"$\underline{-0.12}^{\approx}$" in "\n".join(lines)
    assert [line for line in lines if line in (r"\toprule", r"\bottomrule")] == [r"\toprule", r"\bottomrule"]
    columns = {line.count(" & ") for line in lines if line.endswith(r"\\") and r"\multicolumn" not in line}
    # Two labels, and beside them two sets of two columns or of one.
    assert columns == {5, 3}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_typesets_the_table(tmp_path: Path) -> None:
    (tmp_path / "main.tex").write_text(to_latex(TABLE), encoding="utf-8")
    page = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
\input{main.tex}
\end{document}
"""
    (tmp_path / "page.tex").write_text(page, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Undefined" not in done.stdout and "Missing character" not in done.stdout
    assert (tmp_path / "page.pdf").stat().st_size > 0
