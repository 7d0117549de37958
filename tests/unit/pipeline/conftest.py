from __future__ import annotations

from typing import Any

import pytest

import evals.prompts
import evals.scorers
import sdpo.bases
import sdpo.objectives
import sdpo.pairs


@pytest.fixture
def few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fixed registries, so that expected messages stay the same when the project learns a new name."""
    for module, names in (
        (sdpo.bases, ["miniature", "stable_diffusion"]),
        (sdpo.pairs, ["miniature_renders"]),
        (sdpo.objectives, ["dmpo", "dspo", "sft"]),
        (evals.prompts, ["miniature_seen", "text_file"]),
        (evals.scorers, ["hpsv2", "oracle", "pickscore"]),
    ):
        monkeypatch.setattr(module, "names", lambda names=names: names)


@pytest.fixture
def config() -> dict[str, Any]:
    """A config without errors: dmpo with and without safeguard, two seeds, two prompt sets, two scorers."""
    return {
        "benchmark": "tiny",
        "base": {"name": "miniature", "family": "miniature", "path": "resources/miniature/base"},
        "pairs": {"renders": {"source": "miniature_renders", "options": {"pairs": 40, "heldout": 8}}},
        "training": {"steps": 4, "warmup_steps": 1},
        "variants": [
            {"name": "sft", "objective": "sft", "pairs": "renders"},
            {"name": "dmpo", "objective": "dmpo", "parameters": {"beta": 2000}, "pairs": "renders"},
            {
                "name": "dmpo+sdpo",
                "objective": "dmpo",
                "parameters": {"beta": 2000, "alpha": 0.01},
                "safeguard": {"mu": 0.9},
                "pairs": "renders",
            },
        ],
        "seeds": [0, 1],
        "prompt_sets": {
            "seen": {"source": "miniature_seen", "limit": 4},
            "own": {"source": "text_file", "options": {"path": "prompts.txt"}},
        },
        "scorers": {"oracle": {}, "pickscore": {"protocol": "sdpo", "weights": "resources/miniature/pickscore"}},
        # One job a cell, so that each is of one thing.
        "execution": {"seeds_per_job": 1, "prompt_sets_per_job": 1, "scorers_per_job": 1},
    }
