"""What ``evals doctor`` says of bases and models; of scorers' weights: ``test_weights_fetch.py``."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals import cli

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = f"""
base: {{name: sd15, path: owner/sd15@{COMMIT}}}
other_bases:
  - {{name: own, path: ./bases/own, vae: owner/vae@{COMMIT}}}
models:
  - {{name: file, source: owner/released@main, file: sd/unet.pth}}
  - {{name: folder, source: owner/released@{COMMIT}}}
  - {{name: here, source: ~/weights.pth}}
  - {{name: loose, source: owner/loose}}
scorers: {{blank: {{}}}}
"""
LATER = "the hub's cache; fetched on first use)"


def cached(cache: Path, name: str, *files: str) -> None:
    """What is left in the hub's cache after files of ``main`` have been fetched."""
    folder = cache / f"models--owner--{name}"
    for file in files:
        path = folder / "snapshots" / COMMIT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs/main").write_text(COMMIT)


def test_hub_ids_are_looked_up_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "c.yaml"

    def lines(text: str) -> tuple[int, list[str]]:
        config.write_text(text)
        status = cli.main(["doctor", "--config", str(config)])
        return status, capsys.readouterr().out.splitlines()[1:]

    status, found = lines(CONFIG)
    assert status == 1
    assert found[:10] == [
        f"  ok       base: owner/sd15@{COMMIT} (not in {LATER}",
        "  missing  base own: ./bases/own",
        "           no such file or folder; correct the path",
        f"  ok       base own's vae: owner/vae@{COMMIT} (not in {LATER}",
        f"  ok       model file: owner/released@main (not in {LATER}",
        f"  ok       model folder: owner/released@{COMMIT} (not in {LATER}",
        "  missing  model here: ~/weights.pth",
        "           no such file or folder; correct the path",
        "  missing  model loose: owner/loose",
        "           no such folder, and as a hub id it has no revision; write owner/loose@<commit>",
    ]
    (tmp_path / "bases/own").mkdir(parents=True)
    (tmp_path / "weights.pth").touch()
    cached(cache, "sd15", "model_index.json", "unet/diffusion_pytorch_model.safetensors")
    cached(cache, "vae", "config.json", "diffusion_pytorch_model.safetensors")
    cached(cache, "released", "sd/unet.pth")
    status, found = lines(CONFIG.replace("owner/loose", f"owner/loose@{COMMIT}"))
    assert status == 0
    assert found[:7] == [
        # Without autoencoder and text encoder.
        f"  ok       base: owner/sd15@{COMMIT} (in part in {LATER}",
        "  ok       base own: ./bases/own",
        f"  ok       base own's vae: owner/vae@{COMMIT} (in the hub's cache)",
        "  ok       model file: owner/released@main (in the hub's cache)",
        f"  ok       model folder: owner/released@{COMMIT} (in part in {LATER}",
        "  ok       model here: ~/weights.pth",
        f"  ok       model loose: owner/loose@{COMMIT} (not in {LATER}",
    ]
    cached(cache, "sd15", "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors")
    assert lines(CONFIG)[1][0] == f"  ok       base: owner/sd15@{COMMIT} (in the hub's cache)"
