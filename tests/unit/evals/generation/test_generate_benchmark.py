"""``benchmarks/generate.py``: that its two ways do the same work, and that it notices if they do not."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[4] / "benchmarks/generate.py"
    spec = importlib.util.spec_from_file_location("generate_benchmark", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # Benchmarks import each other as scripts do.
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_both_ways_start_from_what_the_hub_gives_of_a_base(
    benchmark: ModuleType,
    save_tiny_base: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    base = save_tiny_base(tmp_path / "base", kind)
    index = json.loads((base / "model_index.json").read_text())
    if kind == "sd":
        # The published repository names them; their folders are not fetched.
        index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
        index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (base / "model_index.json").write_text(json.dumps(index))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(base))
    options = ["--base", "owner/base@main", "--prompts", "3", "--steps", "2", "--batch-size", "2", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["generate.py", *options])
    threads = torch.get_num_threads()
    benchmark.main()
    torch.set_num_threads(threads)
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], result["dtype"]) == (3, "float32")
    assert result["largest_pixel_difference"] <= 1


def test_other_work_is_noticed(benchmark: ModuleType) -> None:
    plain = np.random.default_rng(0).integers(0, 250, (3, 4, 4, 3))
    assert benchmark.compare(plain, plain + 2, "float32") == ""
    assert benchmark.compare(plain, plain - 3, "float32") == "images differ by 3 of 255"
    assert benchmark.compare(plain, plain + 5, "bfloat16") == ""
    swapped = "image 1 is nearer to that of another prompt (2 in all)"
    assert benchmark.compare(plain, plain[[0, 2, 1]], "bfloat16") == swapped
