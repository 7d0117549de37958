"""What tables, report and MLflow import of a large benchmark take, and how long a browser needs to open the page.

Files of a finished benchmark are made up: random scores, one picture a model under many names. Then ``evals compare``,
``report`` and ``track`` run as commands, and the page opens in Chromium if there is one (``tests/browser/install.sh``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from artifacts import layout
from artifacts.atomic import write_json
from artifacts.contracts import CONTRACTS, write_table
from evals.report.settings import BROWSER
from evals.tables.comparison import ComparedModel, Comparison, Statistics

SHARES = {"hpdv2": 0.6, "partiprompts": 0.3, "papv2": 0.1}
STEPS = np.arange(10, 2001, 10)


def models(variants: int, seeds: int) -> list[ComparedModel]:
    """The base, and trained variants, every second with the safeguard."""
    found = [ComparedModel(name="mini/base", base="mini", variant="base")]
    for number in range(variants - 1):
        plain = f"objective-{number // 2}"
        guarded = number % 2 == 1
        variant = f"{plain}+sdpo" if guarded else plain
        found += [
            ComparedModel(
                name=layout.model_name("mini", variant, seed), base="mini", variant=variant, objective=plain,
                safeguard=guarded, seed=seed, pairs="renders", baseline=plain if guarded else None,
            )
            for seed in range(seeds)
        ]  # fmt: skip
    return found


def write_model(comparison: Comparison, model: ComparedModel, prompts: dict[str, list[str]], picture: int) -> None:
    """Images, scores, logs and provenance of one model."""
    generator = np.random.default_rng(picture)
    source = comparison.root / "pictures" / f"{picture}.png"
    source.parent.mkdir(exist_ok=True)
    colours = generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(colours).resize((512, 512), Image.Resampling.BICUBIC))
    # As large as a file of a drawn picture: smaller ones are looked into, since they may be flat.
    Image.fromarray((smooth + generator.integers(-6, 7, smooth.shape)).clip(0, 255).astype(np.uint8)).save(source)
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    provenance = {"git_commit": "0" * 40, "config_sha256": "1" * 64, "wall_seconds": 3600.0, "device": "cpu"}
    for name, ids in prompts.items():
        folder = layout.images(comparison.root, model.name, name)
        folder.mkdir(parents=True)
        files = [f"{index:05d}.png" for index in range(len(ids))]
        for file in files:
            os.link(source, folder / file)
        manifest = {"prompt_id": ids, "file": files, "seed": range(len(ids)), "sha256": sha256}
        write_table(folder / "manifest.parquet", pd.DataFrame(manifest), "manifest")
        write_json(folder / "provenance.json", provenance)
        for scorer, protocol in comparison.scorers.items():
            scores = {"prompt_id": ids, "protocol": protocol, "score": generator.normal(size=len(ids))}
            scores |= {
                "truncated": False,
                "image_sha256": sha256,
                "fingerprint": hashlib.sha256(scorer.encode()).hexdigest(),
            }
            write_table(layout.scores(comparison.root, scorer, model.name, name), pd.DataFrame(scores), "scores")
    if model.trained:
        folder = layout.model(comparison.root, model.name)
        for contract in ("training", "drift"):
            table = pd.DataFrame({name: generator.random(len(STEPS)) for name in CONTRACTS[contract].columns})
            whole = {name: 1 for name, column in CONTRACTS[contract].columns.items() if column.type == "int64"}
            write_table(folder / f"{contract}.parquet", table.assign(**{**whole, "step": STEPS}), contract)
        write_json(folder / "provenance.json", {**provenance, "spec": {"training": {"steps": int(STEPS[-1])}}})


def made_up(root: Path, arguments: argparse.Namespace) -> Comparison:
    """Write everything that tables and report read."""
    sizes = {name: round(share * arguments.prompts) for name, share in SHARES.items()}
    sizes["papv2"] += arguments.prompts - sum(sizes.values())
    scorers = {f"scorer-{number}": "sdpo" for number in range(arguments.scorers)}
    members = tuple(models(arguments.variants, arguments.seeds))
    comparison = Comparison("large", root, members, tuple(sizes), scorers, Statistics())
    prompts = {}
    for name, count in sizes.items():
        ids = prompts[name] = [f"{name}-{index:05d}" for index in range(count)]
        texts = [f"a photograph of thing {index} of {name}, in some detail and at dusk" for index in range(count)]
        table = pd.DataFrame(
            {"prompt_id": ids, "prompt": texts, "category": [f"{i % 10}" for i in range(count)], "source": "x"}
        )
        write_table(layout.prompts(root, name), table, "prompts")
    for number, model in enumerate(members):
        write_model(comparison, model, prompts, number)
    return comparison


def run(command: str, spec: dict[str, Any]) -> str:
    """Run ``evals COMMAND``; seconds of wall and CPU time, and the greatest memory."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    code = "import sys; from evals.cli import main; sys.exit(main())"
    subprocess.run([sys.executable, "-c", code, command, "--spec", "-"], input=json.dumps(spec), text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    wall = time.perf_counter() - started
    return f"{wall:.1f} s, {cpu:.1f} s of CPU time, at most {after.ru_maxrss / 1e6:.2f} GB"


_FRAMES = """() => new Promise((done) => {
  let last = performance.now(), longest = 0, y = 0;
  const frame = (now) => {
    longest = Math.max(longest, now - last);
    last = now;
    scrollTo(0, y += 400);
    if (y < document.documentElement.scrollHeight) requestAnimationFrame(frame); else done(longest);
  };
  requestAnimationFrame(frame);
})"""
_FILTERS = """() => {
  const times = [...document.querySelectorAll('input[type=search]')].map((field) => {
    const started = performance.now();
    field.value = 'sdpo';
    field.dispatchEvent(new Event('input', { bubbles: true }));
    document.body.offsetHeight;
    return performance.now() - started;
  });
  return Math.max(0, ...times);
}"""


def opening(page: Path) -> str:
    """Seconds until a page has loaded and all is drawn, then the longest frame of scrolling and of a filter."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        return "there is no Chromium"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        started = time.perf_counter()
        tab.goto(page.as_uri())
        loaded = time.perf_counter() - started
        charts = tab.locator("[data-chart]").count()
        last = tab.locator("[data-chart][data-drawn]").nth(charts - 1) if charts else tab.locator("#prompts li").first
        last.wait_for(state="attached", timeout=120_000)
        drawn = time.perf_counter() - started
        scrolled, filtered = tab.evaluate(_FRAMES), tab.evaluate(_FILTERS)
        browser.close()
    return (
        f"loaded in {loaded:.2f} s, all drawn in {drawn:.2f} s, then at most {scrolled:.0f} ms a frame of scrolling, "
        f"{filtered:.0f} ms a filter"
    )


def main() -> None:
    """Make up, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("variants", 16), ("prompts", 5319), ("scorers", 7), ("seeds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "large"
        comparison = made_up(root, arguments)
        spec = comparison.to_spec()
        print(f"tables: {run('compare', spec)}", flush=True)
        grid = {"prompt_set": "hpdv2", "prompts": 8, "seed": 0}
        print(f"report: {run('report', {**spec, 'grid': grid})}", flush=True)
        store = Path(folder) / "mlflow"
        tracked = {"database": store / "mlflow.db", "artifacts": store / "artifacts", "marker": store / "imported.json"}
        # Where the environment names a server, that one would be taken.
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        print(
            f"import of {len(comparison.models)} models: {run('track', spec | {k: str(v) for k, v in tracked.items()})}"
        )
        page, browser = root / "report/index.html", root / BROWSER
        data = [file.stat().st_size for file in browser.iterdir()]
        print(f"page {page.stat().st_size / 1e6:.1f} MB, browser {sum(data) / 1e6:.1f} MB in {len(data)} files")
        print(f"page: {opening(page)}\nbrowser: {opening(browser / 'index.html')}")


if __name__ == "__main__":
    main()
