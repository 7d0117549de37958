"""What rules ask of the plan: files that a config names count by content, whatever kind of weights they are."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.config import validate
from pipeline.files import option_paths
from pipeline.jobs import Plan
from pipeline.rule_functions import RuleFunctions

pytestmark = pytest.mark.usefixtures("few_names")

Config = dict[str, Any]
BASE, SCORER, MODEL = "resources/miniature/base", "resources/miniature/pickscore", "./released"


@pytest.fixture
def here(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A folder with everything that the config names."""
    monkeypatch.chdir(tmp_path)
    for name in (
        *(f"{BASE}/model_index.json", f"{BASE}/unet/diffusion_pytorch_model.safetensors", f"{BASE}/vae/config.json"),
        *(f"{SCORER}/{name}" for name in ("fetched.json", "open_clip_config.json", "med_config.json")),
        *(f"{SCORER}/{name}" for name in ("model.safetensors", "clip/config.json", "vocab.txt", "head.pth")),
        *(f"{MODEL}/{name}" for name in ("model_index.json", "unet/config.json")),
        *(f"{MODEL}/unet/diffusion_pytorch_model.{name}" for name in ("safetensors", "bin")),
        *("lora/pytorch_lora_weights.safetensors", "lora/adapter_config.json", "unet.pth"),
        *("prompts.txt", "figures.csv", "agreement.json"),
    ):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"this is {name}")
    config["models"] = [
        {"name": "folder", "source": MODEL},
        {"name": "lora", "source": "./lora"},
        {"name": "single", "source": "./unet.pth"},
    ]
    config["published"] = {"file": "figures.csv"}
    config["report"] = {"scorer_agreement": "agreement.json"}
    return config


def sources(config: Config) -> dict[tuple[str, str], Any]:
    """Parameter ``sources`` of every job, as another process sees it."""
    rules = RuleFunctions(Plan(validate(config, check_files=False)))
    return {
        (job.stage, job.name): rules.sources(job.stage, job.name)(SimpleNamespace())
        for job in rules.plan.jobs()
        if job.stage not in ("collect", "gather", "track")
    }


def drawn_by(config: Config, model: str) -> set[tuple[str, str]]:
    return {("generate", f"miniature/{model}/{name}") for name in config["prompt_sets"]}


REPLACED: dict[str, set[str] | str] = {
    f"{BASE}/unet/diffusion_pytorch_model.safetensors": {"pairs", "train", "generate"},
    f"{BASE}/vae/config.json": {"pairs", "train", "generate"},
    f"{SCORER}/model.safetensors": {"score"},
    f"{SCORER}/head.pth": {"score"},
    f"{SCORER}/fetched.json": {"score"},
    f"{SCORER}/open_clip_config.json": {"score"},
    f"{SCORER}/med_config.json": {"score"},
    f"{SCORER}/clip/config.json": {"score"},
    f"{SCORER}/vocab.txt": {"score"},
    f"{MODEL}/unet/diffusion_pytorch_model.safetensors": "folder",
    f"{MODEL}/unet/diffusion_pytorch_model.bin": "folder",
    f"{MODEL}/unet/config.json": "folder",
    "lora/pytorch_lora_weights.safetensors": "lora",
    "lora/adapter_config.json": "lora",
    "unet.pth": "single",
    "prompts.txt": {"prompts"},
    "figures.csv": {"compare"},
    "agreement.json": {"report"},
}
"""Files by the stages whose jobs they belong to, or the model."""


def test_a_file_that_is_replaced_is_another_parameter_of_its_jobs(here: Config) -> None:
    before = sources(here)
    for file in REPLACED:
        os.utime(file)
    assert sources(here) == before
    for file, stages in REPLACED.items():
        path = Path(file)
        status = path.stat()
        # Of the same size, and no newer than before.
        path.write_text(path.read_text().swapcase())
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns - 1))
        after = sources(here)
        changed = {key for key, value in after.items() if value != before[key]}
        before = after
        if isinstance(stages, str):
            assert changed == drawn_by(here, stages), file
        else:
            assert {stage for stage, _ in changed} == stages, file
        if stages == {"score"}:
            assert all(name.endswith("pickscore") for _, name in changed), file
        if stages == {"prompts"}:
            assert changed == {("prompts", "own")}


def test_what_is_missing_and_then_there_is_a_change(here: Config) -> None:
    Path("figures.csv").unlink()
    before = sources(here)
    Path("figures.csv").write_text("")
    assert {key for key, value in sources(here).items() if value != before[key]} == {("compare", "tables")}


def test_hub_ids_have_a_revision_and_no_digest(here: Config) -> None:
    here["base"]["path"] = "owner/base@0123abc"
    here["models"] = [{"name": "released", "source": "owner/released@0123abc"}]
    found = sources(here)
    assert set(found["train", "dmpo/0"]) == {"objective dmpo", "base family miniature"}
    assert found["generate", "miniature/released/own"] == {}


def test_options_that_are_files_and_folders_by_the_name_of_their_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("train", "data", "cached"):
        Path(folder).mkdir()
    for file in ("a.csv", "b.csv", "sums"):
        Path(file).write_text("")
    options = {
        "path": "data",
        "split": "train",
        "cache": "cached",
        "manifest": "sums",
        "files": ["a.csv", "none.csv"],
        "more": {"csv": "b.csv"},
        "limit": 3,
        "text": "x" * 5000,
        "odd": "a\0b",
    }
    assert option_paths(options) == ["data", "sums", "a.csv", "b.csv"]


def test_text_with_braces_is_text(here: Config) -> None:
    here["models"][0]["objective"] = "dpo {beta}"
    rules = RuleFunctions(Plan(validate(here, check_files=False)))
    for stage, name in (("compare", "tables"), ("report", "page"), ("track", "mlflow")):
        assert "dpo {beta}" in rules.spec(stage, name)(SimpleNamespace())
