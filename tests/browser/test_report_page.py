from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from evals.report.results import Results
from evals.tables.comparison import Comparison

COMPARED = "table.compared:not(.matrix)"


def shown(page: Any, column: int) -> list[str]:
    """Texts of a column of the comparison table, of the rows in sight."""
    rows = page.locator(f"{COMPARED} tbody tr:visible")
    return [text.strip() for text in rows.locator(f"xpath=*[{column + 1}]").all_inner_texts()]


def overflow(page: Any) -> int:
    wider: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return wider


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 900, 1400])
def test_opens_at_every_width_light_and_dark(opened: Any, tmp_path: Path, width: int, dark: bool) -> None:
    page = opened("index.html", width=width, dark=dark)
    assert overflow(page) <= 0
    page.screenshot(path=tmp_path / "page.png")
    brightness = Image.open(tmp_path / "page.png").convert("L").getpixel((2, 2))
    assert (brightness < 128) == dark  # type: ignore[operator]
    # Lines of charts have the colour of the scheme, by the page's style.
    line = page.locator("[data-chart=drift] path[stroke='var(--guarded-1)']").first
    assert line.evaluate("node => getComputedStyle(node).stroke") == (
        "rgb(86, 180, 233)" if dark else "rgb(0, 114, 178)"
    )
    widths = page.locator(".chart svg").evaluate_all("nodes => nodes.map(node => node.getBoundingClientRect().width)")
    assert len(widths) == 6 and max(widths) <= width


def test_sorts_by_a_column_and_says_so(opened: Any, comparison: Comparison) -> None:
    page = opened("index.html")
    head = page.locator(f"{COMPARED} th", has_text="difference")
    rows = [row for row in Results.read(comparison.root).differences if row.prompt_set == "all"]
    printed = shown(page, 7)

    def values() -> list[float]:
        return [float(text.replace("−", "-")) for text in shown(page, 7) if text]

    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert values() == sorted(values(), reverse=True) and len(values()) == len(rows)
    assert values()[0] == pytest.approx(max(row.mean_difference for row in rows), abs=1e-2)
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert values() == sorted(values())
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "none"
    assert shown(page, 7) == printed


def test_filters_rows_by_prompt_set_scorer_and_text(opened: Any) -> None:
    page = opened("index.html")
    region = page.get_by_role("region", name="Every comparison")
    bar = region.locator("xpath=preceding-sibling::div[1]")
    assert set(shown(page, 1)) == {"all"}
    bar.get_by_label("prompt set").select_option("held-out")
    bar.get_by_label("scorer").select_option("oracle")
    assert set(shown(page, 1)) == {"held-out"} and set(shown(page, 2)) == {"oracle"}
    # Baseline, and three variants against the base.
    assert len(shown(page, 1)) == 4 and bar.get_by_role("status").inner_text().startswith("4 of ")
    bar.get_by_label("text").fill("SFT")
    assert [text.split()[0] for text in page.locator(f"{COMPARED} tbody tr:visible th").all_inner_texts()] == ["sft"]


def test_filters_columns_of_the_scores(opened: Any) -> None:
    page = opened("index.html")
    table = page.locator("figure.main-table table")
    bar = page.locator("#scores ~ .filters").first
    bar.get_by_label("prompt set").select_option("held-out")
    bar.get_by_label("scorer").select_option("clip")
    heads = table.locator("thead th:visible").all_inner_texts()
    assert [text.strip().removesuffix("↕") for text in heads][-2:] == ["held-out", "clip"]
    assert len(table.locator("tbody tr").first.locator("td:visible").all()) == 2


