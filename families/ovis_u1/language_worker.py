"""Runs the language part of Ovis-U1 by the model's own code, in an environment of its own.

Started by :mod:`families.ovis_u1.language` with another interpreter, by its path; it imports nothing of this project.
It reads JSON Lines from its input: ``texts``, as the model is asked, and ``out``, a file of safetensors that it writes:
``text``, the conditions (T, D) of the texts one after the other, and ``text_lengths``. Each line is answered by
a line: ``{}``, or ``error``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, TextIO


class LanguagePart:
    """The model, and the blank image that each text goes with.

    Args:
        model: folder, or owner/name on the hub.
        revision: commit of the latter.
        dtype: in which it computes.
        device: where.
        side: of the blank image, in pixels.
    """

    def __init__(self, model: str, revision: str, dtype: str, device: str, side: int) -> None:
        import torch
        from PIL import Image
        from transformers import AutoModelForCausalLM

        if not os.path.isdir(model):
            from huggingface_hub import snapshot_download

            # As a folder, since the model's code fetches its tokenizer without a revision.
            model = snapshot_download(model, revision=revision)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            model, torch_dtype=getattr(torch, dtype), trust_remote_code=True
        )
        self.model = loaded.eval().to(device)
        self.words, eyes = loaded.get_text_tokenizer(), loaded.get_visual_tokenizer()
        height, width = eyes.smart_resize(side, side, max_pixels=eyes.image_processor.min_pixels)
        self.blank = Image.new("RGB", (side, side), (255, 255, 255)).resize((width, height))
        self.device, self.dtype = device, getattr(torch, dtype)

    def conditions(self, text: str) -> Any:
        """Of one text, (T, D)."""
        import torch

        _, ids, pixels, grid = self.model.preprocess_inputs(
            text,
            [self.blank],
            generation_preface=None,
            return_labels=False,
            propagate_exception=True,
            multimodal_type="single_image",
            fix_sample_overall_length_navit=False,
        )
        with torch.inference_mode():
            found = self.model.generate_condition(
                ids[None].to(self.device),
                attention_mask=(ids != self.words.pad_token_id)[None].to(self.device),
                pixel_values=pixels.to(self.device, self.dtype),
                grid_thws=grid.to(self.device),
            )
        return found["txt"][0].cpu()


def answer(part: LanguagePart, line: str) -> dict[str, str]:
    """Do what a line asks for."""
    import torch
    from safetensors.torch import save_file

    try:
        asked = json.loads(line)
        texts = [part.conditions(text) for text in asked["texts"]]
        lengths = torch.tensor([len(text) for text in texts])
        save_file({"text": torch.cat(texts).contiguous(), "text_lengths": lengths}, asked["out"])
    # Whatever the model's code raises is for the other side to tell.
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {}


def main() -> None:
    """Answer lines until there are no more."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "revision", "dtype", "device"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--side", type=int, required=True)
    chosen = parser.parse_args()
    # What the model's code prints is not an answer.
    answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        part = LanguagePart(chosen.model, chosen.revision, chosen.dtype, chosen.device, chosen.side)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        raise
    print(json.dumps({}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(part, line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
