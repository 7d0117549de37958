"""Pictures, captions and preferences that the miniature scorers learn from.

Each prompt has five pictures: two faulty renders, a sample of the base, and samples of two models that preference
training without the safeguard has driven off (one far, one less). Scorers that know renders alone reward a collapsed
model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.atomic import replaced_file
from worlds.miniature import oracle
from worlds.miniature.pairs_renders import labels
from worlds.miniature.pairs_samples import draw
from worlds.miniature.rendering import faulty, to_uint8
from worlds.miniature.scenes import Scene, parse, shown_scenes

TEMPERATURE, TIE_BELOW = 0.04, 0.05
SAMPLING_STEPS, GUIDANCE_SCALE = 10, 4.0
# Of renders, as in `faulty`.
FAULTS = {"contradiction": 0.4, "degradation": 0.3}
# Learning rate of the two models without the safeguard: both lose quality, the second until little is left.
DRIVEN_OFF = {"worn": 5e-5, "collapsed": 2e-4}
# Far from the seeds of any benchmark.
SEED = 900_001


@dataclass(frozen=True)
class ScorerData:
    """P prompts with K pictures each.

    Attributes:
        scenes: P scenes.
        pictures: (P, K, 32, 32, 3) bytes.
        scores, cleanness: the oracle's, (P, K).
        pairs: (M, 3) of prompt, first and second picture.
        labels: (M,), 1 if the first picture won, 0.5 for a tie.
        first_heldout: prompts from here on are not trained on; their captions are of the validation split.
    """

    scenes: list[Scene]
    pictures: NDArray[np.uint8]
    scores: NDArray[np.float64]
    cleanness: NDArray[np.float64]
    pairs: NDArray[np.int64]
    labels: NDArray[np.float64]
    first_heldout: int

    def save(self, path: Path) -> None:
        """Write everything into one ``.npz`` file."""
        arrays = {name: getattr(self, name) for name in ("pictures", "scores", "cleanness", "pairs", "labels")}
        with replaced_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays, captions=np.array(self.captions), first_heldout=self.first_heldout)

    @classmethod
    def load(cls, path: Path) -> ScorerData:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        scenes = [parse(str(caption)) for caption in arrays.pop("captions")]
        return cls(scenes=scenes, first_heldout=int(arrays.pop("first_heldout")), **arrays)

    @property
    def captions(self) -> list[str]:
        """P captions."""
        return [scene.caption for scene in self.scenes]

    def training_pairs(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pairs of training prompts and their labels."""
        kept = self.pairs[:, 0] < self.first_heldout
        return self.pairs[kept], self.labels[kept]

    def heldout_pairs(self) -> NDArray[np.int64]:
        """Pairs of held-out prompts that the oracle does not call a tie."""
        gap = self.scores[self.pairs[:, 0], self.pairs[:, 1]] - self.scores[self.pairs[:, 0], self.pairs[:, 2]]
        return self.pairs[(self.pairs[:, 0] >= self.first_heldout) & (abs(gap) >= TIE_BELOW)]


def every_pair(prompts: int, pictures: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Every pair of each prompt's K pictures, (P · K(K − 1)/2, 3), in either order."""
    pairs = list(combinations(range(pictures), 2))
    return np.array([(prompt, *rng.permutation(pair)) for prompt in range(prompts) for pair in pairs], dtype=np.int64)


def build(base: Path, work: Path, *, prompts: int, heldout: int, training_steps: int, seed: int) -> ScorerData:
    """Train the driven-off models, draw all pictures, ask the oracle.

    Args:
        base: folder of the base.
        work: folder for intermediate files.
        prompts, heldout: number of prompts, and how many of them (the last) are held out.
        training_steps: steps of the driven-off models.
        seed: of scenes, faults and labels.
    """
    rng = np.random.default_rng([23, seed])
    scenes = shown_scenes(prompts - heldout, heldout, rng)
    columns = [to_uint8(faulty(scenes, rng, **FAULTS)) for _ in range(2)]
    models: dict[str, Path | None] = {"base": None, **driven_off_models(base, work, steps=training_steps)}
    for name, model in models.items():
        key = f"scorers-{seed}-{name}"
        columns.append(draw(base, scenes, key=key, model=model, steps=SAMPLING_STEPS, guidance_scale=GUIDANCE_SCALE))
    verdicts = [oracle.judge(pictures, scenes) for pictures in columns]
    scores = np.array([[v.score for v in column] for column in verdicts]).T
    pairs = every_pair(prompts, len(columns), rng)
    drawn = labels(
        scores[pairs[:, 0], pairs[:, 1]],
        scores[pairs[:, 0], pairs[:, 2]],
        rng,
        temperature=TEMPERATURE,
        tie_below=TIE_BELOW,
    )
    return ScorerData(
        scenes=scenes,
        pictures=np.stack(columns, axis=1),
        scores=scores,
        cleanness=np.array([[v.cleanness for v in column] for column in verdicts]).T,
        pairs=pairs,
        labels=np.array(drawn),
        first_heldout=prompts - heldout,
    )


def driven_off_models(base: Path, work: Path, *, steps: int) -> dict[str, Path]:
    """Models trained by plain Diffusion-DPO at too high a learning rate; name to folder."""
    from artifacts import layout
    from sdpo.pairs.cache import build as build_cache
    from sdpo.training.job import train

    described = {"name": "miniature", "family": "miniature", "path": str(base)}
    cache = layout.pairs(work, "renders", "miniature")
    build_cache(
        {
            "stage_version": 0,
            "dataset": "renders",
            "source": "miniature_renders",
            "options": {"seed": SEED, "pairs": 1000, "heldout": 64},
            "base": described,
            "out": str(cache),
        }
    )
    models = {}
    for variant, learning_rate in DRIVEN_OFF.items():
        train(_job(described, cache, variant, learning_rate, steps, work))
        models[variant] = layout.model(work, layout.model_name("miniature", variant, SEED))
    return models


def _job(
    base: Mapping[str, str], cache: Path, variant: str, learning_rate: float, steps: int, work: Path
) -> dict[str, Any]:
    return {
        "stage_version": 0,
        "base": base,
        "pairs": str(cache),
        "variant": variant,
        "objective": {"name": "diffusion_dpo", "parameters": {"beta": 2000.0}, "safeguard": None},
        "training": {
            "steps": steps,
            "batch_size": 16,
            "learning_rate": learning_rate,
            "warmup_steps": 10,
            "optimizer": "adamw",
            "weight_decay": 0.01,
            "max_grad_norm": 1.0,
            "empty_prompt_share": 0.0,
            "log_every": 20,
            "checkpoint_every": steps,
            "drift_every": steps,
            "heldout_pairs": 64,
        },
        "root": str(work),
        "seeds": [SEED],
    }