def test_says_where_a_number_comes_from_by_keyboard_alone(opened: Any, comparison: Comparison) -> None:
    page = opened("index.html")
    table = page.locator("figure.main-table table")
    # One stop of the Tab key a table.
    assert table.locator("td[tabindex='0']").count() == 1
    table.locator("td[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    dialog = page.locator("#origin")
    assert dialog.get_by_role("heading", level=2).inner_text() == "dmpo, oracle on seen"
    text = dialog.inner_text()
    for seed in (0, 1):
        assert f"models/mini/dmpo/seed{seed}" in text
        assert f"scores/oracle/mini/dmpo/seed{seed}/seen.parquet" in text
    assert "seen (30 prompts)" in text and "2 models, 60 scores" in text
    assert "oracle, exact, oracle" in text and "0123456789ab with uncommitted changes" in text
    files = dialog.locator("dt:text-is('score files') + dd").all_inner_texts()
    assert all((comparison.root / file).is_file() for file in files)
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    page.locator("table.matrix td").first.click()
    assert "dmpo+sdpo vs dmpo" in dialog.get_by_role("heading", level=2).inner_text()


def test_a_number_comes_only_from_what_its_scorer_rates(opened: Any, comparison: Comparison) -> None:
    """As if ``clip`` rated one of the two sets."""
    page = (comparison.root / "report/index.html").read_text(encoding="utf-8")
    limited, count = re.subn(r'("rated": ?\{.*?"clip": ?)\["seen", ?"held-out"\]', r'\1["seen"]', page, flags=re.S)
    assert count == 1
    (comparison.root / "report/limited.html").write_text(limited, encoding="utf-8")
    opened_page = opened("limited.html")
    dialog = opened_page.locator("#origin")
    for scorer, told in (("clip", "30 prompts; 4 models, 120 scores"), ("mean of judges", "33 prompts; 4 models")):
        opened_page.locator(f"table.matrix td[data-scorer='{scorer}']").first.click()
        text = dialog.inner_text()
        assert told in text
        assert ("held-out" in text, "clip, sdpo" in text) == ((False, True) if scorer == "clip" else (True, False))
        opened_page.keyboard.press("Escape")


def test_charts_answer_to_the_choice_of_a_prompt_set_and_to_hover(opened: Any, comparison: Comparison) -> None:
    page = opened("index.html")
    figure = page.locator("figure", has=page.locator("[data-chart=differences]"))
    before = figure.locator("svg").inner_html()
    figure.locator("select").select_option("held-out")
    assert figure.locator("svg").inner_html() != before
    drift = page.locator("[data-chart=drift]")
    drift.scroll_into_view_if_needed()
    points = drift.locator("path[stroke-width='2']")
    assert points.count() > 0
    symbol = drift.locator(".mark-symbol path[fill='var(--guarded-1)']").nth(2)
    symbol.hover()
    told = page.locator("#vg-tooltip-element")
    assert "dmpo+sdpo" in told.inner_text() and "optimizer step" in told.inner_text()


def test_gaps_are_named(opened: Any) -> None:
    page = opened("index.html")
    gaps = page.locator(".gaps li").all_inner_texts()
    assert len(gaps) == 2
    assert "no scores of mini/sft/seed1 by clip on seen" in gaps[0]
    assert gaps[1].endswith("images/mini/dmpo/seed0/seen/00000.png: gone")
    assert page.locator("table.grid .gap").all_inner_texts() == ["00000.png is gone"]


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("file", ["index.html", "browser/index.html"])
def test_axe_finds_nothing_serious(opened: Any, axe: str, file: str, dark: bool) -> None:
    page = opened(file, dark=dark)
    if file == "index.html":
        page.locator("table.matrix td").first.click()
        page.keyboard.press("Escape")
    page.evaluate(axe)
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    serious = [
        (violation["id"], [(node["html"], node["failureSummary"]) for node in violation["nodes"][:3]])
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
    assert serious == [], json.dumps(serious, indent=1)


def test_prints_without_controls_and_on_white(opened: Any) -> None:
    page = opened("index.html", dark=True)
    page.emulate_media(media="print")
    assert page.locator(".filters:visible, nav:visible, .choices:visible").count() == 0
    line = page.locator("[data-chart=drift] path[stroke='var(--guarded-1)']").first
    assert line.evaluate("node => getComputedStyle(node).stroke") == "rgb(0, 114, 178)"
    assert page.locator("body").evaluate("node => getComputedStyle(node).backgroundColor") == "rgb(255, 255, 255)"
