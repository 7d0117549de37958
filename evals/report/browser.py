"""The image browser beside the page: every image of every prompt with its scores, loaded as they are asked for.

Where a prompt has several images, all of them are shown, with their means as the prompt's scores.

A page from disk may not read files, but it may load scripts: scores lie in one script a prompt set and model, and
images where they are.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from artifacts import layout
from artifacts.atomic import replaced_directory
from evals.images.folder import MANIFEST, read_manifest
from evals.report.document import embedded, render, resource
from evals.report.settings import BROWSER
from evals.tables.main_table import row_order

if TYPE_CHECKING:
    from evals.report.results import Compared
    from evals.report.score_files import ScoreFiles
    from evals.tables.comparison import ComparedModel, Comparison


def write_browser(comparison: Comparison, scores: ScoreFiles, pairs: tuple[Compared, ...]) -> Path:
    """Write ``report/browser/``: ``index.html`` and its data. It shows images at ``images/``, and copies none.

    All text is escaped, and shown as text. Missing scores and images are named where they would be.

    Args:
        comparison: models, prompt sets and scorers.
        scores: of every model.
        pairs: comparisons to begin with.

    Returns:
        The folder.

    Raises:
        InputError: a manifest of images is malformed.
    """
    folder = comparison.root / BROWSER
    page = render(
        "browser.html.j2",
        {"comparison": comparison, "about": _about(comparison, pairs)},
        styles=("page.css", "browser.css"),
        scripts=[resource("browser.js")],
        # 'self' is nothing on a page from disk.
        loads=("'self'", "file:"),
    )
    with replaced_directory(folder) as temporary:
        (temporary / "index.html").write_text(page, encoding="utf-8")
        for name, value in _data(comparison, scores):
            text = f"loaded({embedded(name)},{embedded(value)});\n"
            (temporary / f"{name}.js").write_text(text, encoding="utf-8")
    return folder


def _about(comparison: Comparison, pairs: tuple[Compared, ...]) -> dict[str, Any]:
    """What is there, for the controls; models, sets and scorers go by their place."""
    return {
        "models": [{"name": m.name, "variant": m.variant, "seed": m.seed} for m in comparison.models],
        "variants": row_order(comparison),
        "seeds": sorted({model.seed for model in comparison.models if model.seed is not None}),
        "sets": [
            {"name": name, "scorers": comparison.raters(name), "images": comparison.images_of(name)}
            for name in comparison.prompt_sets
        ],
        "scorers": [
            {
                "name": name,
                "sign": -1 if name in comparison.lower_is_better else 1,
                "judges": name in comparison.judges,
            }
            for name in comparison.scorers
        ],
        "pairs": [[pair.a, pair.b] for pair in pairs],
    }


def _data(comparison: Comparison, scores: ScoreFiles) -> Iterator[tuple[str, Any]]:
    for place, (name, table) in enumerate(scores.prompts.items()):
        columns = {column: table[column].tolist() for column in ("prompt_id", "prompt", "category")}
        yield f"prompts-{place}", columns
        for number, model in enumerate(comparison.models):
            found = {
                scorer: _packed(scores.values.get((model.name, name, scorer))) for scorer in comparison.raters(name)
            }
            data = {"scores": found, **_images(comparison, model, name, columns["prompt_id"])}
            if name in comparison.images_per_prompt:
                data["each"] = {scorer: _packed(scores.images.get((model.name, name, scorer))) for scorer in found}
            yield f"scores-{place}-{number}", data


def _packed(values: np.ndarray | None) -> str | None:
    """Numbers of 32 bits, row after row, little end first, as base64: what orders and shows scores needs no more."""
    return None if values is None else base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def _images(comparison: Comparison, model: ComparedModel, name: str, prompt_ids: list[str]) -> dict[str, Any]:
    """Folder, from the browser's, and file of each prompt's image, then of each prompt's second, …; no file where the
    manifest has none.
    """
    folder = layout.images(comparison.root, model.name, name)
    path = quote((Path("../..") / folder.relative_to(comparison.root)).as_posix())
    wanted = [(prompt_id, image) for image in range(comparison.images_of(name)) for prompt_id in prompt_ids]
    if not (folder / MANIFEST).is_file():
        return {"folder": path, "files": [None] * len(wanted)}
    columns = (read_manifest(folder)[column] for column in ("prompt_id", "image", "file"))
    files = {(prompt_id, image): file for prompt_id, image, file in zip(*columns, strict=True)}
    return {"folder": path, "files": [files.get(key) for key in wanted]}
