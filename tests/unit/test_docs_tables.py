"""The tables of the pages are those of the runs whose data lie beside them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_say_what_the_data_say(tables: ModuleType) -> None:
    with_tables = 0
    for page in tables.PAGES:
        text = page.read_text(encoding="utf-8")
        assert tables.filled(text) == text, f"{page.name}: run `python docs/tables.py`"
        with_tables += "<!-- end -->" in text
    assert with_tables >= 2


def test_a_number_that_was_typed_is_replaced(tables: ModuleType) -> None:
    typed = "<!-- scores miniature-tuning usual=seen -->\n\n| variant | usual |\n| base | 0.999 |\n\n<!-- end -->"
    filled = tables.filled(typed)
    assert "0.999" not in filled and "| base | 0.791 |  |" in filled
    # Two seeds: Diffusion-DPO is decided there, the safeguard's difference is not.
    assert "| diffusion-dpo | 0.779 | −0.012 ± 0.008† |" in filled
    assert "| dmpo+sdpo | dmpo | +0.043 ± 0.027† |" in tables.filled(
        "<!-- baselines miniature-tuning usual=seen -->\n<!-- end -->"
    )
    # Of the toy surface one figure inside the interval of one more seed, one outside; and a variant of five seeds.
    published = tables.filled("<!-- published toy-surface -->\n<!-- end -->")
    assert "| flowdpo-rft-b100 | 0.524 (0.539) |" in published and "| 0.454 (0.476) ✗ |" in published
    surface = tables.filled("<!-- surface toy-surface-rivals bdpo-b1 -->\n<!-- end -->")
    assert surface.count("|\n") == 3 and "| 0.680 | 0.670 to 0.691 |" in surface
