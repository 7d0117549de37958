"""The report and the image browser in a real browser: ``make test-browser``."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from artifacts import layout
from artifacts.contracts import read_table, write_table
from evals.generation.settings import SamplingSettings
from evals.report.page import write_report
from evals.report.settings import GridSettings
from evals.tables import write_tables
from evals.tables.comparison import Comparison

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AXE = ROOT / "build/axe-core/package/axe.min.js"
HOSTILE = '</script><img src=x onerror="document.title=\'run\'"> & \u2028 "x" {{ 7 * 7 }} ${1}'
RIGHT_TO_LEFT = "قطة حمراء على سجادة زرقاء"
PROMPTS = {
    "seen": (
        "a red disc",
        HOSTILE,
        RIGHT_TO_LEFT,
        "赤い円と青い四角",
        "a cat 🐈‍⬛ with a 🎩",
        "a \u202eblue\u202c square " + "very " * 80 + "long",
        *(f"disc number {i}" for i in range(24)),
    ),
    "held-out": ("a green ring", "a $5 note_{x}", "<b>bold</b> and \\frac{1}{2}"),
}
CATEGORIES = ("shapes", "<i>odd</i>")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("there is no Chromium; tests/browser/install.sh installs Debian's")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """A written report: three variants, two seeds, hostile prompts, some gaps; not to be changed."""
    # Tests are imported by path, not as packages.
    spec = importlib.util.spec_from_file_location("unit_conftest", ROOT / "tests/unit/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Comparison = module.finished_benchmark(
        tmp_path_factory.mktemp("browser") / "toy",
        variants={
            "dmpo": ("dmpo", "renders", None),
            "dmpo+sdpo": ("dmpo", "renders", "dmpo"),
            "sft": ("sft", "renders", None),
        },
        prompts=PROMPTS,
        scorers={"pickscore": "sdpo", "oracle": "exact", "clip": "sdpo"},
        seeds=2,
        size=48,
    )
    seen = layout.prompts(found.root, "seen")
    table = read_table(seen, "prompts")
    write_table(seen, table.assign(category=[CATEGORIES[i % 2] for i in range(len(table))]), "prompts")
    write_tables(found)
    # What goes after the tables were made is a gap.
    layout.scores(found.root, "clip", "mini/sft/seed1", "seen").unlink()
    (layout.images(found.root, "mini/dmpo/seed0", "seen") / "00000.png").unlink()
    write_report(
        found, grid=GridSettings(prompt_set="seen", prompts=4, seed=0), generation=SamplingSettings(guidance_scale=4.0)
    )
    return found


class Opened:
    """A page, what it said on its console, and what it asked the network for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.said: list[str] = []
        self.asked: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        # An image that is gone is a gap of the benchmark.
        if not ("ERR_FILE_NOT_FOUND" in message.text and message.location["url"].endswith(".png")):
            self.said.append(message.text)

    def _request(self, request: Request) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.asked.append(request.url)


@pytest.fixture
def opened(chromium: Browser, comparison: Comparison) -> Iterator[Any]:
    """``opened("index.html", width=400, dark=True)``; all charts are drawn, and whatever is wrong fails the test."""
    pages: list[Opened] = []

    def open_page(file: str, *, width: int = 1200, dark: bool = False) -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", offline=True
        )
        found = Opened(context.new_page())
        pages.append(found)
        found.page.goto((comparison.root / "report" / file).as_uri())
        charts = found.page.locator("[data-chart]").count()
        if charts:
            found.page.locator("[data-chart][data-drawn]").nth(charts - 1).wait_for(state="attached")
        else:
            found.page.locator("#prompts > li").first.wait_for()
        return found.page

    yield open_page
    for found in pages:
        assert found.said == []
        assert found.asked == []
        assert found.page.title() != "run"
        found.page.context.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """Source of axe-core."""
    if not AXE.is_file():
        pytest.skip("there is no axe-core; tests/browser/install.sh fetches it by npm")
    return AXE.read_text(encoding="utf-8")
