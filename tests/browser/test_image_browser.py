from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from artifacts import layout
from artifacts.contracts import read_table
from evals.tables.comparison import Comparison

BROWSER = "browser/index.html"


def difference(comparison: Comparison, a: str, b: str, scorer: str = "pickscore") -> np.ndarray:
    first, second = (
        read_table(layout.scores(comparison.root, scorer, f"mini/{name}", "seen"), "scores")["score"].to_numpy()
        for name in (a, b)
    )
    return np.asarray(first - second)


def texts(comparison: Comparison, prompt_set: str = "seen") -> list[str]:
    found: list[str] = read_table(layout.prompts(comparison.root, prompt_set), "prompts")["prompt"].tolist()
    return found


def prompts(page: Any) -> list[str]:
    texts: list[str] = page.locator("#prompts .prompt").evaluate_all("nodes => nodes.map(node => node.textContent)")
    return texts


@pytest.mark.parametrize("width", [400, 900, 1400])
def test_fits_every_width(opened: Any, width: int) -> None:
    page = opened(BROWSER, width=width, dark=width == 900)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize(("order", "sign"), [("gain", -1), ("loss", 1)])
def test_orders_by_gain_and_loss_of_a_seed(opened: Any, comparison: Comparison, order: str, sign: int) -> None:
    page = opened(BROWSER)
    page.locator(f"input[value={order}]").check()
    for seed in (0, 1):
        page.locator("#seed").select_option(str(seed))
        found = difference(comparison, f"dmpo+sdpo/seed{seed}", f"dmpo/seed{seed}")
        expected = [texts(comparison)[i] for i in np.argsort(sign * found, kind="stable")]
        page.wait_for_timeout(300)
        assert prompts(page) == expected[:24]
        page.locator("#more").click()
        assert prompts(page) == expected
        assert not page.locator("#more").is_visible()


def test_orders_by_disagreement(opened: Any, comparison: Comparison) -> None:
    page = opened(BROWSER)
    page.locator("#a").select_option("dmpo")
    page.locator("#b").select_option("base")
    page.locator("input[value=disagreement]").check()
    page.wait_for_timeout(300)
    scaled = [difference(comparison, "dmpo/seed0", "base", name) for name in ("pickscore", "oracle", "clip")]
    scaled = [values / values.std() for values in scaled]
    spread = np.max(scaled, axis=0) - np.min(scaled, axis=0)
    assert prompts(page) == [texts(comparison)[i] for i in np.argsort(-spread)][:24]


def test_filters_by_category_and_text(opened: Any, comparison: Comparison) -> None:
    page = opened(BROWSER)
    page.locator("input[value=set]").check()
    page.locator("#category").select_option("<i>odd</i>")
    assert prompts(page) == texts(comparison)[1::2]
    page.locator("#text").fill("NUMBER 1")
    assert prompts(page) == [f"disc number {i}" for i in (1, 11, 13, 15, 17, 19)]
    assert page.locator("#said").inner_text() == "6 of 30 prompts"
    page.locator("#set").select_option("held-out")
    page.locator("#text").fill("")
    page.wait_for_timeout(300)
    assert sorted(prompts(page)) == sorted(texts(comparison, "held-out"))


def test_hostile_and_right_to_left_prompts_are_text(opened: Any, comparison: Comparison) -> None:
    page = opened(BROWSER)
    page.locator("input[value=set]").check()
    seen = texts(comparison)
    assert prompts(page)[:6] == seen[:6] and "</script>" in seen[1]
    assert page.locator("#prompts .prompt img, #prompts .prompt b").count() == 0
    shown = page.locator("#prompts .prompt")
    direction = "node => getComputedStyle(node).direction"
    assert [shown.nth(i).evaluate(direction) for i in (0, 2)] == ["ltr", "rtl"]
    shown.nth(1).click()
    assert page.locator("#one-title").evaluate("node => node.textContent") == seen[1]
    page.keyboard.press("Escape")
    shown.nth(2).click()
    assert page.locator("#one-title").inner_text() == seen[2]


def test_one_prompt_of_all_models_by_keyboard(opened: Any, comparison: Comparison) -> None:
    page = opened(BROWSER)
    page.locator("input[value=set]").check()
    page.locator("#seed").select_option("1")
    page.wait_for_timeout(300)
    page.locator("#prompts .prompt").nth(3).focus()
    page.keyboard.press("Enter")
    figures = page.locator("#one .models figure")
    assert figures.locator("strong").all_inner_texts() == ["base", "dmpo", "dmpo+sdpo", "sft"]
    table = read_table(layout.scores(comparison.root, "oracle", "mini/dmpo/seed1", "seen"), "scores")
    oracle = figures.nth(1).locator("dt:text-is('oracle') + dd").inner_text()
    assert float(oracle.replace("−", "-")) == pytest.approx(table["score"][3], rel=1e-3)
    # The image itself, and not a copy.
    assert figures.nth(1).locator("img").get_attribute("src") == "../../images/mini/dmpo/seed1/seen/00003.png"
    page.locator("#one img").last.wait_for()
    assert page.locator("#one img").evaluate_all("nodes => nodes.every(node => node.naturalWidth === 48)")
    # The score file of this model is gone.
    assert figures.nth(3).locator("dt:text-is('clip') + dd").inner_text() == "no score"


def test_a_number_of_the_report_leads_to_its_images(opened: Any) -> None:
    page = opened("index.html")
    page.locator("table.compared:not(.matrix) tr[data-a='sft'][data-scorer='oracle'] td:nth-child(4)").first.click()
    page.get_by_role("link", name="Its images").click()
    page.locator("#prompts > li").first.wait_for()
    chosen = [page.locator(f"#{name}").input_value() for name in ("a", "b", "scorer", "set")]
    assert chosen == ["sft", "base", "oracle", "0"]
    page.locator("#seed").select_option("1")
    page.wait_for_timeout(300)
    assert "seed=1" in page.url and "a=sft" in page.url


def test_missing_image_and_scores_are_named(opened: Any) -> None:
    page = opened(BROWSER)
    page.locator("input[value=set]").check()
    page.locator("#prompts li").first.locator(".gap").wait_for()
    assert page.locator("#prompts .gap").all_inner_texts() == ["00000.png is gone"]
    page.locator("#a").select_option("sft")
    page.locator("#seed").select_option("1")
    page.locator("#scorer").select_option("clip")
    page.wait_for_timeout(300)
    assert "no scores of both by clip" in page.locator("#said").inner_text()
    assert "no difference by clip" in page.locator("#prompts li").first.inner_text()
