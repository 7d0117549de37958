"""How good the miniature's base and scorers are, measured by the oracle."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evals.tables.intervals import Prompts, rate
from worlds.miniature import oracle
from worlds.miniature.pairs_samples import draw
from worlds.miniature.scenes import random_scene

# The least that a trained base must reach; chance is 1/8 for colours, 1/4 for shapes and relations, 1/2 for sizes.
REQUIRED_ATTRIBUTES = {"background": 0.9, "colour": 0.9, "size": 0.9, "shape": 0.8}
REQUIRED_RELATION = 0.35
REQUIRED_AGREEMENT = {"pickscore": 0.75, "hpsv2": 0.75, "imagereward": 0.75}


def base_quality(base: Path, *, prompts: int = 400, sheet: Path | None = None) -> dict[str, Any]:
    """Attributes that the base draws as asked, on one-object and on two-object prompts.

    Args:
        base: folder of the base.
        prompts: prompts of each kind, from all combinations, held-out ones included.
        sheet: where to write a contact sheet of 8 x 16 pictures, if anywhere.

    Returns:
        ``one_object`` and ``two_objects``, each with the share of every attribute drawn right, ``faithfulness``,
        ``cleanness`` and ``score``.
    """
    rng = np.random.default_rng(31)
    answer: dict[str, Any] = {"prompts": prompts}
    shown = []
    for kind, two_objects in (("one_object", 0.0), ("two_objects", 1.0)):
        scenes = [random_scene(rng, two_objects=two_objects) for _ in range(prompts)]
        pictures = draw(base, scenes, key=f"quality-{kind}", steps=10, guidance_scale=4.0)
        verdicts = oracle.judge(pictures, scenes)
        right: dict[str, list[bool]] = defaultdict(list)
        for verdict in verdicts:
            for name, correct in verdict.attributes.items():
                right[name.rstrip("12")].append(correct)
        answer[kind] = {name: round(float(np.mean(values)), 4) for name, values in right.items()}
        for name in ("faithfulness", "cleanness", "score"):
            answer[kind][name] = round(float(np.mean([getattr(v, name) for v in verdicts])), 4)
        shown.append(pictures[:64])
    if sheet is not None:
        _contact_sheet(np.concatenate(shown), sheet)
    return answer


def _contact_sheet(pictures: np.ndarray, path: Path) -> None:
    from PIL import Image

    from artifacts.atomic import replaced_file

    rows = [np.concatenate(list(pictures[i : i + 16]), axis=1) for i in range(0, len(pictures), 16)]
    image = Image.fromarray(np.concatenate(rows))
    with replaced_file(path) as temporary:
        image.resize((image.width * 2, image.height * 2), Image.Resampling.NEAREST).save(temporary, format="PNG")


def scorer_agreement(scorers: Path, data: Any) -> dict[str, Any]:
    """How often each scorer ranks a held-out pair as the oracle does; pairs that the oracle calls ties are left out.

    Args:
        scorers: folder with one folder a scorer.
        data: :class:`worlds.miniature.scorer_data.ScorerData`.

    Returns:
        ``{"scorers": {name: {"agreement", "pairs", "prompts", "ci_low", "ci_high"}}}``, intervals at 95 % in which
        a prompt is one unit, since its pairs share pictures.
    """
    from PIL import Image

    from evals.scorers import create

    pairs = data.heldout_pairs()
    truth = data.scores[pairs[:, 0], pairs[:, 1]] > data.scores[pairs[:, 0], pairs[:, 2]]
    captions = [data.captions[p] for p in pairs[:, 0]]
    answer = {}
    for name in ("pickscore", "hpsv2", "imagereward", "aesthetic", "clip"):
        scorer = create(name, weights=scorers / name)
        first, second = (
            scorer.score([Image.fromarray(p) for p in data.pictures[pairs[:, 0], pairs[:, side]]], captions)
            for side in (1, 2)
        )
        answer[name] = agreement((first > second) == truth, pairs[:, 0])
    return {"scorers": answer}


def agreement(agreed: NDArray[np.bool_], prompts: NDArray[np.int64]) -> dict[str, float]:
    """Share of pairs that a scorer ranks as the oracle does, with its interval.

    Args:
        agreed: (N,), one a pair.
        prompts: (N,), the prompt of each pair.
    """
    different, groups = np.unique(prompts, return_inverse=True)
    found = rate(agreed.astype(np.float64)[None], Prompts(groups, np.zeros_like(groups)))
    low, high = found.interval(0.95)
    return {"agreement": found.share, "pairs": len(agreed), "prompts": len(different), "ci_low": low, "ci_high": high}


def shortfalls(bases: dict[str, dict[str, Any]], agreement: dict[str, Any]) -> list[str]:
    """One line for each requirement that is not met, by a base or a scorer."""
    lines = []
    for owner, base in bases.items():
        for name, least in REQUIRED_ATTRIBUTES.items():
            if (found := base["one_object"][name]) < least:
                lines.append(f"{owner}: {name} is right on {found:.3f} of one-object prompts, required {least}")
        if (found := base["two_objects"]["relation"]) < REQUIRED_RELATION:
            lines.append(f"{owner}: relation is right on {found:.3f}, required {REQUIRED_RELATION}")
    for name, least in REQUIRED_AGREEMENT.items():
        found = agreement["scorers"][name]["agreement"]
        if found < least:
            lines.append(f"{name}: agrees with the oracle on {found:.3f} of held-out pairs, required {least}")
    return lines
