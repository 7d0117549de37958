"""Rates images by HPSv3, for the scorer ``command``; run by an environment that has the package hpsv3.

python rate_by_hpsv3.py HPSv3.safetensors [cuda]
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from importlib.metadata import version
from typing import Any

AT_ONCE = 8
"""Images that the model sees at a time."""


def say(**answer: Any) -> None:
    """One line of JSON; nothing else may go to the standard output."""
    print(json.dumps(answer), flush=True)


def main(weights: str, device: str = "cuda") -> None:
    """Say who rates, then answer one line an image, once an empty line ends a batch."""
    with open(weights, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.redirect_stdout(sys.stderr):
        from hpsv3 import HPSv3RewardInferencer

        model = HPSv3RewardInferencer(checkpoint_path=weights, device=device)
    say(scorer="hpsv3", version=version("hpsv3"), weights_sha256=digest)
    batch: list[dict[str, str]] = []
    for line in sys.stdin:
        if line.strip():
            batch.append(json.loads(line))
            continue
        for start in range(0, len(batch), AT_ONCE):
            asked = batch[start : start + AT_ONCE]
            with contextlib.redirect_stdout(sys.stderr):
                # By name: the order of the two has changed between versions.
                rewards = model.reward(
                    prompts=[one["prompt"] for one in asked], image_paths=[one["image"] for one in asked]
                )
            # Of each image a mean and a spread.
            for mean, *_ in rewards.tolist():
                say(score=mean)
        batch = []


if __name__ == "__main__":
    main(*sys.argv[1:])
