"""Which of the pairs that were read are listed in a cache: pairs that say nothing, or contradict others, are not.

Whatever the source, so that one's own sources are held to it too. Two prompts are the same if
:func:`artifacts.prompt_text.same` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from artifacts.prompt_text import same
from sdpo.pairs import TIE
from sdpo.pairs.cache.shard_writing import NONE, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAME_PICTURE, HELD_OUT, OUTVOTED, UNDECIDED = "same_picture", "prompt_also_held_out", "outvoted", "undecided"
REASONS: Final = {
    SAME_PICTURE: "left out, since winner and loser are the same picture",
    HELD_OUT: "left out of training, since their prompt is held out too",
    OUTVOTED: "left out, since most judged the same two pictures the other way",
    UNDECIDED: "listed as ties, since as many judged the same two pictures the other way",
}
"""Why a pair is not what the source said; in the order in which the reasons are looked for."""
SHOWN = 3


@dataclass(frozen=True)
class Listed:
    """What :func:`listed` makes of the pairs.

    Attributes:
        rows: those that the cache lists, in their order; of pairs that are ties now, the label says so.
        counts: pairs by reason, those that occur.
        lines: the counts in words, with the first examples.
    """

    rows: list[Row]
    counts: dict[str, int]
    lines: list[str]


def listed(rows: Sequence[Row], prompts: Sequence[str]) -> Listed:
    """The pairs of a cache without those that are left out.

    A pair of which winner and loser are the same picture has no numbers of images. A pair that is trained on, and whose
    prompt is held out too, is left out; a set of one prompt is exempt, where the prompt says nothing. Where the same
    two pictures were judged both ways for one prompt of a split, the majority stays, and equally many become ties.

    Args:
        rows: pairs in the order of the source.
        prompts: text of each prompt by its number.
    """
    import numpy as np

    reasons = np.full(len(rows), "", dtype=object)
    tie = np.array([row.label == TIE for row in rows], dtype=bool)
    heldout = np.array([row.split == "heldout" for row in rows], dtype=bool)
    pictures = np.array([(row.winner, row.loser) for row in rows], dtype=np.int64).reshape(-1, 2)
    numbers: dict[str, int] = {}
    of_prompt = np.array([numbers.setdefault(same(text), len(numbers)) for text in prompts], dtype=np.int64)
    prompt = of_prompt[np.array([row.prompt for row in rows], dtype=np.int64)]

    reasons[~tie & (pictures[:, 0] == NONE)] = SAME_PICTURE
    if len(set(prompt.tolist())) > 1:
        reasons[(reasons == "") & ~heldout & np.isin(prompt, prompt[heldout])] = HELD_OUT
    judged = np.flatnonzero((reasons == "") & ~tie)
    votes, against = _votes(np.column_stack([heldout, prompt])[judged], pictures[judged])
    reasons[judged[votes < against]] = OUTVOTED
    reasons[judged[votes == against]] = UNDECIDED

    kept = [
        replace(row, label=TIE, winner=NONE, loser=NONE) if reason == UNDECIDED else row
        for row, reason in zip(rows, reasons, strict=True)
        if reason in ("", UNDECIDED)
    ]
    counts = {name: count for name in REASONS if (count := int((reasons == name).sum()))}
    lines = []
    for name, count in counts.items():
        first = [f"{prompts[rows[i].prompt]!r} (pair {i})" for i in np.flatnonzero(reasons == name)[:SHOWN]]
        lines.append(f"{count} × {REASONS[name]}: {', '.join(first)}{', …' * (count > SHOWN)}")
    return Listed(kept, counts, lines)


def _votes(group: NDArray[np.int64], pictures: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many pairs agree with each, itself among them, and how many say the contrary.

    Args:
        group: (N, …), pairs of which can agree.
        pictures: (N, 2), winners and losers.
    """
    import numpy as np

    if not len(pictures):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    turned = pictures[:, 0] > pictures[:, 1]
    keys = np.column_stack([group, np.sort(pictures, axis=1)])
    _, which = np.unique(keys, axis=0, return_inverse=True)
    which = which.reshape(-1)
    found = np.zeros((int(which.max()) + 1, 2), np.int64)
    np.add.at(found, (which, turned.astype(np.int64)), 1)
    return found[which, turned.astype(np.int64)], found[which, 1 - turned.astype(np.int64)]
