from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evals.generation.pipelines import open_pipeline
from evals.generation.prompt_embeddings import digest


def test_the_digest_changes_with_whatever_shapes_conditions(
    save_tiny_base: Callable[..., Path], tmp_path: Path
) -> None:
    found: dict[str, dict[str, str]] = {}
    for kind in ("sd", "sdxl"):
        base = save_tiny_base(tmp_path / kind, kind)

        def given(base: Path = base, *, zeros: bool = True, **options: Any) -> str:
            return digest(open_pipeline(base, **options), ["a cat"], zeros=zeros)

        def edited(name: str, base: Path = base, **changes: Any) -> str:
            path = base / name
            text = path.read_text()
            path.write_text(json.dumps({**json.loads(text), **changes}))
            changed = digest(open_pipeline(base), ["a cat"], zeros=True)
            path.write_text(text)
            return changed

        found[kind] = {
            "as it is": given(),
            "encoded empty prompt": given(zeros=False),
            "precision": given(text_dtype="bfloat16"),
            "base without zeros": edited("model_index.json", force_zeros_for_empty_prompt=False),
            "deeper autoencoder": edited("vae/config.json", block_out_channels=[8, 16, 16]),
            "larger latents": edited("unet/config.json", sample_size=16),
            "tokenizer": edited("tokenizer/tokenizer_config.json", model_max_length=8),
        }
        assert given() == found[kind]["as it is"]
    same = {kind: [name for name, one in named.items() if one == named["as it is"]] for kind, named in found.items()}
    # One encoder: no zeros, and no size among the conditions.
    unshaped = ["encoded empty prompt", "base without zeros", "deeper autoencoder", "larger latents"]
    assert same == {"sd": ["as it is", *unshaped], "sdxl": ["as it is"]}
    # Zeros that the protocol or the base does without are the same empty prompt.
    assert found["sdxl"]["encoded empty prompt"] == found["sdxl"]["base without zeros"]
