"""Version of each stage.

Snakemake does not see changes of imported code, and only the source of members of registries counts by itself
(:mod:`artifacts.source_digest`), so the version goes into every job's spec: raise a stage's
number by hand when its results would change, and its jobs and what follows from them run again. Changes that leave
the results as they are (speed, messages, refactoring) leave the number as it is.
"""

from __future__ import annotations

from typing import Final

VERSIONS: Final = {
    "prompts": 3,
    "pairs": 6,
    "train": 5,
    "generate": 5,
    "collect": 1,
    "score": 4,
    "gather": 1,
    "compare": 3,
    "report": 5,
    "track": 2,
    "audit": 2,
    "miniature": 3,
}
