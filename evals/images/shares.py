"""What several jobs have made of the images of a prompt set, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


def joined(
    parts: Sequence[pd.DataFrame], prompt_ids: Sequence[object], images: int, *, where: Path, what: str
) -> pd.DataFrame:
    """Put the jobs' rows together, one an image, in the order of the images' numbers.

    Args:
        parts: what each job made, with ``prompt_id`` and ``image``; a job whose share is empty made no rows.
        prompt_ids: of the prompt set, in order.
        images: of each prompt.
        where: the folder of the parts, for the message.
        what: what a row is, for the message.

    Raises:
        InputError: the parts do not make up the prompt set.
    """
    import pandas as pd

    whole = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    wanted = [(prompt_id, image) for image in range(images) for prompt_id in prompt_ids]
    if list(zip(whole["prompt_id"], whole["image"], strict=True)) != wanted:
        several = f", {images} of each," if images > 1 else ""
        raise InputError(
            f"{where}: its {len(whole)} {what} are not those of the {len(prompt_ids)} prompts{several} in order; "
            f"delete {where} and run snakemake again"
        )
    return whole
