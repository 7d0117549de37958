from __future__ import annotations

from artifacts.markdown import escape, plain_table, table


def test_cells_stand_on_their_sides_as_they_were_written() -> None:
    body = [["  − base", "+0.50"], ["", "1e5"], ["007", "-"]]
    assert table(["variant", "p"], body, "lr").splitlines() == [
        "| variant  |     p |",
        "| -------- | ----: |",
        "|   − base | +0.50 |",
        "|          |   1e5 |",
        "| 007      |     - |",
    ]


def test_narrow_columns_have_a_rule_that_markdown_knows() -> None:
    assert table(["a", "b"], [["x", "1"]], "lr").splitlines()[1] == "| --- | --: |"
    assert table(["a", "b"], [], "lr").splitlines() == ["| a   |   b |", "| --- | --: |"]


def test_long_cells_may_stay_as_they_are() -> None:
    assert table(["key", "meaning"], [["`a`", "of several words"], ["`bc`", "–"]], "--").splitlines() == [
        "| key | meaning |",
        "| --- | --- |",
        "| `a` | of several words |",
        "| `bc` | – |",
    ]


def test_a_plain_table_ends_no_line_with_blanks() -> None:
    assert plain_table([["name", "mean "], ["a", "0.20*"], ["bc", "1.5 "]], "lr").splitlines() == [
        "name  mean",
        "a     0.20*",
        "bc     1.5",
    ]


def test_escaped_text_has_no_markup_and_no_line_end() -> None:
    assert escape("*a* `b` [c](d) # <i>") == r"\*a\* \`b\` \[c\](d) \# &lt;i&gt;"
    assert escape("a|b\nc_d") == r"a\|b c\_d"
