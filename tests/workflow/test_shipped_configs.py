"""Which jobs the configs for real models announce, without their weights and data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        # Seven variants of one seed and the base, shared by eight jobs each.
        ("paper-sd15", {"pairs": 1, "train": 7, "generate": 8 * 8, "collect": 8, "score": 8}),
        ("paper-sdxl", {"pairs": 1, "train": 7, "generate": 8 * 8, "collect": 8, "score": 8}),
        # Five variants of one seed and the base.
        ("paper-sd3", {"pairs": 1, "train": 5, "generate": 6 * 8, "collect": 6, "score": 6}),
        ("paper-ovis-u1", {"pairs": 1, "train": 5, "generate": 6 * 8, "collect": 6, "score": 6}),
        # Twelve released models and two bases.
        ("published", {"generate": 14 * 8, "collect": 14, "score": 14}),
    ],
)
def test_a_dry_run_lists_the_jobs(
    name: str, counts: dict[str, int], tmp_path: Path, planned_jobs: Callable[[Path, Path], tuple[dict[str, int], str]]
) -> None:
    jobs, text = planned_jobs(ROOT / f"config/{name}.yaml", tmp_path)
    assert jobs == {**counts, "prompts": 3, "compare": 1, "report": 1, "track": 1, "all": 1}
    assert 'scorers.clip.weights = "weights/clip": no such file or folder; fetch it with' in text
